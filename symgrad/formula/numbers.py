"""How exact numbers are written: 1/16, 0.044715, 1e-05."""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symgrad.index.text import number_text

_SIMPLE = 9, 9999  # the largest numerator and denominator of a fraction that is written as one


def number_parts(value: Expr) -> tuple[str, str]:
    """(above, below) of a number without its sign; below is "" where the number is a decimal."""
    value = abs(value)
    if value == sp.oo or value.is_Integer:
        return number_text(value), ""
    power_of_ten = str(value.q).strip("0") == "1" and value.q > 100
    if value.p <= _SIMPLE[0] and value.q <= _SIMPLE[1] and not power_of_ten:
        return str(value.p), str(value.q)
    written = number_text(value)
    if "/" not in written:
        return written, ""
    inverse = number_text(1 / value)
    return ("1", inverse) if "/" not in inverse else (str(value.p), str(value.q))


def fraction(value: Expr) -> tuple[Expr, Expr]:
    """Numerator and denominator; a number that is written as a decimal stays above."""
    number, rest = value.as_coeff_Mul()
    above, below = sp.fraction(rest)
    p, q = sp.fraction(number) if number.q <= _SIMPLE[1] and number_parts(number)[1] else (number, sp.Integer(1))
    return p * above, q * below
