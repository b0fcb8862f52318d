"""The network with its adjoints, and answers written beside them: everything a grader compares is in one system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import networkx as nx
import sympy as sp
from sympy import Expr

from symgrad.derive.reverse import derive_recorded
from symgrad.equations import Equation, Leaf, System, equation, shape_attribute
from symgrad.errors import DeriveError, nearest
from symgrad.expand import expand
from symgrad.expression import read_expression
from symgrad.index.definition import At, define, index_symbol
from symgrad.index.functions import is_condition
from symgrad.names import free_name


@dataclass(frozen=True)
class Candidate:
    """A system and the tensor in it that is compared: an answer, or a gradient with a fault."""

    system: System
    name: str

    @property
    def shape(self) -> tuple[Expr, ...]:
        return self.system.shape(self.name)


class Problem:
    """A network, its adjoints by `wrt` as the chain rule gives them, and the names that answers may use.

    Attributes:
        forward, system: the network's equations, and the same with the adjoints'.
        record: adjoint equation -> the contribution that it is.
        distribution: the input whose rows are taken to sum to 1, if there is one.

    Raises as `derive`.
    """

    def __init__(self, graph: nx.MultiDiGraph[Any], wrt: Sequence[str], distribution: str | None = None) -> None:
        self.graph, self.wrt, self.distribution = graph, tuple(wrt), distribution
        self.forward = expand(graph)
        derived, self.record = derive_recorded(self.forward, wrt=list(wrt))
        self.system = _numeric(derived if distribution is None else _with_rows_summing_to_one(derived, distribution))

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The inputs with rows that the network only compares with what it has computed: they may be probabilities."""
        learned = {n for n, leaf in self.forward.leaves.items() if leaf.kind == "parameter"} | set(self.wrt)
        computed = {e.name for e in self.forward if self.forward.needed_for([e.name]) & learned}
        compared = {
            name: bool(readers) and all(computed.intersection(self.forward.equations[r].operands) for r in readers)
            for name, readers in self.forward.uses().items()
        }
        leaves = [leaf for leaf in self.forward.leaves.values() if leaf.kind == "input" and leaf.name not in self.wrt]
        return tuple(leaf.name for leaf in leaves if leaf.shape and leaf.dtype == "float" and compared[leaf.name])

    def gradient(self, tensor: str) -> Candidate:
        """The gradient by one of `wrt`."""
        return Candidate(self.system, self.system.gradients[tensor])

    def adjoint(self, tensor: str) -> str | None:
        """The tensor that holds the whole adjoint of a tensor, if it is on a way from `wrt` to the loss."""
        return self._adjoints.get(tensor)

    @cached_property
    def _adjoints(self) -> dict[str, str]:
        found = {e.adjoint_of: e.name for e in self.system if e.adjoint_of is not None}  # a sum stands behind its terms
        return found | self.system.gradients

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The network's own tensors, those that it computes in the order in which it does."""
        inside = [e.name for e in self.forward if e.name in self.graph]
        return (*(n for n, leaf in self.forward.leaves.items() if leaf.kind != "constant"), *inside)

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The network's own tensors without those that are called after their op, as `matmul1` is."""
        ops = {n: self.graph.nodes[n]["op"] for n in self.nodes}
        return tuple(n for n, op in ops.items() if not re.fullmatch(rf"{op}\d+", n))

    @cached_property
    def scope(self) -> dict[str, tuple[int | str, ...]]:
        """name -> shape of everything that an answer may use, but for the gradients that are asked for."""
        asked = set(self.system.gradients.values())
        adjoints = [e.name for e in self.system if e.adjoint_of is not None and e.name not in asked]
        names = [*self.nodes, *self.forward.equations, *adjoints]
        return {name: shape_attribute(self.system.shape(name)) for name in dict.fromkeys(names)}

    def answer(self, text: str) -> Candidate:
        """An answer beside the network.

        Raises FormulaError or ShapeError where the text is malformed, names what is not there, or does not fit.
        """
        return _beside(self.system, *self._read(text))

    def loose_answer(self, text: str) -> Candidate:
        """An answer by itself: the tensors that it names are leaves. Raises as `answer`."""
        return _beside(self._loose, *self._read(text))

    @cached_property
    def _loose(self) -> System:
        leaves = {n: Leaf(n, "input", self.system.shape(n), self.system.dtype(n)) for n in self.scope}
        return System(leaves)

    def _read(self, text: str) -> tuple[System, str]:
        read = read_expression(text, scope=self.scope)
        graph = read.graph.copy()
        for name, attributes in graph.nodes(data=True):
            if attributes["op"] == "input":
                attributes["dtype"] = self.system.dtype(name)
        graph.graph.pop("loss", None)
        return _numeric(expand(graph)), read.output


def target_named(forward: System, name: str) -> str:
    """The tensor that an answer is about: `name`, or X where that is d_X.

    Raises DeriveError if there is no such tensor.
    """
    if name in forward:
        return name
    if name.startswith("d_") and name[2:] in forward:
        return name[2:]
    raise DeriveError(f"there is no tensor {name!r}", hint=nearest(name, [*forward.leaves, *forward.equations]))


def _beside(system: System, answer: System, output: str) -> Candidate:
    """The answer's equations added under names of their own, its inputs being the system's tensors."""
    joint = system.copy()
    names: dict[str, str] = {}
    for leaf in answer.leaves.values():
        if leaf.kind == "constant":
            names[leaf.name] = free_name("answer_" + leaf.name, joint)
            joint.leaves[names[leaf.name]] = replace(leaf, name=names[leaf.name])
        else:
            names[leaf.name] = leaf.name
    for e in answer:
        names[e.name] = free_name("answer_" + e.name, joint)
        operands = [names[operand] for operand in e.operands]
        joint.add(equation(names[e.name], e.definition, operands, dtype=e.dtype, origin="answer"))
    return Candidate(joint, names[output])


def _with_rows_summing_to_one(system: System, name: str) -> System:
    """With the input replaced by one that is divided by its sum over the last axis."""
    leaf = system.leaves[name]
    free = free_name(f"{name}_weights", system)
    index = [index_symbol(f"i{k}") for k, _ in enumerate(leaf.shape)]
    loops = list(zip(index, leaf.shape, strict=True))
    total = define(loops, leaf.shape[:-1], index[:-1], At(0, index))
    divided = define(loops, leaf.shape, index, At(0, index) / At(1, index[:-1]))
    sums = free_name(f"{name}_sum", system)
    changed = system.copy()
    del changed.leaves[name]
    changed.leaves[free] = replace(leaf, name=free)
    first = {sums: equation(sums, total, [free]), name: equation(name, divided, [free, sums])}
    changed.equations = first | changed.equations
    return changed


def _numeric(system: System) -> System:
    """With conditions as numbers: 1 where they hold, else 0."""
    changed = system.copy()
    for name, e in system.equations.items():
        if is_condition(e.definition.body):
            changed.equations[name] = _as_number(e)
    return changed


def _as_number(e: Equation) -> Equation:
    d = e.definition
    body = sp.Piecewise((1, d.body), (0, True))
    made = define(d.loops, d.shape, d.write, body, d.reduction)
    return equation(e.name, made, e.operands, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)
