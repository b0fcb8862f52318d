"""One call of a NumPy function with a preallocated output: what every statement comes down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sympy import Expr, Symbol

from symgrad.lower.ir import View

Argument: TypeAlias = View | Expr | str


@dataclass(frozen=True)
class Call:
    """`function` is a NumPy name; an argument is a View, a number, or text.

    `body` holds the calls of a loop over `offsets`.
    """

    function: str
    arguments: tuple[Argument, ...]
    out: View | None
    equation: str = ""
    offsets: tuple[tuple[Symbol, int], ...] = ()
    body: tuple[Call, ...] = ()
    elementwise: bool = False

    def reads(self) -> list[View]:
        inner = [v for call in self.body for v in call.reads()]
        updated = [self.out] if self.out is not None and self.function in UPDATES else []
        return [*(a for a in self.arguments if isinstance(a, View)), *updated, *inner]

    def writes(self) -> list[View]:
        return [
            *([self.out] if self.out is not None else []),
            *(v for call in self.body for v in call.writes()),
        ]


UPDATES = ("copy_where", "scatter", "scatter_add", "accumulate")  # these leave a part of `out` as it was
