"""Well-formedness of a network, before any shape is known: every fault of the graph in one error."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import numpy as np

from symgrad.errors import DtypeError, FormulaError, GraphError, SymgradError, nearest, raise_all
from symgrad.graph import DTYPES, FORMAT, LEAVES, operand_edges
from symgrad.index.functions import CONSTANTS
from symgrad.index.parser import MAX_EXTENT, operand_names, parse_dimension
from symgrad.initialise import init_fault
from symgrad.names import name_fault
from symgrad.ops import OPS
from symgrad.ops.registry import REQUIRED, Attribute

ALLOWED = {
    "input": {"shape", "dtype"},
    "parameter": {"shape", "init"},
    "constant": {"value"},
    "define": {"formula", "operands"},
}
_KEPT = re.compile("[biq][0-9]+_?")  # indices in the formulas of ops, whose bodies name dimensions too
REMARKS = {"adjoint_of", "origin", "shape"}  # what a derived graph says of its nodes beyond the schema


def check(graph: nx.MultiDiGraph[Any]) -> None:
    """Raise one error naming every fault of the graph's structure; return if there is none."""
    if not isinstance(graph, nx.MultiDiGraph):
        raise GraphError(
            f"a network is a networkx.MultiDiGraph, not {type(graph).__name__}",
            hint="in a DiGraph x*x loses an operand; build a MultiDiGraph",
        )
    raise_all([*_graph_faults(graph), *(f for node in graph for f in _node_faults(graph, node))])


def _graph_faults(graph: nx.MultiDiGraph[Any]) -> Iterator[SymgradError]:
    version = graph.graph.get("symgrad", FORMAT)
    if type(version) is not int or version != FORMAT:
        yield GraphError(f"the graph says format {version!r}"[:200] + f", this is format {FORMAT}")
    if not len(graph):
        yield GraphError("the graph has no nodes")
    yield from _end_faults(graph)
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [edge[0] for edge in nx.find_cycle(graph)]
        yield GraphError("the graph has a cycle", path=[*map(str, cycle), str(cycle[0])], node=str(cycle[0]))


def _end_faults(graph: nx.MultiDiGraph[Any]) -> Iterator[SymgradError]:
    """Faults of what the graph says it is for: its loss, outputs and gradients."""
    loss, outputs, gradients = (graph.graph.get(k) for k in ("loss", "outputs", "gradients"))
    if outputs is not None and not isinstance(outputs, tuple | list):
        yield GraphError(f"outputs is a list of node names, not {outputs!r}"[:200], hint='outputs=["y"]')
        outputs = []
    if gradients is not None and not isinstance(gradients, dict):
        yield GraphError(f"gradients maps node names to node names, not {gradients!r}"[:200])
        gradients = {}
    ends = [("outputs", o) for o in outputs or ()]
    ends += [("gradients", n) for pair in (gradients or {}).items() for n in pair]
    for role, name in [*([] if loss is None else [("loss", loss)]), *ends]:
        if name not in graph:
            hint = nearest(str(name), map(str, graph))
            yield GraphError(f"{role} names {name!r}"[:200] + ", which is no node", hint=hint)


def _node_faults(graph: nx.MultiDiGraph[Any], node: Any) -> Iterator[SymgradError]:
    attrs = graph.nodes[node]
    op = attrs.get("op")
    fault = name_fault(node, derived="origin" in attrs)
    if fault:
        yield GraphError(fault, node=str(node)[:120], hint="letters, digits and _, starting with a letter")
    if op is None:
        hint = "add_node(name, op=...); networkx creates the ends of an edge without attributes"
        yield GraphError("the node is not declared: it has no op", node=str(node), hint=hint)
    elif not isinstance(op, str) or (op not in OPS and op not in ALLOWED):
        known = nearest(str(op), [*OPS, *ALLOWED])
        yield GraphError(f"unknown op {op!r}"[:200], node=str(node), hint=known or "symgrad.OPS lists the ops")
    else:
        yield from _edge_faults(graph, node, op)
        yield from _attribute_faults(str(node), op, attrs)


def _edge_faults(graph: nx.MultiDiGraph[Any], node: str, op: str) -> Iterator[SymgradError]:
    edges = operand_edges(graph, node)
    args = [arg for arg, _ in edges]
    for arg, source in edges:
        if not isinstance(arg, int) or isinstance(arg, bool) or arg < 0:
            hint = f"add_edge({source!r}, {node!r}, arg=0) for the first operand"
            yield GraphError(f"the edge from {source!r} has arg {arg!r}", node=node, op=op, hint=hint)
            return
    for arg in sorted(a for a, count in Counter(args).items() if count > 1):
        sources = ", ".join(repr(s) for a, s in edges if a == arg)
        yield GraphError(f"arg {arg} is given twice, by {sources}", node=node, op=op, hint="each arg once")
        return
    missing = sorted(set(range(len(args))) - set(args))
    if missing:
        yield GraphError(f"arg {missing[0]} is missing", node=node, op=op, hint=f"the args are {sorted(args)}")
        return
    yield from _arity_faults(node, op, len(args), graph.nodes[node])


def _arity_faults(node: str, op: str, count: int, attrs: dict[str, Any]) -> Iterator[SymgradError]:
    if op in LEAVES:
        expected: int | None = 0
    elif op == "define":
        if not isinstance(attrs.get("formula"), str) or _operand_name_fault(attrs.get("operands")):
            return
        try:
            expected = len(define_operands(attrs))
        except FormulaError as error:
            yield located(error, node, op)
            return
    else:
        names = OPS[op].operands
        expected = None if names is None else len(names)
    if expected is None and count == 0:
        yield GraphError("the op needs an operand", node=node, op=op, hint="connect one with arg=0")
    if expected is not None and count != expected:
        yield GraphError(f"expected {expected} operands, got {count}", node=node, op=op, hint=_operand_hint(op, attrs))


def _operand_name_fault(names: Any) -> str | None:
    """Why `names` cannot name the operands of a formula, or None."""
    if names is None:
        return None
    if not isinstance(names, tuple | list):
        return f"operands is a list of names, not {names!r}"[:200]
    for name in names:
        if name_fault(name):
            return f"operands: {name_fault(name)}: {name!r}"[:200]
    return "operands names an operand twice" if len(set(names)) < len(names) else None


def define_operands(attrs: dict[str, Any]) -> tuple[str, ...]:
    """The operand names of a define node: as given, or in the order in which the formula reads them."""
    names = attrs.get("operands")
    return tuple(operand_names(attrs["formula"]) if names is None else names)


def _operand_hint(op: str, attrs: dict[str, Any]) -> str | None:
    if op in LEAVES:
        return f"an op {op!r} takes none"
    names = define_operands(attrs) if op == "define" else OPS[op].operands
    return "operands: " + ", ".join(names or ())


def located(error: SymgradError, node: str, op: str) -> SymgradError:
    """The same error, naming the node."""
    return type(error)(error.summary, node=node, op=op, details=error.details, path=error.path, hint=error.hint)


def _attribute_faults(node: str, op: str, attrs: dict[str, Any]) -> Iterator[SymgradError]:
    known = ALLOWED.get(op) if op in ALLOWED else set(OPS[op].attributes)
    assert known is not None
    for name in attrs:
        if name not in known and name != "op" and name not in REMARKS:
            hint = nearest(str(name), known) or "it takes " + (", ".join(sorted(known)) or "no attributes")
            yield GraphError(f"unknown attribute {name!r}", node=node, op=op, hint=hint)
    if op in ALLOWED:
        yield from _leaf_faults(node, op, attrs)
        return
    for name, attribute in OPS[op].attributes.items():
        if name not in attrs:
            if attribute.default is REQUIRED:
                yield GraphError(f"the attribute {name!r} is missing", node=node, op=op, hint=f"it is {attribute.kind}")
        elif not fits(attrs[name], attribute):
            details = [f"expected {attribute.kind}, got {attrs[name]!r}"[:200]]
            yield GraphError(f"the attribute {name!r} has the wrong type", node=node, op=op, details=details)


def _leaf_faults(node: str, op: str, attrs: dict[str, Any]) -> Iterator[SymgradError]:
    if op in ("input", "parameter"):
        yield from _shape_faults(node, op, attrs.get("shape"))
    if op == "input" and (
        not isinstance(attrs.get("dtype", "float"), str) or attrs.get("dtype", "float") not in DTYPES
    ):
        hint = f"one of {', '.join(DTYPES)}; emit(dtype=...) sets the precision"
        hint = nearest(str(attrs["dtype"]), DTYPES) or hint
        yield DtypeError(f"unknown dtype {attrs['dtype']!r}"[:200], node=node, op=op, hint=hint)
    if op == "parameter" and attrs.get("init") is not None:
        fault = _init_fault(attrs["init"])
        if fault:
            hint = "such as 'he_normal', 'zeros', 0.5 or ['normal', 0.02]"
            yield GraphError(fault, node=node, op=op, hint=hint)
    if op == "constant":
        yield from _constant_faults(node, attrs.get("value"))
    if op == "define":
        if not isinstance(attrs.get("formula"), str):
            hint = '"Y[i] = tanh(X[i])"'
            yield GraphError("a define node needs its formula as text", node=node, op=op, hint=hint)
        fault = _operand_name_fault(attrs.get("operands"))
        if fault:
            yield GraphError(fault, node=node, op=op, hint='operands=["X", "s"], one name for each arg')


def _init_fault(init: Any) -> str | None:
    try:
        return init_fault(init)
    except (TypeError, OverflowError):
        return f"init {init!r}"[:200] + " is neither a scheme nor a number"


def _shape_faults(node: str, op: str, shape: Any) -> Iterator[SymgradError]:
    if not isinstance(shape, tuple | list):
        hint = 'shape=("N", 64); a vector is (64,), a scalar ()'
        yield GraphError(f"the shape is missing or no tuple: {shape!r}"[:200], node=node, op=op, hint=hint)
        return
    for n in shape:
        if not _int(n) and not isinstance(n, str):
            yield GraphError(f"the size {n!r}"[:200] + " is neither a whole number nor a name", node=node, op=op)
            continue
        try:
            size = parse_dimension(n)
        except FormulaError as error:
            yield located(error, node, op)
            continue
        if size.is_negative or (size.is_Integer and size > MAX_EXTENT):
            yield GraphError(f"the size {n!r} is not from 0 to {MAX_EXTENT}", node=node, op=op)
        for symbol in sorted(map(str, size.free_symbols)):
            fault = name_fault(symbol) or ("the name is kept for indices" if _KEPT.fullmatch(symbol) else None)
            fault = "the name is a number's" if symbol in CONSTANTS else fault
            if fault:
                yield GraphError(f"dimension {symbol!r}: {fault}", node=node, op=op, hint="such as N")


def _constant_faults(node: str, value: Any) -> Iterator[SymgradError]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        yield DtypeError("a constant is a number or nested lists of numbers of equal length", node=node, op="constant")
    elif not np.isfinite(array).all():
        place = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        where = f" at index {place}" if place else ""
        yield GraphError(f"the constant is not finite{where}", node=node, op="constant", hint="use a finite number")
    elif array.dtype.kind == "u" and (array > MAX_EXTENT).any():
        yield DtypeError("the constant does not fit int64", node=node, op="constant", hint="write it as 1e19")


def _ints(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(_int(v) for v in value)


def _int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _float(value: Any) -> bool:
    whole = _int(value) and abs(value) <= MAX_EXTENT
    return whole or (isinstance(value, float) and math.isfinite(value))


def _index_entry(value: Any) -> bool:
    if _int(value):
        return True
    return isinstance(value, tuple | list) and len(value) == 3 and all(v is None or _int(v) for v in value)


def fits(value: Any, attribute: Attribute) -> bool:
    """Whether `value` is of the attribute's kind."""
    kind = attribute.kind
    if kind.startswith("optional "):
        return value is None or fits(value, Attribute(kind.removeprefix("optional ")))
    if "|" in kind:
        return isinstance(value, str) and value in kind.split("|")
    tests: dict[str, Callable[[Any], bool]] = {
        "int": _int,
        "float": _float,
        "bool": lambda v: isinstance(v, bool),
        "text": lambda v: isinstance(v, str),
        "size": lambda v: _int(v) and v >= 0,
        "extent": lambda v: isinstance(v, str) or (_int(v) and v >= 0),
        "rate": lambda v: _float(v) and 0 <= v < 1,
        "ints": _ints,
        "ints or int": lambda v: _int(v) or _ints(v),
        "axes": lambda v: v is None or _int(v) or _ints(v),
        "shape": lambda v: isinstance(v, tuple | list) and all(_int(n) or isinstance(n, str) for n in v),
        "index": lambda v: isinstance(v, tuple | list) and all(map(_index_entry, v)),
        "widths": lambda v: _int(v) or (isinstance(v, tuple | list) and all(map(_ints, v))),
    }
    return tests[kind](value)
