"""Tensor expressions in matrix notation.

Products entry by entry are ⊙, diag and outer products; sums over indices are what `network` finds in them; terms
with a common factor are written as one (`terms`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.calculus.arrays import (
    IDENTITY,
    ONES,
    beside,
    diagonal,
    entrywise_product,
    factor_list,
    plainest,
)
from symgrad.calculus.network import Network
from symgrad.calculus.norms import order_of, rooted
from symgrad.calculus.terms import Term, factored
from symgrad.formula.indexed import Element, Reduction
from symgrad.formula.notation import (
    ONE,
    Atom,
    Call,
    Constant,
    Inverse,
    Node,
    Norm,
    Power,
    Product,
    Transposed,
    negated,
    product,
    quotient,
    scaled,
    split,
    total,
    transposed,
)
from symgrad.formula.scalar import Converter, NoMatrixForm, Value, fraction_parts

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
    return Words(names, frozenset(symmetric), axes).written(expr, tuple(axes))


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
        return Value(plainest([value.node, node]), value.axes)

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
        terms = [Term(*part) for part in parts]
        terms.sort(key=Term.place)
        if len(terms) > 1 and all(term.negative for term in terms):
            front, terms = -front, [Term(negated(t.scalar), t.tensor) for t in terms]
        return Value(scaled(front, self._summed(terms, axes)), axes)

    def _summed(self, terms: list[Term], axes: tuple[Symbol, ...]) -> Node:
        """The terms added up, those with a common factor as one."""
        whole = factored(terms, axes)
        if whole is not None:
            return whole
        nodes: list[Node] = []
        left = terms
        for end in (-1, 0):
            groups: dict[Node, list[Term]] = {}
            for term in left:
                groups.setdefault(factor_list(term.tensor.node)[end], []).append(term)
            together = {key: factored(group, axes) for key, group in groups.items()}
            nodes += [node for node in together.values() if node is not None]
            left = [term for key, group in groups.items() if together[key] is None for term in group]
        return total([*nodes, *(beside(t.scalar, self.lifted(t.tensor, axes)) for t in left)])

    def _parts(self, term: Expr) -> tuple[Node, Value]:
        """(scalar, tensor) of a term."""
        if isinstance(term, sp.Mul | Delta):
            return self._scalar_and_tensor(term)
        value = self.convert(term)
        return (ONE, value) if value.axes else (value.node, Value(ONE))

    def written(self, expr: Expr, axes: tuple[Symbol, ...]) -> Node:
        """The expression as a tensor with these axes; scalars stay in front where the tensor is turned."""
        if isinstance(expr, sp.Add):
            return self.lifted(self.convert(expr), axes)
        scalar, tensor = self._parts(expr)
        return beside(scalar, self.lifted(tensor, axes))

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
        top = entrywise_product(above) if above else ONES
        return quotient(top, entrywise_product(below), "⊘") if below else top

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
            return Value(entrywise_product([inside.node, inside.node]), inside.axes)
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
        order = order_of(base.body)
        if order is None or not (power * order).is_Integer:
            return None
        inside = rooted(base.body, order)
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
        return Network(self, expr.body, bound, free).value()

    def _extremum(self, expr: Reduction, bound: list[Symbol]) -> Value:
        """max(x): over all that there is, or along an axis of a matrix."""
        free = [i for i in self.order if i in expr.body.free_symbols]
        if expr.condition != sp.true or free:
            raise NoMatrixForm
        name = Call(expr.kind, "\\" + expr.kind, (self.ordered(bound).convert(expr.body).node,))
        return Value(name)


def _no_functions(number: int) -> Atom:
    raise NoMatrixForm


def _shared_number(terms: Sequence[Expr]) -> Expr:
    """The number that every term has in front, without its sign."""
    shared = {abs(t.as_coeff_Mul()[0]) for t in terms}
    return shared.pop() if len(shared) == 1 else sp.Integer(1)


def _entrywise_exponent(power: Expr) -> Node:
    written = str(power) if power.is_Integer else f"({power})"
    return Atom("⊙" + written, rf"\odot {written}")
