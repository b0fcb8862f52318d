"""Array statements: what NumPy does, before anything is said of memory.

    Code      = arrays, statements in order
    Array     = name, shape, dtype, and for an alias the View that it names
    View      = array [reshaped] [sliding windows] [indexed] [axes permuted, new axes]
    Statement = Map      target <- scalar body over views          (or added to it)
              | Reduce   target <- sum | max | min | prod of a view over its last axes
              | Contract target <- product of two views summed over shared axes: dot, matmul or einsum
              | Gather   target <- array[index arrays]             | Scatter  target[index arrays] += view
              | Fill     target <- number                          | For      statements, for each offset
              | Apply    target <- NumPy function of whole views

Every view and target says which loop each of its axes is; a statement belongs to the equation it computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sympy as sp
from sympy import Expr, Symbol

Shape = tuple[Expr, ...]


@dataclass(frozen=True)
class Cut:
    """The elements start, start + step, ... (count of them) of an axis."""

    start: Expr
    count: Expr
    step: int = 1


@dataclass(frozen=True)
class View:
    """An array read without copying.

    Attributes:
        reshape: row-major shape to see the array in first, or None.
        windows: (axis, size) of sliding windows; each adds an axis at the end.
        index: per axis (windows included) a Cut, an index, or None for all of it; () for no indexing.
        order: permutation of the axes that are left, None for as they are.
        inserted: positions of new axes of size 1 in the result.
        shape: of the result.
    """

    array: str
    shape: Shape
    reshape: Shape | None = None
    windows: tuple[tuple[int, Expr], ...] = ()
    index: tuple[Cut | Expr | None, ...] = ()
    order: tuple[int, ...] | None = None
    inserted: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """The array itself."""
        shaped = self.reshape is not None or self.order is not None
        return not (shaped or self.windows or self.index or self.inserted)


def whole(array: Array) -> View:
    return View(array.name, array.shape)


@dataclass(frozen=True)
class Array:
    """A name for memory. `alias` says which view of another array it is; `source` why it exists."""

    name: str
    shape: Shape
    dtype: str = "float"
    kind: str = "buffer"  # buffer | input | parameter | gradient | constant | range
    alias: View | None = None
    value: object = None
    temporary: bool = False


@dataclass(frozen=True)
class Map:
    """target <- body, a scalar expression over the symbols of `reads`; added to it if `accumulate`."""

    target: View
    body: Expr
    reads: dict[Symbol, View]
    accumulate: bool = False
    equation: str = ""


@dataclass(frozen=True)
class Reduce:
    """target <- `kind` of source over its trailing axes that the target lacks."""

    target: View
    kind: str
    source: View
    axes: tuple[int, ...]
    equation: str = ""


@dataclass(frozen=True)
class Contract:
    """target <- left times right. `form` is dot, matmul, or einsum subscripts."""

    target: View
    form: str
    left: View
    right: View
    equation: str = ""


@dataclass(frozen=True)
class Gather:
    """target <- source[index]; an entry is an integer View (they broadcast together) or None, a full slice."""

    target: View
    source: View
    index: tuple[View | None, ...]
    equation: str = ""


@dataclass(frozen=True)
class Scatter:
    """target[index] += value; `unique`: no element is written twice; `fresh`: the target is 0 before."""

    target: View
    index: tuple[View | None, ...]
    value: View | Expr
    unique: bool
    equation: str = ""
    fresh: bool = True


@dataclass(frozen=True)
class Fill:
    target: View
    value: Expr
    equation: str = ""


@dataclass(frozen=True)
class Apply:
    """target <- a function of whole matrices; `function` is a NumPy expression with {0}, {1}, ... for the operands."""

    target: View
    function: str
    operands: tuple[View, ...]
    equation: str = ""


@dataclass(frozen=True)
class For:
    """The body for each combination of the (small, known) values of the offsets."""

    offsets: tuple[tuple[Symbol, int], ...]
    body: tuple[Statement, ...]
    equation: str = ""


Statement = Map | Reduce | Contract | Gather | Scatter | Fill | Apply | For


@dataclass
class Code:
    """See the module's docstring. `values` says which array holds each tensor."""

    arrays: dict[str, Array] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def root(self, name: str) -> str:
        """The array whose memory `name` is a view of."""
        alias = self.arrays[name].alias
        while alias is not None:
            name = alias.array
            alias = self.arrays[name].alias
        return name


def views_read(statement: Statement) -> list[View]:
    """What a statement reads, in order; the target too where it is added to."""
    if isinstance(statement, Map):
        return [*statement.reads.values(), *([statement.target] if statement.accumulate else [])]
    if isinstance(statement, Reduce):
        return [statement.source]
    if isinstance(statement, Contract):
        return [statement.left, statement.right]
    if isinstance(statement, Gather):
        return [statement.source, *(v for v in statement.index if v is not None)]
    if isinstance(statement, Scatter):
        value = [statement.value] if isinstance(statement.value, View) else []
        return [*(v for v in statement.index if v is not None), *value, statement.target]
    if isinstance(statement, Apply):
        return list(statement.operands)
    if isinstance(statement, For):
        return [view for inner in statement.body for view in views_read(inner)]
    return []


def flattened(statements: Sequence[Statement]) -> Iterator[Statement]:
    """All statements, those inside loops included."""
    for statement in statements:
        if isinstance(statement, For):
            yield from flattened(statement.body)
        else:
            yield statement


def dims_product(shape: Shape) -> Expr:
    return sp.expand(sp.Mul(*shape))
