"""The costs of a network's equations, of its nodes, and in total.

Operations are those of the equations as they are written (see `operations`): the program may need fewer, where it
contracts several factors in a cheaper order or computes what does not depend on a loop outside of it. Memory is that
of the program in the fast style.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.costs.kernels import solution_operations
from symgrad.costs.memory import kept_values, program_workspace, size_of, total, workspace
from symgrad.costs.operations import Count, definition_operations
from symgrad.emit import Request, in_order
from symgrad.emit.nodes import network_nodes
from symgrad.emit.request import check_request
from symgrad.equations import Equation, System
from symgrad.errors import EmitError, ShapeError, nearest
from symgrad.formula import Derivation
from symgrad.index.text import expression_text
from symgrad.lower import arrange
from symgrad.optimizers import optimizer_named
from symgrad.pipeline import simplify, training_system

SIZES = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class EquationCost:
    """One equation.

    Attributes:
        tensor, node: its name, and the node of the network that it belongs to.
        backward: whether it comes after the loss.
        arithmetic, calls: operations, and calls of functions such as exp.
        bytes: of its value.
    """

    tensor: str
    node: str
    backward: bool
    arithmetic: Expr
    calls: Expr
    bytes: Expr

    @property
    def flops(self) -> Expr:
        return self.arithmetic + self.calls


@dataclass(frozen=True)
class NodeCost:
    """A node of the network: FLOPs forward and backward, bytes of what it holds until the backward pass is over.

    A parameter holds itself, an op those of its values that the backward pass reads.
    """

    node: str
    forward: Expr
    backward: Expr
    bytes: Expr


Cost = TypeVar("Cost", EquationCost, NodeCost)


@dataclass(frozen=True)
class Costs:
    """Operations and bytes, polynomials in the dimensions. `str` gives a table.

    Attributes:
        equations: the cost of each, in the order of the program.
        nodes: the same by the nodes of the network.
        parameters, gradients: bytes of the parameters, and of what is differentiated by.
        activations: bytes of the values of the forward pass that the backward pass reads.
        workspace: bytes of all buffers that the program works in where one worker does everything.
        dtype: float32 or float64.
        dimensions: those that have no number yet.
    """

    equations: tuple[EquationCost, ...]
    nodes: tuple[NodeCost, ...]
    parameters: Expr
    gradients: Expr
    activations: Expr
    workspace: Expr
    dtype: str
    dimensions: tuple[Symbol, ...]

    @property
    def arithmetic(self) -> Expr:
        """Additions, products and their like, forward and backward."""
        return sp.Add(*(e.arithmetic for e in self.equations))

    @property
    def calls(self) -> Expr:
        """Calls of functions such as exp, forward and backward."""
        return sp.Add(*(e.calls for e in self.equations))

    @property
    def flops(self) -> Expr:
        """All operations of one forward and backward pass."""
        return self.arithmetic + self.calls

    @property
    def memory(self) -> Expr:
        """Bytes of parameters, gradients and workspace."""
        return self.parameters + self.gradients + self.workspace

    def at(self, **sizes: int) -> Costs:
        """The costs with numbers for some dimensions: `costs.at(N=32)`. Raises ShapeError for a size that is none."""
        known = {str(symbol): symbol for symbol in self.dimensions}
        for name, size in sizes.items():
            if name not in known:
                hint = nearest(name, known) or f"the dimensions are {', '.join(known) or 'all known'}"
                raise ShapeError(f"the costs have no dimension {name!r}", hint=hint)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ShapeError(f"the dimension {name!r} is {size!r}", hint="a positive integer is needed")
        values = {known[name]: Integer(size) for name, size in sizes.items()}
        return _evaluated(self, lambda expr: sp.expand(expr.xreplace(values)), values.keys())

    def __str__(self) -> str:
        head = ("node", "forward FLOPs", "backward FLOPs", "bytes")
        rows = [(n.node, *map(_text, (n.forward, n.backward, n.bytes))) for n in self.nodes]
        sums = [sp.Add(*column) for column in zip(*((n.forward, n.backward, n.bytes) for n in self.nodes), strict=True)]
        return "\n".join([*_table([head, *rows, ("total", *map(_text, sums))]), "", *self._summary()])

    def _summary(self) -> list[str]:
        parts = ("parameters", self.parameters), ("gradients", self.gradients), ("workspace", self.workspace)
        return [
            f"FLOPs: {_text(self.flops)}, of which {_text(self.calls)} are calls of functions such as exp",
            f"memory in {self.dtype}: {_text(self.memory)} bytes",
            *(f"  {what}: {_text(size)}" for what, size in parts),
            f"    of which values kept for the backward pass: {_text(self.activations)}",
        ]


def costs(source: Derivation | System, dtype: str = "float32") -> Costs:
    """What the equations of a derivation or a system cost.

    Of a derivation of the network's loss, the equations are those of its program; of another derivation, its own
    ones, simplified. A system is taken as it is.

    Raises:
        EmitError: neither of them, an unknown dtype, or an equation that has no array form.
    """
    if not isinstance(source, Derivation | System):
        raise EmitError(f"costs are those of a derivation, not of {type(source).__name__}", hint="sg.derive(graph)")
    if dtype not in SIZES:
        raise EmitError(f"unknown dtype {dtype!r}", hint=nearest(str(dtype), SIZES) or "one of " + ", ".join(SIZES))
    float_size = SIZES[dtype]
    if isinstance(source, System):
        return _costs(source, _forward_part(source), dtype, workspace(source, float_size))
    forward = source.forward
    if forward.loss is None or source.system.loss != forward.loss:
        system = simplify(source.system)
        return _costs(system, forward, dtype, workspace(system, float_size))
    system = training_system(source)
    request = _program(forward, system, forward.loss, dtype)
    space = workspace(system, float_size) if request is None else program_workspace(request, float_size)
    return _costs(system, forward, dtype, space)


def _program(forward: System, system: System, loss: str, dtype: str) -> Request | None:
    """What the program in the fast style is made from; None for a network that cannot be one."""
    arranged = in_order(arrange(system), loss)
    request = Request(forward, arranged, optimizer_named("sgd"), dtype, "fast", "", "", {}, loss)
    try:
        check_request(request)
    except EmitError:
        return None
    return request


def _forward_part(system: System) -> System:
    first = _before_backward(system)
    return replace(system, equations={e.name: e for e in system if e.name in first})


def _before_backward(system: System) -> set[str]:
    return system.needed_for([*system.outputs, *([system.loss] if system.loss else [])])


def _costs(system: System, forward: System, dtype: str, space: Expr) -> Costs:
    float_size = SIZES[dtype]
    nodes = network_nodes(forward, system)
    first = _before_backward(system)
    equations = []
    for e in system:
        arithmetic, calls = _operations(e, system)
        size = size_of(e.shape, e.dtype, float_size)
        equations.append(EquationCost(e.name, nodes[e.name], e.name not in first, arithmetic, calls, size))
    parameters = [leaf.name for leaf in system.leaves.values() if leaf.kind == "parameter"]
    kept = kept_values(system, first)
    sizes = {name: total(system, [name], float_size) for name in (*parameters, *kept)}
    holders = [(nodes[name], size) for name, size in sizes.items()]
    symbols = {s for leaf in system.leaves.values() for n in leaf.shape for s in n.free_symbols}
    return Costs(
        tuple(equations),
        _by_node(forward, equations, holders),
        total(system, parameters, float_size),
        total(system, system.gradients.values(), float_size),
        total(system, kept, float_size),
        space,
        dtype,
        tuple(sorted(symbols, key=str)),
    )


def _operations(e: Equation, system: System) -> Count:
    if e.solution is not None:
        return Count(solution_operations(e, e.solution, system), Integer(0))
    return definition_operations(e.definition)


def _by_node(
    forward: System, equations: Iterable[EquationCost], held: Iterable[tuple[str, Expr]]
) -> tuple[NodeCost, ...]:
    """The nodes that cost something, in the order of the network."""
    order = dict.fromkeys((*forward.leaves, *(e.origin for e in forward)))
    found = {node: NodeCost(node, Integer(0), Integer(0), Integer(0)) for node in order}
    for e in equations:
        n = found.setdefault(e.node, NodeCost(e.node, Integer(0), Integer(0), Integer(0)))
        forward_flops, backward_flops = (Integer(0), e.flops) if e.backward else (e.flops, Integer(0))
        found[e.node] = replace(n, forward=n.forward + forward_flops, backward=n.backward + backward_flops)
    for node, size in held:
        found[node] = replace(found[node], bytes=found[node].bytes + size)
    return tuple(n for n in found.values() if (n.forward, n.backward, n.bytes) != (0, 0, 0))


def _evaluated(c: Costs, value: Callable[[Expr], Expr], done: Iterable[Symbol]) -> Costs:
    """The costs with every expression replaced by `value` of it."""
    return Costs(
        tuple(_with_values(e, value, "arithmetic", "calls", "bytes") for e in c.equations),
        tuple(_with_values(n, value, "forward", "backward", "bytes") for n in c.nodes),
        value(c.parameters),
        value(c.gradients),
        value(c.activations),
        value(c.workspace),
        c.dtype,
        tuple(symbol for symbol in c.dimensions if symbol not in set(done)),
    )


def _with_values(cost: Cost, value: Callable[[Expr], Expr], *fields: str) -> Cost:
    changes: dict[str, Any] = {field: value(getattr(cost, field)) for field in fields}
    return replace(cost, **changes)


def _text(expr: Expr) -> str:
    return f"{int(expr):,}" if expr.is_Integer else expression_text(expr)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
