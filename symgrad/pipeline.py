"""The way from a graph to a program, in one place: every stage, in order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce

import networkx as nx

from symgrad.algebra.shorten import shorten_adjoints
from symgrad.derive import derive_recorded, derive_system
from symgrad.emit import Program, Request, emit_module, in_order, with_copied_outputs
from symgrad.equations import System
from symgrad.errors import EmitError, nearest
from symgrad.expand import expand
from symgrad.formula import Comments, Derivation, Passes, Record
from symgrad.lower import arrange, arrange_network
from symgrad.optimizers import optimizer_named
from symgrad.passes import left_out
from symgrad.simplify import (
    apply_masks_last,
    fold_constants,
    fuse_elementwise,
    reuse_forward_values,
    share_equal,
    share_work,
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
    return reduce(lambda system, step: step[1](system), tidying(forward), derived)


def tidying(forward: System) -> Passes:
    """The (name, pass) of which `tidied` consists, for the network `forward`; a derivation's steps replay them."""

    def fold(system: System) -> System:
        return fold_constants(system, keep=forward.equations)

    def reuse(system: System) -> System:
        return reuse_forward_values(system, values=lambda e: e.name in forward.equations and e.name != e.origin)

    return (
        ("fold_constants", fold),
        ("reuse_forward_values", reuse),
        ("simplify_sums", simplify_sums),
        ("shorten_adjoints", lambda system: shorten_adjoints(system, forward)),
        ("fold_constants", fold),
        ("sort", System.sorted),
    )


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
    raw, sources = derive_recorded(forward, of=of, wrt=wrt, seed=seed)
    record = Record(raw, of or forward.loss or "", seed, sources, tidying(forward))
    return Derivation(graph, forward, tidied(raw, forward), record)


def emit(
    derivation: Derivation,
    optimizer: str = "adam",
    dtype: str = "float32",
    style: str = "fast",
    title: str = "",
    without: Collection[str] = (),
) -> Program:
    """The derivation as a program that needs only NumPy.

    The program is derived anew from the network in its numerically stable form: what the derivation shows is the
    same function, before log(sum(exp(x))) and its like were rewritten.

    Args:
        optimizer: sgd, momentum, nesterov, rmsprop, adagrad, adam or adamw.
        dtype: float32 or float64.
        style: "fast" works in planned memory, "readable" is the textbook version of the same statements.
        title: the first line of the program's docstring.
        without: passes of the fast style (see `symgrad.passes.PASSES`) to leave out, to measure what they are worth.

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
    update, absent = optimizer_named(optimizer), left_out(without)
    forward = derivation.forward
    if forward.loss is None or derivation.system.loss != forward.loss:
        raise EmitError("only the gradients of the graph's loss make a training program", hint="sg.graph(loss)")
    system = training_system(derivation, style, absent)
    formulas = _comments(system)
    if style == "fast":
        system = in_order(arrange(system, absent), forward.loss)
        formulas = _comments(system) | formulas
    described = title or f"Training code of the network with the loss {forward.loss!r}"
    return emit_module(
        Request(forward, system, update, dtype, style, described, str(derivation), formulas, forward.loss, absent)
    )


def _comments(system: System) -> dict[str, str]:
    """The formula of each equation, on one line."""
    comments = Comments(system)
    return {e.name: comments(e.name) for e in system}


def training_system(derivation: Derivation, style: str = "fast", without: Collection[str] = ()) -> System:
    """The equations of a program: forward, loss and every gradient in the stable form, in this order.

    In the readable style every node of the network keeps an equation of its own.
    """
    forward = derivation.forward
    assert forward.loss is not None
    network = stabilise(fold_constants(forward))
    if style == "fast":
        network = arrange_network(network, without)
    derived = derive_system(network, wrt=list(derivation), zeros=True)
    keep = [e.name for e in forward if e.name == e.origin] if style == "readable" else []
    system = simplify(derived, keep)
    if style == "fast":
        system = share_work(system, without)
    return in_order(with_copied_outputs(system), forward.loss)
