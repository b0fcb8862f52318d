"""From a network to its equations: every op replaced by its definition, shapes inferred on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
import sympy as sp
from sympy import Expr, Integer, Rational

from symgrad.check import check, define_operands
from symgrad.equations import Leaf, System, equation
from symgrad.errors import GraphError, ShapeError, SymgradError, raise_all
from symgrad.graph import LEAVES, operands, path_to_loss, topological
from symgrad.index.definition import At, Definition
from symgrad.index.parser import Operand, Part, parse, parse_dimension
from symgrad.names import free_name
from symgrad.ops import OPS

# what a body that cannot be computed with raises, in the ops' formulas and in SymPy
REFUSALS = (GraphError, ValueError, TypeError, ArithmeticError, NotImplementedError, RecursionError)


def expand(graph: nx.MultiDiGraph[Any]) -> System:
    """The equations of a network.

    Raises:
        GraphError and its kinds: every fault of structure, or then every fault of shape, in one error.
    """
    check(graph)
    expansion = _Expansion(graph)
    for node in topological(graph):
        expansion.node(node)
    raise_all(expansion.faults)
    return expansion.finished()


@dataclass
class _Expansion:
    graph: nx.MultiDiGraph[Any]
    system: System = field(default_factory=System)
    scalars: dict[str, Expr] = field(default_factory=dict)
    faults: list[SymgradError] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    dimensions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.taken.update(self.graph.nodes)
        leaves = [a for _, a in self.graph.nodes(data=True) if a["op"] in ("input", "parameter")]
        sizes = {parse_dimension(n) for attrs in leaves for n in attrs["shape"]}
        self.dimensions = frozenset(str(s) for n in sizes for s in n.free_symbols)

    def node(self, node: str) -> None:
        attrs = dict(self.graph.nodes[node])
        op = attrs["op"]
        if op in LEAVES:
            self.system.leaves[node] = _leaf(node, attrs)
            value = self.system.leaves[node].value
            if op == "constant" and np.ndim(value) == 0:
                self.scalars[node] = exact(value)
            return
        sources = operands(self.graph, node)
        if self.broken.intersection(sources):
            self.broken.add(node)
            return
        try:
            self._define(node, op, attrs, sources)
        except REFUSALS as error:
            self.faults.append(self._located(error, node, op, sources))
            self._go_on(node, op, attrs, sources)

    def _go_on(self, node: str, op: str, attrs: dict[str, Any], sources: list[str]) -> None:
        """Give a faulty node the shape that it was meant to have, so that later faults are found too."""
        try:
            self._define(node, op, attrs, sources, lenient=True)
        except REFUSALS:
            self.broken.add(node)

    def _define(self, node: str, op: str, attrs: dict[str, Any], sources: list[str], lenient: bool = False) -> None:
        if op == "define":
            text, names = attrs["formula"], define_operands(attrs)
        else:
            names = tuple(OPS[op].operand_name(k) for k in range(len(sources)))
            text = ""
        described = tuple(
            Operand(name, self.system.shape(s), self.system.dtype(s) == "int64", self.scalars.get(s))
            for name, s in zip(names, sources, strict=True)
        )
        if op != "define":
            given = {k: v for k, v in attrs.items() if k in OPS[op].attributes}
            text = OPS[op].text(described, given)
        self._add_parts(node, parse(text, described, self.dimensions, lenient), dict(zip(names, sources, strict=True)))

    def _add_parts(self, node: str, parts: tuple[Part, ...], bound: dict[str, str]) -> None:
        for part in parts:
            last = part is parts[-1]
            name = node if last else free_name(f"{node}_{part.target.lower()}", self.taken)
            self.taken.add(name)
            sources = [bound[k] for k in part.operands]
            bound[part.target] = name
            dtype = "bool" if part.boolean else self._dtype(part.definition, sources)
            made = equation(name, part.definition, sources, dtype=dtype, origin=node)
            self.system.add(made)

    def _dtype(self, definition: Definition, sources: list[str]) -> str:
        """That of what is only moved or picked; anything that is computed is a float."""
        body = definition.body
        moved = definition.elementwise or definition.reduction in ("max", "min")
        return self.system.dtype(sources[body.operand]) if isinstance(body, At) and moved else "float"

    def _located(self, error: Exception, node: str, op: str, sources: list[str]) -> SymgradError:
        """The error, naming the node, its operands and the way to the loss."""
        shapes = [f"{s!r} has shape {_shape(self.system.shape(s))}" for s in sources]
        known = error if isinstance(error, SymgradError) else ShapeError(str(error))
        return type(known)(
            known.summary,
            node=node,
            op=op,
            details=[*known.details, "; ".join(shapes)],
            path=path_to_loss(self.graph, node),
            hint=known.hint,
        )

    def finished(self) -> System:
        loss = self.graph.graph.get("loss")
        outputs = self.graph.graph.get("outputs")
        self.system.loss = loss
        self.system.outputs = tuple(outputs) if outputs else self._default_outputs(loss)
        gradients = self.graph.graph.get("gradients") or {}
        self.system.gradients = {k: v for k, v in gradients.items() if v in self.system}
        self._check_loss(loss)
        return self.system

    def _check_loss(self, loss: str | None) -> None:
        if loss is not None and self.system.shape(loss) != ():
            raise ShapeError(
                f"the loss has shape {_shape(self.system.shape(loss))} and should be a scalar",
                node=loss,
                op=self.graph.nodes[loss]["op"],
                hint="reduce it with sum or mean",
            )

    def _default_outputs(self, loss: str | None) -> tuple[str, ...]:
        """The loss's operands that depend on a parameter: what is compared with the targets."""
        if loss is None or loss in self.system.leaves:
            ends = [n for n in self.graph if self.graph.out_degree(n) == 0 and n in self.system.equations]
            return tuple(ends)
        learned = {n for n, leaf in self.system.leaves.items() if leaf.kind == "parameter"}
        found = [
            s
            for s in dict.fromkeys(operands(self.graph, loss))
            if s in self.system.equations and self.system.needed_for([s]) & learned
        ]
        return tuple(found) or (loss,)


def exact(value: Any) -> Expr:
    """A number as an exact rational: decimals mean what they say."""
    if isinstance(value, bool | int | np.integer | np.bool_):
        return Integer(int(value))
    return Rational(repr(float(value)))


def _leaf(node: str, attrs: dict[str, Any]) -> Leaf:
    op = attrs["op"]
    if op == "constant":
        array = np.asarray(attrs["value"])
        dtype = {"i": "int64", "u": "int64", "b": "bool", "f": "float"}[array.dtype.kind]
        return Leaf(node, op, tuple(map(Integer, array.shape)), dtype, array.tolist())
    shape = tuple(parse_dimension(n) for n in attrs["shape"])
    return Leaf(node, op, shape, attrs.get("dtype", "float"), None, attrs.get("init"))


def _shape(shape: tuple[Expr, ...]) -> str:
    return str(tuple(sp.sympify(n) for n in shape)).replace("'", "")
