"""Which products of whole matrices a sum over indices is.

The factors of a sum are the edges of a graph whose vertices are the indices: a factor with two indices joins
them, one with a single index stands at it. A path is a chain of matrix products, from one index of the result
to the other; a circle is a trace; a vector at an inner vertex is a diagonal matrix in the chain, one at an end
is multiplied with, and an end without one is summed over, which is a product with the vector of ones.

What is no such graph (three matrices at one index, tensors of higher order) has no matrix notation:
NoMatrixForm is raised, and the expression is written with indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import sympy as sp
from sympy import Expr, Symbol

from symgrad.calculus.arrays import ONES, beside, diagonal, entrywise_product, plainest, traced, with_powers
from symgrad.calculus.norms import is_divisor, rooted
from symgrad.formula.indexed import Element
from symgrad.formula.notation import Constant, Node, Norm, Power, product, transposed
from symgrad.formula.scalar import NoMatrixForm, Value


class Writer(Protocol):
    """What a network asks of the converter that it serves: single factors, as arrays over given indices."""

    @property
    def names(self) -> Mapping[str, Node]: ...
    @property
    def order(self) -> tuple[Symbol, ...]: ...
    def ordered(self, order: Sequence[Symbol]) -> Writer: ...
    def convert(self, expr: Expr) -> Value: ...
    def written(self, expr: Expr, axes: tuple[Symbol, ...]) -> Node: ...
    def factor_key(self, expr: Expr) -> tuple[object, ...]: ...


class Step(NamedTuple):
    """An edge on the way: the factors between two indices."""

    start: Symbol
    end: Symbol
    factors: tuple[Expr, ...]


class Network:
    """The factors of one sum as a graph; see the module's docstring."""

    def __init__(self, words: Writer, body: Expr, bound: Sequence[Symbol], free: Sequence[Symbol]) -> None:
        self.words, self.body, self.bound, self.free = words, body, tuple(bound), tuple(free)
        self.edges: dict[frozenset[Symbol], list[Expr]] = {}
        self.vectors: dict[Symbol, list[Expr]] = {}
        self.summed: dict[Symbol, list[Node]] = {}
        self.gone: set[Symbol] = set()
        vertices = {*bound, *free}
        constants = []
        for factor in sp.Mul.make_args(body):
            ends = frozenset(factor.free_symbols & vertices)
            if len(ends) > 2:
                raise NoMatrixForm
            if len(ends) == 2:
                self.edges.setdefault(ends, []).append(factor)
            elif ends:
                self.vectors.setdefault(next(iter(ends)), []).append(factor)
            else:
                constants.append(factor)
        self.constant = sp.Mul(*constants)

    def value(self) -> Value:
        value = self._vector_sum() if not self.edges else self._graph()
        if self.constant == 1:
            return value
        return Value(beside(self.words.convert(self.constant).node, value.node), value.axes)

    # one index

    def _vector_sum(self) -> Value:
        """Σ_i of a product of vectors."""
        if len(self.bound) != 1 or self.free:
            raise NoMatrixForm
        words = self.words.ordered(self.bound)
        factors = self.vectors[self.bound[0]]
        whole = sp.Mul(*factors)
        if isinstance(whole, Element) and len(whole.index) == 2 and whole.view is None:
            return Value(traced([self.words.names[whole.name]]))
        squared = rooted(whole, sp.Integer(2))
        if squared is not None:
            return Value(Power(Norm(words.convert(squared).node, "2"), Constant(sp.Integer(2))))
        if isinstance(whole, sp.Abs):
            return Value(Norm(words.convert(whole.args[0]).node, "1"))
        above = [f for f in factors if not is_divisor(f)]
        if len(above) < 2:
            return Value(product([transposed(ONES), words.convert(whole).node]))
        left, *rest = sorted(above, key=words.factor_key)
        others = sp.Mul(*rest, *(f for f in factors if is_divisor(f)))
        return Value(product([transposed(words.convert(left).node), words.convert(others).node]))

    # matrices

    def _graph(self) -> Value:
        if not self.free and len(self.bound) == 2 and len(self.edges) == 1 and not self.vectors:
            return self._matrix_sum()
        degree = self._degrees()
        while (crowded := next((i for i in degree if degree[i] > 2), None)) is not None:
            self._gather(crowded, degree)
            degree = self._degrees()
        if any(degree[i] == 0 for i in degree if i in self.bound):
            raise NoMatrixForm
        if len(self.free) == 2:
            return Value(self._chain(*self.free), self.free)
        if len(self.free) == 1:
            return self._from_free(self.free[0], degree)
        ends = [i for i in degree if i in self.bound and degree[i] == 1]
        return Value(self._best_form(ends) if ends else self._trace())

    def _degrees(self) -> dict[Symbol, int]:
        """How many edges each index has."""
        return {i: sum(i in ends for ends in self.edges) for i in (*self.bound, *self.free) if i not in self.gone}

    def _gather(self, crowded: Symbol, degree: Mapping[Symbol, int]) -> None:
        """Where three edges meet, one that ends at once is a vector: Σ_l t_kl is (t 1)_k."""
        for ends in list(self.edges):
            (other,) = ends - {crowded} if crowded in ends else (crowded,)
            if other in self.bound and degree[other] == 1 and other != crowded:
                edge = self._edge(crowded, other, tuple(self.edges.pop(ends)))
                self.summed.setdefault(crowded, []).append(product([edge, self._end(other)]))
                self.gone.add(other)
                return
        raise NoMatrixForm

    def _matrix_sum(self) -> Value:
        """Σ_ij of a product of matrices."""
        (factors,) = self.edges.values()
        words = self.words.ordered(self.bound)
        squared = rooted(sp.Mul(*factors), sp.Integer(2))
        if squared is not None:
            return Value(Power(Norm(words.convert(squared).node, "F"), Constant(sp.Integer(2))))
        above = [f for f in factors if not is_divisor(f)]
        if len(above) < 2:
            rows, columns = self.bound
            inside = self._edge(rows, columns, tuple(factors))
            return Value(product([transposed(ONES), inside, ONES]))
        left, *rest = sorted(above, key=words.factor_key)
        others = (*rest, *(f for f in factors if is_divisor(f)))
        options = []
        for a, b in (self.bound, self.bound[::-1]):
            options.append(traced([transposed(self._edge(a, b, (left,))), self._edge(a, b, others)]))
        return Value(plainest(options))

    def _from_free(self, start: Symbol, degree: Mapping[Symbol, int]) -> Value:
        """A vector: a chain that ends at a bound index, or comes back to where it began."""
        if degree[start] == 2:
            return Value(diagonal(self._chain(start, start)), (start,))
        if degree[start] != 1:
            raise NoMatrixForm
        ends = [i for i in degree if i in self.bound and degree[i] == 1]
        if len(ends) != 1:
            raise NoMatrixForm
        return Value(self._chain(start, ends[0], self._end(ends[0])), (start,))

    def _best_form(self, ends: Sequence[Symbol]) -> Node:
        """A scalar: a bilinear form between the two ends, written from the end that needs fewer transpositions."""
        if len(ends) != 2:
            raise NoMatrixForm
        first, last = sorted(ends, key=lambda i: [sp.default_sort_key(f) for f in self.vectors.get(i, ())])
        ways = ((first, last), (last, first))
        return plainest(product([transposed(self._end(a)), self._chain(a, b), self._end(b)]) for a, b in ways)

    def _trace(self) -> Node:
        """A circle, cut open where that reads best."""
        options = []
        for start in (i for i in self.bound if i not in self.gone):
            for steps in self._circles(start):
                options.append(traced([*self._at(start), self._written(steps)]))
        return plainest(options)

    def _circles(self, start: Symbol) -> list[list[Step]]:
        way = self._way(start, start)
        back = [Step(s.end, s.start, s.factors) for s in reversed(way)]
        return [way, back]

    def _chain(self, start: Symbol, end: Symbol, tail: Node | None = None) -> Node:
        written = self._written(self._way(start, end))
        return written if tail is None else product([written, tail])

    def _way(self, start: Symbol, end: Symbol) -> list[Step]:
        """The edges from one index to another; all of them, or there is no matrix notation."""
        left = dict(self.edges)
        steps: list[Step] = []
        here = start
        while not steps or here != end:
            around = [ends for ends in left if here in ends]
            if not around or (len(around) > 1 and steps):
                raise NoMatrixForm
            chosen = min(around, key=lambda ends: [sp.default_sort_key(f) for f in left[ends]])
            (there,) = chosen - {here}
            steps.append(Step(here, there, tuple(left.pop(chosen))))
            here = there
        if left or any(i not in {s for step in steps for s in step[:2]} for i in self.vectors if i not in self.gone):
            raise NoMatrixForm
        return steps

    def _written(self, steps: Sequence[Step]) -> Node:
        parts: list[Node] = []
        for k, step in enumerate(steps):
            if k:
                parts += self._at(step.start)
            parts.append(self._edge(*step))
        return with_powers(product(parts))

    def _at(self, index: Symbol) -> list[Node]:
        """The diagonal matrix at an inner vertex."""
        return [diagonal(self._vector(index))] if index in self.vectors or index in self.summed else []

    def _end(self, index: Symbol) -> Node:
        return self._vector(index) if index in self.vectors or index in self.summed else ONES

    def _vector(self, index: Symbol) -> Node:
        own = [self.words.ordered([index]).convert(sp.Mul(*self.vectors[index])).node] if index in self.vectors else []
        return entrywise_product([*own, *self.summed.get(index, ())])

    def _edge(self, rows: Symbol, columns: Symbol, factors: tuple[Expr, ...]) -> Node:
        """The factors as one matrix, turned in whichever way needs fewer transpositions."""
        expr = sp.Mul(*factors)
        options = []
        for turn in (False, True):
            words = self.words.ordered((columns, rows) if turn else (rows, columns))
            node = words.written(expr, words.order)
            options.append(transposed(node) if turn else node)
        return plainest(options)
