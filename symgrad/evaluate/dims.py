"""The sizes of named dimensions, from the shapes of the arrays that are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Leaf
from symgrad.errors import VerifyError


@dataclass
class Dims:
    """Sizes by dimension symbol, and every extent that follows from them."""

    sizes: dict[Symbol, int] = field(default_factory=dict)
    memo: dict[Expr, int] = field(default_factory=dict)

    def size(self, extent: Expr) -> int:
        """The number that an extent is. Raises VerifyError if that is no whole number of 0 or more."""
        if extent not in self.memo:
            value = sp.sympify(extent).xreplace({s: sp.Integer(n) for s, n in self.sizes.items()})
            if not value.is_Integer or value < 0:
                raise VerifyError(f"the extent {extent} is {value} for {self}, no size")
            self.memo[extent] = int(value)
        return self.memo[extent]

    def __str__(self) -> str:
        return ", ".join(f"{s} = {n}" for s, n in sorted(self.sizes.items(), key=str)) or "no dimensions"


def solve_dims(leaves: Iterable[Leaf], shapes: Mapping[str, Sequence[int]]) -> Dims:
    """The sizes of all named dimensions.

    Raises VerifyError where the shapes contradict the leaves' or each other.
    """
    leaves = list(leaves)
    dims = Dims()
    for leaf in leaves:
        if len(leaf.shape) != len(shapes[leaf.name]):
            raise _mismatch(leaf, shapes[leaf.name], dims)
    pairs = [(n, size) for leaf in leaves for n, size in zip(leaf.shape, shapes[leaf.name], strict=True)]
    for extent, size in sorted(pairs, key=lambda pair: not pair[0].is_Symbol):
        unknown = extent.free_symbols - dims.sizes.keys()
        if len(unknown) == 1:
            (symbol,) = unknown
            _solve_one(extent, size, symbol, dims)
    for leaf in leaves:
        if tuple(map(dims.size, leaf.shape)) != tuple(shapes[leaf.name]):
            raise _mismatch(leaf, shapes[leaf.name], dims)
    return dims


def _solve_one(extent: Expr, size: int, symbol: Symbol, dims: Dims) -> None:
    known = extent.xreplace({s: sp.Integer(n) for s, n in dims.sizes.items()})
    rate = known.coeff(symbol)
    rest = known - rate * symbol
    if rate.is_Rational and rate != 0 and rest.is_Rational:
        value = (size - rest) / rate
        if value.is_Integer and value >= 0:
            dims.sizes[symbol] = int(value)


def _mismatch(leaf: Leaf, shape: Sequence[int], dims: Dims) -> VerifyError:
    wanted = f"({', '.join(map(str, leaf.shape))}{',' * (len(leaf.shape) == 1)})"
    details = [f"expected {wanted} with {dims}, got {tuple(shape)}"]
    return VerifyError(f"the value of {leaf.name!r} has the wrong shape", details=details)
