"""What is known of the tensors that expressions name, and the products that it makes simple: A⁻¹ A, and V Vᵀ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.algebra.naming import Loops, head, heads, opened
from symgrad.formula.indexed import Element, Reduction


@dataclass(frozen=True)
class Facts:
    """What is known of the tensors that expressions name.

    Attributes:
        symmetric: the matrices that equal their transpose.
        inverses: (inverse, what it is the inverse of, over head(0) and head(1), size) ...
        orthogonal: (matrix, size) ... whose transpose is the inverse.
        normalised: (tensor, axis, size) ... whose sum along the axis is 1 everywhere.

    What is known of a whole axis says nothing of a sum over a part of it: hence the sizes.
    """

    symmetric: frozenset[str] = frozenset()
    inverses: frozenset[tuple[str, Expr, Expr]] = frozenset()
    orthogonal: frozenset[tuple[str, Expr]] = frozenset()
    normalised: frozenset[tuple[str, int, Expr]] = frozenset()

    def with_normalised(self, name: str, axis: int, size: Expr) -> Facts:
        """The same and one more."""
        return replace(self, normalised=self.normalised | {(name, axis, size)})

    def with_inverse(self, name: str, matrix: Expr, size: Expr, symmetric: bool) -> Facts:
        """The same and one more."""
        more = {name} if symmetric else set()
        return replace(self, symmetric=self.symmetric | more, inverses=self.inverses | {(name, matrix, size)})

    def with_orthogonal(self, name: str, size: Expr) -> Facts:
        """The same and one more."""
        return replace(self, orthogonal=self.orthogonal | {(name, size)})


NOTHING = Facts()


@dataclass(frozen=True)
class Pattern:
    """A product of elements over head(0), head(1) and bound indices, to be found among the factors of another."""

    factors: tuple[Element, ...]
    bound: Loops

    @staticmethod
    def of(matrix: Expr) -> Pattern | None:
        """The pattern of a matrix that is a product of matrices, each index of which is a symbol."""
        body, loops = opened(matrix) if isinstance(matrix, Reduction) else (matrix, {})
        factors = sp.Mul.make_args(body)
        if not all(isinstance(f, Element) and f.view is None and all(i.is_Symbol for i in f.index) for f in factors):
            return None
        if not set(heads(2)) <= body.free_symbols:
            return None
        return Pattern(tuple(sorted(factors, key=sp.default_sort_key)), loops)

    def matches(
        self, others: Sequence[Expr], known: dict[Symbol, Expr]
    ) -> Iterator[tuple[dict[Symbol, Expr], set[int]]]:
        """(what the pattern's indices stand for, the places of the factors that it matches) ..."""
        stack: list[tuple[int, dict[Symbol, Expr], frozenset[int]]] = [(0, known, frozenset())]
        while stack:
            number, place, used = stack.pop()
            if number == len(self.factors):
                yield place, set(used)
                continue
            wanted = self.factors[number]
            for k, factor in enumerate(others):
                if k not in used and isinstance(factor, Element) and factor.name == wanted.name and factor.view is None:
                    bound = _bound_together(wanted.index, factor.index, place)
                    if bound is not None:
                        stack.append((number + 1, bound, used | {k}))


def _bound_together(
    pattern: Sequence[Expr], index: Sequence[Expr], place: dict[Symbol, Expr]
) -> dict[Symbol, Expr] | None:
    found = dict(place)
    for symbol, value in zip(pattern, index, strict=True):
        if found.setdefault(symbol, value) != value:
            return None
    return found


def without_inverses(
    factors: Sequence[Expr], loops: Loops, facts: Facts
) -> tuple[list[Expr], dict[Symbol, Expr]] | None:
    """Σ_k A⁻¹_ik A_kj as δ_ij, for the first inverse that meets its matrix, and the loops that are left."""
    names = {f.name for f in factors if isinstance(f, Element)}
    known = [fact for fact in facts.inverses if fact[0] in names]
    for name, matrix, size in sorted(known, key=lambda fact: fact[0]):
        pattern = Pattern.of(matrix)
        for inverse in factors:
            if pattern is not None and isinstance(inverse, Element) and inverse.name == name:
                others = [f for f in factors if f is not inverse]
                found = _met(inverse, size, pattern, others, loops, facts)
                if found:
                    return found
    return _orthogonal(factors, loops, facts)


def _met(
    inverse: Element, size: Expr, pattern: Pattern, others: Sequence[Expr], loops: Loops, facts: Facts
) -> tuple[list[Expr], dict[Symbol, Expr]] | None:
    """What is left where the factors of the matrix stand beside its inverse, sharing an index with it."""
    ways = [(1, 0), (0, 1)]  # A⁻¹ A, and A A⁻¹: end of the inverse, end of the matrix
    if inverse.name in facts.symmetric:
        ways += [(1, 1), (0, 0)]
    for end, near in ways:
        k, outside = inverse.index[end], inverse.index[1 - end]
        for place, used in pattern.matches(others, {head(near): k}):
            rest = [f for place_, f in enumerate(others) if place_ not in used]
            gone = {k: size} | {place[i]: n for i, n in pattern.bound.items()}
            far = place[head(1 - near)]
            whole = gone.items() <= loops.items() and len(gone) == 1 + len(pattern.bound)
            if whole and not gone.keys() & {outside, far} and not any(f.free_symbols & gone.keys() for f in rest):
                return [*rest, Delta(outside, far)], {i: n for i, n in loops.items() if i not in gone}
    return None


def _orthogonal(
    factors: Sequence[Expr], loops: Loops, facts: Facts
) -> tuple[list[Expr], dict[Symbol, Expr]] | None:
    """Σ_k V_ik V_jk as δ_ij."""
    sizes = dict(facts.orthogonal)
    known = [f for f in factors if isinstance(f, Element) and f.name in sizes]
    for left, right in combinations(known, 2):
        rest = [f for f in factors if f is not left and f is not right]
        for end in (0, 1) if left.name == right.name else ():
            k = left.index[end]
            whole = k == right.index[end] and loops.get(k) == sizes[left.name]
            if whole and left.index[1 - end] != k != right.index[1 - end] and not any(f.has(k) for f in rest):
                delta = Delta(left.index[1 - end], right.index[1 - end])
                return [*rest, delta], {i: n for i, n in loops.items() if i != k}
    return None
