"""What scalar bodies of one form can know early is computed for all of them at once.

    hₜ = tanh(uₜ + b + vₜ) for each t, with every uₜ there before the first t: u + b is one Map
    δₜ = gₜ (1 - hₜ²) for each t, with every hₜ there before the first δ: 1 - h² is one Map

Those terms or factors of a body are early that read what is there before the first of the Maps, and what is the
same for all, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.lower.ir import Array, Code, Map, Statement, View, dims_product
from symgrad.machine import LIMITS, MACHINE, estimate
from symgrad.names import free_name
from symgrad.optimise.layout import Layout, view_layout
from symgrad.optimise.stacks import column, memory_order, parts_in_front
from symgrad.optimise.uses import fresh, targets

LARGE = 16 * MACHINE.call / MACHINE.element  # elements from which on a Map's work, and not the call, is what it costs


def share_early(code: Code, keep: Collection[str]) -> Code:
    """See the module's docstring."""
    sharing = _Sharing(fresh(code))
    sharing.run()
    return sharing.code


class _Sharing:
    """`before` says what comes before an old statement; `writes` where in memory each statement writes."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.before: dict[int, list[Statement]] = {}
        self.writes: dict[str, list[tuple[int, Layout | None]]] = {}
        for place, statement in enumerate(code.statements):
            for view in targets(statement):
                self.writes.setdefault(code.root(view.array), []).append((place, view_layout(code, view)))

    def run(self) -> None:
        families: dict[object, list[int]] = {}
        for place, s in enumerate(self.code.statements):
            if isinstance(s, Map) and s.target.whole and not s.accumulate and len(s.target.shape) > 1:
                s = self.code.statements[place] = _numbered(self.code, s)
                families.setdefault((s.target.shape, s.body, *self._invariant(s)), []).append(place)
        for places in families.values():
            if len(places) >= LIMITS.maps and estimate(dims_product(self._map(places[0]).target.shape)) <= LARGE:
                self._family(places)
        old = self.code.statements
        self.code.statements = [s for place, was in enumerate(old) for s in (*self.before.get(place, []), was)]

    def _map(self, place: int) -> Map:
        statement = self.code.statements[place]
        assert isinstance(statement, Map)
        return statement

    def _invariant(self, s: Map) -> list[View]:
        """What the Map reads that no statement writes."""
        return [view for view in s.reads.values() if self.code.root(view.array) not in self.writes]

    def _family(self, places: Sequence[int]) -> None:
        """Maps of one body: share the first part of it that most of them can know early, then the next one."""
        first = self._map(places[0])
        same = {s for s in first.reads if all(self._map(p).reads[s] == first.reads[s] for p in places)}
        small = {s for s in same if len(first.reads[s].shape) < len(first.target.shape)}
        known = {s for s in small if self._there(first.reads[s], places[0])}
        where = {s: self._parts(s, places) for s in first.reads if s not in same}
        parts = {s for s, found in where.items() if 4 * len(found) >= 3 * len(places)}
        for early in _early_parts(first.body, known | parts):
            symbols = sorted(early.free_symbols & parts, key=str)
            if symbols and not early.is_Symbol:
                fitting = [p for p in places if all(p in where[s] for s in symbols)]
                shared = self._share(fitting, early, symbols)
                if shared:
                    self._family(sorted(shared))
                return

    def _parts(self, symbol: Symbol, places: Sequence[int]) -> list[int]:
        """The Maps for which the symbol stands for an array of their own shape that is there before the first Map."""
        shape = self._map(places[0]).target.shape
        views = {p: self._map(p).reads[symbol] for p in places}
        return [p for p, view in views.items() if view.shape == shape and self._there(view, places[0])]

    def _there(self, view: View, place: int) -> bool:
        """Whether no statement from that place on writes what the view sees."""
        seen = view_layout(self.code, view)
        if seen is None:
            return False
        return all(p < place or _apart(seen, wrote) for p, wrote in self.writes.get(seen.root, []))

    def _share(self, places: Sequence[int], early: Expr, symbols: Sequence[Symbol]) -> Sequence[int]:
        """Compute `early` for the Maps at once; the places of those that read it now."""
        for symbol in symbols:  # those Maps that find it where most of them do
            roots = {p: self.code.root(self._map(p).reads[symbol].array) for p in places}
            ((root, count),) = Counter(roots.values()).most_common(1)
            places = [p for p in places if roots[p] == root] if count > 1 else places
        if len(places) < LIMITS.maps:
            return []
        columns = [column(self.code, [self._map(p).reads[s] for p in places]) for s in symbols]
        found = [c for c in columns if c is not None]
        order = memory_order(found) if len(found) == len(columns) else None
        if order is None:
            return []
        stacks = [parts_in_front(self.code, c, order) for c in found]
        first = self._map(places[0])
        reads = {s: v for s, v in zip(symbols, stacks, strict=True) if v is not None}
        if len(reads) < len(stacks):
            return []
        reads |= {s: first.reads[s] for s in sorted(early.free_symbols - reads.keys(), key=str)}
        made = self._array(first, len(places))
        target = View(made.name, made.shape)
        self.before.setdefault(places[0], []).append(Map(target, early, reads, equation=first.equation))
        for number, k in enumerate(order):
            self._read_early(places[k], early, View(made.name, first.target.shape, index=_part(number, made)))
        return places

    def _array(self, like: Map, count: int) -> Array:
        name = free_name(f"{like.target.array}_early", self.code.arrays)
        made = Array(name, (sp.Integer(count), *like.target.shape), self.code.arrays[like.target.array].dtype)
        self.code.arrays[name] = made
        return made

    def _read_early(self, place: int, early: Expr, view: View) -> None:
        s = self._map(place)
        symbol = Symbol(f"a{len(s.reads)}", real=True)
        body = _exchanged(s.body, early, symbol)
        reads = {k: v for k, v in {**s.reads, symbol: view}.items() if k in body.free_symbols}
        self.code.statements[place] = replace(s, body=body, reads=reads)


def _part(number: int, array: Array) -> tuple[Expr | None, ...]:
    return (sp.Integer(number), *(None,) * (len(array.shape) - 1))


def _apart(a: Layout, b: Layout | None) -> bool:
    """Whether provably no element is in both: their ranges do not meet."""
    if b is None:
        return False
    low, high = (a, b) if sp.expand(b.offset - a.offset).is_nonnegative else (b, a)
    last = low.offset + sp.Add(*((n - 1) * stride for n, stride in low.axes))
    return bool(sp.expand(high.offset - last).is_positive)


def _numbered(code: Code, s: Map) -> Map:
    """The Map with its symbols in a fixed order: parameters first, then as they were."""

    def key(symbol: Symbol) -> tuple[bool, int, str]:
        return code.arrays[s.reads[symbol].array].kind == "buffer", len(str(symbol)), str(symbol)

    names = {symbol: Symbol(f"a{k}", real=True) for k, symbol in enumerate(sorted(s.reads, key=key))}
    return replace(s, body=s.body.xreplace(names), reads={names[symbol]: view for symbol, view in s.reads.items()})


def _early_parts(body: Expr, known: Collection[Expr]) -> Iterator[Expr]:
    """The largest parts of a body, terms of a sum or factors of a product together, that only read `known`."""
    if not body.args or not body.free_symbols:
        return
    if body.is_Add or body.is_Mul:
        args = [a for a in body.args if a.free_symbols and a.free_symbols <= set(known)]
        if args and (len(args) > 1 or not args[0].is_Symbol):
            yield body.func(*args)
    for a in body.args:
        yield from _early_parts(a, known)


def _exchanged(body: Expr, early: Expr, symbol: Symbol) -> Expr:
    """The body with the symbol for the terms or factors that `early` consists of."""
    if body == early:
        return symbol
    if body.func == early.func and set(early.args) <= set(body.args):
        return body.func(symbol, *(a for a in body.args if a not in early.args))
    if early in body.args and (body.is_Add or body.is_Mul):
        return body.func(*(symbol if a == early else a for a in body.args))
    return body.func(*(_exchanged(a, early, symbol) for a in body.args)) if body.args else body
