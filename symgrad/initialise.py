"""How parameters start: the schemes, and the one that a parameter's use in the network calls for."""

from __future__ import annotations

import math
from typing import Any

SCHEMES = {  # name -> number of arguments that a graph may give
    "zeros": 0,
    "ones": 0,
    "constant": 1,
    "normal": 1,
    "uniform": 2,
    "glorot_uniform": 0,
    "glorot_normal": 0,
    "he_uniform": 0,
    "he_normal": 0,
    "lecun_normal": 0,
}
SCALED = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal")


def normalised(init: Any) -> tuple[Any, ...]:
    """An init attribute as (scheme, arguments...)."""
    if isinstance(init, str):
        return (init,)
    if isinstance(init, int | float) and not isinstance(init, bool):
        return ("constant", float(init))
    return tuple(init)


def init_fault(init: Any) -> str | None:
    """Why `init` is no initialisation, or None."""
    if not isinstance(init, str | int | float | tuple | list) or isinstance(init, bool) or init in ((), []):
        return f"init {init!r} is neither a scheme nor a number"
    scheme, *arguments = normalised(init)
    if scheme not in SCHEMES:
        return f"unknown init {scheme!r}: one of {', '.join(SCHEMES)}"
    numbers = all(isinstance(a, int | float) and not isinstance(a, bool) and math.isfinite(a) for a in arguments)
    if len(arguments) != SCHEMES[scheme] or not numbers:
        return f"init {scheme!r} takes {SCHEMES[scheme]} finite numbers, got {arguments!r}"
    return None
