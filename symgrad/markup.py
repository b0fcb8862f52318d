"""Markup as a tree of elements, so that no text reaches a page unescaped."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, tostring

_NO_ATTRIBUTES: Mapping[str, str] = {}


def element(tag: str, attributes: Mapping[str, str] = _NO_ATTRIBUTES, *content: Element | str) -> Element:
    """An element with what stands in it, in order; text is text, whatever characters it has."""
    made = Element(tag, dict(attributes))
    last: Element | None = None
    for part in content:
        if isinstance(part, Element):
            made.append(part)
            last = part
        elif last is None:
            made.text = (made.text or "") + part
        else:
            last.tail = (last.tail or "") + part
    return made


def html(root: Element) -> str:
    """The element as HTML, with MathML and SVG in it. The text of `style` and `script` stands as it is."""
    return tostring(root, encoding="unicode", method="html")


def xml(root: Element) -> str:
    """The element as XML."""
    return tostring(root, encoding="unicode")
