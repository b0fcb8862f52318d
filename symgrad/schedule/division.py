"""Into how many parts the samples are divided: the least number of samples that a part is worth, and the most parts.

The number of parts depends on the network and the number of samples alone, never on how many workers there are: the
order of every summation is the same for any number of them. For threads a part must give its calls enough to do,
because a thread that computes for less time than a hand-over takes gets the interpreter back before another one has
it; processes have no such bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import sympy as sp
from sympy import Expr, Symbol

from symgrad.lower.ir import Code, View, dims_product
from symgrad.machine import LIMITS, MACHINE, estimate
from symgrad.schedule.calls import Call
from symgrad.schedule.separable import has_samples

PRODUCTS = ("dot", "matmul")
SLOW = ("exp", "tanh", "log", "log1p", "expm1", "sin", "cos", "power", "_erf", "_erfc")
NEVER = (0, 1)
WORKERS = ("thread", "process")


@dataclass(frozen=True)
class Work:
    """Of the calls of the rows: their number, seconds for each sample in products and in all else, and the extremes.

    Attributes:
        rows: that a sample gives to most products; weight: elements of the largest operand that all
            samples share; width: the most elements that a call has for each sample.
    """

    calls: int
    products: float
    others: float
    rows: int
    weight: int
    width: int


def parts_of(code: Code, calls: Sequence[Call], size: Symbol) -> dict[str, tuple[int, int]]:
    """Kind of worker -> (least samples in a part, most parts), for the calls of a network's rows."""
    work = measure(code, calls, size)
    seconds = work.products + work.others
    if not seconds:
        return dict.fromkeys(WORKERS, NEVER)
    if work.products < work.others / 4:
        least = max(1, MACHINE.block // max(1, work.width))
        return {"thread": (least, 1 << 16), "process": (least, 1 << 16)}
    shared = MACHINE.large_rows if 4 * work.weight > 2 * MACHINE.second_level else MACHINE.rows
    busy = ceil(MACHINE.own_call * work.calls / seconds)
    thread = max(ceil(shared / work.rows), busy, ceil(10 * MACHINE.hand_over / seconds))
    busy = ceil(4 * MACHINE.call * work.calls / seconds)
    process = max(ceil(16 / work.rows), busy, ceil(10 * MACHINE.process_hand_over / seconds))
    return {"thread": (thread, LIMITS.parts), "process": (process, LIMITS.parts)}


def measure(code: Code, calls: Iterable[Call], size: Symbol) -> Work:
    """What the calls need, by the machine's constants."""
    number, products, others, weight, width = 0, 0.0, 0.0, 0, 1
    rows: list[tuple[int, float]] = []
    for call in _flat(calls):
        if call.function == "spread":  # a part of the call after it
            continue
        number += 1
        if call.out is None:
            continue
        views = [a for a in call.arguments if isinstance(a, View)]
        elements = max(_each(v.shape, size) for v in (*views, call.out))
        if call.function in PRODUCTS and len(views) == 2:
            left, right = views
            bound = _each(left.shape[-1:], size)
            count = _each(call.out.shape, size) * bound
            products += count * MACHINE.multiplication
            ours, shared = (left, right) if has_samples(code, left.array, size) else (right, left)
            if not has_samples(code, shared.array, size):
                weight = max(weight, _each(shared.shape, size))
                axes = ours.shape[:-1] if ours is left else ours.shape[-1:]
                rows.append((_each(axes, size), count * MACHINE.multiplication))
            continue
        width = max(width, elements)
        others += elements * (MACHINE.transcendental if call.function in SLOW else MACHINE.element)
    return Work(number, products, others, _usual(rows), weight, width)


def _usual(rows: Sequence[tuple[int, float]]) -> int:
    """The rows that nearly all of the time is spent on: products that take a fifth of it may have fewer."""
    few = sum(seconds for _, seconds in rows) / 5
    for count, seconds in sorted(rows):
        few -= seconds
        if few < 0:
            return count
    return 1


def _flat(calls: Iterable[Call]) -> Iterable[Call]:
    for call in calls:
        if call.body:
            times = 1
            for _, n in call.offsets:
                times *= n
            for _ in range(times):
                yield from _flat(call.body)
        else:
            yield call


def _each(shape: Sequence[Expr], size: Symbol) -> int:
    """The elements for one sample."""
    count = dims_product(tuple(shape)).xreplace({size: sp.Integer(1)})
    return max(1, estimate(count))
