"""Closed expressions as equations again: every sum a chain of contractions of two tensors each.

A contraction with an inverse is a call of solve.
The order of a chain is the greedy one: at each step the pair whose product needs the least work, sizes that are
not known counting as `TYPICAL`. Vectors are therefore multiplied first, and A B x is A (B x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.closed import INVERSE, SOLVE
from symgrad.algebra.delta import Delta
from symgrad.algebra.naming import head, opened, renamed
from symgrad.algebra.tidy import Given
from symgrad.equations import System, equation
from symgrad.formula.indexed import Element, Reduction
from symgrad.index.definition import At, Definition, Loop, define
from symgrad.index.solution import Solution, solution
from symgrad.names import free_name

TYPICAL = 100

Axes = tuple[Loop, ...]


@dataclass
class Contractions:
    """Builds a system whose tensors are the expressions that are added.

    Attributes:
        system: the leaves and given equations, then what was added.
        given: tensors that expressions name and that are to be computed from what they are.
    """

    system: System
    given: Mapping[str, Given] = field(default_factory=dict)
    names: dict[tuple[Expr, tuple[Expr, ...]], str] = field(default_factory=dict)
    _same: dict[tuple[object, ...], str] = field(init=False)

    def __post_init__(self) -> None:
        self._same = {}
        for e in self.system:
            self._same.setdefault(e.key, e.name)

    def add(self, expr: Expr, shape: Sequence[Expr]) -> str:
        """The name of a tensor with `expr` over head(0), ... as its elements."""
        return self.tensor(expr, tuple((head(k), n) for k, n in enumerate(shape)))

    def tensor(self, expr: Expr, axes: Axes) -> str:
        """The tensor T with T[axes] = expr."""
        canonical = {i: head(k) for k, (i, _) in enumerate(axes)}
        key = expr.xreplace(canonical), tuple(n for _, n in axes)
        if key not in self.names:
            self.names[key] = self._made(expr, axes)
        return self.names[key]

    def _source(self, name: str) -> str:
        """The tensor of the system that an element's name stands for."""
        return self.add(self.given[name].stable, self.given[name].shape) if name in self.given else name

    def _made(self, expr: Expr, axes: Axes) -> str:
        if isinstance(expr, Element) and expr.view is None and expr.index == tuple(i for i, _ in axes):
            name = self._source(expr.name)
            if self.system.shape(name) == tuple(n for _, n in axes):
                return name
        if isinstance(expr, Reduction):
            return self._reduction(expr, axes)
        return self._elementwise(expr, axes)

    # entry by entry

    def _elementwise(self, expr: Expr, axes: Axes) -> str:
        operands: list[str] = []
        for reduction in sorted(expr.atoms(Reduction), key=sp.default_sort_key):
            if not reduction.free_symbols & {i for outer in expr.atoms(Reduction) for i, _ in outer.loops}:
                self.tensor(reduction, tuple((i, n) for i, n in axes if i in reduction.free_symbols))
        body = self._read(expr, axes, operands)
        return self._equation(body, axes, axes, operands)

    def _read(self, expr: Expr, axes: Axes, operands: list[str]) -> Expr:
        """The expression over accesses to `operands`, each sum in it a tensor of its own."""
        if isinstance(expr, Element):
            index = [self._read(i, axes, operands) for i in expr.index]
            return At(_number(self._source(expr.name), operands), index, expr.view)
        if isinstance(expr, Reduction):
            kept = tuple((i, n) for i, n in axes if i in expr.free_symbols)
            return At(_number(self.tensor(expr, kept), operands), [i for i, _ in kept])
        if isinstance(expr, sp.Abs | sp.sign):
            return self._real(expr, axes, operands)
        known = self._known(expr, axes) if isinstance(expr, sp.Function) else None
        if known is not None:
            return At(_number(known[0], operands), known[1])
        if isinstance(expr, Delta):
            return sp.Piecewise((1, sp.Eq(*expr.args, evaluate=False)), (0, True))
        if not expr.args:
            return expr
        return expr.func(*(self._read(part, axes, operands) for part in expr.args))

    def _real(self, expr: Expr, axes: Axes, operands: list[str]) -> Expr:
        """|u| and sign(u): a u that SymPy takes to be complex, as it does √x and log(x), is a tensor of its own."""
        (argument,) = expr.args
        inside = self._read(argument, axes, operands)
        if not inside.is_extended_real:
            kept = tuple((i, n) for i, n in axes if i in argument.free_symbols)
            inside = At(_number(self.tensor(argument, kept), operands), [i for i, _ in kept])
        return expr.func(inside)

    def _known(self, expr: Expr, axes: Axes) -> tuple[str, list[Symbol]] | None:
        """A tensor that holds the expression already, because some sum is over it."""
        kept = [(i, n) for i, n in axes if i in expr.free_symbols]
        canonical = {i: head(k) for k, (i, _) in enumerate(kept)}
        name = self.names.get((expr.xreplace(canonical), tuple(n for _, n in kept)))
        return None if name is None else (name, [i for i, _ in kept])

    # reductions

    def _reduction(self, expr: Reduction, axes: Axes) -> str:
        body, loops = opened(expr)
        everything = (*axes, *loops.items())
        if expr.kind != "sum":
            operand = self._operand(body, everything)
            return self._equation(operand.body, everything, axes, [operand.name], expr.kind)
        number, body = _content(body)
        if number != 1:
            own = [i for i, _ in axes]
            bare = self.tensor(renamed("sum", body, loops), axes)
            return self._equation(number * At(0, own), axes, axes, [bare])
        parts = self._factors(body, everything)
        while len(parts) > 1:
            left, right = min(combinations(parts, 2), key=lambda pair: _work(pair, parts, axes, dict(everything)))
            rest = [p for p in parts if p is not left and p is not right]
            parts = [*rest, self._pair(left, right, rest, axes, dict(everything))]
        (last,) = parts
        if last.index == tuple(i for i, _ in axes):
            return last.name
        return self._equation(last.body, _loops(last.index, axes, loops), axes, [last.name])

    def _factors(self, body: Expr, everything: Axes) -> list[_Part]:
        """A tensor for all factors that have the same indices; numbers go with the first."""
        groups: dict[tuple[Symbol, ...], list[Expr]] = {}
        for factor in sp.Mul.make_args(body):
            index = tuple(i for i, _ in everything if i in factor.free_symbols)
            groups.setdefault(index, []).append(factor)
        numbers = groups.pop((), [])
        order = sorted(groups, key=lambda index: (len(index), [sp.default_sort_key(f) for f in groups[index]]))
        made = [[sp.Mul(*groups[index])] for index in order]
        made[0] += numbers
        return [self._operand(sp.Mul(*part), everything) for part in made]

    def _operand(self, expr: Expr, everything: Axes) -> _Part:
        plain = isinstance(expr, Element) and expr.view is None and len(set(expr.index)) == len(expr.index)
        if plain and all(i in dict(everything) for i in expr.index):
            return _Part(self._source(expr.name), expr.index)
        axes = tuple((i, n) for i, n in everything if i in expr.free_symbols)
        return _Part(self.tensor(expr, axes), tuple(i for i, _ in axes))

    def _pair(
        self, left: _Part, right: _Part, rest: Sequence[_Part], axes: Axes, sizes: Mapping[Symbol, Expr]
    ) -> _Part:
        kept = _kept(left, right, rest, axes)
        for inverse, other in ((left, right), (right, left)):
            solved = self._solved(inverse, other, kept, sizes)
            if solved is not None:
                return solved
        index = tuple(dict.fromkeys([*(i for i, _ in axes if i in kept), *(i for i in sizes if i in kept)]))
        own = tuple((i, sizes[i]) for i in index)
        loops = tuple((i, sizes[i]) for i in dict.fromkeys((*index, *left.index, *right.index)))
        body = At(0, left.index) * At(1, right.index)
        return _Part(self._equation(body, loops, own, [left.name, right.name]), index)

    def _solved(self, inverse: _Part, other: _Part, kept: set[Symbol], sizes: Mapping[Symbol, Expr]) -> _Part | None:
        """Σ_k A⁻¹_ik B_kj is solve(A, B), and Σ_k A⁻¹_ki B_kj is solve(Aᵀ, B): no inverse is formed for a product."""
        e = self.system.equations.get(inverse.name)
        if e is None or not isinstance(e.definition, Solution) or e.definition.call != INVERSE:
            return None
        shared = [k for k in inverse.index if k in other.index and k not in kept]
        if len(shared) != 1 or len(other.index) > 2 or len(set(inverse.index)) < 2:
            return None
        if tuple(sizes[s] for s in inverse.index) != e.shape:
            return None
        (k,) = shared
        (i,) = (s for s in inverse.index if s != k)
        if i in other.index:
            return None
        columns = [s for s in other.index if s != k]
        right = self._turned(other, (k, *columns), sizes)
        transposed = inverse.index.index(k) == 0
        (matrix,) = e.operands
        shapes = [self.system.shape(matrix), tuple(sizes[s] for s in (k, *columns))]
        index = (i, *columns)
        name = self._named(solution(SOLVE, shapes, [transposed, False]), [matrix, right])
        return _Part(name, index)

    def _turned(self, part: _Part, index: tuple[Symbol, ...], sizes: Mapping[Symbol, Expr]) -> str:
        """A tensor that has its axes in the order of `index`."""
        axes = tuple((s, sizes[s]) for s in index)
        if part.index == index and self.system.shape(part.name) == tuple(n for _, n in axes):
            return part.name
        return self._equation(At(0, part.index), axes, axes, [part.name])

    def _equation(self, body: Expr, loops: Axes, axes: Axes, operands: Sequence[str], kind: str = "sum") -> str:
        index = [i for i, _ in axes]
        return self._named(define(loops, [n for _, n in axes], index, body, kind), operands)

    def _named(self, definition: Definition, operands: Sequence[str]) -> str:
        """The tensor with this definition: one that exists, or a new one."""
        key = equation("", definition, operands).key
        if key not in self._same:
            name = free_name("t", self.system)
            self.system.add(equation(name, definition, operands, origin=name))
            self._same[key] = name
        return self._same[key]


def _content(body: Expr) -> tuple[Expr, Expr]:
    """(number, rest): a number in front of a product is left for the sum, which has fewer entries.

    Numbers are all that reads no tensor and no index; dimensions are positive, indices may be 0.
    """
    number: Expr = sp.Integer(1)
    factors: list[Expr] = []
    for factor in sp.Mul.make_args(body):
        shared, rest = factor.primitive() if isinstance(factor, sp.Add) else (factor, sp.Integer(1))
        if isinstance(factor, sp.Add):
            number, factors = number * shared, [*factors, rest]
        elif factor.has(Element, Delta, Reduction) or not all(s.is_positive for s in factor.free_symbols):
            factors.append(factor)
        else:
            number = number * factor
    return (number, sp.Mul(*factors, evaluate=True)) if factors else (sp.Integer(1), body)


@dataclass(frozen=True)
class _Part:
    """A tensor and the indices at which a sum reads it."""

    name: str
    index: tuple[Symbol, ...]

    @property
    def body(self) -> Expr:
        return At(0, self.index)


def _loops(index: Sequence[Symbol], axes: Axes, loops: Mapping[Symbol, Expr]) -> Axes:
    sizes = dict(axes) | dict(loops)
    return tuple((i, sizes[i]) for i in dict.fromkeys([*(i for i, _ in axes), *index]))


def _kept(left: _Part, right: _Part, rest: Sequence[_Part], axes: Axes) -> set[Symbol]:
    later = {i for part in rest for i in part.index} | {i for i, _ in axes}
    return {*left.index, *right.index} & later


def _work(
    pair: tuple[_Part, _Part], parts: Sequence[_Part], axes: Axes, sizes: Mapping[Symbol, Expr]
) -> tuple[float, float, str, str]:
    """Multiplications that a pair costs and the size of what comes out."""
    left, right = pair
    rest = [p for p in parts if p is not left and p is not right]
    union = {*left.index, *right.index}
    return (
        _product(union, sizes),
        _product(_kept(left, right, rest, axes), sizes),
        left.name,
        right.name,
    )


def _product(indices: set[Symbol], sizes: Mapping[Symbol, Expr]) -> float:
    total = 1.0
    for i in indices:
        total *= float(sizes[i]) if sizes[i].is_Integer else TYPICAL
    return total


def _number(name: str, operands: list[str]) -> int:
    if name not in operands:
        operands.append(name)
    return operands.index(name)


def system_of(
    results: Mapping[str, tuple[Expr, Sequence[Expr]]], closed_in: System, given: Mapping[str, Given]
) -> tuple[System, dict[str, str]]:
    """(a system, label -> tensor) that computes closed expressions over what `given` holds.

    Args:
        results: label -> (expression over head(0), ..., shape).
        closed_in: the system that the expressions were closed in; they still name some of its tensors.
        given: tensors that were named since.
    """
    expressions = [expr for expr, _ in results.values()] + [tensor.stable for tensor in given.values()]
    names = {e.name for expr in expressions for e in expr.atoms(Element)} - given.keys()
    needed = closed_in.needed_for(names)
    start = System(dict(closed_in.leaves), {n: e for n, e in closed_in.equations.items() if n in needed})
    build = Contractions(start, given)
    found = {label: build.add(expr, shape) for label, (expr, shape) in results.items()}
    build.system.outputs = tuple(found.values())
    return build.system.pruned(), found
