"""The passes that make emitted code fast, by name: each can be left out, so that its effect can be measured."""

from __future__ import annotations

from collections.abc import Iterable

from symgrad.errors import EmitError, nearest

PASSES: dict[str, str] = {}  # name -> what it does, in the order in which they run


def left_out(without: Iterable[str]) -> frozenset[str]:
    """The names `without` as a set. Raises EmitError for one that is no pass."""
    names = frozenset([without] if isinstance(without, str) else without)
    for name in sorted(names, key=str):
        if name not in PASSES:
            raise EmitError(f"unknown pass {name!r}", hint=nearest(str(name), PASSES) or "one of " + ", ".join(PASSES))
    return names
