"""The number systems that the reference evaluator computes in, each with its own scalar functions.

    float64      ordinary numbers
    complex128   for complex steps: choices (where, max, ...) look at the real part
    mp           mpmath numbers of 50 digits in object arrays

A function is total: outside its domain it returns nan or an infinity, because both branches of a `where` are
computed and only then one of them is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import sympy as sp
from sympy import Expr

from symgrad.errors import VerifyError
from symgrad.index.functions import erfc, expm1, log1p, sigmoid, softplus

Array = npt.NDArray[Any]
Unary = Callable[[Array], Array]

DIGITS = 50
SYSTEMS = ("float64", "complex128", "mp")


@dataclass(frozen=True)
class Numbers:
    """A number system.

    Attributes:
        lift: any array (integers, booleans, floats) as an array of this system.
        real: what comparisons look at.
        constant: a SymPy number in this system.
        power: base ** exponent, both arrays of this system.
        functions: SymPy class of one argument -> function of arrays.
    """

    name: str
    lift: Unary
    real: Unary
    constant: Callable[[Expr], Any]
    power: Callable[[Array, Array], Array]
    functions: Mapping[Any, Unary]


def numbers(name: str) -> Numbers:
    """The number system of that name. Raises VerifyError if there is none."""
    if name not in SYSTEMS:
        raise VerifyError(f"unknown number system {name!r}", hint=f"one of {', '.join(SYSTEMS)}")
    return _system(name)


@cache
def _system(name: str) -> Numbers:
    return {"float64": _float64, "complex128": _complex128, "mp": _precise}[name]()


def _sign(x: Array) -> Array:
    return np.asarray((x > 0).astype(np.int64) - (x < 0).astype(np.int64))


def _vectorised(function: Callable[[Any], Any], dtype: type = object) -> Unary:
    ufunc = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(ufunc(x), dtype=dtype)


_NUMPY: dict[Any, Unary] = {
    sp.exp: np.exp,
    sp.log: np.log,
    sp.sin: np.sin,
    sp.cos: np.cos,
    sp.tan: np.tan,
    sp.sinh: np.sinh,
    sp.cosh: np.cosh,
    sp.tanh: np.tanh,
    sp.atan: np.arctan,
    log1p: np.log1p,
    expm1: np.expm1,
}


def _sigmoid(z: Array) -> Array:
    """1/(1 + exp(-z)), where only exponentials of what is not positive are taken."""
    e = np.exp(np.where(z.real > 0, -z, z))
    return np.asarray(np.where(z.real > 0, 1, e) / (1 + e))


def _softplus(z: Array) -> Array:
    """log(1 + exp(z)) in the same manner."""
    positive = z.real > 0
    return np.asarray(np.where(positive, z, 0) + np.log1p(np.exp(np.where(positive, -z, z))))


def _float_constant(value: Expr) -> float:
    return int(value.p) / int(value.q) if value.is_Rational else float(value)


def _float64() -> Numbers:
    functions = _NUMPY | {
        sigmoid: _sigmoid,
        softplus: _softplus,
        sp.erf: _vectorised(math.erf, float),
        erfc: _vectorised(math.erfc, float),
        sp.Abs: np.abs,
        sp.sign: np.sign,
    }
    return Numbers("float64", _cast(np.float64), lambda x: x, _float_constant, np.power, functions)


def _real_only(name: str, function: Callable[[float], float]) -> Unary:
    """A function of the real numbers among the complex ones: what a complex step does not move."""
    vectorised = _vectorised(function, complex)

    def apply(z: Array) -> Array:
        if np.any(z.imag != 0):
            raise VerifyError(f"{name} has no value in complex128")
        return vectorised(z.real)

    return apply


def _complex128() -> Numbers:
    functions = _NUMPY | {
        sigmoid: _sigmoid,
        softplus: _softplus,
        sp.Abs: lambda z: np.asarray(np.where(z.real < 0, -z, z)),
        sp.sign: lambda z: np.sign(z.real) + 0j,
    }
    functions |= {sp.erf: _real_only("erf", math.erf), erfc: _real_only("erfc", math.erfc)}
    lift = _cast(np.complex128)
    return Numbers("complex128", lift, lambda z: np.asarray(z.real), _float_constant, np.power, functions)


def _cast(dtype: Any) -> Unary:
    return lambda x: np.asarray(x).astype(dtype)


def _precise() -> Numbers:
    mp = mpmath.mp.clone()
    mp.dps = DIGITS

    def constant(value: Expr) -> Any:
        if value.is_Rational:
            return mp.mpf(int(value.p)) / int(value.q)
        if value in (sp.oo, -sp.oo):
            return mp.inf if value == sp.oo else -mp.inf
        return mp.mpf(str(value.evalf(DIGITS + 10)))

    def lift(x: Array) -> Array:
        x = np.asarray(x)
        if x.dtype == object:
            return x
        exact = int if x.dtype.kind in "iub" else float
        with np.errstate(invalid="ignore"):  # NumPy minds the making of an infinity
            return np.asarray(np.frompyfunc(lambda v: mp.mpf(exact(v)), 1, 1)(x), dtype=object)

    def log(x: Any) -> Any:
        return mp.log(x) if x > 0 else (-mp.inf if x == 0 else mp.nan)

    functions: dict[Any, Callable[[Any], Any]] = {
        sp.exp: mp.exp,
        sp.log: log,
        sp.sin: mp.sin,
        sp.cos: mp.cos,
        sp.tan: mp.tan,
        sp.sinh: mp.sinh,
        sp.cosh: mp.cosh,
        sp.tanh: mp.tanh,
        sp.atan: mp.atan,
        sp.erf: mp.erf,
        erfc: mp.erfc,
        log1p: lambda x: mp.log1p(x) if x > -1 else log(1 + x),
        expm1: mp.expm1,
        sigmoid: lambda x: 1 / (1 + mp.exp(-x)),
        softplus: lambda x: mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x)),
        sp.Abs: abs,
        sp.sign: mp.sign,
    }
    vectorised = {name: _vectorised(function) for name, function in functions.items()}
    return Numbers("mp", lift, lambda x: x, constant, _precise_power(mp), vectorised)


def _precise_power(mp: Any) -> Callable[[Array, Array], Array]:
    def one(base: Any, exponent: Any) -> Any:
        if base == 0 and exponent < 0:
            return mp.inf
        if base < 0 and not mp.isint(exponent):
            return mp.nan
        return base**exponent

    ufunc = np.frompyfunc(one, 2, 1)
    return lambda base, exponent: np.asarray(ufunc(base, exponent), dtype=object)


def sign(x: Array) -> Array:
    """-1, 0 or 1 for each real number of any system."""
    return _sign(x)
