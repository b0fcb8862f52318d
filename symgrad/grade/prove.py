"""Whether two tensors of a system are the same function of the network's tensors.

First by normal form, from the coarsest view to the finest: with the products of the network as variables, then over
its leaves alone. What is equal in more variables is equal in fewer. Then by exact arithmetic at random points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import log2

import numpy as np
import sympy as sp
from sympy import Dummy, Expr

from symgrad.algebra.closed import Closed
from symgrad.algebra.naming import heads
from symgrad.algebra.normal import expanded, normal
from symgrad.equations import Equation, System
from symgrad.formula.indexed import Element, Reduction
from symgrad.grade.field import PRIME, SIZE, Arithmetic, NoValue, sizes_of
from symgrad.grade.points import Point
from symgrad.grade.problem import Candidate
from symgrad.grade.rewriting import Indicator, in_atoms
from symgrad.index.definition import At, Loop, outermost
from symgrad.simplify import fold_constants, share_equal

LARGE = 4_000  # an expression of more parts is left to arithmetic,
RATIONAL = 1_600  # or if a common denominator is needed,
HIGH = 8  # and so is a higher power of a sum
NORMAL_FORM = "normal form"


@dataclass(frozen=True)
class _View:
    """Two closed expressions of a system in which the tensors `kept` are variables."""

    system: System
    kept: tuple[str, ...]
    expected: Expr
    got: Expr


def proof(expected: Candidate, got: Candidate, points: Sequence[Point]) -> str | None:
    """What shows that the two are equal, or None. `got` is in a system that extends that of `expected`, or in its own.

    Args:
        points: the sizes of dimensions to compute with, one point of exact arithmetic for each.
    """
    if tuple(expected.shape) != tuple(got.shape):
        return None
    for view in _views(_joint(expected, got), expected.name):
        if _equal_by_form(view):
            return f"{NORMAL_FORM}, over {_listed(view.kept)}" if view.kept else NORMAL_FORM
        found = _by_arithmetic(view, points)
        if found is not None:
            return found
    return None


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _joint(expected: Candidate, got: Candidate) -> tuple[System, str]:
    """One system in which both are wanted and equal equations are one, and the name of `got`."""
    joint = expected.system.copy()
    joint.leaves |= got.system.leaves
    joint.equations |= {n: e for n, e in got.system.equations.items() if n not in joint.equations}
    joint.gradients, joint.loss = {}, None
    joint.outputs = (expected.name, got.name)
    return share_equal(fold_constants(joint.sorted().pruned())), got.name


def _views(joint: tuple[System, str], expected: str) -> Iterator[_View]:
    system, got = joint
    products = _products(system, (expected, got))
    for kept in dict.fromkeys((products, ())):
        closed = Closed(system, kept)
        pair = closed[expected], closed[got]
        if max(map(_size, pair)) > LARGE:
            continue
        used = {e.name for expr in pair for e in expr.atoms(Element)}
        yield _View(system, tuple(n for n in kept if n in used), *pair)


def _products(system: System, wanted: Sequence[str]) -> tuple[str, ...]:
    """The network's sums of products of tensors, and what is such a sum and terms added to it."""
    found: list[str] = []
    own = [e for e in system if e.adjoint_of is None and e.origin != "answer" and e.name not in wanted]
    for e in own:
        if _is_product(e) or (_is_sum(e) and set(found).intersection(e.operands)):
            found.append(e.name)
    return tuple(found)


def _is_product(e: Equation) -> bool:
    definition = e.definition
    if definition.reduction != "sum" or not definition.reduced or not definition.body.is_Mul:
        return False
    return len({at.operand for at in outermost(definition.body)}) > 1


def _is_sum(e: Equation) -> bool:
    terms = e.definition.body.args
    return e.definition.elementwise and e.definition.body.is_Add and all(isinstance(t, At) for t in terms)


def _size(expr: Expr) -> int:
    """How many parts an expression has, counted no further than LARGE."""
    count = 0
    stack = [expr]
    while stack and count <= LARGE:
        here = stack.pop()
        count += 1
        if not isinstance(here, Element):
            stack.extend(here.args)
    return count


# normal form


def _equal_by_form(view: _View) -> bool:
    if view.expected == view.got:
        return True
    difference = expanded(view.expected - view.got)
    if difference == 0:
        return True
    if _size(difference) > LARGE:
        return False
    atoms = in_atoms(difference, _integral(view.system))
    if any(power.base.is_Add and abs(power.exp) > HIGH for power in atoms.atoms(sp.Pow) if power.exp.is_Rational):
        return False
    rational = expanded(atoms)
    return _size(rational) <= RATIONAL and _vanishes(rational)


def _integral(system: System) -> list[str]:
    return [n for n in (*system.leaves, *system.equations) if system.dtype(n) != "float"]


def _vanishes(expr: Expr) -> bool:
    """Whether an expression is 0, those of its sums that run over the same loops taken as one."""
    bodies: dict[tuple[Loop, ...], list[Expr]] = {}
    for term in sp.Add.make_args(expr):
        sums = [f for f in sp.Mul.make_args(term) if isinstance(f, Reduction) and f.kind == "sum"]
        if len(sums) == 1:
            bodies.setdefault(sums[0].loops, []).append(term.xreplace({sums[0]: sums[0].body}))
        else:
            bodies.setdefault((), []).append(term)
    return all(_numerator(sp.Add(*terms)) == 0 for terms in bodies.values()) or _numerator(expr) == 0


def _numerator(expr: Expr) -> Expr:
    """The numerator over a common denominator, multiplied out; its sums and elements as variables."""
    for _ in range(2):  # sums of products that came apart are merged in between
        atoms = _outermost_atoms(expr)
        names = {atom: Dummy(f"v{k}", real=True) for k, atom in enumerate(atoms)}
        above, _below = sp.fraction(sp.together(expr.xreplace(names)))
        if _size(above) > LARGE:
            return above
        expr = expanded(sp.expand(above).xreplace({name: atom for atom, name in names.items()}))
        if expr == 0:
            break
    return expr


def _outermost_atoms(expr: Expr) -> list[Expr]:
    found: dict[Expr, None] = {}
    stack = [expr]
    while stack:
        here = stack.pop()
        if isinstance(here, Element | Reduction | Indicator):
            found[here] = None
        else:
            stack.extend(here.args)
    return sorted(found, key=sp.default_sort_key)


# exact arithmetic


def _decided_by_size(expr: Expr) -> bool:
    """Whether a condition compares sizes."""
    tests = expr.atoms(sp.core.relational.Relational)
    return any(all(s.is_positive for s in test.free_symbols) and not test.has(Element) for test in tests)


def with_free_sizes(expr: Expr) -> Expr:
    """The expression with sizes that are factors as variables of their own: (N - 3)(N - 4) is not 0."""
    if isinstance(expr, Element | sp.core.relational.Relational):
        return expr
    if isinstance(expr, Reduction):
        return Reduction(expr.kind, with_free_sizes(expr.body), expr.loops, expr.condition)
    if isinstance(expr, sp.Symbol) and expr.is_positive:
        return sp.Symbol(f"{SIZE}{expr}", real=True)
    if not expr.args or not all(isinstance(arg, Expr) for arg in expr.args):
        return expr
    return expr.func(*map(with_free_sizes, expr.args))


def _by_arithmetic(view: _View, points: Sequence[Point]) -> str | None:
    expected, got = (normal(in_atoms(expr, _integral(view.system))) for expr in (view.expected, view.got))
    if any(_decided_by_size(expr) for expr in (expected, got)):
        return None  # what holds at these sizes need not at others
    expected, got = with_free_sizes(expected), with_free_sizes(got)
    axes = tuple(zip(heads(9), view.system.shape(view.system.outputs[0]), strict=False))
    bounds = []
    for point, seed in product(points, (0, 1)):
        integers = {n: v for n, v in point.values.items() if view.system.dtype(n) != "float"}
        arithmetic = Arithmetic(view.system, sizes_of(view.system, point.dims), integers, seed)
        try:
            left, right = arithmetic.value(expected, axes), arithmetic.value(got, axes)
            if np.any((left - right) % PRIME):
                return None
            bounds.append(float(arithmetic.bound(expected - got, axes)))
        except NoValue:
            return None
    exponent = int(sum(-log2(b) for b in bounds) / max(1, len(points)))
    sizes = " and ".join(dict.fromkeys(", ".join(f"{n} = {k}" for n, k in p.dims.items()) for p in points))
    where = f" with {sizes}" if sizes else ""
    return f"exact arithmetic over GF(2^61-1), {len(bounds)} points{where}, error below 2^-{exponent}"
