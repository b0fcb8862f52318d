"""Arrays that hold one number everywhere from the start, and that nothing writes: zeros, ones for sums."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr, Integer

from symgrad.lower.ir import Array, Code, View, dims_product, whole
from symgrad.names import free_name


def filled(code: Code, shape: Sequence[Expr], value: Expr) -> View:
    """The code's array of this shape that is full of `value`; made where there is none yet."""
    for array in code.arrays.values():
        if array.kind == "filled" and array.shape == tuple(shape) and array.value == value:
            return whole(array)
    wanted = {0: "zeros", 1: "ones"}.get(value, "level")
    made = Array(free_name(f"{wanted}1", code.arrays), tuple(shape), "float", "filled", value=value)
    code.arrays[made.name] = made
    return whole(made)


def ones(code: Code, shape: Sequence[Expr]) -> View:
    """A vector of as many ones as an array of this shape has elements."""
    view = filled(code, shape, Integer(1))
    size = (dims_product(view.shape),)
    return view if view.shape == size else View(view.array, size, size)
