"""Which buffers may share memory: a linear scan over the calls by liveness.

A buffer's memory is free after the last call that reads it or any view of it. A later buffer of the same size
and type takes it over; an elementwise result may take over an operand that is read for the last time by that
very call and lies in memory as the result does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sympy import Expr

from symgrad.lower.ir import Code, View, dims_product
from symgrad.schedule.calls import UPDATES, Call

Size = tuple[Expr, str]


def plan_memory(code: Code, calls: Sequence[Call], keep: Iterable[str]) -> None:
    """Make buffers that can share memory aliases of one another; the arrays `keep` stay their own to the end."""
    last = _last_uses(code, calls)
    kept = {code.root(name) for name in keep}
    free: dict[Size, list[str]] = {}
    placed: set[str] = set()
    owner: dict[str, str] = {}
    for time, call in enumerate(calls):
        dying = [r for r in _roots(code, call) if last[r] == time and r not in kept and _is_buffer(code, r)]
        for name in dict.fromkeys(code.root(v.array) for v in call.writes()):
            if name in placed or not _is_buffer(code, name) or name in kept:
                continue
            placed.add(name)
            size = _size(code, name)
            taken = _taken_over(code, call, dying, size, owner) if not call.body else None
            if taken is None and free.get(size):
                taken = free[size].pop()
            owner[name] = taken or name
            if taken is not None and taken in (owner.get(d, d) for d in dying):
                dying = [d for d in dying if owner.get(d, d) != taken]
        for name in dying:
            if name in placed:
                free.setdefault(_size(code, name), []).append(owner.get(name, name))
    for name, memory in _by_values(code, owner).items():
        if memory != name:
            _share(code, name, memory)


def _by_values(code: Code, owner: Mapping[str, str]) -> dict[str, str]:
    """The same memory by the names of values: a temporary that becomes a value in place goes by that one's name."""
    better: dict[str, str] = {}
    for name, memory in owner.items():
        array, first = code.arrays[name], code.arrays[memory]
        if first.temporary and not array.temporary and array.shape == first.shape:
            better.setdefault(memory, name)
    return {name: better.get(memory, memory) for name, memory in owner.items()}


def _last_uses(code: Code, calls: Sequence[Call]) -> dict[str, int]:
    last: dict[str, int] = {}
    for time, call in enumerate(calls):
        for root in _roots(code, call):
            last[root] = time
    return last


def _roots(code: Code, call: Call) -> list[str]:
    return list(dict.fromkeys(code.root(v.array) for v in (*call.reads(), *call.writes())))


def _is_buffer(code: Code, name: str) -> bool:
    return code.arrays[name].kind == "buffer"


def _size(code: Code, name: str) -> Size:
    array = code.arrays[name]
    return dims_product(array.shape), array.dtype


def _taken_over(code: Code, call: Call, dying: list[str], size: Size, owner: dict[str, str]) -> str | None:
    """The memory of an operand that an elementwise call may overwrite with its result."""
    if not call.elementwise or call.out is None or call.function in UPDATES or not call.out.whole:
        return None
    for argument in call.arguments:
        if isinstance(argument, View) and argument.whole and argument.array in dying:
            same = argument.shape == call.out.shape and _size(code, argument.array) == size
            if same and _read_once_in_place(code, call, argument):
                return owner.get(argument.array, argument.array)
    return None


def _read_once_in_place(code: Code, call: Call, argument: View) -> bool:
    """Whether every other operand of the call that shares the memory is the same whole array."""
    others = [a for a in call.arguments if isinstance(a, View) and code.root(a.array) == code.root(argument.array)]
    return all(a == argument for a in others)


def _share(code: Code, name: str, memory: str) -> None:
    array, other = code.arrays[name], code.arrays[memory]
    reshape = None if array.shape == other.shape else array.shape
    code.arrays[name] = replace(array, alias=View(memory, array.shape, reshape))
