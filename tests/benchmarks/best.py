"""What plain NumPy can still do with the standard library: W2 with a helper process, W3 with OpenBLAS's other kernels.

The helper is forked, shares its arrays through an anonymous mmap and waits busily for at most 2 ms, so that work is
handed over in less than a microsecond and no interpreter lock is shared. `ENVIRONMENT` holds what must be set before
NumPy is imported.
"""

from __future__ import annotations

import math
import mmap
import os
import select
import time
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import plain
from plain import Action, Perceptron, gelu, relu, set_blas_threads
from workloads import Array, Arrays, Contestant, Workload

ENVIRONMENT: dict[str, dict[str, str]] = {"W3": {"OPENBLAS_CORETYPE": "Haswell"}}

BUSY = 0.002  # seconds of waiting before a process sleeps


def shared(shape: tuple[int, ...] | int, dtype: Any) -> Array:
    """Zeros in memory that forked processes share; it starts on a page."""
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8, size).view(dtype).reshape(shape)


def packed(a: Array, b: Array, c: Array) -> Action:
    """c = a b whole: the kernels asked for in `ENVIRONMENT` have no small forms."""
    return partial(np.dot, a, b, c)


class Helper:
    """A forked process that runs the second half of each phase, in turn, as often as it is told to."""

    def __init__(self, model: Perceptron) -> None:
        self._flags = memoryview(mmap.mmap(-1, 4096)).cast("q")  # phases asked for, phases done, asleep
        self._wake, self._bell = os.pipe()
        self._asked, self._parent = 0, os.getpid()
        if os.fork() == 0:
            try:
                self._serve(model)
            finally:
                os._exit(1)

    def _serve(self, model: Perceptron) -> None:
        flags, done = self._flags, 0
        while True:
            for phase, (_, other) in enumerate(model.phases):
                self._await(done)
                if phase == 0:
                    model.adam.begin()
                other()
                done += 1
                flags[1] = done

    def _await(self, done: int) -> None:
        """Busily at first; then asleep, until the bell rings or half a second is over, for the parent may be gone."""
        flags, end = self._flags, time.perf_counter() + BUSY
        while flags[0] == done:
            for _ in range(100):
                if flags[0] != done:
                    return
            if time.perf_counter() > end:
                flags[2] = 1
                if flags[0] == done and select.select([self._wake], [], [], 0.5)[0]:
                    os.read(self._wake, 64)
                flags[2] = 0
                if os.getppid() != self._parent:
                    os._exit(0)

    def run(self, mine: Any) -> None:
        """`mine` here and the phase's other half there, at the same time."""
        flags = self._flags
        self._asked = asked = self._asked + 1
        flags[0] = asked
        if flags[2]:
            os.write(self._bell, b"!")
        mine()
        while flags[1] != asked:
            pass


class Forked:
    """A perceptron whose second half runs in a helper process."""

    def __init__(self, params: Arrays, dtype: str, hyper: Mapping[str, float], batch: int) -> None:
        model = Perceptron(params, dtype, hyper, batch, relu, False, 1024, 1 << 20, shared)
        self.x, self.t = shared((batch, params["W1"].shape[0]), dtype), shared(batch, np.int64)
        model.data = {"x": self.x, "t": self.t}
        self.model, self.helper = model, Helper(model)
        self.parameters = model.parameters

    def step(self, batch: Mapping[str, Array]) -> float:
        np.copyto(self.x, batch["x"])
        np.copyto(self.t, batch["t"])
        model, run = self.model, self.helper.run
        model.adam.begin()
        for mine, _ in model.phases:
            run(mine)
        return float(model.losses[0] + model.losses[1])


def make(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    """The best step for a workload. Raises LookupError where nobody wrote one."""
    makers = MAKERS if workload.name in MAKERS else import_module("best_blocks").MAKERS
    if workload.name not in makers:
        raise LookupError(f"nobody wrote one for {workload.name}")
    return makers[workload.name](workload, params, dtype, threads)


def _plain(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    """None of the means helps: W1 is too short for a second worker, W4 and W8 would copy their inputs to it."""
    return plain.make(workload, params, dtype, threads)


def _w2(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Forked(params, dtype, workload.hyper, 128)


def _w3(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Perceptron(params, dtype, workload.hyper, 256, gelu, True, 1024, 262144, multiplied=packed)


MAKERS = {"W1": _plain, "W2": _w2, "W3": _w3, "W4": _plain, "W8": _plain}
