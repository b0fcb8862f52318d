"""Which node of the network an equation belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from symgrad.equations import Equation, System


def network_nodes(forward: System, system: System) -> dict[str, str]:
    """Tensor of `system` -> the node of the network `forward` that it was derived from.

    What adds up several contributions belongs to the node whose adjoint it is; helpers, such as the counts of ties,
    to the node of the first equation that reads them.
    """
    nodes = {*forward.leaves, *(e.origin for e in forward)}
    found = {name: name for name in system.leaves}
    for e in system:
        found[e.name] = e.origin if e.origin in nodes else _of_adjoint(e, forward, nodes)
    for name, readers in reversed(system.uses().items()):
        if not found[name]:
            found[name] = next((found[reader] for reader in readers if found[reader]), name)
    return found


def _of_adjoint(e: Equation, forward: System, nodes: set[str]) -> str:
    """The node of the tensor whose adjoint e is; "" where it is none."""
    wrt = e.adjoint_of or ""
    if wrt in nodes:
        return wrt
    equations: Mapping[str, Equation] = forward.equations
    return equations[wrt].origin if wrt in equations else ""
