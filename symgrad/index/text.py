"""Definitions as text in the grammar that `parser` reads: what `parse` returns, this prints back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import sympy as sp
from sympy import Expr

from symgrad.index.definition import At, Definition
from symgrad.index.functions import FUNCTIONS, Defined
from symgrad.index.solution import Solution

PRECEDENCE = {
    "or": 1,
    "and": 2,
    "not": 3,
    "relation": 4,
    "sum": 5,
    "product": 6,
    "sign": 7,
    "power": 8,
    "atom": 9,
}
_CALLS: dict[type[Expr], str] = {
    sp.exp: "exp",
    sp.log: "log",
    sp.Abs: "abs",
    sp.Max: "maximum",
    sp.Min: "minimum",
    sp.Heaviside: "heaviside",
} | {f: name for name, (_, f) in FUNCTIONS.items() if isinstance(f, type)}
_RELATIONS: dict[type[Expr], str] = {
    sp.Eq: "==",
    sp.Ne: "!=",
    sp.StrictLessThan: "<",
    sp.LessThan: "<=",
    sp.StrictGreaterThan: ">",
    sp.GreaterThan: ">=",
}


def number_text(value: sp.Number) -> str:
    """An exact number: decimal where that is exact and short, else a fraction."""
    if value in (sp.oo, -sp.oo):
        return "inf" if value == sp.oo else "-inf"
    if value.is_Integer:
        return str(value)
    fraction = Fraction(int(value.p), int(value.q))
    decimal = repr(float(fraction))
    return decimal if Fraction(decimal) == fraction else f"{value.p}/{value.q}"


class TextPrinter:
    """Prints one scalar expression; `access` says how an At is written."""

    def __init__(self, access: Callable[[At], str]) -> None:
        self.access = access

    def __call__(self, expr: Expr) -> str:
        return self._print(expr)[0]

    def _print(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, At):
            return self.access(expr), PRECEDENCE["atom"]
        for kind, method in self._methods:
            if isinstance(expr, kind):
                result: tuple[str, int] = getattr(self, method.__name__)(expr)
                return result
        raise TypeError(f"no text for {type(expr).__name__}: {expr}")

    def _tight(self, expr: Expr, level: str) -> str:
        """`expr` in parentheses if it binds less tightly than `level`."""
        text, precedence = self._print(expr)
        return text if precedence >= PRECEDENCE[level] else f"({text})"

    def _number(self, expr: Expr) -> tuple[str, int]:
        text = number_text(expr)
        return text, PRECEDENCE["sign" if text[0] == "-" else "product" if "/" in text else "atom"]

    def _symbol(self, expr: Expr) -> tuple[str, int]:
        return "exp(1)" if expr == sp.E else str(expr), PRECEDENCE["atom"]

    def _ordered(self, terms: Iterable[Expr]) -> list[Expr]:
        """The terms of a sum as they are written: what is subtracted, and numbers, last."""
        return sorted(terms, key=lambda t: (t.could_extract_minus_sign(), t.is_number, sp.default_sort_key(t)))

    def _add(self, expr: Expr) -> tuple[str, int]:
        terms = self._ordered(expr.args)
        text = self._tight(terms[0], "sum")
        for term in terms[1:]:
            if term.could_extract_minus_sign() and not term.is_Add:
                text += " - " + self._tight(-term, "product")
            else:
                text += " + " + self._tight(term, "sum")
        return text, PRECEDENCE["sum"]

    def _mul(self, expr: Expr) -> tuple[str, int]:
        if expr.could_extract_minus_sign():
            return "-" + self._tight(-expr, "product"), PRECEDENCE["sign"]
        above, below = [], []
        for factor in expr.as_ordered_factors():
            base, power = factor.as_base_exp()
            if power.is_Rational and power < 0 and not isinstance(factor, sp.exp):
                below.append(base**-power)
            elif factor.is_Rational and factor.q != 1 and number_text(factor) != repr(float(factor)):
                above += [sp.Integer(factor.p)] if factor.p != 1 else []
                below.append(sp.Integer(factor.q))
            else:
                above.append(factor)
        text = "*".join(self._tight(f, "power") for f in above) or "1"
        if len(below) == 1:
            text += "/" + self._tight(below[0], "power")
        elif below:
            text += "/(" + "*".join(self._tight(f, "power") for f in below) + ")"
        return text, PRECEDENCE["product"]

    def _pow(self, expr: Expr) -> tuple[str, int]:
        base, power = expr.as_base_exp()
        if power == sp.Rational(1, 2):
            return f"sqrt({self(base)})", PRECEDENCE["atom"]
        if power.is_Rational and power < 0:
            return "1/" + self._tight(base**-power, "power"), PRECEDENCE["product"]
        return f"{self._tight(base, 'atom')}**{self._tight(power, 'power')}", PRECEDENCE["power"]

    def _floor(self, expr: Expr) -> tuple[str, int]:
        above, below = sp.fraction(sp.together(expr.args[0]))
        return f"{self._tight(above, 'atom')}//{self._tight(below, 'atom')}", PRECEDENCE["product"]

    def _piecewise(self, expr: Expr) -> tuple[str, int]:
        (value, condition), *rest = expr.args
        if condition == sp.true or not rest:
            return self._print(value)
        other = sp.Piecewise(*rest, evaluate=False) if len(rest) > 1 else rest[0][0]
        return f"where({self(condition)}, {self(value)}, {self(other)})", PRECEDENCE["atom"]

    def _relation(self, expr: Expr) -> tuple[str, int]:
        sign = _RELATIONS[type(expr)]
        return f"{self._tight(expr.lhs, 'sum')} {sign} {self._tight(expr.rhs, 'sum')}", PRECEDENCE["relation"]

    def _logic(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, sp.Not):
            return "not " + self._tight(expr.args[0], "not"), PRECEDENCE["not"]
        word = "and" if isinstance(expr, sp.And) else "or"
        parts = sorted(expr.args, key=sp.default_sort_key)
        return f" {word} ".join(self._tight(p, "relation") for p in parts), PRECEDENCE[word]

    def _call(self, expr: Expr) -> tuple[str, int]:
        name = _CALLS[type(expr)]
        if name in ("maximum", "minimum"):
            arguments = [self(a) for a in sorted(expr.args, key=sp.default_sort_key)]
            text = arguments[-1]
            for argument in reversed(arguments[:-1]):
                text = f"{name}({argument}, {text})"
            return text, PRECEDENCE["atom"]
        return f"{name}({self(expr.args[0])})", PRECEDENCE["atom"]

    _methods: tuple[tuple[type | tuple[type, ...], Callable[[TextPrinter, Expr], tuple[str, int]]], ...] = (
        (sp.Number, _number),
        ((sp.Symbol, sp.NumberSymbol), _symbol),
        (sp.Add, _add),
        (sp.Mul, _mul),
        (sp.exp, _call),
        (sp.Pow, _pow),
        (sp.floor, _floor),
        (sp.Piecewise, _piecewise),
        (sp.core.relational.Relational, _relation),
        ((sp.And, sp.Or, sp.Not), _logic),
        ((sp.Function, sp.Max, sp.Min, Defined), _call),
    )


def expression_text(expr: Expr) -> str:
    """A dimension or index expression, such as `2*N + 1`."""
    return TextPrinter(lambda at: str(at))(expr)


def definition_text(
    definition: Definition,
    target: str,
    operands: Sequence[str],
    shapes: Sequence[Sequence[Expr]],
    boolean: bool = False,
) -> str:
    """One line of formula text, an extent spelled out where the operands' shapes would not tell it."""
    if isinstance(definition, Solution):
        return f"{target} = {solution_text(definition, operands)}"

    def access(at: At) -> str:
        view = "" if at.view is None else f".reshape({', '.join(map(expression_text, at.view))})"
        return f"{operands[at.operand]}{view}[{_index(printer, at.index)}]"

    printer = TextPrinter(access)
    told = _told(definition, shapes)
    axes = list(zip(definition.write, definition.shape, strict=True))
    head = [
        printer(w) if w in told and definition.extents[w] == n else f"{printer(w)}:{expression_text(n)}"
        for w, n in axes
    ]
    named = {w for w, n in axes if definition.extents.get(w) == n and definition.write.count(w) == 1}
    bound = [str(i) if i in told else f"({i}, {expression_text(n)})" for i, n in definition.loops if i not in named]
    condition = boolean and isinstance(definition.body, sp.Piecewise)
    body = printer(definition.body.args[0][1] if condition else definition.body)
    right = f"{definition.reduction}({', '.join([*bound, body])})" if bound else body
    return f"{target}[{', '.join(head) or '()'}] = {right}"


def solution_text(definition: Solution, operands: Sequence[str]) -> str:
    """The call of a kernel, such as solve(A.T, B)."""
    arguments = [operands[read.operand] + ".T" * read.transposed for read in definition.reads]
    return f"{definition.call}({', '.join(arguments)})"


def _told(definition: Definition, shapes: Sequence[Sequence[Expr]]) -> set[sp.Symbol]:
    """The loops that stand alone on some axis, and only on axes of their own extent."""
    seen: dict[sp.Symbol, set[Expr]] = {}
    for at in definition.body.atoms(At).union(*(w.atoms(At) for w in definition.write)):
        for e, n in zip(at.index, at.sizes(shapes[at.operand]), strict=True):
            if e in definition.extents:
                seen.setdefault(e, set()).add(n)
    return {i for i, sizes in seen.items() if sizes == {definition.extents[i]}}


def _index(printer: TextPrinter, index: Sequence[Expr]) -> str:
    return ", ".join(map(printer, index)) or "()"
