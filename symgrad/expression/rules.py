"""How the shape of a result follows from those of its operands, and what it tells of theirs.

    Elementwise(op)             equal shapes, or scalars, or what NumPy broadcasts
    Signature(alternatives)     "mn,np->mp": axes of one letter are of one size; the first whose ranks fit
    Registered(op)              by the op's own formula; it tells nothing of its operand

Elementwise and Signature unify sizes. Which op a Signature means may depend on the ranks of the operands.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sympy import Expr, Integer

from symgrad.errors import GraphError
from symgrad.expression.sizes import Shape, Sizes
from symgrad.index.parser import Operand, parse
from symgrad.ops import OPS

Attributes = tuple[tuple[str, Any], ...]


class Mismatch(Exception):
    """Operands that do not fit; the text says what would."""


@dataclass(frozen=True)
class Rule(ABC):
    @abstractmethod
    def op(self, ranks: Sequence[int]) -> str:
        """The registered op that computes it."""

    @abstractmethod
    def rank(self, ranks: tuple[int, ...]) -> int | None:
        """The rank of the result, or None where operands of these ranks do not fit."""

    @abstractmethod
    def shape(self, shapes: Sequence[Shape], sizes: Sizes) -> Shape:
        """The shape of the result. Raises Mismatch where operands of these shapes do not fit."""


@dataclass(frozen=True)
class Elementwise(Rule):
    name: str

    def op(self, ranks: Sequence[int]) -> str:
        return self.name

    def rank(self, ranks: tuple[int, ...]) -> int | None:
        return max(ranks)

    def shape(self, shapes: Sequence[Shape], sizes: Sizes) -> Shape:
        rank = max(map(len, shapes))
        columns = [[s[axis - rank] for s in shapes if len(s) >= rank - axis] for axis in range(rank)]
        return tuple(self._axis(column, sizes) for column in columns)

    def _axis(self, column: Sequence[Expr], sizes: Sizes) -> Expr:
        """The common size of one axis. A size of 1 is repeated."""
        longer = [n for n in column if sizes.resolve(n) != 1]
        if not all(sizes.unify(longer[0], n) for n in longer[1:]):
            raise Mismatch("elementwise operands have the same shape, or one is a scalar")
        return longer[0] if longer else Integer(1)


@dataclass(frozen=True)
class Signature(Rule):
    """`alternatives`: (axes, op). "(mp)" is one axis that holds all pairs."""

    alternatives: tuple[tuple[str, str], ...]
    attributes: Attributes = ()

    def op(self, ranks: Sequence[int]) -> str:
        found = self._alternative(ranks)
        return self.alternatives[0][1] if found is None else found[1]

    def rank(self, ranks: tuple[int, ...]) -> int | None:
        found = self._alternative(ranks)
        if found is not None:
            return len(_axes(found[0].split("->")[1]))
        return self._registered().rank(ranks) if max(ranks) > 2 else None

    def shape(self, shapes: Sequence[Shape], sizes: Sizes) -> Shape:
        found = self._alternative([len(s) for s in shapes])
        if found is None and max(map(len, shapes)) > 2:
            return self._registered().shape(shapes, sizes)
        if found is None:
            raise Mismatch("it takes " + ", or ".join(_listed(axes) for axes, _ in self.alternatives))
        inputs, output = found[0].split("->")
        letters: dict[str, Expr] = {}
        for term, shape in zip(inputs.split(","), shapes, strict=True):
            for letter, size in zip(_axes(term), shape, strict=True):
                if not sizes.unify(letters.setdefault(letter, size), size):
                    raise Mismatch("it takes " + _listed(found[0]))
        return tuple(_size(axis, letters, sizes) for axis in _axes(output))

    def _alternative(self, ranks: Sequence[int]) -> tuple[str, str] | None:
        return next((a for a in self.alternatives if _input_ranks(a[0]) == tuple(ranks)), None)

    def _registered(self) -> Registered:
        """The op itself, for tensors of more axes than the alternatives name."""
        return Registered(self.alternatives[0][1], self.attributes)


@dataclass(frozen=True)
class Registered(Rule):
    name: str
    attributes: Attributes = ()

    def op(self, ranks: Sequence[int]) -> str:
        return self.name

    def rank(self, ranks: tuple[int, ...]) -> int | None:
        return _registered_rank(self, ranks)

    def shape(self, shapes: Sequence[Shape], sizes: Sizes) -> Shape:
        op = OPS[self.name]
        resolved = [tuple(map(sizes.resolve, s)) for s in shapes]
        operands = tuple(Operand(op.operand_name(k), s) for k, s in enumerate(resolved))
        try:
            return parse(op.text(operands, dict(self.attributes)), operands)[-1].definition.shape
        except GraphError as error:
            raise Mismatch(error.summary) from None


@lru_cache(maxsize=1024)
def _registered_rank(rule: Registered, ranks: tuple[int, ...]) -> int | None:
    made = dict(rule.attributes).get("shape")  # whether it can be made is for the sizes to say
    if isinstance(made, tuple):
        return len(made)
    sizes = Sizes()
    try:
        return len(rule.shape([tuple(sizes.fresh() for _ in range(rank)) for rank in ranks], sizes))
    except Mismatch:
        return None


@lru_cache(maxsize=256)
def _axes(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\([a-zA-Z]+\)|[a-zA-Z]", text))


@lru_cache(maxsize=256)
def _input_ranks(signature: str) -> tuple[int, ...]:
    return tuple(len(_axes(term)) for term in signature.split("->")[0].split(","))


def _size(axis: str, letters: dict[str, Expr], sizes: Sizes) -> Expr:
    return letters[axis] if len(axis) == 1 else sizes.product(letters[a] for a in axis.strip("()"))


def _listed(signature: str) -> str:
    """The operands of "mn,n->m" as "(m, n) and (n,)"."""
    return " and ".join(shape_text(_axes(term)) for term in signature.split("->")[0].split(","))


def shape_text(shape: Sequence[object]) -> str:
    """A shape as a person writes it; () is a scalar."""
    if not shape:
        return "a scalar"
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
