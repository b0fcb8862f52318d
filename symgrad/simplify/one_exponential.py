"""sigmoid(x), sigmoid(-x) and softplus(x) as functions of one exp(x), where a network has several of them.

    E = exp(min(x, largest))     R = 1/(1 + E) = sigmoid(-x)     S = E*R = sigmoid(x)     softplus(x) = max(x, log1p(E))

Each is an equation, so that nothing is multiplied by E before R is: their product is at most 1, E is not.
Where an equation has both softplus(x) and softplus(-x), as cross-entropy with logits has, these share one logarithm:

    softplus(±x) = max(±x, 0) + G        G = log1p(exp(-|x|)) = -log1p(max(-S, -R))
    a softplus(x) + b softplus(-x) = a max(x, 0) + b max(-x, 0) + (a + b) G,     max(a x, -b x) + k G if k = a + b > 0

and the equations are -R and -S. Nothing cancels: of the first two terms one is 0, and G is added last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Integer, Symbol, exp

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, define, map_accesses
from symgrad.index.functions import log1p, sigmoid, softplus
from symgrad.names import free_name
from symgrad.simplify.scalar_cost import is_plain
from symgrad.simplify.spelled import bounded_exponential
from symgrad.simplify.substitute import Operands, rebuilt


@dataclass(frozen=True)
class _Place:
    """A sigmoid or softplus in the equation `user`, and its loops in the order of the axes."""

    user: str
    function: Expr
    loops: tuple[Symbol, ...]


def share_exponentials(system: System) -> System:
    """The system with every sigmoid and softplus spelled out that has others of its argument, or its negative."""
    found: dict[tuple[Expr, tuple[Expr, ...]], list[_Place]] = {}
    for e in system:
        if is_plain(e):
            for f in sorted(e.definition.body.atoms(sigmoid, softplus), key=sp.default_sort_key):
                loops = tuple(i for i, _ in e.definition.loops if i in f.free_symbols)
                key = _by_name(e, _unsigned(f.args[0])), tuple(e.definition.extents[i] for i in loops)
                found.setdefault(key, []).append(_Place(e.name, f, loops))
    result = system.copy()
    for places in found.values():
        if len(places) > 1:
            _Group(result, places).spell_out()
    return result.sorted()


class _Group:
    """All functions of one x or -x.

    The exponential is that of x, or of -x if some softplus is a function of that. `mixed` are the users that have both
    softplus(x) and softplus(-x); where there are any, `sign` is -1: R and S are kept with that sign.
    """

    def __init__(self, system: System, places: Sequence[_Place]) -> None:
        self.system, self.places = system, places
        signs: dict[str, set[bool]] = {}
        for p in places:
            if isinstance(p.function, softplus):
                signs.setdefault(p.user, set()).add(_is_unsigned(p.function))
        self.mixed = {user for user, found in signs.items() if len(found) == 2}
        self.positive = bool(self.mixed) or all(signs[user] == {True} for user in signs)
        self.sign = -1 if self.mixed else 1
        self.names: dict[str, str] = {}

    def spell_out(self) -> None:
        for place in self.places:
            e = self.system.equations[place.user]
            operands = Operands(e.operands)
            if place.user in self.mixed and isinstance(place.function, softplus):
                body = self._with_one_logarithm(e, place, operands)
            else:
                body = e.definition.body.xreplace({place.function: self._value(e, place, operands)})
            if body != e.definition.body:
                self.system.add(rebuilt(e, body, operands))

    def _with_one_logarithm(self, e: Equation, place: _Place, operands: Operands) -> Expr:
        """The body with both softplus of the place in terms of G."""
        body, x = e.definition.body, _unsigned(place.function.args[0])
        one, other = softplus(x), softplus(-x)
        if not body.has(one, other):
            return body
        if any(isinstance(p.function, sigmoid) for p in self.places):
            rest, value = (self._read(kind, e, place, x, operands) for kind in ("rest", "sigmoid"))
            logarithm = -log1p(sp.Max(value, rest, evaluate=False))
        else:
            logarithm = log1p(exp(-sp.Abs(x)))
        marks = {f: sp.Dummy(real=True) for f in (one, other)}
        first, second = marks.values()
        marked = body.xreplace(marks)
        a, b = marked.diff(first), marked.diff(second)
        total = sp.expand(a + b)
        if not (a.has(first, second) or b.has(first, second)) and total.is_number and total.is_positive:
            linear = sp.Max(a * x, -b * x, evaluate=False)
            return marked.xreplace({first: Integer(0), second: Integer(0)}) + linear + total * logarithm
        change = {f: sp.Max(f.args[0], 0) + logarithm for f in (one, other)}
        return body.xreplace(change)

    def _value(self, e: Equation, place: _Place, operands: Operands) -> Expr:
        f, x = place.function, _unsigned(place.function.args[0])
        x = x if self.positive else -x
        same = f.args[0] == x
        if isinstance(f, softplus):
            return sp.Max(x, log1p(self._read("exp", e, place, x, operands)), evaluate=False) if same else f
        rest = self.sign * self._read("rest", e, place, x, operands)
        if not same:
            return rest
        if e.definition.body == f:
            return self._read("exp", e, place, x, operands) * rest
        return self.sign * self._read("sigmoid", e, place, x, operands)

    def _read(self, kind: str, e: Equation, place: _Place, x: Expr, operands: Operands) -> Expr:
        """The element of E, R or S that the place reads; the equation is made where there is none yet."""
        if kind not in self.names:
            self.names[kind] = self._made(kind, e, place, x)
        return At(operands.number(self.names[kind]), place.loops)

    def _made(self, kind: str, e: Equation, place: _Place, x: Expr) -> str:
        whole = [p.user for p in self.places if kind == "sigmoid" and self.sign == 1 and self._is_whole(p)]
        if whole:
            return whole[0]
        operands = Operands(e.operands)
        if kind == "exp":
            body = bounded_exponential(x)
        elif kind == "rest":
            body = self.sign / (1 + self._read("exp", e, place, x, operands))
        else:
            body = self._read("exp", e, place, x, operands) * self._read("rest", e, place, x, operands)
        sizes = [e.definition.extents[i] for i in place.loops]
        made = define(list(zip(place.loops, sizes, strict=True)), sizes, place.loops, body)
        name = free_name(f"{e.name}_{kind}", self.system)
        self.system.add(equation(name, made, operands.names, origin=e.origin, adjoint_of=e.adjoint_of))
        return name

    def _is_whole(self, place: _Place) -> bool:
        """Whether a place is an equation that is sigmoid(x) and no more."""
        d = self.system.equations[place.user].definition
        same = _is_unsigned(place.function) == self.positive
        return same and isinstance(place.function, sigmoid) and d.body == place.function and d.write == place.loops


def _by_name(e: Equation, x: Expr) -> Expr:
    """x with its accesses to tensors by name, the same in all equations."""

    def named(at: At) -> Expr:
        read = sp.Function(f"{e.source(at)} {at.view}", real=True)
        return read(*(map_accesses(i, named) for i in at.index))

    return map_accesses(x, named)


def _unsigned(x: Expr) -> Expr:
    return -x if x.could_extract_minus_sign() else x


def _is_unsigned(f: Expr) -> bool:
    return bool(f.args[0] == _unsigned(f.args[0]))
