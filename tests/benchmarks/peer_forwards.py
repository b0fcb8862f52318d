"""The workloads' losses in terms of a few functions that each peer brings, and the optimizers' formulas.

`Functions` is what a peer overrides; a default is here where most would write the same. Arrays are the peer's
own and have Python's operators, `reshape` and basic indexing. The formulas of the parameters' names and
shapes are those of the graphs in workloads.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Named = Mapping[str, Any]


class Functions:
    """What a peer is asked for, besides arithmetic; `np` is its namespace with NumPy's names."""

    def __init__(self, np: Any) -> None:
        self.np = np

    def shape(self, x: Any) -> tuple[int, ...]:
        return tuple(x.shape)

    def linear(self, x: Any, W: Any, b: Any) -> Any:
        return x @ W + b

    def tanh(self, x: Any) -> Any:
        return self.np.tanh(x)

    def sigmoid(self, x: Any) -> Any:
        return 0.5 * self.np.tanh(0.5 * x) + 0.5

    def relu(self, x: Any) -> Any:
        return self.np.maximum(x, 0)

    def silu(self, x: Any) -> Any:
        return x * self.sigmoid(x)

    def gelu(self, x: Any) -> Any:
        return 0.5 * x * (1 + self.np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    def softmax(self, x: Any) -> Any:
        e = self.np.exp(x - self.np.max(x, axis=-1, keepdims=True))
        return e / self.np.sum(e, axis=-1, keepdims=True)

    def layer_norm(self, x: Any, gain: Any, shift: Any) -> Any:
        d = x - self.np.mean(x, axis=-1, keepdims=True)
        return d / self.np.sqrt(self.np.mean(d * d, axis=-1, keepdims=True) + 1e-5) * gain + shift

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        """softmax(q kᵀ / sqrt(d)) v, all of shape (batch, heads, tokens, d)."""
        return self.softmax(q @ self.transpose(k, (0, 1, 3, 2)) * q.shape[-1] ** -0.5) @ v

    def transpose(self, x: Any, axes: tuple[int, ...]) -> Any:
        return self.np.transpose(x, axes)

    def conv(self, x: Any, kernel: Any, bias: Any, stride: int = 1, padding: int = 0) -> Any:
        """The shifted images side by side, and one product with the kernel: what NumPy's functions can do."""
        size, (n, c, h, w) = self.shape(kernel)[-1], self.shape(x)
        high, wide = ((m + 2 * padding - size) // stride + 1 for m in (h, w))
        x = self.np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), "constant") if padding else x
        taps = [
            x[:, :, i : i + stride * (high - 1) + 1 : stride, j : j + stride * (wide - 1) + 1 : stride]
            for i in range(size)
            for j in range(size)
        ]
        columns = self.transpose(self.np.stack(taps), (2, 0, 1, 3, 4)).reshape((c * size * size, n * high * wide))
        rows = kernel.reshape((kernel.shape[0], c * size * size)) @ columns
        return self.transpose(rows.reshape((kernel.shape[0], n, high, wide)), (1, 0, 2, 3)) + bias

    def _windows(self, x: Any) -> Any:
        n, c, h, w = x.shape
        return x.reshape((n, c, h // 2, 2, w // 2, 2))

    def max_pool(self, x: Any) -> Any:
        return self.np.max(self._windows(x), axis=(3, 5))

    def avg_pool(self, x: Any) -> Any:
        return self.np.mean(self._windows(x), axis=(3, 5))

    def mean(self, x: Any) -> Any:
        return self.np.mean(x)

    def mse(self, p: Any, y: Any) -> Any:
        d = p - y
        return self.mean(d * d)

    def cross_entropy(self, z: Any, t: Any) -> Any:
        z = z - self.np.max(z, axis=-1, keepdims=True)
        return self.mean(self.np.log(self.np.sum(self.np.exp(z), axis=-1)) - z[self.np.arange(z.shape[0]), t])

    def binary_cross_entropy(self, z: Any, t: Any) -> Any:
        return self.mean(self.np.maximum(z, 0) - z * t + self.np.log1p(self.np.exp(-abs(z))))

    def rnn(self, x: Any, Wx: Any, Wh: Any, bh: Any) -> Any:
        """The last state, from 0: all inputs' products at once, then the unrolled steps."""
        z = self.linear(x, Wx, bh)
        h = self.tanh(z[0])
        for step in range(1, self.shape(x)[0]):
            h = self.tanh(self.linear(h, Wh, z[step]))
        return h

    def gru(self, x: Any, p: Named) -> Any:
        """The last state, from 0: all inputs' products at once, then the unrolled steps."""
        projected = self.gru_inputs(x, p)
        h = self.np.zeros((x.shape[1], p["Uz"].shape[0]), dtype=x.dtype)
        for step in range(self.shape(x)[0]):
            h = self.gru_step(h, [part[step] for part in projected], p)
        return h

    def gru_inputs(self, x: Any, p: Named) -> list[Any]:
        return [self.linear(x, p[f"W{k}"], p[f"b{k}"]) for k in "zrn"]

    def gru_step(self, h: Any, projected: Any, p: Named) -> Any:
        xz, xr, xn = projected
        z = self.sigmoid(self.linear(h, p["Uz"], xz))
        r = self.sigmoid(self.linear(h, p["Ur"], xr))
        n = self.tanh(xn + r * (h @ p["Un"]))
        return n + z * (h - n)


Loss = Callable[[Functions, Named, Named], Any]


def perceptron(activation: str, layers: int) -> Loss:
    def loss(f: Functions, p: Named, batch: Named) -> Any:
        act = getattr(f, activation)
        h = batch["x"]
        for k in range(1, layers):
            h = act(f.linear(h, p[f"W{k}"], p[f"b{k}"]))
        return f.cross_entropy(f.linear(h, p[f"W{layers}"], p[f"b{layers}"]), batch["t"])

    return loss


def elementwise(f: Functions, p: Named, batch: Named) -> Any:
    x = batch["x"]
    u = f.tanh(x * p["a"] + p["b"])
    r = u * f.sigmoid(u * p["c"] + p["d"]) + x
    s = f.tanh(r * p["e"])
    return f.mean(s * s * p["f"])


def transformer(f: Functions, p: Named, batch: Named) -> Any:
    x = batch["x"]
    n, tokens, width = x.shape
    heads = f.linear(f.layer_norm(x, p["g1"], p["s1"]), p["Wqkv"], p["bqkv"]).reshape((n, tokens, 3, 4, width // 4))
    heads = f.transpose(heads, (2, 0, 3, 1, 4))
    joined = f.transpose(f.attention(heads[0], heads[1], heads[2]), (0, 2, 1, 3)).reshape((n, tokens, width))
    r = x + f.linear(joined, p["Wo"], p["bo"])
    h = f.gelu(f.linear(f.layer_norm(r, p["g2"], p["s2"]), p["W1"], p["b1"]))
    return f.mse(r + f.linear(h, p["W2"], p["b2"]), batch["y"])


def lenet(f: Functions, p: Named, batch: Named) -> Any:
    h = f.max_pool(f.relu(f.conv(batch["x"], p["K1"], p["c1"], padding=2)))
    h = f.max_pool(f.relu(f.conv(h, p["K2"], p["c2"])))
    h = f.relu(f.linear(h.reshape((h.shape[0], 400)), p["W1"], p["b1"]))
    h = f.relu(f.linear(h, p["W2"], p["b2"]))
    return f.cross_entropy(f.linear(h, p["W3"], p["b3"]), batch["t"])


def rnn(f: Functions, p: Named, batch: Named) -> Any:
    h = f.rnn(batch["x"], p["Wx"], p["Wh"], p["bh"])
    return f.cross_entropy(f.linear(h, p["Wy"], p["by"]), batch["t"])


def logistic(f: Functions, p: Named, batch: Named) -> Any:
    return f.binary_cross_entropy(batch["x"] @ p["w"] + p["b"], batch["t"])


def convnet(f: Functions, p: Named, batch: Named) -> Any:
    h = f.avg_pool(f.relu(f.conv(batch["x"], p["K1"], p["c1"], padding=1)))
    h = f.relu(f.conv(h, p["K2"], p["c2"], stride=2, padding=1))
    h = f.relu(f.linear(h.reshape((h.shape[0], 2048)), p["W1"], p["b1"]))
    return f.cross_entropy(f.linear(h, p["W2"], p["b2"]), batch["t"])


def gru(f: Functions, p: Named, batch: Named) -> Any:
    return f.cross_entropy(f.linear(f.gru(batch["x"], p), p["Wy"], p["by"]), batch["t"])


def experts(f: Functions, p: Named, batch: Named) -> Any:
    x = batch["x"]
    gate = f.softmax(f.linear(x, p["Wg"], p["bg"]))
    z = 0
    for k in range(4):
        h = f.relu(f.linear(x, p[f"Wh{k}"], p[f"bh{k}"]))
        z = z + gate[:, k : k + 1] * f.linear(h, p[f"Wo{k}"], p[f"bo{k}"])
    return f.cross_entropy(z, batch["t"])


_LOSSES: dict[str, Loss] = {
    "W4": elementwise,
    "W5": transformer,
    "W6": lenet,
    "W7": rnn,
    "W8": logistic,
    "C1": convnet,
    "G1": gru,
    "M1": experts,
}


@dataclass(frozen=True)
class Task:
    """What a peer must know of a workload; made of plain data, so that symgrad need not be imported beside a peer.

    Attributes:
        activation, layers: of a perceptron.
        inputs: the inputs by which there is a gradient as well.
    """

    name: str
    optimizer: str
    hyper: dict[str, float]
    activation: str
    layers: int
    inputs: tuple[str, ...]

    @property
    def loss(self) -> Loss:
        return _LOSSES.get(self.name) or perceptron(self.activation, self.layers)


# ---- Optimizers ----------------------------------------------------------------------------------------------

STATES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2}


def updated(np: Any, task: Task, k: Any, theta: Any, g: Any, state: Any) -> tuple[Any, list[Any]]:
    """Step k (from 1) of the task's optimizer: the new parameter, and its new state arrays."""
    h = task.hyper
    if task.optimizer == "sgd":
        return theta - h["lr"] * g, []
    if task.optimizer == "momentum":
        velocity = h["momentum"] * state[0] + g
        return theta - h["lr"] * velocity, [velocity]
    if task.optimizer == "rmsprop":
        s = h["rho"] * state[0] + (1 - h["rho"]) * g * g
        return theta - h["lr"] * g / (np.sqrt(s) + h["eps"]), [s]
    m = h["beta1"] * state[0] + (1 - h["beta1"]) * g
    v = h["beta2"] * state[1] + (1 - h["beta2"]) * g * g
    correction1, correction2 = (-np.expm1(k * math.log(h[beta])) for beta in ("beta1", "beta2"))
    return theta - (h["lr"] / correction1) * m / (np.sqrt(v / correction2) + h["eps"]), [m, v]
