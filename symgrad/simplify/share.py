"""Common subexpressions across the whole graph: equal equations become one."""

from __future__ import annotations

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import Definition


def share_equal(system: System) -> System:
    """Replace each equation that repeats an earlier one by that one."""
    result = system.copy()
    first: dict[tuple[Definition, tuple[str, ...], str], str] = {}
    same: dict[str, str] = {}
    wanted = set(system.wanted())
    for name, e in system.equations.items():
        renamed = _renamed(e, same)
        original = first.setdefault(renamed.key, name)
        if original != name and name not in wanted:
            same[name] = original
            del result.equations[name]
        else:
            result.equations[name] = renamed
    return result


def _renamed(e: Equation, names: dict[str, str]) -> Equation:
    if not any(operand in names for operand in e.operands):
        return e
    operands = [names.get(operand, operand) for operand in e.operands]
    return equation(e.name, e.definition, operands, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)
