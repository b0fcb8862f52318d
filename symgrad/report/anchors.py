"""The names of places in the page, and the keys by which code, formulas and nodes find each other."""

from __future__ import annotations

from collections.abc import Iterable


def formula_anchor(name: str) -> str:
    return f"f-{name}"


def node_anchor(name: str) -> str:
    return f"n-{name}"  # as the drawing names its boxes


def line_anchor(number: int) -> str:
    return f"L{number}"


def keys(formulas: Iterable[str], nodes: Iterable[str | None]) -> dict[str, str]:
    """Attributes that say which formulas and nodes an element belongs to."""
    found = {"data-f": " ".join(dict.fromkeys(formulas)), "data-n": " ".join(dict.fromkeys(n for n in nodes if n))}
    return {key: value for key, value in found.items() if value}
