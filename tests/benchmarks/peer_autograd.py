"""HIPS autograd, with the optimizer on one flat NumPy vector."""

from __future__ import annotations

from collections.abc import Mapping

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad
from peer_forwards import STATES, Array, Arrays, Functions, Task, updated


class Autograd:
    def __init__(self, task: Task, params: Arrays, dtype: str) -> None:
        self.task = task
        self.theta = np.concatenate([p.ravel() for p in params.values()])
        self.grad = np.empty_like(self.theta)
        self.state = [np.zeros_like(self.theta) for _ in range(STATES[task.optimizer])]
        self.params, self.grads = _views(self.theta, params), _views(self.grad, params)
        self.k = 0
        self.by_inputs: Arrays = {}
        loss, functions = task.loss, Functions(anp)
        self.inputs = task.inputs
        self.value_and_grad = value_and_grad(
            lambda given, batch: loss(functions, given, {**batch, **{name: given[name] for name in self.inputs}})
        )

    def step(self, batch: Mapping[str, Array]) -> float:
        given = self.params | {name: batch[name] for name in self.inputs}
        loss, grads = self.value_and_grad(given, batch)
        for name, view in self.grads.items():
            view[...] = grads[name]
        self.by_inputs = {name: grads[name] for name in self.inputs}
        self.k += 1
        self.theta[...], self.state = updated(np, self.task, self.k, self.theta, self.grad, self.state)
        return float(loss)

    def parameters(self) -> Arrays:
        return {name: p.copy() for name, p in self.params.items()} | self.by_inputs


def _views(flat: Array, like: Arrays) -> Arrays:
    ends = np.cumsum([p.size for p in like.values()])
    return {name: flat[end - p.size : end].reshape(p.shape) for (name, p), end in zip(like.items(), ends, strict=True)}
