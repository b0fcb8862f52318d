"""Each definition as array statements, by the form of its body.

elementwise body            Map (a term that reaches outside its operand: on the part inside)
sum of a product            Contract, pairwise, cheapest first; factors that are no plain access get a Map
other reductions            Reduce of a view, or of a Map over all loops
data-dependent index        Gather before, Scatter after
affine scatter              Map into strided parts of the target, in For over the small offsets
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System
from symgrad.errors import EmitError
from symgrad.index.bounds import within
from symgrad.index.definition import At, map_accesses, outermost
from symgrad.lower.ir import (
    Array,
    Code,
    Contract,
    Cut,
    Fill,
    For,
    Gather,
    Map,
    Reduce,
    Scatter,
    Statement,
    View,
    whole,
)
from symgrad.lower.views import ONE, ZERO, inside, loops_of, merged_view, padding, view_of, without_leading
from symgrad.names import free_name

MAX_OFFSETS = 4096


def lower(system: System, reserved: Iterable[str] = ()) -> Code:
    """The statements that compute every equation of the system, in order.

    Names that are `reserved` are avoided. Raises EmitError for what has no array form.
    """
    lowering = _Lowering(system, set(reserved))
    for leaf in system.leaves.values():
        lowering.leaf(leaf.name)
    for e in system:
        _Job(lowering, e).run()
    return lowering.code


class _Lowering:
    """The code so far, and the names in it."""

    def __init__(self, system: System, reserved: set[str]) -> None:
        self.system, self.reserved = system, reserved
        self.code = Code()
        self.gradients = {e: wrt for wrt, e in system.gradients.items()}
        self.ranges: dict[Expr, Array] = {}

    def leaf(self, name: str) -> None:
        leaf = self.system.leaves[name]
        array = Array(self.name(name), leaf.shape, leaf.dtype, leaf.kind, value=leaf.value)
        self.code.arrays[array.name] = array
        self.code.values[name] = array.name

    def name(self, wanted: str) -> str:
        taken: Container[str] = {*self.code.arrays, *self.reserved}
        return free_name(wanted if wanted not in self.reserved else wanted + "_", taken)

    def array(self, wanted: str, shape: Sequence[Expr], dtype: str = "float", alias: View | None = None) -> Array:
        made = Array(self.name(wanted), tuple(shape), dtype, alias=alias)
        self.code.arrays[made.name] = made
        return made

    def range(self, extent: Expr) -> Array:
        """The array 0, 1, ... extent - 1."""
        if extent not in self.ranges:
            size = "".join(c if c.isalnum() else "_" for c in str(extent))
            made = Array(self.name(f"range_{size}"), (extent,), "int64", "range")
            self.code.arrays[made.name] = made
            self.ranges[extent] = made
        return self.ranges[extent]


@dataclass(frozen=True)
class _Factor:
    """One operand of a product: an access that is a view, and the loops it has."""

    at: At
    loops: tuple[Symbol, ...]


class _Job:
    """One equation being lowered. Accesses count in `arrays`: the equation's operands, then temporaries."""

    def __init__(self, lowering: _Lowering, e: Equation) -> None:
        self.lowering, self.e = lowering, e
        code = lowering.code
        self.arrays: list[Array] = [code.arrays[code.values[name]] for name in e.operands]
        self.extents: dict[Symbol, Expr] = dict(e.definition.extents)
        self.offsets: dict[Symbol, Expr] = {}
        self.sink: list[Statement] = code.statements

    # the equation

    def run(self) -> None:
        d = self.e.definition
        if not d.gathers:
            self._scatter_form()
            return
        axes = list(d.write)
        if d.elementwise:
            target = self._result()
            self._elementwise(whole(target), axes, d.body)
        elif d.reduction == "sum":
            self._sum_equation(axes)
        else:
            target = self._result()
            self._reduce(whole(target), axes, d.reduction, self._plain(d.body))

    def _result(self) -> Array:
        """The array of the equation's value, in its own shape."""
        made = self.lowering.array(self.e.name, self.e.shape, self.e.dtype)
        self.lowering.code.values[self.e.name] = made.name
        return made

    def _temporary(self, suffix: str, axes: Sequence[Symbol], dtype: str = "float") -> tuple[Array, At]:
        made = self.lowering.array(f"{self.e.name}_{suffix}", [self._size(i) for i in axes], dtype)
        return made, self._number(made, axes)

    def _number(self, array: Array, axes: Sequence[Expr]) -> At:
        self.arrays.append(array)
        return At(len(self.arrays) - 1, axes)

    def _size(self, loop: Symbol) -> Expr:
        return self.extents[loop]

    def _emit(self, statement: Statement) -> None:
        self.sink.append(replace(statement, equation=self.e.name))

    # elementwise bodies

    def _elementwise(self, target: View, axes: Sequence[Symbol], body: Expr, accumulate: bool = False) -> None:
        """target <- body, where the target's axes are `axes`."""
        body = map_accesses(body, self._viewable)
        if all(self._inside(at) for at in outermost(body)):
            self._map(target, axes, body, accumulate)
        elif not accumulate and all(self._boxed(term) is not None for term in sp.Add.make_args(body)):
            self._by_terms(target, axes, body)
        else:
            self._map(target, axes, map_accesses(body, self._plain), accumulate)

    def _map(self, target: View, axes: Sequence[Symbol], body: Expr, accumulate: bool) -> None:
        reads: dict[Symbol, View] = {}
        change: dict[Expr, Symbol] = {}
        for k, at in enumerate(sorted(outermost(body), key=sp.default_sort_key)):
            symbol = sp.Symbol(f"a{k}", real=True)
            change[at], reads[symbol] = symbol, without_leading(self._view(at, axes))
        body = body.xreplace(change)
        for i in loops_of(body, self.extents):
            at = self._number(self.lowering.range(self._size(i)), [i])
            reads[i] = without_leading(self._view(at, axes))
        self._emit(Map(target, body, reads, accumulate))

    def _inside(self, at: At) -> bool:
        return inside(at, self.arrays[at.operand].shape, {**self.extents, **self.offsets})

    def _viewable(self, at: At) -> At:
        """The access itself, or one to a gathered copy where no view gives it."""
        at = self._contiguous(at)
        axes = loops_of(at, self.extents)
        if view_of(self.arrays[at.operand], at, axes, self.extents):
            return at
        return self._gathered(at)

    def _contiguous(self, at: At) -> At:
        """The access to a copy, where it reshapes what does not lie row after row."""
        array = self.arrays[at.operand]
        if at.view is None or array.alias is None:
            return at
        copy = self.lowering.array(f"{array.name}_copy", array.shape, array.dtype)
        x = sp.Symbol("a0", real=True)
        self._emit(Map(whole(copy), x, {x: whole(array)}))
        return At(self._number(copy, at.index).operand, at.index, at.view)

    def _plain(self, at: At) -> At:
        """An access that is a view and stays inside: gathered or padded where it has to be."""
        at = self._viewable(at)
        return at if self._inside(at) else self._padded(at)

    def _padded(self, at: At) -> At:
        """The access to a copy with a border of zeros."""
        array = self.arrays[at.operand]
        sizes = at.sizes(array.shape)
        reach = padding(at, array.shape, {**self.extents, **self.offsets})
        shape = [sp.expand(n + a + b) for n, (a, b) in zip(sizes, reach, strict=True)]
        bordered = self.lowering.array(f"{array.name}_padded", shape, array.dtype)
        cuts = tuple(Cut(a, n) if (a, b) != (0, 0) else None for n, (a, b) in zip(sizes, reach, strict=True))
        x = sp.Symbol("a0", real=True)
        self._emit(Fill(whole(bordered), ZERO))
        self._emit(Map(View(bordered.name, sizes, index=cuts), x, {x: View(array.name, sizes, at.view)}))
        return self._number(bordered, [e + a for e, (a, _) in zip(at.index, reach, strict=True)])

    def _gathered(self, at: At) -> At:
        """A copy of the elements that the access reads, one axis per loop."""
        array = self.arrays[at.operand]
        axes = loops_of(at, self.extents)
        at = At(at.operand, [map_accesses(e, self._plain) for e in at.index], at.view)
        affine = At(at.operand, [ZERO if e.has(At) else e for e in at.index], at.view)
        if not self._inside(affine):
            bordered = self._padded(affine)
            array = self.arrays[bordered.operand]
            index = [e if e.has(At) else b for e, b in zip(at.index, bordered.index, strict=True)]
            at = At(bordered.operand, index)
        entries, axes = self._index(at.index, at.sizes(array.shape), axes)
        made, copy = self._temporary("taken", axes, array.dtype)
        source = View(array.name, at.sizes(array.shape), at.view)
        self._emit(Gather(whole(made), source, entries))
        return copy

    def _index(
        self, index: Sequence[Expr], shape: Sequence[Expr], axes: list[Symbol]
    ) -> tuple[tuple[View | None, ...], list[Symbol]]:
        """Index entries, and the order of the axes that indexing with them gives."""
        picked = [k for k, e in enumerate(index) if e.has(At)]
        rest = [e for e in index if not e.has(At)]
        if len(picked) == 1 and all(
            self.extents.get(e) == n for e, n in zip(index, shape, strict=True) if not e.has(At)
        ):
            at = index[picked[0]]
            loops = loops_of(at, self.extents)
            if not set(loops) & set(rest) and len(set(rest)) == len(rest) and isinstance(at, At):
                place = [*rest[: picked[0]], *loops, *rest[picked[0] :]]
                if set(place) == set(axes):
                    return tuple(self._integers(e, loops) if e.has(At) else None for e in index), place
        return tuple(self._integers(e, axes) for e in index), axes

    def _integers(self, e: Expr, axes: Sequence[Symbol]) -> View:
        """An index expression as an integer array over `axes`."""
        if isinstance(e, At):
            return without_leading(self._view(e, axes))
        loops = loops_of(e, self.extents)
        if len(loops) == 1 and e == loops[0]:
            at = self._number(self.lowering.range(self._size(e)), [e])
        else:
            made, at = self._temporary("index", loops, "int64")
            self._elementwise(whole(made), loops, e)
        return without_leading(self._view(at, axes))

    # terms that reach outside

    def _by_terms(self, target: View, axes: Sequence[Symbol], body: Expr) -> None:
        """A sum of terms, each on the box of indices where what it reads is inside."""
        terms = sorted(sp.Add.make_args(body), key=lambda t: (bool(self._boxed(t)), sp.default_sort_key(t)))
        covered = not self._boxed(terms[0])
        if not covered:
            self._emit(Fill(target, ZERO))
        for k, term in enumerate(terms):
            box = self._boxed(term) or {}
            self._on_box(target, axes, term, box, accumulate=(covered and k > 0) or (not covered and len(terms) > 1))

    def _on_box(
        self,
        target: View,
        axes: Sequence[Symbol],
        term: Expr,
        box: Mapping[Symbol, tuple[Expr, Expr]],
        accumulate: bool,
    ) -> None:
        outer = dict(self.extents)
        change = {i: i + low for i, (low, _) in box.items()}
        self.extents.update({i: count for i, (_, count) in box.items()})
        part = replace(target, index=self._narrowed(target, axes, box), shape=tuple(map(self._size, axes)))
        self._map(part if box else target, axes, map_accesses(term.xreplace(change), self._expanded), accumulate)
        self.extents = outer

    def _narrowed(
        self, target: View, axes: Sequence[Symbol], box: Mapping[Symbol, tuple[Expr, Expr]]
    ) -> tuple[Cut | Expr | None, ...]:
        """The target's index with the axes of the box cut further."""
        loops = iter(axes)
        entries: list[Cut | Expr | None] = []
        for entry in target.index or (None,) * len(axes):
            if isinstance(entry, Expr):
                entries.append(entry)
                continue
            loop = next(loops)
            if loop in box:
                low, count = box[loop]
                entry = Cut(low, count) if entry is None else Cut(entry.start + entry.step * low, count, entry.step)
            entries.append(entry)
        return tuple(entries)

    def _expanded(self, at: At) -> At:
        return At(at.operand, [sp.expand(e) for e in at.index], at.view)

    def _boxed(self, term: Expr) -> dict[Symbol, tuple[Expr, Expr]] | None:
        """{loop: (first, count)} outside of which the term is 0; None if that is not a box."""
        box: dict[Symbol, tuple[Expr, Expr]] = {}
        for at in outermost(term):
            if self._inside(at):
                continue
            if at not in sp.Mul.make_args(term) or at.view is not None:
                return None
            for e, n in zip(at.index, self.arrays[at.operand].shape, strict=True):
                if within(e, {**self.extents, **self.offsets}, n):
                    continue
                loops = loops_of(e, self.extents)
                if len(loops) != 1 or e.coeff(loops[0]) != 1 or loops[0] in box or e.free_symbols & self.offsets.keys():
                    return None
                low = sp.Max(ZERO, loops[0] - e)
                high = sp.Min(self._size(loops[0]), sp.expand(n + loops[0] - e))
                box[loops[0]] = (low, sp.expand(high - low))
        return box

    # sums

    def _sum_equation(self, axes: list[Symbol]) -> None:
        """The equation's own sum, in the layout that the contraction gives it."""
        e = self.e
        if e.name in self.lowering.gradients or any(i not in e.definition.body.free_symbols for i in axes):
            self._sum(whole(self._result()), axes, e.definition.body)
            return
        self._sum(None, axes, e.definition.body)

    def _sum(self, target: View | None, axes: list[Symbol], body: Expr, accumulate: bool = False) -> None:
        """target <- sum of body over the loops that `axes` lacks; None is the equation's own, in any layout."""
        scale, factors, rest = self._factors(body)
        bound = [i for i in self.extents if i not in axes]
        scale *= sp.Mul(*(self._size(i) for i in bound if i not in body.free_symbols))
        if rest is not None:
            factors = [self._evaluated(rest)]
        target = target or (None if len(factors) > 1 and not accumulate else whole(self._result()))
        covers = {i for f in factors for i in f.loops}
        present = [i for i in axes if i in covers]
        if accumulate or (target is not None and (present != axes or (len(factors) > 1 and not target.whole))):
            self._sum_then_spread(target, axes, present, factors, scale, accumulate)
            return
        self._product(target, axes, factors, scale)

    def _sum_then_spread(
        self,
        target: View | None,
        axes: list[Symbol],
        present: list[Symbol],
        factors: list[_Factor],
        scale: Expr,
        accumulate: bool,
    ) -> None:
        assert target is not None
        made, at = self._temporary("part", present)
        self._product(whole(made), present, factors, scale)
        self._map(target, axes, at, accumulate)

    def _factors(self, body: Expr) -> tuple[Expr, list[_Factor], Expr | None]:
        """(scale, factors, None), or (1, [], body) where the body is no product."""
        scale: Expr = ONE
        found: list[At] = []
        others: list[Expr] = []
        for part in sp.Mul.make_args(body):
            base, power = part.as_base_exp()
            if isinstance(part, sp.exp):
                base, power = part, ONE
            if isinstance(base, At) and power in (1, 2):
                found += [base] * int(power)
            elif part.has(At) or part.free_symbols & self.extents.keys():
                others.append(part)
            else:
                scale *= part
        if not found and (others or scale == 1) and not outermost(body):
            return ONE, [], body
        if not found or (len(others) > 1 and len(found) < 1):
            return ONE, [], body
        factors = [self._factor(self._plain(at)) for at in found]
        return scale, [*factors, *([self._evaluated(sp.Mul(*others))] if others else [])], None

    def _factor(self, at: At) -> _Factor:
        return _Factor(at, tuple(loops_of(at, self.extents)))

    def _evaluated(self, body: Expr) -> _Factor:
        """A factor that is no access: its values in an array over the loops it has."""
        body = map_accesses(body, self._viewable)
        axes = loops_of(body, self.extents)
        made, at = self._temporary("each", axes)
        self._elementwise(whole(made), axes, body)
        return _Factor(at, tuple(axes))

    def _product(self, target: View | None, axes: list[Symbol], factors: list[_Factor], scale: Expr) -> None:
        """The sum of the product of factors, contracted pairwise; the cheapest pair first."""
        while len(factors) > 2:
            left, right = self._cheapest(factors, axes)
            rest = [f for f in factors if f is not left and f is not right]
            kept = [i for i in self._union(left, right) if i in axes or any(i in f.loops for f in rest)]
            made, at = self._temporary("pair", kept)
            self._pair(whole(made), kept, left, right)
            factors = [*rest, _Factor(at, tuple(kept))]
        if len(factors) == 2:
            self._pair(target, axes, *factors)
        else:
            assert target is not None
            self._reduce(target, axes, "sum", factors[0].at)
        if scale != 1:
            self._scale(target, scale)

    def _scale(self, target: View | None, scale: Expr) -> None:
        array = self.lowering.code.arrays[target.array if target else self.lowering.code.values[self.e.name]]
        view = target or whole(array)
        x = sp.Symbol("a0", real=True)
        self._emit(Map(view, scale * x, {x: view}))

    def _union(self, *factors: _Factor) -> list[Symbol]:
        return list(dict.fromkeys(i for f in factors for i in f.loops))

    def _cheapest(self, factors: list[_Factor], axes: Sequence[Symbol]) -> tuple[_Factor, _Factor]:
        """The pair with the fewest multiplications; a symbolic dimension counts as 64."""

        def cost(pair: tuple[int, int]) -> tuple[float, tuple[int, int]]:
            loops = self._union(factors[pair[0]], factors[pair[1]])
            return float(sp.Mul(*(_estimate(self._size(i)) for i in loops))), pair

        pairs = [(a, b) for b in range(len(factors)) for a in range(b)]
        a, b = min(pairs, key=cost)
        return factors[a], factors[b]

    def _pair(self, target: View | None, axes: list[Symbol], left: _Factor, right: _Factor) -> None:
        left, right = self._summed(left, right, axes), self._summed(right, left, axes)
        shared = [i for i in left.loops if i in right.loops]
        bound = [i for i in shared if i not in axes]
        batch = [i for i in axes if i in shared]
        rows = [i for i in axes if i in left.loops and i not in right.loops]
        columns = [i for i in axes if i in right.loops and i not in left.loops]
        if not bound:
            view = target or whole(self._result())
            self._map(view, axes, left.at * right.at, accumulate=False)
        elif batch and not rows and not columns:
            self._einsum(target or whole(self._result()), axes, left, right)
        else:
            if _places(axes, columns) < _places(axes, rows):
                left, right, rows, columns = right, left, columns, rows
            self._matrix_product(target, axes, left, right, _Groups(batch, rows, bound, columns))

    def _summed(self, factor: _Factor, other: _Factor, axes: Sequence[Symbol]) -> _Factor:
        """The factor with the loops that only it has, and nobody wants, summed away."""
        kept = [i for i in factor.loops if i in axes or i in other.loops]
        if len(kept) == len(factor.loops):
            return factor
        made, at = self._temporary("sum", kept)
        self._reduce(whole(made), kept, "sum", factor.at)
        return _Factor(at, tuple(kept))

    def _einsum(self, target: View, axes: list[Symbol], left: _Factor, right: _Factor) -> None:
        letters = {i: "ijklmnpqrstuvw"[k] for k, i in enumerate(self._union(left, right))}
        terms = ["".join(letters[i] for i in loops) for loops in (left.loops, right.loops, axes)]
        subscripts = f"{terms[0]},{terms[1]}->{terms[2]}"
        views = self._view(left.at, left.loops), self._view(right.at, right.loops)
        self._emit(Contract(target, subscripts, *views))

    def _view(self, at: At, axes: Sequence[Symbol]) -> View:
        view = view_of(self.arrays[at.operand], at, axes, self.extents)
        assert view is not None, at
        return view

    def _matrix_product(
        self, target: View | None, axes: list[Symbol], left: _Factor, right: _Factor, groups: _Groups
    ) -> None:
        """One BLAS product: groups of loops become one axis each; the result is a view of how it comes."""
        batch, rows, bound, columns = groups.batch, groups.rows, groups.bound, groups.columns
        if not batch:
            form = "dot"
            a = self._grouped(left.at, [g for g in (rows, bound) if g])
            b = self._grouped(right.at, [g for g in (bound, columns) if g])
            shape = [g for g in (rows, columns) if g]
        else:
            form = "matmul"
            single = [[i] for i in batch]
            a, b = (
                self._grouped(left.at, [*single, rows, bound]),
                self._grouped(right.at, [*single, bound, columns]),
            )
            shape = [*single, rows, columns]
        natural = [*batch, *rows, *columns]
        self._emit(Contract(self._product_target(target, axes, natural, shape), form, a, b))
        if target is not None and natural != axes:
            self._copy_out(target, axes, natural)

    def _product_target(
        self, target: View | None, axes: list[Symbol], natural: list[Symbol], groups: list[list[Symbol]]
    ) -> View:
        """Where the product goes: its natural layout, seen as the groups."""
        sizes = tuple(self._size(i) for i in natural)
        shape = tuple(sp.Mul(*(self._size(i) for i in g)) for g in groups)
        if target is not None and natural == axes:
            array = self.lowering.code.arrays[target.array]
        elif target is None and natural == axes:
            array = self._result()
        else:
            array = self.lowering.array(f"{self.e.name}_product", sizes)
            self.natural = array
            if target is None:
                self._alias(array, axes, natural)
        return View(array.name, shape, None if shape == array.shape else shape)

    def _alias(self, array: Array, axes: list[Symbol], natural: list[Symbol]) -> None:
        """The equation's value: the product with its axes in the order of the definition."""
        order = tuple(natural.index(i) for i in axes)
        view = View(array.name, tuple(self._size(i) for i in axes), order=order)
        made = self.lowering.array(self.e.name, view.shape, alias=view)
        self.lowering.code.values[self.e.name] = made.name

    def _copy_out(self, target: View, axes: list[Symbol], natural: list[Symbol]) -> None:
        self._map(target, axes, self._number(self.natural, natural), accumulate=False)

    def _grouped(self, at: At, groups: list[list[Symbol]]) -> View:
        """The access with one axis per group of loops: a view where possible, else a view of a copy."""
        array = self.arrays[at.operand]
        if all(len(g) <= 1 for g in groups):
            loops = [g[0] for g in groups if g]
            view = self._view(at, loops)
            empty = tuple(k for k, g in enumerate(groups) if not g)
            return view if not empty else replace(view, inserted=empty, shape=_with_ones(view.shape, empty))
        merged = merged_view(array, at, groups, self.extents)
        if merged is not None:
            return merged
        axes = [i for g in groups for i in g]
        made, copy = self._temporary("columns", axes, array.dtype)
        self._map(whole(made), axes, at, accumulate=False)
        merged = merged_view(made, copy, groups, self.extents)
        assert merged is not None
        return merged

    # other reductions

    def _reduce(self, target: View, axes: list[Symbol], kind: str, at: At) -> None:
        """target <- reduction of an access over the loops that `axes` lacks."""
        loops = loops_of(at, self.extents)
        natural = [i for e in at.index for i in loops_of(e, self.extents)]
        present = [i for i in axes if i in loops]
        bound = [i for i in natural if i not in axes]
        order = natural if [i for i in natural if i in axes] == present else [*present, *bound]
        if not bound:
            self._map(target, axes, at, accumulate=False)
            return
        positions = tuple(k for k, i in enumerate(order) if i in bound)
        if present != axes:
            made, part = self._temporary("part", present)
            self._emit(Reduce(whole(made), kind, self._view(at, order), positions))
            self._map(target, axes, part, accumulate=False)
        else:
            self._emit(Reduce(target, kind, self._view(at, order), positions))

    # scatters

    def _scatter_form(self) -> None:
        d = self.e.definition
        if d.reduction != "sum":
            raise EmitError(f"a {d.reduction} into computed positions is not supported", node=self.e.name)
        target = self._result()
        self._emit(Fill(whole(target), ZERO))
        if self._needs_index_arrays():
            self._scatter_add(target)
        else:
            self._strided(target)

    def _needs_index_arrays(self) -> bool:
        """Whether strided parts of the target do not do: an index from data, or one loop on two axes."""
        d = self.e.definition
        shared = any(sum(w.has(i) for w in d.write) > 1 for i, _ in d.loops)
        return shared or any(w.has(At) for w in d.write)

    def _scatter_add(self, target: Array) -> None:
        d = self.e.definition
        write = [map_accesses(w, self._plain) for w in d.write]
        axes = [i for i, _ in d.loops if any(w.has(i) for w in write)]
        index, axes = self._index(write, d.shape, axes)
        unique = all(any(w == i for w in write) for i in axes)
        value: View | Expr = d.body
        if len(axes) < len(d.loops) or d.body.has(At) or loops_of(d.body, self.extents):
            made, at = self._temporary("values", axes)
            self._sum(whole(made), list(axes), d.body)
            value = self._view(at, axes)
        self._emit(Scatter(whole(target), index, value, unique))

    def _strided(self, target: Array) -> None:
        """An affine scatter: one loop of each axis is an array axis, the other ones are offsets."""
        d = self.e.definition
        axes = self._vector_loops()
        small = [i for i in self.extents if any(w.has(i) for w in d.write) and i not in axes]
        self.offsets = {i: self._size(i) for i in small}
        if not all(n.is_Integer for n in self.offsets.values()) or sp.Mul(*self.offsets.values()) > MAX_OFFSETS:
            raise EmitError("a scatter over offsets of unknown number", node=self.e.name)
        reach = padding(At(0, d.write), d.shape, self.extents)
        into, shift = self._bordered_target(target, reach)
        for i in small:
            del self.extents[i]
        outer, self.sink = self.sink, []
        cuts = tuple(
            self._written(w + a, n, into.shape[k])
            for k, (w, n, (a, _)) in enumerate(zip(d.write, d.shape, shift, strict=True))
        )
        view = View(into.name, tuple(self._size(i) for i in axes), index=cuts)
        if set(loops_of(d.body, self.extents)) <= set(axes):
            self._elementwise(view, axes, d.body, accumulate=bool(small))
        else:
            self._sum(view, axes, d.body, accumulate=bool(small))
        body, self.sink = self.sink, outer
        if small:
            self._emit(For(tuple((i, int(n)) for i, n in self.offsets.items()), tuple(body)))
        else:
            self.sink.extend(body)
        self._unbordered(target, into, reach)

    def _vector_loops(self) -> list[Symbol]:
        """For each axis written with loops, the one that becomes an array axis: the longest."""
        chosen: list[Symbol] = []
        for w in self.e.definition.write:
            loops = [i for i in loops_of(w, self.extents) if i not in chosen]
            if loops:
                chosen.append(max(loops, key=lambda i: (not self._size(i).is_Integer, _estimate(self._size(i)))))
        return chosen

    def _written(self, w: Expr, _size: Expr, axis_size: Expr) -> Cut | Expr | None:
        loops = loops_of(w, self.extents)
        if not loops:
            return sp.expand(w)
        start, step = sp.expand(w.xreplace({loops[0]: ZERO})), int(w.coeff(loops[0]))
        count = self._size(loops[0])
        return None if (start, step, count) == (0, 1, axis_size) else Cut(start, count, step)

    def _bordered_target(self, target: Array, reach: list[tuple[Expr, Expr]]) -> tuple[Array, list[tuple[Expr, Expr]]]:
        """The target, or one with a border that takes what is written outside."""
        if all(pair == (0, 0) for pair in reach):
            return target, reach
        shape = [sp.expand(n + a + b) for n, (a, b) in zip(target.shape, reach, strict=True)]
        made = self.lowering.array(f"{target.name}_padded", shape)
        self._emit(Fill(whole(made), ZERO))
        return made, reach

    def _unbordered(self, target: Array, into: Array, reach: list[tuple[Expr, Expr]]) -> None:
        if into is target:
            return
        cuts = tuple(Cut(a, n) if (a, b) != (0, 0) else None for n, (a, b) in zip(target.shape, reach, strict=True))
        x = sp.Symbol("a0", real=True)
        self._emit(Map(whole(target), x, {x: View(into.name, target.shape, index=cuts)}))


@dataclass(frozen=True)
class _Groups:
    batch: list[Symbol]
    rows: list[Symbol]
    bound: list[Symbol]
    columns: list[Symbol]


def _estimate(size: Expr) -> int:
    return int(size) if size.is_Integer else 64


def _places(axes: Sequence[Symbol], loops: Sequence[Symbol]) -> int:
    return min((axes.index(i) for i in loops), default=len(axes))


def _with_ones(shape: Sequence[Expr], places: Sequence[int]) -> tuple[Expr, ...]:
    sizes = list(shape)
    for k in places:
        sizes.insert(k, ONE)
    return tuple(sizes)
