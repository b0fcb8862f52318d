"""The plan of a step: what `_bind` puts together. The fixed part of a file in the fast style, beside `runtime`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
DIVIDED: dict[str, int] = {}

# <plans>
# ---- Plans -----------------------------------------------------------------------------------------------

Job = Callable[[Arrays], None]  # takes the inputs by name
Allocate = Callable[[tuple[int, ...], Any], Array]
Stages = tuple[Job, Job, Job]  # forward, loss, backward
Rows = Callable[[int, int, int, Allocate], Stages]
Task = tuple[Job, int, int, float]  # job, the range of the flat gradient that it completes, cost

_TASK = 8e6  # multiplications that are worth a task of their own


class _Plan(NamedTuple):
    """The work of one batch size. The jobs of a phase may run beside one another; phases follow one another.

    forward, until_loss, whole: the phases up to the outputs, up to the loss, and up to all that tasks read.
    tasks: what is left to be done for the gradients, in any order.
    """

    outputs: tuple[Array, ...]
    loss: Array
    forward: list[list[Job]]
    until_loss: list[list[Job]]
    whole: list[list[Job]]
    tasks: list[Task]


class _Arena:
    """Memory of one worker. The parts of the samples that it computes one after another all work in it."""

    def __init__(self, make: Allocate) -> None:
        self.make = make
        self.made: list[Array] = []
        self.used = 0

    def restarted(self) -> _Arena:
        self.used = 0
        return self

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> Array:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self.used == len(self.made) or self.made[self.used].size < size:
            self.made.insert(self.used, self.make((size,), np.uint8))
        raw = self.made[self.used][:size]
        self.used += 1
        array: Array = raw.view(dtype).reshape(shape)
        return array


def _nothing(inputs: Arrays) -> None:
    """The job of a stage that has nothing to do in a phase."""


def _plan(
    samples: int,
    parts: int,
    workers: int,
    make: Allocate,
    phases: Sequence[Rows | Stages],
    tasks: list[Task],
    outputs: tuple[Array, ...],
    loss: Array,
) -> _Plan:
    """The plan in which the samples are divided into `parts`, as evenly as can be.

    workers: 0 where there are none beside BLAS's own threads, which want each product whole.
    """
    from itertools import pairwise

    arenas = [_Arena(make) for _ in range(max(1, min(parts, workers)))]
    bounds = [samples // parts * p + min(p, samples % parts) for p in range(parts + 1)]
    found: list[list[tuple[int, int, Stages]]] = []
    for phase in phases:
        if isinstance(phase, tuple):
            found.append([(0, samples, phase)])
            continue
        jobs = []
        for p, (start, stop) in enumerate(pairwise(bounds)):
            jobs.append((start, stop, phase(p, start, stop, arenas[p % len(arenas)].restarted())))
        found.append(jobs)
    forward, until_loss, whole = (_phases(found, parts, last) for last in (1, 2, 3))
    return _Plan(outputs, loss, forward, until_loss, whole, tasks)


def _phases(found: list[list[tuple[int, int, Stages]]], parts: int, last: int) -> list[list[Job]]:
    """The phases that the first `last` stages need."""
    phases = []
    for jobs in found:
        chosen = [_job([s for s in stages[:last] if s is not _nothing], a, b, len(jobs) > 1) for a, b, stages in jobs]
        if any(job is not _nothing for job in chosen):
            phases.append(chosen)
    return phases


def _job(stages: list[Job], start: int, stop: int, divided: bool) -> Job:
    """The stages one after another, on the samples from start to stop."""
    if not stages:
        return _nothing
    if not divided and len(stages) == 1:
        return stages[0]

    def whole(inputs: Arrays) -> None:
        for stage in stages:
            stage(inputs)

    def part(inputs: Arrays) -> None:
        whole({name: a[cuts[name]] if name in cuts else a for name, a in inputs.items()})

    cuts = {name: (*[slice(None)] * axis, slice(start, stop)) for name, axis in DIVIDED.items()}
    return part if divided else whole


def _blocks(
    rows: Callable[[int, int], Job], count: int, width: int, first: int, cost: float, workers: int
) -> list[Task]:
    """Tasks of whole rows of a gradient that lies in the flat vector from `first` on; one for BLAS's own threads."""
    from itertools import pairwise

    number = max(1, min(4, count // 16, int(cost / _TASK))) if workers else 1
    bounds = [count * k // number for k in range(number + 1)]
    pairs = pairwise(bounds)
    return [(rows(a, b), first + a * width, first + b * width, cost * (b - a) / count) for a, b in pairs]


# </plans>
