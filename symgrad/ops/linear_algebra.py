"""Inverses, determinants, factors and spectra: functions of a matrix that the equations in `kernels` define."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand
from symgrad.index.text import expression_text
from symgrad.ops.registry import Attribute, Case, register


def require_matrix(op: str, x: Operand) -> None:
    """Raise ShapeError unless x is a matrix."""
    if len(x.shape) != 2:
        raise ShapeError(f"{op} takes a matrix, X has shape {tuple(x.shape)}", hint="a matrix has two axes")


def _of_symmetric(call: str) -> Callable[[Operand], str]:
    """The kernel of the symmetric part, so that the gradient is symmetric too."""

    def formula(x: Operand) -> str:
        return f"S[i, j] = (X[i, j] + X[j, i])/2\nY = {call}(S)"

    formula.__doc__ = f"S[i, j] = (X[i, j] + X[j, i])/2;  Y = {call}(S)"
    return formula


def _matrix_power(x: Operand, exponent: int) -> str:
    """Y = X @ X @ ... @ X by repeated squaring; a negative exponent takes the inverse first"""
    require_matrix("matrix_power", x)
    if x.shape[0] != x.shape[1]:
        raise ShapeError(f"matrix_power takes a square matrix, X has shape {tuple(x.shape)}")
    if exponent in (0, 1):
        n = expression_text(x.shape[0])
        return f"Y[i:{n}, j:{n}] = where(i == j, 1, 0)" if exponent == 0 else "Y[i, j] = X[i, j]"
    lines = [("P0", " = inv(X)")] if exponent < 0 else []
    square, result = "P0" if exponent < 0 else "X", ""
    for bit, digit in enumerate(reversed(f"{abs(exponent):b}")):
        if bit:
            lines.append((f"P{bit}", _product(square, square)))
            square = f"P{bit}"
        if digit == "1" and result:
            lines.append((f"Q{bit}", _product(result, square)))
        if digit == "1":
            result = f"Q{bit}" if result else square
    lines[-1] = ("Y", lines[-1][1])
    return "\n".join(target + right for target, right in lines)


def _product(a: str, b: str) -> str:
    return f"[i, j] = sum(k, {a}[i, k]*{b}[k, j])"


def _by_rows(op: str, x: Operand, rank: str) -> bool:
    """Whether the rows of x are the independent ones, not its columns: as `rank` says, or by the sizes."""
    require_matrix(op, x)
    rows, columns = x.shape
    return rank == "rows" or (rank == "auto" and bool((rows - columns).is_negative))


def _pinv(x: Operand, rank: str) -> str:
    """G = XᵀX;  Y = solve(G, Xᵀ); where the rows are independent, G = X Xᵀ and Y = solve(G, X)ᵀ

    `rank` says whether the columns or the rows of X are independent; "auto" goes by the sizes, and takes the columns
    where they do not tell.
    """
    if _by_rows("pinv", x, rank):
        return "G[i, j] = sum(k, X[i, k]*X[j, k])\nS = solve(G, X)\nY[i, j] = S[j, i]"
    return "G[i, j] = sum(k, X[k, i]*X[k, j])\nY = solve(G, X.T)"


def _nuclear(x: Operand, rank: str) -> str:
    """Y = nuclear(X), the sum of the singular values of a matrix of full rank; `rank` is that of pinv"""
    return "Y = nuclear(X.T)" if _by_rows("nuclear", x, rank) else "Y = nuclear(X)"


_M = np.array([[2.0, -0.5, 0.3], [0.7, -1.5, 0.4], [-0.2, 0.6, 1.1]])
_SPD = np.array([[2.0, 0.5, -0.3], [0.5, 1.5, 0.2], [-0.3, 0.2, 1.0]])
_TALL = np.array([[1.0, 0.3], [-0.4, 1.2], [0.8, -0.5]])
_RIGHT = np.array([[1.0, -2.0], [0.5, 0.3], [-1.2, 0.8]])
_ONE = np.array([[2.5]])
_LARGE = 1e35 * (2 * np.eye(9) + 0.3 * np.sin(np.arange(81.0)).reshape(9, 9))  # its determinant is no double


def _symmetric(x: Any) -> Any:
    return (x + x.T) / 2


for _name, _reference, _more in (
    ("inv", np.linalg.inv, ()),
    ("det", np.linalg.det, (_M[[1, 0, 2]],)),
    ("logdet", lambda x: np.linalg.slogdet(x)[1], (_M[[1, 0, 2]], _LARGE)),
):
    register(_name, f"Y = {_name}(X)", cases=[Case(_reference, (x,)) for x in (_M, _SPD, _ONE, *_more)])
register(
    "solve",
    "Y = solve(A, B)",
    cases=[
        Case(np.linalg.solve, (a, b))
        for a, b in ((_M, _RIGHT), (_M, _RIGHT[:, 0]), (_SPD, _M), (_ONE, np.array([[3.0, -1.0]])))
    ],
)
register(
    "cholesky",
    _of_symmetric("cholesky"),
    operands=["X"],
    cases=[Case(lambda x: np.linalg.cholesky(_symmetric(x)), (x,)) for x in (_SPD, _SPD + _M - _M.T, _ONE)],
)
register(
    "eigvalsh",
    _of_symmetric("eigenvalues"),
    operands=["X"],
    cases=[Case(lambda x: np.linalg.eigvalsh(_symmetric(x)), (x,)) for x in (_SPD, _M, _ONE)],
)
register(
    "matrix_power",
    _matrix_power,
    operands=["X"],
    attributes={"exponent": Attribute("int")},
    cases=[
        Case(lambda x, k=k: np.linalg.matrix_power(x, k), (x,), {"exponent": k})
        for x, k in ((_M, 3), (_M, 6), (_M, 1), (_M, -1), (_M, -2), (_SPD, 4), (_ONE, -3))
    ],
)
_RANK = {"rank": Attribute("auto|columns|rows", "auto")}
for _name, _formula, _reference in (
    ("pinv", _pinv, np.linalg.pinv),
    ("nuclear", _nuclear, lambda x: np.linalg.norm(x, "nuc")),
):
    register(
        _name,
        _formula,
        operands=["X"],
        attributes=_RANK,
        cases=[
            *(Case(_reference, (x,)) for x in (_TALL, _TALL.T, _M, _ONE)),
            Case(_reference, (_M,), {"rank": "rows"}),
        ],
    )
