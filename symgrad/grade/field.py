"""Exact arithmetic modulo the prime p = 2**61 - 1: expressions at random points.

Elements of tensors are random numbers. A function that is no arithmetic is a random number too, the same one for
the same argument: exp(u) with the laws exp(u + v) = exp(u) exp(v) and exp(k u) = exp(u)**k, every other function
without laws, so that what comes out equal is equal whatever the functions are. By the Schwartz-Zippel lemma an
expression that is not 0 is 0 at a random point with a probability of at most its degree over p; `Arithmetic.bound`
is the sum of these probabilities, those of two different arguments looking the same among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from symgrad.algebra.delta import Delta
from symgrad.equations import System
from symgrad.errors import VerifyError
from symgrad.evaluate.dims import Dims
from symgrad.evaluate.numbers import Array
from symgrad.formula.indexed import Element, Reduction
from symgrad.grade.rewriting import Positive, Zero
from symgrad.index.definition import Loop

PRIME = 2**61 - 1
SIZE = "size "  # in front of the name of a dimension that is a number here, whatever the axes measure
ROOTS = 12  # exp(u/k) is known for the k that divide this

Axes = tuple[Loop, ...]
_COMPARE: dict[type[Expr], Callable[[Array], Array]] = {
    sp.Eq: lambda d: d == 0,
    sp.Ne: lambda d: d != 0,
    sp.StrictLessThan: lambda d: d < 0,
    sp.LessThan: lambda d: d <= 0,
    sp.StrictGreaterThan: lambda d: d > 0,
    sp.GreaterThan: lambda d: d >= 0,
}


class NoValue(Exception):
    """The expression has no value here: it divides by zero, or holds what this arithmetic does not know."""


class Arithmetic:
    """One random point.

    Args:
        system: tells the tensors' shapes.
        integers: the values of the tensors that hold integers.

    Attributes:
        atoms: how many values of functions were drawn; their arguments are of degree `argument_degree` at most.
    """

    def __init__(self, system: System, dims: Dims, integers: Mapping[str, Array], seed: int) -> None:
        self.system, self.dims, self.integers = system, dims, integers
        self.random = np.random.default_rng([seed, 1])
        self.tensors: dict[str, Array] = {}
        self.drawn: dict[Any, int] = {}
        self.argument_degree = 1
        self.degrees: dict[tuple[Expr, Axes], tuple[int, int]] = {}
        self.memo: dict[tuple[Expr, Axes], Array] = {}

    def value(self, expr: Expr, axes: Axes) -> Array:
        """The values over all indices of `axes`, as integers modulo p. An axis of size 1 stands for all.

        Raises NoValue.
        """
        if (expr, axes) not in self.memo:
            self.memo[expr, axes] = np.asarray(self._computed(expr, axes), dtype=object)
        return self.memo[expr, axes]

    def bound(self, expr: Expr, axes: Axes) -> Fraction:
        """An upper bound for the probability that an expression with value 0 on all `axes` is not 0."""
        degree = sum(self._degree(expr, axes))
        pairs = len(self.drawn) ** 2
        return Fraction(1 + degree + 2 * pairs * self.argument_degree, PRIME)

    # values

    def _computed(self, expr: Expr, axes: Axes) -> Array | int:
        for kind, method in self._methods:
            if isinstance(expr, kind):
                return method(self, expr, axes)
        if expr.args and all(isinstance(arg, Expr) for arg in expr.args):
            return self._function(expr, axes)
        raise NoValue(str(expr.func))

    def _rational(self, expr: Expr, axes: Axes) -> int:
        return int(expr.p) * _inverse(int(expr.q)) % PRIME

    def _constant(self, expr: Expr, axes: Axes) -> int:
        return self._draw(str(expr))

    def _symbol(self, expr: Expr, axes: Axes) -> Array | int:
        names = [i for i, _ in axes]
        if expr.name.startswith(SIZE):
            return self._draw(expr.name)
        if expr not in names:
            return self.dims.size(expr)
        axis = len(names) - 1 - names[::-1].index(expr)  # the innermost of that name
        shape = [1] * len(axes)
        shape[axis] = self.dims.size(axes[axis][1])
        return np.array(range(shape[axis]), dtype=object).reshape(shape)

    def _element(self, expr: Element, axes: Axes) -> Array:
        values = self._tensor(expr.name)
        if expr.view is not None:
            values = values.reshape([self.dims.size(n) for n in expr.view])
        if not expr.index:
            return values.reshape([1] * len(axes))
        index = [self.value(i, axes) for i in expr.index]
        inside = reduce(np.logical_and, [(i >= 0) & (i < n) for i, n in zip(index, values.shape, strict=True)])
        place = tuple(np.where(inside, i, 0).astype(np.int64) for i in index)
        return np.asarray(np.where(inside, values[place], 0), dtype=object)

    def _tensor(self, name: str) -> Array:
        if name not in self.tensors:
            shape = tuple(map(self.dims.size, self.system.shape(name)))
            if name in self.integers:
                self.tensors[name] = np.asarray(self.integers[name]).astype(object)
            else:
                self.tensors[name] = self._leaf(name, shape)
        return self.tensors[name]

    def _leaf(self, name: str, shape: tuple[int, ...]) -> Array:
        leaf = self.system.leaves.get(name)
        if leaf is None or leaf.kind != "constant":
            return self.random.integers(0, PRIME, shape).astype(object)
        given = np.asarray(leaf.value, dtype=object)
        exact = [Fraction(repr(v)) if isinstance(v, float) else Fraction(int(v)) for v in given.ravel()]
        numbers = [v.numerator * _inverse(v.denominator) % PRIME for v in exact]
        return np.array(numbers, dtype=object).reshape(shape)

    def _added(self, expr: Expr, axes: Axes) -> Array:
        return reduce(np.add, [self.value(arg, axes) for arg in expr.args]) % PRIME

    def _multiplied(self, expr: Expr, axes: Axes) -> Array:
        return reduce(lambda a, b: a * b % PRIME, [self.value(arg, axes) for arg in expr.args])

    def _power(self, expr: Expr, axes: Axes) -> Array:
        base, exponent = expr.as_base_exp()
        if not exponent.is_Rational:
            return self._function(expr, axes)
        whole = int(sp.floor(exponent))
        values = self.value(base, axes)
        if whole < 0 and np.any(values == 0):
            raise NoValue("division by zero")
        result = _each(lambda v: pow(v, whole, PRIME), values)
        rest = exponent - whole
        if rest == 0:
            return result
        self._note(base, axes)
        return result * _each(lambda v: self._draw(("root", rest, v)), values) % PRIME

    def _exponential(self, expr: Expr, axes: Axes) -> Array:
        terms = sp.Add.make_args(sp.expand(expr.args[0]))
        return reduce(lambda a, b: a * b % PRIME, [self._exponential_term(term, axes) for term in terms])

    def _exponential_term(self, term: Expr, axes: Axes) -> Array:
        number, rest = term.as_coeff_Mul()
        count = number * ROOTS
        if not count.is_Integer or rest == 1:
            number, rest, count = sp.Integer(1), term, sp.Integer(ROOTS)
        self._note(rest, axes)

        def one(v: int) -> int:
            base, turned = (v, 1) if v <= PRIME // 2 else (PRIME - v, -1)
            return pow(self._draw(("exp", base)), turned * int(count), PRIME) if v else 1

        return _each(one, self.value(rest, axes))

    def _positive(self, expr: Positive, axes: Axes) -> Array:
        self._note(expr.args[0], axes)

        return _each(lambda v: self._draw(("positive", v)), self.value(expr.args[0], axes))

    def _zero(self, expr: Zero, axes: Axes) -> Array:
        self._note(expr.args[0], axes)
        values = self.value(expr.args[0], axes)
        if self._only_integers(expr):
            return _each(lambda v: int(v == 0), values)
        return _each(lambda v: 1 if v == 0 else self._draw(("zero", min(v, PRIME - v))), values)

    def _only_integers(self, expr: Expr) -> bool:
        return not expr.has(Reduction) and all(e.name in self.integers for e in expr.atoms(Element))

    def _function(self, expr: Expr, axes: Axes) -> Array:
        parts = np.broadcast_arrays(*(self.value(arg, axes) for arg in expr.args))
        for arg in expr.args:
            self._note(arg, axes)
        name = type(expr).__name__
        drawn = [self._draw((name, *values)) for values in zip(*(p.ravel() for p in parts), strict=True)]
        return np.array(drawn, dtype=object).reshape(parts[0].shape)

    def _delta(self, expr: Delta, axes: Axes) -> Array:
        difference = self.value(expr.args[0], axes) - self.value(expr.args[1], axes)
        return _each(lambda v: int(v == 0), difference % PRIME)

    def _choice(self, expr: sp.Piecewise, axes: Axes) -> Array:
        result = np.zeros([1] * len(axes), dtype=object)
        for value, condition in reversed(expr.args):
            result = np.where(self._holds(condition, axes), self.value(value, axes), result)
        return np.asarray(result, dtype=object)

    def _holds(self, condition: Expr, axes: Axes) -> Array:
        """A condition on indices and integers."""
        if condition in (sp.true, sp.false):
            return np.asarray(condition == sp.true)
        if isinstance(condition, sp.And | sp.Or):
            join = np.logical_and if isinstance(condition, sp.And) else np.logical_or
            return np.asarray(reduce(join, [self._holds(c, axes) for c in condition.args]))
        if isinstance(condition, sp.Not):
            return ~self._holds(condition.args[0], axes)
        if not isinstance(condition, Relational) or not self._only_integers(condition):
            raise NoValue(str(condition))
        difference = self.value(condition.lhs, axes) - self.value(condition.rhs, axes)
        signed = _each(lambda v: v % PRIME - PRIME * (v % PRIME > PRIME // 2), difference)
        return np.asarray(_COMPARE[type(condition)](signed), dtype=bool)

    def _reduction(self, expr: Reduction, axes: Axes) -> Array:
        inner = (*axes, *expr.loops)
        body = self.value(expr.body, inner)
        outer = body.shape[: len(axes)] if body.ndim else (1,) * len(axes)  # an axis that the body does not use stays 1
        body = np.broadcast_to(body, (*outer, *self._sizes(expr.loops)))
        if expr.condition != sp.true:
            raise NoValue(str(expr.condition))
        flat = body.reshape(*outer, prod(self._sizes(expr.loops)))
        if expr.kind == "sum":
            return np.asarray(flat.sum(axis=-1) % PRIME, dtype=object)
        rows = flat.reshape(-1, flat.shape[-1])
        if expr.kind == "prod":
            made = [reduce(lambda a, b: a * b % PRIME, row, 1) for row in rows]
        else:
            self._note(expr.body, inner)
            made = [self._draw((expr.kind, *sorted(row))) for row in rows]
        return np.array(made, dtype=object).reshape(flat.shape[:-1])

    def _draw(self, key: Any) -> int:
        if key not in self.drawn:
            self.drawn[key] = int(self.random.integers(1, PRIME))
        return self.drawn[key]

    def _sizes(self, axes: Axes) -> tuple[int, ...]:
        return tuple(self.dims.size(n) for _, n in axes)

    # degrees

    def _note(self, argument: Expr, axes: Axes) -> None:
        self.argument_degree = max(self.argument_degree, sum(self._degree(argument, axes)))

    def _degree(self, expr: Expr, axes: Axes) -> tuple[int, int]:
        """Degrees of a numerator and a denominator of the expression, over all that was drawn."""
        if (expr, axes) not in self.degrees:
            self.degrees[expr, axes] = self._degree_of(expr, axes)
        return self.degrees[expr, axes]

    def _degree_of(self, expr: Expr, axes: Axes) -> tuple[int, int]:
        if isinstance(expr, Reduction):
            above, below = self._degree(expr.body, (*axes, *expr.loops))
            count = prod(self._sizes(expr.loops))
            if expr.kind == "prod":
                return above * count, below * count
            return (above + below * max(count - 1, 0), below * count) if expr.kind == "sum" else (1, 0)
        if isinstance(expr, sp.Add | sp.Piecewise):
            values = expr.args if expr.is_Add else [value for value, _ in expr.args]
            return _sum_degree([self._degree(value, axes) for value in values])
        if isinstance(expr, sp.Mul):
            parts = [self._degree(arg, axes) for arg in expr.args]
            return sum(a for a, _ in parts), sum(b for _, b in parts)
        if isinstance(expr, sp.exp):
            count = sum(abs(t.as_coeff_Mul()[0]) for t in sp.Add.make_args(sp.expand(expr.args[0])))
            return ROOTS * int(sp.ceiling(count)), ROOTS * int(sp.ceiling(count))
        if isinstance(expr, sp.Pow) and expr.exp.is_Rational:
            above, below = self._degree(expr.base, axes)
            times = int(sp.ceiling(abs(expr.exp))) + 1
            return (above * times + 1, below * times) if expr.exp > 0 else (below * times + 1, above * times)
        return (0, 0) if expr.is_number or isinstance(expr, Delta) else (1, 0)

    _methods: tuple[tuple[Any, Callable[[Arithmetic, Any, Axes], Array | int]], ...] = (
        (sp.Rational, _rational),
        (sp.NumberSymbol, _constant),
        (Symbol, _symbol),
        (Element, _element),
        (Reduction, _reduction),
        (sp.Add, _added),
        (sp.Mul, _multiplied),
        (sp.exp, _exponential),
        (sp.Pow, _power),
        (Delta, _delta),
        (Positive, _positive),
        (Zero, _zero),
        (sp.Piecewise, _choice),
    )


def _sum_degree(parts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    below = sum(b for _, b in parts)
    return max((a + below - b for a, b in parts), default=0), below


def _each(function: Callable[[int], int], values: Array) -> Array:
    return np.asarray(np.frompyfunc(function, 1, 1)(values), dtype=object)


def _inverse(value: int) -> int:
    if value % PRIME == 0:
        raise NoValue("division by zero")
    return pow(value, -1, PRIME)


def sizes_of(system: System, dims: Mapping[str, int]) -> Dims:
    """The dimensions' symbols with these sizes. Raises VerifyError where one is missing."""
    symbols = {s for leaf in system.leaves.values() for n in leaf.shape for s in n.free_symbols}
    missing = sorted(str(s) for s in symbols if str(s) not in dims)
    if missing:
        raise VerifyError(f"no size is given for {', '.join(missing)}")
    return Dims({s: dims[str(s)] for s in sorted(symbols, key=str)})
