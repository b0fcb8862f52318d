"""PyTensor: one function compiled by Numba, which updates shared variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from peer_forwards import STATES, Array, Arrays, Functions, Task, updated
from pytensor.tensor import special


class PyTensorFunctions(Functions):
    def shape(self, x: Any) -> tuple[int, ...]:
        return x.type.shape

    def sigmoid(self, x: Any) -> Any:
        return pt.sigmoid(x)

    def softmax(self, x: Any) -> Any:
        return special.softmax(x, axis=-1)

    def cross_entropy(self, z: Any, t: Any) -> Any:
        return -special.log_softmax(z, axis=-1)[pt.arange(z.shape[0]), t].mean()

    def binary_cross_entropy(self, z: Any, t: Any) -> Any:
        return (pt.softplus(z) - t * z).mean()


class PyTensor:
    """Compiled at the first step, when the batch's shapes are known, so that all shapes are static."""

    def __init__(self, task: Task, params: Arrays, dtype: str) -> None:
        self.task, self.dtype = task, dtype
        self.inputs = task.inputs
        self.shared = {name: pytensor.shared(p.copy(), name, shape=p.shape) for name, p in params.items()}
        self.compiled: Any = None
        self.by_inputs: Arrays = {}

    def step(self, batch: Mapping[str, Array]) -> float:
        if self.compiled is None:
            with pytensor.config.change_flags(floatX=self.dtype):
                self.compiled = self._compile(batch)
        loss, *grads = self.compiled(*batch.values())
        self.by_inputs = dict(zip(self.inputs, grads, strict=True))
        return float(loss)

    def parameters(self) -> Arrays:
        return {name: s.get_value() for name, s in self.shared.items()} | self.by_inputs

    def _compile(self, batch: Mapping[str, Array]) -> Any:
        given = {name: pt.tensor(name, dtype=str(a.dtype), shape=a.shape) for name, a in batch.items()}
        loss = self.task.loss(PyTensorFunctions(pt), self.shared, given)
        theta = list(self.shared.values())
        grads = pt.grad(loss, [*theta, *(given[name] for name in self.inputs)])
        k = pytensor.shared(np.zeros((), self.dtype))
        updates = {k: k + 1}
        for p, g in zip(theta, grads, strict=False):
            zeros = np.zeros_like(p.get_value(borrow=True))
            state = [pytensor.shared(zeros.copy(), shape=zeros.shape) for _ in range(STATES[self.task.optimizer])]
            updates[p], new = updated(pt, self.task, k + 1, p, g, state)
            updates.update(zip(state, new, strict=True))
        compiled = pytensor.function(list(given.values()), [loss, *grads[len(theta) :]], updates=updates, mode="NUMBA")
        compiled.trust_input = True
        return compiled
