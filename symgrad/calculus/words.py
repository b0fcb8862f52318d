"""Tensor expressions in matrix notation: which products of whole matrices a sum over indices is.

The factors of a sum are the edges of a graph whose vertices are the indices: a factor with two indices joins
them, one with a single index stands at it. A path is a chain of matrix products, from one index of the result
to the other; a circle is a trace; a vector at an inner vertex is a diagonal matrix in the chain, one at an end
is multiplied with, and an end without one is summed over, which is a product with the vector of ones.

What is no such graph (three matrices at one index, tensors of higher order) has no matrix notation:
NoMatrixForm is raised, and the expression is written with indices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.formula.indexed import Element, Reduction
from symgrad.formula.notation import (
    ONE,
    Atom,
    Call,
    Constant,
    Hadamard,
    Inverse,
    Node,
    Norm,
    Power,
    Product,
    Quotient,
    Transposed,
    count,
    negated,
    product,
    quotient,
    scaled,
    split,
    total,
    transposed,
    weight,
)
from symgrad.formula.render_text import text
from symgrad.formula.scalar import Converter, NoMatrixForm, Value, fraction_parts

ONES = Atom("1", r"\mathbf{1}")
IDENTITY = Atom("I", "I")

Names = Mapping[str, Node]


def matrix_notation(expr: Expr, axes: Sequence[Symbol], names: Names, symmetric: Collection[str] = ()) -> Node:
    """A normal expression with the given axes as a scalar, column vector or matrix.

    Args:
        names: how each tensor is written.
        symmetric: the matrices that equal their transpose.

    Raises NoMatrixForm.
    """
    if len(axes) > 2:
        raise NoMatrixForm
    words = Words(names, frozenset(symmetric), axes)
    return words.lifted(words.convert(expr), tuple(axes))


def diagonal(node: Node) -> Node:
    """diag(v)."""
    return Call("diag", r"\operatorname{diag}", (node,))


class Words(Converter):
    """Converts expressions; every value has its axes in the order of `order`."""

    def __init__(self, names: Names, symmetric: frozenset[str], order: Sequence[Symbol]) -> None:
        super().__init__(_no_functions, matrix=True)
        self.names, self.symmetric, self.order = names, symmetric, tuple(order)

    def ordered(self, order: Sequence[Symbol]) -> Words:
        """The same for another order of axes."""
        return Words(self.names, self.symmetric, order)

    # the Converter's questions

    def convert(self, expr: Expr) -> Value:
        if isinstance(expr, sp.Add):
            return self._total(expr)
        if isinstance(expr, sp.Mul | Delta):
            return self._factors(expr)
        if isinstance(expr, sp.Pow) and not isinstance(expr, sp.exp):
            return self._raised(expr)
        value = super().convert(expr)
        if isinstance(value.node, Call) and len(value.axes) == 2:
            return self._turned_call(expr, value)
        return value

    def _turned_call(self, expr: Expr, value: Value) -> Value:
        """f(A B)ᵀ rather than f(Bᵀ Aᵀ)."""
        turned = Words(self.names, self.symmetric, self.order[::-1])
        node = transposed(Converter.convert(turned, expr).node)
        return Value(_plainest([value.node, node]), value.axes)

    def leaf(self, expr: Expr) -> Value:
        if isinstance(expr, Reduction):
            return self._reduction(expr)
        if not isinstance(expr, Element) or expr.view is not None or not all(i in self.order for i in expr.index):
            raise NoMatrixForm
        node, index = self.names[expr.name], expr.index
        if len(set(index)) < len(index):
            if len(index) != 2:
                raise NoMatrixForm
            return Value(diagonal(node), index[:1])
        place = self.order.index
        if len(index) == 2 and expr.name not in self.symmetric and place(index[0]) > place(index[1]):
            return Value(transposed(node), index[::-1])
        return Value(node, self.sorted(index))

    def symbol(self, expr: Symbol) -> Node:
        raise NoMatrixForm

    def term_key(self, expr: Expr) -> tuple[object, ...]:
        return not isinstance(expr, Element), sp.default_sort_key(expr)

    def factor_key(self, expr: Expr) -> tuple[object, ...]:
        return not isinstance(expr, Element), sp.default_sort_key(expr)

    def axes(self, values: Iterable[Value]) -> tuple[Symbol, ...]:
        """Of values that are combined entry by entry: arrays of one kind, or scalars beside them."""
        found = {v.axes for v in values if v.axes}
        if len(found) > 1:
            raise NoMatrixForm
        return next(iter(found), ())

    def sorted(self, axes: Iterable[Symbol]) -> tuple[Symbol, ...]:
        chosen = set(axes)
        return tuple(i for i in self.order if i in chosen)

    # sums

    def _total(self, expr: Expr) -> Value:
        front = _shared_number(expr.args)
        parts = [self._parts(term / front) for term in expr.args]
        axes = self.sorted(i for _, value in parts for i in value.axes)
        terms = [Term(*part, self) for part in parts]
        terms.sort(key=Term.place)
        if len(terms) > 1 and all(term.negative for term in terms):
            front, terms = -front, [Term(negated(t.scalar), t.tensor, self) for t in terms]
        return Value(scaled(front, self._summed(terms, axes)), axes)

    def _summed(self, terms: list[Term], axes: tuple[Symbol, ...]) -> Node:
        """The terms added up, those with a common factor as one."""
        whole = _factored(terms, axes)
        if whole is not None:
            return whole
        nodes: list[Node] = []
        left = terms
        for end in (-1, 0):
            groups: dict[Node, list[Term]] = {}
            for term in left:
                groups.setdefault(_factor_list(term.tensor.node)[end], []).append(term)
            together = {key: _factored(group, axes) for key, group in groups.items()}
            nodes += [node for node in together.values() if node is not None]
            left = [term for key, group in groups.items() if together[key] is None for term in group]
        return total([*nodes, *(term.lifted(axes) for term in left)])

    def _parts(self, term: Expr) -> tuple[Node, Value]:
        """(scalar, tensor) of a term."""
        if isinstance(term, sp.Mul | Delta):
            return self._scalar_and_tensor(term)
        value = self.convert(term)
        return (ONE, value) if value.axes else (value.node, Value(ONE))

    def lifted(self, value: Value, axes: tuple[Symbol, ...]) -> Node:
        """The value as a tensor with these axes: constant along those that it lacks."""
        missing = [i for i in axes if i not in value.axes]
        if not missing:
            return value.node
        if len(axes) == 1:
            return beside(value.node, ONES)
        if not value.axes:
            return beside(value.node, Product((ONES, transposed(ONES))))
        if value.axes == axes[:1]:
            return product([value.node, transposed(ONES)])
        return product([ONES, self.turned(value.node)])

    def turned(self, node: Node) -> Node:
        """The transpose, that of a product of symbols factor by factor: (A b)ᵀ = bᵀ Aᵀ."""
        value, body = split(node)
        if isinstance(body, Product) and all(isinstance(f, Atom | Transposed | Inverse | Power) for f in body.factors):
            return scaled(value, Product(tuple(self._turned_factor(f) for f in reversed(body.factors))))
        return transposed(node)

    def _turned_factor(self, factor: Node) -> Node:
        """The transpose of a symbol: (A²)ᵀ = (Aᵀ)², and S for a symmetric S."""
        if any(factor == self.names[name] for name in self.symmetric if name in self.names):
            return factor
        if isinstance(factor, Power):
            return Power(self._turned_factor(factor.base), factor.exponent)
        return transposed(factor)

    # products

    def _factors(self, expr: Expr) -> Value:
        front, value = self._scalar_and_tensor(expr)
        return Value(beside(front, value.node), value.axes)

    def _scalar_and_tensor(self, expr: Expr) -> tuple[Node, Value]:
        factors = sp.Mul.make_args(expr)
        deltas = [f for f in factors if isinstance(f, Delta)]
        constant, above, below = fraction_parts(f for f in factors if not isinstance(f, Delta))
        key = self.factor_key
        tops = [self.factor(f) for f in sorted(above, key=key)]
        bottoms = [self.factor(f) for f in sorted(below, key=key)]
        front = quotient(
            product([Constant(constant), *(v.node for v in tops if not v.axes)]),
            product([v.node for v in bottoms if not v.axes]),
        )
        arrays = [v for v in tops if v.axes]
        divisors = [v for v in bottoms if v.axes]
        return front, self._spread(deltas, arrays, divisors) if deltas else self._together(arrays, divisors)

    def _spread(self, deltas: Sequence[Delta], arrays: list[Value], divisors: list[Value]) -> Value:
        """δ_ij a_i: a diagonal matrix."""
        if len(deltas) != 1 or not all(i in self.order for i in deltas[0].args):
            raise NoMatrixForm
        axes = self.sorted(deltas[0].args)
        inside = self._together(arrays, divisors)
        if not inside.axes:
            return Value(IDENTITY, axes)
        if len(inside.axes) != 1:
            raise NoMatrixForm
        return Value(diagonal(inside.node), axes)

    def _together(self, arrays: list[Value], divisors: list[Value]) -> Value:
        """Arrays multiplied entry by entry: Hadamard products, outer products, scaled rows and columns."""
        if not arrays and not divisors:
            return Value(ONE)
        kinds = {v.axes for v in (*arrays, *divisors)}
        ordered = sorted(kinds, key=lambda axes: list(map(self.order.index, axes)))
        parts = {axes: self._entrywise(axes, arrays, divisors) for axes in ordered}
        if len(parts) == 1:
            ((axes, node),) = parts.items()
            return Value(node, axes)
        union = self.sorted(i for axes in parts for i in axes)
        if len(union) != 2:
            raise NoMatrixForm
        row, column = union
        left, matrix, right = parts.get((row,)), parts.get(union), parts.get((column,))
        if matrix is None:
            assert left is not None and right is not None  # or the union had one axis
            return Value(product([left, self.turned(right)]), union)
        chain = [*([diagonal(left)] if left else []), matrix, *([diagonal(right)] if right else [])]
        return Value(product(chain), union)

    def _entrywise(self, axes: tuple[Symbol, ...], arrays: list[Value], divisors: list[Value]) -> Node:
        above = [v.node for v in arrays if v.axes == axes]
        below = [v.node for v in divisors if v.axes == axes]
        top = _entrywise_product(above) if above else ONES
        return quotient(top, _entrywise_product(below), "⊘") if below else top

    def _raised(self, expr: Expr) -> Value:
        base, power = expr.as_base_exp()
        if isinstance(base, Reduction) and base.kind == "sum":
            norm = self._norm(base, power)
            if norm is not None:
                return norm
        if power.is_Rational and power < 0:
            return self._reciprocal(base**-power)
        inside = self.convert(base)
        if power == sp.Rational(1, 2):
            return Value(Call("sqrt", r"\sqrt", (inside.node,)), inside.axes)
        exponent = self.convert(power)
        if not inside.axes and not exponent.axes:
            return Value(Power(inside.node, exponent.node))
        if power == 2:
            return Value(_entrywise_product([inside.node, inside.node]), inside.axes)
        if exponent.axes and inside.axes:
            raise NoMatrixForm
        if power.is_number:
            return Value(Power(inside.node, _entrywise_exponent(power)), inside.axes)
        return Value(Call("pow", r"\operatorname{pow}", (inside.node, exponent.node)), inside.axes or exponent.axes)

    def _reciprocal(self, below: Expr) -> Value:
        """1 / below."""
        value = self.convert(below)
        if not value.axes:
            return Value(quotient(ONE, value.node))
        return self._together([], [value])

    # contractions

    def _norm(self, base: Reduction, power: Expr) -> Value | None:
        """‖x‖₂ to some power for the sum of all squares to half of it, ‖x‖_p likewise."""
        if base.free_symbols & set(self.order) or not power.is_Rational or power < 0:
            return None
        order = _order(base.body)
        if order is None or not (power * order).is_Integer:
            return None
        inside = _rooted(base.body, order)
        if inside is None:
            return None
        value = self.ordered([i for i, _ in base.loops]).convert(inside)
        if len(value.axes) != len(base.loops) or len(value.axes) > 2:
            return None
        if order != 2 and len(value.axes) == 2:
            return None
        norm = Norm(value.node, "F" if len(value.axes) == 2 else str(order))
        times = power * order
        return Value(norm if times == 1 else Power(norm, Constant(times)))

    def _reduction(self, expr: Reduction) -> Value:
        bound = [i for i, _ in expr.loops]
        if expr.kind != "sum":
            return self._extremum(expr, bound)
        free = [i for i in self.order if i in expr.body.free_symbols]
        if len(free) > 2:
            raise NoMatrixForm
        return _Network(self, expr.body, bound, free).value()

    def _extremum(self, expr: Reduction, bound: list[Symbol]) -> Value:
        """max(x): over all that there is, or along an axis of a matrix."""
        free = [i for i in self.order if i in expr.body.free_symbols]
        if expr.condition != sp.true or free:
            raise NoMatrixForm
        name = Call(expr.kind, "\\" + expr.kind, (self.ordered(bound).convert(expr.body).node,))
        return Value(name)


def beside(scalar: Node, array: Node) -> Node:
    """A scalar in front of a tensor; one that is a matrix product itself keeps its parentheses."""
    value, body = split(scalar)
    if isinstance(body, Quotient) and body.mark == "/":
        return scaled(value, Quotient(beside(body.above, array), body.below, "/"))
    if isinstance(body, Product) and array != ONE:
        return scaled(value, Product((body, *_factor_list(array))))
    return product([scalar, array])


def _no_functions(number: int) -> Atom:
    raise NoMatrixForm


def _shared_number(terms: Sequence[Expr]) -> Expr:
    """The number that every term has in front, without its sign."""
    shared = {abs(t.as_coeff_Mul()[0]) for t in terms}
    return shared.pop() if len(shared) == 1 else sp.Integer(1)


def _entrywise_product(nodes: Sequence[Node]) -> Node:
    """x ⊙ x, which `hadamard` would write as a power: for a matrix that reads as the product with itself."""
    parts = [split(node) for node in nodes]
    flat = [f for _, body in parts for f in (body.factors if isinstance(body, Hadamard) else (body,)) if f != ONE]
    made = ONE if not flat else flat[0] if len(flat) == 1 else Hadamard(tuple(flat))
    return scaled(sp.Mul(*(value for value, _ in parts)), made)


def _entrywise_exponent(power: Expr) -> Node:
    written = str(power) if power.is_Integer else f"({power})"
    return Atom("⊙" + written, rf"\odot {written}")


def _order(body: Expr) -> Expr | None:
    """p, where the body is |u| to the power p, an integer above 1."""
    powers = {factor.as_base_exp()[1] for factor in sp.Mul.make_args(body) if not factor.is_number}
    if not powers:
        return None
    order = max(powers, key=sp.default_sort_key) + (1 if body.has(sp.Abs) and len(powers) > 1 else 0)
    return order if order.is_Integer and order > 1 and _rooted(body, order) is not None else None


def _rooted(body: Expr, order: Expr) -> Expr | None:
    """u, where the body is |u| to the power `order`; |u|³ is |u| u² to SymPy."""
    inside: dict[Expr, Expr] = {}
    number: Expr = sp.Integer(1)
    for factor in sp.Mul.make_args(body):
        base, power = factor.as_base_exp()
        if factor.is_number:
            number = number * factor
        else:
            u = base.args[0] if isinstance(base, sp.Abs) else base
            inside[u] = inside.get(u, sp.Integer(0)) + power
    absolute = order.is_even or all(sp.Abs(u) in sp.Mul.make_args(body) for u in inside)
    if not number.is_positive or not absolute or any(power != order for power in inside.values()):
        return None
    return sp.Mul(number ** (1 / order), *inside)


class Step(NamedTuple):
    """An edge on the way: the factors between two indices."""

    start: Symbol
    end: Symbol
    factors: tuple[Expr, ...]


class _Network:
    """The factors of one sum as a graph; see the module's docstring."""

    def __init__(self, words: Words, body: Expr, bound: Sequence[Symbol], free: Sequence[Symbol]) -> None:
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
            return Value(_traced([self.words.names[whole.name]]))
        squared = _rooted(whole, sp.Integer(2))
        if squared is not None:
            return Value(Power(Norm(words.convert(squared).node, "2"), Constant(sp.Integer(2))))
        if isinstance(whole, sp.Abs):
            return Value(Norm(words.convert(whole.args[0]).node, "1"))
        above = [f for f in factors if not _is_divisor(f)]
        if len(above) < 2:
            return Value(product([transposed(ONES), words.convert(whole).node]))
        left, *rest = sorted(above, key=words.factor_key)
        others = sp.Mul(*rest, *(f for f in factors if _is_divisor(f)))
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
        squared = _rooted(sp.Mul(*factors), sp.Integer(2))
        if squared is not None:
            return Value(Power(Norm(words.convert(squared).node, "F"), Constant(sp.Integer(2))))
        above = [f for f in factors if not _is_divisor(f)]
        if len(above) < 2:
            rows, columns = self.bound
            inside = self._edge(rows, columns, tuple(factors))
            return Value(product([transposed(ONES), inside, ONES]))
        left, *rest = sorted(above, key=words.factor_key)
        others = (*rest, *(f for f in factors if _is_divisor(f)))
        options = []
        for a, b in (self.bound, self.bound[::-1]):
            options.append(_traced([transposed(self._edge(a, b, (left,))), self._edge(a, b, others)]))
        return Value(_plainest(options))

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
        return _plainest(product([transposed(self._end(a)), self._chain(a, b), self._end(b)]) for a, b in ways)

    def _trace(self) -> Node:
        """A circle, cut open where that reads best."""
        options = []
        for start in (i for i in self.bound if i not in self.gone):
            for steps in self._circles(start):
                options.append(_traced([*self._at(start), self._written(steps)]))
        return _plainest(options)

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
        return _with_powers(product(parts))

    def _at(self, index: Symbol) -> list[Node]:
        """The diagonal matrix at an inner vertex."""
        return [diagonal(self._vector(index))] if index in self.vectors or index in self.summed else []

    def _end(self, index: Symbol) -> Node:
        return self._vector(index) if index in self.vectors or index in self.summed else ONES

    def _vector(self, index: Symbol) -> Node:
        own = [self.words.ordered([index]).convert(sp.Mul(*self.vectors[index])).node] if index in self.vectors else []
        return _entrywise_product([*own, *self.summed.get(index, ())])

    def _edge(self, rows: Symbol, columns: Symbol, factors: tuple[Expr, ...]) -> Node:
        """The factors as one matrix, turned in whichever way needs fewer transpositions."""
        expr = sp.Mul(*factors)
        options = []
        for turn in (False, True):
            words = self.words.ordered((columns, rows) if turn else (rows, columns))
            node = words.lifted(words.convert(expr), words.order)
            options.append(transposed(node) if turn else node)
        return _plainest(options)


def _with_powers(node: Node) -> Node:
    """A A as A²."""
    value, body = split(node)
    if not isinstance(body, Product):
        return node
    made: list[Node] = []
    for factor, same in groupby(body.factors):
        times = len(list(same))
        made.append(factor if times == 1 else Power(factor, Constant(sp.Integer(times))))
    return scaled(value, made[0] if len(made) == 1 else Product(tuple(made)))


def _is_divisor(factor: Expr) -> bool:
    power = factor.as_base_exp()[1]
    return bool(power.is_Rational and power < 0 and not isinstance(factor, sp.exp))


def _traced(factors: Sequence[Node]) -> Node:
    return Call("tr", r"\operatorname{tr}", (product(factors),))


def _plainest(options: Iterable[Node]) -> Node:
    """The first of those with the fewest transpositions."""
    return min(options, key=lambda node: count(node, Transposed))


class Term(NamedTuple):
    """A term of a sum: a scalar times a tensor."""

    scalar: Node
    tensor: Value
    words: Words

    @property
    def node(self) -> Node:
        return beside(self.scalar, self.tensor.node)

    @property
    def negative(self) -> bool:
        return bool(split(self.scalar)[0].could_extract_minus_sign())

    def lifted(self, axes: tuple[Symbol, ...]) -> Node:
        return self.words.lifted(Value(self.node, self.tensor.axes), axes)

    def place(self) -> tuple[object, ...]:
        """Products first, then single symbols, then numbers; what is subtracted last."""
        node = self.node
        tensor = self.tensor.node
        kind = 1 if not self.tensor.axes and isinstance(node, Constant) else 2 if isinstance(tensor, Call) else 0
        return self.negative, kind, -weight(tensor), count(node, Transposed), text(tensor), text(node)


def _factored(terms: Sequence[Term], axes: tuple[Symbol, ...]) -> Node | None:
    """Z A Y + c Z Y as Z (A + c I) Y, where all terms end, or begin, with the same factors and that is shorter."""
    if len(terms) < 2 or not axes or any(term.tensor.axes != axes for term in terms):
        return None
    lists = [_factor_list(term.tensor.node) for term in terms]
    after = _common([factors[::-1] for factors in lists])[::-1]
    lists = [factors[: len(factors) - len(after)] for factors in lists]
    before = _common(lists) if len(axes) == 2 or after else ()
    lists = [factors[len(before) :] for factors in lists]
    if not (before or after) or not any(lists):
        return None
    if len(axes) == 1 and any(len(factors) > 1 for factors in lists):  # no sum of products of matrices for vectors
        return None
    inside = total([beside(t.scalar, product(rest or (IDENTITY,))) for t, rest in zip(terms, lists, strict=True)])
    made = product([*before, inside, *after])
    return made if weight(made) < weight(total([term.node for term in terms])) else None


def _common(lists: Sequence[tuple[Node, ...]]) -> tuple[Node, ...]:
    """The factors that all lists begin with."""
    shared = []
    for column in zip(*lists, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return tuple(shared)


def _factor_list(node: Node) -> tuple[Node, ...]:
    return node.factors if isinstance(node, Product) else (node,)
