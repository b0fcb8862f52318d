"""The shortest way to write an expression: multiplied out or not, with the functions that a reader knows.

    multiply   (a + b) c = a c + b c, where that is shorter because something cancels
    cancel     a/c + b/(c d) = (a d + b)/(c d), factored
    softmax    exp(u_ij) / Σ_j exp(u_ij) is one tensor s
    exponents  exp(a) exp(b) = exp(a + b)
    sigmoid    1 / (1 + exp(-u)) = σ(u),   exp(u) σ(-u) = σ(u),   1 - σ(u) = σ(-u)

Each is an identity over the reals, and none is taken unless the outcome is shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import sympy as sp
from sympy import Expr, Symbol

from symgrad.algebra.delta import Delta
from symgrad.algebra.factors import added_powers
from symgrad.algebra.inverses import Facts
from symgrad.algebra.naming import head, opened, renamed
from symgrad.algebra.normal import expanded, normal
from symgrad.formula.indexed import Element, Reduction, substituted
from symgrad.index.functions import recognise_sigmoids

REDUCTION_COST = 2
MOST_TERMS = 300  # an expression that multiplies out to more stays as it is
MOST_OPERATIONS = 60  # a fraction with more is not cancelled
MOST_PARTS = 8  # of a long sum, each looked at by itself
MOST_COST = 250  # an expression longer than this is not looked at for shorter forms


Shape = tuple[Expr, ...]
Shapes = Callable[[str], Shape]


class Given(NamedTuple):
    """A tensor that was given a name.

    Attributes:
        expr, shape: its elements over head(0), ..., and how many there are.
        stable: the same, written so that floating point keeps it.
        axis: the axis that it sums to 1 along.
    """

    expr: Expr
    shape: Shape
    stable: Expr
    axis: int


def cost(expr: Expr) -> int:
    """What a reader has to take in: elements, sums, functions and numbers."""
    total = 0
    stack = [expr]
    while stack:
        here = stack.pop()
        if isinstance(here, Element):
            total += 1
        elif isinstance(here, Reduction):
            total += REDUCTION_COST
            stack.append(here.body)
        else:
            total += bool(here.args) and not isinstance(here, sp.Add | sp.Mul)
            stack.extend(here.args)
    return total


def tidied(expr: Expr, facts: Facts) -> tuple[str, Expr]:
    """(the rules used, the shortest form); not `finished`, so still in normal form."""
    plain = normal(expr, facts)
    if cost(plain) > MOST_COST:
        parts = plain.args if isinstance(plain, sp.Add) and len(plain.args) <= MOST_PARTS else ()
        return "sums simplified", sp.Add(*(tidied(part, facts)[1] for part in parts)) if parts else plain
    forms = [("sums simplified", plain), ("fractions cancelled", normal(cancelled(plain), facts))]
    if terms_of(plain) <= MOST_TERMS:
        multiplied = expanded(expr, facts)
        forms.insert(1, ("multiplied out", multiplied))
        forms.append(("multiplied out and cancelled", normal(cancelled(multiplied), facts)))
    return min(forms, key=lambda form: cost(finished(form[1])))


def terms_of(expr: Expr) -> int:
    """How many terms there would be at most, were every product of sums multiplied out."""
    if isinstance(expr, sp.Add):
        return sum(map(terms_of, expr.args))
    if isinstance(expr, sp.Mul):
        return prod(map(terms_of, expr.args))
    if isinstance(expr, sp.Pow) and expr.exp.is_Integer and expr.exp > 0:
        return int(min(terms_of(expr.base) ** min(int(expr.exp), 64), MOST_TERMS + 1))
    if isinstance(expr, Reduction):
        return terms_of(expr.body)
    return max(map(terms_of, expr.args), default=1)


def cancelled(expr: Expr) -> Expr:
    """Fractions of scalars over a common denominator, common factors cancelled and the rest factored."""
    return _cancelled(expr, {})


def _cancelled(expr: Expr, done: dict[Expr, Expr]) -> Expr:
    if expr not in done:
        done[expr] = _with_cancelled_parts(expr, done)
    return done[expr]


def _with_cancelled_parts(expr: Expr, done: dict[Expr, Expr]) -> Expr:
    if isinstance(expr, Element | sp.Piecewise) or not expr.args:
        return expr
    if isinstance(expr, Reduction):
        return Reduction(expr.kind, _cancelled(expr.body, done), expr.loops, expr.condition)
    rebuilt = expr.func(*(_cancelled(part, done) for part in expr.args))
    if not isinstance(rebuilt, sp.Add | sp.Mul) or not any(_divides(e) for e in rebuilt.atoms(sp.Pow)):
        return rebuilt
    functions = {f for f in rebuilt.atoms(sp.Function) if not isinstance(f, sp.exp)}
    atoms = rebuilt.atoms(Element, Reduction, Delta) | functions
    opaque = {atom: sp.Dummy(f"x{k}", real=True) for k, atom in enumerate(sorted(atoms, key=sp.default_sort_key))}
    scalar = rebuilt.xreplace(opaque)
    if scalar.has(sp.Piecewise) or sp.count_ops(scalar) > MOST_OPERATIONS or terms_of(scalar) > MOST_TERMS:
        return rebuilt
    return sp.factor(scalar).xreplace({x: atom for atom, x in opaque.items()})


def _divides(power: Expr) -> bool:
    base, exponent = power.as_base_exp()
    return bool(exponent.is_negative and isinstance(base, sp.Add))


def finished(expr: Expr) -> Expr:
    """With exponentials joined and sigmoids recognised."""
    return recognise_sigmoids(joined(expr))


def joined(expr: Expr) -> Expr:
    """With exp(a) exp(b) as exp(a + b), and u**a/u as u**(a - 1), everywhere."""
    return expr.replace(lambda e: isinstance(e, sp.Mul), _joined)


def _joined(product: Expr) -> Expr:
    powers = added_powers(factor.as_base_exp() for factor in product.args)
    return sp.Mul(*(base**power for base, power in powers.items()))


def softmax_recognised(expr: Expr, facts: Facts, name: str, shapes: Shapes) -> tuple[Expr, Given] | None:
    """(the expression in s, what s is), for the first sum of exponentials that it divides by."""
    for power in sorted(expr.atoms(sp.Pow), key=sp.default_sort_key):
        base, exponent = power.as_base_exp()
        if exponent.is_negative and _sums_exponentials(base):
            found = _with_softmax(expr, base, facts, name, shapes)
            if cost(found[0]) < cost(expr):
                return found
    return None


def _sums_exponentials(expr: Expr) -> bool:
    """Whether this is Σ exp(u) over one index, whole tensors being read."""
    if not isinstance(expr, Reduction) or expr.kind != "sum" or len(expr.loops) != 1:
        return False
    factors = sp.Mul.make_args(expr.body)
    read = expr.body.atoms(Element)
    plain = all(e.view is None and all(i.is_Symbol for i in e.index) for e in read)
    return all(isinstance(f, sp.exp) for f in factors) and bool(read) and plain


def _with_softmax(expr: Expr, total: Reduction, facts: Facts, name: str, shapes: Shapes) -> tuple[Expr, Given]:
    """exp(u) replaced by s Σ exp(u), wherever u is read."""
    body, loops = opened(total)
    index = _order_of_reading(body, loops)
    free = [i for i in index if i not in loops]
    wanted = sorted(sp.Mul.make_args(body), key=lambda f: (-len(f.free_symbols), sp.default_sort_key(f)))

    def value(place: Mapping[Symbol, Expr]) -> Expr:
        outer = substituted((tuple(free), total), [place[i] for i in free])
        return Element(name, [place[i] for i in index]) * outer

    def written(product: Expr) -> Expr:
        """The product with the first exp(u) in it replaced."""
        factors = list(sp.Mul.make_args(product))
        for factor in factors:
            place = _place(factor, wanted[0], index) if isinstance(factor, sp.exp) else None
            parts = [] if place is None else [f.xreplace(place) for f in wanted]
            if place is not None and all(part in factors for part in parts):
                return written(sp.Mul(*(f for f in factors if f not in parts)) * value(place))
        return product

    change = {e: written(e) for e in expr.atoms(sp.exp)} if len(wanted) == 1 else {}
    replaced = expr.xreplace(change) if change else expr.replace(lambda e: isinstance(e, sp.Mul), written)
    axis = next(k for k, i in enumerate(index) if i in loops)
    extents = {i: n for e in _elements(body) for i, n in zip(e.index, shapes(e.name), strict=True)} | loops
    shape = tuple(extents[i] for i in index)
    _, replaced = tidied(replaced, facts.with_normalised(name, axis, shape[axis]))
    outside = {i: head(k) for k, i in enumerate(index) if i not in loops}  # first: they may be bound further out
    own = {i: head(k) for k, i in enumerate(index) if i in loops}
    body, total = body.xreplace(outside), total.xreplace(outside)
    return replaced, Given((body / total).xreplace(own), shape, _shifted(body, loops).xreplace(own), axis)


def _place(exponential: Expr, body: Expr, index: Sequence[Symbol]) -> dict[Symbol, Expr] | None:
    """What the indices of `body` are in an expression that is the same but for these."""
    place: dict[Symbol, Expr] = {}
    for i in index:
        reader = next((e for e in _elements(body) if i in e.index), None)
        if reader is None:
            return None
        axis = reader.index.index(i)
        others = [e.index[axis] for e in _elements(exponential) if e.name == reader.name]
        if not others:
            return None
        place[i] = others[0]
    return place if body.xreplace(place) == exponential else None


def _elements(expr: Expr) -> list[Element]:
    return sorted(expr.atoms(Element), key=sp.default_sort_key)


def _shifted(body: Expr, loops: dict[Symbol, Expr]) -> Expr:
    """exp(u - m) / Σ exp(u - m), m the greatest u."""
    exponent = sp.Add(*(f.args[0] for f in sp.Mul.make_args(body)))
    exponential = sp.exp(exponent - renamed("max", exponent, loops))
    return exponential / renamed("sum", exponential, loops)


def _order_of_reading(body: Expr, loops: Mapping[Symbol, Expr]) -> list[Symbol]:
    """The indices as the only element reads them; of several, those that the sum keeps first."""
    inner = {i for reduction in body.atoms(Reduction) for i, _ in reduction.loops}
    read = [[i for i in e.index if i not in inner] for e in _elements(body)]
    if len(read) == 1:
        return list(dict.fromkeys(read[0]))
    return sorted({i for index in read for i in index}, key=lambda i: (i in loops, str(i)))
