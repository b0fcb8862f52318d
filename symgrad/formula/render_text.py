"""Notation trees as Unicode text, with no more parentheses than precedence asks for."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp
from sympy import Expr

from symgrad.formula import notation as n
from symgrad.formula.numbers import fraction, number_parts
from symgrad.formula.symbols import Style, subscript, superscript

CASES, RELATION, SUM, REDUCE, SCALED, ENTRYWISE, PRODUCT, POWER, ATOM = range(9)
_NAMES = {"sum": "Σ", "prod": "Π", "max": "max", "min": "min"}
_NORMS = {"1": "₁", "2": "₂", "F": "_F", "inf": "_∞", "*": "_*"}


def text(node: n.Node) -> str:
    """The node as text."""
    return _render(node)[0]


def _render(node: n.Node) -> tuple[str, int]:
    return _METHODS[type(node)](node)


def _tight(node: n.Node, level: int) -> str:
    """The node, in parentheses if it binds less tightly than `level`."""
    written, own = _render(node)
    return written if own >= level else f"({written})"


def _atom(node: n.Atom) -> tuple[str, int]:
    return node.text, ATOM


def _constant(node: n.Constant) -> tuple[str, int]:
    return constant(node.value)


def constant(value: Expr) -> tuple[str, int]:
    """A number, or an expression of numbers and dimensions, with its precedence."""
    if value.is_Number:
        return _number(value)
    if isinstance(value, sp.Symbol):
        return Style.of(str(value)).text, ATOM
    if value.is_Add:
        return _constant_sum(value), SUM
    if value.could_extract_minus_sign():
        return "−" + _tight(n.Constant(-value), REDUCE), SUM
    above, below = fraction(value)
    if below != 1:
        return f"{_tight(n.Constant(above), POWER)}/{_tight(n.Constant(below), POWER)}", SCALED
    if value.is_Mul:
        numbers_first = sorted(value.args, key=lambda f: (not f.is_Number, sp.default_sort_key(f)))
        return " ".join(_tight(n.Constant(f), POWER) for f in numbers_first), PRODUCT
    return _constant_atom(value)


def _number(value: Expr) -> tuple[str, int]:
    above, below = number_parts(value)
    written = (f"{above}/{below}" if below else above).replace("inf", "∞")
    return ("−" + written, SUM) if value.is_negative else (written, SCALED if below else ATOM)


def _constant_sum(value: Expr) -> str:
    terms = sorted(value.args, key=lambda t: (t.is_Number, t.could_extract_minus_sign(), sp.default_sort_key(t)))
    written = _tight(n.Constant(terms[0]), SUM)
    for term in terms[1:]:
        negative = term.could_extract_minus_sign()
        written += (" − " if negative else " + ") + _tight(n.Constant(-term if negative else term), REDUCE)
    return written


def _constant_atom(value: Expr) -> tuple[str, int]:
    if value == sp.pi:
        return "π", ATOM
    if value == sp.E:
        return "e", ATOM
    if isinstance(value, sp.floor):
        return f"⌊{constant(value.args[0])[0]}⌋", ATOM
    if isinstance(value, sp.Pow) and not isinstance(value, sp.exp):
        base, power = value.as_base_exp()
        if power == sp.Rational(1, 2):
            return f"√{_tight(n.Constant(base), ATOM)}", POWER
        return _power(n.Power(n.Constant(base), n.Constant(power)))
    if value.args:
        inside = ", ".join(constant(a)[0] for a in value.args)
        return f"{type(value).__name__}({inside})", ATOM
    return str(value), ATOM


def _scaled(node: n.Scaled) -> tuple[str, int]:
    if isinstance(node.body, n.Quotient) and (node.body.mark == "/" or node.body.above == n.ONE):
        above, below = fraction(node.value)
        top = n.scaled(above, node.body.above)
        return _quotient(n.Quotient(top, n.scaled(below, node.body.below), node.body.mark))
    body = _tight(node.body, REDUCE)
    dot = "· " if body[0].isdigit() else ""
    return f"{_tight(n.Constant(node.value), SCALED)} {dot}{body}", SCALED


def _product(node: n.Product) -> tuple[str, int]:
    *front, last = node.factors
    written = [_tight(f, POWER) for f in front]
    last_level = REDUCE if isinstance(last, n.Reduce) else POWER
    return " ".join([*written, _tight(last, last_level)]), REDUCE if last_level == REDUCE else PRODUCT


def _hadamard(node: n.Hadamard) -> tuple[str, int]:
    return " ⊙ ".join(_tight(f, POWER) for f in node.factors), ENTRYWISE


def _quotient(node: n.Quotient) -> tuple[str, int]:
    level = POWER if node.mark == "⊘" else SCALED
    return f"{_tight(node.above, level)} {node.mark} {_tight(node.below, POWER)}", ENTRYWISE


def _sum(node: n.Sum) -> tuple[str, int]:
    written = ""
    for k, (negative, term) in enumerate(node.terms):
        sign = ("−" if negative else "") if k == 0 else (" − " if negative else " + ")
        written += sign + _tight(term, REDUCE)
    return written, SUM


def _power(node: n.Power) -> tuple[str, int]:
    scripted = isinstance(node.base, n.Atom) and node.base.scripted
    base = f"({text(node.base)})" if scripted else _tight(node.base, ATOM)
    exponent = node.exponent.value if isinstance(node.exponent, n.Constant) else None
    if exponent is not None and exponent.is_Integer and exponent >= 0:
        return base + superscript(str(exponent)), POWER
    return f"{base}^{_tight(node.exponent, ATOM)}", POWER


def _transposed(node: n.Transposed) -> tuple[str, int]:
    if isinstance(node.base, n.Inverse):
        return _tight(node.base.base, ATOM) + "⁻ᵀ", POWER
    scripted = isinstance(node.base, n.Atom) and node.base.scripted
    return (f"({text(node.base)})" if scripted else _tight(node.base, ATOM)) + "ᵀ", POWER


def _inverse(node: n.Inverse) -> tuple[str, int]:
    scripted = isinstance(node.base, n.Atom) and node.base.scripted
    return (f"({text(node.base)})" if scripted else _tight(node.base, ATOM)) + "⁻¹", POWER


def _norm(node: n.Norm) -> tuple[str, int]:
    return f"‖{text(node.body)}‖{_NORMS.get(node.order) or '_' + node.order}", ATOM


def _kronecker(node: n.Kronecker) -> tuple[str, int]:
    return " ⊗ ".join(_tight(f, POWER) for f in node.factors), ENTRYWISE


def _call(node: n.Call) -> tuple[str, int]:
    inside = ", ".join(map(text, node.arguments))
    if node.text in ("|", "⌊"):
        return node.text + inside + {"|": "|", "⌊": "⌋"}[node.text], ATOM
    return f"{node.text}({inside})", ATOM


def _reduce(node: n.Reduce) -> tuple[str, int]:
    below = subscript(node.letters) if node.letters else ""
    if node.condition is not None:
        below = f"_{{{','.join(node.letters)} : {text(node.condition)}}}"
    return f"{_NAMES[node.kind]}{below} {_tight(node.body, body_level(node))}", REDUCE


def body_level(node: n.Reduce) -> int:
    """Products entry by entry stand in parentheses, for ⊙ looks looser than Σ."""
    entrywise = isinstance(node.body, n.Hadamard) or (isinstance(node.body, n.Quotient) and node.body.mark == "⊘")
    return PRODUCT if entrywise else REDUCE


def _indicator(node: n.Indicator) -> tuple[str, int]:
    return f"[{text(node.condition)}]", ATOM


def _relation(node: n.Relation) -> tuple[str, int]:
    return f"{_tight(node.left, SUM)} {node.sign} {_tight(node.right, SUM)}", RELATION


def _logic(node: n.Logic) -> tuple[str, int]:
    if node.word == "¬":
        return "¬" + _tight(node.arguments[0], ATOM), POWER
    parts = [f"({text(a)})" if isinstance(a, n.Logic) and a.word != "¬" else text(a) for a in node.arguments]
    return f" {node.word} ".join(parts), RELATION


def _cases(node: n.Cases) -> tuple[str, int]:
    rows = [f"{_tight(value, RELATION)} if {_tight(condition, RELATION)} else " for value, condition in node.rows]
    return "".join(rows) + _tight(node.other, RELATION), CASES


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
