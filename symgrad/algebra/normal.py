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
    exponents  exp(a + b) = exp(a) exp(b),   log(exp(a) b) = a + log(b)
    cancel     Σ_k A⁻¹_ik A_kj = δ_ij
    whole      Σ_j s_ij = 1                  for tensors that are known to be normalised
    rename     bound indices are numbered in an order that the body alone decides

SymPy's own normal form of sums, products and powers does the rest: with Σ_j exp(z_ij) written one way only,
S_i / S_i is 1. `normal` leaves products of sums as they stand; `expanded` multiplies them out as well, so that
equal polynomials become equal expressions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import sympy as sp
from sympy import Dummy, Expr, Integer, Symbol

from symgrad.algebra.delta import Delta, deltas
from symgrad.algebra.ranges import decided, inside
from symgrad.formula.indexed import Element, Reduction

Loops = Mapping[Symbol, Expr]


@dataclass(frozen=True)
class Facts:
    """What is known of the tensors that expressions name.

    Attributes:
        symmetric: the matrices that equal their transpose.
        inverses: (inverse, what it is the inverse of, over head(0) and head(1), size) ...
        orthogonal: (matrix, size) ... whose transpose is the inverse.
        normalised: (tensor, axis, size) ... whose sum along the axis is 1 everywhere.

    What is known of a whole axis says nothing of a sum over a part of it: hence the sizes.
    """

    symmetric: frozenset[str] = frozenset()
    inverses: frozenset[tuple[str, Expr, Expr]] = frozenset()
    orthogonal: frozenset[tuple[str, Expr]] = frozenset()
    normalised: frozenset[tuple[str, int, Expr]] = frozenset()

    def with_normalised(self, name: str, axis: int, size: Expr) -> Facts:
        """The same and one more."""
        return replace(self, normalised=self.normalised | {(name, axis, size)})

    def with_inverse(self, name: str, matrix: Expr, size: Expr, symmetric: bool) -> Facts:
        """The same and one more."""
        more = {name} if symmetric else set()
        return replace(self, symmetric=self.symmetric | more, inverses=self.inverses | {(name, matrix, size)})

    def with_orthogonal(self, name: str, size: Expr) -> Facts:
        """The same and one more."""
        return replace(self, orthogonal=self.orthogonal | {(name, size)})


NOTHING = Facts()

_MOST_ORDERS = 24
_STAR = Symbol("*")


def head(axis: int) -> Symbol:
    """The index of an expression's own axis."""
    return Symbol(f"@{axis}", integer=True, nonnegative=True)


def heads(count: int) -> tuple[Symbol, ...]:
    """The indices of an expression with so many axes."""
    return tuple(head(axis) for axis in range(count))


def normal(expr: Expr, facts: Facts = NOTHING) -> Expr:
    """The normal form, products of sums left as they stand."""
    return _Normaliser(facts, expand=False)(expr)


def expanded(expr: Expr, facts: Facts = NOTHING) -> Expr:
    """The normal form with products of sums multiplied out."""
    return _Normaliser(facts, expand=True)(expr)


def opened(reduction: Reduction) -> tuple[Expr, dict[Symbol, Expr]]:
    """(body, loops) of a sum without a condition, with bound indices that occur nowhere else."""
    fresh = _fresh(reduction)
    return reduction.body.xreplace(fresh), {fresh[i]: n for i, n in reduction.loops}


def _fresh(reduction: Reduction) -> dict[Symbol, Symbol]:
    """Bound index -> one that occurs nowhere else."""
    return {i: Dummy("k", integer=True, nonnegative=True) for i, _ in reduction.loops}


@dataclass(frozen=True)
class Pattern:
    """A product of elements over head(0), head(1) and bound indices, to be found among the factors of another."""

    factors: tuple[Element, ...]
    bound: Loops

    @staticmethod
    def of(matrix: Expr) -> Pattern | None:
        """The pattern of a matrix that is a product of matrices, each index of which is a symbol."""
        body, loops = opened(matrix) if isinstance(matrix, Reduction) else (matrix, {})
        factors = sp.Mul.make_args(body)
        if not all(isinstance(f, Element) and f.view is None and all(i.is_Symbol for i in f.index) for f in factors):
            return None
        if not set(heads(2)) <= body.free_symbols:
            return None
        return Pattern(tuple(sorted(factors, key=sp.default_sort_key)), loops)

    def matches(
        self, others: Sequence[Expr], known: dict[Symbol, Expr]
    ) -> Iterator[tuple[dict[Symbol, Expr], set[int]]]:
        """(what the pattern's indices stand for, the places of the factors that it matches) ..."""
        stack: list[tuple[int, dict[Symbol, Expr], frozenset[int]]] = [(0, known, frozenset())]
        while stack:
            number, place, used = stack.pop()
            if number == len(self.factors):
                yield place, set(used)
                continue
            wanted = self.factors[number]
            for k, factor in enumerate(others):
                if k not in used and isinstance(factor, Element) and factor.name == wanted.name and factor.view is None:
                    bound = _bound_together(wanted.index, factor.index, place)
                    if bound is not None:
                        stack.append((number + 1, bound, used | {k}))


def _bound_together(
    pattern: Sequence[Expr], index: Sequence[Expr], place: dict[Symbol, Expr]
) -> dict[Symbol, Expr] | None:
    found = dict(place)
    for symbol, value in zip(pattern, index, strict=True):
        if found.setdefault(symbol, value) != value:
            return None
    return found


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
            return _in_order(expr, self.facts.symmetric)
        if isinstance(expr, Reduction):
            return self._reduction(expr)
        if not expr.args or isinstance(expr, Delta):
            return expr
        if isinstance(expr, sp.Piecewise):
            return self._choice(expr)
        made = expr.func(*map(self, expr.args))
        if isinstance(made, sp.log):
            return _logarithm(made)
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
            if other == 0 and not condition.has(Element) and _is_finite(value):
                return self._product(value * bracketed(condition))
        return sp.Piecewise(*rows)

    def _inside(self, condition: Expr) -> dict[Expr, Expr]:
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
            expr = _without_signs(expr)
        expr = _numbers_in_front(expr)
        expr = _applied(expr) if expr.has(Delta) else expr
        return _without_powers_of_brackets(expr) if expr.has(sp.Piecewise) else expr

    def _reduction(self, expr: Reduction) -> Expr:
        fresh = _fresh(expr)
        body, condition = self(expr.body.xreplace(fresh)), expr.condition.xreplace(fresh)
        loops = {fresh[i]: n for i, n in expr.loops}
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
        return sp.Add(*(self._term(_factors(term), dict(loops)) for term in sp.Add.make_args(body)))

    def _term(self, factors: list[Expr], loops: dict[Symbol, Expr]) -> Expr:
        factors, loops = self._merged(*_contracted(factors, loops))
        factors = [decided(f, loops) for f in factors]
        cancelled = self._cancelled(factors, loops)
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

    def _is_whole(self, group: Sequence[Expr], bound: Loops) -> bool:
        """Σ_j s_ij = 1 for a tensor that is known to be so."""
        if len(group) != 1 or len(bound) != 1 or not isinstance(group[0], Element):
            return False
        axes = [(axis, bound[i]) for axis, i in enumerate(group[0].index) if i in bound]
        return len(axes) == 1 and (group[0].name, *axes[0]) in self.facts.normalised

    def _component(self, body: Expr, loops: Loops) -> Expr:
        body = self._product(body)
        if isinstance(body, sp.Add):
            return self.total(body, loops)
        again = dict(_contracted(_factors(body), dict(loops))[1])
        return renamed("sum", body, loops, sp.true, self.facts.symmetric) if again == loops else self.total(body, loops)

    def _cancelled(self, factors: list[Expr], loops: Loops) -> tuple[list[Expr], dict[Symbol, Expr]] | None:
        """Σ_k A⁻¹_ik A_kj as δ_ij, for the first inverse that meets its matrix, and the loops that are left."""
        names = {f.name for f in factors if isinstance(f, Element)}
        known = [fact for fact in self.facts.inverses if fact[0] in names]
        for name, matrix, size in sorted(known, key=lambda fact: fact[0]):
            pattern = Pattern.of(matrix)
            for inverse in factors:
                if pattern is not None and isinstance(inverse, Element) and inverse.name == name:
                    others = [f for f in factors if f is not inverse]
                    found = self._met(inverse, size, pattern, others, loops)
                    if found:
                        return found
        return self._orthogonal(factors, loops)

    def _met(
        self, inverse: Element, size: Expr, pattern: Pattern, others: Sequence[Expr], loops: Loops
    ) -> tuple[list[Expr], dict[Symbol, Expr]] | None:
        """What is left where the factors of the matrix stand beside its inverse, sharing an index with it."""
        ways = [(1, 0), (0, 1)]  # A⁻¹ A, and A A⁻¹: end of the inverse, end of the matrix
        if inverse.name in self.facts.symmetric:
            ways += [(1, 1), (0, 0)]
        for end, near in ways:
            k, outside = inverse.index[end], inverse.index[1 - end]
            for place, used in pattern.matches(others, {head(near): k}):
                rest = [f for place_, f in enumerate(others) if place_ not in used]
                gone = {k: size} | {place[i]: n for i, n in pattern.bound.items()}
                far = place[head(1 - near)]
                whole = gone.items() <= loops.items() and len(gone) == 1 + len(pattern.bound)
                if whole and not gone.keys() & {outside, far} and not any(f.free_symbols & gone.keys() for f in rest):
                    return [*rest, Delta(outside, far)], {i: n for i, n in loops.items() if i not in gone}
        return None

    def _orthogonal(self, factors: list[Expr], loops: Loops) -> tuple[list[Expr], dict[Symbol, Expr]] | None:
        """Σ_k V_ik V_jk as δ_ij."""
        sizes = dict(self.facts.orthogonal)
        known = [f for f in factors if isinstance(f, Element) and f.name in sizes]
        for left, right in combinations(known, 2):
            rest = [f for f in factors if f is not left and f is not right]
            for end in (0, 1) if left.name == right.name else ():
                k = left.index[end]
                whole = k == right.index[end] and loops.get(k) == sizes[left.name]
                if whole and left.index[1 - end] != k != right.index[1 - end] and not any(f.has(k) for f in rest):
                    delta = Delta(left.index[1 - end], right.index[1 - end])
                    return [*rest, delta], {i: n for i, n in loops.items() if i != k}
        return None

    def _merged(self, factors: list[Expr], loops: dict[Symbol, Expr]) -> tuple[list[Expr], dict[Symbol, Expr]]:
        """Sums that share a bound index with this one, opened into it."""
        pending, flat = list(factors), []
        while pending:
            factor = pending.pop()
            base, power = factor.as_base_exp() if self.expand else (factor, Integer(1))
            inner = isinstance(base, Reduction) and base.kind == "sum" and base.free_symbols & loops.keys()
            if not inner or not (power.is_Integer and power > 0):
                flat.append(factor)
                continue
            for _ in range(int(power)):
                body, more = opened(base)
                pending += _factors(body)
                loops = loops | more
        if len(flat) != len(factors) or any(a is not b for a, b in zip(flat, reversed(factors), strict=True)):
            return _contracted(flat, loops)
        return factors, loops


def _factors(term: Expr) -> list[Expr]:
    return list(sp.Mul.make_args(term))


def multiplied_out(expr: Expr) -> Expr:
    """Products and whole powers of sums as sums; nothing inside functions or below a fraction."""
    below = {p: sp.Dummy() for p in sp.Mul.make_args(expr) if p.is_Pow and p.exp.is_negative}
    return sp.expand(expr.xreplace(below), deep=False, power_base=False, power_exp=False, log=False).xreplace(
        {dummy: power for power, dummy in below.items()}
    )


def bracketed(condition: Expr) -> Expr:
    """[c and d] as [c] [d]: 1 where the condition holds, else 0."""
    parts = condition.args if isinstance(condition, sp.And) else (condition,)
    return sp.Mul(*(sp.Piecewise((1, part), (0, True)) for part in parts))


def _is_bracket(expr: Expr) -> bool:
    return isinstance(expr, sp.Piecewise) and [value for value, _ in expr.args] == [1, 0]


def _without_powers_of_brackets(term: Expr) -> Expr:
    """[c]² = [c], and what is 0 unless c holds needs no [c] beside it."""
    factors = [f.as_base_exp() for f in sp.Mul.make_args(term)]
    choices = [base for base, _ in factors if isinstance(base, sp.Piecewise) and base.args[-1] == (0, True)]
    known = {c for p in choices if len(p.args) == 2 and not _is_bracket(p) for c in sp.And.make_args(p.args[0][1])}
    kept = []
    for base, power in factors:
        bracket = _is_bracket(base) and power.is_positive
        kept.append(sp.Integer(1) if bracket and base.args[0][1] in known else base if bracket else base**power)
    return sp.Mul(*kept)


def _is_finite(expr: Expr) -> bool:
    """Whether it is finite whatever finite numbers it reads, so that it may stand beside a zero."""
    if isinstance(expr, sp.Pow):
        return bool(expr.exp.is_Integer and expr.exp.is_positive) and _is_finite(expr.base)
    if isinstance(expr, Reduction):
        return _is_finite(expr.body)
    if isinstance(expr, sp.Add | sp.Mul | sp.Abs | sp.sign):
        return all(map(_is_finite, expr.args))
    return isinstance(expr, Element | Delta | sp.Rational | Symbol) or _is_bracket(expr)


def _logarithm(expr: Expr) -> Expr:
    """log(exp(u)*r) = u + log(r), and log(1/r) = -log(r)."""
    parts = _factors(expr.args[0])
    exponents = [f.args[0] for f in parts if isinstance(f, sp.exp)]
    rest = sp.Mul(*(f for f in parts if not isinstance(f, sp.exp)))
    base, power = rest.as_base_exp()
    logarithm = -sp.log(base) if power == -1 else sp.log(rest)
    return sp.Add(*exponents, logarithm)


def _numbers_in_front(term: Expr) -> Expr:
    """(2 a - 2 b)**p c = 2**p (a - b)**p c."""
    if not isinstance(term, sp.Mul):
        return term
    numbers, rest = [], []
    for factor in term.args:
        base, power = factor.as_base_exp()
        shared, primitive = base.primitive() if isinstance(base, sp.Add) else (sp.Integer(1), base)
        plain = shared != 1 and shared.is_positive and power.is_Rational
        numbers += [shared**power] if plain else []
        rest.append(primitive**power if plain else factor)
    return sp.Mul(*numbers, *rest) if numbers else term


def _without_signs(term: Expr) -> Expr:
    """u sign(u) = |u|, |u| sign(u) = u, sign(u)/u = 1/|u|, sign(u)/|u| = 1/u.

    Whole powers only: √|u| sign(u) is 0 where u is, and u/√|u| is nothing there.
    """
    for factor in sp.Mul.make_args(term):
        if isinstance(factor, sp.sign):
            (u,) = factor.args
            powers = term.as_powers_dict()
            for old, new in ((u, sp.Abs(u)), (sp.Abs(u), u)):
                power = powers.get(old, Integer(0))
                if (power - 1).is_nonnegative:
                    return _without_signs(term / factor / old * new)
                if (power + 1).is_nonpositive:
                    return _without_signs(term / factor * old / new)
    return term


def _applied(term: Expr) -> Expr:
    """δ_ij a_j as δ_ij a_i: behind a delta, its first index stands for both."""
    factors = list(sp.Mul.make_args(term))
    for place in range(len(factors)):
        delta = factors[place]
        if isinstance(delta, Delta) and any(i.is_Symbol for i in delta.args):
            first, second = delta.args
            old, new = (second, first) if second.is_Symbol else (first, second)
            factors = [f if k == place else f.xreplace({old: new}) for k, f in enumerate(factors)]
    return sp.Mul(*factors)


def _contracted(factors: list[Expr], loops: dict[Symbol, Expr]) -> tuple[list[Expr], dict[Symbol, Expr]]:
    """Every bound index that a delta ties to something else replaced by it."""
    loops = dict(loops)
    while True:
        found = next(_bindings(factors, loops), None)
        if found is None:
            return factors, loops
        delta, bound, value = found
        size = loops.pop(bound)
        ranges = () if value.is_Symbol or value.is_Integer else _factors(bracketed(inside(value, loops, size)))
        factors = [*(f.xreplace({bound: value}) for f in factors if f is not delta), *ranges]


def _bindings(factors: Sequence[Expr], loops: Loops) -> Iterator[tuple[Expr, Symbol, Expr]]:
    for factor in factors:
        if isinstance(factor, Delta):
            for bound in sorted(factor.free_symbols & loops.keys(), key=str):
                value = _solved(factor, bound)
                if value is not None:
                    yield factor, bound, value


def _solved(delta: Expr, bound: Symbol) -> Expr | None:
    """What a delta says that an index is: another one, moved by a number of places, or a number."""
    difference = sp.expand(delta.args[0] - delta.args[1])
    slope = difference.coeff(bound)
    if slope not in (1, -1):
        return None
    value = sp.expand(bound - slope * difference)
    indices = [s for s in value.free_symbols if not s.is_positive]
    moved = len(indices) <= 1 and all(value.coeff(i) == 1 for i in indices)
    return value if moved and bound not in indices and not value.has(Element) else None


def components(factors: Sequence[Expr], loops: Loops) -> list[tuple[list[Expr], dict[Symbol, Expr]]]:
    """The factors in groups that no bound index ties together, each with its loops; the free ones first."""
    groups: list[tuple[list[Expr], dict[Symbol, Expr]]] = [([], {})]
    for i, n in loops.items():
        groups.append(([], {i: n}))
    for factor in factors:
        tied = [g for g in groups[1:] if g[1].keys() & factor.free_symbols]
        if not tied:
            groups[0][0].append(factor)
            continue
        joined = ([f for g in tied for f in g[0]] + [factor], {i: n for g in tied for i, n in g[1].items()})
        groups = [g for g in groups if not any(g is t for t in tied)] + [joined]
    return groups


def _in_order(expr: Expr, symmetric: frozenset[str]) -> Expr:
    """The expression with the indices of symmetric matrices sorted."""
    if not symmetric:
        return expr
    change = {
        e: Element(e.name, sorted(e.index, key=sp.default_sort_key))
        for e in expr.atoms(Element)
        if e.name in symmetric and e.view is None
    }
    return expr.xreplace(change)


def renamed(
    kind: str, body: Expr, loops: Loops, condition: Expr = sp.true, symmetric: frozenset[str] = frozenset()
) -> Reduction:
    """The reduction with bound indices named by where they stand."""
    level = 1 + nesting(body)
    orders = _orders(body, loops, symmetric)
    named = []
    for order in orders:
        names = {i: Symbol(f"#{level}.{k}", integer=True, nonnegative=True) for k, i in enumerate(order)}
        named.append((_in_order(body.xreplace(names), symmetric), names))
    best, names = min(named, key=lambda pair: str(pair[0])) if len(named) > 1 else named[0]
    return Reduction(kind, best, [(names[i], loops[i]) for i in names], condition.xreplace(names))


def nesting(expr: Expr) -> int:
    """How many sums of a normal expression stand inside each other."""
    return max((_level(reduction) for reduction in expr.atoms(Reduction)), default=0)


def _level(reduction: Reduction) -> int:
    return int(str(reduction.loops[0][0])[1:].split(".")[0])


def _orders(body: Expr, loops: Loops, symmetric: frozenset[str]) -> list[tuple[Symbol, ...]]:
    """The orders of the loops that the body leaves open; nearly always one.

    Loops are told apart by colour refinement (Weisfeiler and Leman): a loop's colour is where it stands, and beside
    which colours. Where equals are left, each of them is tried as the first.
    """
    if len(loops) == 1:
        return [tuple(loops)]
    factors = sp.Mul.make_args(body)
    start = {i: str(n) for i, n in loops.items()}
    found: list[tuple[Symbol, ...]] = []
    stack = [_refined(start, factors, symmetric)]
    while stack and len(found) < _MOST_ORDERS:
        colours = stack.pop()
        classes: dict[str, list[Symbol]] = {}
        for i in sorted(loops, key=lambda i: (colours[i], str(i))):
            classes.setdefault(colours[i], []).append(i)
        equal = next((same for same in classes.values() if len(same) > 1), None)
        if equal is None:
            found.append(tuple(i for same in classes.values() for i in same))
            continue
        stack += [_refined(colours | {i: colours[i] + "<"}, factors, symmetric) for i in equal]
    return found


def _refined(
    colours: dict[Symbol, str], factors: Sequence[Expr], symmetric: frozenset[str]
) -> dict[Symbol, str]:
    """Colours that no further round tells apart."""
    count = len(set(colours.values()))
    while True:
        places = {i: sorted(_place(i, f, colours, symmetric) for f in factors if f.has(i)) for i in colours}
        longer = {i: f"{colour}|{places[i]}" for i, colour in colours.items()}
        ranks = {colour: f"{rank:03}" for rank, colour in enumerate(sorted(set(longer.values())))}
        colours = {i: ranks[colour] for i, colour in longer.items()}
        if len(ranks) == count:
            return colours
        count = len(ranks)


def _place(i: Symbol, factor: Expr, colours: Mapping[Symbol, str], symmetric: frozenset[str]) -> str:
    """Where an index stands in a factor, the others being known by colour alone."""
    if isinstance(factor, Element) and factor.view is None:
        index = ["*" if e == i else colours.get(e, str(e)) for e in factor.index]
        return f"{factor.name}{sorted(index) if factor.name in symmetric else index}"
    names = {j: _STAR if j == i else Symbol(f"?{colour}") for j, colour in colours.items()}
    return str(_in_order(factor.xreplace(names), symmetric))
