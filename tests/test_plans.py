"""Networks at the edge of what a plan can be: both styles agree on them, whole and divided into parts."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import networkx as nx
import numpy as np
import pytest
import repeated
import strategies
from hypothesis import Phase, assume, given, settings

import symgrad as sg
from symgrad.emit import plans, products
from symgrad.schedule import division

Data = dict[str, Any]
Case = tuple[Callable[[], nx.MultiDiGraph], Data, list[str] | None]

rng = np.random.default_rng(0)


@cache
def x(*shape: int | str) -> sg.Tensor:
    return sg.input("x", shape or ("N", 4))


@cache
def w(*shape: int) -> sg.Tensor:
    return sg.parameter("W", shape, init=("normal", 0.5))


@cache
def labels() -> sg.Tensor:
    return sg.input("t", ("N",), dtype="int64")


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


# outputs that nothing computes


def given_outputs() -> nx.MultiDiGraph:
    W, t = w(4, 3), labels()
    z = x() @ W
    outputs = [x(), t, W, sg.constant(np.arange(3.0)), z]
    return sg.graph(sg.cross_entropy(z, t, name="loss"), outputs=outputs)


def only_an_input() -> nx.MultiDiGraph:
    return sg.graph(sg.sum(sg.tanh(x() @ w(4, 3)), name="loss"), outputs=[x()])


def views_of_an_input() -> nx.MultiDiGraph:
    outputs = [sg.reshape(x(), ("N", 2, 2)), sg.transpose(x()), sg.slice(x(), [[None, None, 2], [1, 3, None]])]
    return sg.graph(sg.sum(sg.tanh(x() @ w(4, 3)), name="loss"), outputs=outputs)


def booleans() -> nx.MultiDiGraph:
    z = x() @ w(4, 3)
    return sg.graph(sg.cross_entropy(z, labels(), name="loss"), outputs=[sg.greater(z, 0.0), sg.one_hot(labels(), 3)])


# samples


def without_samples() -> nx.MultiDiGraph:
    return sg.graph(sg.sum(sg.tanh(w(3, 2)) * x(3, 2), name="loss"))


def of_parameters_alone() -> nx.MultiDiGraph:
    W = w(4, 3)
    return sg.graph(sg.sum(sg.square(W), name="loss"), outputs=[x() @ W])


def steps_of_samples() -> nx.MultiDiGraph:
    h = sg.tanh(x("N", "T", 4) @ w(4, 3))
    return sg.graph(sg.mean(sg.square(sg.mean(h, axis=1)), name="loss"), outputs=[h])


def samples_of_steps() -> nx.MultiDiGraph:
    h = sg.sum(sg.tanh(x("T", "N", 4) @ w(4, 3)), axis=0)
    return sg.graph(sg.mse(sg.sum(h, axis=1), sg.input("y", ("N",)), name="loss"), outputs=[h])


def two_kinds_apart() -> nx.MultiDiGraph:
    """N of one thing and T of another, each with each in the output."""
    W, y = w(4, 3), sg.input("y", ("T", 4))
    total = sg.sum(sg.tanh(x() @ W)) + sg.mean(sg.tanh(y @ W))
    return sg.graph(total, outputs=[x() @ sg.transpose(y)])


def square() -> nx.MultiDiGraph:
    """A graph's adjacency matrix: samples on both axes."""
    h = sg.tanh(sg.input("A", ("N", "N")) @ (x() @ w(4, 3)))
    return sg.graph(sg.mean(sg.square(h), name="loss"), outputs=[h])


def dimension_n() -> nx.MultiDiGraph:
    """The name that a part's number of samples would like to have."""
    h = sg.tanh(sg.input("x", ("n", 4)) @ sg.parameter("W", (4, 3)))
    return sg.graph(sg.mean(sg.square(h), name="loss"), outputs=[h])


def squared() -> nx.MultiDiGraph:
    return sg.graph(sg.mean(sg.square(sg.tanh(x() @ w(4, 3))), name="loss"))


def samples_last() -> nx.MultiDiGraph:
    """A product whose result has the samples on its last axis, and is read when all of them are known."""
    y = sg.mean(sg.tanh(sg.conv1d(x("N", 1, 6), sg.parameter("K", (3, 1, 2)))), axis=2)
    h = y + sg.gelu(y @ w(3, 3))
    return sg.graph(sg.mean(sg.square(h - sg.mean(h, axis=0)), name="loss"))


BATCH: Data = {"x": normal(5, 4)}
LABELLED: Data = BATCH | {"t": np.array([0, 2, 1, 1, 0])}
CASES: dict[str, Case] = {
    "outputs that are given": (given_outputs, LABELLED, None),
    "an input is the output": (only_an_input, BATCH, None),
    "views of an input": (views_of_an_input, BATCH, None),
    "outputs of other types": (booleans, LABELLED, None),
    "no samples": (without_samples, {"x": normal(3, 2)}, None),
    "parameters alone": (of_parameters_alone, BATCH, None),
    "steps of samples": (steps_of_samples, {"x": normal(5, 3, 4)}, None),
    "samples of steps": (samples_of_steps, {"x": normal(3, 5, 4), "y": normal(5)}, None),
    "two kinds apart": (two_kinds_apart, {"x": normal(5, 4), "y": normal(3, 4)}, None),
    "samples on both axes": (square, {"A": normal(5, 5), "x": normal(5, 4)}, None),
    "samples last": (samples_last, {"x": normal(5, 1, 6)}, None),
    "dimension n": (dimension_n, BATCH, None),
    "by an input": (squared, BATCH, ["x"]),
    "by an input and a parameter": (squared, BATCH, ["W", "x"]),
    "by samples on both axes": (square, {"A": normal(5, 5), "x": normal(5, 4)}, ["A", "W", "x"]),
}


def divided(module: Any, least: int) -> Any:
    """The program, whose samples are divided into parts of at least so many."""
    module.PARTS = dict.fromkeys(module.PARTS, (least, 64) if module.SAMPLES else (0, 1))
    return module


def assert_alike(found: Any, expected: Any) -> None:
    for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (found, expected)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("least", [1, 2, 1000])
@pytest.mark.parametrize("name", CASES)
def test_both_styles_agree(name: str, least: int) -> None:
    build, batch, wrt = CASES[name]
    derivation = sg.derive(build(), wrt=wrt)
    readable = sg.emit(derivation, style="readable", dtype="float64").load()
    fast = divided(sg.emit(derivation, dtype="float64").load(), least)
    assert fast.OUTPUTS == readable.OUTPUTS == derivation.forward.outputs
    params = readable.init_params(1)
    seen = {k: v for k, v in batch.items() if k in fast.FORWARD_INPUTS}
    assert_alike(fast.forward(params, **seen), readable.forward(params, **seen))
    loss, grads = readable.loss_and_grads(params, **batch)
    found_loss, found_grads = repeated.loss_and_grads(fast, params, **batch)
    assert found_loss == pytest.approx(loss, rel=1e-12)
    assert fast.loss_fn(params, **batch) == pytest.approx(loss, rel=1e-12)
    assert list(found_grads) == list(grads)
    for key, value in grads.items():
        np.testing.assert_allclose(found_grads[key], value, rtol=1e-8, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("style", ["fast", "readable"])
@pytest.mark.parametrize("name", ["outputs that are given", "an input is the output", "views of an input"])
def test_an_output_is_that_of_its_own_batch(name: str, style: str) -> None:
    build, batch, _ = CASES[name]
    module = sg.emit(sg.derive(build()), style=style, dtype="float64").load()
    trainer = module.Trainer(module.init_params(1))
    first = {k: v for k, v in batch.items() if k in module.FORWARD_INPUTS}
    second = {k: v[::-1].copy() for k, v in first.items()}
    before = trainer.predict(**first)
    trainer.step(**batch)
    assert_alike(trainer.predict(**second), module.forward(trainer.params, **second))
    trainer.params["W"][...] = module.init_params(1)["W"]
    assert_alike(trainer.predict(**first), before)


def evaluated(graph: nx.MultiDiGraph, wrt: list[str], values: dict[str, np.ndarray]) -> Any:
    """Loss and gradients by the emitted program."""
    module = sg.emit(sg.derive(graph, wrt=wrt), dtype="float64").load()
    given: dict[str, dict[str, np.ndarray]] = {"input": {}, "parameter": {}}
    for name, value in values.items():
        given[graph.nodes[name]["op"]][name] = value
    return module.loss_and_grads(given["parameter"], **given["input"])


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strategies.networks(most=6))
def test_parameters_of_the_names_of_a_plan(network: strategies.Network) -> None:
    """Tensors may have the names that `_bind` works with: the program finds others for its own, or for theirs."""
    wrt = network.parameters
    assume(wrt)
    names = dict(zip(("p", "q", "x", "n0", "t0"), ("part", "make", "start", "rows", "gradients"), strict=True))
    renamed = nx.relabel_nodes(network.graph, names)
    values = {names.get(n, n): v for n, v in network.values.items()}
    loss, grads = evaluated(network.graph, wrt, network.values)
    found, found_grads = evaluated(renamed, [names.get(n, n) for n in wrt], values)
    assert found == pytest.approx(loss, rel=1e-12)
    for name, value in grads.items():
        np.testing.assert_allclose(found_grads[names.get(name, name)], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_of_a_transposed_array_are_multiplied_without_a_copy(parts: int) -> None:
    left, right = np.ones((992, 128), np.float32).T[:64], np.ones((992, 120), np.float32)
    out = np.empty((64, 120), np.float32)
    product = products._product_for(parts)
    product(left, right, out)
    tracemalloc.start()
    try:
        product(left, right, out)
        assert tracemalloc.get_traced_memory()[1] < 1000
    finally:
        tracemalloc.stop()
    assert (out == 992).all()


def test_a_large_gradient_is_whole_for_threads_of_blas_and_the_same_blocks_for_any_workers() -> None:
    blocks = [plans._blocks(lambda a, b: plans._nothing, 130, 7, 5, 1e9, workers) for workers in range(4)]
    assert [(first, last) for _, first, last, _ in blocks[0]] == [(5, 915)]
    assert len(blocks[1]) == 4 and blocks[1] == blocks[2] == blocks[3]
    assert [first for _, first, _, _ in blocks[1][1:]] == [last for _, _, last, _ in blocks[1][:-1]]


@pytest.mark.parametrize("without", [None, 5])
def test_what_names_no_passes(without: Any) -> None:
    with pytest.raises(sg.EmitError, match=f"without: expected names of passes, got {without}"):
        sg.emit(sg.derive(squared()), without=without)


def test_costly_hand_overs_make_larger_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    derivation = sg.derive(sg.graph(sg.mean(sg.square(x("N", 64) @ w(64, 64)), name="loss")))
    least = sg.emit(derivation).load().PARTS
    for name, kind in {"hand_over": "thread", "process_hand_over": "process"}.items():
        slow = replace(division.MACHINE, **{name: 1.0})
        with monkeypatch.context() as patch:
            patch.setattr(division, "MACHINE", slow)
            assert sg.emit(derivation).load().PARTS[kind][0] > 1000 * least[kind][0]
