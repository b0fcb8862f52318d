"""Products of one form as one product over stacked operands.

    dW = x₁ᵀδ₁ + x₂ᵀδ₂ + ...        one product of all rows of x with all rows of δ, and no sum
    db = Σₙ δ₁ + Σₙ δ₂ + ...        one sum over all rows of δ
    zₜ = xₜ W, for each t           one product, if every xₜ is there before the first zₜ is wanted

The operands of a stack lie behind one another in one array, as parts of it: nothing is copied, except an input
that is cut along another axis than its first one, which is brought into this order once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr

from symgrad.lower.ir import Code, Contract, Map, Reduce, Statement, View, dims_product, whole
from symgrad.machine import LIMITS, MACHINE, estimate
from symgrad.optimise.stacks import Column, column, copy_in_front, memory_order, stacked, transposed
from symgrad.optimise.uses import Uses, added_symbols, fresh, own_buffer

SMALL = 40 * MACHINE.call / MACHINE.multiplication  # multiplications of a product beside which a call counts


def stack_contractions(code: Code, keep: Collection[str]) -> Code:
    """See the module's docstring."""
    stacking = _Stacking(fresh(code), keep)
    stacking.sums()
    stacking.shared_operands()
    return stacking.result()


@dataclass(frozen=True)
class _Term:
    """A term of a sum: its symbol, the array that it stands for, and the place of what computes that."""

    symbol: Expr
    array: str
    place: int


class _Stacking:
    """`changed` says what stands in the place of an old statement; `made` where an array is complete."""

    def __init__(self, code: Code, keep: Collection[str]) -> None:
        self.code, self.keep, self.uses = code, set(keep), Uses(code)
        self.home = {name: code.root(name) for name in code.arrays}
        self.made = {root: places[-1] for root, places in self.uses.writes.items()}
        self.changed: dict[int, list[Statement]] = {}
        self.before: dict[int, list[Statement]] = {}
        self.copies: dict[tuple[str, int], str] = {}

    def result(self) -> Code:
        old = self.code.statements
        self.code.statements = [
            s for place, was in enumerate(old) for s in (*self.before.get(place, []), *self.changed.get(place, [was]))
        ]
        return self.code

    # sums of products, and of sums

    def sums(self) -> None:
        """The sums with most terms first, so that shorter ones find their operands in the order of a longer one."""
        places = [p for p, s in enumerate(self.code.statements) if isinstance(s, Map) and s.target.whole]
        found = [(p, terms) for p in places if len(terms := self._terms(p)) > 1]
        for place, terms in sorted(found, key=lambda item: -len(item[1])):
            for group in self._alike(terms):
                if len(group) > 1:
                    self._stack_sum(place, group)

    def _terms(self, place: int) -> list[_Term]:
        """The terms of a sum that are products which nobody else reads."""
        statement = self.code.statements[place]
        assert isinstance(statement, Map)
        found = []
        for symbol in added_symbols(statement.body):
            view = statement.reads[symbol]
            writes = self.uses.written(view.array)
            alone = own_buffer(self.code, view.array) and view.array not in self.keep
            if not view.whole or not alone or len(writes) != 1 or self.uses.read(view.array) != [place]:
                continue
            if isinstance(self.code.statements[writes[0]], Contract | Reduce):
                found.append(_Term(symbol, view.array, writes[0]))
        return found

    def _alike(self, terms: Sequence[_Term]) -> list[list[_Term]]:
        groups: dict[object, list[_Term]] = {}
        for term in terms:
            groups.setdefault(_form(self.code.statements[term.place]), []).append(term)
        return list(groups.values())

    def _stack_sum(self, place: int, terms: Sequence[_Term]) -> None:
        statements = [self.code.statements[t.place] for t in terms]
        merged = self._merged_sum(place, statements)
        if merged is None:
            return
        outer = self.changed.get(place, [self.code.statements[place]])[-1]
        assert isinstance(outer, Map)
        for term in terms:
            self.changed[term.place] = []
        symbols = {t.symbol for t in terms}
        rest = sp.Add(*(t for t in sp.Add.make_args(outer.body) if t not in symbols))
        before = self.changed.get(place, [outer])[:-1]
        if rest == 0 and not outer.accumulate and merged.target == whole(self.code.arrays[terms[0].array]):
            self.changed[place] = [*before, replace(merged, target=outer.target, equation=outer.equation)]
            return
        reads = {s: v for s, v in outer.reads.items() if s not in symbols or s == terms[0].symbol}
        total = replace(outer, body=rest + terms[0].symbol, reads=reads)
        self.changed[place] = [*before, replace(merged, equation=outer.equation), total]

    def _merged_sum(self, place: int, statements: Sequence[Statement]) -> Contract | Reduce | None:
        """The sum of the statements' values as one statement that writes to the first one's target."""
        first = statements[0]
        if isinstance(first, Reduce):
            if first.kind != "sum" or first.axes != tuple(range(len(first.axes))):
                return None
            columns = self._columns(place, [[s.source for s in statements if isinstance(s, Reduce)]], len(first.axes))
            views = self._stacked(columns)
            return replace(first, source=views[0], axes=(0,)) if views else None
        assert isinstance(first, Contract)
        products = [s for s in statements if isinstance(s, Contract)]
        if first.form != "dot" or len(first.left.shape) > 2 or len(first.right.shape) > 2:
            return None
        turned = len(first.left.shape) == 2
        lefts = [transposed(s.left) if turned else s.left for s in products]
        columns = self._columns(place, [lefts, [s.right for s in products]])
        views = self._stacked(columns)
        if not views:
            return None
        left, right = views
        return replace(first, left=transposed(left) if turned else left, right=right)

    def _columns(self, place: int, views: Sequence[Sequence[View]], leading: int = 1) -> list[Column] | None:
        found = []
        for operands in views:
            c = column(self.code, operands, leading) or self._from_copy(place, operands, leading)
            if c is None:
                return None
            found.append(c)
        return found

    def _stacked(self, columns: Sequence[Column] | None) -> list[View] | None:
        order = memory_order(columns) if columns else None
        if not columns or order is None:
            return None
        return [stacked(self.code, c, order) for c in columns]

    def _from_copy(self, place: int, operands: Sequence[View], leading: int) -> Column | None:
        """An input's parts along another axis than the first one, in a copy that has this axis first."""
        name, axis = operands[0].array, _cut_axis(operands)
        if axis is None or self.code.arrays[name].kind != "input":
            return None
        if (name, axis) not in self.copies:
            if len(operands) < LIMITS.stacked:
                return None
            made, statement = copy_in_front(self.code, name, axis)
            first = self.uses.read(name)[0]
            self.before.setdefault(first, []).append(replace(statement, equation=self.code.statements[first].equation))
            self.copies[name, axis] = made
        made = self.copies[name, axis]
        return column(self.code, [_part_of_copy(view, made, axis) for view in operands], leading)

    # products with a shared operand

    def shared_operands(self) -> None:
        groups: dict[object, list[int]] = {}
        for place, statement in enumerate(self.code.statements):
            if place not in self.changed and isinstance(statement, Contract) and self._is_row_product(statement):
                shape = statement.left.shape, statement.target.shape
                groups.setdefault((statement.right, *shape), []).append(place)
        for places in groups.values():
            self._shared(places)

    def _is_row_product(self, s: Contract) -> bool:
        """A small product of two matrices into an array of its own, whose rows are those of the left one."""
        if s.form != "dot" or len(s.left.shape) != 2 or len(s.right.shape) != 2:
            return False
        array = s.target.array
        multiplications = estimate(dims_product((*s.left.shape, s.right.shape[1])))
        alone = own_buffer(self.code, array) and len(self.uses.written(array)) == 1
        return alone and array not in self.keep and not s.target.index and multiplications <= SMALL

    def _shared(self, places: Sequence[int]) -> None:
        """Stack the products at these places, as many at a time as can be computed before one is read."""
        group: list[int] = []
        for place in places:
            if group and self._anchor([*group, place]) is None:
                self._stack_rows(group)
                group = []
            group.append(place)
        self._stack_rows(group)

    def _anchor(self, places: Sequence[int]) -> int | None:
        """The place of the first product that has all operands before it, if nobody wants a result earlier."""
        products = [s for p in places if isinstance(s := self.code.statements[p], Contract)]
        ready = max(self.made.get(self.home.get(s.left.array, s.left.array), -1) for s in products)
        wanted = min(self.uses.read(s.target.array)[0] for s in products)
        return next((p for p in places if ready < p < wanted), None)

    def _stack_rows(self, places: Sequence[int]) -> None:
        if len(places) < 2:
            return
        anchor = self._anchor(places)
        products = [s for p in places if isinstance(s := self.code.statements[p], Contract)]
        columns = self._columns(places[0], [[s.left for s in products], [s.target for s in products]])
        views = self._stacked(columns) if anchor is not None else None
        if views is None or anchor is None:
            return
        for place, s in zip(places, products, strict=True):
            self.changed[place] = []
            self.made[s.target.array] = anchor
        at = self.code.statements[anchor]
        self.changed[anchor] = [replace(products[0], left=views[0], target=views[1], equation=at.equation)]


def _form(statement: Statement) -> object:
    """What products have in common that one product can stand for."""
    if isinstance(statement, Reduce):
        return statement.kind, statement.axes, statement.source.shape
    assert isinstance(statement, Contract)
    return statement.form, statement.target.shape, statement.left.shape, statement.right.shape


def _cut_axis(operands: Sequence[View]) -> int | None:
    """The axis, not the first one, that every operand cuts at an index of its own, and nothing else."""
    first = operands[0]
    axes = [k for k, entry in enumerate(first.index) if entry is not None]
    if len(axes) != 1 or axes[0] == 0:
        return None
    for view in operands:
        plain = replace(view, index=first.index) == first
        entries = [k for k, entry in enumerate(view.index) if entry is not None]
        if not plain or entries != axes or not isinstance(view.index[axes[0]], sp.Integer) or view.order is not None:
            return None
    return axes[0] if first.reshape is None and not first.windows and not first.inserted else None


def _part_of_copy(view: View, array: str, axis: int) -> View:
    return View(array, view.shape, index=(view.index[axis], *(None,) * len(view.shape)))

