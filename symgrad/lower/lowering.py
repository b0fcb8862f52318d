"""Each definition as array statements, by the form of its body.

elementwise body            Map (a term that reaches outside its operand: on the part inside)
sum of a product            Contract, pairwise, cheapest first; factors that are no plain access get a Map
other reductions            Reduce of a view, or of a Map over all loops
data-dependent index        Gather before, Scatter after
affine scatter              Map into strided parts of the target, in For over the small offsets
solution of equations       Apply
"""

from __future__ import annotations

from collections.abc import Iterable

from symgrad.equations import System
from symgrad.index.solution import Solution
from symgrad.lower.access import Lowering
from symgrad.lower.ir import Apply, Array, Code, View, whole
from symgrad.lower.scatters import Scatters


def lower(system: System, reserved: Iterable[str] = ()) -> Code:
    """The statements that compute every equation of the system, in order.

    Names that are `reserved` are avoided. Raises EmitError for what has no array form.
    """
    lowering = Lowering(system, set(reserved))
    for leaf in system.leaves.values():
        lowering.leaf(leaf.name)
    for e in system:
        Job(lowering, e).run()
    return lowering.code


class Job(Scatters):
    """One equation on its way to statements."""

    def run(self) -> None:
        d = self.e.definition
        if isinstance(d, Solution):
            self.solution(d)
            return
        if not d.gathers:
            self.scatter_form()
            return
        axes = list(d.write)
        if d.elementwise:
            target = self.result()
            self.elementwise(whole(target), axes, d.body)
        elif d.reduction == "sum":
            self.sum_equation(axes)
        else:
            target = self.result()
            self.reduce(whole(target), axes, d.reduction, self.plain(d.body))
            self.repeat(whole(target))

    def solution(self, d: Solution) -> None:
        views = tuple(_matrix(self.arrays[read.operand], read.transposed) for read in d.reads)
        target = whole(self.result())
        self.emit(Apply(target, d.kernel.unknowns[d.unknown].numpy, views))


def _matrix(array: Array, transposed: bool) -> View:
    return View(array.name, array.shape[::-1], order=(1, 0)) if transposed else whole(array)
