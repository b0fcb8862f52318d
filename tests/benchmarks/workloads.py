"""What is timed: the networks, their data and start values, and what a contestant is.

W1 to W8 are the yardstick; P1 to P4, C1, G1 and M1 are networks that nobody tuned anything for. A step is
forward, loss, every gradient and the optimizer. All graphs leave the batch size open, as "N".

A contestant is made by a function of this signature:

    make(workload, params: dict[str, ndarray], dtype: str, threads: int) -> Contestant

which copies `params`. It is handed the same batch dict in each timed step, and must not assume so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from itertools import pairwise
from types import ModuleType
from typing import Any, Protocol

import networkx as nx
import numpy as np

import symgrad as sg

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Graph = nx.MultiDiGraph
Data = Callable[[np.random.Generator, str], Arrays]


class Contestant(Protocol):
    """Somebody's implementation of one workload."""

    def step(self, batch: Mapping[str, Array]) -> float:
        """One training step: forward, loss, all gradients, optimizer. The loss before it."""

    def parameters(self) -> Arrays:
        """The parameters by name; and, for each input in `wrt`, the last step's gradient by it under its name."""


@dataclass(frozen=True)
class Workload:
    """One network with its data and optimizer.

    Attributes:
        graph: makes the networkx graph.
        data: a batch from a random generator, its floats of the given dtype.
        optimizer, hyper: the name of one of symgrad's optimizers, and all its hyperparameters.
        wrt: by what the gradients are; None means by all parameters.
    """

    name: str
    title: str
    graph: Callable[[], Graph]
    data: Data
    optimizer: str
    hyper: dict[str, float] = field(default_factory=dict)
    wrt: tuple[str, ...] | None = None


ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
MOMENTUM = {"lr": 0.01, "momentum": 0.9}
SGD = {"lr": 0.1}
RMSPROP = {"lr": 1e-3, "rho": 0.9, "eps": 1e-8}

ACTIVATIONS: dict[str, Callable[[sg.Tensor], sg.Tensor]] = {
    "tanh": sg.tanh,
    "relu": sg.relu,
    "sigmoid": sg.sigmoid,
    "silu": sg.silu,
    "gelu": lambda x: sg.gelu(x, approximate="tanh"),
}


# ---- Parts of networks ------------------------------------------------------------------------------------


def _dense(x: sg.Tensor, inputs: int, outputs: int, tag: Any) -> sg.Tensor:
    return x @ sg.parameter(f"W{tag}", (inputs, outputs)) + sg.parameter(f"b{tag}", (outputs,))


def _labels() -> sg.Tensor:
    return sg.input("t", ("N",), dtype="int64")


def _conv(x: sg.Tensor, inputs: int, outputs: int, size: int, tag: Any, **attributes: Any) -> sg.Tensor:
    kernel, bias = sg.parameter(f"K{tag}", (outputs, inputs, size, size)), sg.parameter(f"c{tag}", (outputs, 1, 1))
    return sg.conv2d(x, kernel, **attributes) + bias


def _norm(x: sg.Tensor, width: int, tag: Any) -> sg.Tensor:
    return sg.layer_norm(x, sg.parameter(f"g{tag}", (width,), init=1.0), sg.parameter(f"s{tag}", (width,)))


# ---- Data ---------------------------------------------------------------------------------------------------


def _normal(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def classes(*shape: int, count: int, batch_axis: int = 0) -> Data:
    """Inputs "x" of the shape with labels "t", one for each index of the batch axis."""
    return lambda rng, dtype: {
        "x": _normal(rng, dtype, *shape),
        "t": rng.integers(0, count, shape[batch_axis]),
    }


# ---- W1 to W8 -----------------------------------------------------------------------------------------------


def perceptron(widths: tuple[int, ...], activation: str) -> Callable[[], Graph]:
    """Dense layers W1, b1, W2, b2, ..., an activation after all but the last, softmax cross-entropy of x and t."""

    def graph() -> Graph:
        h = sg.input("x", ("N", widths[0]))
        for k, (inputs, outputs) in enumerate(pairwise(widths), 1):
            z = _dense(h, inputs, outputs, k)
            h = ACTIVATIONS[activation](z)
        return sg.graph(sg.cross_entropy(z, _labels(), name="loss"))

    return graph


def elementwise() -> Graph:
    """Twelve elementwise ops on x and vectors: r = tanh(a x + b) sigmoid(c u + d) + x; f tanh(e r)²; its mean."""
    x = sg.input("x", ("N", 512))
    a, b, c, d, e, f = (sg.parameter(n, (512,), init=("normal", 1.0)) for n in "abcdef")
    u = sg.tanh(x * a + b)
    r = u * sg.sigmoid(u * c + d) + x
    s = sg.tanh(r * e)
    return sg.graph(sg.mean(sg.square(s) * f, name="loss"))


def transformer() -> Graph:
    """A pre-norm block: 64 tokens of width 128, 4 heads, Wqkv for queries, keys and values together; MLP of 512."""
    x, y = sg.input("x", ("N", 64, 128)), sg.input("y", ("N", 64, 128))
    heads = _dense(_norm(x, 128, 1), 128, 384, "qkv").reshape("N", 64, 3, 4, 32).transpose((2, 0, 3, 1, 4))
    q, k, v = heads[0], heads[1], heads[2]  # (N, 4, 64, 32)
    attention = sg.softmax((q @ k.transpose((0, 1, 3, 2))) * 32**-0.5) @ v
    joined = attention.transpose((0, 2, 1, 3)).reshape("N", 64, 128)
    r = x + _dense(joined, 128, 128, "o")
    h = sg.gelu(_dense(_norm(r, 128, 2), 128, 512, 1), approximate="tanh")
    return sg.graph(sg.mse(r + _dense(h, 512, 128, 2), y, name="loss"))


def lenet() -> Graph:
    """LeNet-5 with relu and max pooling: 28 x 28 padded by 2, 6 and 16 filters of 5 x 5, dense 400-120-84-10."""
    x = sg.input("x", ("N", 1, 28, 28))
    h = sg.max_pool(sg.relu(_conv(x, 1, 6, 5, 1, padding=2)), 2)
    h = sg.max_pool(sg.relu(_conv(h, 6, 16, 5, 2)), 2).reshape("N", 400)
    h = sg.relu(_dense(h, 400, 120, 1))
    h = sg.relu(_dense(h, 120, 84, 2))
    return sg.graph(sg.cross_entropy(_dense(h, 84, 10, 3), _labels(), name="loss"))


def rnn() -> Graph:
    """32 steps of h = tanh(x[t] Wx + h Wh + bh) from h = 0, time first; 10 classes from the last h."""
    x = sg.input("x", (32, "N", 64))
    Wx, Wh = sg.parameter("Wx", (64, 128)), sg.parameter("Wh", (128, 128))
    bh = sg.parameter("bh", (128,))
    h = sg.tanh(x[0] @ Wx + bh)
    for step in range(1, 32):
        h = sg.tanh(x[step] @ Wx + h @ Wh + bh)
    return sg.graph(sg.cross_entropy(_dense(h, 128, 10, "y"), _labels(), name="loss"))


def logistic() -> Graph:
    x, t = sg.input("x", ("N", 100)), sg.input("t", ("N",))
    w, b = sg.parameter("w", (100,), init=("normal", 0.1)), sg.parameter("b", ())
    return sg.graph(sg.binary_cross_entropy_with_logits(x @ w + b, t, name="loss"))


# ---- Networks that are none of the eight ----------------------------------------------------------------------


def convnet() -> Graph:
    """3 x 32 x 32; 3 x 3 filters: 16 padded, average pool, 32 with stride 2; dense 2048-64-10."""
    h = sg.avg_pool(sg.relu(_conv(sg.input("x", ("N", 3, 32, 32)), 3, 16, 3, 1, padding=1)), 2)
    h = sg.relu(_conv(h, 16, 32, 3, 2, stride=2, padding=1)).reshape("N", 2048)
    h = sg.relu(_dense(h, 2048, 64, 1))
    return sg.graph(sg.cross_entropy(_dense(h, 64, 10, 2), _labels(), name="loss"))


def gru() -> Graph:
    """16 steps of a gated recurrent unit from h = 0, time first; 10 classes from the last h."""
    x = sg.input("x", (16, "N", 48))
    W = {k: (sg.parameter(f"W{k}", (48, 96)), sg.parameter(f"U{k}", (96, 96))) for k in "zrn"}
    b = {k: sg.parameter(f"b{k}", (96,)) for k in "zrn"}
    h = sg.constant(np.zeros((1, 96)))
    for step in range(16):
        z = sg.sigmoid(x[step] @ W["z"][0] + h @ W["z"][1] + b["z"])
        r = sg.sigmoid(x[step] @ W["r"][0] + h @ W["r"][1] + b["r"])
        n = sg.tanh(x[step] @ W["n"][0] + r * (h @ W["n"][1]) + b["n"])
        h = n + z * (h - n)
    return sg.graph(sg.cross_entropy(_dense(h, 96, 10, "y"), _labels(), name="loss"))


def experts() -> Graph:
    """Four experts 128-96-10 with relu, their logits mixed by a softmax gate."""
    x = sg.input("x", ("N", 128))
    gate = sg.softmax(_dense(x, 128, 4, "g"))
    parts = [gate[:, k : k + 1] * _dense(sg.relu(_dense(x, 128, 96, f"h{k}")), 96, 10, f"o{k}") for k in range(4)]
    return sg.graph(sg.cross_entropy(reduce(lambda a, b: a + b, parts), _labels(), name="loss"))


def _regression(rng: np.random.Generator, dtype: str) -> Arrays:
    return {"x": _normal(rng, dtype, 8, 64, 128), "y": _normal(rng, dtype, 8, 64, 128)}


def _binary(rng: np.random.Generator, dtype: str) -> Arrays:
    return {"x": _normal(rng, dtype, 10000, 100), "t": rng.integers(0, 2, 10000).astype(dtype)}


def _perceptron(
    name: str, batch: int, widths: tuple[int, ...], activation: str, optimizer: str, hyper: dict[str, float]
) -> Workload:
    title = f"perceptron {'-'.join(map(str, widths))}, batch {batch}, {activation}, {optimizer}"
    data = classes(batch, widths[0], count=widths[-1])
    return Workload(name, title, perceptron(widths, activation), data, optimizer, hyper)


WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        _perceptron("W1", 32, (64, 32, 10), "tanh", "adam", ADAM),
        _perceptron("W2", 128, (784, 256, 128, 10), "relu", "adam", ADAM),
        _perceptron("W3", 256, (1024, 1024, 1024, 1024, 10), "gelu", "adam", ADAM),
        Workload(
            "W4",
            "twelve elementwise ops on (4096, 512), gradient by vectors and input",
            elementwise,
            lambda rng, dtype: {"x": _normal(rng, dtype, 4096, 512)},
            "sgd",
            SGD,
            (*"abcdef", "x"),
        ),
        Workload("W5", "transformer block, B=8 T=64 D=128 H=4, Adam", transformer, _regression, "adam", ADAM),
        Workload(
            "W6", "LeNet, 1x28x28, batch 64, momentum", lenet, classes(64, 1, 28, 28, count=10), "momentum", MOMENTUM
        ),
        Workload(
            "W7",
            "RNN, T=32, batch 32, hidden 128, input 64, Adam",
            rnn,
            classes(32, 32, 64, count=10, batch_axis=1),
            "adam",
            ADAM,
        ),
        Workload("W8", "logistic regression 10000x100, full batch, SGD", logistic, _binary, "sgd", SGD),
        # Drawn once at random: batch, depth, widths, activation, optimizer.
        _perceptron("P1", 48, (150, 416, 72, 24), "silu", "rmsprop", RMSPROP),
        _perceptron("P2", 200, (33, 97, 211, 64, 5), "sigmoid", "momentum", MOMENTUM),
        _perceptron("P3", 16, (512, 640, 7), "relu", "sgd", SGD),
        _perceptron("P4", 96, (300, 180, 180, 260, 90, 12), "tanh", "adam", ADAM),
        Workload(
            "C1",
            "conv net, 3x32x32, batch 48, average pool, stride 2, Adam",
            convnet,
            classes(48, 3, 32, 32, count=10),
            "adam",
            ADAM,
        ),
        Workload(
            "G1",
            "GRU, T=16, batch 24, hidden 96, input 48, Adam",
            gru,
            classes(16, 24, 48, count=10, batch_axis=1),
            "adam",
            ADAM,
        ),
        Workload("M1", "mixture of 4 experts, batch 64, Adam", experts, classes(64, 128, count=10), "adam", ADAM),
    )
}


# ---- Start values and batches -----------------------------------------------------------------------------------


@cache
def emitted(name: str, dtype: str, style: str = "fast") -> ModuleType:
    """The module that symgrad emits for a workload."""
    workload = WORKLOADS[name]
    derivation = sg.derive(workload.graph(), wrt=workload.wrt)
    program = sg.emit(derivation, optimizer=workload.optimizer, dtype=dtype, style=style)
    return program.load(f"symgrad_{name}_{dtype}")


def parameters(workload: Workload, dtype: str) -> Arrays:
    """The start values of the parameters: those of the emitted program for seed 0."""
    return dict(emitted(workload.name, dtype).init_params(seed=0))


def batch(workload: Workload, dtype: str, seed: int = 0) -> Arrays:
    """Fresh data for one step. Floats of both dtypes come from the same numbers."""
    return workload.data(np.random.default_rng(seed), dtype)
