"""A diagram as SVG: boxes in layers, operands above, gradients on dashed edges beside the operands' own.

All looks come from the page's style sheet, by class; without one the picture is plain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element

from symgrad.drawing.diagram import Box, Diagram, Link
from symgrad.drawing.layout import Sides, layered
from symgrad.markup import element

LETTER, LINE, SMALL = 7.3, 16.0, 6.4  # the width of a letter, the height of a line, a letter of a shape
PADDING, LAYER_GAP, MARGIN = 12.0, 48.0, 14.0
BESIDE = 4.0  # how far the two directions of an edge stand from its middle
PORT = 20.0  # the distance of two edges at the side of a box, where there is room
_RADIUS = {"input": 14.0, "constant": 14.0, "parameter": 2.0}

Place = tuple[float, float]


def svg(diagram: Diagram) -> Element:
    """The picture, in its own size; it does not shrink to fit a page."""
    picture = _Picture(diagram)
    width, height = (f"{size + 2 * MARGIN:.0f}" for size in picture.size)
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "network",
        "viewBox": f"{-MARGIN:.0f} {-MARGIN:.0f} {width} {height}",
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": diagram.title,
        "font-size": "12",
        "font-family": "ui-monospace, monospace",
    }
    edges = [part for link in diagram.links for part in picture.edge(link)]
    labels = [picture.shape(box) for box in diagram.boxes if box.name in picture.users]
    boxes = [picture.box(box) for box in diagram.boxes]
    return element("svg", attributes, element("title", {}, diagram.title), _heads(), *edges, *labels, *boxes)


def _width(box: Box) -> float:
    return max([len(line) for line in box.lines] + [3]) * LETTER + 2 * PADDING


def _height(box: Box) -> float:
    return len(box.lines) * LINE + PADDING


def _sides(box: Box) -> Sides:
    """How much room a box takes, with the shape that stands to the right below it."""
    half = _width(box) / 2
    return half, max(half, 2 * BESIDE + 6 + len(box.shape) * SMALL)


def _heads() -> Element:
    """Arrow heads, one for each direction."""
    tip = {"viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "7", "markerHeight": "7", "orient": "auto"}
    names = ("forward-head", "backward-head")
    paths = [element("path", {"d": "M0 0L8 4L0 8z", "class": name}) for name in names]
    heads = [element("marker", tip | {"id": name}, path) for name, path in zip(names, paths, strict=True)]
    return element("defs", {}, *heads)


class _Picture:
    """A diagram with places.

    Attributes:
        size: width and height.
        users: box -> the boxes that read it; operands: the other way.
    """

    def __init__(self, diagram: Diagram) -> None:
        self.boxes = {box.name: box for box in diagram.boxes}
        edges = [(link.source, link.target) for link in diagram.links]
        self.layout = layered({box.name: _sides(box) for box in diagram.boxes}, edges)
        self.bottoms, self.depths = self._levels()
        self.users, self.operands = _grouped(edges), _grouped([(v, u) for u, v in edges])
        self.size = self.layout.width, self.bottoms[-1] if self.bottoms else 0.0

    def _levels(self) -> tuple[list[float], list[float]]:
        """The lower side of every layer, on which its boxes stand, and its height."""
        depths = [0.0] * (max(self.layout.layer.values(), default=-1) + 1)
        for name, k in self.layout.layer.items():
            depths[k] = max(depths[k], _height(self.boxes[name]))
        bottoms: list[float] = []
        for depth in depths:
            bottoms.append((bottoms[-1] + LAYER_GAP if bottoms else 0.0) + depth)
        return bottoms, depths

    def _bottom(self, name: str) -> float:
        return self.bottoms[self.layout.layer[name]]

    def _port(self, name: str, other: str, others: Sequence[str], place: Callable[[str], float]) -> float:
        """Where on a side of a box its edge to `other` is, so that edges neither cross nor meet there."""
        order = sorted(others, key=lambda o: (place(o), o))
        distance = min(PORT, (_width(self.boxes[name]) - 2 * PADDING) / len(order))
        return self.layout.x[name] + (order.index(other) - (len(order) - 1) / 2) * distance

    def _ends(self, u: str, v: str) -> tuple[float, float]:
        """x where an edge leaves, and where it arrives."""
        bends, x = self.layout.bends, self.layout.x
        leaves = self._port(u, v, self.users[u], lambda o: bends[u, o][0][1] if bends[u, o] else x[o])
        arrives = self._port(v, u, self.operands[v], lambda o: bends[o, v][-1][1] if bends[o, v] else x[o])
        return leaves, arrives

    def edge(self, link: Link) -> list[Element]:
        """The edge, and beside it the gradient's."""
        u, v = link.source, link.target
        leaves, arrives = self._ends(u, v)
        places = [(leaves, self._bottom(u))]
        for k, x in self.layout.bends[u, v]:
            places += [(x, self.bottoms[k] - self.depths[k]), (x, self.bottoms[k])]
        places.append((arrives, self._bottom(v) - _height(self.boxes[v])))
        side = BESIDE if link.backward else 0.0
        drawn = [_path("forward", [(x - side, y) for x, y in places], f"{u} to {v}", u, v)]
        if link.backward:
            back = [(x + side, y) for x, y in reversed(places)]
            drawn.append(_path("backward", back, f"gradient from {v} to {u}, shape {self.boxes[u].shape}", u, v))
        return drawn

    def shape(self, box: Box) -> Element:
        """The tensor's shape, where its edges begin."""
        rightmost = max(self._ends(box.name, user)[0] for user in self.users[box.name])
        place = {"x": f"{rightmost + BESIDE + 6:.1f}", "y": f"{self._bottom(box.name) + 13:.1f}"}
        return element("text", {"class": "shape", "font-size": "10.5"} | place, box.shape)

    def box(self, box: Box) -> Element:
        """Frame and text."""
        middle, top = self.layout.x[box.name], self._bottom(box.name) - _height(box)
        width = _width(box)
        frame = {"x": f"{middle - width / 2:.1f}", "y": f"{top:.1f}", "width": f"{width:.1f}"}
        frame |= {"height": f"{_height(box):.1f}", "rx": f"{_RADIUS.get(box.kind, 6.0):.0f}"}
        frame |= {"fill": "none", "stroke": "currentColor"}
        title = element("title", {}, f"{box.kind} {', '.join(box.members) or box.name}, shape {box.shape}")
        attributes = {"class": f"node {box.kind}", "id": f"n-{box.name}", "data-of": " ".join(box.members)}
        group = element("g", attributes, title, element("rect", frame))
        for k, line in enumerate(box.lines):
            place = {"x": f"{middle:.1f}", "y": f"{top + PADDING / 2 + LINE * (k + 0.72):.1f}"}
            look = {"text-anchor": "middle", "fill": "currentColor", "class": "name" if k == 0 else "ops"}
            group.append(element("text", place | look, line))
        return element("a", {"href": box.link}, group) if box.link else group


def _grouped(pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found


def _path(kind: str, places: Sequence[Place], title: str, u: str, v: str) -> Element:
    """A line through the places that leaves and arrives upright."""
    d = f"M{_xy(places[0])}"
    for (x0, y0), (x1, y1) in pairwise(places):
        middle = (y0 + y1) / 2
        d += f"L{_xy((x1, y1))}" if x0 == x1 else f"C{_xy((x0, middle))} {_xy((x1, middle))} {_xy((x1, y1))}"
    attributes = {"class": f"edge {kind}", "d": d, "fill": "none", "stroke": "currentColor"}
    attributes |= {"marker-end": f"url(#{kind}-head)", "data-from": u, "data-to": v}
    if kind == "backward":
        attributes["stroke-dasharray"] = "4 3"
    return element("path", attributes, element("title", {}, title))


def _xy(place: Place) -> str:
    return f"{place[0]:.1f},{place[1]:.1f}"
