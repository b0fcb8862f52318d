"""The terms of a sum of tensors: their order, and the factors that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sympy import Symbol

from symgrad.calculus.arrays import IDENTITY, beside, factor_list
from symgrad.formula.notation import Call, Constant, Node, Transposed, count, product, split, total, weight
from symgrad.formula.render_text import text
from symgrad.formula.scalar import Value


class Term(NamedTuple):
    """A term of a sum: a scalar times a tensor."""

    scalar: Node
    tensor: Value

    @property
    def node(self) -> Node:
        """The term in one."""
        return beside(self.scalar, self.tensor.node)

    @property
    def negative(self) -> bool:
        """Whether it is subtracted."""
        return bool(split(self.scalar)[0].could_extract_minus_sign())

    def place(self) -> tuple[object, ...]:
        """Products first, then single symbols, then numbers; what is subtracted last."""
        node = self.node
        tensor = self.tensor.node
        kind = 1 if not self.tensor.axes and isinstance(node, Constant) else 2 if isinstance(tensor, Call) else 0
        return self.negative, kind, -weight(tensor), count(node, Transposed), text(tensor), text(node)


def factored(terms: Sequence[Term], axes: tuple[Symbol, ...]) -> Node | None:
    """Z A Y + c Z Y as Z (A + c I) Y, where all terms end, or begin, with the same factors and that is shorter."""
    if len(terms) < 2 or not axes or any(term.tensor.axes != axes for term in terms):
        return None
    lists = [factor_list(term.tensor.node) for term in terms]
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
