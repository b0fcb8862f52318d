"""A tensor of a system as one expression over the leaves: every equation on the way written into its users.

A tensor that is defined by an equation that it satisfies keeps a name: two such tensors of equal operands have
one. A⁻¹ B, however it came about, is the sum Σ_k A⁻¹[i, k] B[k, j] over a tensor A⁻¹, which `contractions`
turns into a call of solve again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Dummy, Expr, Symbol

from symgrad.algebra.inverses import Facts
from symgrad.algebra.naming import heads, nesting
from symgrad.algebra.normal import normal
from symgrad.algebra.ranges import comparison, decided, inside, with_ranges
from symgrad.algebra.tidy import cost, tidied
from symgrad.algebra.views import plain_index, split_deltas, with_split_loops
from symgrad.equations import Equation, System, equation
from symgrad.errors import DeriveError
from symgrad.formula.indexed import Element, Reduction, element, expression, substituted
from symgrad.index.bounds import within
from symgrad.index.definition import At, map_accesses
from symgrad.index.solution import Solution, solution
from symgrad.names import free_name
from symgrad.simplify.substitute import substitute

LONG, MOST_COST = 80, 160  # from where an expression is made shorter, and from where it is not written into others
DEEPEST = 4  # sums inside each other
INVERSE, SOLVE = "inv", "solve"
ORTHOGONAL = ("eigenvectors",)


class Closed:
    """Closed expressions of a system's tensors, in normal form, over `head(0), head(1), ...`.

    The tensors in `keep`, those that are read reshaped or where another tensor says, and those whose expression has
    grown long stay as they are; but what depends on the tensor `whole` is always written out.

    Attributes:
        system: the system given, and an equation A⁻¹ for every solve in it.
        facts: the symmetric matrices among those given, and what follows.
        cut: tensors that stay although they have a closed expression -> that expression.
        operands: tensor defined by an equation -> the closed expressions that it is a function of.
    """

    def __init__(
        self, system: System, keep: Collection[str] = (), symmetric: Collection[str] = (), whole: str = ""
    ) -> None:
        self.system, self.keep, self.whole = system.copy(), frozenset(keep), whole
        self.facts = Facts(frozenset(symmetric))
        self.operands: dict[str, tuple[Expr, ...]] = {}
        self.done: dict[str, Expr] = {}
        self.cut: dict[str, Expr] = {}
        self._same: dict[tuple[object, ...], str] = {}

    def __getitem__(self, name: str) -> Expr:
        """The expression of a tensor."""
        stack = [name]
        while stack:
            here = stack[-1]
            missing = [n for n in self._reads(here) if n not in self.done]
            if missing and here not in self.done:
                stack.extend(missing)
                continue
            stack.pop()
            if here not in self.done:
                self.done[here] = self._cut(here, self._closed(here))
        return self.cut.get(name, self.done[name])

    def _cut(self, name: str, expr: Expr) -> Expr:
        """The expression, or the tensor's own symbol where it has grown too long to be written into others."""
        deep = nesting(expr) > DEEPEST
        if cost(expr) <= LONG and not deep:
            return expr
        if not deep:
            _, expr = tidied(expr, self.facts)
        if (cost(expr) <= MOST_COST and not deep) or any(e.name == self.whole for e in expr.atoms(Element)):
            return expr
        self.cut[name] = expr
        return Element(name, heads(len(self.system.shape(name))))

    def normal(self, expr: Expr) -> Expr:
        """The normal form, by what is known of the tensors."""
        return normal(expr, self.facts)

    def _reads(self, name: str) -> Sequence[str]:
        e = self.system.equations.get(name)
        return () if e is None or name in self.keep else self._with_tests(e).operands

    def _closed(self, name: str) -> Expr:
        e = self.system.equations.get(name)
        if e is None or name in self.keep:
            return self.normal(Element(name, heads(len(self.system.shape(name)))))
        if isinstance(e.definition, Solution):
            return self.normal(self._solution(e, e.definition))
        return decided(self.normal(self._written(e)), dict(zip(heads(len(e.shape)), e.shape, strict=True)))

    # index formulas

    def _written(self, e: Equation) -> Expr:
        e = self._with_tests(e)
        definition = e.definition
        own, body = expression(definition)
        extents = definition.extents | dict(zip(own, definition.shape, strict=True))
        for reduction in body.atoms(Reduction):
            extents |= dict(reduction.loops)

        def value(at: At) -> Expr:
            name = e.source(at)
            shape = self.system.shape(name)
            index = [map_accesses(i, lambda inner: element(e.operands, inner)) for i in at.index]
            if at.view is not None or name in self.keep or any(i.has(Element) for i in index):
                return Element(name, index, at.view)
            read = substituted((heads(len(shape)), self.done[name]), index)
            condition = sp.And(*(inside(i, extents, n) for i, n in zip(index, shape, strict=True)))
            return sp.Piecewise((read, condition), (0, True))

        body = with_ranges(body, extents)
        tests = body.atoms(sp.core.relational.Relational)

        def tested(at: At) -> Expr:
            """The value, or the tensor's own symbol where a sum of choices would stand in the condition."""
            read = value(at)
            hidden = any(r.has(sp.Piecewise) for r in read.atoms(Reduction))
            return element(e.operands, at) if hidden else read

        sides = {t: [map_accesses(side, tested) for side in t.args] for t in tests if t.atoms(At)}
        body = body.xreplace({t: comparison(t.func, *pair) for t, pair in sides.items()})
        written = self._without_views(map_accesses(body, value), extents)
        return written.xreplace(dict(zip(own, heads(len(own)), strict=True)))

    def _with_tests(self, e: Equation) -> Equation:
        """The equation with tests of boolean tensors as the conditions that made these."""
        made = {name: self.system.equations[name] for name in e.operands if self._is_test(name)}
        return substitute(self.system, e, made) if made and e.solution is None else e

    def _is_test(self, name: str) -> bool:
        return name in self.system.equations and self.system.dtype(name) == "bool"

    def _without_views(self, expr: Expr, extents: dict[Symbol, Expr]) -> Expr:
        """Reads through a reshape as plain ones, where there is a way to write their index."""
        expr = with_split_loops(expr, self.system.shape)
        extents = extents | {i: n for reduction in expr.atoms(Reduction) for i, n in reduction.loops}
        change = {}
        for e in expr.atoms(Element):
            shape = self.system.shape(e.name)
            plain = None if e.view is None else plain_index(e.index, e.view, shape, extents)
            if plain is not None and all(within(i, extents, n) for i, n in zip(plain, shape, strict=True)):
                own = heads(len(shape))
                change[e] = substituted((own, self.done.get(e.name, Element(e.name, own))), plain)
        return split_deltas(expr.xreplace(change), extents)

    # tensors defined by equations

    def _solution(self, e: Equation, definition: Solution) -> Expr:
        operands = [self._read(e.operands[r.operand], r.transposed) for r in definition.reads]
        if definition.call == SOLVE:
            return self._solved(e, definition, operands)
        if definition.call == INVERSE:
            inverse = self._inverse(e.operands[0])
            return _turned(inverse) if definition.reads[0].transposed else inverse
        shapes = [self.system.shape(operand) for operand in e.operands]
        name = self._same.setdefault((definition.call, *operands, *shapes), e.name)
        if definition.call in ORTHOGONAL:
            self.facts = self.facts.with_orthogonal(name, e.shape[0])
        self.operands.setdefault(name, tuple(operands))
        return Element(name, heads(len(e.shape)))

    def _solved(self, e: Equation, definition: Solution, operands: Sequence[Expr]) -> Expr:
        """A⁻¹ B as the sum that it is."""
        read = definition.reads[0]
        inverse = self._inverse(e.operands[read.operand])
        (i, *rest), k = heads(len(e.shape)), Dummy("k", integer=True, nonnegative=True)
        factor = substituted((heads(2), inverse), (k, i) if read.transposed else (i, k))
        right = substituted((heads(len(e.shape)), operands[1]), (k, *rest))
        return Reduction("sum", factor * right, [(k, e.shape[0])])

    def _inverse(self, name: str) -> Expr:
        """The inverse of a tensor: of a product of square matrices, the product of their inverses."""
        matrix, (size, _) = self.done[name], self.system.shape(name)
        chain = self._chain(matrix, size)
        inverse = heads(2)
        if chain is None:
            return Element(self._named_inverse(name, matrix), inverse)
        first, last = inverse
        between = [Dummy("k", integer=True, nonnegative=True) for _ in chain[1:]]
        path = [first, *between, last]
        factors = []
        for (factor, turned), i, j in zip(reversed(chain), path[:-1], path[1:], strict=True):
            own = self._named_inverse(factor, Element(factor, heads(2)))
            factors.append(Element(own, (j, i) if turned else (i, j)))
        return Reduction("sum", sp.Mul(*factors), [(k, size) for k in between])

    def _chain(self, matrix: Expr, size: Expr) -> list[tuple[str, bool]] | None:
        """(name, transposed) ... of the square matrices that a matrix is the product of."""
        if not isinstance(matrix, Reduction) or any(n != size for _, n in matrix.loops):
            return None
        left = list(sp.Mul.make_args(matrix.body))
        named = all(isinstance(f, Element) and f.name in self.system for f in left)
        if len(left) != len(matrix.loops) + 1 or not named:
            return None
        chain: list[tuple[str, bool]] = []
        here = heads(2)[0]
        while left:
            factor = next((f for f in left if here in f.index), None)
            if factor is None or len(factor.index) != 2 or factor.index[0] == factor.index[1]:
                return None
            left.remove(factor)
            turned = factor.index[1] == here
            chain.append((factor.name, turned))
            here = factor.index[0] if turned else factor.index[1]
        return chain

    def _named_inverse(self, name: str, matrix: Expr) -> str:
        """The tensor that is the inverse of this one."""
        shape = self.system.shape(name)
        key = (INVERSE, matrix, *shape)
        if key not in self._same:
            made = free_name(f"{name}_inverse", self.system)
            self.system.add(equation(made, solution(INVERSE, [shape], [False]), [name], origin=made))
            self._same[key] = made
            self.operands[made] = (matrix,)
            self.facts = self.facts.with_inverse(made, matrix, shape[0], self.normal(_turned(matrix)) == matrix)
        return self._same[key]

    def _read(self, name: str, transposed: bool) -> Expr:
        return self.normal(_turned(self.done[name])) if transposed else self.done[name]


def _turned(matrix: Expr) -> Expr:
    first, second = heads(2)
    return matrix.xreplace({first: second, second: first})


def jacobian_of(closed: Closed, name: str, seed: str) -> Expr:
    """The tensor J of T[...] = Σ_r seed[r...] J[..., r...], for a tensor T: its axes r behind T's own.

    T is linear in the seed, so that J is its value at the unit tensors. Raises DeriveError where the seed stands in an
    equation that defines a tensor, and cannot be taken out of it.
    """
    own, shape = closed.system.shape(name), closed.system.shape(seed)
    for e in sorted(closed[name].atoms(Element), key=sp.default_sort_key):
        if e.name != seed and seed in closed.system.needed_for([e.name]):
            raise DeriveError(
                "this derivative has no closed form: it is the solution of an equation for each direction",
                hint="hvp gives its product with one direction, gradient the first derivative",
            )
    axes = heads(len(own) + len(shape))
    extents = dict(zip(axes, (*own, *shape), strict=True))
    units = _Units(seed, axes[len(own) :])
    return decided(closed.normal(units(closed[name], extents)), extents)


@dataclass(frozen=True)
class _Units:
    """Puts the unit tensor of the index `rows` in the place of a tensor."""

    name: str
    rows: Sequence[Symbol]

    def __call__(self, expr: Expr, extents: dict[Symbol, Expr]) -> Expr:
        """The expression, whose free indices and `rows` have these extents, with the unit tensor."""
        if isinstance(expr, Element):
            return self._unit(expr.index, extents) if expr.name == self.name else expr
        if isinstance(expr, Reduction):
            body = self(expr.body, extents | dict(expr.loops))
            return Reduction(expr.kind, body, expr.loops, expr.condition)
        return expr.func(*(self(part, extents) for part in expr.args)) if expr.has(Element) else expr

    def _unit(self, index: Sequence[Expr], extents: dict[Symbol, Expr]) -> Expr:
        equal = sp.And(*(sp.Eq(i, row, evaluate=False) for i, row in zip(index, self.rows, strict=True)))
        return sp.Piecewise((1, with_ranges(equal, extents)), (0, True))
