"""A network's graph as a diagram, and the graph that shows it in notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from symgrad.drawing.diagram import Box, Diagram, Link
from symgrad.drawing.svg import svg
from symgrad.equations import Shape, System, shape_attribute
from symgrad.errors import SymgradError
from symgrad.expand import expand
from symgrad.graph import LEAVES, operands, topological
from symgrad.markup import html

SHOWN_OPS = 4  # so many ops of one box are named


class Graph(nx.MultiDiGraph):  # type: ignore[misc]
    """A `networkx.MultiDiGraph` that a notebook shows as a picture; in all else the plain graph."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        plain = {"text/plain": str(self)}
        try:
            system = expand(self)
        except SymgradError:  # not a network yet: there is nothing to draw
            return plain
        return plain | {"text/html": html(svg(network_diagram(self, system)))}


def network_diagram(
    graph: nx.MultiDiGraph[Any],
    system: System,
    *,
    inside: Mapping[str, str] | None = None,
    differentiated: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
) -> Diagram:
    """The diagram of a checked network.

    Args:
        system: its equations, for the shapes.
        inside: helper node -> the node in whose box it is drawn.
        differentiated: the nodes with an adjoint; gradients flow along the edges between them.
        links: node -> where a click on it leads.
    """
    inside, links, back = inside or {}, links or {}, set(differentiated)
    order = topological(graph)
    home = {name: _home(name, inside) for name in order}
    members: dict[str, list[str]] = {}
    for name in order:
        members.setdefault(home[name], []).append(name)
    boxes = [_box(graph, system, name, members[name], links) for name in order if home[name] == name]
    edges: dict[tuple[str, str], bool] = {}
    for v in order:
        for u in operands(graph, v):
            ends = home[u], home[v]
            if ends[0] != ends[1]:
                edges[ends] = edges.get(ends, False) or (u in back and v in back)
    return Diagram("The network as a graph", boxes, [Link(u, v, backward) for (u, v), backward in edges.items()])


def _home(name: str, inside: Mapping[str, str]) -> str:
    while name in inside:
        name = inside[name]
    return name


def _box(
    graph: nx.MultiDiGraph[Any], system: System, name: str, members: Sequence[str], links: Mapping[str, str]
) -> Box:
    op = str(graph.nodes[name]["op"])
    kind = op if op in LEAVES else "loss" if name == graph.graph.get("loss") else "op"
    ops = [str(graph.nodes[m]["op"]) for m in members]
    lines = (name,) if kind == "parameter" else (name, *_listed(ops))
    return Box(name, kind, lines, shape_text(system.shape(name)), tuple(members), links.get(name, ""))


def _listed(ops: Sequence[str]) -> list[str]:
    """The ops of a box, in the order in which they are applied, two on a line."""
    shown = list(ops) if len(ops) <= SHOWN_OPS else [*ops[: SHOWN_OPS - 1], "…", ops[-1]]
    return [" · ".join(shown[k : k + 2]) for k in range(0, len(shown), 2)]


def shape_text(shape: Shape) -> str:
    """(N, 64), or `scalar`."""
    sizes = [str(n) for n in shape_attribute(shape)]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})" if sizes else "scalar"
