"""An array seen through a view of its copy."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from symgrad.lower.ir import Array, Code, Shape, View
from symgrad.names import free_name


def seen_back(code: Code, source: View, target: View) -> View | None:
    """If target <- source: the source's array as a view of the target; None if the source is a part of its array.

    Names for the steps on the way are added to the code's arrays.
    """
    shape = code.arrays[source.array].shape
    single = [k for k, entry in enumerate(source.index) if entry is not None]
    if source.windows or (single and (source.reshape is not None or any(shape[k] != 1 for k in single))):
        return None
    steps = target
    if source.inserted:
        index = tuple(sp.Integer(0) if k in source.inserted else None for k in range(len(source.shape)))
        base = _named(code, source.array, steps)
        steps = View(base.name, _without(source.shape, source.inserted), index=index)
    if source.order is not None:
        steps = _permuted(code, source.array, steps, source.order)
    if source.reshape is not None or single:  # axes of size 1 come back as in a reshape
        steps = View(_named(code, source.array, steps).name, shape, shape)
    return steps


def _permuted(code: Code, name: str, view: View, order: tuple[int, ...]) -> View:
    """The view with axis k where the axis order[k] is wanted."""
    back = tuple(order.index(k) for k in range(len(order)))
    shape = tuple(view.shape[k] for k in back)
    if view.inserted:
        return View(_named(code, name, view).name, shape, order=back)
    known = view.order or tuple(range(len(order)))
    return replace(view, shape=shape, order=tuple(known[k] for k in back))


def _named(code: Code, name: str, view: View) -> Array:
    """The view as an array of its own name."""
    if view.whole:
        return code.arrays[view.array]
    like = code.arrays[view.array]
    made = Array(free_name(f"{name}_place", code.arrays), view.shape, like.dtype, alias=view)
    code.arrays[made.name] = made
    return made


def _without(shape: Shape, places: tuple[int, ...]) -> Shape:
    return tuple(n for k, n in enumerate(shape) if k not in places)
