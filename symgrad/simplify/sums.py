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

MAX_OPERATIONS = 80

Key = tuple[Definition, tuple[str, ...], str]


def simplify_sums(system: System) -> System:
    """Rewrite sums over adjoints where that leaves at most one new sum each."""
    return _Pass(system).run()


def _without_scale(e: Equation) -> tuple[Key, Expr]:
    """The sum without its numeric factor, and the factor."""
    d = e.definition
    scale, body = d.body.as_coeff_Mul()
    bare = equation("", define(d.loops, d.shape, d.write, body), e.operands, dtype=e.dtype)
    return bare.key, scale


def _is_sum(e: Equation) -> bool:
    d = e.definition
    return d.reduction == "sum" and d.gathers and bool(d.reduced)


class _Pass:
    """`known` are the sums that exist; `rewritten` the equations that no longer are one."""

    def __init__(self, system: System) -> None:
        self.system, self.result = system, system.copy()
        self.result.equations = {}
        self.known: dict[Key, tuple[str, Expr]] = {}
        self.rewritten: set[str] = set()
        self.sums_over: dict[str, list[frozenset[str]]] = {}  # first operand -> operands of the sums
        self.taken = {*system.leaves, *system.equations}
        self.reach: dict[str, frozenset[str]] = {}  # open equation -> what it reads when all is written out
        self.uneven: set[str] = set()  # open equations in which something lacks one of their loops

    def run(self) -> System:
        for e in self.system:
            for made in self._made(e):
                self.result.add(made)
                self._note(made)
                if _is_sum(made):
                    key, scale = _without_scale(made)
                    self.known.setdefault(key, (made.name, scale))
                    for first in key[1][:1]:
                        self.sums_over.setdefault(first, []).append(frozenset(key[1]))
        return self.result

    def _made(self, e: Equation) -> list[Equation]:
        """e, or what replaces it: perhaps a new sum, then e as an elementwise equation."""
        if _is_sum(e) and e.adjoint_of and _without_scale(e)[0] not in self.known:
            return self._summed(e)
        if e.definition.elementwise and self.rewritten.intersection(e.operands):
            return [self._cancelled(e)]
        return [e]

    def _note(self, e: Equation) -> None:
        """What opening e would show, so that it need not be opened to find out."""
        if not self._is_open(e.name):
            return
        loops = {i for i, _ in e.definition.loops}
        self.reach[e.name] = self._written_out(e)
        if self.uneven.intersection(e.operands) or any(not loops <= at.free_symbols for at in e.definition.accesses):
            self.uneven.add(e.name)

    def _hopeless(self, e: Equation) -> bool:
        """Whether e with its operands written out cannot be promising."""
        bound = {i for i, _ in e.definition.reduced}
        if self.uneven.intersection(e.operands) or any(not bound <= at.free_symbols for at in e.definition.accesses):
            return False
        reach = self._written_out(e)
        return not any(names <= reach for k in reach for names in self.sums_over.get(k, ()))

    def _written_out(self, e: Equation) -> frozenset[str]:
        """The operands of e, those that can be opened replaced by what they read in the end."""
        kept = frozenset(k for k in e.operands if k not in self.reach)
        return kept.union(*(self.reach[k] for k in e.operands if k in self.reach))

    def _summed(self, e: Equation) -> list[Equation]:
        if self._hopeless(e):
            return [e]
        openings = self._openings(e)
        for opened in reversed(openings):
            found = self._split(opened)
            if found is not None and not (found[0].new and opened in openings[1:-1]):
                break
        else:
            return [e]
        split, terms = found
        name = free_name(e.name + "_sum", self.taken)
        self.taken.add(name)
        new = [Equation(name, key[0], key[1], key[2], e.origin, e.adjoint_of) for key in split.new]
        body = sp.Add(*terms).xreplace({m: split.reference(m, name) for m in split.markers})
        self.rewritten.add(e.name)
        return [*new, _elementwise(e, body, split.operands)]

    def _split(self, opened: Equation) -> tuple[_Split, list[Expr]] | None:
        """The terms of a sum, if something is hoisted or recognised, and at most one sum is new."""
        if not self._promising(opened):
            return None
        split = _Split(opened, self.known)
        terms = [split.term(t) for t in sp.Add.make_args(sp.expand_mul(opened.definition.body))]
        return None if len(split.new) > 1 or split.useless() else (split, terms)

    def _openings(self, e: Equation) -> list[Equation]:
        """e, and e with the elementwise adjoints that it reads written out, one after another while it stays small."""
        made = [e]
        while sp.count_ops(made[-1].definition.body) <= MAX_OPERATIONS:
            sources = {k: self.result.equations[k] for k in made[-1].operands if self._is_open(k)}
            opened = substitute(self.result, made[-1], sources)
            if opened is made[-1]:
                break
            made.append(opened)
        return made

    def _is_open(self, name: str) -> bool:
        e = self.result.equations.get(name)
        return e is not None and bool(e.adjoint_of) and e.definition.elementwise

    def _promising(self, e: Equation) -> bool:
        """Whether something does not depend on a bound loop, or a sum over what e reads is known."""
        bound = {i for i, _ in e.definition.reduced}
        invariant = any(not bound <= at.free_symbols for at in e.definition.accesses)
        operands = set(e.operands)
        return invariant or any(names <= operands for k in e.operands for names in self.sums_over.get(k, ()))

    def _cancelled(self, e: Equation) -> Equation:
        """e, as a constant if the terms that it adds up to cancel."""
        opened = self._openings(e)[-1]
        body = opened.definition.body
        if body.has(sp.Piecewise):
            return e
        body = sp.expand_mul(body)
        if body.has(At):
            self.rewritten.add(e.name)
            return e
        return _elementwise(e, body, Operands(()))


def _elementwise(e: Equation, body: Expr, operands: Operands) -> Equation:
    """An equation of e's name and shape with no reduced loops."""
    d = e.definition
    kept = [(i, n) for i, n in d.loops if i in d.write]
    made = define(kept, d.shape, d.write, body)
    return equation(e.name, made, operands.names, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)


@dataclass(frozen=True)
class _Found:
    key: Key
    index: tuple[Symbol, ...]
    name: str | None
    scale: Expr


class _Split:
    """The terms of one sum, each as a factor times a sum that is known or new."""

    def __init__(self, e: Equation, known: dict[Key, tuple[str, Expr]]) -> None:
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
        name, scale = self.known.get(key, (None, sp.Integer(1)))
        if name is None and key not in self.new:
            self.new.append(key)
        marker = sp.Symbol(f"sum {len(self.markers)}", real=True)
        self.markers[marker] = _Found(key, kept, name, scale)
        return marker

    def useless(self) -> bool:
        """Nothing was hoisted or recognised: the sum stays as it is."""
        return bool(self.new) and not self.hoisted and all(f.name is None for f in self.markers.values())

    def reference(self, marker: Symbol, new_name: str) -> Expr:
        found = self.markers[marker]
        return At(self.operands.number(found.name or new_name), found.index) / found.scale
