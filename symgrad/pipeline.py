"""The way from a graph to a program, in one place: every stage, in order."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from symgrad.derive import derive_system
from symgrad.equations import System
from symgrad.expand import expand
from symgrad.simplify import (
    fold_constants,
    fuse_elementwise,
    reuse_forward_values,
    share_equal,
    simplify_sums,
    stabilise,
)


def simplify(system: System, keep: Sequence[str] = ()) -> System:
    """The joint graph of forward and adjoint equations in the form that is lowered."""
    system = share_equal(fold_constants(system))
    system = reuse_forward_values(system)
    system = fold_constants(simplify_sums(system))
    system = share_equal(system).sorted().pruned()
    return fuse_elementwise(system, keep)
