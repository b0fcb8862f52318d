"""Each definition as array statements, by the form of its body.

elementwise body            Map (a term that reaches outside its operand: on the part inside)
sum of a product            Contract, pairwise, cheapest first; factors that are no plain access get a Map
other reductions            Reduce of a view, or of a Map over all loops
data-dependent index        Gather before, Scatter after
affine scatter              Map into strided parts of the target, in For over the small offsets
"""

from __future__ import annotations

from collections.abc import Iterable

from symgrad.equations import System
from symgrad.lower.access import Lowering
from symgrad.lower.ir import Code, whole
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
