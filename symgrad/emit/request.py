"""What is to be emitted, and the lowered code of it."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np

from symgrad.emit import blas, plans, processes, products, runtime, special, workers
from symgrad.emit.initial import initialisers
from symgrad.equations import System, shape_attribute
from symgrad.errors import EmitError
from symgrad.lower import LOWERING_PASSES, lower
from symgrad.lower.ir import Code
from symgrad.names import free_name
from symgrad.optimise import optimise
from symgrad.optimizers import Optimizer


class OfEquation(Protocol):
    """A statement or call, which knows the equation that it computes."""

    @property
    def equation(self) -> str: ...


Step = TypeVar("Step", bound=OfEquation)

STAGES = ("forward", "loss", "backward")


@dataclass(frozen=True)
class Request:
    """What is to be emitted.

    Attributes:
        forward: the network's equations, for how parameters start.
        system: forward and adjoint equations, simplified, in the order forward, loss, backward.
        comments: equation -> formula, for every equation; description: the module's docstring.
        without: the passes that are left out.
    """

    forward: System
    system: System
    optimizer: Optimizer
    dtype: str
    style: str
    title: str
    description: str
    comments: Mapping[str, str]
    loss: str
    without: frozenset[str] = frozenset()

    @property
    def notes(self) -> dict[str, str]:
        """The comments that the readable style prints: its forward lines say by themselves what they compute."""
        return {name: text for name, text in self.comments.items() if self.system.equations[name].adjoint_of}

    @property
    def gradients(self) -> dict[str, str]:
        """Array of a gradient -> the tensor that it differentiates by."""
        return {self.code.values[e]: wrt for wrt, e in self.system.gradients.items()}

    @property
    def outputs(self) -> list[str]:
        """The arrays that forward returns."""
        return [self.code.values[name] for name in self.system.outputs]

    @cached_property
    def code(self) -> Code:
        """The lowered statements; the arrays of gradients belong to the caller."""
        passes = LOWERING_PASSES - self.without if self.style == "fast" else ()
        code = lower(self.system, _reserved(self.forward), passes)
        for name in self.system.gradients.values():
            array = code.values[name]
            code.arrays[array] = replace(code.arrays[array], kind="gradient")
        if self.style == "readable":
            return code
        return optimise(code, [code.values[name] for name in (*self.system.outputs, self.loss)], self.without)

    @cached_property
    def constants(self) -> dict[str, str]:
        """Constant tensor -> the module-level name of its values."""
        names: dict[str, str] = {}
        read = {name for e in self.system for name in e.operands}
        for leaf in self.forward.leaves.values():
            if leaf.kind == "constant" and leaf.shape and leaf.name in read:
                taken = {*names.values(), *self.code.arrays, *_reserved(self.forward)}
                names[leaf.name] = free_name(f"{leaf.name.upper()}_VALUE", taken)
        return names

    @cached_property
    def initialisers(self) -> dict[str, tuple[Any, ...]]:
        """Parameter -> how it starts: (scheme, arguments...)."""
        return initialisers(self.forward)

    def tensor(self, array: str) -> str:
        """The tensor that an array holds: its own name, where the program uses another one."""
        return self._tensors.get(array, array)

    @cached_property
    def _tensors(self) -> dict[str, str]:
        return {array: tensor for tensor, array in self.code.values.items()}

    @cached_property
    def dimensions(self) -> list[str]:
        """The names of the dimensions that are known when the program runs."""
        shapes = [leaf.shape for leaf in self.forward.leaves.values()]
        return sorted({str(s) for shape in shapes for n in shape for s in n.free_symbols})

    def stages(self, steps: Sequence[Step]) -> tuple[list[Step], list[Step], list[Step]]:
        """The steps of forward, of loss and of backward."""
        parts: tuple[list[Step], list[Step], list[Step]] = ([], [], [])
        for step in steps:
            parts[STAGES.index(self.stage(step.equation))].append(step)
        return parts

    def stage(self, equation: str) -> str:
        """The one of `STAGES` that computes an equation."""
        first, second = self._needed
        return STAGES[0 if equation in first else 1 if equation in second else 2]

    @cached_property
    def _needed(self) -> tuple[set[str], set[str]]:
        return _stages(self.system, self.loss)


def check_request(request: Request) -> None:
    """Raise EmitError for what cannot be a program: sizes that are not known in time."""
    leaves = request.forward.leaves.values()
    for leaf in leaves:
        if leaf.kind == "parameter" and not all(n.is_Integer for n in leaf.shape):
            raise EmitError(
                f"the parameter has the symbolic shape {shape_attribute(leaf.shape)}",
                node=leaf.name,
                op="parameter",
                hint="a program needs the sizes of its parameters; give integers",
            )
    for name in request.dimensions:
        if name in program_names():
            hint = "give the dimension another name"
            raise EmitError(f"the dimension {name!r} has a name that the program needs for itself", hint=hint)
    told = {str(n) for leaf in leaves if leaf.kind == "input" for n in leaf.shape if n.is_Symbol}
    for name in request.dimensions:
        if name not in told:
            hint = f"some input needs an axis whose size is {name} alone"
            raise EmitError(f"nothing tells the size {name} when the program runs", hint=hint)


def _stages(system: System, loss: str) -> tuple[set[str], set[str]]:
    """The tensors that forward computes, and those of forward and loss."""
    return system.needed_for(system.outputs), system.needed_for([*system.outputs, loss])


def in_order(system: System, loss: str) -> System:
    """The equations sorted into forward, loss and backward, each in its old order."""
    first, second = _stages(system, loss)
    names = sorted(system.equations, key=lambda name: 0 if name in first else 1 if name in second else 2)
    return replace(system, equations={n: system.equations[n] for n in names})


def _reserved(forward: System) -> set[str]:
    """Names that tensors must not take in the program."""
    shapes = [n for leaf in forward.leaves.values() for n in leaf.shape]
    return program_names() | {str(s) for n in shapes for s in n.free_symbols}


def program_names() -> set[str]:
    """The names of an emitted file's fixed part, and of the functions that it calls."""
    fixed = (runtime, plans, blas, products, processes, workers, special)
    names = {n for module in fixed for n in vars(module) if n != "__builtins__"} | set(keyword.kwlist)
    names |= {"np", "params", "grads", "dims", "inputs", "forward", "loss", "backward", "values"}
    names |= {"parts", "workers", "make", "part", "start", "stop", "own", "job", "rows", "out"}
    names |= {"phases", "tasks", "product"}
    names |= {"SAMPLES", "DIVIDED", "PARTS", "SCALARS", "SCRATCH", "BLAS_CORE"}
    names |= {n for n in dir(np) if not n.startswith("_") and n.islower()}
    names |= {f"{f}_reduce" for f in ("add", "multiply", "maximum", "minimum")} | {"sliding_window_view"}
    names |= {"float", "int", "tuple", "dict", "range", "slice", "max", "min", "zero", "one", "half", "two"}
    return names
