"""Derivatives of matrices by matrices as matrices, for vec, which stacks columns.

    v ↦ M v Nᵀ     N ⊗ M                  vec(M v Nᵀ) = (N ⊗ M) vec(v)
    v ↦ M vᵀ Nᵀ    (N ⊗ M) K              K vec(v) = vec(vᵀ)
    v ↦ D ⊙ v      diag(vec(D))
    v ↦ A tr(Bᵀ v) vec(A) vec(B)ᵀ
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy as sp
from sympy import Expr

from symgrad.algebra.delta import Delta
from symgrad.algebra.naming import head
from symgrad.calculus.arrays import IDENTITY, ONES, diagonal
from symgrad.calculus.structure import Piece, Shape, Tensor, pieces
from symgrad.formula.notation import (
    ONE,
    Atom,
    Call,
    Constant,
    Kronecker,
    Node,
    Product,
    Sum,
    product,
    scaled,
    split,
    total,
    transposed,
)
from symgrad.formula.scalar import NoMatrixForm

SWAP = Atom("K", "K")

Writer = Callable[[Expr, Shape], Node]


def vectorised(expr: Expr, rows: Shape, columns: Shape, write: Writer) -> Node:
    """The matrix of a linear map between tensors of up to two axes, where it is made of known kinds.

    Args:
        expr: its elements, over the row indices and then the column indices.
        write: an expression over head(0), ..., of a shape, in matrix notation.

    Raises NoMatrixForm.
    """
    if not (1 <= len(rows) <= 2 and 1 <= len(columns) <= 2):
        raise NoMatrixForm
    found = pieces(_with_columns(expr, rows, columns), _matrix(rows), _matrix(columns))
    return total([_node(piece, write, swap=len(columns) == 2) for piece in found]) if found else Constant(sp.Integer(0))


def _matrix(shape: Shape) -> Shape:
    """A vector as a matrix with one column."""
    return shape if len(shape) == 2 else (*shape, sp.Integer(1))


def _with_columns(expr: Expr, rows: Shape, columns: Shape) -> Expr:
    """The expression over two row and two column indices, whatever the ranks were."""
    change = {head(len(rows) + k): head(2 + k) for k, _ in enumerate(columns)}
    return expr.xreplace(change)


def _node(piece: Piece, write: Writer, swap: bool) -> Node:
    """`swap` is False for maps of vectors, whose K is the identity."""
    tensors = piece.tensors
    if piece.kind == "Diagonal":
        (tensor,) = tensors
        assert tensor is not None  # only Kronecker products have identities
        expr, shape = tensor
        return product([write(expr, ()), IDENTITY]) if shape == () else diagonal(_vec(write(expr, shape)))
    if piece.kind == "Dense" and tensors[0] and tensors[0][0] == Delta(head(0), head(3)) * Delta(head(1), head(2)):
        return SWAP
    if piece.kind == "LowRank":
        return _outer(tensors, write)
    if piece.kind not in ("Kronecker", "Swapped"):
        raise NoMatrixForm
    (first, left), (second, right) = (_factor(tensor, write) for tensor in tensors)
    factors = tuple(part for part in (right, left) if part != ONE)
    same = len(factors) == 1 or set(factors) == {IDENTITY}
    joined: Node = factors[0] if same else Kronecker(factors)
    if piece.kind == "Swapped" and swap:
        joined = SWAP if joined == IDENTITY else Product((joined, SWAP))
    return scaled(first * second, joined)


def _factor(tensor: Tensor | None, write: Writer) -> tuple[Expr, Node]:
    """(number, matrix); a vector of one row is written as a transpose, and one of one entry not at all."""
    if tensor is None:
        return sp.Integer(1), IDENTITY
    expr, shape = tensor
    if len(shape) == 1:
        expr, shape = expr * Delta(head(0), head(1)), shape * 2
    height, width = shape
    if height == 1 == width:
        return split(write(expr, ()))[0], ONE
    if height == 1:
        number, node = split(write(expr.xreplace({head(1): head(0)}), (width,)))
        return number, transposed(node)
    number, node = split(write(expr, (height,) if width == 1 else shape))
    if isinstance(node, Sum) and len(node.terms) == 1:
        raise NoMatrixForm
    return number, node


def _outer(tensors: Sequence[Tensor | None], write: Writer) -> Node:
    left, weight, right = tensors
    assert left is not None and weight is not None and right is not None  # only Kronecker products have identities
    if weight[1] != () or left[1][-1] != 1:
        raise NoMatrixForm
    sides = [_vec(write(expr, shape if shape[1] != 1 else shape[:1])) for expr, shape in (left, right)]
    return product([write(weight[0], ()), sides[0], transposed(sides[1])])


def _vec(node: Node) -> Node:
    number, body = split(node)
    return scaled(number, ONES if body == ONE else Call("vec", r"\operatorname{vec}", (body,)))
