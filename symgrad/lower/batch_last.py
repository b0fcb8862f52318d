"""The order in which the axes of tensors lie in memory: batch last where windows slide.

A convolution or a pooling of (batch, channel, row, column) reads and writes runs as long as a row times the
batch once the batch is the last axis. The choice starts from what slides, and goes on to everything that is
computed element by element from it, and to the tensors that these are computed from. Leaves, outputs and
gradients keep their order: they are copied where they meet the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, define, index_symbol, map_accesses
from symgrad.lower.forms import affine, plain_axes, product, reads_of, replaced, windowed
from symgrad.names import free_name


def move_batch_last(system: System) -> System:
    """The same equations with the batch axis of some tensors last."""
    places = _Choice(system).run()
    return _Rewriting(system, places).run() if places else system


class _Choice:
    """`places` says of a tensor which of its axes goes last."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.places: dict[str, int] = {}
        self.fixed = {*system.leaves, *system.wanted()}

    def run(self) -> dict[str, int]:
        for e in self.system:
            if not e.adjoint_of and e.solution is None:
                self._start(e)
        while sum(self._carry_on(e) for e in self.system if e.solution is None):
            pass
        return self.places

    def _start(self, e: Equation) -> None:
        """Choose for what a window slides over: the first axis that it leaves alone."""
        d = e.definition
        reads = reads_of(e)
        for at in reads:
            if d.reduced and windowed(at, d.extents):
                others = [x for x in reads if x != at and x.operand != at.operand]
                kept = plain_axes(d.write, d.extents)
                free = [i for i in plain_axes(at.index, d.extents) if i in kept and not any(x.has(i) for x in others)]
                if free and not (others and product(e) is None):
                    self._put(e.name, kept[free[0]])
                    self._put(e.source(at), self._axis(e, at, free[0]))

    def _put(self, name: str, axis: int | None) -> bool:
        if axis is None or name in self.fixed or name in self.places or len(self.system.shape(name)) < 2:
            return False
        self.places[name] = axis
        return True

    def _axis(self, e: Equation, at: At, loop: Symbol) -> int | None:
        """The axis of the tensor itself along which the access has the loop."""
        axis = plain_axes(at.index, e.definition.extents).get(loop)
        return axis if at.view is None or axis is None else _unviewed(self.system.shape(e.source(at)), at.view, axis)

    def _carry_on(self, e: Equation) -> bool:
        """From one tensor of an equation to the others that have the same loop."""
        if not self._carries(e):
            return False
        d = e.definition
        reads = [at for at in reads_of(e) if affine(at) and _in_step(e, at)]
        loops = {i for at in reads if (i := self._chosen(e, at)) is not None}
        written = self.places.get(e.name)
        if written is not None and d.write[written] in d.extents:
            loops.add(d.write[written])
        changed = False
        for loop in sorted(loops, key=str):
            changed |= self._put(e.name, plain_axes(d.write, d.extents).get(loop))
            for at in reads:
                if len(at.index) > 1:
                    changed |= self._put(e.source(at), self._axis(e, at, loop))
        return changed

    def _chosen(self, e: Equation, at: At) -> Symbol | None:
        """The loop along the axis that was chosen for what is read."""
        axis = self.places.get(e.source(at))
        for loop in plain_axes(at.index, e.definition.extents):
            if axis is not None and self._axis(e, at, loop) == axis:
                return loop
        return None

    def _carries(self, e: Equation) -> bool:
        """Whether the equation is no product, or one that slides."""
        d = e.definition
        if any(w.has(At) for w in d.write):
            return False
        return product(e) is None or any(windowed(at, d.extents) for at in reads_of(e))


def _in_step(e: Equation, at: At) -> bool:
    """Whether an element by element equation goes through the tensor in the order in which it writes."""
    if not e.definition.elementwise:
        return True
    places = [e.definition.write.index(i) for i in at.index if i in e.definition.write]
    return places == sorted(places)


def _unviewed(shape: Sequence[Expr], view: Sequence[Expr], axis: int) -> int | None:
    """The axis of `shape` that is `axis` of its reshape `view`, if there is one."""
    before = sp.expand(sp.Mul(*view[:axis]))
    for k, n in enumerate(shape):
        if n == view[axis] and n != 1 and sp.expand(sp.Mul(*shape[:k])) == before:
            return k
    return None


class _Rewriting:
    def __init__(self, system: System, places: dict[str, int]) -> None:
        self.system, self.places = system, places
        self.taken = {*system.leaves, *system.equations}
        self.plain: dict[str, str] = {}

    def run(self) -> System:
        return replaced(self.system, {e.name: self._made(e) for e in self.system})

    def _made(self, e: Equation) -> list[Equation]:
        new: list[Equation] = []
        if e.solution is not None:
            names = [self._in_order(name, new) if name in self.places else name for name in e.operands]
            return [*new, replace(e, operands=tuple(names))]
        d = e.definition
        names = list(e.operands)

        def read(at: At) -> At:
            index = [map_accesses(i, read) for i in at.index]
            name = e.source(at)
            if name not in self.places:
                return At(at.operand, index, at.view)
            moved = None if self._batched(e, at) else self._moved(name, at, index)
            if moved is None:
                names.append(self._in_order(name, new))
                return At(len(names) - 1, index, at.view)
            return moved

        body = map_accesses(d.body, read)
        write = [map_accesses(w, read) for w in d.write]
        shape = list(d.shape)
        if e.name in self.places:
            write, shape = _last(write, self.places[e.name]), _last(shape, self.places[e.name])
        made = define(d.loops, shape, write, body, d.reduction)
        return [*new, equation(e.name, made, names, dtype=e.dtype, origin=e.origin, adjoint_of=e.adjoint_of)]

    def _moved(self, name: str, at: At, index: list[Expr]) -> At | None:
        axis, shape = self.places[name], self.system.shape(name)
        if at.view is None:
            return At(at.operand, _last(index, axis))
        for k in range(len(at.view)):
            if _unviewed(shape, at.view, k) == axis:
                return At(at.operand, _last(index, k), _last(list(at.view), k))
        return None

    def _batched(self, e: Equation, at: At) -> bool:
        """Whether a product keeps the chosen axis for itself: BLAS wants it before the matrices."""
        axis = self.places[e.source(at)]
        if product(e) is None or not e.definition.gathers or at.view is not None:
            return False
        loop = at.index[axis]
        return loop in e.definition.write and sum(x.has(loop) for x in reads_of(e)) > 1

    def _in_order(self, name: str, new: list[Equation]) -> str:
        """A copy of the tensor with its axes as they were."""
        if name not in self.plain:
            shape = self.system.shape(name)
            axes = [index_symbol(f"a{k}") for k in range(len(shape))]
            loops = list(zip(axes, shape, strict=True))
            definition = define(loops, shape, axes, At(0, _last(axes, self.places[name])))
            self.plain[name] = made = free_name(f"{name}_rows", self.taken)
            self.taken.add(made)
            about = {"dtype": self.system.dtype(name), "origin": self.system.equations[name].origin}
            new.append(
                equation(made, definition, [name], adjoint_of=self.system.equations[name].adjoint_of, **about)
            )
        return self.plain[name]


def _last(items: Sequence[Expr], axis: int) -> list[Expr]:
    """The items with that at `axis` moved to the end."""
    return [*items[:axis], *items[axis + 1 :], items[axis]]
