"""Elementwise statements as calls: the straight-line code of their bodies, with memory for every line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Symbol

from symgrad.lower.filled import filled
from symgrad.lower.ir import Array, Code, Map, Shape, View, whole
from symgrad.names import free_name
from symgrad.schedule.call import UPDATES, Argument, Call
from symgrad.simplify.nested import cheapest_form
from symgrad.simplify.straight import Line, straight_line


def map_calls(code: Code, statement: Map, cheapest: bool = True) -> list[Call]:
    """The calls that carry out the statement, in the body's cheapest form or as it is written.

    Its temporaries are added to the code's arrays.
    """
    return _Body(code, statement, cheapest).calls()


@dataclass
class _Body:
    """One body on its way to calls."""

    code: Code
    statement: Map
    cheapest: bool

    def __post_init__(self) -> None:
        s = self.statement
        self.made: list[Call] = []
        self.held: dict[Expr, Argument] = dict(s.reads)
        self.number_type = "int64" if self.code.arrays[s.target.array].dtype == "int64" else "float"

    def calls(self) -> list[Call]:
        s = self.statement
        shapes: Mapping[Symbol, Shape] = {symbol: view.shape for symbol, view in s.reads.items()}
        masks = [symbol for symbol, view in s.reads.items() if self.code.arrays[view.array].dtype == "bool"]
        body = cheapest_form(s.body, shapes) if self.cheapest else s.body
        lines, value = straight_line(body, shapes, masks)
        for line in lines:
            self._call(line)
        return self._delivered(self.held.get(value, value))

    def _delivered(self, result: Argument) -> list[Call]:
        """The calls so far, the last of them into the statement's target."""
        s = self.statement
        if s.accumulate:
            return [*self.made, Call("accumulate", (result,), s.target, s.equation)]
        if isinstance(result, View) and self._is_last(result) and self._same_form(result, s.target):
            last = self.made[-1]
            del self.code.arrays[result.array]
            return [*self.made[:-1], replace(last, out=s.target)]
        if isinstance(result, View) and self._is_selected(result) and self._same_form(result, s.target):
            del self.code.arrays[result.array]
            return [*self.made[:-2], *(replace(call, out=s.target) for call in self.made[-2:])]
        if isinstance(result, View) and result == s.target:
            return self.made
        function = "copy" if isinstance(result, View) else "fill"
        return [*self.made, Call(function, (result,), s.target, s.equation)]

    def _is_last(self, view: View) -> bool:
        """Whether the last call made this view, and nothing else reads it."""
        last = self.made[-1] if self.made else None
        return last is not None and last.out == view and last.function not in UPDATES and view.whole

    def _is_selected(self, view: View) -> bool:
        """Whether the last two calls select this view from what does not lie in the target's memory."""
        if len(self.made) < 2 or self.made[-1].function != "copy_where" or self.made[-1].out != view:
            return False
        target = self.code.root(self.statement.target.array)
        read = [a for a in self.made[-1].arguments if isinstance(a, View)]
        return view.whole and all(self.code.root(a.array) != target for a in read)

    def _same_form(self, result: View, target: View) -> bool:
        same = self.code.arrays[result.array].dtype == self.code.arrays[target.array].dtype
        return result.shape == target.shape and same

    def _call(self, line: Line) -> None:
        s = self.statement
        out = self._temporary(line.shape, "bool" if line.boolean else self.number_type)
        arguments = tuple(self.held.get(a, a) for a in line.arguments)
        if line.function == "select":  # `no`, overwritten by `yes` where the mask is set
            mask, yes, no = arguments
            self.made.append(Call("copy" if isinstance(no, View) else "fill", (no,), out, s.equation))
            self.made.append(Call("copy_where", (yes, mask), out, s.equation))
        else:
            elementwise = line.function != "copy"
            arguments = self._as_arrays(line, arguments)
            self.made.append(Call(line.function, arguments, out, s.equation, elementwise=elementwise))
        self.held[line.result] = out

    def _as_arrays(self, line: Line, arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
        """A number to compare with as an array of it: NumPy's maximum takes half the time then."""
        if line.function not in ("maximum", "minimum") or self.number_type != "float" or not line.shape:
            return arguments
        return tuple(a if isinstance(a, View) else filled(self.code, line.shape, sp.sympify(a)) for a in arguments)

    def _temporary(self, shape: Shape, dtype: str) -> View:
        name = free_name(f"{self.statement.target.array}_t1", self.code.arrays)
        made = Array(name, shape, dtype, temporary=True)
        self.code.arrays[name] = made
        return whole(made)
