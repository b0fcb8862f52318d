"""Copies of what products read, each shared by all that read the same elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define, map_accesses
from symgrad.lower.forms import product, replaced
from symgrad.lower.views import loops_of
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands, rebuilt


@dataclass(frozen=True)
class Copy:
    """A copy to be made: element `axes` of it is the tensor's at `source`; the access is at `place` of it.

    `same` are the axes in an order that does not depend on who reads: equal copies are found by it.
    """

    axes: tuple[Symbol, ...]
    extents: Mapping[Symbol, Expr]
    source: tuple[Expr, ...]
    place: tuple[Expr, ...]
    same: tuple[Symbol, ...]

    def definition(self, at: At, axes: Sequence[Symbol]) -> Definition:
        loops = [(i, self.extents[i]) for i in axes]
        return define(loops, [n for _, n in loops], axes, At(0, self.source, at.view))


class Copies:
    """Makes the copies that `describe` wants of accesses in products, each before the first equation that reads it."""

    def __init__(self, system: System, suffix: str, describe: Callable[[System, Equation, At], Copy | None]) -> None:
        self.system, self.suffix, self.describe = system, suffix, describe
        self.known: dict[tuple[str, Definition], tuple[str, list[int]]] = {}
        self.taken = {*system.leaves, *system.equations}

    def run(self) -> System:
        return replaced(self.system, {e.name: self._made(e) for e in self.system if product(e) is not None})

    def _made(self, e: Equation) -> list[Equation]:
        new: list[Equation] = []
        operands = Operands(e.operands)

        def read(at: At) -> At:
            copy = self.describe(self.system, e, at)
            return at if copy is None else self._access(e, at, copy, operands, new)

        body = map_accesses(e.definition.body, read)
        return [e] if body == e.definition.body else [*new, rebuilt(e, body, operands)]

    def _access(self, e: Equation, at: At, copy: Copy, operands: Operands, new: list[Equation]) -> At:
        """The element of the copy that the access reads."""
        tensor = e.source(at)
        key = tensor, copy.definition(at, copy.same)
        if key not in self.known:
            name = free_name(f"{tensor}_{self.suffix}", self.taken)
            self.taken.add(name)
            about = {"dtype": self.system.dtype(tensor), "origin": e.origin, "adjoint_of": e.adjoint_of}
            new.append(equation(name, copy.definition(at, copy.axes), [tensor], **about))
            self.known[key] = name, [copy.same.index(i) for i in copy.axes]
        name, order = self.known[key]
        places = dict(zip(copy.axes, copy.place, strict=True))
        return At(operands.number(name), [places[copy.same[k]] for k in order])


def loops_in_order(at: At, extents: Mapping[Symbol, Expr]) -> list[Symbol]:
    """The loops of an access by the axes on which they stand; on one axis by their strides and sizes."""
    found: list[Symbol] = []
    for e in at.index:
        strides = {i: (int(e.coeff(i)), str(extents[i])) for i in loops_of(e, extents)}
        found += sorted(strides, key=strides.__getitem__)
    return found
