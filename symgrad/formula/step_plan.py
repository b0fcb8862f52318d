"""The notation of derivation steps: every adjoint on the way has a symbol, and all forms that it takes share it.

A contribution to an adjoint of several is written δ_via_y after the tensor y that it comes through. Activations are
written out, for a step says what their derivative is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.formula.notation import Atom
from symgrad.formula.plan import Plan
from symgrad.formula.step_system import Joint, Record
from symgrad.formula.symbols import Style, Symbols, whole_adjoints
from symgrad.index.definition import At

_HELPERS = "qpuvw"


@dataclass(frozen=True)
class Way:
    """The way of a gradient through the network.

    Attributes:
        raw: the system that the chain rule gives.
        shown: the tensors of the network with a symbol.
        through: equation of the network -> the nearest tensors with a symbol that depend on it, or itself.
        whole: adjoint equation -> the tensor with a symbol that it is the whole adjoint of.
        parts: whole adjoint -> the contributions to it that have a symbol of their own.
    """

    raw: System
    shown: frozenset[str]
    through: Mapping[str, tuple[str, ...]]
    whole: Mapping[str, str]
    parts: Mapping[str, tuple[str, ...]]

    def written_out(self, e: Equation) -> bool:
        """Whether an equation beside the network's own gets no symbol."""
        if e.name in self.raw.equations:
            return e.name not in self.whole and e.name not in self.whole_of
        return e.adjoint_of not in self.shown

    @cached_property
    def whole_of(self) -> dict[str, str]:
        """Contribution with a symbol of its own -> the whole adjoint that it is a part of."""
        return {part: whole for whole, parts in self.parts.items() for part in parts}


def find_way(record: Record, forward: System, tensor: str, shown: Iterable[str]) -> Way:
    """The way from the target to `tensor`, over the tensors `shown` and every maximum."""
    winners = {e.name for e in forward if e.definition.reduced and e.definition.reduction != "sum"}
    named = frozenset(shown) & forward.equations.keys() | winners | {tensor, record.target} | forward.leaves.keys()
    through = _through(forward, record.target, named)
    whole = {name: of for name, of in whole_adjoints(record.raw).items() if of in named and name not in forward}
    parts = {}
    for name in whole:
        made = [o for o in record.raw.equations[name].operands if o in record.sources]
        ends = {end for o in made for end in through[record.sources[o].equation]}
        if len(made) > 1 and len(ends) > 1 and name not in record.sources:
            parts[name] = tuple(made)
    return Way(record.raw, named, through, whole, parts)


def _through(forward: System, target: str, named: frozenset[str]) -> dict[str, tuple[str, ...]]:
    needed, uses = forward.needed_for([target]), forward.uses()
    found: dict[str, tuple[str, ...]] = {}
    for e in reversed(list(forward)):
        ends = [end for user in uses[e.name] for end in found.get(user, ())]
        if e.name in needed:
            found[e.name] = (e.name,) if e.name in named else tuple(dict.fromkeys(ends))
    return found


class StepSymbols(Symbols):
    """The symbols of a joint system."""

    def __init__(self, plan: StepPlan, loss_has_name: bool) -> None:
        self.plan = plan
        super().__init__(plan.system, plan.forward, plan.nodes, loss_has_name)
        for base in plan.joint.bases:
            for form in plan.joint.forms(base):
                self.atoms[form] = self.atoms[base]

    def _adjoint_styles(self, name: str, gradients: Mapping[str, str]) -> list[Atom]:
        if name in self.plan.joint.added:
            return [Style(letter).atom() for letter in _HELPERS]
        if name not in self.plan.way.whole_of:
            return super()._adjoint_styles(name, gradients)
        whole = super()._adjoint_styles(self.plan.way.whole_of[name], gradients)[0]
        ends = self.plan.way.through[self.plan.record.sources[name].equation]
        return [_via(whole, self.atoms[end]) for end in ends]


def _via(whole: Atom, end: Atom) -> Atom:
    return Atom(f"{whole.text}_via_{end.text}", rf"{{{whole.latex}}}_{{\mathrm{{via}}\,{end.latex}}}", True)


@dataclass
class StepPlan(Plan):
    """A Plan for a joint system."""

    joint: Joint = field(kw_only=True)
    record: Record = field(kw_only=True)
    way: Way = field(kw_only=True)

    def __post_init__(self) -> None:
        self.lines = set(self.way.shown) | {
            form
            for base in self.joint.bases
            if base in self.joint.added or not self.way.written_out(self.system.equations[base])
            for form in self.joint.forms(base)
        }
        super().__post_init__()

    def value(self) -> Callable[[str, At], Expr]:
        """What stands for an element that is read: itself where its tensor has a symbol, else its formula."""
        written = self._value()

        def value(name: str, at: At) -> Expr:
            if name not in self.shown:
                self.template(name)
            return written(name, at)

        return value

    def _symbols(self) -> Symbols:
        return StepSymbols(self, self._loss_is_named())

    def _find_boundary(self) -> None:
        """Steps have their own way to say what an adjoint is."""

    def _find_functions(self) -> None:
        """Activations stay written out."""

    def _deserves_line(self, e: Equation, unsuitable: bool) -> bool:
        return e.name in self.lines or (unsuitable and not self._is_atomic(e))
