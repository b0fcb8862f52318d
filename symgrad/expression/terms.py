"""What an expression consists of: terms, each with the terms that it is computed from before it.

    term = form applied to earlier terms
    form = Named(variable) | Number | Dimension(name) | Extent(axis) of a term | Filled(function) with sizes
         | Applied(rule, attributes)

Equal terms are one term, so a variable that is read twice is one leaf.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

from symgrad.expression.rules import Attributes, Rule


@dataclass(frozen=True)
class Named:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Number:
    """An exact number."""

    value: Expr


@dataclass(frozen=True)
class Dimension:
    """The value of a dimension, a scalar."""

    name: str


@dataclass(frozen=True)
class Extent:
    """The length of one axis of a term, or (None) the number of its elements: a scalar."""

    axis: int | None


@dataclass(frozen=True)
class Filled:
    """eye(n), ones(m, n), zeros(n): its operands are sizes, that is Number, Dimension or Extent."""

    function: str


@dataclass(frozen=True)
class Applied:
    """An op; `attributes` are the registered op's own."""

    rule: Rule
    attributes: Attributes = ()


Form = Named | Number | Dimension | Extent | Filled | Applied


@dataclass(frozen=True)
class Term:
    """`column` and `text` say where it stands for the first time."""

    form: Form
    operands: tuple[int, ...]
    column: int
    text: str
