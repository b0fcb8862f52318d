"""Outputs that nothing computes: what forward returns of the inputs, parameters and constants themselves.

A program binds its arrays once, and an input is another array in every batch, so such an output is copied.
"""

from __future__ import annotations

from symgrad.equations import System, equation
from symgrad.index.definition import At, define, index_symbol
from symgrad.names import free_name


def with_copied_outputs(system: System) -> System:
    """The system with an equation for each output that is a leaf."""
    made = system.copy()
    names: dict[str, str] = {}
    for name in system.outputs:
        if name in system.leaves:
            shape = system.shape(name)
            axes = [index_symbol(f"i{k}") for k in range(len(shape))]
            copy = define(list(zip(axes, shape, strict=True)), shape, axes, At(0, axes))
            names[name] = free_name(f"{name}_output", made)
            made.add(equation(names[name], copy, [name], dtype=system.dtype(name), origin=name))
    made.outputs = tuple(names.get(name, name) for name in system.outputs)
    return made
