"""The sections about the network itself: summary, graph, formulas, conventions, update rules, program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, fromstring

from symgrad.drawing import network_diagram, svg
from symgrad.drawing.graph import shape_text
from symgrad.emit.module import END
from symgrad.emit.source_map import SourceEntry
from symgrad.formula.lines import Line, latex_block, mathml_block
from symgrad.formula.mathml_symbols import operator
from symgrad.formula.notation import Node
from symgrad.formula.render_latex import latex
from symgrad.formula.render_mathml import elements
from symgrad.formula.update_rule import letter, update_rule
from symgrad.markup import element
from symgrad.report.anchors import formula_anchor, keys, line_anchor, node_anchor
from symgrad.report.subject import Row, Subject

TITLES = {"forward": "Forward pass", "loss": "Loss", "backward": "Gradients, from the loss to the first layer"}


def section(name: str, title: str, *content: Element | str) -> Element:
    """A section with a heading that can be linked to."""
    return element("section", {"id": name}, element("h2", {}, title), *content)


def paragraph(text: str) -> Element:
    return element("p", {}, text)


# the graph


def graph_section(subject: Subject) -> Element:
    """The drawing, in a frame that scrolls, and what its signs mean."""
    links = {name: "#" + formula_anchor(name) for name in subject.rows}
    for name in subject.derivation:
        links.setdefault(name, "#" + formula_anchor(subject.derivation.system.gradients[name]))
    diagram = network_diagram(
        subject.network,
        subject.derivation.forward,
        inside=subject.inside,
        differentiated=subject.differentiated,
        links=links,
    )
    drawing = element("div", {"class": "drawing", "tabindex": "0"}, svg(diagram))
    kinds = ("input", "parameter", "op", "loss")
    legend = [element("li", {"class": f"key {kind}"}, {"op": "operation"}.get(kind, kind)) for kind in kinds]
    legend += [element("li", {"class": "key-forward"}, "values, with their shape")]
    legend += [element("li", {"class": "key-backward"}, "gradients, of the same shape")]
    figure = element("figure", {}, drawing, element("figcaption", {}, element("ul", {"class": "legend"}, *legend)))
    return section("graph", "Graph", figure)


# formulas


def formula_sections(subject: Subject) -> Iterator[Element]:
    """One section for each stage: formulas, and beside each the code that computes it."""
    source = _source(subject)
    for title, rows in subject.stages:
        yield section(title, TITLES[title], *(_row(row, source, subject) for row in rows))
    functions = subject.derivation.functions()
    if functions:
        lines = [_plain_row([line]) for line in functions]
        yield section("functions", "Activation functions", *lines)
    notes = subject.derivation.kinks()
    if notes:
        told = paragraph("Where a derivative does not exist, these values are taken.")
        yield section("kinks", "Conventions at kinks", told, element("ul", {}, *(element("li", {}, n) for n in notes)))


def _source(subject: Subject) -> list[str]:
    return [] if isinstance(subject.program, str) else subject.program.source.split("\n")


def _row(row: Row, source: Sequence[str], subject: Subject) -> Element:
    """A formula with its number, shape and node, and its code."""
    anchor = formula_anchor(row.name)
    attributes = {"class": "row", "id": anchor} | keys([row.name], [row.node, *(entry.node for entry in row.entries)])
    shape = next((line.shape for line in row.lines if line.shape is not None), None)
    facts = [element("a", {"class": "number", "href": f"#{anchor}"}, f"({row.number})")]
    facts += [element("span", {"class": "shape"}, shape_text(shape))] if shape is not None else []
    facts += [node_link(subject, row.node)] if row.node else []
    left = element("div", {"class": "formula"}, _math(mathml_block(row.lines)), _facts(facts, latex_block(row.lines)))
    return element("div", attributes, left, _code(row.entries, source))


def node_link(subject: Subject, node: str) -> Element:
    """A link to the box of a node."""
    return element("a", {"class": "to-node", "href": "#" + node_anchor(subject.box(node))}, node)


def _plain_row(lines: Sequence[Line]) -> Element:
    left = element("div", {"class": "formula"}, _math(mathml_block(lines)), _facts([], latex_block(lines)))
    return element("div", {"class": "row"}, left)


def _facts(facts: Sequence[Element], tex: str) -> Element:
    """What is said below a formula, and its LaTeX to take away: by a button, or without scripts as text."""
    button = element("button", {"class": "copy", "type": "button", "data-latex": tex, "hidden": "hidden"}, "Copy LaTeX")
    text = element("details", {"class": "latex"}, element("summary", {}, "LaTeX"), element("pre", {}, tex))
    return element("p", {"class": "facts"}, *facts, button, element("noscript", {}, text))


def _math(written: str) -> Element:
    return element("div", {"class": "math"}, fromstring(written))


def _code(entries: Sequence[SourceEntry], source: Sequence[str]) -> Element:
    """The lines of the entries, in the order of the file, each a link to its place there."""
    numbers = sorted({number for entry in entries for number in range(entry.first, entry.last + 1)})
    items = []
    for number in numbers:
        code = element("code", {}, source[number - 1].strip())
        items.append(element("a", {"href": "#" + line_anchor(number)}, code))
    return element("div", {"class": "code"}, *items)


# update rules


def update_section(subject: Subject) -> Element:
    """The optimizer's table as formulas, and the values of its hyperparameters."""
    optimizer = subject.optimizer
    rule = update_rule(optimizer)
    table = element("mtable", {"class": "lines", "displaystyle": "true"}, *(_assignment(*line) for line in rule))
    math = element("div", {"class": "math"}, element("math", {"display": "block"}, table))
    tex = "\\begin{aligned}\n" + " \\\\\n".join(rf"  {latex(a)} &\leftarrow {latex(b)}" for a, b in rule)
    left = element("div", {"class": "formula"}, math, _facts([], tex + "\n\\end{aligned}"))
    entries = [entry for entry in subject.entries if entry.stage == "update"]
    told = f"{optimizer.name.capitalize()}, {optimizer.source}: θ holds all parameters, g the gradient, k counts steps "
    told += "from 1" + (f", {_joined(optimizer.state)} start at 0." if optimizer.state else ".")
    values = [_setting(name, value) for name, value in optimizer.defaults.items()]
    rows = element("div", {"class": "row"}, left, _code(entries, _source(subject)))
    return section("update", "Update rule", paragraph(told), rows, element("ul", {"class": "settings"}, *values))


def _joined(names: Sequence[str]) -> str:
    return " and ".join(letter(name).text for name in names)


def _assignment(left: Node, right: Node) -> Element:
    cells = (elements(left), [operator("←", "infix")], elements(right))
    return element("mtr", {}, *(element("mtd", {}, *cell) for cell in cells))


def _setting(name: str, value: float) -> Element:
    symbol = element("math", {}, *elements(letter(name)))
    return element("li", {}, symbol, " = ", element("code", {}, name), f" = {value:g}")


# the program


def program_section(subject: Subject) -> Element:
    """The network's part of the program, every line linked to the formulas and the node that it is there for."""
    if isinstance(subject.program, str):
        return section("program", "Program", paragraph(subject.program))
    source = subject.program.source.split("\n")
    first, last = _first_function(source, subject.entries), source.index(END.strip())
    about: dict[int, list[SourceEntry]] = {}
    for entry in subject.entries:
        for number in range(entry.first, entry.last + 1):
            about.setdefault(number, []).append(entry)
    listing = [_listed(n, source[n - 1], about.get(n, []), subject) for n in range(first, last + 1)]
    told = "The functions of this network, in the program’s readable style. The lines are numbered as in the whole "
    told += "file, which begins with tables of shapes and ends with what every program shares."
    return section("program", "Program", paragraph(told), element("div", {"class": "listing"}, *listing))


def _first_function(source: Sequence[str], entries: Sequence[SourceEntry]) -> int:
    """The line where the function begins that computes the first tensor."""
    number = next(entry.first for entry in entries if entry.stage != "init")
    while not source[number - 1].startswith("def "):
        number -= 1
    return number


def _listed(number: int, text: str, entries: Sequence[SourceEntry], subject: Subject) -> Element:
    names = [name for entry in entries for name in subject.formulas_of(entry)]
    nodes = list(dict.fromkeys(entry.node for entry in entries if entry.node is not None))
    refs = [
        element("a", {"href": "#" + formula_anchor(name)}, f"({subject.rows[name].number})")
        for name in dict.fromkeys(names)
    ]
    refs += [node_link(subject, node) for node in nodes]
    refs += [element("a", {"href": "#update"}, e.tensor) for e in entries if e.stage == "update"]
    anchor = line_anchor(number)
    kind = {"class": "comment"} if text.lstrip().startswith("#") else {}
    parts = [element("a", {"class": "no", "href": f"#{anchor}"}, str(number)), element("code", kind, text)]
    parts += [element("span", {"class": "refs"}, *refs)] if refs else []
    of = keys(names, [*nodes, *(subject.rows[name].node for name in names)])
    return element("div", {"class": "line", "id": anchor} | of, *parts)
