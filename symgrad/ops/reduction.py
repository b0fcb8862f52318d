"""Reductions over any axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand
from symgrad.ops.registry import Attribute, Case, axis_of, listed, names, register

Axes = int | Sequence[int] | None


@dataclass(frozen=True)
class Axis:
    """Index text for a reduction: of the operand, of the result, and the indices that are bound.

    `kept` indexes a part of the program that has no axis for the bound indices.
    """

    full: str
    kept: str
    out: str
    bound: str
    count: str

    def over(self, kind: str, body: str) -> str:
        """`kind` over the bound indices; the body itself where there are none."""
        return f"{kind}({self.bound}, {body})" if self.bound else body


def axes_text(x: Operand, axis: Axes, keepdims: bool = False) -> Axis:
    """The index texts for reducing x over `axis` (None: all). Raises ShapeError for axes that do not exist."""
    rank = len(x.shape)
    given = range(rank) if axis is None else [axis] if isinstance(axis, int) else axis
    reduced = sorted({axis_of(a, rank) for a in given})
    if axis is not None and len(reduced) != len(list(given)):
        raise ShapeError(f"axis {tuple(given)} names an axis twice")
    full = names("i", rank)
    bound = [full[a] for a in reduced]
    kept = [i for i in full if i not in bound]
    out = [f"{i}_:1" if i in bound else i for i in full] if keepdims else kept
    count = "*".join(f"len({i})" for i in bound) or "1"
    return Axis(listed(full), listed(kept), listed(out), ", ".join(bound), count)


def _reduction(kind: str) -> Callable[..., str]:
    def formula(x: Operand, axis: Axes, keepdims: bool) -> str:
        t = axes_text(x, axis, keepdims)
        return f"Y[{t.out}] = {t.over(kind, f'X[{t.full}]')}"

    formula.__doc__ = f"Y[i] = {kind}(k, X[i, k])"
    return formula


def _mean(x: Operand, axis: Axes, keepdims: bool) -> str:
    """Y[i] = sum(k, X[i, k])/len(k)"""
    t = axes_text(x, axis, keepdims)
    return f"Y[{t.out}] = {t.over('sum', f'X[{t.full}]')}/({t.count})"


def _var(x: Operand, axis: Axes, keepdims: bool, ddof: int) -> str:
    """M[i] = sum(k, X[i, k])/len(k);  Y[i] = sum(k, (X[i, k] - M[i])**2)/(len(k) - ddof)"""
    t = axes_text(x, axis, keepdims)
    return (
        f"M[{t.kept}] = {t.over('sum', f'X[{t.full}]')}/({t.count})\n"
        f"D[{t.full}] = X[{t.full}] - M[{t.kept}]\n"
        f"Y[{t.out}] = {t.over('sum', f'D[{t.full}]**2')}/({t.count} - {ddof})"
    )


def _logsumexp(x: Operand, axis: Axes, keepdims: bool) -> str:
    """M[i] = max(k, X[i, k]);  Y[i] = log(sum(k, exp(X[i, k] - M[i]))) + M[i]"""
    t = axes_text(x, axis, keepdims)
    return (
        f"M[{t.kept}] = {t.over('max', f'X[{t.full}]')}\n"
        f"E[{t.full}] = exp(X[{t.full}] - M[{t.kept}])\n"
        f"S[{t.kept}] = {t.over('sum', f'E[{t.full}]')}\n"
        f"Y[{t.out}] = log(S[{t.kept}]) + M[{t.kept}]"
    )


def _reference_logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    axes = tuple(range(x.ndim)) if axis is None else axis
    reduce: Any = np.logaddexp.reduce
    return reduce(x, axis=axes, keepdims=keepdims)


_AXES = {"axis": Attribute("axes", None), "keepdims": Attribute("bool", False)}
_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"axis": 1},
    {"axis": -1, "keepdims": True},
    {"axis": (0, 2)},
    {"axis": (0, 2), "keepdims": True},
)


def _cases(reference: Callable[..., Any], empty: bool = False) -> list[Case]:
    rows = [
        Case(lambda x, f=reference, a=attrs: f(x, **a), (shape,), attrs)
        for shape in ((2, 3, 4), (1, 1, 1))
        for attrs in _VARIANTS
    ]
    tie = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    rows.append(Case(lambda x, f=reference: f(x, axis=1), (tie,), {"axis": 1}, differentiable=()))
    if empty:
        rows.append(Case(lambda x, f=reference: f(x, axis=0), ((0, 3),), {"axis": 0}))
    return rows


register("sum", _reduction("sum"), operands=["X"], attributes=_AXES, cases=_cases(np.sum, empty=True))
register("max", _reduction("max"), operands=["X"], attributes=_AXES, cases=_cases(np.max))
register("min", _reduction("min"), operands=["X"], attributes=_AXES, cases=_cases(np.min))
register("prod", _reduction("prod"), operands=["X"], attributes=_AXES, cases=_cases(np.prod, empty=True))
register("mean", _mean, operands=["X"], attributes=_AXES, cases=_cases(np.mean))
register(
    "var",
    _var,
    operands=["X"],
    attributes=_AXES | {"ddof": Attribute("int", 0)},
    cases=[*_cases(np.var), Case(lambda x: np.var(x, axis=0, ddof=1), ((4, 2),), {"axis": 0, "ddof": 1})],
)
_FAR = np.array([[1e4, -1e4, 9999.0], [-1e4, -1e4, -1e4 - 1]])
register(
    "logsumexp",
    _logsumexp,
    operands=["X"],
    attributes=_AXES,
    cases=[*_cases(_reference_logsumexp), Case(lambda x: _reference_logsumexp(x, 1), (_FAR,), {"axis": 1})],
)
