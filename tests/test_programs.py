"""Whole programs: random networks in both styles, golden files, numbers at the edge, and what a file needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import networkx as nx
import numpy as np
import pytest
import strategies
from hypothesis import Phase, assume, given, settings

import symgrad as sg
from symgrad.derive import derive_system
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand

GOLDEN = Path(__file__).parent / "golden"


def program_of(graph: nx.MultiDiGraph, style: str, dtype: str = "float64", optimizer: str = "sgd") -> sg.Program:
    return sg.emit(sg.derive(graph), style=style, dtype=dtype, optimizer=optimizer)


# random networks


@settings(
    max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # shrinking takes minutes
@given(strategies.networks(most=9))
def test_fast_and_readable_programs_compute_the_reference(network: strategies.Network) -> None:
    wrt = network.parameters
    assume(wrt)
    system = derive_system(expand(network.graph), wrt=wrt)
    expected = evaluate(system, network.values)
    derivation = sg.derive(network.graph, wrt=wrt)
    inputs = {n: v for n, v in network.values.items() if network.graph.nodes[n]["op"] == "input"}
    params = {n: v for n, v in network.values.items() if network.graph.nodes[n]["op"] == "parameter"}
    for style in ("fast", "readable"):
        module = sg.emit(derivation, style=style, dtype="float64", optimizer="sgd").load()
        loss, grads = module.loss_and_grads(params, **inputs)
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-9, atol=1e-12)
        for name in wrt:
            np.testing.assert_allclose(grads[name], expected[system.gradients[name]], rtol=1e-8, atol=1e-10)


# golden files


def perceptron() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 64)), sg.input("t", ("N",), dtype="int64")
    h = sg.tanh(x @ sg.parameter("W1", (64, 32)) + sg.parameter("b1", (32,)), name="h")
    logits = h @ sg.parameter("W2", (32, 10)) + sg.parameter("b2", (10,))
    return sg.graph(sg.cross_entropy(logits, t, name="loss"))


def convolution() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 1, 8, 8)), sg.input("t", ("N", 4))
    h = sg.relu(sg.conv2d(x, sg.parameter("F", (3, 1, 3, 3)), padding=1) + sg.parameter("c", (3, 1, 1)), name="h")
    pooled = sg.max_pool(h, 2, name="pooled")
    return sg.graph(sg.mse(sg.reshape(pooled, ("N", 48)) @ sg.parameter("W", (48, 4)), t, name="loss"))


def lookup() -> nx.MultiDiGraph:
    words, t = sg.input("words", ("N", 3), dtype="int64"), sg.input("t", ("N",))
    mean = sg.mean(sg.embedding(sg.parameter("E", (20, 5)), words), axis=1, name="average")
    return sg.graph(sg.binary_cross_entropy_with_logits(mean @ sg.parameter("w", (5,)), t, name="loss"))


def own_op() -> nx.MultiDiGraph:
    x, s = sg.input("x", ("N", 6)), sg.parameter("s", (6,), init=0.5)
    y = sg.define("Y[i] = sum(j, tanh(X[i,j])*s[j])**2", X=x, s=s, name="y")
    return sg.graph(sg.mean(y, name="loss"))


def recurrence() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 3, 4)), sg.input("t", ("N", 5))
    W, U = sg.parameter("W", (4, 5)), sg.parameter("U", (5, 5))
    h = sg.tanh(x[:, 0] @ W, name="h0")
    for k in (1, 2):
        h = sg.tanh(x[:, k] @ W + h @ U, name=f"h{k}")
    return sg.graph(sg.huber(h, t, name="loss"))


GOLDEN_FILES: dict[str, tuple[Callable[[], nx.MultiDiGraph], dict[str, str]]] = {
    "perceptron_fast": (perceptron, {"style": "fast", "dtype": "float32", "optimizer": "adam"}),
    "perceptron_readable": (perceptron, {"style": "readable", "dtype": "float32", "optimizer": "adam"}),
    "convolution_fast": (convolution, {"style": "fast", "dtype": "float32", "optimizer": "momentum"}),
    "convolution_readable": (convolution, {"style": "readable", "dtype": "float64", "optimizer": "nesterov"}),
    "lookup_fast": (lookup, {"style": "fast", "dtype": "float64", "optimizer": "adagrad"}),
    "own_op_readable": (own_op, {"style": "readable", "dtype": "float64", "optimizer": "rmsprop"}),
    "recurrence_fast": (recurrence, {"style": "fast", "dtype": "float64", "optimizer": "adamw"}),
    "recurrence_readable": (recurrence, {"style": "readable", "dtype": "float64", "optimizer": "sgd"}),
}


def region(source: str) -> str:
    """The part of a program that is its own: the rest is emit/runtime.py."""
    head, rest = source.split("# <network>\n")
    return head[: head.index("from __future__")] + rest.split("# </network>\n")[0]


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_file(name: str, request: pytest.FixtureRequest) -> None:
    build, options = GOLDEN_FILES[name]
    text = region(program_of(build(), **options).source)
    path = GOLDEN / f"{name}.py.txt"
    if request.config.getoption("--update"):
        path.write_text(text, encoding="utf-8")
    assert path.exists(), "run pytest --update, read the new file, and commit it"
    assert text == path.read_text(encoding="utf-8"), "run pytest --update, and read the difference"


def test_no_golden_file_is_left_over() -> None:
    assert {p.name.removesuffix(".py.txt") for p in GOLDEN.glob("*.py.txt")} == set(GOLDEN_FILES)


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_programs_pass_the_linter(name: str, tmp_path: Path) -> None:
    build, options = GOLDEN_FILES[name]
    path = tmp_path / f"{name}.py"
    program_of(build(), **options).save(path)
    rules = ["--isolated", "--select", "E,F,W,B,UP", "--ignore", "E501"]
    found = subprocess.run([sys.executable, "-m", "ruff", "check", *rules, path], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden_programs_are_verified(name: str) -> None:
    build, options = GOLDEN_FILES[name]
    report = sg.verify(build(), style=options["style"], entries=5)
    assert report.ok, str(report)


# what a file needs


def test_a_program_imports_numpy_and_the_standard_library_only() -> None:
    tree = ast.parse(program_of(perceptron(), "fast").source)
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {m.split(".")[0] for m in modules} - set(sys.stdlib_module_names) == {"numpy"}


def test_a_saved_program_runs_by_itself(tmp_path: Path) -> None:
    program_of(perceptron(), "fast", "float32", "adam").save(tmp_path / "train.py")
    random = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=random.normal(size=(50, 64)), t=random.integers(0, 10, 50))
    command = [sys.executable, "-I", "train.py", "data.npz", "--epochs", "2", "--save", "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.npz").exists()
    assert "loss:" in done.stdout


@pytest.mark.parametrize("optimizer", sorted(sg.OPTIMIZERS))
def test_every_optimizer_learns_and_both_styles_agree(optimizer: str) -> None:
    derivation = sg.derive(perceptron())
    random = np.random.default_rng(0)
    data = {"x": random.normal(size=(40, 64)), "t": random.integers(0, 10, 40)}
    losses = []
    for style in ("fast", "readable"):
        module = sg.emit(derivation, optimizer=optimizer, dtype="float64", style=style).load()
        trainer = module.Trainer(module.init_params(0))
        losses.append([trainer.step(**data) for _ in range(8)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
    assert losses[0][-1] < losses[0][0]


def reference_adam(theta: Any, grads: Any, lr: float = 1e-3) -> Any:
    m = v = 0.0
    for k, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - lr * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    return theta


def test_adam_is_adam() -> None:
    w = sg.parameter("w", (3,), init=1.0)
    module = program_of(sg.graph(sg.sum(w * sg.input("g", (3,)), name="loss")), "fast", optimizer="adam").load()
    trainer = module.Trainer(module.init_params())
    grads = np.random.default_rng(3).normal(size=(5, 3))
    for g in grads:
        trainer.step(g=g)
    np.testing.assert_allclose(trainer.params["w"], reference_adam(np.ones(3), grads), rtol=1e-12)


# numbers at the edge

POINTS = np.array([-1e4, -800.0, -90.0, -30.0, -1.0, 0.0, 1.0, 30.0, 90.0, 800.0, 1e4])
NAIVE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "log(1 + exp(x))": (lambda x: sg.log(1 + sg.exp(x)), lambda x: mpmath.log(1 + mpmath.exp(x))),
    "1/(1 + exp(-x))": (lambda x: 1 / (1 + sg.exp(-x)), lambda x: 1 / (1 + mpmath.exp(-x))),
    "log(sigmoid(x))": (lambda x: sg.log(sg.sigmoid(x)), lambda x: -mpmath.log(1 + mpmath.exp(-x))),
    "sigmoid(x)": (sg.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "softplus(x)": (sg.softplus, lambda x: mpmath.log(1 + mpmath.exp(x))),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("style", ["fast", "readable"])
@pytest.mark.parametrize("name", NAIVE)
def test_logistic_forms_are_right_to_a_few_ulps(name: str, style: str, dtype: str) -> None:
    build, truth = NAIVE[name]
    x = sg.parameter("x", (len(POINTS),))
    y = build(x)
    module = program_of(sg.graph(sg.sum(y, name="loss"), outputs=[y]), style, dtype).load()
    values = module.forward({"x": POINTS})
    _, grads = module.loss_and_grads({"x": POINTS})
    with mpmath.workdps(6000):
        exact = [truth(mpmath.mpf(p)) for p in POINTS]
        slopes = [mpmath.diff(truth, mpmath.mpf(p), h=mpmath.mpf(10) ** -1000) for p in POINTS]
    assert_ulps(values, exact, dtype)
    assert_ulps(grads["x"], slopes, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", ["logsumexp", "log(sum(exp))", "softmax", "exp/sum"])
def test_softmax_forms_are_right_to_a_few_ulps(form: str, dtype: str) -> None:
    rows = np.array([[1e4, -1e4, 9999.0], [-1e4, -1e4 + 2, -1e4 - 1], [0.5, 1.5, -2.0], [800.0, 0.0, 799.0]])
    x = sg.parameter("x", rows.shape)
    smooth = form.startswith("log")
    y = {
        "logsumexp": lambda: sg.logsumexp(x, axis=1),
        "log(sum(exp))": lambda: sg.log(sg.sum(sg.exp(x), axis=1)),
        "softmax": lambda: sg.softmax(x, axis=1),
        "exp/sum": lambda: sg.exp(x) / sg.sum(sg.exp(x), axis=1, keepdims=True),
    }[form]()
    weights = np.array([1.0, 2.0, -3.0])
    loss = sg.sum(y) if smooth else sg.sum(y * sg.constant(weights))
    module = program_of(sg.graph(loss, outputs=[y]), "fast", dtype).load()
    _, grads = module.loss_and_grads({"x": rows})
    with mpmath.workdps(9000):
        parts = [[mpmath.exp(mpmath.mpf(v)) for v in row] for row in rows]
        s = [[p / sum(row) for p in row] for row in parts]
        expected = [mpmath.log(sum(row)) for row in parts] if smooth else [v for row in s for v in row]
        mean = [sum(p * w for p, w in zip(row, weights, strict=True)) for row in s]
        jacobian = [p * (w - m) for row, m in zip(s, mean, strict=True) for p, w in zip(row, weights, strict=True)]
        slopes = [v for row in s for v in row] if smooth else jacobian
    assert_ulps(module.forward({"x": rows}), expected, dtype)
    assert_ulps(grads["x"], slopes, dtype, ulps=40 if not smooth else 8)


def assert_ulps(found: Any, expected: list[Any], dtype: str, ulps: float = 8) -> None:
    """Within a few units in the last place wherever the true value is a normal number of the type."""
    info = np.finfo(dtype)
    for value, truth in zip(np.ravel(found), expected, strict=True):
        assert np.isfinite(value)
        if abs(truth) > float(info.tiny) * 4:
            error = abs((mpmath.mpf(float(value)) - truth) / truth) / float(info.eps)
            assert error <= ulps, (float(value), mpmath.nstr(truth, 20), float(error))
        else:
            assert abs(float(value)) <= float(info.tiny) * 8
