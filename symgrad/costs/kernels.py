"""Operations of tensors that LAPACK computes: the leading terms, as Golub and Van Loan (2013) give them.

A table, for what a factorisation takes is in no equation that its result satisfies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy as sp
from sympy import Expr, Integer, Rational

from symgrad.equations import Equation, Shape, System
from symgrad.errors import EmitError
from symgrad.index.solution import Solution

Formula = Callable[[Expr, Expr, Expr], Expr]

_LU = Rational(2, 3)
_EIGENVECTORS = 9

# call -> operations for a first operand of m rows and n columns, and k columns in the second one
OPERATIONS: dict[str, Formula] = {
    "inv": lambda m, n, k: 2 * n**3,
    "solve": lambda m, n, k: _LU * n**3 + 2 * n**2 * k,
    "det": lambda m, n, k: _LU * n**3,
    "logdet": lambda m, n, k: _LU * n**3,
    "cholesky": lambda m, n, k: n**3 / 3,
    "eigenvalues": lambda m, n, k: Rational(4, 3) * n**3,
    "eigenvectors": lambda m, n, k: _EIGENVECTORS * n**3,
    "lyapunov": lambda m, n, k: (_EIGENVECTORS + 8) * n**3,  # eigenvectors, and four products with them
    "nuclear": lambda m, n, k: 4 * m * n**2 - Rational(4, 3) * n**3,  # singular values alone
    "polar": lambda m, n, k: _svd(m, n) + 2 * m * n**2,  # U Vᵀ
    "polar_root": lambda m, n, k: _svd(m, n) + 2 * n**3,  # V S Vᵀ
}


def _svd(m: Expr, n: Expr) -> Expr:
    """U of n columns, the singular values and V, for m of n or more."""
    return 14 * m * n**2 + 8 * n**3


def solution_operations(e: Equation, s: Solution, system: System) -> Expr:
    """The operations of an equation whose definition is the solution s. Raises EmitError for an unknown call."""
    if s.call not in OPERATIONS:
        raise EmitError(
            f"nothing says what {s.call} costs", node=e.name, hint="symgrad.costs.kernels.OPERATIONS lists the calls"
        )
    shapes = [_turned(system.shape(e.operands[read.operand]), read.transposed) for read in s.reads]
    return sp.expand(OPERATIONS[s.call](*_sizes(shapes)))


def _turned(shape: Shape, transposed: bool) -> Shape:
    return tuple(reversed(shape)) if transposed else shape


def _sizes(shapes: Sequence[Shape]) -> tuple[Expr, Expr, Expr]:
    (rows, columns), *others = shapes
    return rows, columns, others[0][1] if others and len(others[0]) > 1 else Integer(1)
