"""Separability, phases and parts: what may be divided by the samples, and that dividing it changes no value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import repeated

import symgrad as sg
from symgrad.lower import lower
from symgrad.schedule import phases, separable
from symgrad.schedule.separable import ACROSS, FREE, ROW, WHOLE, kind_of

Make = Callable[[], sg.Tensor]


def x(*shape: int | str) -> sg.Tensor:
    return sg.input("x", shape or ("N", 4))


def w(*shape: int, name: str = "w") -> sg.Tensor:
    return sg.parameter(name, shape, init=("normal", 0.5))


def labels() -> sg.Tensor:
    return sg.input("t", ("N",), dtype="int64")


def dense(h: sg.Tensor, inputs: int, outputs: int, tag: str) -> sg.Tensor:
    return h @ w(inputs, outputs, name=f"W{tag}") + w(outputs, name=f"b{tag}")


# what each form of statement is


IT = {"name": "it"}
KINDS: dict[str, tuple[Make, str]] = {
    "elementwise": (lambda: sg.tanh(x(), **IT), ROW),
    "broadcast over the samples": (lambda: sg.add(x(), w(4), **IT), ROW),
    "matrix product": (lambda: sg.matmul(x(), w(4, 3), **IT), ROW),
    "product from the left": (lambda: sg.einsum("ij,kj->ki", x(), w(3, 4), **IT), ROW),
    "product of a batch of matrices": (lambda: sg.matmul(x("N", 2, 4), w(4, 3), **IT), ROW),
    "sums of rows": (lambda: sg.sum(x(), axis=1, **IT), ROW),
    "samples on the second axis": (lambda: sg.tanh(x(5, "N", 4), **IT), ROW),
    "a row of a table for each sample": (lambda: sg.embedding(w(7, 3), labels(), **IT), ROW),
    "sum over the samples": (lambda: sg.sum(x(), axis=0, **IT), ACROSS),
    "the largest sample": (lambda: sg.max(x(), axis=0, **IT), ACROSS),
    "product over the samples": (lambda: sg.einsum("ij,ik->jk", *[x()] * 2, **IT), ACROSS),
    "no samples": (lambda: sg.tanh(w(4), **IT), FREE),
    "every sample with every other": (lambda: sg.einsum("ij,kj->ik", *[x()] * 2, **IT), WHOLE),
    "all but one sample": (lambda: sg.slice(x(), [[1, None, None], [None, None, None]], **IT), WHOLE),
    "a sample that an index picks": (lambda: sg.embedding(x(), labels(), **IT), WHOLE),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_statements(name: str) -> None:
    make, expected = KINDS[name]
    node = make()
    total = sg.sum(node) * w(name="scale")
    if name == "no samples":
        total = total + sg.sum(x())
    system = sg.derive(sg.graph(total)).forward
    code = lower(system)
    (size,) = {s for leaf in system.leaves.values() for n in leaf.shape for s in n.free_symbols}
    kinds = {kind_of(code, s, size) for s in code.statements if s.equation == "it"}
    assert expected in kinds
    assert WHOLE not in kinds or expected == WHOLE


# phases


def batch_normalised() -> nx.MultiDiGraph:
    z = dense(x(), 4, 6, "1")
    centred = z - sg.mean(z, axis=0)
    scaled = centred / sg.sqrt(sg.mean(sg.square(centred), axis=0) + 1e-5) * w(6, name="g")
    return sg.graph(sg.cross_entropy(dense(sg.tanh(scaled), 6, 3, "2"), labels(), name="loss"))


def perceptron() -> nx.MultiDiGraph:
    h = sg.tanh(dense(x(), 4, 6, "1"))
    return sg.graph(sg.cross_entropy(dense(h, 6, 3, "2"), labels(), name="loss"))


def attention() -> nx.MultiDiGraph:
    sequence = x("N", 5, 4)
    h = sg.layer_norm(sequence, w(4, name="g"), w(4, name="s"))
    q, k, v = (dense(h, 4, 4, tag) for tag in "qkv")
    out = sg.softmax(q @ k.transpose((0, 2, 1))) @ v
    return sg.graph(sg.mse(out, sequence, name="loss"))


def convolution() -> nx.MultiDiGraph:
    h = sg.conv2d(x("N", 2, 8, 8), w(3, 2, 3, 3, name="K"), padding=1) + w(3, 1, 1, name="c")
    h = sg.max_pool(sg.relu(h), 2).reshape("N", 48)
    return sg.graph(sg.cross_entropy(dense(h, 48, 3, "1"), labels(), name="loss"))


def recurrence() -> nx.MultiDiGraph:
    sequence, h = x(6, "N", 4), sg.constant(np.zeros((1, 5)))
    Wx, Wh, b = w(4, 5, name="Wx"), w(5, 5, name="Wh"), w(5, name="b")
    for step in range(6):
        h = sg.tanh(sequence[step] @ Wx + h @ Wh + b)
    return sg.graph(sg.cross_entropy(dense(h, 5, 3, "y"), labels(), name="loss"))


def lookup() -> nx.MultiDiGraph:
    words = sg.input("i", ("N", 3), dtype="int64")
    h = sg.mean(sg.embedding(w(3, 6, name="E"), words), axis=1)
    return sg.graph(sg.cross_entropy(dense(h, 6, 3, "1"), labels(), name="loss"))


def contrastive() -> nx.MultiDiGraph:
    z = dense(x(), 4, 3, "1")
    return sg.graph(sg.cross_entropy(z @ sg.transpose(z), labels(), name="loss"))


def regularised() -> nx.MultiDiGraph:
    W = w(4, 3, name="W")
    return sg.graph(sg.add(sg.cross_entropy(x() @ W, labels()), 0.1 * sg.sum(sg.square(W)), name="loss"))


def large() -> nx.MultiDiGraph:
    """Gradients that are computed in blocks of rows."""
    return sg.graph(sg.cross_entropy(dense(sg.relu(dense(x("N", 300), 300, 500, "1")), 500, 3, "2"), labels()))


NETWORKS = {
    f.__name__: f
    for f in (
        batch_normalised,
        perceptron,
        attention,
        convolution,
        recurrence,
        lookup,
        contrastive,
        regularised,
        large,
    )
}


def data(graph: nx.MultiDiGraph, samples: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    found = {}
    for name, node in graph.nodes(data=True):
        if node["op"] == "input":
            shape = [samples if n == "N" else n for n in node["shape"]]
            whole = node.get("dtype") == "int64"
            found[name] = rng.integers(0, 3, shape) if whole else rng.normal(size=shape)
    return found


def divided(program: sg.Program, least: int = 1) -> Any:
    """The program, divided into as many parts as it can be."""
    module = program.load()
    module.PARTS = dict.fromkeys(module.PARTS, (least, 64) if module.SAMPLES else (0, 1))
    return module


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("name", NETWORKS)
def test_divided_samples_give_the_same_gradients(name: str, samples: int) -> None:
    graph = NETWORKS[name]()
    derivation = sg.derive(graph)
    batch = data(graph, samples)
    readable = sg.emit(derivation, style="readable", dtype="float64").load()
    params = readable.init_params(seed=3)
    loss, grads = readable.loss_and_grads(params, **batch)
    module = divided(sg.emit(derivation, dtype="float64"))
    outputs = readable.forward(params, **{k: v for k, v in batch.items() if k in module.FORWARD_INPUTS})
    found = module.forward(params, **{k: v for k, v in batch.items() if k in module.FORWARD_INPUTS})
    np.testing.assert_allclose(found, outputs, rtol=1e-10, atol=1e-12)
    assert module.loss_fn(params, **batch) == pytest.approx(loss, rel=1e-12)
    found_loss, found_grads = repeated.loss_and_grads(module, params, **batch)
    assert found_loss == pytest.approx(loss, rel=1e-12)
    for key, value in grads.items():
        np.testing.assert_allclose(found_grads[key], value, rtol=1e-8, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    graph = NETWORKS[name]()
    module = divided(sg.emit(sg.derive(graph), dtype="float32"), least=2)
    batch = {k: v.astype("float32") if v.dtype.kind == "f" else v for k, v in data(graph, 23).items()}
    runs = []
    for threads in (1, 2, 3, 5):
        trainer = module.Trainer(module.init_params(seed=3), threads=threads)
        losses = [trainer.step(**batch) for _ in range(4)]
        runs.append((losses, {k: v.tobytes() for k, v in trainer.params.items()}))
    assert all(run == runs[0] for run in runs)


def plan(graph: nx.MultiDiGraph) -> phases.Plan:
    system = sg.derive(graph).system
    code = lower(system)
    (size,) = {s for leaf in system.leaves.values() for n in leaf.shape for s in n.free_symbols}
    keep = [code.values[n] for n in (*system.outputs, system.loss)]
    gradients = [code.values[n] for n in system.gradients.values()]
    return phases.plan_phases(code, [size], keep, gradients, lambda e: bool(system.equations[e].adjoint_of))


def test_a_perceptron_has_one_phase_of_rows() -> None:
    assert [phase.rows for phase in plan(perceptron()).phases] == [True, False]


def test_batch_normalisation_couples_the_samples() -> None:
    """Mean and variance are known only when all samples have got there; so are the sums of their gradients."""
    rows = [phase.rows for phase in plan(batch_normalised()).phases]
    assert rows.count(True) == 5  # to the mean, the variance, the two sums of the backward pass, and the end


def test_pairs_of_samples_are_compared_in_no_rows() -> None:
    found = plan(contrastive())
    rows = {s.equation for phase in found.phases if phase.rows for s in phase.statements}
    assert "loss_e" not in rows


def test_a_broken_analysis_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every statement with samples taken for one in rows, the divided program would compute something else."""
    graph = batch_normalised()
    derivation = sg.derive(graph)
    batch = data(graph, 6)
    right = sg.emit(derivation, dtype="float64").load()
    params = right.init_params(seed=3)
    loss, _ = right.loss_and_grads(params, **batch)
    kind = separable.kind_of
    monkeypatch.setattr(phases, "kind_of", lambda *a: ROW if kind(*a) == ACROSS else kind(*a))
    with pytest.raises((AssertionError, KeyError, ValueError, TypeError, NameError, sg.SymgradError)):
        wrong = divided(sg.emit(derivation, dtype="float64"))
        assert wrong.loss_fn(params, **batch) == pytest.approx(loss, rel=1e-9)


def test_batch_sizes_may_differ_from_step_to_step() -> None:
    """Each size is planned once."""
    graph = convolution()
    module = divided(sg.emit(sg.derive(graph), dtype="float64"), least=3)
    trainer = module.Trainer(module.init_params(seed=0))
    sizes = [8, 8, 3, 8, 3, 5]
    for samples in sizes:
        trainer.step(**data(graph, samples))
    assert len(trainer._workspaces) == len(set(sizes))
    plans = set(map(id, trainer._workspaces.values()))
    for samples in sizes:
        trainer.step(**data(graph, samples))
    assert set(map(id, trainer._workspaces.values())) == plans
