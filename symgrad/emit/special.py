"""Functions that NumPy lacks, as they stand in emitted files: their source text is copied there."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _horner(x: Array, *coefficients: float) -> Array:
    """A polynomial, the highest power's coefficient first."""
    total = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        total *= x
        total += c
    return total


def _erf_small(x: Array) -> Array:
    """erf(x) for |x| <= 0.46875: Cody, Math. Comp. 23 (1969)."""
    q = x * x
    above = _horner(q, 1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2,
                    3.77485237685302021e2, 3.20937758913846947e3)  # fmt: skip
    below = _horner(q, 1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
                    2.84423683343917062e3)  # fmt: skip
    return np.asarray(x * above / below)


def _erfc_tail(y: Array) -> Array:
    """erfc(y) for y > 0.46875: Cody's two other ranges."""
    z = np.minimum(y, 4)
    above = _horner(z, 2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
                    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
                    1.23033935479799725e3)  # fmt: skip
    below = _horner(z, 1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
                    1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
                    1.23033935480374942e3)  # fmt: skip
    middle = above / below
    far = np.minimum(np.maximum(y, 4), 30)
    q = 1 / (far * far)
    above = _horner(q, 1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
                    1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4)  # fmt: skip
    below = _horner(q, 1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1,
                    6.05183413124413191e-2, 2.33520497626869185e-3)  # fmt: skip
    outer = (0.5641895835477563 - q * above / below) / far
    y = np.minimum(y, 30)
    coarse = np.trunc(y * 16) / 16  # exp(-y*y) without the rounding error of y*y
    scale = np.exp(-coarse * coarse) * np.exp(-(y - coarse) * (y + coarse))
    return np.asarray(scale * np.where(y <= 4, middle, outer))


def _erf(x: Array, out: Array | None = None) -> Array:
    """The error function, to a few units in the last place."""
    y = np.abs(x)
    small = y <= 0.46875
    result = np.where(small, _erf_small(np.where(small, x, 0)), np.sign(x) * (1 - _erfc_tail(np.maximum(y, 0.46875))))
    if out is None:
        return result
    out[...] = result
    return out


def _erfc(x: Array, out: Array | None = None) -> Array:
    """1 - erf(x), without cancellation for large x."""
    y = np.abs(x)
    tail = _erfc_tail(np.maximum(y, 0.46875))
    result = np.where(y <= 0.46875, 1 - _erf_small(np.where(y <= 0.46875, x, 0)), np.where(x < 0, 2 - tail, tail))
    if out is None:
        return result
    out[...] = result
    return out


def _sigmoid(x: Array) -> Array:
    """1/(1 + exp(-x)), for any x."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.maximum(e, x >= 0) / (1 + e))


def _softplus(x: Array) -> Array:
    """log(1 + exp(x)), for any x."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _lyapunov(h: Array, b: Array) -> Array:
    """The y with h @ y + y @ h = b, for a symmetric positive definite h."""
    w, v = np.linalg.eigh(h)
    return np.asarray(v @ ((v.T @ b @ v) / (w[:, None] + w)) @ v.T)


def _polar(a: Array) -> tuple[Array, Array]:
    """q and h with a = q @ h: columns of q orthonormal, h symmetric."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    return u @ vt, (vt.T * s) @ vt
