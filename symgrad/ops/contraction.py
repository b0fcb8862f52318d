"""Sums of products."""

from __future__ import annotations

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand
from symgrad.ops.registry import Attribute, Case, listed, names, register


def _matmul(a: Operand, b: Operand) -> str:
    """Z[..., i, j] = sum(k, A[..., i, k]*B[..., k, j]); a vector on either side loses its index"""
    _vectors_at_least("matmul", a, b)
    if len(a.shape) == 1 or len(b.shape) == 1:
        left = "k" if len(a.shape) == 1 else "..., i, k"
        right = "k" if len(b.shape) == 1 else "..., k, j"
        out = listed([e for e in ("..., i" * (len(a.shape) > 1), "..., j" * (len(b.shape) > 1)) if e])
        return f"Z[{out}] = sum(k, A[{left}]*B[{right}])"
    return "Z[..., i, j] = sum(k, A[..., i, k]*B[..., k, j])"


def _vectors_at_least(op: str, *operands: Operand) -> None:
    if any(not x.shape for x in operands):
        raise ShapeError(f"{op} needs operands with one axis or more", hint="multiply by a scalar with *")


def _dot(a: Operand, b: Operand) -> str:
    """Z[i..., j..., m] = sum(k, A[i..., k]*B[j..., k, m])"""
    _vectors_at_least("dot", a, b)
    left = names("i", len(a.shape) - 1)
    right = names("j", len(b.shape) - 1)
    inner = [*right[:-1], "k", *right[-1:]]
    return f"Z[{listed(left, right)}] = sum(k, A[{listed(left, ['k'])}]*B[{listed(inner)}])"


def _einsum(*operands: Operand, subscripts: str) -> str:
    """numpy.einsum's subscripts as a sum of products: "ij,jk->ik" """
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    letters = "".join(terms)
    if not arrow:
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if not all(c.isascii() and c.isalpha() for c in letters + output):
        raise ShapeError(
            f"einsum subscripts {subscripts!r} have characters other than letters", hint='such as "ij,jk->ik"'
        )
    if len(terms) != len(operands):
        raise ShapeError(f"einsum {subscripts!r} names {len(terms)} operands, got {len(operands)}")
    if len(set(output)) != len(output) or not set(output) <= set(letters):
        raise ShapeError(f"einsum output {output!r}: each letter stands there once and in some operand")
    factors = [f"X{k}[{listed(_indices(term))}]" for k, term in enumerate(terms)]
    bound = [c for c in _indices("".join(dict.fromkeys(letters))) if c[-1] not in output]
    product = "*".join(factors)
    right = f"sum({', '.join(bound)}, {product})" if bound else product
    return f"Z[{listed(_indices(output))}] = {right}"


def _indices(letters: str) -> list[str]:
    return [f"i_{c}" for c in letters]


register(
    "matmul",
    _matmul,
    operands=["A", "B"],
    cases=[
        Case(np.matmul, shapes)
        for shapes in (
            ((2, 3), (3, 4)),
            ((3,), (3, 4)),
            ((2, 3), (3,)),
            ((3,), (3,)),
            ((2, 1, 2, 3), (4, 3, 2)),
            ((2, 2, 1, 3), (3, 1)),
            ((1, 1), (1, 1)),
            ((0, 3), (3, 2)),
            ((2, 0), (0, 2)),
            ((3,), (2, 3, 2)),
        )
    ],
)
register(
    "dot",
    _dot,
    operands=["A", "B"],
    cases=[Case(np.dot, s) for s in (((3,), (3,)), ((2, 3), (3, 4)), ((2, 3), (4, 3, 2)), ((3,), (3, 2)))],
)
register("outer", "Z[i, j] = A[i]*B[j]", cases=[Case(np.outer, ((3,), (4,))), Case(np.outer, ((1,), (2,)))])
register(
    "einsum",
    _einsum,
    operands=None,
    attributes={"subscripts": Attribute("text")},
    cases=[
        Case(lambda *x, s=s: np.einsum(s, *x), shapes, {"subscripts": s})
        for s, shapes in (
            ("ij,jk->ik", ((2, 3), (3, 4))),
            ("bhqd,bhkd->bhqk", ((2, 2, 3, 4), (2, 2, 5, 4))),
            ("ii->i", ((3, 3),)),
            ("ij->", ((2, 3),)),
            ("ij,kj,kl->il", ((2, 3), (4, 3), (4, 2))),
            ("ij,ij->j", ((4, 3), (4, 3))),
            ("ba", ((2, 3),)),
        )
    ],
)
