"""Perceptrons of any widths, activation and optimizer by hand: those that nobody tuned anything for (P1 to P4).

They are `plain.Perceptron` with other parts. At these sizes one thread with BLAS's own two is better than two Python
threads: most elementwise calls are so short that each thread would wait for the interpreter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from plain import Action, Adam, Perceptron, aligned, gelu, product, relu, scalar, set_blas_threads
from workloads import ACTIVATIONS, Array, Arrays, Contestant, Workload

add, subtract, multiply, divide, sqrt, tanh = np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.tanh

# ---- Activations: h and its derivative `slope`, both from z -----------------------------------------------------


def hyperbolic(z: Array, h: Array, slope: Array) -> Action:
    """h = tanh(z)."""
    one = scalar(1, z.dtype)

    def run() -> None:
        tanh(z, h)
        multiply(h, h, slope)
        subtract(one, slope, slope)

    return run


def sigmoid(z: Array, h: Array, slope: Array) -> Action:
    """With r = tanh(z/2): h = (1 + r)/2 and h' = h (1 - h)."""
    half, one = scalar(0.5, z.dtype), scalar(1, z.dtype)

    def run() -> None:
        multiply(z, half, h)
        tanh(h, h)
        multiply(h, half, h)
        add(h, half, h)
        subtract(one, h, slope)
        multiply(slope, h, slope)

    return run


def silu(z: Array, h: Array, slope: Array) -> Action:
    """h = z s for s = sigmoid(z), and h' = s + h (1 - s)."""
    half, one = scalar(0.5, z.dtype), scalar(1, z.dtype)
    s = aligned(z.shape, z.dtype)

    def run() -> None:
        multiply(z, half, s)
        tanh(s, s)
        multiply(s, half, s)
        add(s, half, s)
        multiply(z, s, h)
        subtract(one, s, slope)
        multiply(slope, h, slope)
        add(slope, s, slope)

    return run


# ---- Optimizers, in blocks like `plain.Adam` --------------------------------------------------------------------


class Blocked:
    """An optimizer that updates the parameters block by block; the gradient is not needed afterwards."""

    def __init__(self, theta: Array, hyper: Mapping[str, float], block: int) -> None:
        self.theta, self.block, self.state = theta, block, aligned(theta.size, theta.dtype)
        self.hyper = {name: scalar(value, theta.dtype) for name, value in self.numbers(hyper).items()}

    def numbers(self, hyper: Mapping[str, float]) -> Mapping[str, float]:
        """The factors that the blocks multiply by."""
        return hyper

    def begin(self) -> None:
        """None of their numbers changes from step to step."""

    def blocks(self, start: int, grad: Array) -> list[Action]:
        """The updates of the parameters from `start` on, from the flat view `grad` of their gradient."""
        made = []
        for first in range(0, grad.size, self.block):
            g = grad[first : first + self.block]
            place = slice(start + first, start + first + g.size)
            made.append(self._block(self.theta[place], self.state[place], g))
        return made

    def _block(self, theta: Array, state: Array, g: Array) -> Action:
        raise NotImplementedError


class Descent(Blocked):
    def _block(self, theta: Array, state: Array, g: Array) -> Action:
        rate = self.hyper["lr"]

        def update() -> None:
            multiply(g, rate, g)
            subtract(theta, g, theta)

        return update


class Momentum(Blocked):
    """The velocity is kept multiplied by the rate."""

    def _block(self, theta: Array, state: Array, g: Array) -> Action:
        rate, momentum = self.hyper["lr"], self.hyper["momentum"]

        def update() -> None:
            multiply(state, momentum, state)
            multiply(g, rate, g)
            add(state, g, state)
            subtract(theta, state, theta)

        return update


class RMSprop(Blocked):
    """The mean square is kept divided by 1 - rho."""

    def numbers(self, hyper: Mapping[str, float]) -> Mapping[str, float]:
        root = math.sqrt(1 - hyper["rho"])
        return {"rho": hyper["rho"], "lr": hyper["lr"] / root, "eps": hyper["eps"] / root}

    def _block(self, theta: Array, state: Array, g: Array) -> Action:
        rho, rate, eps = (self.hyper[name] for name in ("rho", "lr", "eps"))
        t = aligned(g.size, g.dtype)

        def update() -> None:
            multiply(state, rho, state)
            multiply(g, g, t)
            add(state, t, state)
            sqrt(state, t)
            add(t, eps, t)
            divide(g, t, t)
            multiply(t, rate, t)
            subtract(theta, t, theta)

        return update


# ---- Making them ---------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[Array, Array, Array], Action]] = {
    "tanh": hyperbolic,
    "relu": relu,
    "sigmoid": sigmoid,
    "silu": silu,
    "gelu": gelu,
}
OPTIMIZERS: dict[str, Callable[[Array, Mapping[str, float], int], Any]] = {
    "adam": Adam,
    "sgd": Descent,
    "momentum": Momentum,
    "rmsprop": RMSprop,
}
FEW = 16  # samples up to which products in small blocks are faster than BLAS's two threads
ROWS, BLOCK = 1024, 1 << 17


def whole(a: Array, b: Array, c: Array) -> Action:
    """c = a b in one call, on BLAS's threads."""
    return partial(np.dot, a, b, c)


def perceptron(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    """The step of any perceptron of `workloads`."""
    set_blas_threads(threads)
    batch = len(workload.data(np.random.default_rng(0), dtype)["x"])
    ops = {node["op"] for _, node in workload.graph().nodes(data=True)}
    activation = FUNCTIONS[next(op for op in ACTIVATIONS if op in ops)]
    return Perceptron(
        params,
        dtype,
        workload.hyper,
        batch,
        activation,
        False,
        ROWS,
        BLOCK,
        multiplied=product if batch <= FEW else whole,
        optimizer=OPTIMIZERS[workload.optimizer],
        lanes=1,
    )


MAKERS = dict.fromkeys(("P1", "P2", "P3", "P4"), perceptron)
