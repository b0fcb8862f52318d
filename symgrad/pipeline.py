"""The way from a graph to a program, in one place: every stage, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import networkx as nx

from symgrad.derive import derive_system
from symgrad.emit import Program, Request, emit_module, in_order
from symgrad.equations import System
from symgrad.errors import EmitError, nearest
from symgrad.expand import expand
from symgrad.optimizers import optimizer_named
from symgrad.simplify import (
    fold_constants,
    fuse_elementwise,
    reuse_forward_values,
    share_equal,
    simplify_sums,
    stabilise,
)

STYLES = ("fast", "readable")
DTYPES = ("float32", "float64")


def simplify(system: System, keep: Sequence[str] = ()) -> System:
    """The joint graph of forward and adjoint equations in the form that is lowered."""
    system = share_equal(fold_constants(system))
    system = reuse_forward_values(system)
    system = fold_constants(simplify_sums(system))
    system = share_equal(system).sorted().pruned()
    return fuse_elementwise(system, keep)


def compile_system(
    forward: System,
    wrt: Sequence[str],
    optimizer: str,
    dtype: str,
    style: str,
    title: str,
    describe: Callable[[System], tuple[str, Mapping[str, str]]],
) -> Program:
    """forward -> stable -> derived -> simplified -> lowered -> scheduled -> printed.

    `describe` gives the docstring and a comment per equation, for the simplified system.
    """
    for what, value, known in (("style", style, STYLES), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise EmitError(f"unknown {what} {value!r}", hint=nearest(str(value), known) or "one of " + ", ".join(known))
    if forward.loss is None:
        raise EmitError("the graph names no loss, so there is nothing to train", hint='sg.graph(loss)')
    stable = stabilise(fold_constants(forward))
    derived = derive_system(stable, wrt=wrt)
    keep = [e.name for e in forward if e.name == e.origin] if style == "readable" else []
    system = in_order(simplify(derived, keep), forward.loss)
    description, comments = describe(system)
    request = Request(forward, system, optimizer_named(optimizer), dtype, style, title, description, comments, forward.loss)
    return emit_module(request)
