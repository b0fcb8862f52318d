"""Products that only sums over the samples read are not computed: the sums come first.

    P[n,i] = sum over k of W[i,k] Z[n,k]        G[i] = sum over n of P[n,i] q[n,i]

become M[i,k] = sum over n of q[n,i] Z[n,k] and G[i] = sum over k of W[i,k] M[i,k], without P. That takes as long as
before; but what else is a sum with Z has often the same M in it, with factors that do not depend on n:

    D[i,k] = sum over n of (g[i] q[n,i] + s[i]) Z[n,k] = g[i] M[i,k] + s[i] (sum over n of Z[n,k])

So the scale and shift of a layer norm of the network's input get their gradients from that of the weights behind it.
Such a sum may cancel: x = 1000 + z, scaled and shifted to z, loses three digits in D. It is split only where q is
bounded by construction, and rounded, as what is normalised is: then z has lost these digits before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, permutations
from math import prod

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.bounds import inside
from symgrad.index.definition import At, Definition, Loop, define
from symgrad.machine import LIMITS, estimate
from symgrad.names import free_name
from symgrad.simplify.bounded import is_bounded
from symgrad.simplify.scalar_cost import is_plain
from symgrad.simplify.substitute import Operands

ORDERS = 24  # of the axes of a sum that are looked for among the sums there are


def sum_first(system: System) -> System:
    """The system without the products for which that takes less work."""
    for name in list(system.equations):
        changed = _without(system, name) if _is_product(system.equations[name]) else None
        if changed is not None:
            system = changed
    return system


def _is_sum(e: Equation) -> bool:
    d = e.definition
    return e.solution is None and d.reduction == "sum" and d.gathers and bool(d.reduced) and e.dtype == "float"


def _is_product(e: Equation) -> bool:
    return _is_sum(e) and len(sp.Mul.make_args(e.definition.body)) > 1


def _without(system: System, name: str) -> System | None:
    """The system without the product `name`; None if something needs its elements, or nothing is saved."""
    product = system.equations[name]
    readers = [system.equations[user] for user in system.uses()[name]]
    if name in system.wanted() or not readers or not all(map(_is_sum, readers)):
        return None
    opened = [_opened(reader, product) for reader in readers]
    if None in opened:
        return None
    made = _Sums(system)
    for e in opened:
        if e is None or not made.split(e):
            return None
    for e in _related(system, product, readers):
        tried, written_out = made.copy(), _affine(system, e, product)
        if written_out is not None and tried.split(written_out) and _less(tried, made):
            made = tried
    result = made.system.pruned().sorted()
    before, after = _work(system, result), _work(result, system)
    return result if after <= min(before - LIMITS.saved, LIMITS.left * before) else None


def _work(system: System, other: System) -> int:
    """The multiplications of the equations that are not in the other system."""
    changed = [e for e in system if other.equations.get(e.name) != e and e.solution is None]
    return sum(prod(estimate(n) for _, n in e.definition.loops) for e in changed)


def _less(tried: _Sums, made: _Sums) -> bool:
    first, second = tried.system.pruned(), made.system.pruned()
    return _work(first, second) < _work(second, first)


def _opened(reader: Equation, product: Equation) -> Equation | None:
    """The sum with the product written out in the place of its elements, which must be a factor, read once."""
    d = reader.definition
    factors = sp.Mul.make_args(d.body)
    reads = [at for at in d.accesses if reader.source(at) == product.name]
    symbols = len(reads) == 1 and all(i in d.extents for i in reads[0].index) and _reads_inside(d, reads[0], product)
    if not symbols or reads[0] not in factors or len(set(reads[0].index)) != len(reads[0].index):
        return None
    (at,), p = reads, product.definition
    bound: list[Loop] = [(Symbol(f"{i}_of_product", integer=True, nonnegative=True), n) for i, n in p.reduced]
    index = dict(zip(p.write, at.index, strict=True)) | dict(zip(dict(p.reduced), dict(bound), strict=True))
    operands = Operands(reader.operands)
    body = d.body.xreplace({at: operands.adopt(p.body, product.operands).xreplace(index)})
    made = Definition((*d.loops, *bound), d.shape, d.write, "sum", body)  # loops keep their names
    return replace(reader, definition=made, operands=tuple(operands.names))


def _reads_inside(d: Definition, at: At, source: Equation) -> bool:
    return at.view is None and inside(at, source.shape, d.extents)


def _related(system: System, product: Equation, readers: Sequence[Equation]) -> Iterable[Equation]:
    """The other sums of products with an operand of the product."""
    known = {product.name, *(r.name for r in readers)}
    for e in system:
        if e.name not in known and _is_product(e) and set(e.operands) & set(product.operands):
            yield e


def _affine(system: System, e: Equation, product: Equation) -> Equation | None:
    """The sum with its factors, but those of `product`, written out as sums of products with tensors of fewer axes."""
    d, operands = e.definition, Operands(e.operands)
    bound = {i for i, _ in d.reduced}
    change: dict[Expr, Expr] = {}
    for at in d.accesses:
        source = system.equations.get(e.source(at))
        if source is None or not is_plain(source) or source.name in product.operands:
            continue
        if not all(i.is_Symbol for i in at.index) or not _reads_inside(d, at, source):
            continue
        body = operands.element(source, at.index)
        terms = [sp.Mul.make_args(term) for term in sp.Add.make_args(sp.expand_mul(body))]
        plain = all(isinstance(f, At) or not f.has(At) for term in terms for f in term)
        varied = [f for term in terms for f in term if f.free_symbols & bound]
        safe = len(terms) == 1 or all(is_bounded(system, f, tuple(operands.names)) for f in varied)
        if plain and safe and all(any(f.has(At) and not f.free_symbols & bound for f in term) for term in terms):
            change[at] = body
    if not change:
        return None
    made = replace(d, body=sp.expand_mul(d.body.xreplace(change)))
    return replace(e, definition=made, operands=tuple(operands.names))


class _Sums:
    """A system whose sums are split into sums over what they had to begin with, and what is left to add up."""

    def __init__(self, system: System) -> None:
        self.system = system.copy()
        self.known = {e.key: e.name for e in system if _is_sum(e)}

    def copy(self) -> _Sums:
        made = _Sums(self.system)
        made.known = dict(self.known)
        return made

    def split(self, e: Equation) -> bool:
        """Replace the equation of e's name by e, a sum of products, with the sums over n taken first."""
        d, operands = e.definition, Operands(e.operands)
        first = {i for i, _ in self.system.equations[e.name].definition.reduced}
        terms = []
        for term in sp.Add.make_args(d.body):
            factors = sp.Mul.make_args(term)
            inner = [f for f in factors if f.free_symbols & first]
            if not first <= set().union(*(f.free_symbols for f in inner)):
                return False
            outer = sp.Mul(*(f for f in factors if not f.free_symbols & first))
            terms.append(outer * self._sum(e, sp.Mul(*inner), first, operands))
        left = [loop for loop in d.loops if loop[0] not in first]
        made = define(left, d.shape, d.write, sp.Add(*terms))
        remarks = {"origin": e.origin, "adjoint_of": e.adjoint_of}
        self.system.add(equation(e.name, made, operands.names, **remarks))
        return True

    def _sum(self, e: Equation, body: Expr, first: set[Symbol], operands: Operands) -> Expr:
        """The element of the sum of the body over the loops `first`: one that is there, or a new one."""
        extents = e.definition.extents
        kept = [i for i in extents if i in body.free_symbols and i not in first]
        bound = [(i, n) for i, n in extents.items() if i in first]
        for order in islice(permutations(kept), ORDERS):
            loops = [*((i, extents[i]) for i in order), *bound]
            made = equation("", define(loops, [extents[i] for i in order], order, body), operands.names)
            name = self.known.get(made.key)
            if name is not None and name != e.name:
                return At(operands.number(name), order)
        loops = [*((i, extents[i]) for i in kept), *bound]
        definition = define(loops, [extents[i] for i in kept], kept, body)
        name = free_name(f"{e.name}_sum", self.system)
        made = equation(name, definition, operands.names, origin=e.origin, adjoint_of=e.adjoint_of)
        self.system.add(made)
        self.known[made.key] = name
        return At(operands.number(name), kept)
