"""Which lines of a program compute what.

    Line         a line of code on its way into the file, marked by the printer with the tensors that it computes
    SourceEntry  a run of lines in the finished file, and the tensor, formula and node that they are there for

`program.source_map` is a tuple of entries in the order of the lines. A line that computes several tensors, as an
expression does that another one was written into, is in several entries. Comments, bindings of names and the fixed
part of the file are in none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from symgrad.emit.nodes import network_nodes
from symgrad.emit.request import Request
from symgrad.index.text import expression_text

INIT, NETWORK, UPDATE = "init", "network", "update"


class Line(str):
    """A line of code that knows what it computes. Put behind an indentation it still does.

    Attributes:
        part: init, network or update, which says what the tensors' names stand for.
        tensors: of the network, or of the optimizer's table; the one that is assigned first.
    """

    part: str
    tensors: tuple[str, ...]

    def __new__(cls, text: str, tensors: Sequence[str], part: str = NETWORK) -> Line:
        line = super().__new__(cls, text)
        line.part, line.tensors = part, tuple(tensors)
        return line

    def __radd__(self, before: str) -> Line:
        return Line(before + str(self), self.tensors, self.part)


@dataclass(frozen=True)
class SourceEntry:
    """A run of lines that compute one tensor.

    Attributes:
        first, last: line numbers in `program.source`, counted from 1.
        stage: init, forward, loss, backward or update.
        tensor: the equation's name, the parameter that starts, or the optimizer's vector (theta or a state).
        node: the node of the network that the equation belongs to; None in an update, which is of all parameters.
        adjoint_of: the tensor whose adjoint the equation is a part of, or None.
        formula: what the lines compute, on one line.
    """

    first: int
    last: int
    stage: str
    tensor: str
    node: str | None
    adjoint_of: str | None
    formula: str

    def to_dict(self) -> dict[str, int | str | None]:
        """The entry as JSON takes it."""
        return asdict(self)


def source_map(request: Request, lines: Sequence[str], first: int) -> tuple[SourceEntry, ...]:
    """The entries of the network's part of a file, whose line number `first` is the first of `lines`."""
    describe = _Describer(request)
    found = [describe(first, last, *mark) for mark, first, last in _runs(lines, first)]
    return tuple(sorted(found, key=lambda entry: (entry.first, entry.last)))


def _runs(lines: Sequence[str], first: int) -> Iterator[tuple[tuple[str, str], int, int]]:
    """((part, tensor), first line, last line) of neighbouring lines with that mark."""
    begun: dict[tuple[str, str], int] = {}
    number = first
    for line in (*lines, ""):
        marks = [(line.part, name) for name in line.tensors] if isinstance(line, Line) else []
        for mark in [m for m in begun if m not in marks]:
            yield mark, begun.pop(mark), number - 1
        for mark in marks:
            begun.setdefault(mark, number)
        number += 1 + line.count("\n")


class _Describer:
    """Makes the entries of one request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.nodes = network_nodes(request.forward, request.system)
        self.updates = {str(symbol): expr for symbol, expr in request.optimizer.updates.items()}

    def __call__(self, first: int, last: int, part: str, name: str) -> SourceEntry:
        if part == INIT:
            scheme, *arguments = self.request.initialisers[name]
            start = f"{name} ← {scheme}" + (f"({', '.join(map(str, arguments))})" if arguments else "")
            return SourceEntry(first, last, part, name, name, None, start)
        if part == UPDATE:
            return SourceEntry(first, last, part, name, None, None, f"{name} ← {expression_text(self.updates[name])}")
        e = self.request.system.equations[name]
        stage, formula = self.request.stage(name), self.request.comments[name]
        return SourceEntry(first, last, stage, name, self.nodes[name], e.adjoint_of, formula)
