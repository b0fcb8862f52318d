"""PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from peer_forwards import STATES, Array, Arrays, Functions, Task, updated


class TorchFunctions(Functions):
    def linear(self, x: Any, W: Any, b: Any) -> Any:
        return torch.addmm(b, x, W) if x.ndim == 2 else F.linear(x, W.t(), b)

    def sigmoid(self, x: Any) -> Any:
        return torch.sigmoid(x)

    def relu(self, x: Any) -> Any:
        return torch.relu(x)

    def silu(self, x: Any) -> Any:
        return F.silu(x)

    def gelu(self, x: Any) -> Any:
        return F.gelu(x, approximate="tanh")

    def softmax(self, x: Any) -> Any:
        return torch.softmax(x, -1)

    def layer_norm(self, x: Any, gain: Any, shift: Any) -> Any:
        return F.layer_norm(x, gain.shape, gain, shift)

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v)

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.permute(axes)

    def conv(self, x: Any, kernel: Any, bias: Any, stride: int = 1, padding: int = 0) -> Any:
        return F.conv2d(x, kernel, bias.flatten(), stride, padding)

    def max_pool(self, x: Any) -> Any:
        return F.max_pool2d(x, 2)

    def avg_pool(self, x: Any) -> Any:
        return F.avg_pool2d(x, 2)

    def mse(self, p: Any, y: Any) -> Any:
        return F.mse_loss(p, y)

    def cross_entropy(self, z: Any, t: Any) -> Any:
        return F.cross_entropy(z, t)

    def binary_cross_entropy(self, z: Any, t: Any) -> Any:
        return F.binary_cross_entropy_with_logits(z, t)


def _optimizer(task: Task, params: list[torch.Tensor]) -> torch.optim.Optimizer:
    h = task.hyper
    if task.optimizer == "adam":
        betas = (h["beta1"], h["beta2"])
        return torch.optim.Adam(params, h["lr"], betas, h["eps"], fused=True)
    if task.optimizer == "rmsprop":
        return torch.optim.RMSprop(params, h["lr"], h["rho"], h["eps"], foreach=True)
    return torch.optim.SGD(params, h["lr"], h.get("momentum", 0.0), fused=True)


class Eager:
    """Autograd's tape and the fused optimizers."""

    def __init__(self, task: Task, params: Arrays, dtype: str) -> None:
        self.params = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
        self.optimizer = _optimizer(task, list(self.params.values()))
        self.loss = task.loss
        self.functions = TorchFunctions(torch)
        self.inputs = task.inputs
        self.by_inputs: dict[str, torch.Tensor] = {}

    def step(self, batch: Mapping[str, Array]) -> float:
        tensors = {name: torch.from_numpy(a) for name, a in batch.items()}
        for name in self.inputs:
            self.by_inputs[name] = tensors[name].requires_grad_()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.functions, self.params, tensors)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def parameters(self) -> Arrays:
        by_inputs = {name: x.grad.numpy() for name, x in self.by_inputs.items() if x.grad is not None}
        return {name: p.detach().numpy().copy() for name, p in self.params.items()} | by_inputs


class Compiled:
    """The whole step, gradients and optimizer included, as one graph without breaks.

    What the step changes in place has at least one axis: for tensors without axes on the CPU, torch 2.13's
    compiled code loses the change.
    """

    def __init__(self, task: Task, params: Arrays, dtype: str) -> None:
        self.shapes = {name: p.shape for name, p in params.items()}
        self.params = {name: torch.tensor(p.reshape(p.shape or 1)) for name, p in params.items()}
        states = range(STATES[task.optimizer])
        self.state = {name: [torch.zeros_like(p) for _ in states] for name, p in self.params.items()}
        self.k = torch.zeros(1, dtype=getattr(torch, dtype))
        self.whole_step = torch.compile(_whole_step(task), fullgraph=True, dynamic=False)
        self.by_inputs: dict[str, torch.Tensor] = {}

    def step(self, batch: Mapping[str, Array]) -> float:
        tensors = {name: torch.from_numpy(a) for name, a in batch.items()}
        loss, self.by_inputs = self.whole_step(self.params, self.state, self.k, tensors)
        return loss.item()

    def parameters(self) -> Arrays:
        named = {name: p.reshape(self.shapes[name]) for name, p in self.params.items()} | self.by_inputs
        return {name: p.numpy().copy() for name, p in named.items()}


def _whole_step(task: Task) -> Any:
    loss_function = task.loss
    functions, inputs = TorchFunctions(torch), task.inputs

    def loss_by(given: Any, batch: Any) -> Any:
        return loss_function(functions, given, {**batch, **{name: given[name] for name in inputs}})

    def step(params: Any, state: Any, k: Any, batch: Any) -> Any:
        given = {**params, **{name: batch[name] for name in inputs}}
        grads, loss = torch.func.grad_and_value(loss_by)(given, batch)
        k.add_(1)
        for name, p in params.items():
            new, states = updated(torch, task, k, p, grads[name], state[name])
            p.copy_(new)
            for old, now in zip(state[name], states, strict=True):
                old.copy_(now)
        return loss, {name: grads[name] for name in inputs}

    return step
