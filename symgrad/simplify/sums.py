"""Sums: loop invariants hoisted, sums that exist already recognised, the rest cancelled by algebra.

A sum over r of a body is split into terms c * p with c free of r; sum_r p is looked up among the sums of the
graph. This finds, without being told, that the gradient through the shift of a stable softmax is zero:
sum_j e_ij/S_i is S_i/S_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, Definition, define
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands, substitute

MAX_OPERATIONS = 200

Key = tuple[Definition, tuple[str, ...], str]


def simplify_sums(system: System) -> System:
    """Rewrite sums over adjoints where that leaves at most one new sum each."""
    result = system.copy()
    result.equations = {}
    known: dict[Key, str] = {}
    inlined: dict[str, Equation] = {}
    for e in system:
        for made in _rewritten(system, result, e, known, inlined):
            result.add(made)
            if _is_sum(made):
                known.setdefault(made.key, made.name)
            if made.adjoint_of and made.definition.elementwise:
                inlined[made.name] = _collected(substitute(result, made, inlined))
                result.equations[made.name] = _shorter(made, inlined[made.name])
    return result


def _is_sum(e: Equation) -> bool:
    d = e.definition
    return d.reduction == "sum" and d.gathers and bool(d.reduced)


def _collected(e: Equation) -> Equation:
    """Its body as an expanded sum, in which equal terms have met and cancelled."""
    if sp.count_ops(e.definition.body) > MAX_OPERATIONS or e.definition.body.has(sp.Piecewise):
        return e
    expanded = sp.expand_mul(e.definition.body)
    return equation(
        e.name,
        define(e.definition.loops, e.definition.shape, e.definition.write, expanded),
        e.operands,
        dtype=e.dtype,
        origin=e.origin,
        adjoint_of=e.adjoint_of,
    )


def _shorter(made: Equation, collected: Equation) -> Equation:
    """The collected form where it is simpler: a constant."""
    return collected if not collected.definition.body.has(At) else made


def _rewritten(
    system: System, result: System, e: Equation, known: dict[Key, str], inlined: dict[str, Equation]
) -> list[Equation]:
    """e, or what replaces it: perhaps a new sum, then e as an elementwise equation."""
    if not _is_sum(e) or not e.adjoint_of or e.key in known:
        return [e]
    opened = substitute(result, e, {k: v for k, v in inlined.items() if k in e.operands})
    if sp.count_ops(opened.definition.body) > MAX_OPERATIONS:
        return [e]
    split = _Split(result, opened, known)
    terms = [split.term(t) for t in sp.Add.make_args(sp.expand_mul(opened.definition.body))]
    if len(split.new) > 1 or split.useless(len(terms)):
        return [e]
    d = e.definition
    kept = [(i, n) for i, n in d.loops if i in d.write]
    name = free_name(e.name + "_sum", {*system.equations, *result.equations, *result.leaves})
    new = [Equation(name, key[0], key[1], key[2], e.origin, e.adjoint_of) for key in split.new]
    body = sp.Add(*terms).xreplace({m: split.reference(m, name) for m in split.markers})
    made = equation(
        e.name,
        define(kept, d.shape, d.write, body),
        split.operands.names,
        dtype=e.dtype,
        origin=e.origin,
        adjoint_of=e.adjoint_of,
    )
    return [*new, made]


@dataclass(frozen=True)
class _Found:
    key: Key
    index: tuple[Symbol, ...]
    name: str | None


class _Split:
    """The terms of one sum, each as a factor times a sum that is known or new."""

    def __init__(self, result: System, e: Equation, known: dict[Key, str]) -> None:
        self.e, self.known = e, known
        self.operands = Operands(e.operands)
        self.reduced = dict(e.definition.reduced)
        self.markers: dict[Symbol, _Found] = {}
        self.new: list[Key] = []
        self.hoisted = False

    def term(self, term: Expr) -> Expr:
        bound = set(self.reduced)
        factors = sp.Mul.make_args(term)
        inner = sp.Mul(*(f for f in factors if f.free_symbols & bound))
        outer = sp.Mul(*(f for f in factors if not f.free_symbols & bound))
        used = inner.free_symbols & bound
        count = sp.Mul(*(n for i, n in self.reduced.items() if i not in used))
        self.hoisted |= outer.has(At) or count != 1
        if not used:
            return outer * count
        return outer * count * self._sum(inner)

    def _sum(self, inner: Expr) -> Symbol:
        d = self.e.definition
        kept = tuple(i for i, _ in d.loops if i in inner.free_symbols and i not in self.reduced)
        bound = [i for i in self.reduced if i in inner.free_symbols]
        sizes = [d.extents[i] for i in kept]
        loops = [(i, d.extents[i]) for i in (*kept, *bound)]
        made = equation("", define(loops, sizes, kept, inner), self.e.operands)
        key = made.key
        name = self.known.get(key)
        if name is None and key not in self.new:
            self.new.append(key)
        marker = sp.Symbol(f"sum {len(self.markers)}", real=True)
        self.markers[marker] = _Found(key, kept, name)
        return marker

    def useless(self, terms: int) -> bool:
        """Nothing was hoisted or recognised: the sum stays as it is."""
        return bool(self.new) and not self.hoisted and all(f.name is None for f in self.markers.values())

    def reference(self, marker: Symbol, new_name: str) -> At:
        found = self.markers[marker]
        return At(self.operands.number(found.name or new_name), found.index)


