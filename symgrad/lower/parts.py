"""Scatters at known places, part by part: what is written once is not added to zeros, and zeros that stay are not
written again.

    dX[2h + p] += g[h] m[2h + p]    for p in 0, 1        becomes    dX[0::2] = g m[0::2];  dX[1::2] = g m[1::2]
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.index.definition import At, Definition
from symgrad.lower.views import loops_of
from symgrad.machine import LIMITS, estimate

Span = tuple[int, int, int]  # first, number, step


@dataclass(frozen=True)
class Part:
    """One strided part of the target.

    Attributes:
        place: what the loops of the definition become in the body.
        counts: the sizes of the loops that are left.
        spans: per axis of the target what is written, None for all of it.
        adds: whether something was written there before.
    """

    place: Mapping[Symbol, Expr]
    counts: Mapping[Symbol, Expr]
    spans: tuple[Span | Expr | None, ...]
    adds: bool = False


def parts_of(d: Definition) -> tuple[list[Symbol], list[Part]] | None:
    """(the loops along the axes of the parts, the parts); None where they are not known or too many."""
    axes = _axes(d)
    offsets = [i for i, _ in d.loops if any(w.has(i) for w in d.write) and i not in axes]
    sizes = [d.extents[i] for i in offsets]
    if any(w.has(At) for w in d.write) or not all(n.is_Integer for n in sizes) or sp.Mul(*sizes) > LIMITS.written_parts:
        return None
    found = []
    for values in itertools.product(*(range(int(n)) for n in sizes)):
        part = _part(d, axes, dict(zip(offsets, map(Integer, values), strict=True)))
        if part is None:
            return None
        found += part
    return axes, found


def _axes(d: Definition) -> list[Symbol]:
    """For each axis written with loops of its own, the longest of them."""
    axes = []
    for w in d.write:
        own = [i for i in loops_of(w, d.extents) if sum(other.has(i) for other in d.write) == 1]
        if own:
            axes.append(max(own, key=lambda i: (not d.extents[i].is_Integer, estimate(d.extents[i]))))
    return axes


def _part(d: Definition, axes: Sequence[Symbol], place: dict[Symbol, Expr]) -> list[Part] | None:
    """The part for these offsets, cut to what lies inside; an empty list where nothing does."""
    spans: list[Span | Expr | None] = []
    counts = {i: n for i, n in d.loops if i not in place}
    for w, size in zip(d.write, d.shape, strict=True):
        w = sp.expand(w.xreplace(place))
        loops = loops_of(w, counts)
        if not loops:
            if not (w.is_Integer and size.is_Integer):
                return None
            if not 0 <= w < size:
                return []
            spans.append(w)
            continue
        (i,) = loops
        if w == i and counts[i] == size:
            spans.append(None)
            continue
        start, step = w.xreplace({i: Integer(0)}), w.coeff(i)
        if not (start.is_Integer and size.is_Integer and counts[i].is_Integer and step.is_positive):
            return None
        first = max(0, -(start // step))
        count = min(int(counts[i]), int((size - 1 - start) // step) + 1) - first
        if count <= 0:
            return []
        spans.append((int(start + step * first), int(count), int(step)))
        counts[i] = Integer(count)
        place = {**place, i: i + first} if first else place
    return [Part(place, counts, tuple(spans))]


@dataclass(frozen=True)
class Writing:
    """The parts in an order, and whether the target holds zeros that stay, or has to be filled with them first."""

    parts: list[Part]
    fill: bool
    constant: bool


def written_once(d: Definition, parts: Sequence[Part]) -> Writing:
    """Which parts add to others: the largest go first."""
    sliding = [k for k in range(len(d.shape)) if any(part.spans[k] is not None for part in parts)]
    sizes = {k: int(d.shape[k]) for k in sliding}
    written = np.zeros([*sizes.values()], bool)
    ordered, whole, apart = [], True, True
    for part in sorted(parts, key=lambda part: -_size(part, sizes)):
        places: tuple[Any, ...] = (..., *(_slice(part.spans[k]) for k in sliding))
        region = written[places]
        adds, whole = bool(region.any()), whole and bool(region.all() == region.any())
        apart = apart and not adds
        ordered.append(Part(part.place, part.counts, part.spans, adds))
        region[...] = True
    covers = bool(written.all())
    if apart:
        return Writing(ordered, False, not covers)
    if covers and whole:
        return Writing(ordered, False, False)
    return Writing([Part(p.place, p.counts, p.spans, True) for p in ordered], True, False)


def _size(part: Part, sizes: Mapping[int, int]) -> int:
    """How many elements the part has along the axes with these sizes."""
    total = 1
    for axis, size in sizes.items():
        span = part.spans[axis]
        total *= size if span is None else span[1] if isinstance(span, tuple) else 1
    return total


def _slice(span: Span | Expr | None) -> slice:
    if span is None:
        return slice(None)
    if isinstance(span, tuple):
        return slice(span[0], span[0] + span[2] * (span[1] - 1) + 1, span[2])
    return slice(int(span), int(span) + 1)
