"""The tree that every formula becomes before it is written as text or LaTeX: one grammar for both notations.

    Node      Atom(text, latex)            a symbol, with its index if it has one
              Constant(value)              a number or an expression of dimensions
              Scaled(value, body)          1/N X
              Product(factors)             A B: contraction, and the product of scalars
              Hadamard(factors)            A ⊙ B
              Quotient(above, below, mark) a / b, A ⊘ B
              Sum(terms)                   (negative, node) ...
              Power(base, exponent)        entry by entry
              Transposed(base), Inverse(base)
              Norm(body, order)            ‖x‖₂, the order as text
              Kronecker(factors)           A ⊗ B
              Call(text, latex, arguments) f(X)
              Reduce(kind, letters, body, condition)   Σₙ X, maxᵢ X
              Indicator(condition)         [z > 0]
              Relation(sign, left, right), Logic(word, arguments)
              Cases(rows, other)           a if c else b

Build products, quotients and sums with the functions below: they flatten, and move numbers to the front.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr


@dataclass(frozen=True)
class Node:
    """Base of the grammar."""


@dataclass(frozen=True)
class Atom(Node):
    """A symbol. `scripted` if it carries a superscript, so that another one needs parentheses."""

    text: str
    latex: str
    scripted: bool = False


@dataclass(frozen=True)
class Constant(Node):
    value: Expr


@dataclass(frozen=True)
class Scaled(Node):
    value: Expr
    body: Node


@dataclass(frozen=True)
class Product(Node):
    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Hadamard(Node):
    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Quotient(Node):
    above: Node
    below: Node
    mark: str


@dataclass(frozen=True)
class Sum(Node):
    terms: tuple[tuple[bool, Node], ...]


@dataclass(frozen=True)
class Power(Node):
    base: Node
    exponent: Node


@dataclass(frozen=True)
class Transposed(Node):
    base: Node


@dataclass(frozen=True)
class Inverse(Node):
    base: Node


@dataclass(frozen=True)
class Norm(Node):
    body: Node
    order: str


@dataclass(frozen=True)
class Kronecker(Node):
    factors: tuple[Node, ...]


@dataclass(frozen=True)
class Call(Node):
    text: str
    latex: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Reduce(Node):
    kind: str
    letters: tuple[str, ...]
    body: Node
    condition: Node | None = None


@dataclass(frozen=True)
class Indicator(Node):
    condition: Node


@dataclass(frozen=True)
class Relation(Node):
    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Logic(Node):
    word: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Cases(Node):
    rows: tuple[tuple[Node, Node], ...]
    other: Node


ONE = Constant(sp.Integer(1))


def split(node: Node) -> tuple[Expr, Node]:
    """node as (number, rest); the rest of a number is ONE."""
    if isinstance(node, Constant):
        return node.value, ONE
    if isinstance(node, Scaled):
        return node.value, node.body
    if isinstance(node, Sum) and len(node.terms) == 1:
        value, body = split(node.terms[0][1])
        return (-value if node.terms[0][0] else value), body
    return sp.Integer(1), node


def scaled(value: Expr, node: Node) -> Node:
    """value * node, its sign in front."""
    own, body = split(node)
    value = value * own
    if value.could_extract_minus_sign():
        positive = scaled(-value, body)
        return Sum(((True, positive),))
    if body == ONE or value == 0:
        return Constant(value)
    return body if value == 1 else Scaled(value, body)


def _lifted(nodes: Iterable[Node]) -> tuple[Expr, list[Node]]:
    """The product of the numbers, and the rest."""
    value: Expr = sp.Integer(1)
    rest: list[Node] = []
    for node in nodes:
        number, body = split(node)
        value = value * number
        rest += [] if body == ONE else [body]
    return value, rest


def product(nodes: Sequence[Node]) -> Node:
    """Nodes side by side."""
    value, rest = _lifted(nodes)
    below = [n.below for n in rest if isinstance(n, Quotient) and n.mark == "/"]
    above = [n.above if isinstance(n, Quotient) and n.mark == "/" else n for n in rest]
    flat: list[Node] = []
    for node in above:
        flat += node.factors if isinstance(node, Product) else [] if node == ONE else [node]
    made: Node = ONE if not flat else flat[0] if len(flat) == 1 else Product(tuple(flat))
    return scaled(value, Quotient(made, product(below), "/") if below else made)


def hadamard(nodes: Sequence[Node]) -> Node:
    """Nodes multiplied entry by entry."""
    value, rest = _lifted(nodes)
    flat: list[Node] = []
    for node in rest:
        flat += node.factors if isinstance(node, Hadamard) else [node]
    flat = _powers(flat)
    made: Node = ONE if not flat else flat[0] if len(flat) == 1 else Hadamard(tuple(flat))
    return scaled(value, made)


def _powers(factors: Sequence[Node]) -> list[Node]:
    """Equal factors as a power, where the first one stands."""
    counts = Counter(factors)
    return [f if counts[f] == 1 else Power(f, Constant(sp.Integer(counts[f]))) for f in dict.fromkeys(factors)]


def quotient(above: Node, below: Node, mark: str = "/") -> Node:
    """above / below, the numbers in front."""
    p, top = split(above)
    q, bottom = split(below)
    return scaled(p / q, top if bottom == ONE else Quotient(top, bottom, mark))


def total(terms: Sequence[Node]) -> Node:
    """A sum; the sums among the terms are flattened and signs are taken out."""
    flat: list[tuple[bool, Node]] = []
    for term in terms:
        flat += term.terms if isinstance(term, Sum) else [(False, term)]
    if flat[0][0] and not all(negative for negative, _ in flat):
        flat.sort(key=lambda term: term[0])
    return flat[0][1] if len(flat) == 1 and not flat[0][0] else Sum(tuple(flat))


def negated(node: Node) -> Node:
    return scaled(sp.Integer(-1), node)


def transposed(node: Node) -> Node:
    value, body = split(node)
    return scaled(value, body.base if isinstance(body, Transposed) else Transposed(body))


def reduced(kind: str, letters: Sequence[str], body: Node, condition: Node | None = None) -> Node:
    """A reduction; a sum leaves numbers outside."""
    if kind != "sum":
        return Reduce(kind, tuple(letters), body, condition)
    value, rest = split(body)
    return scaled(value, Reduce(kind, tuple(letters), rest, condition))


def children(node: Node) -> tuple[Node, ...]:
    """The parts of a node."""
    if isinstance(node, Product | Hadamard | Kronecker):
        return node.factors
    if isinstance(node, Sum):
        return tuple(term for _, term in node.terms)
    if isinstance(node, Call | Logic):
        return node.arguments
    if isinstance(node, Cases):
        return (*(part for row in node.rows for part in row), node.other)
    parts = (getattr(node, name) for name in node.__dataclass_fields__)
    return tuple(part for part in parts if isinstance(part, Node))


def nodes(node: Node) -> Iterator[Node]:
    """The node and all that is in it."""
    stack = [node]
    while stack:
        here = stack.pop()
        yield here
        stack.extend(children(here))


def weight(node: Node) -> int:
    """How many symbols a reader meets."""
    return count(node, Atom)


def count(node: Node, kind: type[Node]) -> int:
    """How many nodes of this kind occur."""
    return sum(isinstance(here, kind) for here in nodes(node))
