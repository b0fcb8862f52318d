"""Derivatives written in values that are there already: 1 - tanh(z)**2 as 1 - h**2 where h = tanh(z)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sympy import Expr, Pow, Symbol

from symgrad.equations import Equation, System
from symgrad.index.bounds import within
from symgrad.index.definition import At
from symgrad.simplify.substitute import Operands, rebuilt


def reuse_forward_values(system: System, values: Callable[[Equation], bool] = lambda e: True) -> System:
    """In each equation, replace every part that an earlier elementwise equation computes by that value.

    Only the equations that `values` accepts are used so.
    """
    result = system.copy()
    by_operand: dict[str, list[Equation]] = {}
    for name, e in system.equations.items():
        for value in _candidates(e, by_operand):
            e = _with_value(system, e, value)
        result.equations[name] = e
        if _is_worth_reading(e) and values(e):
            by_operand.setdefault(e.operands[0], []).append(e)
    return result


def _is_worth_reading(e: Equation) -> bool:
    d = e.definition
    return (
        d.elementwise and e.dtype == "float" and bool(d.body.args) and not isinstance(d.body, At) and bool(e.operands)
    )


def _candidates(e: Equation, by_operand: dict[str, list[Equation]]) -> list[Equation]:
    return [value for operand in e.operands for value in by_operand.get(operand, ())]


def _with_value(system: System, e: Equation, value: Equation) -> Equation:
    if not set(value.operands) <= set(e.operands):
        return e
    for place in _places(system, e, value):
        operands = Operands(e.operands)
        part = operands.adopt(value.definition.body, value.operands).xreplace(place)
        if not part.has(At) or isinstance(part, At):
            continue
        read = At(operands.number(value.name), [place[i] for i, _ in value.definition.loops])
        body = _replaced(e.definition.body, part, read)
        if body != e.definition.body:
            e = rebuilt(e, body, operands)
    return e


def _places(system: System, e: Equation, value: Equation) -> Iterator[dict[Symbol, Expr]]:
    """The index substitutions under which an access of `value` becomes an access of `e`.

    Data may name any element of the tensor that is read: then `value` must have that axis whole.
    """
    loops = [i for i, _ in value.definition.loops]
    pattern = max(value.definition.accesses, key=lambda at: len(at.free_symbols.intersection(loops)))
    tensor = value.source(pattern)
    for at in e.definition.accesses:
        if e.source(at) != tensor or at.view != pattern.view:
            continue
        place = dict(zip(pattern.index, at.index, strict=True))
        bound = {i: place[i] for i in loops if i in place}
        sizes = dict(zip(pattern.index, pattern.sizes(system.shape(tensor)), strict=True))
        inside = all(
            n == sizes[i] if bound[i].has(At) else within(bound[i], e.definition.extents, n)
            for i, n in value.definition.loops
            if i in bound
        )
        if len(bound) == len(loops) and inside:
            yield bound


def _replaced(body: Expr, part: Expr, value: Expr) -> Expr:
    """`value` for `part`, and its powers for powers of part's base that are defined where the part is."""
    if not isinstance(part, Pow):
        return body.xreplace({part: value})
    base, power = part.as_base_exp()
    powers = [p for p in body.atoms(Pow) if p.base == base and p.exp.is_Rational and power.is_Rational]
    change = {p: value ** (p.exp / power) for p in powers if (p.exp / power).is_Integer and p.exp.q == power.q}
    return body.xreplace(change)
