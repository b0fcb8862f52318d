"""The way from a graph to a program, in one place: every stage, in order."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from symgrad.derive import derive_system
from symgrad.emit import Program, Request, emit_module, in_order
from symgrad.equations import System
from symgrad.errors import EmitError, nearest
from symgrad.expand import expand
from symgrad.formula import Comments, Derivation
from symgrad.optimizers import optimizer_named
from symgrad.simplify import (
    apply_masks_last,
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
    return apply_masks_last(fuse_elementwise(system, keep))


def tidied(derived: System, forward: System) -> System:
    """The adjoints as one would write them: no copies, no sums that cancel; the network's own nodes untouched.

    The values of a composite op's parts are written where the chain rule repeats them; those of whole nodes
    are left, so that a derivative still reads f'(z).
    """
    system = fold_constants(derived, keep=forward.equations)
    system = reuse_forward_values(system, values=lambda e: e.name in forward.equations and e.name != e.origin)
    return fold_constants(simplify_sums(system), keep=forward.equations).sorted()


def derive(
    graph: nx.MultiDiGraph, wrt: Sequence[str] | None = None, of: str | None = None, seed: str | None = None
) -> Derivation:
    """The gradients of the loss (or of the tensor `of`) by the tensors `wrt`, by default all parameters.

    Where `of` has axes, `seed` names a new input of its shape that multiplies it: the vector-Jacobian
    product. The result's `graph` is a network again, which can be derived again.

    Raises:
        GraphError and its kinds: the graph is no well-formed network.
        DeriveError: there is no scalar, or it does not depend on one of `wrt`.
    """
    forward = expand(graph)
    return Derivation(graph, forward, tidied(derive_system(forward, of=of, wrt=wrt, seed=seed), forward))


def emit(
    derivation: Derivation,
    optimizer: str = "adam",
    dtype: str = "float32",
    style: str = "fast",
    title: str = "",
) -> Program:
    """The derivation as a program that needs only NumPy.

    The program is derived anew from the network in its numerically stable form: what the derivation shows is the
    same function, before log(sum(exp(x))) and its like were rewritten.

    Args:
        optimizer: sgd, momentum, nesterov, rmsprop, adagrad, adam or adamw.
        dtype: float32 or float64.
        style: "fast" works in planned memory, "readable" is the textbook version of the same statements.
        title: the first line of the program's docstring.

    Raises EmitError for an unknown option, or a network that cannot be a program.
    """
    for what, value, known in (("style", style, STYLES), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise EmitError(
                f"unknown {what} {value!r}", hint=nearest(str(value), known) or "one of " + ", ".join(known)
            )
    if not isinstance(derivation, Derivation):
        raise EmitError(
            f"a program is made from a derivation, not from {type(derivation).__name__}", hint="sg.derive(graph)"
        )
    update = optimizer_named(optimizer)
    forward = derivation.forward
    if forward.loss is None or derivation.system.loss != forward.loss:
        raise EmitError("only the gradients of the graph's loss make a training program", hint="sg.graph(loss)")
    stable = stabilise(fold_constants(forward))
    derived = derive_system(stable, wrt=list(derivation), zeros=True)
    keep = [e.name for e in forward if e.name == e.origin] if style == "readable" else []
    system = in_order(simplify(derived, keep), forward.loss)
    comments = Comments(system)
    notes = {e.name: comments(e.name) for e in system if e.adjoint_of or style == "fast"}
    described = title or f"Training code of the network with the loss {forward.loss!r}"
    return emit_module(Request(forward, system, update, dtype, style, described, str(derivation), notes, forward.loss))
