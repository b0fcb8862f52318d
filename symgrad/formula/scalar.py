"""Scalar SymPy expressions as notation, entry by entry; products of whole tensors come out with ⊙.

A Value is a node and the loops along which it varies, in the order of its axes. In index notation every value
is a scalar; in matrix notation the leaves bring their axes, and what cannot be written raises NoMatrixForm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import sympy as sp
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from symgrad.formula.indexed import Applied, Element, Reduction, Solved
from symgrad.formula.notation import (
    ONE,
    Atom,
    Call,
    Cases,
    Constant,
    Indicator,
    Logic,
    Node,
    Power,
    Relation,
    hadamard,
    negated,
    product,
    quotient,
    total,
    transposed,
)
from symgrad.index.definition import At
from symgrad.index.functions import sigmoid


class NoMatrixForm(Exception):
    """The definition has no matrix notation; it is written with indices instead."""


class Value(NamedTuple):
    node: Node
    axes: tuple[Symbol, ...] = ()


LEAVES = (At, Element, Reduction, Solved, Applied)
_SIGNS: dict[type[Expr], str] = {
    sp.Eq: "=",
    sp.Ne: "≠",
    sp.StrictLessThan: "<",
    sp.LessThan: "≤",
    sp.StrictGreaterThan: ">",
    sp.GreaterThan: "≥",
}
_NAMES: dict[type[Expr], tuple[str, str]] = {
    sigmoid: ("σ", r"\sigma"),
    sp.Max: ("max", r"\max"),
    sp.Min: ("min", r"\min"),
    sp.Heaviside: ("H", r"\operatorname{H}"),
    sp.atan: ("atan", r"\arctan"),
} | {f: (f.__name__, "\\" + f.__name__) for f in (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh)}


def is_constant(expr: Expr) -> bool:
    """Whether no tensor is read: a number, or an expression of dimensions and loops."""
    return not expr.has(*LEAVES)


class Converter(ABC):
    """Walks a scalar body. A subclass says how leaves are written and in which order factors stand."""

    def __init__(self, letters: Callable[[int], Atom], matrix: bool) -> None:
        self.function_letter = letters
        self.matrix = matrix

    @abstractmethod
    def leaf(self, expr: Expr) -> Value:
        """An access, element or reduction."""

    @abstractmethod
    def symbol(self, expr: Symbol) -> Node:
        """A dimension or an index."""

    @abstractmethod
    def term_key(self, expr: Expr) -> tuple[object, ...]:
        """What terms are sorted by."""

    @abstractmethod
    def factor_key(self, expr: Expr) -> tuple[object, ...]:
        """What factors are sorted by."""

    def convert(self, expr: Expr) -> Value:
        """The value of an expression."""
        if isinstance(expr, Applied):
            name = self.function_letter(expr.function)
            inside = self.convert(expr.argument)
            return Value(Call(name.text + "'" * expr.order, name.latex + "'" * expr.order, (inside.node,)), inside.axes)
        if isinstance(expr, LEAVES):
            return self.leaf(expr)
        if isinstance(expr, Expr) and is_constant(expr) and not _has_loops(expr) and not expr.has(sp.Piecewise):
            return Value(Constant(expr))
        for kind, method in self._methods:
            if isinstance(expr, kind):
                return method(self, expr)
        raise TypeError(f"no notation for {type(expr).__name__}: {expr}")

    def axes(self, values: Iterable[Value]) -> tuple[Symbol, ...]:
        """The axes of values that are combined entry by entry: each has all of them, or the last ones."""
        longest = max((v.axes for v in values), key=len, default=())
        for value in values:
            if value.axes != longest[len(longest) - len(value.axes) :]:
                raise NoMatrixForm
        return longest

    def _symbol(self, expr: Expr) -> Value:
        return Value(self.symbol(expr))

    def _add(self, expr: Expr) -> Value:
        positive = [t for t in expr.args if not t.could_extract_minus_sign()]
        negative = [t for t in expr.args if t.could_extract_minus_sign()]
        shared = {abs(t.as_coeff_Mul()[0]) for t in expr.args}
        if len(shared) == 1 and shared != {sp.Integer(1)}:
            (front,) = shared
            inside = self.convert(sp.Add(*(t / front for t in expr.args)))
            return Value(product([Constant(front), inside.node]), inside.axes)
        key = self._sum_key
        values = [self.convert(t) for t in sorted(positive, key=key)]
        taken = [self.convert(-t) for t in sorted(negative, key=key)]
        nodes = [v.node for v in values] + [negated(v.node) for v in taken]
        return Value(total(nodes), self.axes([*values, *taken]))

    def _sum_key(self, term: Expr) -> tuple[object, ...]:
        return is_constant(term), *self.term_key(term)

    def _mul(self, expr: Expr) -> Value:
        constant, above, below = fraction_parts(expr.args)
        return self.fraction(constant, self.sorted_values(above), self.sorted_values(below))

    def sorted_values(self, factors: Sequence[Expr]) -> list[Value]:
        return [self.factor(f) for f in sorted(factors, key=self.factor_key)]

    def factor(self, expr: Expr) -> Value:
        """A factor; what is zero unless a condition holds becomes an indicator."""
        if isinstance(expr, sp.Piecewise) and len(expr.args) == 2 and expr.args[1] == (0, True):
            value, condition = expr.args[0]
            test = self.convert(condition)
            shown = Value(Indicator(test.node), test.axes)
            return shown if value == 1 else self.multiply([self.convert(value), shown])
        return self.convert(expr)

    def fraction(self, constant: Expr, above: Sequence[Value], below: Sequence[Value]) -> Value:
        scalars = [v for v in above if not v.axes]
        divisors = [v for v in below if not v.axes]
        front = quotient(product([Constant(constant), *(v.node for v in scalars)]), product([v.node for v in divisors]))
        return self._array_fraction(front, [v for v in above if v.axes], [v for v in below if v.axes])

    def _array_fraction(self, front: Node, arrays: Sequence[Value], divisors: Sequence[Value]) -> Value:
        if not arrays and not divisors:
            return Value(front)
        top = self.multiply(arrays) if arrays else Value(ONE)
        bottom = self.multiply(divisors) if divisors else Value(ONE)
        axes = self.axes([top, bottom])
        node = quotient(top.node, bottom.node, "⊘") if divisors else top.node
        return Value(node if front == ONE else product([front, node]), axes)

    def multiply(self, values: Sequence[Value]) -> Value:
        """Entry by entry, or an outer product."""
        arrays = [v for v in values if v.axes]
        if self.outer_order(arrays) is not None:
            return self.outer(arrays)
        axes = self.axes(arrays)
        scalars = [v.node for v in values if not v.axes]
        body = hadamard([v.node for v in arrays]) if arrays else ONE
        return Value(product([*scalars, body]) if scalars else body, axes)

    def outer_order(self, values: Sequence[Value]) -> tuple[Symbol, Symbol] | None:
        """(rows, columns) if the values are vectors along two different axes."""
        return None

    def outer(self, values: Sequence[Value]) -> Value:
        raise NoMatrixForm

    def _power(self, expr: Expr) -> Value:
        base, power = expr.as_base_exp()
        if power == sp.Rational(1, 2):
            inside = self.convert(base)
            return Value(Call("sqrt", r"\sqrt", (inside.node,)), inside.axes)
        if power.is_Rational and power < 0:
            return self.fraction(sp.Integer(1), [], [self.factor(base**-power)])
        bottom, top = self.convert(base), self.convert(power)
        return Value(Power(bottom.node, top.node), self.axes([bottom, top]))

    def _piecewise(self, expr: Expr) -> Value:
        *rows, (other, last) = expr.args
        if last != sp.true:
            rows, other = [*rows, (other, last)], sp.Integer(0)
        if not rows:
            return self.convert(other)
        if len(rows) == 1 and other == 0 and (rows[0][0] == 1 or self.matrix):
            return self.factor(expr)
        parts = [(self.convert(value), self.convert(condition)) for value, condition in rows]
        rest = self.convert(other)
        if any(v.axes for row in parts for v in row) or rest.axes:
            raise NoMatrixForm
        return Value(Cases(tuple((value.node, condition.node) for value, condition in parts), rest.node))

    def _relation(self, expr: Expr) -> Value:
        left, right = self.relation_side(expr.lhs), self.relation_side(expr.rhs)
        return Value(Relation(_SIGNS[type(expr)], left.node, right.node), self.axes([left, right]))

    def relation_side(self, expr: Expr) -> Value:
        return self.convert(expr)

    def _logic(self, expr: Expr) -> Value:
        word = {sp.And: "∧", sp.Or: "∨", sp.Not: "¬"}[type(expr)]
        parts = [self.convert(p) for p in sorted(expr.args, key=self._condition_key)]
        return Value(Logic(word, tuple(p.node for p in parts)), self.axes(parts))

    def _condition_key(self, expr: Expr) -> tuple[object, ...]:
        return *self.term_key(expr), str(self.convert(expr).node)

    def _choice(self, expr: Expr) -> Value:
        """A condition that depends on a condition."""
        test, yes, no = expr.args
        branches = [sp.And(test, yes, evaluate=False), sp.And(sp.Not(test), no, evaluate=False)]
        kept = [b for b, value in zip(branches, (yes, no), strict=True) if value != sp.false]
        return self.convert(kept[0] if len(kept) == 1 else sp.Or(*kept, evaluate=False))

    def _truth(self, expr: Expr) -> Value:
        return Value(Atom("true", r"\text{true}") if expr == sp.true else Atom("false", r"\text{false}"))

    def _call(self, expr: Expr) -> Value:
        arguments = list(expr.args[:1] if isinstance(expr, sp.Heaviside) else expr.args)
        if isinstance(expr, sp.Max | sp.Min):
            arguments.sort(key=self._sum_key)
        values = [self.convert(a) for a in arguments]
        name = getattr(type(expr), "__name__", "f")
        text, latex = _NAMES.get(type(expr), (name, rf"\operatorname{{{name}}}"))
        return Value(Call(text, latex, tuple(v.node for v in values)), self.axes(values))

    def _absolute(self, expr: Expr) -> Value:
        inside = self.convert(expr.args[0])
        return Value(Call("|", "|", (inside.node,)), inside.axes)

    def _rounded(self, expr: Expr) -> Value:
        inside = self.convert(expr.args[0])
        return Value(Call("⌊", r"\lfloor", (inside.node,)), inside.axes)

    _methods: tuple[tuple[type | tuple[type, ...], Callable[[Converter, Expr], Value]], ...] = (
        (Symbol, _symbol),
        ((sp.logic.boolalg.BooleanTrue, sp.logic.boolalg.BooleanFalse), _truth),
        (sp.Add, _add),
        (sp.Mul, _mul),
        (sp.exp, _call),
        (sp.Pow, _power),
        (sp.Piecewise, _piecewise),
        (Relational, _relation),
        (sp.ITE, _choice),
        ((sp.And, sp.Or, sp.Not), _logic),
        (sp.floor, _rounded),
        (sp.Abs, _absolute),
        ((sp.Function, sp.Max, sp.Min), _call),
    )


def fraction_parts(factors: Iterable[Expr]) -> tuple[Expr, list[Expr], list[Expr]]:
    """(the product of the constants, numerators, denominators)."""
    constant: Expr = sp.Integer(1)
    above, below = [], []
    for factor in factors:
        base, power = factor.as_base_exp()
        if is_constant(factor) and not _has_loops(factor) and not factor.has(sp.Piecewise):
            constant = constant * factor
        elif power.is_Rational and power < 0 and not isinstance(factor, sp.exp):
            below.append(base**-power)
        else:
            above.append(factor)
    return constant, above, below


def _has_loops(expr: Expr) -> bool:
    """Whether an index occurs: an index may be 0, a dimension may not."""
    return any(isinstance(s, Symbol) and not s.is_positive for s in expr.free_symbols)


def oriented(node: Node, axes: Sequence[Symbol], order: Sequence[Symbol]) -> Value:
    """A leaf turned so that its axes follow `order`."""
    wanted = tuple(i for i in order if i in axes)
    if tuple(axes) == wanted:
        return Value(node, wanted)
    if len(wanted) == 2 == len(axes):
        return Value(transposed(node), wanted)
    raise NoMatrixForm
