"""Every refusal of symgrad is one of these errors.

A message says what went wrong and where, what was expected, what was found, and what to change:

    ShapeError: node 'fc2' (matmul): axis k differs between operands
      A = 'relu1' has shape (32, 128), k = 128;  B = 'W2' has shape (64, 10), k = 64
      path: loss <- fc2 <- relu1
      hint: ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class SymgradError(Exception):
    """Base of all errors that symgrad raises on purpose.

    Attributes:
        summary: one line, what is wrong.
        node, op: the node of the graph that it concerns, and its op, where there is one.
        details: lines with what was expected and found.
        path: node names from an output down to the fault.
        hint: what to change.
        faults: the single errors, where one exception reports several.
    """

    def __init__(
        self,
        summary: str,
        *,
        node: str | None = None,
        op: str | None = None,
        details: Sequence[str] = (),
        path: Sequence[str] = (),
        hint: str | None = None,
        faults: Sequence[SymgradError] = (),
    ) -> None:
        self.summary, self.node, self.op = summary, node, op
        self.details, self.path, self.hint = tuple(details), tuple(path), hint
        self.faults: tuple[SymgradError, ...] = tuple(faults) or (self,)
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.faults) > 1:
            return self.summary + "".join("\n- " + str(fault).replace("\n", "\n  ") for fault in self.faults)
        where = "" if self.node is None else f"node {self.node!r}" + (f" ({self.op})" if self.op else "") + ": "
        lines = [where + self.summary, *(f"  {line}" for line in self.details)]
        if len(self.path) > 1:
            lines.append("  path: " + " <- ".join(self.path))
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class GraphError(SymgradError):
    """The graph is not a network: cycles, missing operands, unknown ops, bad names, no scalar loss."""


class ShapeError(GraphError):
    """Shapes do not fit together."""


class DtypeError(GraphError):
    """A tensor has a dtype that its use does not allow."""


class FormulaError(GraphError):
    """The text of an index formula is malformed or refused."""


class DeriveError(SymgradError):
    """The gradient that was asked for does not exist or is not defined here."""


class EmitError(SymgradError):
    """The network cannot be written as a program."""


class FileError(SymgradError):
    """A file cannot be read as what it should be, or cannot be written."""


class VerifyError(SymgradError):
    """The verification cannot be carried out."""


class GradeError(SymgradError):
    """An answer cannot be graded."""


def raise_all(faults: Sequence[SymgradError]) -> None:
    """Raise nothing, the only fault, or one error that lists them all (of their common type)."""
    if not faults:
        return
    if len(faults) == 1:
        raise faults[0]
    types = {type(fault) for fault in faults}
    kind: type[SymgradError] = types.pop() if len(types) == 1 else GraphError
    raise kind(f"{len(faults)} faults", faults=faults)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint naming the known name most like `name`, or None."""
    match = get_close_matches(name[:100], sorted(known), n=1)
    return f"did you mean {match[0]!r}?" if match else None
