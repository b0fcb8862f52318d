"""Traces and norms of vectors and matrices, and matrices made of other ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand
from symgrad.index.text import expression_text
from symgrad.ops.linear_algebra import require_matrix
from symgrad.ops.registry import Attribute, Case, register


def _vector(op: str, x: Operand, hint: str) -> None:
    """Raise ShapeError unless x is a vector."""
    if len(x.shape) != 1:
        raise ShapeError(f"{op} takes a vector, X has shape {tuple(x.shape)}", hint=hint)


def _norm(op: str, rank: int, body: str) -> Callable[[Operand], str]:
    def formula(x: Operand) -> str:
        if rank == 1:
            _vector(op, x, "normfro and nuclear are norms of matrices")
        else:
            require_matrix(op, x)
        return f"Y = {body}"

    formula.__doc__ = f"Y = {body}"
    return formula


def _pnorm(x: Operand, p: float) -> str:
    """Y = sum(i, abs(X[i])**p)**(1/p), for p of 1 or more"""
    _vector("pnorm", x, "normfro and nuclear are norms of matrices")
    if p < 1:
        raise ShapeError(f"pnorm needs a p of 1 or more, got {p}", hint="norminf is the limit for large p")
    return f"Y = sum(i, abs(X[i])**{p!r})**(1/{p!r})"


def _kron(a: Operand, b: Operand) -> str:
    """T[i, k, j, l] = A[i, j]*B[k, l];  Y = T in the shape (rows of both, columns of both)"""
    require_matrix("kron", a)
    require_matrix("kron", b)
    rows, columns = (expression_text(n * m) for n, m in zip(a.shape, b.shape, strict=True))
    return f"T[i, k, j, l] = A[i, j]*B[k, l]\nY[r, c] = T.reshape({rows}, {columns})[r, c]"


def _diag(x: Operand) -> str:
    """Y[i, j] = where(i == j, X[i], 0) of a vector; Y[i] = X[i, i] of a matrix"""
    if len(x.shape) == 2:
        return "Y[i] = X[i, i]"
    _vector("diag", x, "diag takes a vector or a matrix")
    return f"Y[i, j:{expression_text(x.shape[0])}] = where(i == j, X[i], 0)"


def _vec(x: Operand) -> str:
    """T[j, i] = X[i, j];  Y = T in one row: the columns of X one below the other"""
    require_matrix("vec", x)
    return f"T[j, i] = X[i, j]\nY[k] = T.reshape({expression_text(x.shape[0] * x.shape[1])})[k]"


def _triangle(sign: str) -> Callable[[Operand, int], str]:
    def formula(x: Operand, k: int) -> str:
        require_matrix("triu" if sign == ">=" else "tril", x)
        return f"Y[i, j] = where(j {sign} i + {k}, X[i, j], 0)"

    formula.__doc__ = f"Y[i, j] = where(j {sign} i + k, X[i, j], 0)"
    return formula


def _eye(n: int | str) -> str:
    """Y[i, j] = where(i == j, 1, 0)"""
    return f"Y[i:{n}, j:{n}] = where(i == j, 1, 0)"


register("trace", "Y = sum(i, X[i, i])", cases=[Case(np.trace, ((3, 3),)), Case(np.trace, ((1, 1),))])
_FAR = np.array([0.5, -3.0, 3.0, 0.0])
for _name, _rank, _body, _order in (
    ("norm1", 1, "sum(i, abs(X[i]))", 1),
    ("norm2", 1, "sqrt(sum(i, X[i]**2))", 2),
    ("norminf", 1, "max(i, abs(X[i]))", np.inf),
    ("normfro", 2, "sqrt(sum(i, j, X[i, j]**2))", "fro"),
):
    _shapes: tuple[Any, ...] = ((4,), (1,), _FAR) if _rank == 1 else ((3, 2), (1, 1))
    register(
        _name,
        _norm(_name, _rank, _body),
        operands=["X"],
        cases=[Case(lambda x, p=_order: np.linalg.norm(x, p), (x,)) for x in _shapes],
    )
register(
    "pnorm",
    _pnorm,
    operands=["X"],
    attributes={"p": Attribute("float")},
    cases=[
        Case(lambda x, p=p: np.sum(np.abs(x) ** p) ** (1 / p), (x,), {"p": p})
        for p, x in ((1.0, (4,)), (2.0, (4,)), (3.0, (4,)), (2.5, (3,)))
    ],
)
register("kron", _kron, operands=["A", "B"], cases=[Case(np.kron, s) for s in (((2, 3), (3, 2)), ((1, 2), (2, 1)))])
register("diag", _diag, operands=["X"], cases=[Case(np.diag, (s,)) for s in ((3,), (1,), (3, 3), (1, 1))])
for _name, _sign, _reference in (("triu", ">=", np.triu), ("tril", "<=", np.tril)):
    register(
        _name,
        _triangle(_sign),
        operands=["X"],
        attributes={"k": Attribute("int", 0)},
        cases=[Case(lambda x, f=_reference, k=k: f(x, k), ((3, 4),), {"k": k}) for k in (0, 1, -1, 7)],
    )
register("vec", _vec, operands=["X"], cases=[Case(lambda x: x.ravel("F"), (s,)) for s in ((2, 3), (1, 1))])
register("eye", _eye, operands=[], attributes={"n": Attribute("extent")}, cases=[Case(lambda: np.eye(3), (), {"n": 3})])
