"""Convolutions and pooling: accesses at stride*h + dilation*p - padding, in (batch, channel, space...) order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand
from symgrad.index.text import expression_text
from symgrad.ops.registry import Attribute, Case, listed, names, register

Sizes = int | Sequence[int]


def _each(value: Sizes, rank: int, what: str, least: int) -> list[int]:
    sizes = [value] * rank if isinstance(value, int) else list(value)
    if len(sizes) != rank or min(sizes) < least:
        raise ShapeError(f"{what} {value} should be an integer of {least} or more, or {rank} of them")
    return sizes


def _positions(n: Expr, window: Expr, stride: int) -> Expr:
    """How many windows fit."""
    count = sp.floor((n - window) / stride) + 1
    if count.is_Integer and count < 1:
        raise ShapeError(f"a window of {window} does not fit into {n}", hint="pad more, or use a smaller window")
    return count


def _conv(space: int) -> Callable[..., str]:
    def formula(x: Operand, f: Operand, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> str:
        if len(x.shape) != space + 2 or len(f.shape) != space + 2:
            raise ShapeError(
                f"conv{space}d needs X (batch, channels and {space} more axes) and F (filters, channels and as many), "
                f"got {tuple(x.shape)} and {tuple(f.shape)}"
            )
        _check_groups(x, f, groups)
        steps, pads = _each(stride, space, "stride", 1), _each(padding, space, "padding", 0)
        gaps = _each(dilation, space, "dilation", 1)
        h, p = names("h", space), names("p", space)
        sizes = [
            _positions(n + 2 * pad, gap * (k - 1) + 1, step)
            for n, k, step, pad, gap in zip(x.shape[2:], f.shape[2:], steps, pads, gaps, strict=True)
        ]
        read = [f"{s}*{i} + {d}*{j} - {a}" for s, i, d, j, a in zip(steps, h, gaps, p, pads, strict=True)]
        out = [f"{i}:{expression_text(n)}" for i, n in zip(h, sizes, strict=True)]
        if groups == 1:
            body = f"sum(c, {listed(p)}, X[b, c, {listed(read)}]*F[o, c, {listed(p)}])"
            return f"Y[b, o, {listed(out)}] = {body}"
        return _grouped(x, f, groups, h, p, read, out)

    formula.__doc__ = "Y[b, o, h] = sum(c, p, X[b, c, stride*h + dilation*p - padding]*F[o, c, p])"
    return formula


def _check_groups(x: Operand, f: Operand, groups: int) -> None:
    channels, filters = x.shape[1], f.shape[0]
    if groups < 1 or filters % groups != 0 or sp.expand(f.shape[1] * groups - channels) != 0:
        raise ShapeError(
            f"{channels} channels in {groups} groups do not fit F of shape {tuple(f.shape)}",
            hint=f"F should be ({filters}, {channels / groups}, ...), its filters a multiple of the groups",
        )


def _grouped(x: Operand, f: Operand, groups: int, h: list[str], p: list[str], read: list[str], out: list[str]) -> str:
    """The channels split into groups by a view, and joined again."""
    split = [x.shape[0], groups, f.shape[1], *x.shape[2:]]
    filters = [groups, f.shape[0] / groups, *f.shape[1:]]
    joined = ["b", "o", *h]
    sizes = [expression_text(x.shape[0]), expression_text(f.shape[0]), *(i.split(":")[1] for i in out)]
    return (
        f"G[b, g, o, {listed(out)}] = sum(c, {listed(p)}, X.reshape({_sizes(split)})[b, g, c, {listed(read)}]"
        f"*F.reshape({_sizes(filters)})[g, o, c, {listed(p)}])\n"
        f"Y[{listed(joined)}] = G.reshape({', '.join(sizes)})[{listed(joined)}]"
    )


def _sizes(sizes: Sequence[Any]) -> str:
    return ", ".join(expression_text(sp.sympify(n)) for n in sizes)


def _pool(kind: str) -> Callable[..., str]:
    def formula(x: Operand, size: Sizes, stride: Sizes | None, padding: Sizes) -> str:
        space = len(x.shape) - 2
        if space < 1:
            raise ShapeError(f"pooling needs (batch, channels, space...), got {tuple(x.shape)}")
        windows = _each(size, space, "size", 1)
        steps = windows if stride is None else _each(stride, space, "stride", 1)
        pads = _each(padding, space, "padding", 0)
        if any(2 * a > k for a, k in zip(pads, windows, strict=True)):
            raise ShapeError(f"padding {padding} is more than half of the window {size}")
        h, p = names("h", space), names("p", space)
        counts = [
            _positions(n + 2 * a, sp.Integer(k), s)
            for n, k, s, a in zip(x.shape[2:], windows, steps, pads, strict=True)
        ]
        out = [f"{i}:{expression_text(n)}" for i, n in zip(h, counts, strict=True)]
        bound = ", ".join(f"({j}, {k})" for j, k in zip(p, windows, strict=True))
        if kind == "max":
            read = listed([f"{s}*{i} + {j}" for s, i, j in zip(steps, h, p, strict=True)])
            return _padded(x, pads) + f"Y[b, c, {listed(out)}] = max({bound}, P[b, c, {read}])"
        read = listed([f"{s}*{i} + {j} - {a}" for s, i, j, a in zip(steps, h, p, pads, strict=True)])
        count = "*".join(map(str, windows))
        return f"Y[b, c, {listed(out)}] = sum({bound}, X[b, c, {read}])/({count})"

    formula.__doc__ = f"Y[b, c, h] = {'max' if kind == 'max' else 'mean'} over p of X[b, c, stride*h + p - padding]"
    return formula


def _padded(x: Operand, pads: Sequence[int]) -> str:
    """P: X with the border that never wins a maximum."""
    q = names("q", len(pads))
    if not any(pads):
        return f"P[b, c, {listed(q)}] = X[b, c, {listed(q)}]\n"
    sizes = [f"{i}:{expression_text(n + 2 * a)}" for i, n, a in zip(q, x.shape[2:], pads, strict=True)]
    read = [f"{i} - {a}" for i, a in zip(q, pads, strict=True)]
    inside = " and ".join(
        f"{i} >= {a} and {i} < {expression_text(n + a)}" for i, n, a in zip(q, x.shape[2:], pads, strict=True)
    )
    return f"P[b, c, {listed(sizes)}] = where({inside}, X[b, c, {listed(read)}], -inf)\n"


def _reference_conv(x: Any, f: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    space = x.ndim - 2
    s, a, d = (np.broadcast_to(v, space) for v in (stride, padding, dilation))
    x = np.pad(x, [(0, 0), (0, 0), *((k, k) for k in a)])
    out = [(n - d[k] * (f.shape[2 + k] - 1) - 1) // s[k] + 1 for k, n in enumerate(x.shape[2:])]
    y: Any = np.zeros((x.shape[0], f.shape[0], *out))
    per, filters = f.shape[1], f.shape[0] // groups
    for o in range(f.shape[0]):
        block = x[:, (o // filters) * per : (o // filters + 1) * per]
        for place in itertools.product(*map(range, out)):
            for tap in itertools.product(*map(range, f.shape[2:])):
                at = tuple(s[k] * place[k] + d[k] * tap[k] for k in range(space))
                y[(slice(None), o, *place)] += block[(..., *at)] @ f[(o, slice(None), *tap)]
    return y


def _reference_pool(reduce: Any, fill: float) -> Callable[..., Any]:
    def pool(x: Any, size: Any, stride: Any = None, padding: Any = 0) -> Any:
        space = x.ndim - 2
        k, a = np.broadcast_to(size, space), np.broadcast_to(padding, space)
        s = k if stride is None else np.broadcast_to(stride, space)
        x = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in a)], constant_values=fill)
        axes = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(x, tuple(k), axes)
        windows = windows[(slice(None), slice(None), *(slice(None, None, n) for n in s))]
        return reduce(windows, axis=tuple(range(-space, 0)))

    return pool


_CONV = {
    "stride": Attribute("ints or int", 1),
    "padding": Attribute("ints or int", 0),
    "dilation": Attribute("ints or int", 1),
    "groups": Attribute("int", 1),
}
_POOL = {
    "size": Attribute("ints or int"),
    "stride": Attribute("optional ints or int", None),
    "padding": Attribute("ints or int", 0),
}


def _conv_cases(*rows: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]) -> list[Case]:
    return [Case(lambda x, f, a=attrs: _reference_conv(x, f, **a), (x, f), attrs) for x, f, attrs in rows]


def _pool_cases(reference: Callable[..., Any]) -> list[Case]:
    rows: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
        ((2, 2, 4, 4), {"size": 2}),
        ((1, 2, 5, 6), {"size": 3, "stride": 2}),
        ((1, 1, 5), {"size": 3, "stride": 1, "padding": 1}),
        ((1, 1, 4, 3), {"size": (2, 1), "stride": (1, 2), "padding": (1, 0)}),
    )
    return [Case(lambda x, a=attrs: reference(x, **a), (shape,), attrs) for shape, attrs in rows]


register(
    "conv1d",
    _conv(1),
    operands=["X", "F"],
    attributes=_CONV,
    cases=_conv_cases(
        ((2, 2, 6), (3, 2, 3), {}),
        ((1, 2, 7), (2, 2, 2), {"stride": 2, "padding": 1, "dilation": 2}),
        ((1, 4, 5), (4, 2, 3), {"groups": 2, "padding": 1}),
    ),
)
register(
    "conv2d",
    _conv(2),
    operands=["X", "F"],
    attributes=_CONV,
    cases=_conv_cases(
        ((2, 2, 4, 5), (3, 2, 3, 2), {}),
        ((1, 2, 5, 5), (2, 2, 3, 3), {"stride": 2, "padding": 1}),
        ((1, 1, 6, 5), (1, 1, 2, 3), {"stride": (2, 1), "padding": (0, 2), "dilation": (2, 1)}),
        ((1, 4, 4, 4), (2, 2, 3, 3), {"groups": 2, "stride": 3, "padding": 1}),
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ),
)
register(
    "max_pool",
    _pool("max"),
    operands=["X"],
    attributes=_POOL,
    cases=_pool_cases(_reference_pool(np.max, -np.inf)),
)
register(
    "avg_pool",
    _pool("sum"),
    operands=["X"],
    attributes=_POOL,
    cases=_pool_cases(_reference_pool(np.mean, 0.0)),
)
