"""What kind of matrix a Hessian is, read off its closed form.

The Hessian H[r..., c...] of a scalar by one variable (or by two, a block) is a sum of terms, each a product over
row indices r and column indices c. What ties a row index to a column index tells the kind of a term:

    δ_ij d_i                            diagonal
    f_i g_j,  Σ_k U_ik c_k V_jk         low rank: U diag(c) Vᵀ
    M_ik N_jl     (rows ij, columns kl) Kronecker,   M_il N_jk swapped
    δ_ik B_i,jl                         blocks
    anything else                       dense

A term that is none of these is multiplied out first. Terms that differ in one factor only are one: δ_ik A_jl +
δ_ik B_jl is a Kronecker product of I with A + B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.algebra.delta import Delta
from symgrad.algebra.factors import multiplied_out
from symgrad.algebra.naming import head, heads, opened
from symgrad.algebra.normal import normal
from symgrad.formula.indexed import Element, Reduction

Shape = tuple[Expr, ...]
Tensor = tuple[Expr, Shape]


@dataclass(frozen=True)
class Piece:
    """A part of a structured matrix: its kind, as `operators` names it, and its tensors.

    A factor of a Kronecker product may be None, which is the identity, or have one axis, which is a diagonal.
    """

    kind: str
    tensors: tuple[Tensor | None, ...]
    axis: int | None = None


def pieces(expr: Expr, rows: Shape, columns: Shape) -> tuple[Piece, ...]:
    """The structure of H over head(0), ..., the row indices first."""
    found = [piece for term in sp.Add.make_args(expr) if term != 0 for piece in _pieces(term, rows, columns)]
    return tuple(_merged(found))


def name_of(structure: Sequence[Piece]) -> str:
    """The structure in words."""
    kinds = dict.fromkeys(_WORDS[piece.kind] for piece in structure)
    return " + ".join(kinds) or "zero"


_WORDS = {
    "Diagonal": "diagonal",
    "LowRank": "low rank",
    "Kronecker": "Kronecker",
    "Swapped": "swapped Kronecker",
    "Blocks": "blocks",
    "Dense": "dense",
}


def _pieces(term: Expr, rows: Shape, columns: Shape) -> list[Piece]:
    """The term as one part, or as several where it multiplies sums that make no known kind as they stand."""
    whole = _piece(term, rows, columns)
    if whole.kind in ("Dense", "LowRank") and (parts := _spread(term)):
        several = [_piece(part, rows, columns) for part in parts]
        if all(piece.kind != "Dense" for piece in several):
            return several
    return [whole]


def _spread(term: Expr) -> list[Expr]:
    """The terms of a product that has sums among its factors, or in what a reduction adds up."""
    factors = list(sp.Mul.make_args(term))
    inner = [f for f in factors if isinstance(f, Reduction) and f.kind == "sum"]
    for reduction in inner:
        body, loops = opened(reduction)
        parts = multiplied_out(body)
        if isinstance(parts, sp.Add):
            others = sp.Mul(*(f for f in factors if f is not reduction))
            return [others * normal(Reduction("sum", part, loops.items())) for part in parts.args]
    parts = multiplied_out(term)
    return list(parts.args) if isinstance(parts, sp.Add) else []


def _piece(term: Expr, rows: Shape, columns: Shape) -> Piece:
    r, c = heads(len(rows)), heads(len(rows) + len(columns))[len(rows) :]
    factors = list(sp.Mul.make_args(term))
    for kind in (_diagonal, _outer, _gram, _kronecker, _swapped, _blocks):
        piece = kind(factors, r, c, rows, columns)
        if piece is not None:
            return piece
    return Piece("Dense", ((term, (*rows, *columns)),), len(rows))


Indices = tuple[Symbol, ...]


def _diagonal(factors: Sequence[Expr], r: Indices, c: Indices, rows: Shape, columns: Shape) -> Piece | None:
    if rows != columns:
        return None
    wanted = {Delta(i, j) for i, j in zip(r, c, strict=True)}
    if not wanted <= set(factors):
        return None
    rest = sp.Mul(*(f for f in factors if f not in wanted)).xreplace(dict(zip(c, r, strict=True)))
    if any(isinstance(f, Delta) for f in sp.Mul.make_args(rest)):
        return None
    return Piece("Diagonal", ((rest, rows if rest.free_symbols & set(r) else ()),))


def _outer(factors: Sequence[Expr], r: Indices, c: Indices, rows: Shape, columns: Shape) -> Piece | None:
    """f_r g_c, as matrices with one column; either may be a number."""
    left = [f for f in factors if not f.free_symbols & set(c)]
    right = [f for f in factors if f not in left]
    if any(f.free_symbols & set(r) for f in right) or not (r and c):
        return None
    numbers = [f for f in left if not f.free_symbols & set(r)]
    left = [f for f in left if f not in numbers]
    first = (sp.Mul(*left), (*rows, Integer(1)))
    second = (sp.Mul(*right).xreplace(_first(c)), (*columns, Integer(1)))
    return Piece("LowRank", (first, (sp.Mul(*numbers), ()), second))


def _gram(factors: Sequence[Expr], r: Indices, c: Indices, rows: Shape, columns: Shape) -> Piece | None:
    """Σ_k U_rk w_k V_ck, perhaps with factors beside it."""
    sums = [f for f in factors if isinstance(f, Reduction) and f.free_symbols & set(r) and f.free_symbols & set(c)]
    others = [f for f in factors if f not in sums]
    tied = [f for f in others if f.free_symbols & set(r) and f.free_symbols & set(c)]
    if len(sums) != 1 or tied or len(sums[0].loops) != 1 or sums[0].kind != "sum":
        return None
    body, loops = opened(sums[0])
    ((k, size),) = loops.items()
    inside = [*sp.Mul.make_args(body)]
    if any(f.free_symbols & set(r) and f.free_symbols & set(c) for f in inside):
        return None
    left = [f for f in (*inside, *others) if f.free_symbols & set(r)]
    right = [f for f in (*inside, *others) if f.free_symbols & set(c)]
    weights = [f for f in inside if f not in left and f not in right]
    numbers = [f for f in others if f not in left and f not in right]
    weight = sp.Mul(*numbers, *weights)
    last = {k: head(len(rows))}
    return Piece(
        "LowRank",
        (
            (sp.Mul(*left).xreplace(last), (*rows, size)),
            (weight.xreplace({k: head(0)}), (size,) if weight.has(k) else ()),
            (sp.Mul(*right).xreplace(_first(c)).xreplace({k: head(len(columns))}), (*columns, size)),
        ),
    )


def _kronecker(factors: Sequence[Expr], r: Indices, c: Indices, rows: Shape, columns: Shape) -> Piece | None:
    if len(r) != 2 or len(c) != 2:
        return None
    return _paired("Kronecker", factors, ((r[0], c[0]), (r[1], c[1])), ((rows[0], columns[0]), (rows[1], columns[1])))


def _swapped(factors: Sequence[Expr], r: Indices, c: Indices, rows: Shape, columns: Shape) -> Piece | None:
    if len(r) != 2 or len(c) != 2:
        return None
    return _paired("Swapped", factors, ((r[0], c[1]), (r[1], c[0])), ((rows[0], columns[1]), (rows[1], columns[0])))


def _paired(
    kind: str, factors: Sequence[Expr], pairs: Sequence[tuple[Symbol, Symbol]], sizes: Sequence[tuple[Expr, Expr]]
) -> Piece | None:
    """A matrix over each pair of indices; numbers go with the last that is no identity."""
    groups: list[list[Expr]] = []
    numbers = [f for f in factors if not f.free_symbols & {i for pair in pairs for i in pair}]
    for pair in pairs:
        groups.append([f for f in factors if f.free_symbols & set(pair)])
    used = sum(map(len, groups)) + len(numbers)
    if used != len(factors) or any(f in groups[1] for f in groups[0]) or not all(groups):
        return None
    tensors: list[Tensor | None] = []
    for group, (i, j), size in zip(groups, pairs, sizes, strict=True):
        expr = sp.Mul(*group)
        tensors.append(_factor(expr, i, j, size))
    if numbers:
        place = 1 if tensors[1] is not None or tensors[0] is None else 0
        expr, shape = tensors[place] or (Integer(1), sizes[place][:1])
        tensors[place] = (sp.Mul(*numbers, expr), shape)
    return Piece(kind, tuple(tensors))


def _factor(expr: Expr, i: Symbol, j: Symbol, size: tuple[Expr, Expr]) -> Tensor | None:
    """The matrix over i and j: None for an identity, the entries of a diagonal."""
    delta = Delta(i, j)
    if expr == delta:
        return None
    factors = sp.Mul.make_args(expr)
    if delta in factors:
        return sp.Mul(*(f for f in factors if f != delta)).xreplace({i: head(0), j: head(0)}), size[:1]
    return expr.xreplace({i: head(0), j: head(1)}), size


def _blocks(factors: Sequence[Expr], r: Indices, c: Indices, rows: Shape, columns: Shape) -> Piece | None:
    """δ between one row index and its column index, and a matrix over the others that depends on it."""
    if rows != columns or len(r) != 2:
        return None
    for axis in (0, 1):
        delta, other = Delta(r[axis], c[axis]), 1 - axis
        if delta in factors:
            names = {r[axis]: head(0), c[axis]: head(0), r[other]: head(1), c[other]: head(2)}
            rest = sp.Mul(*(f for f in factors if f != delta)).xreplace(names)
            return Piece("Blocks", ((rest, (rows[axis], rows[other], rows[other])),), axis)
    return None


def _first(c: Indices) -> dict[Symbol, Symbol]:
    return {i: head(k) for k, i in enumerate(c)}


def _merged(found: Sequence[Piece]) -> list[Piece]:
    """Diagonals, dense parts and blocks added up; Kronecker products that share a factor as one."""
    result: list[Piece] = []
    for piece in found:
        for place, other in enumerate(result):
            joined = _joined(other, piece)
            if joined is not None:
                result[place] = joined
                break
        else:
            result.append(piece)
    return result


def _joined(first: Piece, second: Piece) -> Piece | None:
    if first.kind != second.kind or first.axis != second.axis:
        return None
    if first.kind == "Dense" and (_is_given(first) or _is_given(second)):
        return None
    if first.kind in ("Dense", "Blocks", "Diagonal"):
        return Piece(first.kind, (_sum(first.tensors[0], second.tensors[0]),), first.axis)
    for place in {"Kronecker": (0, 1), "LowRank": (1,)}.get(first.kind, ()):
        own, other = first.tensors[place], second.tensors[place]
        others = [t for k, t in enumerate(first.tensors) if k != place]
        if others == [t for k, t in enumerate(second.tensors) if k != place] and not (own is None and other is None):
            joined = _sum(own, other) if first.kind == "LowRank" else _sum_of_factors(own, other)
            return Piece(first.kind, (*first.tensors[:place], joined, *first.tensors[place + 1 :]))
    return None


def _is_given(piece: Piece) -> bool:
    """Whether a dense part is a matrix that exists already, or its transpose: to add it to others would only cost."""
    tensor = piece.tensors[0]
    return tensor is not None and isinstance(tensor[0], Element) and set(tensor[0].index) == set(heads(2))


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor:
    """Of two tensors of which either may have no axes."""
    assert first is not None and second is not None
    return first[0] + second[0], max(first[1], second[1], key=len)


def _sum_of_factors(first: Tensor | None, second: Tensor | None) -> Tensor:
    """Of two matrices that identities and diagonals may stand for."""
    shape = max((t[1] for t in (first, second) if t), key=len)
    terms = [t or (Integer(1), shape[:1]) for t in (first, second)]
    delta = Delta(head(0), head(1))
    return sp.Add(*(expr * delta if len(own) < len(shape) else expr for expr, own in terms)), shape
