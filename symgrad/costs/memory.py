"""Bytes: of what is given, of what the backward pass still needs, and of the buffers that the schedule plans."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp
from sympy import Expr

from symgrad.emit import Request
from symgrad.emit.fast import buffers
from symgrad.equations import Shape, System
from symgrad.lower import lower
from symgrad.lower.ir import Array
from symgrad.machine import estimate
from symgrad.schedule import flatten, plan_memory


def size_of(shape: Shape, dtype: str, float_size: int) -> Expr:
    """The bytes of a tensor whose floats take `float_size` bytes."""
    return sp.expand(sp.Mul(*shape) * {"float": float_size, "int64": 8, "int8": 1, "bool": 1}[dtype])


def total(system: System, names: Iterable[str], float_size: int) -> Expr:
    """The bytes of several tensors."""
    return sp.Add(*(size_of(system.shape(name), system.dtype(name), float_size) for name in names))


def kept_values(system: System, forward: set[str]) -> list[str]:
    """The equations among `forward` whose values the other ones read."""
    read = {operand for e in system if e.name not in forward for operand in e.operands}
    return [e.name for e in system if e.name in forward and e.name in read]


def workspace(system: System, float_size: int) -> Expr:
    """The bytes of the buffers of equations that are no program, after those that can share memory do.

    Inputs, parameters and gradients belong to the caller and are not counted. Raises EmitError for what has no
    array form.
    """
    code = lower(system)
    calls = flatten(code)
    plan_memory(code, calls, [code.values[name] for name in system.wanted()])
    used = {code.root(view.array) for call in calls for view in (*call.reads(), *call.writes())}
    lent = {code.root(code.values[name]) for name in system.gradients.values()}
    return _sum_of((a for a in code.arrays.values() if a.name in used - lent and a.kind == "buffer"), float_size)


def program_workspace(request: Request, float_size: int) -> Expr:
    """The bytes that a program in the fast style works in, where the samples are not divided.

    They are the buffers for all samples and the memory of one worker, which the phases of rows use in turn. Of two
    buffers that take turns the larger counts, as it is for 64 samples. Divided among more workers, the samples take
    as much in all, and each sum over them as many times more as there are parts.
    """
    whole, phases = buffers(request)
    worker: list[Array] = []
    for phase in phases:
        for place, array in enumerate(phase):
            if place == len(worker) or _estimate(worker[place]) < _estimate(array):
                worker.insert(place, array)
    return _sum_of([*whole, *worker], float_size)


def _estimate(array: Array) -> int:
    return estimate(size_of(array.shape, array.dtype, 4))


def _sum_of(arrays: Iterable[Array], float_size: int) -> Expr:
    return sp.expand(sp.Add(*(size_of(a.shape, a.dtype, float_size) for a in arrays)))
