"""The form that all stages after the check work on: a system of equations, one definition each.

    System     leaves, equations in an order in which operands come first, what is wanted of them
    Leaf       a tensor that is given: input, parameter or constant
    Equation   name[...] = definition applied to the tensors named in `operands`

It is the same graph as the network, with every op replaced by its definition. `to_graph` writes it in the
network's own schema, each node an op="define" with its formula as text.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import networkx as nx
from sympy import Expr, Integer

from symgrad.graph import FORMAT
from symgrad.index.definition import At, Definition
from symgrad.index.solution import Solution
from symgrad.index.text import definition_text, expression_text

Shape = tuple[Expr, ...]


@dataclass(frozen=True)
class Leaf:
    name: str
    kind: str
    shape: Shape
    dtype: str = "float"
    value: Any = None
    init: Any = None


@dataclass(frozen=True)
class Equation:
    """One tensor and how it is computed.

    Attributes:
        origin: the network's node that this equation is a part of.
        adjoint_of: the tensor whose adjoint this is a part of, if it is one.
    """

    name: str
    definition: Definition
    operands: tuple[str, ...]
    dtype: str = "float"
    origin: str = ""
    adjoint_of: str | None = None

    @property
    def shape(self) -> Shape:
        return self.definition.shape

    @property
    def solution(self) -> Solution | None:
        """The definition, where it is by the equations that the tensor satisfies and not by an index formula."""
        return self.definition if isinstance(self.definition, Solution) else None

    @cached_property
    def key(self) -> tuple[Definition, tuple[str, ...], str]:
        """Equal for equations that compute the same from the same tensors, however they count their operands."""
        names = tuple(sorted(self.operands))
        numbers = {k: names.index(name) for k, name in enumerate(self.operands)}
        return self.definition.renumbered(numbers), names, self.dtype

    def source(self, at: At) -> str:
        """The tensor that an access reads."""
        return self.operands[at.operand]


def equation(name: str, definition: Definition, operands: Sequence[str], **remarks: Any) -> Equation:
    """An Equation with each operand once, in the order in which the definition reads them."""
    unique: list[str] = []
    for k in definition.operands:
        if operands[k] not in unique:
            unique.append(operands[k])
    numbers = {k: unique.index(operands[k]) for k in definition.operands}
    if any(k != v for k, v in numbers.items()):
        definition = definition.renumbered(numbers)
    return Equation(name, definition, tuple(unique), **remarks)


@dataclass
class System:
    """See the module's docstring.

    Attributes:
        loss: the scalar that is differentiated, if there is one.
        outputs: what `forward` returns.
        gradients: tensor -> the equation that holds the loss's gradient by it.
    """

    leaves: dict[str, Leaf] = field(default_factory=dict)
    equations: dict[str, Equation] = field(default_factory=dict)
    loss: str | None = None
    outputs: tuple[str, ...] = ()
    gradients: dict[str, str] = field(default_factory=dict)

    def copy(self) -> System:
        return replace(self, leaves=dict(self.leaves), equations=dict(self.equations), gradients=dict(self.gradients))

    def __contains__(self, name: object) -> bool:
        return name in self.equations or name in self.leaves

    def __iter__(self) -> Iterator[Equation]:
        return iter(self.equations.values())

    def shape(self, name: str) -> Shape:
        return self.equations[name].shape if name in self.equations else self.leaves[name].shape

    def dtype(self, name: str) -> str:
        return self.equations[name].dtype if name in self.equations else self.leaves[name].dtype

    def add(self, new: Equation) -> Equation:
        self.equations[new.name] = new
        return new

    def uses(self) -> dict[str, list[str]]:
        """tensor -> the equations that read it."""
        found: dict[str, list[str]] = {name: [] for name in (*self.leaves, *self.equations)}
        for e in self:
            for operand in e.operands:
                found[operand].append(e.name)
        return found

    def wanted(self) -> list[str]:
        """What the system is for: outputs, loss and gradients."""
        names = [*self.outputs, *([self.loss] if self.loss else []), *self.gradients.values()]
        return list(dict.fromkeys(names))

    def needed_for(self, names: Iterable[str]) -> set[str]:
        """The tensors that `names` are computed from, themselves included."""
        found: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                if name in self.equations:
                    stack.extend(self.equations[name].operands)
        return found

    def pruned(self, keep: Iterable[str] = ()) -> System:
        """Without the equations that nothing wanted, or in `keep`, needs."""
        live = self.needed_for([*self.wanted(), *keep])
        kept = {name: e for name, e in self.equations.items() if name in live}
        return replace(self, equations=kept)

    def sorted(self) -> System:
        """With the equations in an order in which operands come first; otherwise as they stood."""
        order: dict[str, Equation] = {}
        for root in self.equations:
            stack = [(root, False)]
            while stack:
                name, ready = stack.pop()
                if name in order or name not in self.equations:
                    continue
                if ready:
                    order[name] = self.equations[name]
                    continue
                stack.append((name, True))
                stack.extend((operand, False) for operand in reversed(self.equations[name].operands))
        return replace(self, equations=order)

    def to_graph(self) -> nx.MultiDiGraph:
        """The system in the network's schema."""
        graph = nx.MultiDiGraph(symgrad=FORMAT, outputs=list(self.outputs), gradients=dict(self.gradients))
        if self.loss:
            graph.graph["loss"] = self.loss
        dimensions = {str(s) for leaf in self.leaves.values() for n in leaf.shape for s in n.free_symbols}
        for leaf in self.leaves.values():
            graph.add_node(leaf.name, **_leaf_attributes(leaf))
        for e in self:
            names = _formula_names(len(e.operands), dimensions)
            shapes = [self.shape(operand) for operand in e.operands]
            text = definition_text(e.definition, "Y", names, shapes, e.dtype == "bool")
            remarks = {"adjoint_of": e.adjoint_of} if e.adjoint_of else {}
            shape = shape_attribute(e.shape)
            graph.add_node(e.name, op="define", formula=text, operands=names, shape=shape, origin=e.origin, **remarks)
            for k, operand in enumerate(e.operands):
                graph.add_edge(operand, e.name, arg=k)
        return graph


def _formula_names(count: int, taken: Container[str]) -> list[str]:
    """A, B, C, ... X8, X9, ... without those in `taken`."""
    letters = (*"ABCDEFGH", *(f"X{k}" for k in range(8, 2 * count + 16)))
    return [name for name in letters if name not in taken][:count]


def shape_attribute(shape: Iterable[Expr]) -> tuple[int | str, ...]:
    """A shape as graphs hold it: integers and text."""
    return tuple(int(n) if isinstance(n, Integer) else expression_text(n) for n in shape)


def _leaf_attributes(leaf: Leaf) -> Mapping[str, Any]:
    if leaf.kind == "constant":
        return {"op": "constant", "value": leaf.value}
    common = {"op": leaf.kind, "shape": shape_attribute(leaf.shape)}
    if leaf.kind == "input":
        return common | {"dtype": leaf.dtype}
    return common | ({"init": leaf.init} if leaf.init is not None else {})
