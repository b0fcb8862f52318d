"""What is said of a variable before it is used: "x: vector(n)".

    declaration = NAME ":" kind [ "(" size, ... ")" ]
    kind        = scalar | vector | matrix | symmetric | spd | tensor
    size        = a whole number or a name

A square kind may give its size once. Without sizes, only the number of axes is said; a tensor gives its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from sympy import Expr

from symgrad.errors import FormulaError, nearest
from symgrad.expression.sizes import Shape
from symgrad.expression.source import caret
from symgrad.index.functions import CONSTANTS
from symgrad.index.parser import parse_dimension
from symgrad.names import name_fault

RANKS = {"scalar": 0, "vector": 1, "matrix": 2, "symmetric": 2, "spd": 2}
PROPERTIES = {
    "symmetric": frozenset({"symmetric"}),
    "spd": frozenset({"symmetric", "positive definite"}),
}
_KIND = re.compile(r"\s*([A-Za-z]+)\s*(?:\(([^()]*)\))?\s*")
_EXAMPLES = "x: vector(n), A: matrix(m, n), S: spd(n), c: scalar"


@dataclass(frozen=True)
class Declaration:
    """`shape` is None where only the rank is said."""

    name: str
    rank: int
    shape: Shape | None = None
    properties: frozenset[str] = frozenset()


def read_declaration(text: str) -> Declaration:
    """The declaration "name: kind(sizes)".

    Raises FormulaError where the text has another form.
    """
    name, colon, kind = text.partition(":")
    if not colon:
        raise FormulaError(f"{text[:100]!r} declares nothing", hint=_EXAMPLES)
    return declared(name.strip(), kind)


def read_declarations(given: Mapping[str, str | Declaration]) -> dict[str, Declaration]:
    """The declarations of several variables, by name. Raises FormulaError."""
    if not isinstance(given, Mapping):
        raise FormulaError(f"declarations are a dict, not {type(given).__name__}", hint='declare={"x": "vector(n)"}')
    return {name: d if isinstance(d, Declaration) else declared(name, d) for name, d in given.items()}


def declared(name: str, text: str) -> Declaration:
    """The declaration of `name` as "vector(n)". Raises FormulaError."""
    fault = name_fault(name)
    if fault:
        raise FormulaError(f"{str(name)[:100]!r}: {fault}", hint="such as x, W or lam")
    if not isinstance(text, str):
        raise FormulaError(f"{name}: a declaration is text, not {type(text).__name__}", hint=_EXAMPLES)
    match = _KIND.fullmatch(text)
    if match is None:
        _refuse(name, text, 0, "a declaration is a kind with its sizes")
    kind, listed = match.groups()
    if kind not in RANKS and kind != "tensor":
        _refuse(name, text, match.start(1), f"there is no kind {kind[:100]!r}", nearest(kind, [*RANKS, "tensor"]))
    sizes = [s.strip() for s in listed.split(",") if s.strip()] if listed else []
    shape = tuple(_size(name, text, s) for s in sizes)
    if kind in PROPERTIES and len(shape) == 1:
        shape *= 2
    rank = RANKS.get(kind, len(shape))
    if len(shape) not in ((rank,) if kind in ("scalar", "tensor") else (0, rank)) or (kind == "tensor" and not shape):
        _refuse(name, text, match.start(1), f"a {kind} has {rank or 'its'} sizes, got {len(shape)}")
    if kind in PROPERTIES and shape and shape[0] != shape[1]:
        _refuse(name, text, match.start(2), f"a {kind} matrix is square")
    return Declaration(name, rank, shape if shape or rank == 0 else None, PROPERTIES.get(kind, frozenset()))


def _size(name: str, text: str, size: str) -> Expr:
    column = text.index(size)
    if not size.isdigit() and (name_fault(size) or size in CONSTANTS):
        _refuse(name, text, column, f"{size[:100]!r} is neither a whole number nor a name")
    found = parse_dimension(size)
    if found == 0:
        _refuse(name, text, column, "a size is 1 or more")
    return found


def _refuse(name: str, text: str, column: int, why: str, hint: str | None = None) -> NoReturn:
    raise FormulaError(f"{name}: {why}", details=caret(text, column), hint=hint or _EXAMPLES)
