"""Random data for a network: sizes for its named dimensions, labels in range, parameters of moderate size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, Leaf, System
from symgrad.errors import VerifyError, nearest
from symgrad.evaluate.dims import Dims, solve_dims
from symgrad.evaluate.numbers import Array
from symgrad.index.definition import At, dimension

Limits = Iterator[tuple[str, int]]

ANY_INTEGER = 3
_SIZES = ((3, 1), (4, 1), (6, 2), (8, 4), (12, 12), (16, 16), (32, 32), (64, 64))


def draw(
    system: System,
    needed: Iterable[str],
    dims: Mapping[str, int] | None,
    seed: int,
    given: Mapping[str, Any],
    positive: bool = False,
) -> dict[str, Array]:
    """A value for each input and parameter among `needed`: what is `given`, and random ones for the rest.

    Args:
        dims: sizes of named dimensions; the others follow from `given`, or are small and distinct.
        positive: floats from 0.1 to 0.9 in place of normal ones.

    Raises:
        VerifyError: a given shape or size does not fit, or no small sizes fit the network.
    """
    names = set(needed)
    leaves = [leaf for name, leaf in system.leaves.items() if name in names and leaf.kind != "constant"]
    values = {leaf.name: np.asarray(given[leaf.name]) for leaf in leaves if leaf.name in given}
    told = [leaf for leaf in leaves if leaf.name in values]
    known = solve_dims(told, {name: array.shape for name, array in values.items()})
    sizes = choose_sizes(system, names, known, dims or {})
    limits = integer_limits(system, sizes)
    random = np.random.default_rng(seed)
    for leaf in leaves:
        shape = tuple(map(sizes.size, leaf.shape))
        drawn = _draw_leaf(leaf, shape, random, limits.get(leaf.name, ANY_INTEGER), positive)
        values.setdefault(leaf.name, drawn)
    return values


def _draw_leaf(leaf: Leaf, shape: tuple[int, ...], random: np.random.Generator, limit: int, positive: bool) -> Array:
    if leaf.dtype == "bool":
        return random.random(shape) < 0.5
    if leaf.dtype == "int64":
        return random.integers(0, limit, shape)
    if positive:
        return random.uniform(0.1, 0.9, shape)
    scale = shape[0] ** -0.5 if leaf.kind == "parameter" and len(shape) > 1 and shape[0] else 1.0
    return scale * random.standard_normal(shape)


def choose_sizes(system: System, names: set[str], known: Dims, wanted: Mapping[str, int]) -> Dims:
    """Sizes for all dimensions with which every extent is a size: the known ones, else small and distinct."""
    extents = list(_extents(system, names))
    symbols = sorted(set().union(*(n.free_symbols for n in extents)), key=str)
    for name in wanted:
        if dimension(name) not in symbols:
            hint = nearest(name, map(str, symbols))
            raise VerifyError(f"dims names {name!r}, which is no dimension of this network", hint=hint)
    fixed = {dimension(name): size for name, size in wanted.items()}
    for symbol, size in known.sizes.items():
        if fixed.setdefault(symbol, size) != size:
            raise VerifyError(f"dims says {symbol} = {fixed[symbol]}, the given arrays say {size}")
    free = [symbol for symbol in symbols if symbol not in fixed]
    for start, step in _SIZES:
        sizes = Dims(fixed | {symbol: start + step * k for k, symbol in enumerate(free)})
        if all(_fits(n, sizes) for n in extents):
            return sizes
    raise VerifyError("no small sizes of the dimensions fit this network", hint='pass dims={"N": 8, ...}')


def _fits(extent: Expr, sizes: Dims) -> bool:
    """Whether an extent is a size that is not empty without a reason."""
    value = extent.xreplace({s: sp.Integer(n) for s, n in sizes.sizes.items()})
    empty = extent.is_Integer or 0 in sizes.sizes.values()
    return bool(value.is_Integer and value >= (0 if empty else 1))


def _extents(system: System, names: set[str]) -> Iterator[Expr]:
    for name, leaf in system.leaves.items():
        if name in names:
            yield from leaf.shape
    for e in system:
        if e.name in names:
            yield from e.shape
            yield from (n for _, n in e.definition.loops)
            yield from (n for at in e.definition.body.atoms(At) if at.view is not None for n in at.view)


def integer_limits(system: System, sizes: Dims) -> dict[str, int]:
    """tensor -> the least size of the axes that its integers index: directly, compared, or passed on."""
    limits: dict[str, int] = {}
    for e in reversed(list(system)):
        for name, limit in _equation_limits(e, system, sizes, limits):
            limits[name] = min(limit, limits.get(name, limit))
    return limits


def _equation_limits(e: Equation, system: System, sizes: Dims, limits: Mapping[str, int]) -> Limits:
    if e.solution is not None:
        return
    body, extents = e.definition.body, e.definition.extents
    for at in body.atoms(At):
        shape = at.sizes(system.shape(e.source(at)))
        yield from _indexing(e, at.index, shape, sizes)
        if e.dtype == "int64" and system.dtype(e.source(at)) == "int64" and e.name in limits:
            yield e.source(at), limits[e.name]
    yield from _indexing(e, e.definition.write, e.shape, sizes)
    for relation in body.atoms(sp.Eq, sp.Ne):
        for one, other in ((relation.lhs, relation.rhs), (relation.rhs, relation.lhs)):
            if isinstance(one, At) and isinstance(other, Symbol) and other in extents:
                yield e.source(one), sizes.size(extents[other])


def _indexing(e: Equation, index: Iterable[Expr], shape: Iterable[Expr], sizes: Dims) -> Limits:
    for expr, n in zip(index, shape, strict=True):
        for inner in expr.atoms(At):
            yield e.source(inner), sizes.size(n)
