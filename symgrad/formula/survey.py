"""What a system says about its notation before any formula is written."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from symgrad.equations import Equation, System
from symgrad.index.definition import At, Definition


def dimensions(system: System) -> set[str]:
    """The names of the symbolic dimensions."""
    return {str(s) for leaf in system.leaves.values() for n in leaf.shape for s in n.free_symbols}


def places(system: System, forward: Collection[str]) -> dict[str, int]:
    """What terms and factors are sorted by: forward tensors as they are computed, then adjoints, the last one first."""
    names = [*system.leaves, *(n for n in system.equations if n in forward)]
    backward = [n for n in system.equations if n not in forward]
    return {name: k for k, name in enumerate([*names, *reversed(backward)])}


def vectors_are_rows(system: System, forward: Collection[str]) -> bool:
    """Whether the network writes vectors to the left of matrices, and nowhere to their right."""
    sides: set[str] = set()
    for e in system:
        if e.name in forward:
            sides |= _sides(e.definition)
    return sides == {"left"}


@lru_cache(maxsize=4096)
def _sides(d: Definition) -> frozenset[str]:
    """Where a product of a vector and a matrix has its vector."""
    ats = d.accesses
    if not (is_product(d) and len(ats) == 2 and len(d.write) == 1 and len(d.reduced) == 1):
        return frozenset()
    vector = next((at for at in ats if len(at.index) == 1), None)
    matrix = next((at for at in ats if len(at.index) == 2), None)
    if vector is None or matrix is None:
        return frozenset()
    return frozenset({"left" if matrix.index[0] == vector.index[0] else "right"})


def is_copy(e: Equation) -> bool:
    """Whether e is another tensor under a new name."""
    d = e.definition
    return d.elementwise and isinstance(d.body, At) and d.body.view is None and d.body.index == d.write


@lru_cache(maxsize=4096)
def is_product(d: Definition) -> bool:
    """A matrix product, or an outer product of vectors."""
    if not (d.body.is_Mul and len(d.accesses) > 1 and d.reduction == "sum"):
        return False
    return bool(d.reduced) or (len(d.write) == 2 and all(len(at.index) < 2 for at in d.accesses))
