"""Bytes: of what is given, of what the backward pass still needs, and of the buffers that the schedule plans."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp
from sympy import Expr

from symgrad.equations import Shape, System
from symgrad.lower import lower
from symgrad.schedule import flatten, plan_memory


def size_of(shape: Shape, dtype: str, float_size: int) -> Expr:
    """The bytes of a tensor whose floats take `float_size` bytes."""
    return sp.expand(sp.Mul(*shape) * {"float": float_size, "int64": 8, "bool": 1}[dtype])


def total(system: System, names: Iterable[str], float_size: int) -> Expr:
    """The bytes of several tensors."""
    return sp.Add(*(size_of(system.shape(name), system.dtype(name), float_size) for name in names))


def kept_values(system: System, forward: set[str]) -> list[str]:
    """The equations among `forward` whose values the other ones read."""
    read = {operand for e in system if e.name not in forward for operand in e.operands}
    return [e.name for e in system if e.name in forward and e.name in read]


def workspace(system: System, float_size: int) -> Expr:
    """The bytes of all buffers of the fast style, after those that can share memory do.

    Inputs, parameters and gradients belong to the caller and are not counted. Raises EmitError for what has no
    array form.
    """
    code = lower(system)
    calls = flatten(code)
    plan_memory(code, calls, [code.values[name] for name in system.wanted()])
    used = {code.root(view.array) for call in calls for view in (*call.reads(), *call.writes())}
    lent = {code.root(code.values[name]) for name in system.gradients.values()}
    buffers = [a for a in code.arrays.values() if a.name in used - lent and a.kind == "buffer"]
    return sp.expand(sp.Add(*(size_of(a.shape, a.dtype, float_size) for a in buffers)))
