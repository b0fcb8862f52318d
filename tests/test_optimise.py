"""Passes from code to code: values are kept, the calls that they save are gone, and each can be left out."""

from __future__ import annotations

import re
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
import repeated
import strategies
from hypothesis import Phase, assume, given, settings
from sympy import Integer, Symbol

import symgrad as sg
from symgrad.lower.ir import Array, Code, Cut, View
from symgrad.optimise import CODE_PASSES
from symgrad.optimise.boxes import cover, disjoint, written_box
from symgrad.optimise.layout import view_layout
from symgrad.passes import PASSES

STEPS, WIDTH = 6, 5
Graph = nx.MultiDiGraph


def _end(h: sg.Tensor, width: int = WIDTH) -> Graph:
    t = sg.input("t", ("N",), dtype="int64")
    logits = h @ sg.parameter("Wy", (width, 3)) + sg.parameter("by", (3,))
    return sg.graph(sg.cross_entropy(logits, t, name="loss"))


def _cell(x: sg.Tensor, h: sg.Tensor | None, tag: str, inputs: int) -> sg.Tensor:
    z = x @ sg.parameter(f"Wx{tag}", (inputs, WIDTH)) + sg.parameter(f"b{tag}", (WIDTH,))
    return sg.tanh(z if h is None else z + h @ sg.parameter(f"Wh{tag}", (WIDTH, WIDTH)))


def rnn() -> Graph:
    x = sg.input("x", (STEPS, "N", 4))
    Wx, Wh, b = sg.parameter("Wx", (4, WIDTH)), sg.parameter("Wh", (WIDTH, WIDTH)), sg.parameter("b", (WIDTH,))
    h = sg.tanh(x[0] @ Wx + b)
    for step in range(1, STEPS):
        h = sg.tanh(x[step] @ Wx + h @ Wh + b)
    return _end(h)


def batch_first() -> Graph:
    x = sg.input("x", ("N", STEPS, 4))
    Wx, Wh, b = sg.parameter("Wx", (4, WIDTH)), sg.parameter("Wh", (WIDTH, WIDTH)), sg.parameter("b", (WIDTH,))
    h = sg.tanh(x[:, 0] @ Wx + b)
    for step in range(1, STEPS):
        h = sg.relu(x[:, step] @ Wx + h @ Wh + b)
    return _end(h)


def two_layers() -> Graph:
    x = sg.input("x", (STEPS, "N", 4))
    W = {k: sg.parameter(k, (4 if k == "Wx" else WIDTH, WIDTH)) for k in ("Wx", "Wh", "Vx", "Vh")}
    b, c = sg.parameter("b", (WIDTH,)), sg.parameter("c", (WIDTH,))
    h = g = None
    for step in range(STEPS):
        u = x[step] @ W["Wx"] + b
        h = sg.tanh(u if h is None else u + h @ W["Wh"])
        v = h @ W["Vx"] + c
        g = sg.tanh(v if g is None else v + g @ W["Vh"])
    assert g is not None
    return _end(g)


def gated() -> Graph:
    x = sg.input("x", (STEPS, "N", 4))
    W = {k: (sg.parameter(f"W{k}", (4, WIDTH)), sg.parameter(f"U{k}", (WIDTH, WIDTH))) for k in "zn"}
    b = {k: sg.parameter(f"b{k}", (WIDTH,)) for k in "zn"}
    h = sg.constant(np.zeros((1, WIDTH)))
    for step in range(STEPS):
        z = sg.sigmoid(x[step] @ W["z"][0] + h @ W["z"][1] + b["z"])
        n = sg.tanh(x[step] @ W["n"][0] + z * (h @ W["n"][1]) + b["n"])
        h = n + z * (h - n)
    return _end(h)


def lstm() -> Graph:
    """All four gates from one product."""
    x = sg.input("x", (STEPS, "N", 4))
    W, U, b = (sg.parameter(n, (k, 4 * WIDTH)) for n, k in (("W", 4), ("U", WIDTH), ("b", 1)))
    h = c = None
    for step in range(STEPS):
        z = x[step] @ W + b if h is None else x[step] @ W + h @ U + b
        i, f, o, g = (z[:, k * WIDTH : (k + 1) * WIDTH] for k in range(4))
        new = sg.sigmoid(i) * sg.tanh(g)
        c = new if c is None else sg.sigmoid(f) * c + new
        h = sg.sigmoid(o) * sg.tanh(c)
    assert h is not None
    return _end(h)


def siamese() -> Graph:
    W, V, b = sg.parameter("W", (4, 7)), sg.parameter("V", (7, WIDTH)), sg.parameter("b", (WIDTH,))
    left, right = (sg.tanh(sg.tanh(sg.input(n, ("N", 4)) @ W) @ V + b) for n in ("x", "y"))
    return _end(left * right)


def attention() -> Graph:
    x = sg.input("x", ("N", 6, 8))
    heads = (x @ sg.parameter("W", (8, 24))).reshape("N", 6, 3, 2, 4).transpose((2, 0, 3, 1, 4))
    q, k, v = heads[0], heads[1], heads[2]
    mixed = sg.softmax(q @ k.transpose((0, 1, 3, 2)) * 0.5) @ v
    joined = mixed.transpose((0, 2, 1, 3)).reshape("N", 6, 8)
    return sg.graph(sg.mse(joined @ sg.parameter("Wo", (8, 8)) + x, sg.input("y", ("N", 6, 8)), name="loss"))


def joined() -> Graph:
    x = sg.input("x", ("N", 4))
    parts = [sg.tanh(x @ sg.parameter(f"W{k}", (4, k + 1))) for k in range(3)]
    return _end(sg.concatenate(parts, axis=1) @ sg.parameter("V", (6, WIDTH)))


def overlapping() -> Graph:
    h = sg.input("x", ("N", 4)) @ sg.parameter("W", (4, 8))
    return _end(sg.tanh(h[:, :5]) * h[:, 2:7] + sg.tanh(h[:, 3:]))


def gapped() -> Graph:
    z = sg.input("x", ("N", 4)) @ sg.parameter("W", (4, 14))
    return _end(sg.tanh(z[:, :5]) * sg.tanh(z[:, 8:13]))


def overlapping_relus() -> Graph:
    """The adjoint of z is zero but for two boxes, which have columns in common."""
    z = sg.input("x", ("N", 4)) @ sg.parameter("W", (4, 8))
    boxes = (sg.relu(z[:, k : k + 4]) * sg.input(n, ("N", 4)) for k, n in ((0, "u"), (2, "v")))
    return sg.graph(sg.add(*map(sg.sum, boxes), name="loss"))


def experts() -> Graph:
    x = sg.input("x", ("N", 4))
    gate = sg.softmax(x @ sg.parameter("Wg", (4, 3)))
    parts = [gate[:, k : k + 1] * sg.relu(x @ sg.parameter(f"W{k}", (4, WIDTH))) for k in range(3)]
    return _end(parts[0] + parts[1] + parts[2])


NETWORKS: list[Callable[[], Graph]] = [
    rnn, batch_first, two_layers, gated, lstm, siamese, attention, joined, gapped, experts, overlapping,
    overlapping_relus,
]  # fmt: skip


def _values(graph: Graph, batch: int = 3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random parameters and inputs."""
    rng = np.random.default_rng(5)
    params, inputs = {}, {}
    for name, data in graph.nodes(data=True):
        shape = tuple(batch if n == "N" else int(n) for n in data.get("shape", ()))
        if data["op"] == "parameter":
            params[name] = rng.normal(size=shape)
        elif data["op"] == "input":
            inputs[name] = rng.integers(0, 3, shape) if data.get("dtype") == "int64" else rng.normal(size=shape)
    return params, inputs


def _calls(program: sg.Program) -> list[str]:
    """The lines of the network's part that call NumPy."""
    source = program.source
    part = source[source.index("def _bind(") :]
    return [line.strip() for line in part.splitlines() if re.match(r" {8,}[a-z_.]+\(|.*\] = ", line)]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_values_are_kept_whatever_is_left_out(network: Callable[[], Graph]) -> None:
    graph = network()
    derivation = sg.derive(graph)
    params, inputs = _values(graph)
    plain = sg.emit(derivation, style="readable", dtype="float64", optimizer="sgd").load()
    loss, grads = plain.loss_and_grads(params, **inputs)
    output = plain.forward(params, **{n: inputs[n] for n in plain.FORWARD_INPUTS})
    for without in ([], *([name] for name in CODE_PASSES), list(CODE_PASSES)):
        module = sg.emit(derivation, dtype="float64", optimizer="sgd", without=without).load()
        found, found_grads = repeated.loss_and_grads(module, params, **inputs)
        np.testing.assert_allclose(found, loss, rtol=1e-12)
        for name in grads:
            np.testing.assert_allclose(found_grads[name], grads[name], rtol=1e-9, atol=1e-12, err_msg=str(without))
        again = module.forward(params, **{n: inputs[n] for n in module.FORWARD_INPUTS})
        np.testing.assert_allclose(again, output, rtol=1e-12, atol=1e-13)


def test_a_box_that_is_added_to_zeros_is_added_once() -> None:
    """A trainer steps on in the same memory."""
    derivation = sg.derive(overlapping_relus())
    params, inputs = _values(derivation.graph)
    trained = []
    for style in ("readable", "fast"):
        trainer = sg.emit(derivation, style=style, dtype="float64", optimizer="sgd").load().Trainer(params, lr=0.01)
        losses = [trainer.step(**inputs) for _ in range(4)]
        trained.append([*losses, *trainer.params["W"].ravel()])
    np.testing.assert_allclose(trained[1], trained[0], rtol=1e-12)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strategies.networks(most=9))
def test_random_networks_keep_their_values(network: strategies.Network) -> None:
    assume(network.parameters)
    derivation = sg.derive(network.graph, wrt=network.parameters)
    inputs = {n: v for n, v in network.values.items() if network.graph.nodes[n]["op"] == "input"}
    params = {n: v for n, v in network.values.items() if network.graph.nodes[n]["op"] == "parameter"}
    modules = [sg.emit(derivation, dtype="float64", without=w).load() for w in ([], list(CODE_PASSES))]
    (loss, grads), (expected, wanted) = (repeated.loss_and_grads(m, params, **inputs) for m in modules)
    np.testing.assert_allclose(loss, expected, rtol=1e-10, atol=1e-13)
    for name in wanted:
        np.testing.assert_allclose(grads[name], wanted[name], rtol=1e-9, atol=1e-12)


SAVED = [  # (pass, network, what calls of it the pass saves, at least how many)
    ("stack_contractions", rnn, "dot(", 3 * (STEPS - 1) - 2),
    ("stack_contractions", batch_first, "dot(", 3 * (STEPS - 1) - 2),
    ("stack_contractions", gated, "dot(", 4 * (STEPS - 1)),
    ("stack_contractions", siamese, "dot(", 2),
    ("share_early", rnn, "add(", STEPS - 3),
    ("forward_destinations", attention, "copyto(", 4),
    ("forward_destinations", experts, "copyto(", 3),
    ("join_parts", attention, "add(", 2),
    ("join_parts", joined, "copyto(", 1),
]


@pytest.mark.parametrize(("name", "network", "call", "count"), SAVED)
def test_calls_are_saved(name: str, network: Callable[[], Graph], call: str, count: int) -> None:
    derivation = sg.derive(network())
    with_it, without = (_calls(sg.emit(derivation, without=w)) for w in ([], [name]))
    saved = sum(line.startswith(call) for line in without) - sum(line.startswith(call) for line in with_it)
    assert saved >= count, (saved, count)


def test_attention_copies_nothing() -> None:
    copies = [line for line in _calls(sg.emit(sg.derive(attention()))) if line.startswith("copyto(")]
    assert not [line for line in copies if re.search("reshape|transpose|product|part", line)]


def test_a_transposed_weight_of_small_products_is_copied_once() -> None:
    source = sg.emit(sg.derive(rnn())).source
    assert source.count("copyto(Wh_turned, Wh_T)") == 1
    assert source.count("Wh_turned, ") >= STEPS - 1


@pytest.mark.parametrize(("without", "fills"), [([], 0), (["constant_borders"], 1)])
def test_gaps_between_parts_are_filled_with_zeros_once(without: list[str], fills: int) -> None:
    lines = _calls(sg.emit(sg.derive(gapped()), without=without))
    assert sum(bool(re.match(r"copyto\(.*, zero\)", line)) for line in lines) == fills
    assert not [line for line in lines if re.match(r"copyto\(d_z1, d_|add\(d_z1", line)]


def test_every_pass_has_a_sentence() -> None:
    assert set(CODE_PASSES) <= set(PASSES)


N = Symbol("N", integer=True, positive=True)


def _code() -> Code:
    code = Code()
    code.arrays["a"] = Array("a", (N, Integer(6), Integer(4)))
    part = View("a", (N, Integer(4)), index=(None, Integer(2), None))
    code.arrays["b"] = Array("b", (N, Integer(4)), alias=part)
    return code


def test_layouts_know_which_views_are_copies() -> None:
    code = _code()
    assert view_layout(code, View("a", (6 * N, Integer(4)), (6 * N, Integer(4)))) is not None
    assert view_layout(code, View("b", (4 * N,), (4 * N,))) is None  # rows that are 24 apart
    turned = view_layout(code, View("b", (Integer(4), N), order=(1, 0)))
    assert turned is not None and turned.axes == ((4, 1), (N, 24)) and turned.offset == 8 and turned.root == "a"
    assert turned.blas and not turned.contiguous


def test_boxes() -> None:
    code = _code()
    parts = [View("b", (N, Integer(2)), index=(None, Cut(Integer(s), Integer(2), 2))) for s in (0, 1)]
    inner, outer = ([written_box(code, part, base) for part in parts] for base in ("b", "a"))
    for boxes in (inner, outer):
        assert disjoint([box for box in boxes if box is not None])
    assert cover([box for box in inner if box is not None], (N, Integer(4)))
    assert outer[1] == (Cut(Integer(0), N), Cut(Integer(2), Integer(1)), Cut(Integer(1), Integer(2), 2))
    assert not disjoint([box for box in (*outer, written_box(code, View("b", (N, Integer(4))), "a")) if box])
