"""An expression in NumPy's syntax as a network: `read_expression`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import networkx as nx
from sympy import Expr

from symgrad.errors import FormulaError, ShapeError, SymgradError, nearest
from symgrad.expand import expand
from symgrad.expression.declarations import Declaration, read_declarations
from symgrad.expression.inference import Given, infer_shapes
from symgrad.expression.network import Network
from symgrad.expression.reader import Reader
from symgrad.expression.sizes import Shape
from symgrad.expression.source import Source, read_source
from symgrad.expression.terms import Named, Term
from symgrad.index.parser import parse_dimension

_KINDS = ("scalar", "vector", "matrix")


@dataclass(frozen=True)
class Variable:
    """A variable of an expression.

    Attributes:
        kind: "scalar", "vector", "matrix" or "tensor".
        shape: sizes, numbers or dimensions.
        properties: of "symmetric" and "positive definite", those that were declared.
    """

    name: str
    kind: str
    shape: Shape
    properties: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Problem:
    """An expression as a network.

    Attributes:
        text: the expression, on one line.
        graph: the network. Variables are its inputs, `output` its output, and its loss where that is a scalar.
        output: the node of the expression's value.
        shape: the shape of the value.
        variables: by name, in the order in which they occur first.
    """

    text: str
    graph: nx.MultiDiGraph[Any]
    output: str
    shape: Shape
    variables: Mapping[str, Variable]


def read_expression(
    text: str,
    declarations: Mapping[str, str | Declaration] | None = None,
    *,
    scope: Mapping[str, Sequence[int | str | Expr]] | None = None,
) -> Problem:
    """The network of an expression in NumPy's syntax.

    Args:
        declarations: what is known of some variables, such as {"x": "vector(n)"}. Shapes of the others follow from
            their use.
        scope: the variables that there are, with their shapes, such as {"x": ("N", 3)}. Nothing is inferred then, and
            broadcasting is NumPy's.

    Raises:
        FormulaError: the text is malformed, or names something unknown.
        ShapeError: there are no shapes with which the expression fits.
    """
    source = read_source(text)
    known = _declared(declarations or {}, scope)
    sizes = {str(s) for d in known.values() for n in d.shape or () for s in n.free_symbols}
    reader = Reader(source, tuple(known), sizes, closed=scope is not None)
    root = reader.read()
    if scope is None:
        _refuse_unused(source, reader.terms, known)
    return _problem(source, reader.terms, root, known)


def _declared(
    declarations: Mapping[str, str | Declaration], scope: Mapping[str, Sequence[int | str | Expr]] | None
) -> dict[str, Declaration]:
    if scope is None:
        return read_declarations(declarations)
    if declarations:
        raise FormulaError("an expression is read with declarations or in a scope, not both")
    shapes = {name: tuple(map(_extent, shape)) for name, shape in scope.items()}
    return {name: Declaration(name, len(shape), shape) for name, shape in shapes.items()}


def _extent(size: int | str | Expr) -> Expr:
    return size if isinstance(size, Expr) else parse_dimension(size)


def _refuse_unused(source: Source, terms: Sequence[Term], known: Mapping[str, Declaration]) -> None:
    used = [t.form.name for t in terms if isinstance(t.form, Named)]
    for name in known:
        if name not in used:
            hint = nearest(name, used) or "declare what occurs in it"
            raise FormulaError(f"{name!r} is declared and does not occur", details=[source.text[:160]], hint=hint)


def _problem(source: Source, terms: Sequence[Term], root: int, known: Mapping[str, Declaration]) -> Problem:
    given = Given(
        {name: d.rank for name, d in known.items()},
        {name: d.shape for name, d in known.items() if d.shape is not None},
    )
    shapes = infer_shapes(source, terms, given)
    network = Network(terms, root, shapes)
    try:
        system = expand(network.graph)
    except SymgradError as error:
        _point_at(source, terms, network, error)
    variables = {
        term.form.name: _variable(term.form.name, shape, known)
        for term, shape in zip(terms, shapes, strict=True)
        if isinstance(term.form, Named)
    }
    return Problem(source.text, network.graph, network.output, system.shape(network.output), variables)


def _variable(name: str, shape: Shape, known: Mapping[str, Declaration]) -> Variable:
    kind = _KINDS[len(shape)] if len(shape) < len(_KINDS) else "tensor"
    return Variable(name, kind, shape, known[name].properties if name in known else frozenset())


def _point_at(source: Source, terms: Sequence[Term], network: Network, error: SymgradError) -> NoReturn:
    """Raise the first fault of the network as one of the expression."""
    fault = error.faults[0]
    places = {node: terms[k] for k, node in reversed(network.names.items())}
    if fault.node not in places:
        raise fault
    term = places[fault.node]
    kind = type(fault) if isinstance(fault, FormulaError) else ShapeError
    source.refuse(term.column, f"{term.text[:60]}: {fault.summary}", fault.hint, kind)
