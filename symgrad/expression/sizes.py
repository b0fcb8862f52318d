"""Sizes that are not known yet, and what is found out about them: unification.

A size is a SymPy expression: a number, a dimension, arithmetic over them, or a placeholder for what is to be
found. Placeholders have names that no dimension can have.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp
from sympy import Expr, Symbol

from symgrad.index.definition import dimension

Shape = tuple[Expr, ...]

_PREFIX = "size__"


class Sizes:
    """What is known of the placeholders it made."""

    def __init__(self) -> None:
        self._values: dict[Expr, Expr] = {}
        self._factors: dict[Expr, tuple[Expr, ...]] = {}
        self._count = 0

    def fresh(self) -> Symbol:
        """A new placeholder."""
        self._count += 1
        return dimension(f"{_PREFIX}{self._count}")

    def product(self, factors: Iterable[Expr]) -> Expr:
        """The size of several axes stored as one. Two such sizes are equal factor by factor."""
        made = self.fresh()
        self._factors[made] = tuple(factors)
        return made

    def unify(self, a: Expr, b: Expr) -> bool:
        """Make two sizes equal; False if they cannot be. True too where that is seen only when all is known."""
        a, b = self._found(a), self._found(b)
        if a == b:
            return True
        if self._is_free(b):
            a, b = b, a
        if self._is_free(a):
            if a in self.resolve(b).free_symbols:
                return False
            self._values[a] = b
            return True
        return self._unify_products(a, b) or self._may_be_equal(a, b)

    def resolve(self, size: Expr) -> Expr:
        """The size with all that is known of its placeholders written in."""
        size = self._found(size)
        if size in self._factors:
            return sp.Mul(*map(self.resolve, self._factors[size]))
        inside = {s: self.resolve(s) for s in size.free_symbols if s != size and is_placeholder(s)}
        return size.xreplace(inside)

    def _found(self, size: Expr) -> Expr:
        while size in self._values:
            size = self._values[size]
        return size

    def _is_free(self, size: Expr) -> bool:
        return is_placeholder(size) and size not in self._factors

    def _unify_products(self, a: Expr, b: Expr) -> bool:
        left, right = self._factors.get(a, ()), self._factors.get(b, ())
        if not left or len(left) != len(right):
            return False
        return all(self.unify(x, y) for x, y in zip(left, right, strict=True))

    def _may_be_equal(self, a: Expr, b: Expr) -> bool:
        difference = sp.expand(self.resolve(a) - self.resolve(b))
        return difference == 0 or any(map(is_placeholder, difference.free_symbols))


def is_placeholder(size: Expr) -> bool:
    return isinstance(size, Symbol) and size.name.startswith(_PREFIX)
