"""A layered layout of a directed acyclic graph, after Sugiyama, Tagawa and Toda (1981).

    layers       longest paths; a source stands just above its first user
    order        barycentres, up and down, keeping the order with the fewest crossings
    coordinates  each layer as near to its neighbours as its order and the gaps allow: isotonic regression

Long edges bend at a point in every layer that they pass. All of it is deterministic.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[str, str]
Point = tuple[str, str, int] | str  # a node, or (source, target, layer) of an edge on its way
Sides = tuple[float, float]  # how far something reaches to the left and to the right of its middle

SWEEPS = 12
BEND: Sides = (10.0, 10.0)  # what an edge on its way takes of a layer
LEAF_PULL, BEND_PULL = 0.1, 4.0  # beside 1: leaves follow their users, long edges stay straight


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Attributes:
        layer: node -> its layer, from 0 at the top.
        x: node -> the middle of it, the least side at 0.
        bends: edge -> (layer, x) of the points between its ends.
        width: of the whole.
    """

    layer: Mapping[str, int]
    x: Mapping[str, float]
    bends: Mapping[Edge, Sequence[tuple[int, float]]]
    width: float


def layered(sides: Mapping[str, Sides], edges: Sequence[Edge], gap: float = 20.0) -> Layout:
    """The layout of nodes with these sides, given operands first; each edge leads to a later node."""
    layer = _layers(list(sides), edges)
    rows, below = _proper(layer, edges)
    rows = _ordered(rows, below)
    x = _Coordinates(rows, below, sides, gap).found()
    right = max((x[name] + reach for name, (_, reach) in sides.items()), default=0.0)
    bends = {(u, v): [(k, x[u, v, k]) for k in range(layer[u] + 1, layer[v])] for u, v in edges}
    return Layout(layer, {name: x[name] for name in sides}, bends, right)


def _layers(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    operands: dict[str, list[str]] = {name: [] for name in names}
    users: dict[str, list[str]] = {name: [] for name in names}
    for u, v in edges:
        operands[v].append(u)
        users[u].append(v)
    layer: dict[str, int] = {}
    for name in names:
        layer[name] = 1 + max((layer[u] for u in operands[name]), default=-1)
    for name in names:
        if not operands[name] and users[name]:
            layer[name] = min(layer[v] for v in users[name]) - 1
    top = min(layer.values(), default=0)
    return {name: k - top for name, k in layer.items()}


def _proper(layer: Mapping[str, int], edges: Sequence[Edge]) -> tuple[list[list[Point]], dict[Point, list[Point]]]:
    """The layers with the points of long edges in them, and what stands below each point."""
    rows: list[list[Point]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    below: dict[Point, list[Point]] = {}
    for name, k in layer.items():
        rows[k].append(name)
        below[name] = []
    for u, v in dict.fromkeys(edges):
        here: Point = u
        for k in range(layer[u] + 1, layer[v]):
            bend = (u, v, k)
            rows[k].append(bend)
            below[here].append(bend)
            below[bend] = []
            here = bend
        below[here].append(v)
    return rows, below


def _above(below: Mapping[Point, Sequence[Point]]) -> dict[Point, list[Point]]:
    above: dict[Point, list[Point]] = {point: [] for point in below}
    for point, others in below.items():
        for other in others:
            above[other].append(point)
    return above


# order


def _ordered(rows: list[list[Point]], below: Mapping[Point, Sequence[Point]]) -> list[list[Point]]:
    above = _above(below)
    best, fewest = rows, _crossings(rows, below)
    for sweep in range(SWEEPS):
        rows = _swept(rows, above) if sweep % 2 == 0 else _swept(rows[::-1], below)[::-1]
        found = _crossings(rows, below)
        if found < fewest:
            best, fewest = rows, found
    return best


def _swept(rows: Sequence[Sequence[Point]], fixed: Mapping[Point, Sequence[Point]]) -> list[list[Point]]:
    """Each layer sorted by the mean places of its neighbours in the layer before it."""
    done: list[list[Point]] = [list(rows[0])] if rows else []
    for row in rows[1:]:
        place = {point: k for k, point in enumerate(done[-1])}
        means = {}
        for k, point in enumerate(row):
            near = [place[other] for other in fixed[point] if other in place]
            means[point] = sum(near) / len(near) if near else k * max(len(place), 1) / len(row)
        done.append(sorted(row, key=means.__getitem__))
    return done


def _crossings(rows: Sequence[Sequence[Point]], below: Mapping[Point, Sequence[Point]]) -> int:
    count = 0
    for row, following in pairwise(rows):
        place = {point: k for k, point in enumerate(following)}
        seen: list[int] = []
        for point in row:
            ends = sorted(place[other] for other in below[point])
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


# coordinates


class _Coordinates:
    """Moves the points of ordered layers towards their neighbours."""

    def __init__(
        self,
        rows: Sequence[Sequence[Point]],
        below: Mapping[Point, Sequence[Point]],
        sides: Mapping[str, Sides],
        gap: float,
    ) -> None:
        self.rows, self.below, self.above, self.gap = rows, below, _above(below), gap
        self.sides: dict[Point, Sides] = {p: sides[p] if isinstance(p, str) else BEND for p in below}
        self.x: dict[Point, float] = {}

    def found(self) -> dict[Point, float]:
        """point -> x, the least side at 0."""
        for row in self.rows:
            self.x.update(self._placed(row, [0.0] * len(row)))
        for sweep in range(SWEEPS):
            for row in self.rows if sweep % 2 == 0 else self.rows[::-1]:
                self._move(row, [self.above, self.below][sweep % 2 : sweep % 2 + 1])
        for _ in range(SWEEPS):
            straight = self._straightened()
            for row in self.rows:
                near = [self._wanted(p, [*self.above[p], *self.below[p]]) for p in row]
                self.x.update(self._placed(row, [straight.get(p, x) for p, x in zip(row, near, strict=True)]))
        left = min((self.x[p] - self.sides[p][0] for row in self.rows for p in row), default=0.0)
        return {point: value - left for point, value in self.x.items()}

    def _move(self, row: Sequence[Point], near: Sequence[Mapping[Point, Sequence[Point]]]) -> None:
        self.x.update(self._placed(row, [self._wanted(p, [o for others in near for o in others[p]]) for p in row]))

    def _straightened(self) -> dict[Point, float]:
        """Every point of a long edge at the mean of them all."""
        edges: dict[Edge, list[Point]] = {}
        for point in self.x:
            if not isinstance(point, str):
                edges.setdefault(point[:2], []).append(point)
        return {p: sum(self.x[q] for q in points) / len(points) for points in edges.values() for p in points}

    def _pull(self, point: Point) -> float:
        return BEND_PULL if not isinstance(point, str) else 1.0 if self.above[point] else LEAF_PULL

    def _wanted(self, point: Point, near: Sequence[Point]) -> float:
        """The mean of the neighbours; a long edge stays straight above all."""
        chain = [p for p in near if not isinstance(p, str)] if not isinstance(point, str) else []
        pulls = [(self.x[p], self._pull(p) if isinstance(p, str) else 1.0) for p in chain or near]
        return sum(x * pull for x, pull in pulls) / sum(pull for _, pull in pulls) if pulls else self.x[point]

    def _placed(self, row: Sequence[Point], wanted: Sequence[float]) -> dict[Point, float]:
        """The places nearest to the wanted ones, in order and apart: least squares by pooling adjacent violators."""
        offsets, edge = [], 0.0
        for point in row:
            left, right = self.sides[point]
            offsets.append(edge + left)
            edge += left + right + self.gap
        blocks: list[tuple[float, float, int]] = []  # the mean of wanted - offset, its weight, and over how many
        for point, want, offset in zip(row, wanted, offsets, strict=True):
            mean, weight, count = want - offset, self._pull(point), 1
            while blocks and blocks[-1][0] > mean:
                other, heavy, n = blocks.pop()
                mean, weight, count = (other * heavy + mean * weight) / (heavy + weight), heavy + weight, n + count
            blocks.append((mean, weight, count))
        starts = [mean for mean, _, count in blocks for _ in range(count)]
        return {point: start + offset for point, start, offset in zip(row, starts, offsets, strict=True)}
