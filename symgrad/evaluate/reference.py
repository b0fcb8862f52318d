"""The slow reference: a system of equations evaluated straight from its definitions.

Every definition is computed over its full grid of loop values, one NumPy operation per node of its body, in
the number system asked for. Nothing is shared with the stages that write programs.

    evaluate(system, values)                    all equations, as arrays
    Evaluation(system, values, target, ...)     one target, evaluated again where some tensors have moved

A Trace holds every decision on the way (the sign of what a condition compares, the winners of a maximum), so
that two nearby points can be told to lie on the same smooth piece, or a point on an edge between pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Symbol
from sympy.core.relational import Relational

from symgrad.equations import Equation, Leaf, System
from symgrad.errors import VerifyError, nearest
from symgrad.evaluate.dims import Dims, solve_dims
from symgrad.evaluate.numbers import Array, Numbers, numbers, sign
from symgrad.evaluate.solutions import solution_value
from symgrad.index.definition import At, Definition

_REDUCE: dict[str, Callable[..., Array]] = {
    "sum": np.add.reduce,
    "max": np.maximum.reduce,
    "min": np.minimum.reduce,
    "prod": np.multiply.reduce,
}
_COMPARE: dict[type[Expr], Callable[[Array], Array]] = {
    sp.Eq: lambda s: s == 0,
    sp.Ne: lambda s: s != 0,
    sp.StrictLessThan: lambda s: s < 0,
    sp.LessThan: lambda s: s <= 0,
    sp.StrictGreaterThan: lambda s: s > 0,
    sp.GreaterThan: lambda s: s >= 0,
}


@dataclass
class Trace:
    """The decisions taken while evaluating.

    Attributes:
        decisions: equation -> everything decided in it, in order.
        edges: the equations where something stood exactly on an edge: equal sides, a tie, the sign of 0.
    """

    decisions: dict[str, bytes] = field(default_factory=dict)
    edges: set[str] = field(default_factory=set)

    def record(self, name: str, decision: Array, on_edge: bool) -> None:
        self.decisions[name] = self.decisions.get(name, b"") + np.asarray(decision, np.int8).tobytes()
        if on_edge:
            self.edges.add(name)

    def differs(self, other: Trace) -> bool:
        """Whether any equation that both have evaluated decided differently."""
        common = self.decisions.keys() & other.decisions.keys()
        return any(self.decisions[name] != other.decisions[name] for name in common)


def evaluate(
    system: System,
    values: Mapping[str, Any],
    number: str = "float64",
    needed: Iterable[str] | None = None,
    trace: Trace | None = None,
) -> dict[str, Array]:
    """All tensors of the system, or those that `needed` is computed from, by name.

    Args:
        values: array of each input and parameter that is used; symbolic dimensions follow from their shapes.
        number: "float64", "complex128" or "mp" (object arrays of mpmath numbers).

    Raises:
        VerifyError: a value is missing or has the wrong shape, an index is out of range, or a body has no
            value in this number system.
    """
    system_numbers = numbers(number)
    wanted = system.needed_for(system.equations if needed is None else needed)
    leaves = [leaf for name, leaf in system.leaves.items() if name in wanted]
    tensors = {leaf.name: _leaf_value(leaf, values, system_numbers) for leaf in leaves}
    dims = solve_dims(leaves, {name: array.shape for name, array in tensors.items()})
    equations = [e for e in system if e.name in wanted]
    _run(equations, tensors, dims, system_numbers, trace)
    return tensors


class Evaluation:
    """One target of a system at one point, ready to be evaluated again nearby.

    Attributes:
        values: every tensor that the target is computed from, itself included.
        trace: the decisions taken at this point.
    """

    def __init__(self, system: System, values: Mapping[str, Any], target: str, number: str = "float64") -> None:
        self.system, self.target, self.numbers = system, target, numbers(number)
        self.trace = Trace()
        self.values = evaluate(system, values, number, [target], self.trace)
        leaves = [leaf for name, leaf in system.leaves.items() if name in self.values]
        self.dims = solve_dims(leaves, {leaf.name: self.values[leaf.name].shape for leaf in leaves})
        self._below: dict[str, frozenset[str]] = {}

    @property
    def value(self) -> Array:
        """The target, of any shape."""
        return self.values[self.target]

    def moved(self, moves: Mapping[str, Array]) -> tuple[Array, Trace]:
        """The target where the named tensors have other values, and the decisions that were taken anew."""
        known = [name for name in moves if name in self.values]
        below = frozenset().union(*(self._downstream(name) for name in known)) - set(known)
        tensors = self.values | {name: self.numbers.lift(moves[name]) for name in known}
        trace = Trace()
        again = [e for e in self.system if e.name in below]
        _run(again, tensors, self.dims, self.numbers, trace)
        return tensors[self.target], trace

    def _downstream(self, name: str) -> frozenset[str]:
        if name not in self._below:
            found = {name}
            for e in self.system:
                if e.name in self.values and found.intersection(e.operands):
                    found.add(e.name)
            self._below[name] = frozenset(found)
        return self._below[name]


def _leaf_value(leaf: Leaf, values: Mapping[str, Any], system: Numbers) -> Array:
    if leaf.kind == "constant":
        given = leaf.value
    elif leaf.name in values:
        given = values[leaf.name]
    else:
        hint = nearest(leaf.name, values)
        raise VerifyError(f"no value is given for the {leaf.kind} {leaf.name!r}", hint=hint)
    array = np.asarray(given)
    if leaf.dtype == "float":
        return system.lift(array)
    if array.dtype.kind not in "iub" and array.size:
        raise VerifyError(f"{leaf.name!r} should hold {leaf.dtype}, got {array.dtype}")
    return array.astype(np.int64)


def _run(
    equations: Iterable[Equation], tensors: dict[str, Array], dims: Dims, system: Numbers, trace: Trace | None
) -> None:
    with np.errstate(all="ignore"):
        for e in equations:
            operands = [tensors[name] for name in e.operands]
            if e.solution is not None:
                result = solution_value(e.solution, operands, system)
            else:
                result = _Grid(e.definition, operands, dims, system, trace, e.name).result()
            tensors[e.name] = system.lift(result) if e.dtype == "float" else result.astype(np.int64)


class _Grid:
    """One definition over all values of its loops; each array has one axis per loop, of size 1 if unused."""

    def __init__(
        self,
        definition: Definition,
        operands: Sequence[Array],
        dims: Dims,
        system: Numbers,
        trace: Trace | None,
        name: str,
    ) -> None:
        self.definition, self.operands, self.dims, self.system = definition, operands, dims, system
        self.trace, self.name = trace, name
        self.extents = [dims.size(n) for _, n in definition.loops]
        self.memo: dict[Expr, Array] = {}
        rank = len(self.extents)
        self.symbols: dict[Symbol, Array] = {s: np.asarray(n) for s, n in dims.sizes.items()}
        for axis, ((loop, _), extent) in enumerate(zip(definition.loops, self.extents, strict=True)):
            shape = [extent if k == axis else 1 for k in range(rank)]
            self.symbols[loop] = np.arange(extent).reshape(shape)

    # the definition

    def result(self) -> Array:
        body = np.broadcast_to(self.value(self.definition.body), self.extents)
        shape = tuple(self.dims.size(n) for n in self.definition.shape)
        place = self._gathering(shape)
        if place is None:
            return self._scattered(body, shape)
        return self._reduced(body, place)

    def _gathering(self, shape: Sequence[int]) -> list[int] | None:
        """The loop of each output axis, if each has one of its own that runs over all of it."""
        loops = [loop for loop, _ in self.definition.loops]
        places = [loops.index(w) if w in loops else -1 for w in self.definition.write]
        whole = [p >= 0 and self.extents[p] == n for p, n in zip(places, shape, strict=True)]
        return places if all(whole) and len(set(places)) == len(places) else None

    def _reduced(self, body: Array, place: list[int]) -> Array:
        axes = tuple(axis for axis in range(body.ndim) if axis not in place)
        kept = [axis for axis in range(body.ndim) if axis in place]
        order = [kept.index(axis) for axis in place]
        if not axes:
            return body.transpose(order)
        kind = self.definition.reduction
        empty = any(self.extents[axis] == 0 for axis in axes)
        if empty and kind in ("max", "min"):
            raise VerifyError(f"{self.name!r} takes the {kind} of no elements")
        if kind in ("max", "min"):
            return self._winner(body, axes, kind).transpose(order)
        return _over(kind, body, axes).transpose(order)

    def _winner(self, body: Array, axes: tuple[int, ...], kind: str) -> Array:
        real = self.system.real(body)
        best = np.expand_dims(_over(kind, real, axes), axes)
        won = np.asarray(real == best, dtype=bool)
        self._decide(won, bool((won.sum(axis=axes) > 1).any()))
        if real is body:
            return best.squeeze(axes)
        return np.asarray(np.where(won, body, 0).sum(axis=axes) / won.sum(axis=axes))

    def _scattered(self, body: Array, shape: tuple[int, ...]) -> Array:
        if self.definition.reduction != "sum":
            kind = self.definition.reduction
            raise VerifyError(f"{self.name!r}: {kind} into indices that are no plain loops")
        out = np.zeros(shape, body.dtype) if body.dtype != object else self.system.lift(np.zeros(shape))
        inside = np.ones(self.extents, bool)
        index = [self._index(w, n) for w, n in zip(self.definition.write, shape, strict=True)]
        for i, n in zip(index, shape, strict=True):
            inside &= (i >= 0) & (i < n)
        place = tuple(np.broadcast_to(i, self.extents)[inside] for i in index)
        np.add.at(out, place, body[inside])
        return out

    # expressions

    def value(self, expr: Expr) -> Array:
        if expr not in self.memo:
            self.memo[expr] = np.asarray(self._compute(expr))
        return self.memo[expr]

    def _compute(self, expr: Expr) -> Array:
        for kind, method in self._methods:
            if isinstance(expr, kind):
                return method(self, expr)
        function = self.system.functions.get(expr.func)
        if function is None or len(expr.args) != 1:
            raise VerifyError(f"{self.name!r}: {expr.func.__name__} has no value in {self.system.name}")
        argument = self._number(expr.args[0])
        if expr.func in (sp.Abs, sp.sign):
            self._signs(self.system.real(argument))
        return function(argument)

    def _number(self, expr: Expr) -> Array:
        value = self.value(expr)
        return self.system.lift(value) if _whole(value) else value

    def _symbol(self, expr: Expr) -> Array:
        return self.symbols[expr]

    def _constant(self, expr: Expr) -> Array:
        if expr.is_Integer and abs(int(expr)) < 2**62:
            return np.asarray(int(expr))
        return np.asarray(self.system.constant(expr), dtype=object if self.system.name == "mp" else None)

    def _combined(self, expr: Expr) -> Array:
        parts = [self.value(arg) for arg in (sorted(expr.args, key=_composed) if expr.is_Add else expr.args)]
        if not all(map(_whole, parts)):
            parts = [self.system.lift(part) if _whole(part) else part for part in parts]
        return reduce(np.add if expr.is_Add else np.multiply, parts)

    def _power(self, expr: Expr) -> Array:
        base, exponent = expr.args
        if exponent.is_Integer and exponent > 0 and _whole(self.value(base)):
            return np.asarray(self.value(base) ** int(exponent))
        return self.system.power(self._number(base), self._number(exponent))

    def _floor(self, expr: Expr) -> Array:
        above, below = sp.fraction(sp.together(expr.args[0]))
        return np.asarray(self.value(above) // self.value(below))

    def _piecewise(self, expr: Expr) -> Array:
        result = self.system.lift(np.asarray(np.nan))
        values = [(self.value(value), self.value(condition)) for value, condition in expr.args]
        if all(_whole(value) for value, _ in values):
            result = np.asarray(0)
        for value, condition in reversed(values):
            chosen = self.system.lift(value) if _whole(value) and not _whole(result) else value
            result = np.asarray(np.where(condition, chosen, result))
        return result

    def _relation(self, expr: Expr) -> Array:
        left, right = self.value(expr.lhs), self.value(expr.rhs)
        if _whole(left) and _whole(right):
            return _COMPARE[type(expr)](sign(left - right))
        order = self._order(self._number(expr.lhs), self._number(expr.rhs))
        self._signs(order)
        return _COMPARE[type(expr)](order)

    def _order(self, left: Array, right: Array) -> Array:
        """-1, 0 or 1; infinities compare as they should."""
        a, b = self.system.real(left), self.system.real(right)
        return np.asarray(np.asarray(a > b, dtype=np.int64) - np.asarray(a < b, dtype=np.int64))

    def _logic(self, expr: Expr) -> Array:
        parts = [self.value(arg) for arg in expr.args]
        if isinstance(expr, sp.Not):
            return np.asarray(~parts[0])
        return reduce(np.logical_and if isinstance(expr, sp.And) else np.logical_or, parts)

    def _truth(self, expr: Expr) -> Array:
        return np.asarray(bool(expr))

    def _extreme(self, expr: Expr) -> Array:
        wanted = 1 if isinstance(expr, sp.Max) else -1
        parts = [self._number(arg) for arg in sorted(expr.args, key=sp.default_sort_key)]
        best = parts[0]
        for part in parts[1:]:
            order = self._order(part, best)
            self._signs(order)
            best = np.asarray(np.where(order == wanted, part, best))
        return best

    def _step(self, expr: Expr) -> Array:
        x, middle = self._number(expr.args[0]), self._number(expr.args[1])
        side = sign(self.system.real(x))
        self._signs(side)
        return np.asarray(np.where(side == 0, middle, self.system.lift(side > 0)))

    def _access(self, at: At) -> Array:
        """The elements read, 0 where the index is outside."""
        operand = self.operands[at.operand]
        if at.view is not None:
            operand = operand.reshape([self.dims.size(n) for n in at.view])
        if not at.index:
            return operand
        index = [self._index(e, n) for e, n in zip(at.index, operand.shape, strict=True)]
        inside = np.asarray(True)
        for i, n in zip(index, operand.shape, strict=True):
            inside = inside & (i >= 0) & (i < n)
        zero = np.zeros((), operand.dtype) if operand.dtype != object else self.system.lift(np.asarray(0))
        if operand.size == 0:
            return np.broadcast_to(zero, inside.shape)
        place = tuple(np.clip(i, 0, n - 1) for i, n in zip(index, operand.shape, strict=True))
        return np.asarray(operand[place] if inside.all() else np.where(inside, operand[place], zero))

    def _index(self, expr: Expr, size: int) -> Array:
        value = self.value(expr)
        if not _whole(value):
            raise VerifyError(f"{self.name!r}: the index {expr} is no integer")
        if expr.has(At) and ((value < 0) | (value >= size)).any():
            wrong = int(value[(value < 0) | (value >= size)].flat[0])
            raise VerifyError(
                f"{self.name!r}: the index {wrong} is out of range for an axis of size {size}",
                hint=f"the integers in the data should be from 0 to {size - 1}",
            )
        return value

    # decisions

    def _signs(self, order: Array) -> None:
        side = order if _whole(order) else sign(order)
        self._decide(side, bool((side == 0).any()))

    def _decide(self, decision: Array, on_edge: bool) -> None:
        if self.trace is not None:
            self.trace.record(self.name, decision, on_edge)

    _methods: tuple[tuple[Any, Callable[[_Grid, Any], Array]], ...] = (
        (At, _access),
        ((sp.Number, sp.NumberSymbol), _constant),
        (Symbol, _symbol),
        ((sp.Add, sp.Mul), _combined),
        (sp.exp, lambda self, expr: self.system.functions[sp.exp](self._number(expr.args[0]))),
        (sp.Pow, _power),
        (sp.floor, _floor),
        (sp.Piecewise, _piecewise),
        (Relational, _relation),
        ((sp.And, sp.Or, sp.Not), _logic),
        (sp.logic.boolalg.BooleanAtom, _truth),
        ((sp.Max, sp.Min), _extreme),
        (sp.Heaviside, _step),
    )


def _over(kind: str, body: Array, axes: Sequence[int]) -> Array:
    """The reduction over some axes, one at a time: object arrays know no other way."""
    for axis in sorted(axes, reverse=True):
        body = np.asarray(_REDUCE[kind](body, axis=axis))
    return body


def _composed(term: Expr) -> bool:
    """Plain elements are added first: x - max(x) is exact, and -log(sum) is then added to a small number."""
    return not isinstance(term, At) and not isinstance(-term, At)


def _whole(value: Array) -> bool:
    return value.dtype.kind in "iub"
