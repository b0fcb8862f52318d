"""The two layouts of a derivative of a scalar.

    denominator   the gradient: it has the shape of the tensor
    numerator     the derivative as a linear map: the transposed matrix, and a row for a column

Tensors of more than two axes have no transpose. Theirs is the derivative by each element in either layout.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sympy as sp
from sympy import Expr

from symgrad.errors import DeriveError, nearest
from symgrad.formula import notation as n
from symgrad.formula.lines import Line, Lines
from symgrad.formula.plan import Plan

LAYOUTS = ("denominator", "numerator")


def check_layout(layout: str) -> None:
    """Raise DeriveError unless this is a layout."""
    if layout not in LAYOUTS:
        known = nearest(str(layout), LAYOUTS) or "one of " + ", ".join(LAYOUTS)
        raise DeriveError(f"there is no layout {layout!r}", hint=known)


def layout_lines(plan: Plan, name: str, layout: str) -> list[Line]:
    """The lines of an equation in matrix notation, the derivative that it holds in this layout.

    Raises DeriveError for an unknown layout.
    """
    check_layout(layout)
    lines, rank = Lines(plan).matrix(name), len(plan.system.shape(name))
    tensor = plan.symbols.adjoints.get(name)
    if layout == "denominator" or tensor is None or rank not in (1, 2):
        return lines
    derivative = Lines(plan).partial(plan.symbols[tensor])
    scalars = {plan.symbols[leaf] for leaf in (*plan.system.leaves, *plan.shown) if plan.system.shape(leaf) == ()}
    form = plan.forms[name]
    whole = form is not None and len(form.axes) == rank
    gradient = replace(plan.symbols[name], scripted=True)
    turned = Line(derivative, n.transposed(gradient), _turned(plan.system.shape(name)))
    if tensor in plan.boundary:
        head = replace(lines[0], right=n.transposed(derivative))
        return [head, numerator_line(lines[-1], derivative, scalars) if whole else lines[-1]]
    if tensor not in plan.system.gradients:
        return lines
    if not whole or any(name in e.operands for e in plan.system):
        return [turned, *lines]
    return [numerator_line(lines[-1], derivative, scalars)]


def _turned(shape: tuple[Expr, ...] | None) -> tuple[Expr, ...] | None:
    """The shape of the derivative; a vector's is a row."""
    if shape is None:
        return None
    return (sp.Integer(1), *shape) if len(shape) == 1 else tuple(reversed(shape))


def numerator_line(line: Line, derivative: n.Atom, scalars: Collection[n.Node] = ()) -> Line:
    """The line ∇W = G of a vector or matrix as ∂L/∂W = Gᵀ, the transposition carried into G."""
    outside = n.transposed(line.right)
    inside = transpose_node(line.right, scalars)
    right = inside if inside == outside else n.Relation("=", outside, inside)
    return Line(derivative, right, _turned(line.shape))


def transpose_node(node: n.Node, scalars: Collection[n.Node] = ()) -> n.Node:
    """The transpose of a matrix in notation, carried to the symbols: (A B)ᵀ is Bᵀ Aᵀ.

    `scalars` are the symbols that stand for numbers; numbers, full sums and norms are known to be scalars.
    """
    return _Transposition(frozenset(scalars))(node)


class _Transposition:
    def __init__(self, scalars: frozenset[n.Node]) -> None:
        self.scalars = scalars

    def __call__(self, node: n.Node) -> n.Node:
        if self.is_scalar(node):
            return node
        if isinstance(node, n.Scaled):
            return n.scaled(node.value, self(node.body))
        if isinstance(node, n.Sum):
            return n.Sum(tuple((negative, self(term)) for negative, term in node.terms))
        if isinstance(node, n.Product):
            return self._product(node)
        if isinstance(node, n.Hadamard):
            return n.Hadamard(tuple(map(self, node.factors)))
        if isinstance(node, n.Kronecker):
            return n.Kronecker(tuple(map(self, node.factors)))
        if isinstance(node, n.Quotient):
            return n.Quotient(self(node.above), node.below if node.mark == "/" else self(node.below), node.mark)
        if isinstance(node, n.Power):
            return n.Power(self(node.base), self(node.exponent))
        if isinstance(node, n.Inverse):
            return n.Inverse(self(node.base))
        return n.transposed(node)

    def _product(self, node: n.Product) -> n.Node:
        """Scalars stay in front, the matrices turn around."""
        front = [f for f in node.factors if self.is_scalar(f)]
        matrices = [self(f) for f in reversed(node.factors) if not self.is_scalar(f)]
        return n.product([*front, *matrices])

    def is_scalar(self, node: n.Node) -> bool:
        """Whether the node is known to be a number."""
        if isinstance(node, n.Constant | n.Norm) or node in self.scalars:
            return True
        if isinstance(node, n.Reduce):
            return not node.letters
        if isinstance(node, n.Atom):
            return False
        inner = n.children(node)
        return bool(inner) and all(map(self.is_scalar, inner))
