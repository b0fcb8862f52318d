"""The network as a `networkx.MultiDiGraph`: its schema and the few questions asked of it.

Nodes are named tensors, an edge u -> v with attribute `arg` = k says that u is operand k of v.

    node attribute   of                       meaning
    op               every node               input | parameter | constant | define | a registered op
    shape            input, parameter         tuple of integers and dimension names
    dtype            input                    "float" (default), "int64", "bool"
    init             parameter                how it is initialised; by default from its use
    value            constant                 number or nested list of numbers
    formula          define                   formula text;  operands: names for arg 0, 1, ... in it
    (others)         registered ops           the op's attributes

    graph attribute  symgrad = 1 (format), loss = node name, outputs = node names
"""

from __future__ import annotations

from typing import Any

import networkx as nx

FORMAT = 1
LEAVES = ("input", "parameter", "constant")
DTYPES = ("float", "int64", "bool")


def operand_edges(graph: nx.MultiDiGraph, node: str) -> list[tuple[Any, Any]]:
    """(arg, source) of every edge into `node`, as they stand."""
    return [(data.get("arg"), source) for source, _, data in graph.in_edges(node, data=True)]


def operands(graph: nx.MultiDiGraph, node: str) -> list[str]:
    """The operands of a checked node, by position."""
    return [source for _, source in sorted(operand_edges(graph, node), key=lambda edge: edge[0])]


def topological(graph: nx.MultiDiGraph) -> list[str]:
    """The nodes, operands first; ties in the order of insertion, so the result is deterministic."""
    place = {node: k for k, node in enumerate(graph)}
    return list(nx.lexicographical_topological_sort(graph, key=place.__getitem__))


def path_to_loss(graph: nx.MultiDiGraph, node: str) -> list[str]:
    """Node names from the loss down to `node`, or just [node]."""
    loss = graph.graph.get("loss")
    if loss not in graph or not nx.has_path(graph, node, loss):
        return [node]
    return list(reversed(nx.shortest_path(graph, node, loss)))
