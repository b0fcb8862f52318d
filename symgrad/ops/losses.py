"""Losses: a value for each sample, then their mean, their sum, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand, broadcast_shapes
from symgrad.ops.normalisation import exponentials
from symgrad.ops.reduction import axes_text
from symgrad.ops.registry import Attribute, Case, axis_of, listed, names, register

REDUCTION = {"reduction": Attribute("mean|sum|none", "mean")}


def reduced(each: str, rank: int, reduction: str) -> str:
    """A program that reduces its part C, defined by the lines `each` with `rank` axes, to the loss Y."""
    index = names("i", rank)
    if reduction == "none" or not rank:
        return f"{each}\nY[{listed(index)}] = C[{listed(index)}]"
    total = f"sum({listed(index)}, C[{listed(index)}])"
    count = "*".join(f"len({i})" for i in index)
    return f"{each}\nY = {total}" + (f"/({count})" if reduction == "mean" else "")


def _elementwise(body: str) -> Callable[..., str]:
    def formula(p: Operand, t: Operand, reduction: str, **attrs: float) -> str:
        rank = len(broadcast_shapes([p.shape, t.shape]))
        text = body.format(**{name: repr(value) for name, value in attrs.items()})
        return reduced(f"C[...] = {text}", rank, reduction)

    formula.__doc__ = f"Y = mean over all of {body}"
    return formula


def _cross_entropy(z: Operand, t: Operand, axis: int, reduction: str) -> str:
    """Y = mean over i of logsumexp(k, Z[i, k]) - Z[i, T[i]]; with soft targets, of -sum(k, T[i, k]*log softmax)"""
    a = axis_of(axis, len(z.shape))
    x = axes_text(z, a)
    index = names("i", len(z.shape))
    rank = len(index) - 1
    if t.integral and len(t.shape) == rank:
        picked = listed([f"T[{x.kept}]" if k == a else i for k, i in enumerate(index)])
        each = f"C[{x.kept}] = log(S[{x.kept}]) + M[{x.kept}] - Z[{picked}]"
    elif tuple(t.shape) == tuple(z.shape):
        each = (
            f"L[{x.full}] = Z[{x.full}] - M[{x.kept}] - log(S[{x.kept}])\n"
            f"C[{x.kept}] = -sum({x.bound}, T[{x.full}]*L[{x.full}])"
        )
    else:
        raise ShapeError(
            f"logits of shape {tuple(z.shape)} do not fit targets of shape {tuple(t.shape)}",
            hint="targets are int64 labels without the class axis, or probabilities of the logits' shape",
        )
    return reduced(exponentials(x, "Z") + each, rank, reduction)


def _kl_divergence(p: Operand, q: Operand, axis: int, reduction: str) -> str:
    """Y = mean over i of sum(k, P[i, k]*(log(P[i, k]) - log(Q[i, k]))), where 0 log 0 is 0"""
    if tuple(p.shape) != tuple(q.shape):
        raise ShapeError(f"P of shape {tuple(p.shape)} and Q of shape {tuple(q.shape)} differ")
    t = axes_text(p, axis_of(axis, len(p.shape)))
    body = f"where(P[{t.full}] > 0, P[{t.full}]*(log(P[{t.full}]) - log(Q[{t.full}])), 0)"
    return reduced(f"C[{t.kept}] = sum({t.bound}, {body})", len(p.shape) - 1, reduction)


def _means(reference: Callable[..., Any], *operands: Any, **attrs: Any) -> list[Case]:
    rows = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}
    return [Case(lambda *x, f=f: f(reference(*x)), operands, {**attrs, "reduction": name}) for name, f in rows.items()]


def _reference_huber(p: Any, t: Any, delta: float = 1.0) -> Any:
    d = np.abs(p - t)
    return np.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


def _labels(z: Any, t: Any) -> Any:
    return np.logaddexp.reduce(z, axis=-1) - np.take_along_axis(z, t[..., None], -1)[..., 0]


def _soft(z: Any, t: Any) -> Any:
    return -(t * (z - np.logaddexp.reduce(z, axis=-1, keepdims=True))).sum(-1)


_T = np.array([2, 0, 1, 1])
_P = np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
_Q = np.array([[0.1, 0.4, 0.5], [0.3, 0.3, 0.4]])
_SIGNS = np.array([1.0, -1.0, 1.0, -1.0])
_LOGITS = np.array([-800.0, 0.0, 800.0, 1.5])

register(
    "mse",
    _elementwise("(P[...] - T[...])**2"),
    operands=["P", "T"],
    attributes=REDUCTION,
    cases=[
        *_means(lambda p, t: (p - t) ** 2, (2, 3), (2, 3)),
        *_means(lambda p, t: (p - t) ** 2, (2, 3), (3,)),
    ],
)
register(
    "mae",
    _elementwise("abs(P[...] - T[...])"),
    operands=["P", "T"],
    attributes=REDUCTION,
    cases=_means(lambda p, t: np.abs(p - t), (2, 3), (2, 3)),
)
register(
    "huber",
    _elementwise(
        "where(abs(P[...] - T[...]) <= {delta}, (P[...] - T[...])**2/2, {delta}*(abs(P[...] - T[...]) - {delta}/2))"
    ),
    operands=["P", "T"],
    attributes=REDUCTION | {"delta": Attribute("float", 1.0)},
    cases=[
        *_means(_reference_huber, (2, 3), (2, 3)),
        *_means(lambda p, t: _reference_huber(p, t, 0.5), (2, 3), (2, 3), delta=0.5),
    ],
)
register(
    "hinge",
    _elementwise("where(1 - T[...]*P[...] > 0, 1 - T[...]*P[...], 0)"),
    operands=["P", "T"],
    attributes=REDUCTION,
    cases=_means(lambda p, t: np.maximum(0, 1 - t * p), (4,), _SIGNS),
)
register(
    "binary_cross_entropy_with_logits",
    _elementwise("T[...]*softplus(-P[...]) + (1 - T[...])*softplus(P[...])"),
    operands=["P", "T"],
    attributes=REDUCTION,
    cases=[
        *_means(lambda z, t: np.logaddexp(0, z) - t * z, (4,), np.array([0.0, 1.0, 0.25, 1.0])),
        *_means(lambda z, t: np.logaddexp(0, z) - t * z, _LOGITS, np.array([0.0, 1.0, 1.0, 0.0])),
    ],
)
register(
    "cross_entropy",
    _cross_entropy,
    operands=["Z", "T"],
    attributes=REDUCTION | {"axis": Attribute("int", -1)},
    cases=[
        *_means(_labels, (4, 3), _T),
        *_means(_labels, (2, 4, 3), np.stack([_T, _T[::-1]])),
        *_means(_soft, (2, 3), _P),
        Case(lambda z, t: _labels(z.T, t).mean(), ((3, 4), _T), {"axis": 0}),
    ],
)
register(
    "kl_divergence",
    _kl_divergence,
    operands=["P", "Q"],
    attributes=REDUCTION | {"axis": Attribute("int", -1)},
    cases=_means(lambda p, q: (p * np.log(p / q)).sum(-1), _P, _Q),
)
