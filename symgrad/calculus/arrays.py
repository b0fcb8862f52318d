"""Nodes of products of whole arrays: what stands beside what, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import sympy as sp

from symgrad.formula.notation import (
    ONE,
    Atom,
    Call,
    Constant,
    Hadamard,
    Node,
    Power,
    Product,
    Quotient,
    Transposed,
    count,
    product,
    scaled,
    split,
)

ONES = Atom("1", r"\mathbf{1}")
IDENTITY = Atom("I", "I")


def diagonal(node: Node) -> Node:
    """diag(v)."""
    return Call("diag", r"\operatorname{diag}", (node,))


def traced(factors: Sequence[Node]) -> Node:
    """tr of a product."""
    return Call("tr", r"\operatorname{tr}", (product(factors),))


def beside(scalar: Node, array: Node) -> Node:
    """A scalar in front of a tensor; one that is a matrix product itself keeps its parentheses."""
    value, body = split(scalar)
    if isinstance(body, Quotient) and body.mark == "/":
        return scaled(value, Quotient(beside(body.above, array), body.below, "/"))
    if isinstance(body, Product) and array != ONE:
        return scaled(value, Product((body, *factor_list(array))))
    return product([scalar, array])


def entrywise_product(nodes: Sequence[Node]) -> Node:
    """x ⊙ x, which `hadamard` would write as a power: for a matrix that reads as the product with itself."""
    parts = [split(node) for node in nodes]
    flat = [f for _, body in parts for f in (body.factors if isinstance(body, Hadamard) else (body,)) if f != ONE]
    made = ONE if not flat else flat[0] if len(flat) == 1 else Hadamard(tuple(flat))
    return scaled(sp.Mul(*(value for value, _ in parts)), made)


def with_powers(node: Node) -> Node:
    """A A as A²."""
    value, body = split(node)
    if not isinstance(body, Product):
        return node
    made: list[Node] = []
    for factor, same in groupby(body.factors):
        times = len(list(same))
        made.append(factor if times == 1 else Power(factor, Constant(sp.Integer(times))))
    return scaled(value, made[0] if len(made) == 1 else Product(tuple(made)))


def plainest(options: Iterable[Node]) -> Node:
    """The first of those with the fewest transpositions."""
    return min(options, key=lambda node: count(node, Transposed))


def factor_list(node: Node) -> tuple[Node, ...]:
    """The factors of a matrix product, or the node itself."""
    return node.factors if isinstance(node, Product) else (node,)
