"""What an op is: a name, operands, attributes, and formula text. There is nothing else to say of it.

    register("tanh", "Y[...] = tanh(X[...])", cases=[unary(np.tanh, at=[-800, 0, 800])])

The formula is text, or a function of the operands' shapes and the attributes that returns text, where it
depends on them. Shapes, gradients, printed formulas, code and tests all follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from symgrad.errors import ShapeError
from symgrad.index.parser import Operand, operand_names

REQUIRED = object()


@dataclass(frozen=True)
class Attribute:
    """kind: int, float, bool, text, axis (int), axes (None, int or ints), ints, shape, index, optional float."""

    kind: str
    default: Any = REQUIRED


@dataclass(frozen=True)
class Case:
    """One row of an op's test table.

    Attributes:
        reference: NumPy function of the operands, and nothing else of ours.
        operands: sample arrays, or shapes of standard normal ones.
        attrs: the op's attributes.
        domain: the interval that random operands are drawn from instead of the normal distribution.
        differentiable: operand positions whose gradient is compared with numeric ones; None is all floats.
    """

    reference: Callable[..., Any]
    operands: tuple[Any, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    domain: tuple[float, float] | None = None
    differentiable: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Op:
    """See the module's docstring. `operands` are names in the formula; None means any number of them."""

    name: str
    formula: str | Callable[..., str]
    operands: tuple[str, ...] | None
    attributes: Mapping[str, Attribute]
    cases: tuple[Case, ...]
    doc: str

    def text(self, operands: Sequence[Operand], attrs: Mapping[str, Any]) -> str:
        """The formula for these operands; attributes that are not given take their defaults."""
        if isinstance(self.formula, str):
            return self.formula
        defaults = {k: a.default for k, a in self.attributes.items() if a.default is not REQUIRED}
        return self.formula(*operands, **(defaults | dict(attrs)))

    def operand_name(self, position: int) -> str:
        return f"X{position}" if self.operands is None else self.operands[position]


OPS: dict[str, Op] = {}


def register(
    name: str,
    formula: str | Callable[..., str],
    *,
    cases: Sequence[Case],
    operands: Sequence[str] | str | None = "",
    attributes: Mapping[str, Attribute] | None = None,
    doc: str = "",
) -> Op:
    """Add an op. `operands` may be left out where the formula is plain text: its order of reading tells.

    Raises ValueError if the name is taken or there is no test case.
    """
    if name in OPS:
        raise ValueError(f"op {name!r} is registered already")
    if not cases:
        raise ValueError(f"op {name!r} needs a test case")
    if operands == "":
        if not isinstance(formula, str):
            raise ValueError(f"op {name!r}: name the operands of a formula that is made by a function")
        operands = operand_names(formula)
    names = None if operands is None else tuple(operands)
    made = formula.__doc__ if callable(formula) else formula
    OPS[name] = Op(name, formula, names, dict(attributes or {}), tuple(cases), doc or (made or "").strip())
    return OPS[name]


def unary(
    reference: Callable[..., Any],
    at: Sequence[float] = (),
    domain: tuple[float, float] | None = None,
    **attrs: Any,
) -> Case:
    """A case of an elementwise op: random points, and the given (singular) ones."""
    random = np.random.default_rng(1)
    points = random.normal(size=8) if domain is None else random.uniform(*domain, size=8)
    return Case(reference, (np.concatenate([np.asarray(at, float), points]),), attrs, domain)


def binary(reference: Callable[..., Any], domain: tuple[float, float] | None = None) -> tuple[Case, ...]:
    """Equal shapes, broadcast shapes, size 1 and size 0."""
    pairs = (((2, 3), (2, 3)), ((2, 3), (3,)), ((4, 1, 3), (2, 1)), ((), (2,)), ((1,), (1,)), ((0, 3), (3,)))
    return tuple(Case(reference, pair, {}, domain) for pair in pairs)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{k}" for k in range(count)]


def listed(*index: Sequence[str]) -> str:
    """Index text; the empty index is written ()."""
    return ", ".join(e for part in index for e in part) or "()"


def axis_of(axis: int, rank: int, what: str = "axis") -> int:
    """A non-negative axis number. Raises ShapeError if there is no such axis."""
    if not -rank <= axis < rank:
        raise ShapeError(f"{what} {axis} does not exist in {rank} dimensions", hint=f"from {-rank} to {rank - 1}")
    return axis % rank
