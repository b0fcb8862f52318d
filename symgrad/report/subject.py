"""What a report is about, computed once: derivation, program, evidence and costs, with reasons for what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import networkx as nx

from symgrad.costs import Costs, costs
from symgrad.emit import Program
from symgrad.emit.source_map import SourceEntry
from symgrad.errors import EmitError, SymgradError
from symgrad.formula import Derivation
from symgrad.formula.lines import Line, Lines
from symgrad.graph import operands, topological
from symgrad.optimizers import Optimizer, optimizer_named
from symgrad.pipeline import emit
from symgrad.verify import Report, verify

ENTRIES = 2  # of each gradient are compared for the report's table
MOST = 40e6  # operations with 50 digits, above a minute
SIZE = 4  # about what a named dimension has where a gradient is verified
TOO_LARGE = "The network is too large to be verified in passing. symgrad verify, or sg.verify, takes its time for it."
NOT_THE_LOSS = "The derivation is not of the loss of the network, so no training program belongs to it."

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A formula of the derivation.

    Attributes:
        name: of the tensor; number: the formula's, from 1.
        node: of the network, which the formula belongs to.
        entries: the lines of code that compute it.
    """

    name: str
    number: int
    node: str
    lines: Sequence[Line]
    entries: Sequence[SourceEntry]


@dataclass(frozen=True)
class Subject:
    """What a report shows.

    Attributes:
        verified: the evidence, or whether it is wanted.
    """

    derivation: Derivation
    optimizer_name: str
    verified: bool | Report

    @property
    def network(self) -> nx.MultiDiGraph[Any]:
        return self.derivation.network

    @cached_property
    def optimizer(self) -> Optimizer:
        return optimizer_named(self.optimizer_name)

    @cached_property
    def program(self) -> Program | str:
        """The program in its readable style, or why there is none."""
        return _or_reason(lambda: emit(self.derivation, self.optimizer_name, style="readable"))

    @cached_property
    def evidence(self) -> Report | str:
        """The verification of the program, or why there is none: it evaluates the loss many times, with 50 digits."""
        if isinstance(self.verified, Report):
            return self.verified
        if not self.verified:
            return "The gradients were not verified for this page."
        if isinstance(self.program, str):
            return self.program
        wrt = list(self.derivation)
        if self._operations() * len(wrt) * ENTRIES > MOST:
            return TOO_LARGE
        return _or_reason(lambda: verify(self.network, wrt, entries=ENTRIES, style="readable"))

    def _operations(self) -> int:
        """Of one forward pass where gradients are verified, about."""
        sizes = {str(symbol): SIZE for symbol in self.costs.dimensions}
        return int(sum(e.flops for e in self.costs.at(**sizes).equations if not e.backward))

    @cached_property
    def costs(self) -> Costs:
        return costs(self.derivation)

    @cached_property
    def entries(self) -> tuple[SourceEntry, ...]:
        return () if isinstance(self.program, str) else self.program.source_map

    @cached_property
    def nodes(self) -> Mapping[str, str]:
        """tensor of the derivation -> the node of the network that it, or what it is the adjoint of, belongs to."""
        system = self.derivation.system
        found = {name: name for name in system.leaves}
        for e in system:
            about = e.adjoint_of or e.name
            found[e.name] = found.get(about, e.origin or about) if about != e.name else e.origin or e.name
        return {name: node for name, node in found.items() if node in self.network}

    @cached_property
    def stages(self) -> list[tuple[str, list[Row]]]:
        """The formulas in the order of reading, under the stages' names."""
        make, number, stages = Lines(self.derivation.plan), 0, []
        for title, names in self.derivation.stages():
            rows = []
            for name in names:
                number += 1
                lines = make.matrix(name)
                rows.append(Row(name, number, self.nodes.get(name, ""), lines, self.entries_of.get(name, [])))
            stages.append((title, rows))
        return stages

    @cached_property
    def rows(self) -> dict[str, Row]:
        return {row.name: row for _, rows in self.stages for row in rows}

    # which code computes which formula

    @cached_property
    def entries_of(self) -> Mapping[str, list[SourceEntry]]:
        """tensor with a formula -> the code of it and of the tensors that it is written out from."""
        found: dict[str, list[SourceEntry]] = {}
        for entry in self.entries:
            for name in self.formulas_of(entry):
                found.setdefault(name, []).append(entry)
        return found

    def formulas_of(self, entry: SourceEntry) -> list[str]:
        """The tensors whose formulas an entry belongs to: its own, or those that it is written out in."""
        if entry.stage in ("init", "update"):
            return []
        plan = self.derivation.plan
        for name in (entry.tensor, *self._kin(entry)):
            if name in plan.shown and name in plan.system.equations:
                return [name]
            if self._users.get(name):
                return self._users[name]
        return []

    def _kin(self, entry: SourceEntry) -> list[str]:
        """Tensors of the derivation that stand for one which only the program has."""
        system = self.derivation.system
        if entry.adjoint_of is not None:
            return self._adjoints(entry.adjoint_of)
        return [e.name for e in system if e.adjoint_of is None and self.nodes.get(e.name) == entry.node][::-1]

    def _adjoints(self, tensor: str) -> list[str]:
        """The equations of a tensor's adjoint; where the derivation has none, of the tensors it is computed from."""
        system = self.derivation.system
        stack, seen = [tensor], {tensor}
        while stack:
            here = stack.pop(0)
            if here in self._adjoint_parts:
                return self._adjoint_parts[here]
            operands = system.equations[here].operands if here in system.equations else ()
            stack += [name for name in operands if name not in seen]
            seen.update(operands)
        return []

    @cached_property
    def _adjoint_parts(self) -> dict[str, list[str]]:
        """tensor -> the equations of its adjoint, the last one first."""
        found: dict[str, list[str]] = {}
        for e in self.derivation.system:
            if e.adjoint_of is not None:
                found.setdefault(e.adjoint_of, []).insert(0, e.name)
        return found

    @cached_property
    def _users(self) -> dict[str, list[str]]:
        """tensor without a formula -> the tensors in whose formulas it is written out."""
        plan = self.derivation.plan
        found: dict[str, list[str]] = {}
        for e in reversed(list(plan.system)):
            if e.name not in plan.needed:
                continue
            users = [e.name] if e.name in plan.shown else found.get(e.name, [])
            for operand in e.operands:
                if operand not in plan.shown:
                    known = found.setdefault(operand, [])
                    known += [user for user in users if user not in known]
        return found

    # what the graph shows

    @cached_property
    def inside(self) -> dict[str, str]:
        """helper node -> its only user, in whose formula it is written out; the two share a box."""
        shown, found = self.derivation.plan.shown, {}
        ends = {*self.network.graph.get("outputs", ()), self.network.graph.get("loss")}
        for name, data in self.network.nodes(data=True):
            users = set(self.network.successors(name))
            helper = data["op"] not in ("input", "parameter") and self.rows.get(name) is None
            constant = data["op"] == "constant"
            if helper and (constant or name not in shown) and len(users) == 1 and name not in ends:
                found[name] = next(iter(users))
        return found

    def box(self, node: str) -> str:
        """The node in whose box this one is drawn."""
        while node in self.inside:
            node = self.inside[node]
        return node

    @cached_property
    def differentiated(self) -> list[str]:
        """The nodes through which gradients flow: from what is differentiated by, through numbers, to the loss."""
        system, order = self.derivation.forward, topological(self.network)
        end = {self.nodes.get(self.derivation.system.loss or "", self.derivation.system.loss)}
        below: set[str] = set()
        for name in order:
            flows = system.dtype(name) == "float"
            if name in self.derivation or (flows and below.intersection(operands(self.network, name))):
                below.add(name)
        above: set[str] = set()
        for name in reversed(order):
            if name in below and (name in end or above.intersection(self.network.successors(name))):
                above.add(name)
        return [name for name in order if name in above]


def _or_reason(make: Callable[[], T]) -> T | str:
    try:
        return make()
    except EmitError as error:
        return NOT_THE_LOSS if "gradients of the graph's loss" in error.summary else error.summary
    except SymgradError as error:
        return str(error)
