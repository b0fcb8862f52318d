"""Functions of the same values at the same place, once for all equations that read them: one tanh for gelu and gelu'.

A function or quotient that several elementwise equations contain, and that takes longer to compute than an array to
keep, becomes an equation of its own; the largest of them first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define, outermost
from symgrad.index.functions import is_condition
from symgrad.machine import LIMITS
from symgrad.names import free_name
from symgrad.simplify.scalar_cost import is_plain, passes
from symgrad.simplify.substitute import Operands, rebuilt

Key = tuple[Definition, tuple[str, ...], str]


def share_functions(system: System) -> System:
    """The system with an equation for every part that several elementwise equations compute."""
    return _Sharing(system).run()


@dataclass(frozen=True)
class _Place:
    """One occurrence of a part: as it stands in an equation, and its loops in the order of the axes."""

    user: str
    part: Expr
    loops: tuple[Symbol, ...]


class _Sharing:
    """The parts of all elementwise equations, by what they compute."""

    def __init__(self, system: System) -> None:
        self.system = system.copy()
        self.parts: dict[Key, Equation] = {}
        self.places: dict[Key, list[_Place]] = {}
        self.worth: dict[Key, float] = {}
        for e in system:
            self._collect(e)

    def run(self) -> System:
        while key := self._best():
            self._share(key)
        return self.system.sorted()

    def _collect(self, e: Equation) -> None:
        if not is_plain(e):
            return
        for part in dict.fromkeys(_parts(e.definition.body)):
            kept = [(i, n) for i, n in e.definition.loops if i in part.free_symbols]
            loops = tuple(i for i, _ in kept)
            made = equation("", define(kept, [n for _, n in kept], loops, part), e.operands)
            self.parts.setdefault(made.key, made)
            self.places.setdefault(made.key, []).append(_Place(e.name, part, loops))

    def _best(self) -> Key | None:
        """The part that costs most among those that several equations have, if it is worth an array."""
        shared = [key for key, places in self.places.items() if len({p.user for p in places}) > 1]
        for key in shared:
            if key not in self.worth:
                self.worth[key] = passes(self.parts[key])
        worthy = [key for key in shared if self.worth[key] >= (LIMITS.held if self._holder(key) else LIMITS.shared)]
        return max(worthy, key=lambda key: self.worth[key], default=None)

    def _holder(self, key: Key) -> str | None:
        """The equation whose whole value a part is."""
        return next((p.user for p in self.places[key] if self._is_whole(p)), None)

    def _share(self, key: Key) -> None:
        holder = self._holder(key)
        places = self.places.pop(key)
        name = holder or self._add(key, places[0])
        for user in dict.fromkeys(p.user for p in places if p.user != name):
            e = self.system.equations[user]
            operands = Operands(e.operands)
            number = operands.number(name)
            change = {p.part: At(number, p.loops) for p in places if p.user == user}
            self._forget(user)
            self._collect(self.system.add(rebuilt(e, e.definition.body.xreplace(change), operands)))

    def _is_whole(self, place: _Place) -> bool:
        d = self.system.equations[place.user].definition
        return d.body == place.part and tuple(d.write) == place.loops

    def _add(self, key: Key, place: _Place) -> str:
        """A new equation for the part; its name."""
        first, part = self.system.equations[place.user], self.parts[key]
        suffix = type(place.part).__name__ if isinstance(place.part, sp.Function) else "part"
        name = free_name(f"{first.name}_{suffix}", self.system)
        made = equation(name, part.definition, part.operands, origin=first.origin, adjoint_of=first.adjoint_of)
        self._collect(self.system.add(made))
        return name

    def _forget(self, user: str) -> None:
        for key, places in self.places.items():
            self.places[key] = [p for p in places if p.user != user]


def _parts(body: Expr) -> Iterator[Expr]:
    """The functions and quotients of tensors in a body, outside of indices and conditions."""
    stack = [body]
    while stack:
        part = stack.pop()
        if isinstance(part, At) or is_condition(part):
            continue
        if isinstance(part, sp.Function | sp.Pow) and not isinstance(part, sp.Piecewise) and outermost(part):
            yield part
        stack.extend(part.args)
