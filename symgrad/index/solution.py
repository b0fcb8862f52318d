"""Tensors that no index formula gives: each is the solution of equations, and these are its definition.

    Kernel    operands and unknowns with their axes, the equations as formula text, one Newton step
    Solution  a Definition whose elements are one unknown of a kernel; no pass looks inside

The inverse is the Y for which `R[i, j] = where(i == j, 1, 0) - sum(k, A[i, k]*Y[k, j])` vanishes. How such a
tensor moves with its operands follows from the equations by the implicit function theorem (`derive.implicit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr

from symgrad.errors import ShapeError, nearest
from symgrad.index.definition import Definition

Shape = tuple[Expr, ...]
RESIDUAL = "R"


@dataclass(frozen=True)
class Given:
    """An operand of a kernel: `axes` has one letter per axis, equal letters for equal sizes."""

    name: str
    axes: str


@dataclass(frozen=True)
class Unknown:
    """A tensor that the equations determine.

    Attributes:
        name, axes: as for a Given.
        call: what formula text calls it.
        numpy: the NumPy expression of its value, {0}, {1}, ... the operands.
    """

    name: str
    axes: str
    call: str
    numpy: str


@dataclass(frozen=True)
class Kernel:
    """See the module's docstring.

    Attributes:
        residual: formula text over operands, unknowns and `fixed` tensors; everything that it defines is 0 at the
            solution, and R is what depends on the operands.
        step: formula text that defines "d" + the name of each unknown from R: to first order, unknowns changed by it
            make up for R. This is one Newton step.
        fixed: formula text of tensors in the residual whose own change drops out of each equation, to first order,
            while the operand elements that this equation reads move.
    """

    operands: tuple[Given, ...]
    unknowns: tuple[Unknown, ...]
    residual: str
    step: str
    fixed: str = ""


@dataclass(frozen=True)
class Read:
    """An operand of a Solution: the whole matrix, or its transpose."""

    operand: int
    transposed: bool = False


@dataclass(frozen=True)
class Solution(Definition):
    """Unknown number `unknown` of a kernel. As a Definition it has no loops and no body. Build with `solution`."""

    kernel: Kernel
    unknown: int
    reads: tuple[Read, ...]

    @property
    def call(self) -> str:
        """Its name in formula text: inv, solve, ..."""
        return self.kernel.unknowns[self.unknown].call

    @property
    def operands(self) -> tuple[int, ...]:
        return tuple(sorted({read.operand for read in self.reads}))

    @property
    def gathers(self) -> bool:
        return False

    def renumbered(self, numbers: Mapping[int, int]) -> Solution:
        """The same with operand k called numbers[k]."""
        return self.reading([Read(numbers[read.operand], read.transposed) for read in self.reads])

    def reading(self, reads: Sequence[Read]) -> Solution:
        """The same function of other operands, of the same shapes."""
        return made_solution(self.kernel, self.unknown, self.shape, tuple(reads))

    def of(self, unknown: int, shape: Shape) -> Solution:
        """Another unknown of the same equations."""
        return made_solution(self.kernel, unknown, shape, self.reads)


KERNELS: dict[tuple[str, tuple[int, ...]], tuple[Kernel, int]] = {}


def register_kernel(kernel: Kernel) -> Kernel:
    """Let formula text call the kernel's unknowns. Raises ValueError if a call is taken."""
    ranks = tuple(len(tensor.axes) for tensor in kernel.operands)
    for number, unknown in enumerate(kernel.unknowns):
        if (unknown.call, ranks) in KERNELS:
            raise ValueError(f"the call {unknown.call!r} is registered already")
        KERNELS[unknown.call, ranks] = kernel, number
    return kernel


def is_call(name: str) -> bool:
    """Whether some kernel has an unknown of that name."""
    return any(call == name for call, _ in KERNELS)


def made_solution(kernel: Kernel, number: int, shape: Shape, reads: tuple[Read, ...]) -> Solution:
    """Unknown `number` of a kernel as a definition of the given shape."""
    return Solution((), tuple(shape), (), "solution", sp.nan, kernel, number, reads)


def solution(call: str, shapes: Sequence[Shape], transposed: Sequence[bool]) -> Solution:
    """The solution that formula text calls `call`, of operands 0, 1, ... with these shapes before transposition.

    Raises ShapeError where the shapes are not what the kernel takes.
    """
    read = [tuple(reversed(s)) if turned else tuple(s) for s, turned in zip(shapes, transposed, strict=True)]
    kernel, number = _kernel(call, read)
    sizes = _sizes(call, kernel, read)
    shape = tuple(sizes[axis] for axis in kernel.unknowns[number].axes)
    return made_solution(kernel, number, shape, tuple(Read(k, turned) for k, turned in enumerate(transposed)))


def _kernel(call: str, shapes: Sequence[Shape]) -> tuple[Kernel, int]:
    ranks = tuple(map(len, shapes))
    if (call, ranks) not in KERNELS:
        takes = " or ".join(f"{call}({_signature(k)})" for (name, _), (k, _) in KERNELS.items() if name == call)
        given = ", ".join(str(tuple(s)) for s in shapes)
        raise ShapeError(
            f"{call} cannot take operands of shape {given}", hint=takes or nearest(call, {name for name, _ in KERNELS})
        )
    return KERNELS[call, ranks]


def _sizes(call: str, kernel: Kernel, shapes: Sequence[Shape]) -> dict[str, Expr]:
    """Axis letter -> size."""
    sizes: dict[str, Expr] = {}
    for tensor, shape in zip(kernel.operands, shapes, strict=True):
        for axis, n in zip(tensor.axes, shape, strict=True):
            if sizes.setdefault(axis, n) != n:
                given = [f"{t.name} has shape {tuple(s)}" for t, s in zip(kernel.operands, shapes, strict=True)]
                summary = f"{call}: the size {axis} is {sizes[axis]} and {n}"
                raise ShapeError(summary, details=["; ".join(given)], hint=f"{call}({_signature(kernel)})")
    return sizes


def _signature(kernel: Kernel) -> str:
    return ", ".join(f"{t.name}[{', '.join(t.axes)}]" for t in kernel.operands)
