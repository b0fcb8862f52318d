"""Definitions in matrix notation, where it exists: which products of whole tensors a formula over indices is.

    form(definition, operands)   the Form of a definition's result, or NoMatrixForm is raised

Entry by entry where no index is bound. A bound index that two factors share is a matrix product: the factors
of a sum of products are the edges of a graph whose vertices are the indices, and a path through it, from one
index of the result to the other, is a chain A B C, each turned to fit. An index that one factor alone has is
a sum along that axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import sympy as sp
from sympy import Expr, Symbol

from symgrad.formula.letters import Letters
from symgrad.formula.notation import (
    Atom,
    Node,
    Transposed,
    count,
    product,
    reduced,
    transposed,
)
from symgrad.formula.scalar import Converter, NoMatrixForm, Value, fraction_parts, oriented
from symgrad.formula.solution_form import solution_node
from symgrad.index.definition import At, Definition
from symgrad.index.solution import Solution


class Form(NamedTuple):
    """A tensor in matrix notation, and those of its axes along which it varies."""

    node: Node
    axes: tuple[int, ...]


class Operand(NamedTuple):
    """What stands for an operand: its form if it has one, its shape, and what it is sorted by.

    `whole` if the form is the tensor's own symbol, so that a part of it may be written x[:,0].
    """

    form: Form | None
    shape: tuple[Expr, ...]
    key: tuple[int, ...]
    whole: bool


class Setting(NamedTuple):
    """What a whole derivation has in common: letters, whether vectors are rows, where adjoints begin."""

    letters: Letters
    rows: bool
    function_letter: Callable[[int], Atom]
    first_adjoint: int


def form(definition: Definition, operands: Sequence[Operand], setting: Setting) -> Form:
    """The definition in matrix notation. Raises NoMatrixForm."""
    if isinstance(definition, Solution):
        node = solution_node(definition, _whole_nodes(operands), setting.rows)
        return Form(node, tuple(range(len(definition.shape))))
    if not definition.gathers:
        raise NoMatrixForm
    out = tuple(definition.write)
    if not definition.reduced:
        value = _Matrix(definition, operands, setting, out).convert(definition.body)
    elif definition.reduction == "sum":
        value = _sum(definition, operands, setting)
    else:
        value = _reduced(definition, operands, setting, [definition.body], [i for i, _ in definition.reduced])
    return Form(value.node, tuple(k for k, i in enumerate(out) if i in value.axes))


def _whole_nodes(operands: Sequence[Operand]) -> list[Node]:
    """The notation of operands that vary along all of their axes."""
    found = [operand.form.node for operand in operands if operand.form and len(operand.form.axes) == len(operand.shape)]
    if len(found) < len(operands):
        raise NoMatrixForm
    return found


class _Matrix(Converter):
    """Converts entry by entry, the axes in a given order."""

    def __init__(
        self, definition: Definition, operands: Sequence[Operand], setting: Setting, order: Sequence[Symbol]
    ) -> None:
        super().__init__(setting.function_letter, matrix=True)
        self.definition, self.operands, self.setting, self.order = definition, operands, setting, order

    def leaf(self, expr: Expr) -> Value:
        operand = self.operands[expr.operand]
        if operand.form is None or expr.view is not None:
            raise NoMatrixForm
        found = [expr.index[k] for k in operand.form.axes]
        sizes = [operand.shape[k] for k in operand.form.axes]
        extents = self.definition.extents
        if all(extents.get(e) == n for e, n in zip(found, sizes, strict=True)) and len(set(found)) == len(found):
            return oriented(operand.form.node, found, self.order)
        if not operand.whole:
            raise NoMatrixForm
        return oriented(*_part(operand.form.node, found, sizes, self.definition), self.order)

    def symbol(self, expr: Symbol) -> Node:
        raise NoMatrixForm

    def term_key(self, expr: Expr) -> tuple[object, ...]:
        return self.places(expr), sp.default_sort_key(expr)

    def factor_key(self, expr: Expr) -> tuple[object, ...]:
        places = self.places(expr)
        backward = any(place >= self.setting.first_adjoint for place in places)
        return not backward, places, sp.default_sort_key(expr)

    def places(self, expr: Expr) -> tuple[int, ...]:
        return tuple(sorted(place for at in expr.atoms(At) for place in self.operands[at.operand].key))

    def outer_order(self, values: Sequence[Value]) -> tuple[Symbol, Symbol] | None:
        axes = {v.axes for v in values}
        if len(axes) != 2 or any(len(a) != 1 for a in axes):
            return None
        rows, columns = (i for i in self.order if (i,) in axes)
        return rows, columns

    def outer(self, values: Sequence[Value]) -> Value:
        rows, columns = self.outer_order(values) or (self.order[0], self.order[1])
        left = self.multiply([v for v in values if v.axes == (rows,)]).node
        right = self.multiply([v for v in values if v.axes == (columns,)]).node
        node = product([transposed(left), right] if self.setting.rows else [left, transposed(right)])
        return Value(node, (rows, columns))


def _part(node: Node, index: Sequence[Expr], sizes: Sequence[Expr], d: Definition) -> tuple[Node, list[Symbol]]:
    """x[:,0,2:5]: loops with a shift and fixed numbers as an index."""
    written, axes = [], []
    for e, size in zip(index, sizes, strict=True):
        loops = [s for s in e.free_symbols if s in d.extents]
        if not loops and e.is_Integer:
            written.append(str(e))
            continue
        start = e - loops[0] if len(loops) == 1 else sp.S.NaN
        if not start.is_Integer or start < 0 or e.has(At):
            raise NoMatrixForm
        axes.append(loops[0])
        stop = start + d.extents[loops[0]]
        if stop != size and not (stop.is_Integer and size.is_Integer and stop < size):
            raise NoMatrixForm
        written.append(f"{start if start else ''}:{'' if stop == size else stop}")
    if not isinstance(node, Atom) or len(set(axes)) != len(axes):
        raise NoMatrixForm
    inside = ",".join(written)
    return Atom(f"{node.text}[{inside}]", f"{{{node.latex}}}_{{{inside}}}", False), axes


def _reduced(
    d: Definition,
    operands: Sequence[Operand],
    setting: Setting,
    factors: Sequence[Expr],
    loops: Sequence[Symbol],
) -> Value:
    """The reduction of a product along some of its axes."""
    order = _own_order(d, factors)
    body = sp.Mul(*factors)
    value = _Matrix(d, operands, setting, order).convert(body)
    kept = tuple(i for i in value.axes if i not in loops)
    if not set(loops) <= set(value.axes) or (len(value.axes) > 2 and kept):
        raise NoMatrixForm
    letters = setting.letters.several([d.extents[i] for i in value.axes])
    below = [letter for i, letter in zip(value.axes, letters, strict=True) if i in loops]
    return Value(reduced(d.reduction, below if len(value.axes) == 1 or kept else (), value.node), kept)


def _own_order(d: Definition, factors: Sequence[Expr]) -> tuple[Symbol, ...]:
    """The loops in the order in which the tensors themselves have them."""
    ats = sorted(set().union(*(f.atoms(At) for f in factors)), key=lambda at: (-len(at.index), at.operand))
    found = [e for at in ats for e in at.index if e in d.extents]
    return tuple(dict.fromkeys([*found, *d.extents]))


def _sum(d: Definition, operands: Sequence[Operand], setting: Setting) -> Value:
    """A sum of products: a chain of matrix products, times the factors without bound indices."""
    bound = {i for i, _ in d.reduced}
    axes = _Axes(d, operands)
    outside: list[Expr] = []
    inside: list[Expr] = []
    for factor in sp.Mul.make_args(d.body):
        (inside if axes(factor) & bound else outside).append(factor)
    if not bound <= set().union(*(axes(f) for f in inside)):
        raise NoMatrixForm
    summed = _Chain(d, operands, setting, inside, axes).value()
    turned = oriented(summed.node, summed.axes, d.write)
    matrix = _Matrix(d, operands, setting, tuple(d.write))
    constant, above, below = fraction_parts(outside)
    above.sort(key=matrix.factor_key)
    backward = [matrix.factor(f) for f in above if not matrix.factor_key(f)[0]]
    forward = [matrix.factor(f) for f in above if matrix.factor_key(f)[0]]
    return matrix.fraction(constant, [*backward, turned, *forward], matrix.sorted_values(below))


class _Axes:
    """The loops along which an expression varies, once its operands are written out."""

    def __init__(self, d: Definition, operands: Sequence[Operand]) -> None:
        self.d, self.operands = d, operands

    def __call__(self, expr: Expr) -> frozenset[Symbol]:
        found: set[Symbol] = set()
        for at in expr.atoms(At):
            form = self.operands[at.operand].form
            if form is None or at.view is not None:  # a view has other axes than the form
                raise NoMatrixForm
            found.update(s for k in form.axes for s in at.index[k].free_symbols if s in self.d.extents)
        return frozenset(found)


class Step(NamedTuple):
    """An edge of a path: the factors that have two indices."""

    start: Symbol
    end: Symbol
    factors: list[Expr]


class _Chain:
    """Factors as edges between the indices that they have; see the module's docstring."""

    def __init__(
        self,
        d: Definition,
        operands: Sequence[Operand],
        setting: Setting,
        factors: Sequence[Expr],
        axes: _Axes,
    ) -> None:
        self.d, self.operands, self.setting = d, operands, setting
        self.factors = list(factors)
        self.out = tuple(d.write)
        self.groups: dict[frozenset[Symbol], list[Expr]] = {}
        for factor in factors:
            self.groups.setdefault(axes(factor), []).append(factor)

    def value(self) -> Value:
        if len(self.groups) == 1:
            (axes,) = self.groups
            return self._single([i for i in axes if i not in self.out])
        if any(len(axes) > 2 for axes in self.groups):
            raise NoMatrixForm
        return self._walk()

    def _single(self, bound: list[Symbol]) -> Value:
        """One group: a sum along an axis; of two vectors, their inner product."""
        axes = next(iter(self.groups))
        if len(axes) == 1 and len(self.factors) == 2 and self.d.reduction == "sum":
            matrix = self._matrix(tuple(axes))
            left, right = (matrix.factor(f).node for f in sorted(self.factors, key=matrix.term_key))
            return Value(product([left, transposed(right)] if self.setting.rows else [transposed(left), right]))
        return _reduced(self.d, self.operands, self.setting, self.factors, bound)

    def _walk(self) -> Value:
        edges = {axes: factors for axes, factors in self.groups.items() if len(axes) == 2}
        vectors = {next(iter(axes)): factors for axes, factors in self.groups.items() if len(axes) == 1}
        start = here = self._start(edges, vectors)
        head = self._vector(vectors.pop(start)) if start in vectors else None
        steps: list[Step] = []
        while edges:
            around = [axes for axes in edges if here in axes]
            if len(around) != 1 or (steps and here in self.out):
                raise NoMatrixForm
            (there,) = around[0] - {here}
            factors = edges.pop(around[0])
            inner = any(there in axes for axes in edges)
            steps.append(Step(here, there, factors + (vectors.pop(there, []) if inner else [])))
            here = there
        tail = self._vector(vectors.pop(here)) if here in vectors else None
        if vectors:
            raise NoMatrixForm
        return self._composed(head, steps, tail)

    def _start(self, edges: dict[frozenset[Symbol], list[Expr]], vectors: dict[Symbol, list[Expr]]) -> Symbol:
        """An index of the result; else one end of the path, with a vector at it if there is one."""
        count = {i: sum(i in axes for axes in edges) for axes in edges for i in axes}
        for i in self.out:
            if i in count:
                return i
        ends = [i for i in self.d.extents if count.get(i) == 1]
        if not ends:
            raise NoMatrixForm
        return next((i for i in ends if i in vectors), ends[0])

    def _composed(self, head: Node | None, steps: Sequence[Step], tail: Node | None) -> Value:
        """The path as one product, summed over the ends that neither the result nor a vector has."""
        start, end = steps[0].start, steps[-1].end
        kept = tuple(i for i in (start, end) if i in self.out)
        matrices = [self._edge(*step) for step in steps]
        if self.setting.rows and len(kept) == 1 and tail is not None:
            turned = [self._edge(step.end, step.start, step.factors) for step in reversed(steps)]
            return Value(product([tail, *turned]), kept)
        left = [] if head is None else [head if self.setting.rows else transposed(head)]
        flipped = self.setting.rows and not kept
        right = [] if tail is None else [transposed(tail) if flipped else tail]
        node = product([*left, *matrices, *right])
        loose = [i for i, vector in ((start, head), (end, tail)) if i not in self.out and vector is None]
        return Value(self._summed(node, (start, end), loose), kept)

    def _summed(self, node: Node, axes: tuple[Symbol, Symbol], loose: Sequence[Symbol]) -> Node:
        if not loose:
            return node
        letters = self.setting.letters.several([self.d.extents[i] for i in axes])
        below = [letter for i, letter in zip(axes, letters, strict=True) if i in loose]
        return reduced("sum", below if len(loose) == 1 else (), node)

    def _matrix(self, order: Sequence[Symbol]) -> _Matrix:
        return _Matrix(self.d, self.operands, self.setting, order)

    def _vector(self, factors: Sequence[Expr]) -> Node:
        matrix = self._matrix(tuple(self.d.extents))
        return matrix.multiply([matrix.factor(f) for f in sorted(factors, key=matrix.factor_key)]).node

    def _edge(self, rows: Symbol, columns: Symbol, factors: Sequence[Expr]) -> Node:
        """The factors as one matrix, turned in whichever way needs fewer transpositions."""
        straight = self._turned((rows, columns), factors)
        try:
            turned = transposed(self._turned((columns, rows), factors))
        except NoMatrixForm:
            return straight
        return turned if count(turned, Transposed) < count(straight, Transposed) else straight

    def _turned(self, order: tuple[Symbol, Symbol], factors: Sequence[Expr]) -> Node:
        value = self._matrix(order).factor(sp.Mul(*factors))
        if len(value.axes) != 2:
            raise NoMatrixForm
        return value.node
