"""What kind of matrix a Hessian is, read off its closed form.

The Hessian H[r..., c...] of a scalar by one variable (or by two, a block) is a sum of terms, each a product over
row indices r and column indices c. What ties a row index to a column index tells the kind of a term:

    δ_ij d_i                            diagonal
    f_i g_j,  Σ_k U_ik c_k V_jk         low rank: U diag(c) Vᵀ
    M_ik N_jl     (rows ij, columns kl) Kronecker,   M_il N_jk swapped
    δ_ik B_i,jl                         blocks
    anything else                       dense

Terms that differ in one factor only are one: δ_ik A_jl + δ_ik B_jl is a Kronecker product of I with A + B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.calculus.delta import Delta
from symgrad.calculus.normal import head, heads, opened
from symgrad.formula.indexed import Reduction

Shape = tuple[Expr, ...]
Tensor = tuple[Expr, Shape]


@dataclass(frozen=True)
class Piece:
    """A part of a structured matrix: its kind, as `operators` names it, and its tensors (None is the identity)."""

    kind: str
    tensors: tuple[Tensor | None, ...]
    axis: int | None = None


def pieces(expr: Expr, rows: Shape, columns: Shape) -> tuple[Piece, ...]:
    """The structure of H over head(0), ..., the row indices first."""
    found = [_piece(term, rows, columns) for term in sp.Add.make_args(expr) if term != 0]
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


def _piece(term: Expr, rows: Shape, columns: Shape) -> Piece:
    r, c = heads(len(rows)), heads(len(rows) + len(columns))[len(rows) :]
    factors = list(sp.Mul.make_args(term))
    for kind in (_diagonal, _outer, _gram, _kronecker, _swapped, _blocks):
        piece = kind(factors, r, c, rows, columns)
        if piece is not None:
            return piece
    return Piece("Dense", ((term, (*rows, *columns)),))


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
    """f_r g_c, as matrices with one column."""
    left = [f for f in factors if not f.free_symbols & set(c)]
    right = [f for f in factors if f not in left]
    if any(f.free_symbols & set(r) for f in right) or not right or not any(f.free_symbols & set(r) for f in left):
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
    found = _paired("Swapped", factors, ((r[0], c[1]), (r[1], c[0])), ((rows[0], columns[1]), (rows[1], columns[0])))
    return None if found is None or None in found.tensors else found


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
        identity = expr == Delta(i, j)
        tensors.append(None if identity else (expr.xreplace({i: head(0), j: head(1)}), size))
    if numbers:
        place = 1 if tensors[1] is not None or tensors[0] is None else 0
        expr, size = tensors[place] or (Delta(head(0), head(1)), sizes[place])
        tensors[place] = (sp.Mul(*numbers, expr), size)
    return Piece(kind, tuple(tensors))


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
    if first.kind in ("Dense", "Blocks", "Diagonal"):
        return Piece(first.kind, (_sum(first.tensors[0], second.tensors[0]),), first.axis)
    if first.kind == "Kronecker":
        for same in (0, 1):
            if first.tensors[same] == second.tensors[same]:
                joined = _sum(first.tensors[1 - same], second.tensors[1 - same])
                return None if joined is None else Piece(first.kind, _placed(first.tensors[same], joined, same))
    return None


def _placed(shared: Tensor | None, joined: Tensor, place: int) -> tuple[Tensor | None, ...]:
    return (shared, joined) if place == 0 else (joined, shared)


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        known = first or second
        if known is None:
            return None
        return known[0] + Delta(head(0), head(1)), known[1]
    return first[0] + second[0], max(first[1], second[1], key=len)
