"""The normal form of tensor expressions: the same expression, however its author named and ordered things.

An expression is a SymPy scalar over elements of named tensors, Kronecker deltas and sums,

    Element(X, (i, k)) * Element(Y, (k, j)),   Delta(i, j),   Reduction("sum", body, loops)

and the rules, each an identity over the reals, are

    split      Σ (a + b) = Σ a + Σ b
    contract   Σ_k δ_ik a_k = a_i            where k reaches every i; see `ranges`
    brackets   [c and d] = [c] [d],   [c]² = [c]
    merge      Σ_j a_j Σ_k b_jk = Σ_jk a_j b_jk
    hoist      Σ_j c a_j = c Σ_j a_j          a factor that no bound index ties to the others is moved out
    count      Σ_j 1 = n
    numbers    (2 a - 2 b) c = 2 (a - b) c
    sign       u sign(u) = |u|,   |u| sign(u) = u,   sign(u)/|u| = 1/u
    powers     u**a / u = u**(a - 1),   sinh(u)/cosh(u) = tanh(u)
    exponents  exp(a + b) = exp(a) exp(b),   log(exp(a) b) = a + log(b)
    cancel     Σ_k A⁻¹_ik A_kj = δ_ij
    whole      Σ_j s_ij = 1                  for tensors that are known to be normalised
    rename     bound indices are numbered in an order that the body alone decides

SymPy's own normal form of sums, products and powers does the rest: with Σ_j exp(z_ij) written one way only,
S_i / S_i is 1. `normal` leaves products of sums as they stand; `expanded` multiplies them out as well, so that
equal polynomials become equal expressions.
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.algebra.contracting import applied, components, contracted
from symgrad.algebra.delta import Delta, deltas
from symgrad.algebra.factors import (
    bracketed,
    factors_of,
    gathered,
    is_finite,
    logarithm,
    multiplied_out,
    numbers_in_front,
    without_powers_of_brackets,
    without_signs,
)
from symgrad.algebra.inverses import NOTHING, Facts, without_inverses
from symgrad.algebra.naming import Loops, fresh, in_order, opened, renamed
from symgrad.algebra.ranges import decided
from symgrad.formula.indexed import Element, Reduction


def normal(expr: Expr, facts: Facts = NOTHING) -> Expr:
    """The normal form, products of sums left as they stand."""
    return _Normaliser(facts, expand=False)(expr)


def expanded(expr: Expr, facts: Facts = NOTHING) -> Expr:
    """The normal form with products of sums multiplied out."""
    return _Normaliser(facts, expand=True)(expr)


class _Normaliser:
    """One pass over an expression, inner parts first."""

    def __init__(self, facts: Facts, expand: bool) -> None:
        self.facts, self.expand = facts, expand
        self.done: dict[Expr, Expr] = {}

    def __call__(self, expr: Expr) -> Expr:
        if expr not in self.done:
            self.done[expr] = self._made(expr)
        return self.done[expr]

    def _made(self, expr: Expr) -> Expr:
        if isinstance(expr, Element):
            return in_order(expr, self.facts.symmetric)
        if isinstance(expr, Reduction):
            return self._reduction(expr)
        if not expr.args or isinstance(expr, Delta):
            return expr
        if isinstance(expr, sp.Piecewise):
            return self._choice(expr)
        made = expr.func(*map(self, expr.args))
        if isinstance(made, sp.log):
            return logarithm(made)
        if isinstance(made, sp.exp):
            return sp.Mul(*(sp.exp(term) for term in sp.Add.make_args(made.args[0])))
        return self._product(made) if isinstance(made, sp.Mul | sp.Pow) else made

    def _choice(self, expr: sp.Piecewise) -> Expr:
        rows = [(self(value), condition.xreplace(self._inside(condition))) for value, condition in expr.args]
        if len(rows) == 2 and rows[1][1] == sp.true:
            (value, condition), (other, _) = rows
            found = deltas(condition)
            if found is not None:
                equal, rest = found
                inner = value if rest == sp.true else sp.Piecewise((value, rest), (other, True))
                return self(equal * (inner - other) + other) if other != 0 else self(equal * inner)
            if other == 0 and not condition.has(Element) and is_finite(value):
                return self._product(value * bracketed(condition))
        return sp.Piecewise(*rows)

    def _inside(self, condition: Expr) -> dict[Expr, Expr]:
        """Comparison -> the same of normal forms."""
        parts = condition.atoms(sp.core.relational.Relational)
        return {part: part.func(self(part.lhs), self(part.rhs)) for part in parts}

    def _product(self, expr: Expr) -> Expr:
        """A product, multiplied out where deltas or the mode ask for it, its deltas applied."""
        if self.expand or any(isinstance(f, sp.Add) and f.has(Delta) for f in expr.args):
            multiplied = multiplied_out(expr)
            if isinstance(multiplied, sp.Add):
                return sp.Add(*(self._product(term) for term in multiplied.args))
            expr = multiplied
        if expr.has(sp.sign):
            expr = without_signs(expr)
        expr = gathered(numbers_in_front(expr))
        expr = applied(expr) if expr.has(Delta) else expr
        return without_powers_of_brackets(expr) if expr.has(sp.Piecewise) else expr

    def _reduction(self, expr: Reduction) -> Expr:
        names = fresh(expr)
        body, condition = self(expr.body.xreplace(names)), expr.condition.xreplace(names)
        loops = {names[i]: n for i, n in expr.loops}
        if expr.kind != "sum":
            condition = condition.xreplace(self._inside(condition))
            return renamed(expr.kind, body, loops, condition, self.facts.symmetric)
        if condition != sp.true:
            body = self(sp.Piecewise((body, condition), (0, True)))
        return self.total(body, loops)

    def total(self, body: Expr, loops: Loops) -> Expr:
        """The sum of a normal body over loops whose symbols occur nowhere else."""
        if self.expand:
            body = multiplied_out(body)
        return sp.Add(*(self._term(factors_of(term), dict(loops)) for term in sp.Add.make_args(body)))

    def _term(self, factors: list[Expr], loops: dict[Symbol, Expr]) -> Expr:
        factors, loops = self._merged(*contracted(factors, loops))
        factors = [decided(f, loops) for f in factors]
        cancelled = without_inverses(factors, loops, self.facts)
        if cancelled is not None:
            return self._term(*cancelled)
        parts: list[Expr] = []
        for group, bound in components(factors, loops):
            if not bound:
                parts.append(sp.Mul(*group))
            elif not group:
                parts.append(sp.Mul(*bound.values()))
            elif self._is_whole(group, bound):
                continue
            else:
                parts.append(self._component(sp.Mul(*group), bound))
        return self._product(sp.Mul(*parts))

    def _is_whole(self, group: list[Expr], bound: Loops) -> bool:
        """Σ_j s_ij = 1 for a tensor that is known to be so."""
        if len(group) != 1 or len(bound) != 1 or not isinstance(group[0], Element):
            return False
        axes = [(axis, bound[i]) for axis, i in enumerate(group[0].index) if i in bound]
        return len(axes) == 1 and (group[0].name, *axes[0]) in self.facts.normalised

    def _component(self, body: Expr, loops: Loops) -> Expr:
        body = self._product(body)
        if isinstance(body, sp.Add):
            return self.total(body, loops)
        again = dict(contracted(factors_of(body), dict(loops))[1])
        return renamed("sum", body, loops, sp.true, self.facts.symmetric) if again == loops else self.total(body, loops)

    def _merged(self, factors: list[Expr], loops: dict[Symbol, Expr]) -> tuple[list[Expr], dict[Symbol, Expr]]:
        """Sums that share a bound index with this one, opened into it."""
        pending, flat, within = list(factors), [], dict(loops)
        while pending:
            factor = pending.pop()
            base, power = factor.as_base_exp() if self.expand else (factor, Integer(1))
            shares = isinstance(base, Reduction) and base.kind == "sum" and base.free_symbols & within.keys()
            if not shares or not (power.is_Integer and power > 0):
                flat.append(factor)
                continue
            for _ in range(int(power)):
                body, more = opened(base)
                pending += factors_of(body)
                within |= more
        return (factors, loops) if within == loops else contracted(flat, within)
