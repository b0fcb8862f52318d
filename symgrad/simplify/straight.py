"""A scalar body as straight-line code: one array function per line, equal subexpressions once.

    Line     result <- function(arguments)      an argument is a symbol (an operand or an earlier result) or a number

Factors and quotients are combined at the smallest shape that they have; a number is multiplied once, where that is
free or cheapest. `weight` says what the code costs, in passes over one element.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.index.functions import erfc, expm1, is_condition, log1p, sigmoid
from symgrad.machine import MACHINE, WEIGHTS, estimate
from symgrad.simplify.spelled import bounded_exponential, from_zero, spelled_out

Shape = tuple[Expr, ...]

MOST_SQUARINGS = 16  # powers up to this are products
CALL = round(MACHINE.call / MACHINE.element)  # elements for which a pass takes as long as the call itself

_UNARY: dict[type[Expr], str] = {
    sp.exp: "exp",
    sp.log: "log",
    log1p: "log1p",
    expm1: "expm1",
    sp.Abs: "absolute",
    sp.sign: "sign",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.tan: "tan",
    sp.sinh: "sinh",
    sp.cosh: "cosh",
    sp.tanh: "tanh",
    sp.atan: "arctan",
    sp.erf: "_erf",
    erfc: "_erfc",
}
_COMPARISONS: dict[type[Expr], str] = {
    sp.Eq: "equal",
    sp.Ne: "not_equal",
    sp.StrictLessThan: "less",
    sp.LessThan: "less_equal",
    sp.StrictGreaterThan: "greater",
    sp.GreaterThan: "greater_equal",
}


@dataclass(frozen=True)
class Line:
    """See the module's docstring. A `boolean` result is of comparisons; `shape` is the result's."""

    function: str
    arguments: tuple[Expr, ...]
    result: Symbol
    shape: Shape
    boolean: bool = False


def straight_line(
    body: Expr, shapes: Mapping[Symbol, Shape], masks: Collection[Symbol] = ()
) -> tuple[list[Line], Expr]:
    """The lines that compute `body` over the symbols in `shapes`, and the symbol or number that is its value.

    The symbols `masks` hold booleans.
    """
    made = _Lines(shapes, masks)
    result = made.value(spelled_out(body))
    return _needed(made.lines, result), result


def _needed(lines: Sequence[Line], result: Expr) -> list[Line]:
    """The lines without those whose results nothing reads."""
    read, kept = {result}, []
    for line in reversed(lines):
        if line.result in read:
            read.update(line.arguments)
            kept.append(line)
    return kept[::-1]


def weight(lines: Sequence[Line]) -> float:
    """What the lines cost, in products of two numbers."""
    return sum((_elements(line.shape) + CALL) * WEIGHTS.get(line.function, 1.0) for line in lines)


def _elements(shape: Shape) -> int:
    return prod(map(estimate, shape))


class _Lines:
    """One body on its way to lines. `known` says what holds each subexpression."""

    def __init__(self, shapes: Mapping[Symbol, Shape], masks: Collection[Symbol]) -> None:
        self.operands = frozenset(shapes)
        self.shapes: dict[Expr, Shape] = dict(shapes)
        self.masks: set[Expr] = set(masks)
        self.lines: list[Line] = []
        self.known: dict[Expr, Expr] = {s: s for s in shapes}
        self.numbers: dict[Expr, Expr] = {}  # boolean -> the same as 0 and 1

    def value(self, expr: Expr) -> Expr:
        """The symbol or number that holds `expr`."""
        if expr not in self.known:
            self.known[expr] = self._computed(expr)
        return self.known[expr]

    def _computed(self, expr: Expr) -> Expr:
        if self._is_number(expr):
            return _number_of(expr)
        if isinstance(expr, sp.Add):
            return self._sum(expr)
        if isinstance(expr, sp.Mul):
            return self._product(expr)
        if isinstance(expr, sp.Pow) and not isinstance(expr, sp.exp):
            return self._power(expr)
        if isinstance(expr, sp.Piecewise):
            return self._piecewise(expr)
        if isinstance(expr, sp.Max | sp.Min):
            return self._chain("maximum" if isinstance(expr, sp.Max) else "minimum", expr)
        if is_condition(expr):
            return self._condition(expr)
        if isinstance(expr, from_zero):
            return self._line("greater_equal", self.value(expr.args[0]), Integer(0), boolean=True)
        if isinstance(expr, sigmoid):
            e = bounded_exponential(expr.args[0])
            return self._line("divide", self.value(e), self.value(1 + e))
        if isinstance(expr, sp.Heaviside):
            return self._line("heaviside", self.value(expr.args[0]), sp.Rational(1, 2))
        return self._line(_UNARY[type(expr)], self.value(expr.args[0]))

    def _is_number(self, expr: Expr) -> bool:
        return not expr.free_symbols & self.operands

    def _shape(self, *arguments: Expr) -> Shape:
        shapes = [self.shapes[a] for a in arguments if a in self.shapes]
        rank = max(map(len, shapes), default=0)
        shape: list[Expr] = [Integer(1)] * rank
        for s in shapes:
            for axis, n in enumerate(s, rank - len(s)):
                shape[axis] = n if n != 1 else shape[axis]
        return tuple(shape)

    def _line(self, function: str, *arguments: Expr, boolean: bool = False) -> Symbol:
        if not boolean:
            arguments = tuple(map(self._number, arguments))
        return self._add(Line(function, arguments, self._result(), self._shape(*arguments), boolean))

    def _result(self) -> Symbol:
        return Symbol(f"t{len(self.lines)}", real=True)

    def _add(self, line: Line) -> Symbol:
        self.lines.append(line)
        self.shapes[line.result] = line.shape
        if line.boolean:
            self.masks.add(line.result)
        return line.result

    def _number(self, argument: Expr) -> Expr:
        """A boolean as 0 or 1: NumPy's + on booleans is `or`, and its exp of them is in half precision.

        A comparison writes such numbers itself; a product of a tensor with a boolean takes longer than both.
        """
        if argument not in self.masks:
            return argument
        if argument not in self.numbers:
            made = next((line for line in self.lines if line.result == argument), None)
            compared = made is not None and made.function in _COMPARISONS.values()
            function, arguments = (made.function, made.arguments) if made and compared else ("copy", (argument,))
            self.numbers[argument] = self._add(Line(function, arguments, self._result(), self.shapes[argument]))
        return self.numbers[argument]

    # sums

    def _sum(self, expr: Expr) -> Expr:
        """Tensors before functions of them: x - m is exact where x - (m + log s) is not."""
        content = self._content(expr)
        if content != 1:
            return self._quotient(content, [self.value(_times(expr, 1 / content))], [])

        def order(term: Expr) -> tuple[bool, bool, bool, int, object]:
            bare = (-term if term.could_extract_minus_sign() else term) in self.operands
            size = -sum(n != 1 for n in self._shape(*(s for s in term.free_symbols if s in self.shapes)))
            return self._is_number(term), not bare, term.could_extract_minus_sign(), size, sp.default_sort_key(term)

        terms = sorted(expr.args, key=order)
        positive = next((k for k, t in enumerate(terms) if not t.could_extract_minus_sign()), None)
        if positive is not None and self._is_number(terms[positive]):
            return self._subtracted(terms)
        if positive is None:
            return self._line("negative", self.value(_times(expr, Integer(-1))))
        total = self._number(self.value(terms.pop(positive)))
        for term in terms:
            negative = term.could_extract_minus_sign()
            value = self._number(self.value(-term if negative else term))
            total = self._line("subtract" if negative else "add", total, value)
        return total

    def _subtracted(self, terms: list[Expr]) -> Expr:
        """number - (the rest), where only the number is positive."""
        number = sp.Add(*(t for t in terms if self._is_number(t)))
        rest = self._number(self.value(sp.Add(*(-t for t in terms if not self._is_number(t)))))
        return self._line("subtract", number, rest)

    def _content(self, expr: Expr) -> Expr:
        """The number whose extraction from a sum saves products, counting the one by itself."""
        best = self._best_content(expr)
        return best if self._products(expr) > self._products(_times(expr, 1 / best)) + 1 else Integer(1)

    def _best_content(self, expr: Expr) -> Expr:
        """The number that leaves the fewest coefficients other than 1 when it is taken out."""
        found = sorted({abs(c) for c in self._coefficients(expr)} - {Integer(1)}, key=sp.default_sort_key)
        return min([Integer(1), *found], key=lambda c: self._products(_times(expr, 1 / c)))

    def _products(self, expr: Expr) -> int:
        """How many terms of a sum have a coefficient that has to be multiplied by."""
        return sum(c not in (1, -1) for c in self._coefficients(expr))

    def _coefficients(self, expr: Expr) -> list[Expr]:
        return [t.as_independent(*self.operands, as_Add=False)[0] for t in expr.args if not self._is_number(t)]

    # products

    def _product(self, expr: Expr) -> Expr:
        scale: Expr = Integer(1)
        above: list[Expr] = []
        below: list[Expr] = []
        for factor in expr.args:
            base, power = factor.as_base_exp()
            if self._is_number(factor):
                scale *= factor
            elif power.is_Rational and power.is_negative and not isinstance(factor, sp.exp):
                below.append(base**-power)
            else:
                above.append(factor)
        scale, above = self._absorbed(scale, above)
        return self._quotient(scale, [self.value(f) for f in above], [self.value(f) for f in below])

    def _absorbed(self, scale: Expr, factors: list[Expr]) -> tuple[Expr, list[Expr]]:
        """The same product with its number where it costs least: before it, or in one of the sums among its factors."""
        sums = [k for k, f in enumerate(factors) if isinstance(f, sp.Add)]
        if not sums:
            return scale, factors
        full = max(len(self._loops(f)) for f in factors)
        narrow = any(len(self._loops(f)) < full for f in factors)

        def cost(choice: tuple[Expr, list[Expr]]) -> int:
            return sum(self._products(choice[1][k]) for k in sums) + (choice[0] != 1 and not narrow)

        emptied, freed = scale, list(factors)
        for k in sums:
            content = self._best_content(freed[k])
            emptied, freed[k] = emptied * content, _times(freed[k], 1 / content)
        choices = [(scale, factors), *(self._into(scale, factors, k) for k in sums)]
        choices += [(emptied, freed), *(self._into(emptied, freed, k) for k in sums)]
        return min(choices, key=cost)

    def _into(self, scale: Expr, factors: list[Expr], place: int) -> tuple[Expr, list[Expr]]:
        return Integer(1), [_times(f, scale) if k == place else f for k, f in enumerate(factors)]

    def _loops(self, factor: Expr) -> list[Expr]:
        return [n for n in self._shape(*(s for s in factor.free_symbols if s in self.shapes)) if n != 1]

    def _quotient(self, scale: Expr, above: list[Expr], below: list[Expr]) -> Expr:
        """scale * product(above) / product(below), the smaller shapes combined first."""
        numerator: Expr | None = None if scale in (1, -1) else _number_of(scale)
        denominator: Expr | None = None
        shapes = sorted({self._shape(a) for a in (*above, *below)}, key=lambda s: (sum(n != 1 for n in s), str(s)))
        if scale == -1 and len(shapes) > 1:
            scale, numerator = Integer(1), scale
        for shape in shapes:
            tops = [a for a in above if self._shape(a) == shape]
            bottoms = [a for a in below if self._shape(a) == shape]
            for top in tops:
                numerator = top if numerator is None else self._line("multiply", top, numerator)
            if denominator is not None and tops and numerator is not None:
                numerator, denominator = self._line("divide", numerator, denominator), None
            for bottom in bottoms:
                denominator = bottom if denominator is None else self._line("multiply", bottom, denominator)
            if numerator is not None and denominator is not None:
                numerator, denominator = self._line("divide", numerator, denominator), None
        if denominator is not None:
            return self._line("divide", scale, denominator)
        assert numerator is not None
        return self._line("negative", numerator) if scale == -1 else numerator

    def _power(self, expr: Expr) -> Expr:
        base, power = expr.as_base_exp()
        if power.is_Rational and power.is_negative:
            return self._line("divide", Integer(1), self.value(base**-power))
        if power == sp.Rational(1, 2):
            return self._line("sqrt", self.value(base))
        if power.is_Integer and power <= MOST_SQUARINGS:
            half = self.value(base ** (power // 2))
            square = self._line("multiply", half, half)
            return self._line("multiply", square, self.value(base)) if power % 2 else square
        if power.is_Rational and power.q == 2 and power < MOST_SQUARINGS:
            return self._line("multiply", self.value(base ** sp.floor(power)), self.value(sp.sqrt(base)))
        return self._line("power", self.value(base), self.value(power))

    # choices

    def _chain(self, function: str, expr: Expr) -> Expr:
        numbers: list[Expr] = []
        others: list[Expr] = []
        for argument in sorted(expr.args, key=sp.default_sort_key):
            (numbers if self._is_number(argument) else others).append(argument)
        values = [self.value(a) for a in (*others, *numbers)]
        result = values[0]
        for value in values[1:]:
            result = self._line(function, result, value)
        return result

    def _condition(self, expr: Expr) -> Expr:
        if isinstance(expr, sp.Not):
            return self._line("logical_not", self.value(expr.args[0]), boolean=True)
        if isinstance(expr, sp.And | sp.Or):
            function = "logical_and" if isinstance(expr, sp.And) else "logical_or"
            values = [self.value(a) for a in sorted(expr.args, key=sp.default_sort_key)]
            result = values[0]
            for value in values[1:]:
                result = self._line(function, result, value, boolean=True)
            return result
        return self._line(_COMPARISONS[type(expr)], self.value(expr.lhs), self.value(expr.rhs), boolean=True)

    def _piecewise(self, expr: Expr) -> Expr:
        (value, condition), *rest = expr.args
        if condition == sp.true or not rest:
            return self.value(value)
        mask = self.value(condition)
        other = rest[0][0] if rest[0][1] == sp.true else sp.Piecewise(*rest, evaluate=False)
        if other == 0 and value == 1:
            return mask
        arguments = (mask, self.value(value), self.value(other))
        return self._add(Line("select", arguments, self._result(), self._shape(*arguments)))


def _number_of(expr: Expr) -> Expr:
    if is_condition(expr):
        return Integer(1) if expr == sp.true else Integer(0)
    return expr


def _times(total: Expr, scale: Expr) -> Expr:
    """A sum with each of its terms multiplied by a number."""
    return total if scale == 1 else sp.Add(*(scale * term for term in total.args))
