"""Which statements write and read an array; and the statements that are no more than a copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from sympy import Expr, Integer

from symgrad.lower.ir import Code, For, Map, Scatter, Statement, View, flattened, views_read


class Uses:
    """For each array with memory of its own, the places of the statements, not `gone`, that write and read it."""

    def __init__(self, code: Code, gone: Collection[int] = ()) -> None:
        self.writes: dict[str, list[int]] = {}
        self.reads: dict[str, list[int]] = {}
        for place, statement in enumerate(code.statements):
            if place in gone:
                continue
            for view in targets(statement):
                _note(self.writes, code.root(view.array), place)
            for view in views_read(statement):
                _note(self.reads, code.root(view.array), place)

    def written(self, root: str) -> list[int]:
        return self.writes.get(root, [])

    def read(self, root: str) -> list[int]:
        return self.reads.get(root, [])


def _note(places: dict[str, list[int]], root: str, place: int) -> None:
    known = places.setdefault(root, [])
    if not known or known[-1] != place:
        known.append(place)


def targets(statement: Statement) -> list[View]:
    """What a statement writes."""
    if isinstance(statement, For):
        return [inner.target for inner in flattened(statement.body) if not isinstance(inner, For)]
    return [statement.target]


def purely_read(statement: Statement) -> list[View]:
    """What a statement reads, without the target that it adds to."""
    if isinstance(statement, Map):
        return list(statement.reads.values())
    if isinstance(statement, Scatter):
        return views_read(statement)[:-1]
    return views_read(statement)


def views_of(statement: Statement) -> Iterator[View]:
    yield from views_read(statement)
    yield from targets(statement)


def copied(statement: Statement) -> View | None:
    """The view that a statement copies into its target as it is, if it does no more."""
    if isinstance(statement, Map) and not statement.accumulate and len(statement.reads) == 1:
        ((symbol, view),) = statement.reads.items()
        view = _with_rank(view, len(statement.target.shape))
        if statement.body == symbol and view.shape == statement.target.shape:
            return view
    return None


def _with_rank(view: View, rank: int) -> View:
    """The view with the axes of size 1 in front that broadcasting gives it."""
    more = rank - len(view.shape)
    inserted = (*range(more), *(k + more for k in view.inserted))
    return replace(view, shape=(Integer(1),) * more + view.shape, inserted=inserted) if more > 0 else view


def same_type(code: Code, first: str, second: str) -> bool:
    return code.arrays[first].dtype == code.arrays[second].dtype


def fresh(code: Code) -> Code:
    """A copy that a pass may change."""
    return Code(dict(code.arrays), list(code.statements), dict(code.values))


def make_alias(code: Code, name: str, view: View) -> None:
    """Let the array be a view of another one from now on."""
    code.arrays[name] = replace(code.arrays[name], alias=view)


def own_buffer(code: Code, name: str) -> bool:
    """Whether the array is a buffer with memory of its own."""
    return code.arrays[name].kind == "buffer" and code.arrays[name].alias is None


def added_symbols(body: Expr) -> list[Expr]:
    """The bare symbols among the terms of a sum that occur nowhere else in it."""
    terms = body.args if body.is_Add else (body,)
    return [t for t in terms if t.is_Symbol and not any(t in u.free_symbols for u in terms if u is not t)]
