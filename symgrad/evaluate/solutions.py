"""Values of the tensors that equations define, in every number system: elimination and recurrences written out.

Nothing here is NumPy's linear algebra, which emitted programs call. Eigenvalues alone are taken from a library:
LAPACK's in float64, mpmath's in 50 digits; complex steps cannot go through them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from symgrad.errors import VerifyError
from symgrad.evaluate.numbers import DIGITS, Array, Numbers
from symgrad.index.solution import Solution

Value = Callable[..., Array]

_NOT_ANALYTIC = ("eigenvalues", "eigenvectors", "polar", "polar_root", "nuclear")


def solution_value(solution: Solution, operands: Sequence[Array], system: Numbers) -> Array:
    """One unknown of a kernel, `operands` being those of the equation.

    Raises:
        VerifyError: a matrix is singular or not positive definite, or there is no value in this number system.
    """
    if system.name == "complex128" and solution.call in _NOT_ANALYTIC:
        raise VerifyError(f"{solution.call} has no value in complex128")
    matrices = [operands[r.operand].T if r.transposed else operands[r.operand] for r in solution.reads]
    return np.asarray(_VALUES[solution.call](system, *matrices))


def is_analytic(solution: Solution) -> bool:
    """Whether a complex step can go through it."""
    return solution.call not in _NOT_ANALYTIC


def _eliminated(system: Numbers, a: Array, b: Array) -> tuple[Array, Array, int]:
    """a and b after elimination with row exchanges, and the sign of the permutation."""
    a, b, sign = a.copy(), b.copy(), 1
    for k in range(len(a)):
        pivot = k + int(np.argmax(np.abs(system.real(a[k:, k]))))
        if pivot != k:
            a[[k, pivot]], b[[k, pivot]], sign = a[[pivot, k]], b[[pivot, k]], -sign
        if a[k, k] == 0:
            continue
        factors = a[k + 1 :, k] / a[k, k]
        a[k + 1 :] = a[k + 1 :] - np.multiply.outer(factors, a[k])
        b[k + 1 :] = b[k + 1 :] - np.multiply.outer(factors, b[k])
    return a, b, sign


def _solve(system: Numbers, a: Array, b: Array) -> Array:
    upper, x, _ = _eliminated(system, a, b)
    for k in reversed(range(len(x))):
        if upper[k, k] == 0:
            raise VerifyError("the matrix of a linear equation is singular at this point", hint="pass other values")
        x[k] = (x[k] - upper[k, k + 1 :].dot(x[k + 1 :])) / upper[k, k]
    return x


def _inv(system: Numbers, a: Array) -> Array:
    return _solve(system, a, system.lift(np.eye(len(a))))


def _det(system: Numbers, a: Array) -> Array:
    upper, _, sign = _eliminated(system, a, system.lift(np.zeros((len(a), 0))))
    return np.asarray(np.multiply.reduce(np.diag(upper), initial=sign))


def _logdet(system: Numbers, a: Array) -> Array:
    """The sum of the logarithms of the pivots, which are real and not 0 up to a complex step."""
    upper, _, _ = _eliminated(system, a, system.lift(np.zeros((len(a), 0))))
    pivots = np.diag(upper)
    positive = np.where(system.real(pivots) < 0, -pivots, pivots)
    return np.asarray(np.add.reduce(system.functions[sp.log](positive), initial=0))


def _cholesky(system: Numbers, a: Array) -> Array:
    factor = system.lift(np.zeros(a.shape))
    half = system.lift(np.asarray(0.5))
    for j in range(len(a)):
        rest = a[j:, j] - factor[j:, :j].dot(factor[j, :j])
        if not system.real(rest)[0] > 0:
            raise VerifyError("the matrix of a Cholesky factor is not positive definite", hint="pass other values")
        factor[j:, j] = rest / system.power(rest[0], half)
    return factor


def _lyapunov(system: Numbers, h: Array, b: Array) -> Array:
    """H Y + Y H = B as one linear equation in the elements of Y."""
    one = system.lift(np.eye(len(h)))
    whole = np.kron(h, one) + np.kron(one, h.T)
    return _solve(system, whole, b.reshape(-1)).reshape(b.shape)


def _eigen(system: Numbers, a: Array) -> tuple[Array, Array]:
    """Eigenvalues in ascending order, and the eigenvectors as columns."""
    if system.name != "mp":
        w, v = np.linalg.eigh(a)
        return w, v
    if not a.size:
        return np.array([], dtype=object), a
    w, v = _fifty_digits().eigsy(_fifty_digits().matrix(a.tolist()))
    order = sorted(range(len(a)), key=lambda k: w[k])
    return _array(w)[order, 0], _array(v)[:, order]


@cache
def _fifty_digits() -> Any:
    mp = mpmath.mp.clone()
    mp.dps = DIGITS
    return mp


def _array(matrix: Any) -> Array:
    return np.array(matrix.tolist(), dtype=object)


def _svd(system: Numbers, a: Array) -> tuple[Array, Array, Array]:
    """U, s and Vᵀ of A = U diag(s) Vᵀ, with as many columns and rows as there are singular values."""
    if system.name != "mp":
        u, s, vt = np.linalg.svd(a, full_matrices=False)
        return u, s, vt
    if not a.size:
        return a, np.array([], dtype=object), a.T
    u, s, vt = _fifty_digits().svd_r(_fifty_digits().matrix(a.tolist()))
    return _array(u), _array(s)[:, 0], _array(vt)


def _polar(system: Numbers, a: Array) -> tuple[Array, Array]:
    """Q and H of A = Q H."""
    u, s, vt = _svd(system, a)
    return u.dot(vt), (vt.T * s).dot(vt)


_VALUES: dict[str, Value] = {
    "inv": _inv,
    "solve": _solve,
    "det": _det,
    "logdet": _logdet,
    "cholesky": _cholesky,
    "lyapunov": _lyapunov,
    "eigenvalues": lambda system, a: _eigen(system, a)[0],
    "eigenvectors": lambda system, a: _eigen(system, a)[1],
    "polar": lambda system, a: _polar(system, a)[0],
    "polar_root": lambda system, a: _polar(system, a)[1],
    "nuclear": lambda system, a: np.add.reduce(_svd(system, a)[1], initial=0),
}
