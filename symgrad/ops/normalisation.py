"""Softmax and the normalisations: small programs of sums, maxima and elementwise bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand
from symgrad.ops.reduction import Axis, axes_text
from symgrad.ops.registry import Attribute, Case, register


def exponentials(t: Axis, x: str = "X") -> str:
    """M the maximum, E the exponentials of the differences from it, S their sum."""
    return (
        f"M[{t.kept}] = {t.over('max', f'{x}[{t.full}]')}\n"
        f"E[{t.full}] = exp({x}[{t.full}] - M[{t.kept}])\n"
        f"S[{t.kept}] = {t.over('sum', f'E[{t.full}]')}\n"
    )


def _softmax(x: Operand, axis: int | Sequence[int] | None) -> str:
    """M[i] = max(k, X[i, k]);  E[i, k] = exp(X[i, k] - M[i]);  Y[i, k] = E[i, k]/sum(l, E[i, l])"""
    t = axes_text(x, axis)
    return exponentials(t) + f"Y[{t.full}] = E[{t.full}]/S[{t.kept}]"


def _log_softmax(x: Operand, axis: int | Sequence[int] | None) -> str:
    """M[i] = max(k, X[i, k]);  Y[i, k] = X[i, k] - M[i] - log(sum(l, exp(X[i, l] - M[i])))"""
    t = axes_text(x, axis)
    return exponentials(t) + f"Y[{t.full}] = X[{t.full}] - M[{t.kept}] - log(S[{t.kept}])"


def _tail(x: Operand, *vectors: Operand) -> int:
    """How many trailing axes the gain and bias span. Raises ShapeError if they are not x's."""
    for v in vectors:
        if not v.shape or tuple(v.shape) != tuple(x.shape[len(x.shape) - len(v.shape) :]):
            raise ShapeError(
                f"{v.name} has shape {tuple(v.shape)}, which are not the last axes of X of shape {tuple(x.shape)}",
                hint="normalisation runs over the axes that the gain has",
            )
    return len(vectors[0].shape)


def _layer_norm(x: Operand, gain: Operand, bias: Operand, eps: float) -> str:
    """D = X - mean(X);  R = 1/sqrt(mean(D**2) + eps);  Y = D*R*G + B, over the axes of G"""
    rank = _tail(x, gain, bias)
    t = axes_text(x, list(range(-rank, 0)))
    tail = t.bound
    return (
        f"M[{t.kept}] = sum({t.bound}, X[{t.full}])/({t.count})\n"
        f"D[{t.full}] = X[{t.full}] - M[{t.kept}]\n"
        f"V[{t.kept}] = sum({t.bound}, D[{t.full}]**2)/({t.count})\n"
        f"R[{t.kept}] = rsqrt(V[{t.kept}] + {eps!r})\n"
        f"H[{t.full}] = D[{t.full}]*R[{t.kept}]\n"
        f"Y[{t.full}] = H[{t.full}]*G[{tail}] + B[{tail}]"
    )


def _rms_norm(x: Operand, gain: Operand, eps: float) -> str:
    """R = 1/sqrt(mean(X**2) + eps);  Y = X*R*G, over the axes of G"""
    t = axes_text(x, list(range(-_tail(x, gain), 0)))
    return (
        f"V[{t.kept}] = sum({t.bound}, X[{t.full}]**2)/({t.count})\n"
        f"R[{t.kept}] = rsqrt(V[{t.kept}] + {eps!r})\n"
        f"Y[{t.full}] = X[{t.full}]*R[{t.kept}]*G[{t.bound}]"
    )


def _reference_softmax(x: Any, axis: Any = -1) -> Any:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _reference_log_softmax(x: Any, axis: Any = -1) -> Any:
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.logaddexp.reduce(shifted, axis=axis, keepdims=True)


def _reference_layer_norm(x: Any, g: Any, b: Any) -> Any:
    axes = tuple(range(-g.ndim, 0))
    centred = x - x.mean(axes, keepdims=True)
    return centred / np.sqrt(x.var(axes, keepdims=True) + 1e-5) * g + b


def _reference_rms_norm(x: Any, g: Any) -> Any:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * g


_FAR = np.array([[1e4, -1e4, 9999.0, 0.0], [-1e4, -1e4, -1e4 - 1, -1e4]])

for _name, _formula, _reference in (
    ("softmax", _softmax, _reference_softmax),
    ("log_softmax", _log_softmax, _reference_log_softmax),
):
    register(
        _name,
        _formula,
        operands=["X"],
        attributes={"axis": Attribute("axes", -1)},
        cases=[
            Case(_reference, ((2, 3),)),
            Case(_reference, ((1, 1),)),
            Case(_reference, (_FAR,), differentiable=()),
            Case(lambda x, f=_reference: f(x, 0), ((3, 2, 2),), {"axis": 0}),
        ],
    )
_EPS = {"eps": Attribute("float", 1e-5)}
register(
    "layer_norm",
    _layer_norm,
    operands=["X", "G", "B"],
    attributes=_EPS,
    cases=[
        Case(_reference_layer_norm, ((2, 5), (5,), (5,))),
        Case(_reference_layer_norm, ((2, 3, 2), (3, 2), (3, 2))),
    ],
)
register(
    "rms_norm",
    _rms_norm,
    operands=["X", "G"],
    attributes=_EPS,
    cases=[Case(_reference_rms_norm, ((2, 5), (5,)))],
)
