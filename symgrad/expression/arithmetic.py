"""Exact numbers: literals as they are written, and arithmetic over them within limits."""

from __future__ import annotations

import ast
import math
from decimal import Decimal

from sympy import Integer, Rational

from symgrad.expand import exact
from symgrad.expression.source import Source
from symgrad.index.parser import MAX_LITERAL_DIGITS as MAX_DIGITS
from symgrad.index.parser import MAX_NUMBER

MAX_EXPONENT, MAX_BITS = 10_000, 2_048


def exact_literal(source: Source, node: ast.Constant) -> Rational:
    """A number as it is written: 0.5 is 1/2. Raises FormulaError for what is no finite number."""
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        source.refuse(node.col_offset, f"{source.part(node)[:40]} is not a number")
    if isinstance(value, float):
        if math.isinf(value):
            source.refuse(node.col_offset, "the number is not finite in double precision")
        return Rational(*Decimal(repr(value)).as_integer_ratio())
    if abs(value) >= 10**MAX_DIGITS:
        source.refuse(node.col_offset, f"the number has more than {MAX_DIGITS} digits")
    return Integer(value)


def exact_arithmetic(source: Source, column: int, op: str, a: Rational, b: Rational) -> Rational | None:
    """The value of add, subtract, multiply, divide or power, or None where it is irrational or too long to be written.

    Raises FormulaError, pointing at the column, where there is no finite value.
    """
    if (op == "divide" and b == 0) or (op == "power" and a == 0 and b < 0):
        source.refuse(column, "this divides by zero")
    if op == "power":
        value = _power(source, column, a, b)
    else:
        value = {"add": a.__add__, "subtract": a.__sub__, "multiply": a.__mul__, "divide": a.__truediv__}[op](b)
    if value is None:
        return None
    if abs(value) >= MAX_NUMBER:
        source.refuse(column, "the number is not finite in double precision")
    short = max(abs(value.p), value.q) < 10**MAX_DIGITS
    return value if short or exact(float(value)) == value else None


def _power(source: Source, column: int, a: Rational, b: Rational) -> Rational | None:
    if not b.is_Integer:
        if a < 0:
            source.refuse(column, "a negative number has whole powers only")
        return None
    if _bits(a) * abs(b) > MAX_BITS:
        source.refuse(column, "the power is too large to be written out")
    return a**b


def _bits(value: Rational) -> int:
    return max(int(value.p).bit_length(), int(value.q).bit_length())
