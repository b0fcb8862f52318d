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
from symgrad.index.definition import At
from symgrad.index.solution import Solution
from symgrad.lower.access import Lowering
from symgrad.lower.ir import Apply, Array, Code, View, whole
from symgrad.lower.scatters import Scatters
from symgrad.lower.views import row_major

LOWERING_PASSES = frozenset({"same_memory", "constant_borders", "write_parts", "small_products"})


def lower(system: System, reserved: Iterable[str] = (), passes: Iterable[str] = ()) -> Code:
    """The statements that compute every equation of the system, in order.

    Names that are `reserved` are avoided; `passes` are some of LOWERING_PASSES, for arrays that are allocated
    before the statements run. Raises EmitError for what has no array form.
    """
    lowering = Lowering(system, set(reserved), frozenset(passes))
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
        if "same_memory" in self.lowering.passes and self.same_elements():
            return
        if d.elementwise:
            target = self.result()
            self.elementwise(whole(target), axes, d.body)
        elif d.reduction == "sum":
            self.sum_equation(axes)
        else:
            target = self.result()
            self.reduce(whole(target), axes, d.reduction, self.plain(d.body))
            self.repeat(whole(target))

    def same_elements(self) -> bool:
        """Whether the tensor is another one in a new shape; it then is a view of that."""
        d, lowering = self.e.definition, self.lowering
        if not d.elementwise or not isinstance(d.body, At) or d.body.index != d.write:
            return False
        source = self.arrays[d.body.operand]
        if d.body.sizes(source.shape) != d.shape or source.dtype != self.e.dtype or not row_major(source):
            return False
        if source.kind not in ("buffer", "fixed") or self.e.name in lowering.wanted:
            return False
        made = lowering.array(self.e.name, d.shape, self.e.dtype, View(source.name, d.shape, d.shape))
        lowering.code.values[self.e.name] = made.name
        return True

    def solution(self, d: Solution) -> None:
        views = tuple(_matrix(self.arrays[read.operand], read.transposed) for read in d.reads)
        target = whole(self.result())
        self.emit(Apply(target, d.kernel.unknowns[d.unknown].numpy, views))


def _matrix(array: Array, transposed: bool) -> View:
    return View(array.name, array.shape[::-1], order=(1, 0)) if transposed else whole(array)
