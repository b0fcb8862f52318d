"""The one form that every op, adjoint and update takes.

    Definition  Y[write] = reduction over the loops that `write` does not name alone, of body
        loops      (index symbol, extent) ...       every index, with the number of values it takes
        shape      extent ...                       of Y
        write      index expression ...             one per axis of Y; may hold loops, numbers, At
        reduction  sum | max | min | prod
        body       scalar SymPy expression          over At, loop symbols and dimension symbols

    At(k, index, view)  operand k at `index`; with a view, operand k reshaped to it (row-major) first

Reading outside an operand gives 0 and writing outside Y is dropped: padding, slices, concatenation and
correlations are thereby plain accesses, and so are all their adjoints. Where several loop values write the
same element, the reduction combines them; an element that nobody writes is 0.

Definitions are canonical: loops are i0, i1, ... (those of the output first, the others ordered by use) and
operands are numbered by position, so that equal ops of different layers are equal objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import sympy as sp
from sympy import Expr, Integer, Symbol
from sympy.core.relational import Relational

REDUCTIONS = ("sum", "max", "min", "prod")

Loop = tuple[Symbol, Expr]


def dimension(name: str) -> Symbol:
    """The symbol of a dimension whose size is known only when the program runs."""
    return Symbol(name, integer=True, positive=True)


def index_symbol(name: str) -> Symbol:
    """The symbol of a loop index."""
    return Symbol(name, integer=True, nonnegative=True)


class At(Expr):  # type: ignore[misc]
    """One element of an operand: `At(k, (e0, e1, ...))`, a real scalar to SymPy."""

    is_commutative = True
    is_real = True
    is_finite = True

    def __new__(cls, operand: int, index: Iterable[Expr], view: Iterable[Expr] | None = None) -> At:
        shape = () if view is None else (sp.Tuple(*view),)
        made: At = Expr.__new__(cls, Integer(operand), sp.Tuple(*index), *shape)
        return made

    @property
    def operand(self) -> int:
        return int(self.args[0])

    @property
    def index(self) -> tuple[Expr, ...]:
        return tuple(self.args[1])

    @property
    def view(self) -> tuple[Expr, ...] | None:
        return tuple(self.args[2]) if len(self.args) > 2 else None

    def sizes(self, shape: Sequence[Expr]) -> tuple[Expr, ...]:
        """The extents that the index runs over, for an operand of the given shape."""
        return tuple(shape) if self.view is None else self.view

    def _sympystr(self, printer: object) -> str:
        view = "" if self.view is None else f".reshape{self.view}"
        return f"@{self.operand}{view}[{', '.join(map(str, self.index))}]"


@dataclass(frozen=True)
class Definition:
    """See the module's docstring. Build with `define`, which makes it canonical."""

    loops: tuple[Loop, ...]
    shape: tuple[Expr, ...]
    write: tuple[Expr, ...]
    reduction: str
    body: Expr

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.loops, self.shape, self.write, self.reduction, self.body))

    @cached_property
    def extents(self) -> dict[Symbol, Expr]:
        return dict(self.loops)

    @cached_property
    def accesses(self) -> tuple[At, ...]:
        """The elements that the body reads, those inside indices not counted, in a fixed order."""
        return tuple(sorted(outermost(self.body), key=sp.default_sort_key))

    @cached_property
    def operands(self) -> tuple[int, ...]:
        """The positions of the operands that are read anywhere."""
        atoms = set().union(*(expr.atoms(At) for expr in (self.body, *self.write)))
        return tuple(sorted({at.operand for at in atoms}))

    @cached_property
    def gathers(self) -> bool:
        """Each output axis is a loop of its own over the whole axis: every element is written."""
        loops = [w for w in self.write if w in self.extents]
        return len(set(loops)) == len(self.write) and all(
            self.extents[w] == n for w, n in zip(self.write, self.shape, strict=True)
        )

    @cached_property
    def reduced(self) -> tuple[Loop, ...]:
        """The loops that the output does not keep as an axis."""
        return tuple(loop for loop in self.loops if loop[0] not in self.write)

    @property
    def elementwise(self) -> bool:
        """Every output element is the body at one index: nothing is combined."""
        return self.gathers and not self.reduced

    def renumbered(self, numbers: Mapping[int, int]) -> Definition:
        """The same definition with operand k called numbers[k]."""
        return _renumbered(self, tuple(sorted(numbers.items())))


def outermost(expr: Expr) -> set[At]:
    """The At in `expr` that stand in no other At's index."""
    found: set[At] = set()
    stack = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, At):
            found.add(node)
        else:
            stack.extend(node.args)
    return found


def tested(expr: Expr) -> set[At]:
    """The accesses that stand in a condition."""
    return {at for comparison in expr.atoms(Relational) for at in outermost(comparison)}


def define(
    loops: Sequence[Loop],
    shape: Sequence[Expr],
    write: Sequence[Expr],
    body: Expr,
    reduction: str = "sum",
) -> Definition:
    """A canonical Definition: loops renamed by their place in the output, then by their use."""
    output = [w for w in dict.fromkeys(write) if isinstance(w, Symbol) and any(w == i for i, _ in loops)]
    single = {i: Integer(0) for i, n in loops if n == 1 and i not in output}
    if single:
        body, write = body.xreplace(single), [w.xreplace(single) for w in write]
        loops = [loop for loop in loops if loop[0] not in single]
    used = body.free_symbols.union(*(w.free_symbols for w in write)) if write else body.free_symbols
    rest = [i for i, n in loops if i not in output and (i in used or n != 1)]
    keys = _use_keys(body, write, rest)
    order = output + sorted(rest, key=lambda i: keys[i])
    names = {old: index_symbol(f"i{place}") for place, old in enumerate(order)}
    extents = dict(loops)

    def rename(expr: Expr) -> Expr:
        return expr.xreplace(names)

    return Definition(
        tuple((names[i], extents[i]) for i in order),
        tuple(shape),
        tuple(rename(w) for w in write),
        reduction,
        rename(body),
    )


def _use_keys(body: Expr, write: Sequence[Expr], loops: Sequence[Symbol]) -> dict[Symbol, tuple[object, ...]]:
    """For each loop where it occurs, in terms that do not depend on its name."""
    uses: dict[Symbol, list[tuple[int, int, str]]] = {i: [] for i in loops}
    accesses = sorted(body.atoms(At), key=lambda at: (at.operand, len(at.index)))
    places = [(at.operand, axis, e) for at in accesses for axis, e in enumerate(at.index)]
    places += [(-1, axis, e) for axis, e in enumerate(write)]
    for operand, axis, e in places:
        for i in e.free_symbols & uses.keys():
            uses[i].append((operand, axis, str(e.coeff(i))))
    return {i: (sorted(found), place) for place, (i, found) in enumerate(uses.items())}


def map_accesses(expr: Expr, change: Callable[[At], Expr]) -> Expr:
    """`expr` with every outermost access replaced by `change(access)`, which is called in a fixed order."""
    return expr.xreplace({at: change(at) for at in sorted(outermost(expr), key=sp.default_sort_key)})


@lru_cache(maxsize=4096)
def _renumbered(definition: Definition, pairs: tuple[tuple[int, int], ...]) -> Definition:
    numbers = dict(pairs)

    def change(expr: Expr) -> Expr:
        def one(at: At) -> At:
            return At(numbers[at.operand], [change(e) for e in at.index], at.view)

        return map_accesses(expr, one)

    return define(
        definition.loops,
        definition.shape,
        [change(w) for w in definition.write],
        change(definition.body),
        definition.reduction,
    )
