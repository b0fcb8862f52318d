"""A derivation to read: the network's formulas, then every gradient, from the loss to the first layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import networkx as nx
import sympy as sp
from sympy import Expr

from symgrad.equations import System
from symgrad.errors import DeriveError, nearest
from symgrad.formula.indexed import Applied
from symgrad.formula.kinks import kink_notes
from symgrad.formula.layout import layout_lines
from symgrad.formula.lines import Line, Lines, latex_block, mathml_block
from symgrad.formula.plan import Plan, nodes_of
from symgrad.formula.step_system import Record
from symgrad.formula.step_writer import derivation_steps
from symgrad.formula.steps import Steps
from symgrad.formula.sympy_form import SympyForm

NEAT = 60  # a line longer than this has no shape beside it


class Formula:
    """One gradient: `str` and `.latex` in matrix notation, `.indexed` with indices, `.sympy` for SymPy.

    The first line is the gradient's own; the others define, nearest first, the symbols that it uses and that
    the network itself does not name.
    """

    def __init__(self, derivation: Derivation, tensor: str) -> None:
        self.derivation = derivation
        self.tensor = tensor
        self.name = derivation.system.gradients[tensor]

    def __str__(self) -> str:
        return self.written()

    def written(self, layout: str = "denominator") -> str:
        """Matrix notation: the gradient in the tensor's shape, or in "numerator" layout its transpose.

        Raises DeriveError for another layout.
        """
        return self._written(self.derivation.formula_lines(self.name, False, layout))

    def latex_written(self, layout: str = "denominator") -> str:
        """The same in LaTeX, for math mode."""
        return latex_block(self.derivation.formula_lines(self.name, False, layout))

    @property
    def indexed(self) -> str:
        """Index notation. An element outside a tensor is 0."""
        return self._written(self._lines(indexed=True))

    @property
    def latex(self) -> str:
        """Matrix notation in LaTeX, for math mode."""
        return latex_block(self._lines(indexed=False))

    @property
    def mathml(self) -> str:
        """Matrix notation as a `math` element."""
        return mathml_block(self._lines(indexed=False))

    @property
    def sympy(self) -> sp.Eq:
        """The first line as an equation between SymPy's indexed objects, named as in the derived graph."""
        return self.derivation.sympy_form.equation(self.name)

    @property
    def sympy_definitions(self) -> tuple[sp.Eq, ...]:
        """All equations that `.sympy` rests on, those of the network included; the last is `.sympy`."""
        return self.derivation.sympy_form.definitions(self.name)

    @property
    def shape(self) -> tuple[int | Expr, ...]:
        """The gradient's shape: integers, and symbols for dimensions with a name."""
        return tuple(int(n) if n.is_Integer else n for n in self.derivation.system.shape(self.name))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return notebook_bundle(str(self), self.latex, self.mathml)

    def __repr__(self) -> str:
        return f"<Formula {self._lines(indexed=False)[0].text}>"

    def steps(self) -> Steps:
        """The derivation of this gradient, one rule at a time, from the loss down to the tensor.

        Raises DeriveError if the derivation was made without a record.
        """
        d = self.derivation
        if d.record is None:
            raise DeriveError("this derivation keeps no record of its steps", hint="make it with sg.derive(graph)")
        return derivation_steps(d.record, d.forward, d.plan.nodes, self.tensor, d.plan.shown)

    def _lines(self, indexed: bool) -> list[Line]:
        return self.derivation.formula_lines(self.name, indexed)

    def _written(self, lines: list[Line]) -> str:
        first, *rest = lines
        written = first.wrapped("")
        if rest:
            written += ["where", *(part for line in rest for part in line.wrapped("  "))]
        return "\n".join(written)


class Derivation:
    """The gradients of a network, one Formula each: `d["W1"]`. Printed, it is the whole derivation.

    Attributes:
        graph: the derived graph, forward and adjoint tensors, in the network's own schema.
        forward, system: the equations of the network, and the same with the adjoints'.
        record: how they came about, if that is known: what `steps` replays.
    """

    def __init__(
        self, graph: nx.MultiDiGraph[Any], forward: System, derived: System, record: Record | None = None
    ) -> None:
        self.network, self.forward, self.system, self.record = graph, forward, derived, record

    @cached_property
    def graph(self) -> nx.MultiDiGraph[Any]:
        return self.system.to_graph()

    @property
    def wrt(self) -> tuple[str, ...]:
        """The tensors by which the loss is differentiated."""
        return tuple(self.system.gradients)

    def __getitem__(self, name: str) -> Formula:
        if name not in self.system.gradients:
            known = nearest(str(name), self.wrt) or "there are: " + ", ".join(self.wrt[:10])
            raise DeriveError(f"there is no gradient by {name!r} in this derivation", hint=known)
        return Formula(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.wrt)

    def __len__(self) -> int:
        return len(self.wrt)

    def __contains__(self, name: object) -> bool:
        return name in self.system.gradients

    def __repr__(self) -> str:
        names = [*self.wrt[:8], *["..."] * (len(self.wrt) > 8)]
        return f"<Derivation of {self.system.loss!r} by {', '.join(names)}>"

    def __str__(self) -> str:
        return self.written()

    def written(self, layout: str = "denominator") -> str:
        """The whole derivation: gradients in the tensors' shapes, or in "numerator" layout transposed.

        Raises DeriveError for another layout.
        """
        sections = self._sections(layout)
        shapes = [(line, wrapped) for _, lines in sections for line in lines for wrapped in [line.wrapped("  ")]]
        width = max((len(w[0]) for line, w in shapes if line.shape is not None and len(w[0]) <= NEAT), default=0)
        blocks = []
        for title, lines in sections:
            blocks.append("\n".join([title, *(part for line in lines for part in _with_shape(line, width))]))
        notes = self.kinks()
        if notes:
            blocks.append("\n".join(["at kinks", *("  " + note for note in notes)]))
        return "\n\n".join(blocks)

    @property
    def latex(self) -> str:
        """The whole derivation in LaTeX, for math mode."""
        return latex_block([line for _, lines in self._sections() for line in lines])

    @property
    def mathml(self) -> str:
        """The whole derivation as a `math` element."""
        return mathml_block([line for _, lines in self._sections() for line in lines])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return notebook_bundle(str(self), self.latex, self.mathml)

    def kinks(self) -> list[str]:
        """The conventions that the derivation uses where a derivative does not exist."""
        return kink_notes(self.plan)

    # the lines

    @cached_property
    def plan(self) -> Plan:
        system = self.system
        ends = [system.loss, *system.outputs]
        roots = [*system.gradients.values(), *(n for n in ends if n in system.equations)]
        forward = frozenset(self.forward.equations) & frozenset(system.equations)
        return Plan(system, forward, nodes_of(self.network), frozenset(system.needed_for(roots)))

    @cached_property
    def sympy_form(self) -> SympyForm:
        return SympyForm(self.plan)

    def formula_lines(self, name: str, indexed: bool, layout: str = "denominator") -> list[Line]:
        """The line of one equation, and those of the symbols in it that are no tensors of the network."""
        make = Lines(self.plan)
        names = [name, *self._rests_on(name)]
        lines = map(make.indexed, names) if indexed else (layout_lines(self.plan, n, layout) for n in names)
        found = [part for several in lines for part in several]
        return found + [make.function(k) for k in self._functions_in(names)]

    def _rests_on(self, name: str) -> list[str]:
        """The equations with a line that `name` uses, except the network's own, nearest first."""
        plan = self.plan
        found: set[str] = set()
        stack = [name]
        while stack:
            for other in self._read(stack.pop()):
                if other not in found and other in plan.system.equations and other not in plan.nodes:
                    found.add(other)
                    stack.append(other)
        return [n for n in reversed(list(plan.system.equations)) if n in found]

    def _read(self, name: str) -> list[str]:
        """The tensors with a symbol that the line of `name` shows."""
        found: dict[str, None] = {}
        stack = [name]
        while stack:
            for operand in self.plan.system.equations[stack.pop()].operands:
                if operand in self.plan.shown:
                    found[operand] = None
                else:
                    stack.append(operand)
        return list(found)

    def _functions_in(self, names: Iterable[str]) -> list[int]:
        """The functions whose letters stand in the lines of `names`."""
        found: set[int] = set()
        seen: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name in seen or name not in self.plan.definitions:
                continue
            seen.add(name)
            found.update(use.function for use in self.plan.definitions[name].body.atoms(Applied))
            stack.extend(n for n in self.plan.system.equations[name].operands if n not in self.plan.shown)
        return sorted(found)

    def stages(self) -> list[tuple[str, list[str]]]:
        """The equations with a line, in the order of reading: forward, loss, backward."""
        plan = self.plan
        shown = [n for n in plan.system.equations if n in plan.shown]
        loss = [n for n in shown if n in plan.forward and (n in plan.tail or n == plan.system.loss)]
        forward = [n for n in shown if n in plan.forward and n not in loss]
        backward = self._backward([n for n in shown if n not in plan.forward])
        named = [("forward", forward), ("loss", loss), ("backward", backward)]
        return [(title, names) for title, names in named if names]

    def functions(self) -> list[Line]:
        """What the letters of activations stand for."""
        make = Lines(self.plan)
        return [make.function(k) for k in range(len(self.plan.functions.bodies))]

    def _sections(self, layout: str = "denominator") -> list[tuple[str, list[Line]]]:
        plan, functions = self.plan, self.functions()
        sections = [
            (title, [line for n in names for line in layout_lines(plan, n, layout)]) for title, names in self.stages()
        ]
        return [*sections, ("where", functions)] if functions else sections

    def _backward(self, names: list[str]) -> list[str]:
        """In the order of the layers: each gradient behind the last adjoint that it uses."""
        gradients = list(self.system.gradients.values())
        place = {name: k for k, name in enumerate(names)}

        def key(name: str) -> tuple[int, int]:
            if name not in gradients_set or name in read:
                return place[name], -1
            last = max((place[n] for n in self._read(name) if n in place), default=-1)
            return last, rank[name]

        gradients_set = set(gradients)
        rank = {name: k for k, name in enumerate(gradients)}
        read = {n for name in names for n in self._read(name)}
        return sorted(names, key=key)


def notebook_bundle(text: str, latex: str, mathml: str) -> dict[str, str]:
    """The forms among which a notebook chooses."""
    return {"text/plain": text, "text/html": mathml, "text/latex": rf"$\displaystyle {latex}$"}


def _with_shape(line: Line, width: int) -> list[str]:
    first, *rest = line.wrapped("  ")
    if line.shape is None or len(first) > NEAT or rest:
        return [first, *rest]
    sizes = [str(n) for n in line.shape]
    shape = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
    return [f"{first:<{width}}    {shape}"]
