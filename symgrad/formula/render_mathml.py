"""Notation trees as MathML Core, with the precedences of text and LaTeX. Every character is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree.ElementTree import Element

import sympy as sp
from sympy import Expr

from symgrad.formula import notation as n
from symgrad.formula.mathml_symbols import fenced, identifier, number, operator, row, symbol_elements
from symgrad.formula.numbers import fraction, number_parts
from symgrad.formula.render_text import (
    ATOM,
    CASES,
    ENTRYWISE,
    POWER,
    PRODUCT,
    REDUCE,
    RELATION,
    SCALED,
    SUM,
    body_level,
)
from symgrad.formula.symbols import Style
from symgrad.markup import element, xml

Rendered = tuple[list[Element], int]

_OPERATORS = {"sum": "∑", "prod": "∏", "max": "max", "min": "min"}
_FENCES = {"|": ("|", "|"), "⌊": ("⌊", "⌋")}


def mathml(node: n.Node) -> str:
    """The node as a `math` element that stands in a line of text."""
    return xml(element("math", {}, row(elements(node))))


def elements(node: n.Node) -> list[Element]:
    """The node as elements that stand side by side."""
    return _render(node)[0]


def _render(node: n.Node) -> Rendered:
    return _METHODS[type(node)](node)


def _tight(node: n.Node, level: int) -> list[Element]:
    """The node, in parentheses if it binds less tightly than `level`."""
    written, own = _render(node)
    return written if own >= level else [fenced("(", written, ")")]


def _atom(node: n.Atom) -> Rendered:
    return symbol_elements(node.latex), ATOM


def _constant(node: n.Constant) -> Rendered:
    value = node.value
    if value.is_Number:
        return _number(value)
    if isinstance(value, sp.Symbol):
        return symbol_elements(Style.of(str(value)).latex), ATOM
    if value.is_Add:
        terms = sorted(value.args, key=lambda t: (t.is_Number, t.could_extract_minus_sign(), sp.default_sort_key(t)))
        return _render(n.total([n.scaled(term, n.ONE) for term in terms]))
    if value.could_extract_minus_sign():
        return [operator("−", "prefix"), *_tight(n.Constant(-value), REDUCE)], SUM
    above, below = fraction(value)
    if below != 1:
        return [_fraction(n.Constant(above), n.Constant(below))], POWER
    if value.is_Mul:
        numbers_first = sorted(value.args, key=lambda f: (not f.is_Number, sp.default_sort_key(f)))
        return _side_by_side([_tight(n.Constant(f), POWER) for f in numbers_first]), PRODUCT
    return _constant_atom(value)


def _number(value: Expr) -> Rendered:
    above, below = (part.replace("inf", "∞") for part in number_parts(value))
    if "e" in above:
        digits, power = above.split("e")
        exponent = elements(n.Constant(sp.Integer(int(power))))
        written, level = [number(digits), operator("·"), element("msup", {}, number("10"), row(exponent))], PRODUCT
    elif below:
        written, level = [element("mfrac", {}, number(above), number(below))], POWER
    else:
        written, level = [number(above)], ATOM
    return ([operator("−", "prefix"), *written], SUM) if value.is_negative else (written, level)


def _constant_atom(value: Expr) -> Rendered:
    if value == sp.pi:
        return [identifier("π")], ATOM
    if value == sp.E:
        return [identifier("e")], ATOM
    if isinstance(value, sp.floor):
        return [fenced("⌊", elements(n.Constant(value.args[0])), "⌋")], ATOM
    if isinstance(value, sp.Pow) and not isinstance(value, sp.exp):
        base, power = value.as_base_exp()
        if power == sp.Rational(1, 2):
            return [element("msqrt", {}, *elements(n.Constant(base)))], ATOM
        return [_script("msup", _tight(n.Constant(base), ATOM), elements(n.Constant(power)))], POWER
    if value.args:
        return [*_named(type(value).__name__, [n.Constant(a) for a in value.args])], ATOM
    return [identifier(str(value))], ATOM


def _scaled(node: n.Scaled) -> Rendered:
    if isinstance(node.body, n.Quotient) and (node.body.mark == "/" or node.body.above == n.ONE):
        above, below = fraction(node.value)
        top, bottom = n.scaled(above, node.body.above), n.scaled(below, node.body.below)
        return _quotient(n.Quotient(top, bottom, node.body.mark))
    return _side_by_side([_tight(n.Constant(node.value), SCALED), _tight(node.body, REDUCE)]), SCALED


def _product(node: n.Product) -> Rendered:
    *front, last = node.factors
    level = REDUCE if isinstance(last, n.Reduce) else POWER
    written = _side_by_side([*(_tight(f, POWER) for f in front), _tight(last, level)])
    return written, REDUCE if level == REDUCE else PRODUCT


def _side_by_side(factors: Sequence[list[Element]]) -> list[Element]:
    """A product: its factors with a thin space between them."""
    written = list(factors[0])
    for factor in factors[1:]:
        written += [element("mspace", {"width": "0.17em"}), *factor]
    return written


def _joined(parts: Sequence[list[Element]], sign: str) -> list[Element]:
    """Parts with an operator between each two."""
    written = list(parts[0])
    for part in parts[1:]:
        written += [operator(sign, "infix"), *part]
    return written


def _hadamard(node: n.Hadamard) -> Rendered:
    return _joined([_tight(f, POWER) for f in node.factors], "⊙"), ENTRYWISE


def _fraction(above: n.Node, below: n.Node) -> Element:
    return element("mfrac", {}, row(elements(above)), row(elements(below)))


def _quotient(node: n.Quotient) -> Rendered:
    if node.mark == "/":
        return [_fraction(node.above, node.below)], POWER
    return _joined([_tight(node.above, POWER), _tight(node.below, POWER)], node.mark), ENTRYWISE


def _sum(node: n.Sum) -> Rendered:
    written: list[Element] = []
    for k, term in enumerate(node.terms):
        written += signed(term, first=k == 0)
    return written, SUM


def signed(term: tuple[bool, n.Node], first: bool) -> list[Element]:
    """A term of a sum with its sign, which a first term has only if it is negative."""
    negative, body = term
    sign = [] if first and not negative else [operator("−" if negative else "+", "prefix" if first else "infix")]
    return [*sign, *_tight(body, REDUCE)]


def _script(kind: str, base: list[Element], script: list[Element]) -> Element:
    return element(kind, {}, row(base), row(script))


def _scripted(base: n.Node) -> list[Element]:
    """A base for a superscript: what carries one already needs parentheses."""
    scripted = isinstance(base, n.Atom) and base.scripted
    return [fenced("(", elements(base), ")")] if scripted else _tight(base, ATOM)


def _power(node: n.Power) -> Rendered:
    return [_script("msup", _scripted(node.base), elements(node.exponent))], POWER


def _transposed(node: n.Transposed) -> Rendered:
    if isinstance(node.base, n.Inverse):
        script = [operator("−", "prefix"), operator("⊤")]
        return [_script("msup", _scripted(node.base.base), script)], POWER
    return [_script("msup", _scripted(node.base), [operator("⊤")])], POWER


def _inverse(node: n.Inverse) -> Rendered:
    return [_script("msup", _scripted(node.base), elements(n.Constant(sp.Integer(-1))))], POWER


def _norm(node: n.Norm) -> Rendered:
    order = {"inf": "∞"}.get(node.order, node.order)
    script = number(order) if order.isdigit() else identifier(order)
    return [_script("msub", [fenced("‖", elements(node.body), "‖")], [script])], ATOM


def _kronecker(node: n.Kronecker) -> Rendered:
    return _joined([_tight(f, POWER) for f in node.factors], "⊗"), ENTRYWISE


def _call(node: n.Call) -> Rendered:
    if node.text == "sqrt":
        return [element("msqrt", {}, *_arguments(node.arguments))], ATOM
    if node.text in _FENCES:
        left, right = _FENCES[node.text]
        return [fenced(left, _arguments(node.arguments), right)], ATOM
    return _applied(symbol_elements(node.latex), node.arguments), ATOM


def _named(name: str, arguments: Sequence[n.Node]) -> list[Element]:
    return _applied([identifier(name)], arguments)


def _applied(function: list[Element], arguments: Sequence[n.Node]) -> list[Element]:
    return [*function, operator("\u2061"), fenced("(", _arguments(arguments), ")")]


def _arguments(arguments: Sequence[n.Node]) -> list[Element]:
    written: list[Element] = []
    for k, argument in enumerate(arguments):
        written += [operator(",", "infix")] * bool(k) + elements(argument)
    return written


def _reduce(node: n.Reduce) -> Rendered:
    below: list[Element] = []
    for k, letter in enumerate(node.letters):
        below += [operator(",", "infix")] * bool(k) + [identifier(letter)]
    if node.condition is not None:
        below += [operator(":", "infix"), *elements(node.condition)]
    large = node.kind in ("sum", "prod")
    sign = operator(_OPERATORS[node.kind], "prefix", movablelimits="false") if large else identifier(node.kind)
    head = element("munder", {}, sign, row(below)) if below else sign
    gap = [] if large else [element("mspace", {"width": "0.17em"})]
    return [head, *gap, *_tight(node.body, body_level(node))], REDUCE


def _indicator(node: n.Indicator) -> Rendered:
    return [fenced("[", elements(node.condition), "]")], ATOM


def _relation(node: n.Relation) -> Rendered:
    return _joined([_tight(node.left, SUM), _tight(node.right, SUM)], node.sign), RELATION


def _logic(node: n.Logic) -> Rendered:
    if node.word == "¬":
        return [operator("¬", "prefix"), *_tight(node.arguments[0], ATOM)], POWER
    inner = [isinstance(a, n.Logic) and a.word != "¬" for a in node.arguments]
    parts = [elements(a) for a in node.arguments]
    return _joined([[fenced("(", p, ")")] if i else p for i, p in zip(inner, parts, strict=True)], node.word), RELATION


def _cases(node: n.Cases) -> Rendered:
    rows = [_case(value, elements(condition)) for value, condition in node.rows]
    last = _case(node.other, [element("mtext", {}, "otherwise")])
    table = element("mtable", {"columnalign": "left left", "class": "cases"}, *rows, last)
    return [element("mrow", {}, operator("{", "prefix", stretchy="true"), table)], CASES


def _case(value: n.Node, condition: list[Element]) -> Element:
    gap = element("mspace", {"width": "0.8em"})
    cells = (element("mtd", {}, *elements(value)), element("mtd", {}, gap, *condition))
    return element("mtr", {}, *cells)


_METHODS: dict[type[n.Node], Callable[..., Rendered]] = {
    n.Atom: _atom,
    n.Constant: _constant,
    n.Scaled: _scaled,
    n.Product: _product,
    n.Hadamard: _hadamard,
    n.Quotient: _quotient,
    n.Sum: _sum,
    n.Power: _power,
    n.Transposed: _transposed,
    n.Inverse: _inverse,
    n.Norm: _norm,
    n.Kronecker: _kronecker,
    n.Call: _call,
    n.Reduce: _reduce,
    n.Indicator: _indicator,
    n.Relation: _relation,
    n.Logic: _logic,
    n.Cases: _cases,
}
