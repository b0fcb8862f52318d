"""What the hand-written blocks share: parameters in one vector, momentum, small-kernel products, signals."""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from plain import SMALL, Action, aligned, pair, scalar
from workloads import Array, Arrays

Allocate = Callable[[Any, Any], Array]
LINE = 64  # bytes of a cache line


class Flat:
    """Parameters in one vector and their gradients in another, each tensor from a cache line on.

    Attributes:
        values, grads: views by name.
        starts: name -> where it begins.
    """

    def __init__(self, params: Mapping[str, Array], names: Iterable[str], dtype: Any, allocate: Allocate) -> None:
        self.shapes = {name: params[name].shape for name in names}
        self.starts, end = {}, 0
        step = LINE // np.dtype(dtype).itemsize
        for name in self.shapes:
            self.starts[name] = end
            end += -(-params[name].size // step) * step
        self.vector, self.gradient = allocate(end, dtype), allocate(end, dtype)
        self.values, self.grads = self.views(self.vector), self.views(self.gradient)
        for name, view in self.values.items():
            view[...] = params[name]

    def views(self, vector: Array) -> Arrays:
        """A vector's parts by name."""
        return {
            name: vector[start : start + int(np.prod(self.shapes[name]))].reshape(self.shapes[name])
            for name, start in self.starts.items()
        }

    def copies(self) -> Arrays:
        return {name: view.copy() for name, view in self.values.items()}


class Momentum:
    """Four passes; the velocity is kept multiplied by the rate."""

    def __init__(self, flat: Flat, hyper: Mapping[str, float]) -> None:
        dtype = flat.vector.dtype
        self.theta, self.g, self.v = flat.vector, flat.gradient, aligned(flat.vector.size, dtype)
        self.momentum, self.rate = scalar(hyper["momentum"], dtype), scalar(hyper["lr"], dtype)

    def begin(self) -> None:
        """Momentum has no numbers that change from step to step."""

    def run(self) -> None:
        np.multiply(self.v, self.momentum, self.v)
        np.multiply(self.g, self.rate, self.g)
        np.add(self.v, self.g, self.v)
        np.subtract(self.theta, self.v, self.theta)


def view(a: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """`as_strided`, with strides in elements."""
    return as_strided(a, shape, tuple(s * a.itemsize for s in strides))


def tiles(a: Array, b: Array, c: Array) -> Action:
    """c = a b as one batched product of tiles that have small kernels; a may be a transposed view."""
    (rows, depth), columns = a.shape, b.shape[1]
    fits = [
        (p * q, abs(rows // p - columns // q), p, q)
        for p in range(1, rows + 1)
        for q in range(1, columns + 1)
        if rows % p == columns % (16 * q) == 0 and rows // p * depth * (columns // q) <= SMALL
    ]
    _, _, p, q = min(fits)
    m, n, (sa, sb, sc) = rows // p, columns // q, (x.strides for x in (a, b, c))
    left = as_strided(a, (p, 1, m, depth), (sa[0] * m, 0, *sa))
    right = as_strided(b, (1, q, depth, n), (0, sb[1] * n, *sb))
    return partial(np.matmul, left, right, as_strided(c, (p, q, m, n), (sc[0] * m, sc[1] * n, *sc)))


class Signal:
    """A raw lock that one thread opens for another, once for each wait."""

    def __init__(self) -> None:
        lock = _thread.allocate_lock()
        lock.acquire()
        self.wait, self.send = lock.acquire, lock.release


def part_threads() -> None:
    """A core for each of the pair's threads: left alone, Linux may wake the second one on the first one's core."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        first, second = ({core} for core in cores[:2])
        pair().run(lambda: os.sched_setaffinity(0, first), lambda: os.sched_setaffinity(0, second))
