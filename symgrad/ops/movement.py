"""Ops that only move elements: the body is the access itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Integer

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand, parse_dimension
from symgrad.index.text import expression_text
from symgrad.ops.registry import Attribute, Case, axis_of, listed, names, register

Size = int | str


def _transpose(x: Operand, axes: Sequence[int] | None) -> str:
    """Y[j, i] = X[i, j]"""
    index = names("i", len(x.shape))
    order = list(reversed(range(len(index)))) if axes is None else [axis_of(a, len(index)) for a in axes]
    if sorted(order) != list(range(len(index))):
        raise ShapeError(f"transpose axes {tuple(axes or ())} do not permute {len(index)} axes")
    return f"Y[{listed([index[a] for a in order])}] = X[{listed(index)}]"


def _reshape(x: Operand, shape: Sequence[Size]) -> str:
    """Y[o] = X.reshape(shape)[o]"""
    sizes = [parse_dimension(n) for n in shape]
    unknown = [k for k, n in enumerate(sizes) if n == -1]
    if len(unknown) > 1:
        raise ShapeError("reshape can work out one size only", hint="write -1 once")
    if unknown:
        total, rest = sp.Mul(*x.shape), sp.Mul(*(n for n in sizes if n != -1))
        sizes[unknown[0]] = sp.cancel(total / rest) if rest != 0 else Integer(-1)
    if sp.expand(sp.Mul(*sizes) - sp.Mul(*x.shape)) != 0 or any(n.is_negative for n in sizes):
        raise ShapeError(f"X of shape {tuple(x.shape)} cannot be reshaped to {tuple(shape)}: the sizes differ")
    index = names("i", len(sizes))
    view = ", ".join(map(expression_text, sizes))
    return f"Y[{listed(index)}] = X.reshape({view})[{listed(index)}]"


def _broadcast_to(x: Operand, shape: Sequence[Size]) -> str:
    """Y[i, j] = X[j]"""
    sizes = [parse_dimension(n) for n in shape]
    index = names("i", len(sizes))
    offset = len(sizes) - len(x.shape)
    read = []
    for axis, n in enumerate(x.shape):
        if offset < 0 or n not in (1, sizes[offset + axis]):
            raise ShapeError(f"X of shape {tuple(x.shape)} does not broadcast to {tuple(shape)}")
        read.append("0" if n == 1 != sizes[offset + axis] else index[offset + axis])
    return f"Y[{listed(_sized(index, sizes))}] = X[{listed(read)}]"


def _sized(index: Sequence[str], sizes: Sequence[Expr]) -> list[str]:
    return [f"{i}:{expression_text(n)}" for i, n in zip(index, sizes, strict=True)]


def _expand_dims(x: Operand, axis: int | Sequence[int]) -> str:
    """Y[i, 0, j] = X[i, j]"""
    added = [axis] if isinstance(axis, int) else list(axis)
    rank = len(x.shape) + len(added)
    places = {axis_of(a, rank) for a in added}
    index = names("i", rank)
    target = [f"{i}:1" if a in places else i for a, i in enumerate(index)]
    return f"Y[{listed(target)}] = X[{listed([i for a, i in enumerate(index) if a not in places])}]"


def _squeeze(x: Operand, axis: int | Sequence[int] | None) -> str:
    """Y[i, j] = X[i, 0, j]"""
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    given = ones if axis is None else [axis] if isinstance(axis, int) else list(axis)
    places = {axis_of(a, len(x.shape)) for a in given}
    for a in places:
        if x.shape[a] != 1:
            raise ShapeError(f"axis {a} has size {x.shape[a]} and cannot be squeezed", hint="only size 1 can go")
    index = names("i", len(x.shape))
    read = ["0" if a in places else i for a, i in enumerate(index)]
    return f"Y[{listed([i for a, i in enumerate(index) if a not in places])}] = X[{listed(read)}]"


def _slice(x: Operand, index: Sequence[int | Sequence[int | None]]) -> str:
    """Y[i] = X[start + step*i]; an entry is an integer, or [start, stop, step] with None for the default"""
    if len(index) > len(x.shape):
        raise ShapeError(f"X of shape {tuple(x.shape)} is indexed with {len(index)} entries")
    target, read = [], []
    for axis, n in enumerate(x.shape):
        entry = index[axis] if axis < len(index) else (None, None, None)
        if isinstance(entry, int):
            read.append(_element(entry, n))
            continue
        start, size, step = _range(entry, n)
        target.append(f"i{axis}:{expression_text(size)}")
        read.append(expression_text(start + step * sp.Symbol(f"i{axis}")))
    return f"Y[{listed(target)}] = X[{listed(read)}]"


def _element(entry: int, n: Expr) -> str:
    if n.is_Integer and not -n <= entry < n:
        raise ShapeError(f"index {entry} is out of range for size {n}")
    return expression_text(n + entry if entry < 0 else Integer(entry))


def _range(entry: Sequence[int | None], n: Expr) -> tuple[Expr, Expr, int]:
    """start, number of elements and step, as Python's slices mean them."""
    start, stop, step = entry
    step = 1 if step is None else step
    if step == 0:
        raise ShapeError("a slice step cannot be 0")
    if n.is_Integer:
        found = range(*slice(start, stop, step).indices(int(n)))
        return Integer(found.start), Integer(len(found)), step
    first = (n - 1 if step < 0 else Integer(0)) if start is None else Integer(start) + (n if start < 0 else 0)
    end = (Integer(-1) if step < 0 else n) if stop is None else Integer(stop) + (n if stop < 0 else 0)
    span = end - first if step > 0 else first - end
    return first, (span if abs(step) == 1 else sp.floor((span - 1) / abs(step)) + 1), step


def _concatenate(*operands: Operand, axis: int) -> str:
    """Y[i] = A[i] + B[i - len(A)]: outside an operand there is 0"""
    return _join(operands, axis_of(axis, len(operands[0].shape)), stacked=False)


def _stack(*operands: Operand, axis: int) -> str:
    """Y[0, i] = A[i];  Y[1, i] = B[i]"""
    return _join(operands, axis_of(axis, len(operands[0].shape) + 1), stacked=True)


def _join(operands: Sequence[Operand], axis: int, stacked: bool) -> str:
    first = operands[0].shape
    for k, x in enumerate(operands):
        fits = len(x.shape) == len(first)
        fits = fits and all(a == b for d, (a, b) in enumerate(zip(x.shape, first, strict=True)) if stacked or d != axis)
        if not fits:
            raise ShapeError(
                f"X{k} of shape {tuple(x.shape)} does not join X0 of shape {tuple(first)} along axis {axis}"
            )
    sizes = [Integer(1) if stacked else x.shape[axis] for x in operands]
    index = names("i", len(first) + stacked)
    terms, start = [], Integer(0)
    for k, size in enumerate(sizes):
        here = expression_text(sp.Symbol(index[axis]) - start)
        if stacked:
            read = [i for d, i in enumerate(index) if d != axis]
            terms.append(f"where({index[axis]} == {k}, X{k}[{listed(read)}], 0)")
        else:
            terms.append(f"X{k}[{listed([here if d == axis else i for d, i in enumerate(index)])}]")
        start += size
    shape = [*first[:axis], start, *first[axis + (not stacked) :]]
    return f"Y[{listed(_sized(index, shape))}] = {' + '.join(terms)}"


def _pad(x: Operand, widths: Sequence[Sequence[int]] | int, value: float) -> str:
    """Y[i] = X[i - before]: outside X there is 0, or `value`"""
    pairs = [(widths, widths)] * len(x.shape) if isinstance(widths, int) else [tuple(w) for w in widths]
    if len(pairs) != len(x.shape) or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise ShapeError(f"pad needs (before, after), both 0 or more, for each of {len(x.shape)} axes")
    index = names("i", len(pairs))
    sizes = [n + before + after for n, (before, after) in zip(x.shape, pairs, strict=True)]
    read = [f"{i} - {before}" if before else i for i, (before, _) in zip(index, pairs, strict=True)]
    body = f"X[{listed(read)}]"
    if value:
        body = f"where({_inside(index, x.shape, pairs)}, {body}, {value!r})"
    return f"Y[{listed(_sized(index, sizes))}] = {body}"


def _inside(index: Sequence[str], shape: Sequence[Expr], pairs: Sequence[Sequence[int]]) -> str:
    tests = []
    for i, n, (before, after) in zip(index, shape, pairs, strict=True):
        tests += [f"{i} >= {before}"] * (before > 0)
        tests += [f"{i} < {expression_text(n + before)}"] * (after > 0)
    return " and ".join(tests) or "1 == 1"


def _take(x: Operand, t: Operand, axis: int) -> str:
    """Y[n, d] = X[T[n], d]"""
    axis = axis_of(axis, len(x.shape))
    index, picked = names("i", len(x.shape)), names("n", len(t.shape))
    target = [*index[:axis], *picked, *index[axis + 1 :]]
    read = [*index[:axis], f"T[{listed(picked)}]", *index[axis + 1 :]]
    return f"Y[{listed(target)}] = X[{listed(read)}]"


def _gather(x: Operand, t: Operand, axis: int) -> str:
    """Y[i, j] = X[i, T[i, j]]: numpy.take_along_axis"""
    axis = axis_of(axis, len(x.shape))
    if len(t.shape) != len(x.shape):
        raise ShapeError(f"gather needs indices with the {len(x.shape)} axes of X, got {len(t.shape)}")
    index = names("i", len(x.shape))
    read = [f"T[{listed(index)}]" if a == axis else i for a, i in enumerate(index)]
    return f"Y[{listed(_sized(index, t.shape))}] = X[{listed(read)}]"


def _one_hot(t: Operand, depth: int) -> str:
    """Y[n, k] = where(T[n] == k, 1, 0)"""
    index = names("i", len(t.shape))
    return f"Y[{listed(index, [f'k:{depth}'])}] = where(T[{listed(index)}] == k, 1, 0)"


_IDS = np.array([[2, 0], [1, 2]])

register(
    "transpose",
    _transpose,
    operands=["X"],
    attributes={"axes": Attribute("optional ints", None)},
    cases=[
        Case(np.transpose, ((2, 3),)),
        Case(lambda x: np.transpose(x, (1, 2, 0)), ((2, 3, 4),), {"axes": (1, 2, 0)}),
        Case(np.transpose, ((3,),)),
    ],
)
register(
    "reshape",
    _reshape,
    operands=["X"],
    attributes={"shape": Attribute("shape")},
    cases=[
        Case(lambda x, s=s: np.reshape(x, s), (old,), {"shape": s})
        for old, s in (
            ((2, 6), (3, 4)),
            ((2, 3, 4), (2, -1)),
            ((4,), (2, 2)),
            ((1,), ()),
            ((0, 3), (0, 1, 3)),
        )
    ],
)
register(
    "broadcast_to",
    _broadcast_to,
    operands=["X"],
    attributes={"shape": Attribute("shape")},
    cases=[
        Case(lambda x, s=s: np.broadcast_to(x, s), (old,), {"shape": s})
        for old, s in (((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2,)), ((1,), (0,)))
    ],
)
register(
    "expand_dims",
    _expand_dims,
    operands=["X"],
    attributes={"axis": Attribute("ints or int")},
    cases=[
        Case(lambda x: x[:, None], ((2, 3),), {"axis": 1}),
        Case(lambda x: x[None, ..., None], ((2,),), {"axis": (0, -1)}),
    ],
)
register(
    "squeeze",
    _squeeze,
    operands=["X"],
    attributes={"axis": Attribute("axes", None)},
    cases=[Case(np.squeeze, ((2, 1, 3, 1),)), Case(lambda x: x[:, 0], ((2, 1, 3, 1),), {"axis": 1})],
)
register(
    "slice",
    _slice,
    operands=["X"],
    attributes={"index": Attribute("index")},
    cases=[
        Case(lambda x, k=key: x[k], (shape,), {"index": index})
        for shape, key, index in (
            ((5, 4), (slice(1, 4), slice(None, None, 2)), [[1, 4, None], [None, None, 2]]),
            ((5, 4), (-1,), [-1]),
            ((5,), (slice(None, None, -2),), [[None, None, -2]]),
            ((5, 4), (slice(3, 1), 2), [[3, 1, None], 2]),
            ((5,), (slice(-3, -1),), [[-3, -1, None]]),
        )
    ],
)
register(
    "concatenate",
    _concatenate,
    operands=None,
    attributes={"axis": Attribute("int", 0)},
    cases=[
        Case(lambda *x, a=a: np.concatenate(x, a), shapes, {"axis": a})
        for shapes, a in (
            (((2, 3), (1, 3)), 0),
            (((2, 3), (2, 1), (2, 2)), -1),
            (((2,),), 0),
            (((0, 2), (1, 2)), 0),
        )
    ],
)
register(
    "stack",
    _stack,
    operands=None,
    attributes={"axis": Attribute("int", 0)},
    cases=[
        Case(lambda *x, a=a: np.stack(x, a), shapes, {"axis": a})
        for shapes, a in ((((2, 3), (2, 3)), 0), (((2, 3),) * 3, 1), (((), ()), 0), (((2,),), -1))
    ],
)
register(
    "pad",
    _pad,
    operands=["X"],
    attributes={"widths": Attribute("widths"), "value": Attribute("float", 0.0)},
    cases=[
        Case(lambda x: np.pad(x, ((1, 0), (0, 2))), ((2, 3),), {"widths": ((1, 0), (0, 2))}),
        Case(lambda x: np.pad(x, 1, constant_values=-2.5), ((2, 3),), {"widths": 1, "value": -2.5}),
        Case(lambda x: np.pad(x, 0), ((2,),), {"widths": 0, "value": 1.0}),
    ],
)
register(
    "take",
    _take,
    operands=["X", "T"],
    attributes={"axis": Attribute("int", 0)},
    cases=[
        Case(lambda x, t: np.take(x, t, 0), ((3, 4), _IDS)),
        Case(lambda x, t: np.take(x, t, 1), ((2, 3, 2), np.array([2, 0, 2, 2])), {"axis": 1}),
    ],
)
register(
    "embedding",
    lambda e, t: _take(Operand("X", e.shape), t, 0).replace("X[", "E["),
    operands=["E", "T"],
    doc="Y[n, d] = E[T[n], d]",
    cases=[Case(lambda e, t: e[t], ((3, 4), _IDS)), Case(lambda e, t: e[t], ((3, 1), np.array([], int)))],
)
register(
    "gather",
    _gather,
    operands=["X", "T"],
    attributes={"axis": Attribute("int", -1)},
    cases=[
        Case(lambda x, t: np.take_along_axis(x, t, -1), ((2, 3), _IDS)),
        Case(lambda x, t: np.take_along_axis(x, t, 0), ((3, 2), _IDS), {"axis": 0}),
    ],
)


def _reference_one_hot(t: Any) -> Any:
    return np.eye(4)[t]


register(
    "one_hot",
    _one_hot,
    operands=["T"],
    attributes={"depth": Attribute("size")},
    cases=[Case(_reference_one_hot, (_IDS,), {"depth": 4})],
)
