"""Few elements added in place: what is 0 but for a scatter is not an array that is filled, and read whole, to be added.

    A <- 0;  A[index] = v;  ...;  M <- body + A        becomes        M <- body;  M[index] += v

where nothing else reads A: the 1 at the label in the gradient of softmax cross-entropy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sympy import Symbol

from symgrad.lower.ir import Code, Fill, Map, Scatter
from symgrad.optimise.uses import Uses, added_symbols, fresh, own_buffer


def accumulate_scatters(code: Code, keep: Collection[str]) -> Code:
    """The code with every scatter into zeros that one sum reads made into that sum's array."""
    made = fresh(code)
    uses = Uses(code)
    kept = {code.root(name) for name in keep}
    gone: set[int] = set()
    after: dict[int, Scatter] = {}
    for name in code.arrays:
        places = uses.written(name)
        if name in kept or not own_buffer(code, name) or len(places) != 2:
            continue
        fill, scatter = (code.statements[place] for place in places)
        readers = [place for place in uses.read(name) if place not in places]
        if not _is_scatter_into_zeros(fill, scatter) or len(readers) != 1 or readers[0] in after:
            continue
        assert isinstance(scatter, Scatter)
        total = code.statements[readers[0]]
        symbol = _added(total, name)
        if symbol is None or not isinstance(total, Map):
            continue
        reads = {s: view for s, view in total.reads.items() if s != symbol}
        made.statements[readers[0]] = replace(total, body=total.body - symbol, reads=reads)
        after[readers[0]] = replace(scatter, target=total.target, equation=total.equation, fresh=False)
        gone.update(places)
    made.statements = [
        s
        for place, statement in enumerate(made.statements)
        if place not in gone
        for s in (statement, *([after[place]] if place in after else []))
    ]
    return made


def _is_scatter_into_zeros(fill: object, scatter: object) -> bool:
    if not isinstance(fill, Fill) or not isinstance(scatter, Scatter):
        return False
    return fill.value == 0 and fill.target.whole and scatter.target.whole and scatter.unique


def _added(statement: object, name: str) -> Symbol | None:
    """The symbol of the whole array `name` among the terms of the sum that the statement writes."""
    if not isinstance(statement, Map) or statement.accumulate or not statement.target.whole or len(statement.reads) < 2:
        return None
    found = [s for s, view in statement.reads.items() if view.array == name]
    if len(found) != 1 or not statement.reads[found[0]].whole:
        return None
    same = statement.reads[found[0]].shape == statement.target.shape
    return found[0] if same and found[0] in added_symbols(statement.body) else None
