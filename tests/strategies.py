"""Hypothesis strategies: random networks that end in a scalar, with data for their leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from symgrad.expand import expand

SHAPES = ((2, 3), (3, 2), (3,), (2, 1), (3, 3), (1,), ())
SMOOTH = ("tanh", "sigmoid", "softplus", "sin", "silu", "gelu", "negative", "square")
KINKED = ("relu", "abs", "leaky_relu", "elu", "sign")
BINARY = ("add", "subtract", "multiply")
REDUCING = ("sum", "mean", "logsumexp", "prod", "var")
ROWWISE = ("softmax", "log_softmax")
MASKS = ("relu", "abs", "leaky_relu", "sign")
COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "not_equal")

Source: TypeAlias = "str | float | Step"  # a node, a number, or a step that comes first
Step: TypeAlias = tuple[str, Sequence[Source], dict[str, Any]]  # op, operands, attributes


@dataclass(frozen=True)
class Network:
    """A network with the scalar "loss", and values for its inputs and parameters."""

    graph: nx.MultiDiGraph
    values: dict[str, np.ndarray]

    @property
    def parameters(self) -> list[str]:
        """The parameters that the loss depends on."""
        reached = expand(self.graph).needed_for(["loss"])
        return [n for n, op in self.graph.nodes(data="op") if op == "parameter" and n in reached]

    def __repr__(self) -> str:
        lines = [f"{n} = {dict(data)} of {_sources(self.graph, n)}" for n, data in self.graph.nodes(data=True)]
        data = [f"{name} is {value.tolist()}" for name, value in self.values.items()]
        return "\n".join(["Network", *lines, *data])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What Hypothesis prints of an example that fails."""
        printer.text(repr(self))


def _sources(graph: nx.MultiDiGraph, node: str) -> list[str]:
    edges = sorted(graph.in_edges(node, data="arg"), key=lambda edge: edge[2])
    return [source for source, _, _ in edges]


class _Sketch:
    """A network that is being drawn, with the shape of every node so far."""

    def __init__(self) -> None:
        self.graph = nx.MultiDiGraph(loss="loss")
        self.shapes: dict[str, tuple[int, ...]] = {}

    def leaf(self, name: str, op: str, shape: tuple[int, ...]) -> None:
        self.graph.add_node(name, op=op, shape=shape)
        self.shapes[name] = shape

    def node(self, name: str, op: str, sources: Sequence[Source], **attrs: Any) -> None:
        names = [self._source(source, f"{name}_{arg}") for arg, source in enumerate(sources)]
        self.graph.add_node(name, op=op, **attrs)
        for arg, source in enumerate(names):
            self.graph.add_edge(source, name, arg=arg)
        self.graph.graph["loss"] = None
        self.shapes[name] = tuple(int(n) for n in expand(self.graph).shape(name))
        self.graph.graph["loss"] = "loss"

    def _source(self, source: Source, name: str) -> str:
        if isinstance(source, str):
            return source
        if isinstance(source, float):
            self.graph.add_node(name, op="constant", value=source)
        else:
            op, sources, attrs = source
            self.node(name, op, sources, **attrs)
            if op in COMPARISONS:
                del self.shapes[name]  # booleans go nowhere else
        return name

    def of_rank(self, *ranks: int) -> list[str]:
        return [name for name, shape in self.shapes.items() if len(shape) in ranks]

    def pairs(self, fits: Any) -> list[tuple[str, str]]:
        return [(a, b) for a, s in self.shapes.items() for b, t in self.shapes.items() if fits(s, t)]


def _broadcast(s: tuple[int, ...], t: tuple[int, ...]) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(reversed(s), reversed(t), strict=False))


def _multiply(s: tuple[int, ...], t: tuple[int, ...]) -> bool:
    return len(s) == 2 and len(t) in (1, 2) and s[1] == t[0]


def _masked(sketch: _Sketch, draw: st.DrawFn, some: str) -> list[Step]:
    """Minus signs before masks, and choices."""
    a, b = draw(st.sampled_from(sketch.pairs(_broadcast)))
    number, value = draw(st.sampled_from([0.0, 0.3])), draw(st.sampled_from([0.0, 1.0]))
    first, second = ((draw(st.sampled_from(MASKS)), [n], {}) for n in (a, b))
    test = (draw(st.sampled_from(COMPARISONS)), [a, draw(st.sampled_from([b, number]))], {})
    return [
        ("negative", [(draw(st.sampled_from(MASKS)), [some], {})], {}),
        ("subtract", [first, draw(st.sampled_from([b, second]))], {}),
        ("subtract", [draw(st.sampled_from([a, 1.0])), second], {}),
        ("where", [test, *draw(st.permutations([a, draw(st.sampled_from([b, value]))]))], {}),
    ]


def _choices(sketch: _Sketch, draw: st.DrawFn, kinks: bool) -> list[Step]:
    """One way to go on for each kind of op that fits."""
    some = draw(st.sampled_from(list(sketch.shapes)))
    shape = sketch.shapes[some]
    axes = st.integers(0, len(shape) - 1) if shape else st.none()
    found: list[Step] = [
        (draw(st.sampled_from(SMOOTH + KINKED * kinks)), [some], {}),
        (
            draw(st.sampled_from((*BINARY, "maximum") if kinks else BINARY)),
            list(draw(st.sampled_from(sketch.pairs(_broadcast)))),
            {},
        ),
    ]
    products = sketch.pairs(_multiply)
    if products:
        found.append(("matmul", list(draw(st.sampled_from(products))), {}))
    if shape:
        reducing = draw(st.sampled_from((*REDUCING, "max", "min") if kinks else REDUCING))
        found += [
            (reducing, [some], {"axis": draw(axes), "keepdims": draw(st.booleans())}),
            (draw(st.sampled_from(ROWWISE)), [some], {"axis": draw(axes)}),
            ("pad", [some], {"widths": 1}),
            ("slice", [some], {"index": [[None, None, draw(st.sampled_from([1, 2, -1]))]]}),
            ("concatenate", [some, some], {"axis": draw(axes)}),
            ("transpose", [some], {}),
            ("reshape", [some], {"shape": (-1,)}),
        ]
    found.append(("expand_dims", [some], {"axis": 0}))
    return found + (_masked(sketch, draw, some) if kinks else [])


@st.composite
def networks(draw: st.DrawFn, most: int = 7, kinks: bool = True) -> Network:
    """Random networks of up to `most` ops on two parameters and an input, all results added up or squared."""
    sketch = _Sketch()
    for name, op in (("p", "parameter"), ("q", "parameter"), ("x", "input")):
        sketch.leaf(name, op, draw(st.sampled_from(SHAPES)))
    for k in range(draw(st.integers(1, most))):
        sketch.shapes = {n: s for n, s in sketch.shapes.items() if np.prod(s) <= 40 and len(s) <= 3}
        op, sources, attrs = draw(st.sampled_from(_choices(sketch, draw, kinks)))
        sketch.node(f"n{k}", op, sources, **attrs)
    ends = [n for n in sketch.graph if not sketch.graph.out_degree(n) and n != "x"]
    plain, total = draw(st.booleans()), ""
    for k, end in enumerate(ends):
        name = "loss" if plain and end == ends[-1] else f"t{k}"
        if k:
            sketch.node(f"s{k}", "sum", [end])
            sketch.node(name, draw(st.sampled_from(["add", "subtract"])), [total, f"s{k}"])
        else:
            sketch.node(name, "sum", [end])
        total = name
    if not plain:
        sketch.node("loss", "multiply", [total, draw(st.sampled_from([total, "t0"]))])
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    leaves = ("p", "q", "x")
    values = {n: random.normal(size=sketch.graph.nodes[n]["shape"]) for n in leaves}
    return Network(sketch.graph, {n: np.asarray(v) for n, v in values.items()})
