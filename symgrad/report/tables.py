"""The sections with numbers: summary, verification, costs."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import sympy as sp
from sympy import Expr

from symgrad.costs import Costs, NodeCost
from symgrad.errors import SymgradError
from symgrad.formula.notation import Constant
from symgrad.formula.render_mathml import elements
from symgrad.markup import element
from symgrad.report.anchors import keys
from symgrad.report.sections import node_link, paragraph, section
from symgrad.report.subject import Subject
from symgrad.verify import Report

Cell = Element | str


def table(head: Sequence[Cell], rows: Sequence[Element], words: int = 1) -> Element:
    """A table whose first columns hold words, the others numbers; it scrolls where it is too wide."""
    cells = [element("th", {"scope": "col"} | _side(k, words), cell) for k, cell in enumerate(head)]
    body = element("tbody", {}, *rows)
    made = element("table", {}, element("thead", {}, element("tr", {}, *cells)), body)
    return element("div", {"class": "table", "tabindex": "0"}, made)


def table_row(cells: Sequence[Cell], attributes: dict[str, str] | None = None, words: int = 1) -> Element:
    """A row that begins with what it is about."""
    first, *rest = cells
    head = element("th", {"scope": "row"}, first)
    return element("tr", attributes or {}, head, *(element("td", _side(k, words), c) for k, c in enumerate(rest, 1)))


def _side(column: int, words: int) -> dict[str, str]:
    return {} if column < words else {"class": "number"}


def polynomial(value: Expr) -> Element:
    """A polynomial in the dimensions."""
    return element("math", {}, *elements(Constant(sp.expand(value))))


# summary


def summary(subject: Subject) -> Element:
    """The network at a glance."""
    system, network = subject.derivation.forward, subject.network
    shapes = [leaf.shape for leaf in system.leaves.values() if leaf.kind == "parameter"]
    facts: list[tuple[str, Cell]] = [("loss", element("code", {}, str(subject.derivation.system.loss)))]
    facts += [("nodes", str(network.number_of_nodes())), ("gradients", str(len(subject.derivation)))]
    facts += [("learned numbers", polynomial(sp.Add(*(sp.Mul(*shape) for shape in shapes))))]
    if isinstance(subject.evidence, Report):
        verdict = "verified" if subject.evidence.ok else "WRONG"
        facts.append(("evidence", element("a", {"href": "#verification"}, f"{verdict}: {_error(subject.evidence)}")))
    terms = [part for name, value in facts for part in (element("dt", {}, name), element("dd", {}, value))]
    return element("dl", {"class": "summary"}, *terms)


def _error(report: Report) -> str:
    return f"worst error {report.max_error:.1e} against 50 digits"


# verification


def verification_section(subject: Subject) -> Element:
    """Every gradient against numeric ones."""
    if isinstance(subject.evidence, str):
        return section("verification", "Verification", paragraph(subject.evidence))
    told = "The program’s gradients at a random point, against central differences, complex steps where they are "
    told += "valid, and 50 digits: the largest relative errors of a sample of entries."
    dims = ", ".join(f"{name} = {size}" for name, size in subject.evidence.dims.items())
    where = [paragraph(f"Sizes at this point: {dims}.")] if dims else []
    head, *lines = subject.evidence.table()
    rows = [_evidence_row(line) for line in lines]
    return section("verification", "Verification", paragraph(told), *where, table(head, rows, words=2))


def _evidence_row(cells: Sequence[str]) -> Element:
    return table_row(cells, {"class": "ok" if cells[-1] == "ok" else "wrong"} | keys([], [cells[0]]), words=2)


# costs


def costs_section(subject: Subject) -> Element:
    """Operations and memory of every node, as polynomials in the dimensions."""
    try:
        found = subject.costs
    except SymgradError as error:
        return section("costs", "Costs", paragraph(str(error)))
    told = "Operations and bytes as polynomials in the dimensions. The bytes of a node are those of its parameter, or "
    told += "of the values that it keeps for the backward pass."
    head = ("node", "FLOPs forward", "FLOPs backward", f"bytes ({found.dtype})")
    rows = [_cost_row(subject, n) for n in found.nodes]
    sums = [sp.Add(*c) for c in zip(*((n.forward, n.backward, n.bytes) for n in found.nodes), strict=True)]
    rows.append(table_row(["total", *map(polynomial, sums)], {"class": "total"}))
    return section("costs", "Costs", paragraph(told), table(head, rows), _memory(found))


def _cost_row(subject: Subject, cost: NodeCost) -> Element:
    values = map(polynomial, (cost.forward, cost.backward, cost.bytes))
    return table_row([node_link(subject, cost.node), *values], keys([], [cost.node]))


def _memory(found: Costs) -> Element:
    """The sums of the fast program."""
    lines = [("operations", found.flops), ("of which calls of functions such as exp", found.calls)]
    lines += [("bytes in all", found.memory), ("parameters", found.parameters), ("gradients", found.gradients)]
    lines += [("workspace", found.workspace), ("of which kept for the backward pass", found.activations)]
    terms = [part for name, value in lines for part in (element("dt", {}, name), element("dd", {}, polynomial(value)))]
    return element("dl", {"class": "summary"}, *terms)
