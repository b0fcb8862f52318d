"""Notation trees as LaTeX. Needs nothing beyond amsmath."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp
from sympy import Expr

from symgrad.formula import notation as n
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

_OPERATORS = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min"}
_SIGNS = {"=": "=", "≠": r"\ne", "<": "<", "≤": r"\le", ">": ">", "≥": r"\ge"}
_WORDS = {"∧": r"\land", "∨": r"\lor", "¬": r"\lnot"}


def latex(node: n.Node) -> str:
    """The node as LaTeX, for math mode."""
    return _render(node)[0]


def _render(node: n.Node) -> tuple[str, int]:
    return _METHODS[type(node)](node)


def _tight(node: n.Node, level: int) -> str:
    written, own = _render(node)
    return written if own >= level else _parenthesised(written)


def _parenthesised(written: str) -> str:
    tall = any(mark in written for mark in (r"\frac", r"\sum", r"\prod", r"\begin", r"\left"))
    if tall:
        return rf"\left({written}\right)"
    return rf"\bigl({written}\bigr)" if len(written) > 12 else f"({written})"


def _atom(node: n.Atom) -> tuple[str, int]:
    return node.latex, ATOM


def _constant(node: n.Constant) -> tuple[str, int]:
    return constant(node.value)


def constant(value: Expr) -> tuple[str, int]:
    """A number or an expression of dimensions."""
    if value.is_Number:
        return _number(value)
    if isinstance(value, sp.Symbol):
        return Style.of(str(value)).latex, ATOM
    if value.is_Add:
        terms = sorted(value.args, key=lambda t: (t.is_Number, t.could_extract_minus_sign(), sp.default_sort_key(t)))
        return _sum(n.total([n.scaled(term, n.ONE) for term in terms]))
    if value.could_extract_minus_sign():
        return "-" + _tight(n.Constant(-value), REDUCE), SUM
    above, below = fraction(value)
    if below != 1:
        return rf"\frac{{{constant(above)[0]}}}{{{constant(below)[0]}}}", POWER
    if value.is_Mul:
        numbers_first = sorted(value.args, key=lambda f: (not f.is_Number, sp.default_sort_key(f)))
        return _side_by_side([_tight(n.Constant(f), POWER) for f in numbers_first]), PRODUCT
    return _constant_atom(value)


def _number(value: Expr) -> tuple[str, int]:
    above, below = (part.replace("inf", r"\infty") for part in number_parts(value))
    if "e" in above:
        digits, power = above.split("e")
        written, level = rf"{digits} \cdot 10^{{{int(power)}}}", PRODUCT
    else:
        written, level = (rf"\frac{{{above}}}{{{below}}}", POWER) if below else (above, ATOM)
    return ("-" + written, SUM) if value.is_negative else (written, level)


def _constant_atom(value: Expr) -> tuple[str, int]:
    if value == sp.pi:
        return r"\pi", ATOM
    if value == sp.E:
        return "e", ATOM
    if isinstance(value, sp.floor):
        return rf"\left\lfloor {constant(value.args[0])[0]} \right\rfloor", ATOM
    if isinstance(value, sp.Pow) and not isinstance(value, sp.exp):
        base, power = value.as_base_exp()
        if power == sp.Rational(1, 2):
            return rf"\sqrt{{{constant(base)[0]}}}", ATOM
        return f"{_tight(n.Constant(base), ATOM)}^{{{constant(power)[0]}}}", POWER
    if value.args:
        inside = ", ".join(constant(a)[0] for a in value.args)
        return rf"\operatorname{{{type(value).__name__}}}({inside})", ATOM
    return rf"\mathrm{{{value}}}", ATOM


def _scaled(node: n.Scaled) -> tuple[str, int]:
    if isinstance(node.body, n.Quotient) and (node.body.mark == "/" or node.body.above == n.ONE):
        above, below = fraction(node.value)
        top, bottom = n.scaled(above, node.body.above), n.scaled(below, node.body.below)
        return _quotient(n.Quotient(top, bottom, node.body.mark))
    return _side_by_side([_tight(n.Constant(node.value), SCALED), _tight(node.body, REDUCE)]), SCALED


def _product(node: n.Product) -> tuple[str, int]:
    *front, last = node.factors
    level = REDUCE if isinstance(last, n.Reduce) else POWER
    written = _side_by_side([*(_tight(f, POWER) for f in front), _tight(last, level)])
    return written, REDUCE if level == REDUCE else PRODUCT


def _side_by_side(factors: list[str]) -> str:
    """A product; words need a thin space between them, letters don't."""
    return (r" \, " if any(r"\mathrm" in f for f in factors) else " ").join(factors)


def _hadamard(node: n.Hadamard) -> tuple[str, int]:
    return r" \odot ".join(_tight(f, POWER) for f in node.factors), ENTRYWISE


def _quotient(node: n.Quotient) -> tuple[str, int]:
    if node.mark == "/":
        return rf"\frac{{{latex(node.above)}}}{{{latex(node.below)}}}", POWER
    return rf"{_tight(node.above, POWER)} \oslash {_tight(node.below, POWER)}", ENTRYWISE


def _sum(node: n.Node) -> tuple[str, int]:
    if not isinstance(node, n.Sum):
        return _render(node)
    written = ""
    for k, (negative, term) in enumerate(node.terms):
        sign = ("-" if negative else "") if k == 0 else (" - " if negative else " + ")
        written += sign + _tight(term, REDUCE)
    return written, SUM


def _scripted(base: n.Node) -> str:
    """A base for a superscript: a fraction, or what carries one already, needs parentheses."""
    scripted = isinstance(base, n.Atom) and base.scripted
    return f"({latex(base)})" if scripted else _tight(base, ATOM)


def _power(node: n.Power) -> tuple[str, int]:
    return f"{_scripted(node.base)}^{{{latex(node.exponent)}}}", POWER


def _transposed(node: n.Transposed) -> tuple[str, int]:
    if isinstance(node.base, n.Inverse):
        return rf"{_scripted(node.base.base)}^{{-\top}}", POWER
    return rf"{_scripted(node.base)}^{{\top}}", POWER


def _inverse(node: n.Inverse) -> tuple[str, int]:
    return f"{_scripted(node.base)}^{{-1}}", POWER


def _norm(node: n.Norm) -> tuple[str, int]:
    order = {"inf": r"\infty"}.get(node.order, node.order)
    return rf"\left\lVert {latex(node.body)} \right\rVert_{{{order}}}", ATOM


def _kronecker(node: n.Kronecker) -> tuple[str, int]:
    return r" \otimes ".join(_tight(f, POWER) for f in node.factors), ENTRYWISE


def _call(node: n.Call) -> tuple[str, int]:
    inside = ", ".join(map(latex, node.arguments))
    if node.text == "sqrt":
        return rf"\sqrt{{{inside}}}", ATOM
    if node.text in ("|", "⌊"):
        left, right = ("|", "|") if node.text == "|" else (r"\lfloor", r"\rfloor")
        return rf"\left{left} {inside} \right{right}", ATOM
    return node.latex + (rf"\left({inside}\right)" if r"\frac" in inside else f"({inside})"), ATOM


def _reduce(node: n.Reduce) -> tuple[str, int]:
    below = ", ".join(node.letters)
    if node.condition is not None:
        below += " : " + latex(node.condition)
    return _OPERATORS[node.kind] + (f"_{{{below}}} " if below else " ") + _tight(node.body, body_level(node)), REDUCE


def _indicator(node: n.Indicator) -> tuple[str, int]:
    return f"[{latex(node.condition)}]", ATOM


def _relation(node: n.Relation) -> tuple[str, int]:
    return f"{_tight(node.left, SUM)} {_SIGNS[node.sign]} {_tight(node.right, SUM)}", RELATION


def _logic(node: n.Logic) -> tuple[str, int]:
    if node.word == "¬":
        return r"\lnot " + _tight(node.arguments[0], ATOM), POWER
    parts = [f"({latex(a)})" if isinstance(a, n.Logic) and a.word != "¬" else latex(a) for a in node.arguments]
    return f" {_WORDS[node.word]} ".join(parts), RELATION


def _cases(node: n.Cases) -> tuple[str, int]:
    rows = [rf"{latex(value)} & {latex(condition)}" for value, condition in node.rows]
    body = r" \\ ".join([*rows, rf"{latex(node.other)} & \text{{otherwise}}"])
    return rf"\begin{{cases}} {body} \end{{cases}}", CASES


_METHODS: dict[type[n.Node], Callable[..., tuple[str, int]]] = {
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
