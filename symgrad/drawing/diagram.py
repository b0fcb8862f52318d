"""What a picture of a network shows, before anything has a place: a Diagram of boxes, and of links between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """One node of the network, with the helper nodes that are drawn inside it.

    Attributes:
        name: of the node; kind: input, parameter, constant, op or loss.
        lines: the text in it, the first one its title.
        shape: of the tensor, as text, shown where its edges begin.
        members: the nodes drawn inside, itself last.
        link: where a click leads, or "".
    """

    name: str
    kind: str
    lines: tuple[str, ...]
    shape: str
    members: tuple[str, ...] = ()
    link: str = ""


@dataclass(frozen=True)
class Link:
    """An operand edge; `backward` if a gradient flows back along it."""

    source: str
    target: str
    backward: bool = False


@dataclass(frozen=True)
class Diagram:
    """Boxes, operands first, and their links."""

    title: str
    boxes: Sequence[Box]
    links: Sequence[Link]
