"""Every form that the equations of a derivation took, as one system that can be printed and evaluated.

    base        the adjoints as the chain rule gives them, and the equations that passes add
    version     an equation as a pass leaves it, under a name of its own, reading the bases

All forms of an equation have the same value if every pass keeps it. So each step of a derivation, the change of
one form into the next, can be judged by itself: what it reads does not depend on any other step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from symgrad.derive import Contribution
from symgrad.equations import Equation, System, equation
from symgrad.formula.survey import is_copy
from symgrad.index.definition import Definition
from symgrad.names import free_name

Pass = Callable[[System], System]
Passes = tuple[tuple[str, Pass], ...]


@dataclass(frozen=True)
class Record:
    """How a derivation came about.

    Attributes:
        raw: forward and adjoint equations as the chain rule gives them.
        target, seed: what is differentiated, and the cotangent that multiplies it where it is no scalar.
        sources: adjoint equation -> where it comes from.
        passes: the (name, pass) that were applied, in order.
    """

    raw: System
    target: str
    seed: str | None
    sources: Mapping[str, Contribution]
    passes: Passes


@dataclass(frozen=True)
class Version:
    """One form of an equation: the name it has in the joint system, and the pass that made it."""

    name: str
    made_by: str


@dataclass
class Joint:
    """The joint system of one tensor's gradient.

    Attributes:
        path: the adjoint equations on the way, as the chain rule gives them.
        versions: base -> its forms after the chain rule's own, in order.
        scattered: adjoint equation -> its form before index equations were solved.
        added: the bases that passes have added.
        aliases: adjoint -> one that is read in its place, being a copy of it.
    """

    system: System
    path: tuple[str, ...]
    versions: dict[str, list[Version]] = field(default_factory=dict)
    scattered: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def bases(self) -> list[str]:
        """The equations that take these forms: adjoints on the way, and what was added."""
        return list(dict.fromkeys([*self.path, *self.added]))

    @cached_property
    def on_path(self) -> frozenset[str]:
        return frozenset(self.path)

    def of(self, base: str) -> list[str]:
        """The names of an equation's forms, from the chain rule's own on."""
        return [base, *(v.name for v in self.versions.get(base, ()))]

    def forms(self, base: str) -> list[str]:
        """The same, and before them that in which the index equations are unsolved."""
        return [*([self.scattered[base]] if base in self.scattered else []), *self.of(base)]


def joint_system(record: Record, forward: System, tensor: str, written_out: Callable[[Equation], bool]) -> Joint:
    """The joint system of the equations on the way from the target to `tensor`.

    `written_out` says which adjoints get no symbol: a form that reads one reads its form after the same pass.
    """
    gradient = record.raw.gradients[tensor]
    needed = record.raw.needed_for([gradient])
    path = tuple(n for n in record.raw.equations if n in needed and n not in forward)
    joint = Joint(replace(record.raw, gradients={tensor: gradient}).copy(), path)
    for name in path:
        part = record.sources.get(name)
        if part is not None and part.access.view is None:
            joint.scattered[name] = _add(joint, f"{name}_scattered", part.scattered, part.operands)
    hidden = {name for name in path if written_out(record.raw.equations[name])}
    joint.aliases = _aliases(record.raw.equations, hidden)
    system = record.raw
    for name, rewrite in record.passes:
        stage = _stage(system, rewrite, forward.equations)
        hidden |= {e.name for e in stage.values() if written_out(e)}
        joint.aliases |= _aliases(stage, hidden)
        _add_versions(joint, name, stage, hidden)
        system = rewrite(system)
    joint.system = joint.system.sorted()
    return joint


def _stage(system: System, rewrite: Pass, forward: Collection[str]) -> dict[str, Equation]:
    """What a pass makes of the adjoints, those that it then has no use for included."""
    adjoints = [name for name in system.equations if name not in forward]
    kept = rewrite(replace(system, outputs=(*system.outputs, *adjoints))).equations
    used = rewrite(system).sorted().equations
    order = [*(n for n in kept if n not in used), *used]
    return {name: used.get(name) or kept[name] for name in order if name not in forward}


def _add_versions(joint: Joint, made_by: str, stage: Mapping[str, Equation], hidden: Collection[str]) -> None:
    for name, e in stage.items():
        if name not in joint.system:
            joint.system.add(replace(e, adjoint_of=None))
            joint.added.append(name)
        elif name in joint.on_path or name in joint.added:
            operands = [_readable(joint, name, o, hidden) for o in e.operands]
            if _is_new(joint, name, e, operands):
                made = _add(joint, f"{name}_{made_by}", e.definition, operands)
                joint.versions.setdefault(name, []).append(Version(made, made_by))


def _aliases(equations: Mapping[str, Equation], hidden: Collection[str]) -> dict[str, str]:
    """Adjoint -> the first that is a mere copy of it: one with a symbol of one without, or the whole of a part."""
    found: dict[str, str] = {}
    for e in equations.values():
        if not is_copy(e) or e.name in hidden or e.adjoint_of is None:
            continue
        source = equations.get(e.operands[0])
        if source is not None and (source.name in hidden or source.adjoint_of == e.adjoint_of):
            found.setdefault(source.name, e.name)
    return found


def _readable(joint: Joint, reader: str, operand: str, hidden: Collection[str]) -> str:
    """What a form reads in place of an operand: a copy with a symbol, or the operand's form at the same stage."""
    alias = joint.aliases.get(operand, reader)
    if alias != reader:
        return alias
    return joint.of(operand)[-1] if operand in hidden else operand


def _is_new(joint: Joint, name: str, e: Equation, operands: Sequence[str]) -> bool:
    last = joint.system.equations[joint.of(name)[-1]]
    return equation("", e.definition, operands, dtype=e.dtype).key != last.key


def _add(joint: Joint, wanted: str, definition: Definition, operands: Sequence[str]) -> str:
    name = free_name(wanted, joint.system)
    joint.system.add(equation(name, definition, operands))
    return name
