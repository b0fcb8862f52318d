"""Formulas as SymPy objects: Indexed elements, Sum and Product over symbolic ranges.

Tensors are IndexedBase objects named as in the derived graph, so that one can put numbers for them. Reading
outside a tensor gives 0, which a Choice says wherever it can happen. Piecewise will not do: `Sum` takes it
apart, and moves conditions out of the inner of two nested sums although they depend on its index.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.formula.functions import VARIABLE
from symgrad.formula.indexed import Applied, Element, Reduction, Solved, name_indices
from symgrad.formula.plan import Plan
from symgrad.index.bounds import within


class Extremum(Expr):  # type: ignore[misc]
    """The maximum or minimum of an expression over ranges; `.doit()` writes it out once they are numbers."""

    is_commutative = True
    is_real = True

    def __new__(cls, kind: Expr, body: Expr, condition: Expr, *ranges: Expr) -> Extremum:
        made: Extremum = Expr.__new__(cls, kind, body, condition, *(sp.Tuple(*r) for r in ranges))
        return made

    def doit(self, **hints: object) -> Expr:
        kind, body, condition, *ranges = self.args
        if not all(r[1].is_Integer and r[2].is_Integer for r in ranges):
            return self
        values = [(body, condition)]
        for index, low, high in ranges:
            points = range(int(low), int(high) + 1)
            values = [(b.subs(index, k), sp.sympify(c).subs(index, k)) for b, c in values for k in points]
        return getattr(sp, str(kind))(*(b.doit(**hints) for b, c in values if c == sp.true))


class Choice(Expr):  # type: ignore[misc]
    """`yes` where the condition holds, else `no`; one of the two as soon as the condition is decided."""

    is_commutative = True
    is_real = True

    def __new__(cls, condition: Expr, yes: Expr, no: Expr) -> Expr:
        decided = {sp.true: yes, sp.false: no}
        return decided[condition] if condition in decided else Expr.__new__(cls, condition, yes, no)


class SympyForm:
    """Turns the lines of a plan into SymPy equations."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.bases: dict[str, sp.IndexedBase] = {}

    def equation(self, name: str) -> sp.Eq:
        """name[i, j] = value, the indices named as in `.indexed`."""
        heads, body = self.plan.template(name)
        shape = self.plan.system.shape(name)
        names, extents = name_indices(heads, shape, body, self.plan.setting.letters)
        symbols = {old: Symbol(letter, integer=True, nonnegative=True) for old, letter in names.items()}
        value = self._converted(body, extents).xreplace(symbols)
        return sp.Eq(self._element(name, [symbols[h] for h in heads]), value, evaluate=False)

    def definitions(self, name: str) -> tuple[sp.Eq, ...]:
        """The equations that `name` needs, operands first."""
        plan = self.plan
        needed = plan.system.needed_for([name])
        order = [n for n in plan.system.equations if n in needed and n in plan.shown]
        return tuple(self.equation(n) for n in order)

    def _element(self, name: str, index: Sequence[Expr]) -> Expr:
        if name not in self.bases:
            shape = self.plan.system.shape(name)
            kind = {"integer": True} if self.plan.system.dtype(name) == "int64" else {"real": True}
            label = Symbol(name, **kind)
            self.bases[name] = sp.IndexedBase(label, shape=tuple(shape)) if shape else label
        base = self.bases[name]
        return base if isinstance(base, Symbol) else sp.Indexed(base, *index)

    def _converted(self, expr: Expr, extents: dict[Symbol, Expr]) -> Expr:
        """Elements, reductions and functions in SymPy's terms."""
        if isinstance(expr, Element):
            return self._read(expr, extents)
        if isinstance(expr, Reduction):
            return self._reduced(expr, extents)
        if isinstance(expr, Solved):
            whole = Symbol(expr.written.format(*expr.operands), real=True)
            return sp.Indexed(sp.IndexedBase(whole), *expr.index) if expr.index else whole
        if isinstance(expr, Applied):
            functions = self.plan.functions
            body = functions.derivative(expr.function) if expr.order else functions.bodies[expr.function]
            return self._converted(body, extents).xreplace({VARIABLE: self._converted(expr.argument, extents)})
        if isinstance(expr, sp.Piecewise):
            return self._cases(expr, extents)
        if not expr.args or not expr.has(Element, Reduction, Solved, Applied, sp.Piecewise):
            return expr
        return expr.func(*(self._converted(a, extents) for a in expr.args))

    def _cases(self, expr: Expr, extents: dict[Symbol, Expr]) -> Expr:
        chosen: Expr = sp.Integer(0)
        for value, condition in reversed(expr.args):
            test = self._converted(condition, extents)
            chosen = Choice(test, self._converted(value, extents), chosen)
        return chosen

    def _read(self, element: Element, extents: dict[Symbol, Expr]) -> Expr:
        shape = tuple(self.plan.system.shape(element.name))
        sizes = shape if element.view is None else element.view
        index = [self._converted(e, extents) for e in element.index]
        conditions = []
        for e, raw, n in zip(index, element.index, sizes, strict=True):
            if raw.has(Element) or not within(raw, extents, n):
                conditions += [e >= 0, e < n]
        if element.view is not None:
            index = _unravelled(_ravelled(index, sizes), shape)
        value = self._element(element.name, index)
        conditions = [c for c in conditions if c != sp.true]
        return Choice(sp.And(*conditions), value, sp.Integer(0)) if conditions else value

    def _reduced(self, expr: Reduction, extents: dict[Symbol, Expr]) -> Expr:
        body = self._converted(expr.body, extents)
        ranges = [(i, 0, n - 1) for i, n in expr.loops]
        if expr.kind in ("sum", "prod"):
            return {"sum": sp.Sum, "prod": sp.Product}[expr.kind](body, *ranges)
        condition = self._converted(expr.condition, extents) if expr.condition != sp.true else sp.true
        return Extremum(Symbol({"max": "Max", "min": "Min"}[expr.kind]), body, condition, *ranges)


def _ravelled(index: Sequence[Expr], sizes: Sequence[Expr]) -> Expr:
    """The place of an element in row-major order."""
    place: Expr = sp.Integer(0)
    for e, n in zip(index, sizes, strict=True):
        place = place * n + e
    return place


def _unravelled(place: Expr, shape: Sequence[Expr]) -> list[Expr]:
    found: list[Expr] = []
    for n in reversed(shape):
        found.append(sp.Mod(place, n) if n != 0 else sp.Integer(0))
        place = sp.floor(place / n) if n != 0 else sp.Integer(0)
    return found[::-1]
