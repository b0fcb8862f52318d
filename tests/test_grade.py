"""The grader: right answers in many forms, wrong ones and what is wrong with them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import symgrad as sg
from symgrad import cli
from symgrad.errors import DeriveError, FormulaError, GradeError, ShapeError
from symgrad.evaluate.dims import Dims
from symgrad.formula.indexed import Element, Reduction
from symgrad.grade import KINDS, field, prove
from symgrad.grade.edits import edits
from symgrad.grade.points import draw_points
from symgrad.grade.problem import Problem
from symgrad.grade.rewriting import in_atoms
from symgrad.index.definition import dimension, index_symbol

# networks


def inputs() -> tuple[Any, Any, Any]:
    return sg.input("x", ("N", 3)), sg.input("t", ("N", 2)), sg.input("y", ("N",))


def linear(loss: str = "mean") -> Any:
    x, _, y = inputs()
    f = sg.add(sg.matmul(x, sg.parameter("w", (3,))), sg.parameter("b", ()), name="f")
    error = (f - y) ** 2
    return sg.graph(sg.mean(error, name="loss") if loss == "mean" else sg.sum(error, name="loss"))


def logistic() -> Any:
    x, _, y = inputs()
    f = sg.matmul(x, sg.parameter("w", (3,)), name="f")
    return sg.graph(sg.binary_cross_entropy_with_logits(f, y, name="loss"))


def margin() -> Any:
    """Labels of -1 and 1."""
    x, _, y = inputs()
    f = sg.matmul(x, sg.parameter("w", (3,)), name="f")
    return sg.graph(sg.sum(sg.log(1 + sg.exp(-y * f)), name="loss"))


def hidden(activation: str = "tanh") -> tuple[Any, Any]:
    x, t, _ = inputs()
    z1 = sg.add(sg.matmul(x, sg.parameter("W1", (3, 4))), sg.parameter("b1", (4,)), name="z1")
    h = getattr(sg, activation)(z1, name="h")
    z2 = sg.add(sg.matmul(h, sg.parameter("W2", (4, 2))), sg.parameter("b2", (2,)), name="z2")
    return z2, t


def mlp(activation: str = "tanh") -> Any:
    z2, t = hidden(activation)
    return sg.graph(sg.mse(z2, t, name="loss"))


def softmax_targets() -> Any:
    z2, t = hidden()
    p = sg.softmax(z2, name="p")
    return sg.graph(-sg.mean(sg.sum(t * sg.log(p), axis=1)))


def softmax_labels() -> Any:
    z2, _ = hidden("relu")
    labels = sg.input("labels", ("N",), dtype="int64")
    return sg.graph(sg.cross_entropy(z2, labels, name="loss"), outputs=[sg.softmax(z2, name="p")])


def deep() -> Any:
    """Three layers of one width, so that what is forgotten still fits."""
    x, _, _ = inputs()
    t, value = sg.input("t", ("N", 3)), x
    for k, activation in ((1, sg.tanh), (2, sg.sigmoid)):
        z = sg.matmul(value, sg.parameter(f"W{k}", (3, 3)), name=f"z{k}")
        value = activation(z, name=f"h{k}")
    p = sg.matmul(value, sg.parameter("W3", (3, 3)), name="p")
    return sg.graph(sg.mse(p, t, reduction="sum", name="loss"))


def residual() -> Any:
    """W is used twice, and the first layer is added to its own output."""
    x, _, _ = inputs()
    W = sg.parameter("W", (3, 3))
    z1 = sg.matmul(x, W, name="z1")
    a = sg.relu(z1, name="a")
    r = sg.add(a, z1, name="r")
    z2 = sg.matmul(r, W, name="z2")
    return sg.graph(sg.sum(z2**2, name="loss"))


def regularised() -> Any:
    x, _, y = inputs()
    w = sg.parameter("w", (3,))
    f = sg.matmul(x, w, name="f")
    penalty = sg.multiply(0.1, sg.sum(w**2), name="penalty")
    return sg.graph(sg.add(sg.mse(f, y, name="data"), penalty, name="loss"))


def normalised() -> Any:
    x, _, _ = inputs()
    gain, bias = sg.parameter("gain", (3,)), sg.parameter("bias", (3,))
    v = sg.matmul(x, sg.parameter("V", (3, 3)), name="v")
    ln = sg.layer_norm(v, gain, bias, name="ln")
    return sg.graph(sg.sum(sg.sin(ln), name="loss"))


def shifted() -> Any:
    """A softmax written by hand, and a loss that the shift itself changes."""
    x, _, _ = inputs()
    z = sg.matmul(x, sg.parameter("W", (3, 3)), name="z")
    m = sg.max(z, axis=1, keepdims=True, name="m")
    e = sg.exp(z - m, name="e")
    return sg.graph(sg.sum(e * e, name="loss"))


def one_layer() -> Any:
    """The network for which the example of the documentation is right."""
    x, t, _ = inputs()
    h = sg.tanh(x @ sg.parameter("W1", (3, 2)), name="h")
    p = sg.add(h, sg.parameter("b", (2,)), name="p")
    return sg.graph(sg.sum((p - t) ** 2) / 2)


def fixed_batch() -> Any:
    x, y = sg.input("x", (8, 3)), sg.input("y", (8,))
    f = sg.matmul(x, sg.parameter("w", (3,)), name="f")
    return sg.graph(sg.mse(f, y, name="loss"))


NETWORKS: dict[str, Callable[[], Any]] = {
    "linear": linear,
    "linear sum": lambda: linear("sum"),
    "logistic": logistic,
    "margin": margin,
    "mlp": mlp,
    "mlp relu": lambda: mlp("relu"),
    "mlp sigmoid": lambda: mlp("sigmoid"),
    "mlp gelu": lambda: mlp("gelu"),
    "softmax": softmax_targets,
    "labels": softmax_labels,
    "deep": deep,
    "residual": residual,
    "regularised": regularised,
    "normalised": normalised,
    "shifted": shifted,
    "one layer": one_layer,
    "fixed batch": fixed_batch,
}


@cache
def network(name: str) -> Any:
    return NETWORKS[name]()


# right answers

CENTRED = "((ln - bias) / gain)"
SCALE = "1 / sqrt(mean((v - mean(v, axis=1, keepdims=True))**2, axis=1, keepdims=True) + 1e-5)"
COTANGENT = "(cos(ln) * gain)"
LAYER_NORM = (
    f"{SCALE} / 3 * (3 * {COTANGENT} - sum({COTANGENT}, axis=1, keepdims=True)"
    f" - {CENTRED} * sum({COTANGENT} * {CENTRED}, axis=1, keepdims=True))"
)
RIGHT = [
    ("one layer", "W1", "x.T @ ((p - t) * (1 - h**2))"),
    ("linear", "w", "2 * x.T @ (f - y) / N"),
    ("linear", "w", "(2/N) * (f - y) @ x"),
    ("linear", "w", "mean(2 * (f - y)[:, None] * x, axis=0)"),
    ("linear", "w", "-2 * (x.T @ y - x.T @ x @ w - b * sum(x, axis=0)) / len(x)"),
    ("linear", "b", "2 * (f - y).mean()"),
    ("linear sum", "w", "x.T @ (2 * f - 2 * y)"),
    ("linear sum", "x", "2 * outer(f - y, w)"),
    ("logistic", "w", "x.T @ (sigmoid(f) - y) / N"),
    ("logistic", "w", "x.T @ (1 / (1 + exp(-f)) - y) / N"),
    ("logistic", "w", "-(x.T @ (y * sigmoid(-f) - (1 - y) * sigmoid(f))) / N"),
    ("logistic", "w", "x.T @ (tanh(f / 2) / 2 + 1/2 - y) / N"),
    ("margin", "w", "-(x.T @ (y * sigmoid(-y * f)))"),
    ("margin", "w", "-(x.T @ (y * exp(-y * f) / (1 + exp(-y * f))))"),
    ("margin", "w", "x.T @ (-y / (1 + exp(y * f)))"),
    ("mlp", "W2", "h.T @ (z2 - t) / N"),
    ("mlp", "b2", "sum(z2 - t, axis=0) / N"),
    ("mlp", "W1", "x.T @ (((z2 - t) / N) @ W2.T * (1 - h**2))"),
    ("mlp", "W1", "(((z2 - t) @ W2.T * (1 - h) * (1 + h) / N).T @ x).T"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T / N) - x.T @ ((z2 - t) @ W2.T * h * h) / N"),
    ("mlp", "W1", "x.T @ ((tanh(x @ W1 + b1) @ W2 + b2 - t) @ W2.T * (1 - tanh(z1)**2)) / N"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T / cosh(z1)**2) / N"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T * 4 / (exp(z1) + exp(-z1))**2) / N"),
    ("mlp", "W1", "x.T @ d_z1"),
    ("mlp", "d_h", "d_z2 @ W2.T"),
    ("mlp relu", "W1", "x.T @ ((z2 - t) @ W2.T * (z1 > 0)) / N"),
    ("mlp relu", "W1", "x.T @ where(h > 0, (z2 - t) @ W2.T, 0) / N"),
    ("mlp relu", "W1", "x.T @ ((z2 - t) @ W2.T * sign(h)) / N"),
    ("mlp relu", "W1", "x.T @ ((z2 - t) @ W2.T * (1 + sign(z1)) / 2) / N"),
    ("mlp sigmoid", "W1", "x.T @ ((z2 - t) @ W2.T * h * (1 - h)) / N"),
    ("mlp sigmoid", "W1", "x.T @ ((z2 - t) @ W2.T * (h - h**2)) / N"),
    ("mlp gelu", "W1", "x.T @ ((z2 - t) @ W2.T * ((1 + erf(z1/sqrt(2)))/2 + z1*exp(-z1**2/2)/sqrt(2*pi))) / N"),
    ("labels", "W2", "h.T @ (p - one_hot(labels, 2)) / N"),
    ("labels", "W1", "x.T @ ((softmax(z2) - one_hot(labels, 2)) @ W2.T * (z1 > 0)) / N"),
    ("labels", "b2", "mean(exp(z2) / sum(exp(z2), axis=1, keepdims=True) - one_hot(labels, 2), axis=0)"),
    ("deep", "W1", "x.T @ (((2 * (p - t)) @ W3.T * h2 * (1 - h2)) @ W2.T * (1 - h1**2))"),
    ("residual", "W", "r.T @ (2 * z2) + x.T @ ((2 * z2 @ W.T) * (1 + (z1 > 0)))"),
    ("regularised", "w", "2 * x.T @ (f - y) / N + 0.2 * w"),
    ("regularised", "w", "2 * (x.T @ (f - y) / N + w / 10)"),
    ("normalised", "bias", "cos(ln).sum(axis=0)"),
    ("normalised", "gain", "sum(cos(ln) * (ln - bias) / gain, axis=0)"),
    ("normalised", "v", LAYER_NORM),
]


@pytest.mark.parametrize(("name", "wrt", "answer"), RIGHT)
def test_right(name: str, wrt: str, answer: str) -> None:
    grade = sg.grade(network(name), wrt, answer=answer)
    assert grade, grade
    assert grade.status == "equal" and grade.proof.startswith("normal form"), grade
    assert grade.diagnosis == () and grade.counterexample is None
    assert "right, proved by" in str(grade)


@pytest.mark.parametrize(
    "answer", ["h.T @ (p - t) / N", "h.T @ (softmax(z2) - t) / N", "mean(h[:, :, None] * (p - t)[:, None, :], axis=0)"]
)
def test_right_where_targets_are_probabilities(answer: str) -> None:
    """p - t is the gradient for rows of t that sum to 1 only, and the grade says so."""
    grade = sg.grade(network("softmax"), "W2", answer=answer)
    assert grade.status == "equal" and grade.proof.endswith("where each row of t sums to 1")
    whole = sg.grade(network("softmax"), "W2", answer="h.T @ (p * t.sum(axis=1, keepdims=True) - t) / N")
    assert whole.status == "equal" and whole.proof.startswith("normal form") and "sums" not in whole.proof


# wrong answers

WRONG = [
    # name, wrt, answer, kind, node
    ("linear", "w", "2 * x.T @ (f - y)", "missing 1/N", None),
    ("linear", "w", "x.T @ (f - y) / N", "constant factor", None),
    ("linear", "w", "2 * x.T @ (y - f) / N", "sign", None),
    ("linear", "w", "-2 * x.T @ (f - y) / N", "sign", None),
    ("linear", "w", "2 * x.T @ (f + y) / N", "sign", None),
    ("linear", "w", "2 * x.T @ f / N", "missing term", None),
    ("linear", "w", "2 * x @ (f - y) / N", "transpose", None),
    ("linear", "w", "2 * (f - y)[:, None] * x / N", "missing sum", None),
    ("linear", "b", "2 * (f - y).sum()", "sum for mean", None),
    ("linear sum", "w", "2 * x.T @ (f - y) / N", "extra 1/N", None),
    ("linear sum", "b", "2 * mean(f - y)", "mean for sum", None),
    ("linear sum", "b", "2 * (f - y)", "missing sum", None),
    ("fixed batch", "w", "2 * x.T @ (f - y)", "missing 1/N", None),
    ("logistic", "w", "x.T @ (f - y) / N", "wrong operand", None),
    ("logistic", "w", "x.T @ (sigmoid(f) - y)", "missing 1/N", None),
    ("logistic", "w", "x.T @ (y - sigmoid(f)) / N", "sign", None),
    ("logistic", "w", "x.T @ (sigmoid(-f) - y) / N", "sign", None),
    ("margin", "w", "x.T @ (y * sigmoid(-y * f))", "sign", None),
    ("margin", "w", "-(x.T @ sigmoid(-y * f))", "missing factor", None),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T) / N", "forgotten derivative", "h"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T)", "forgotten derivative", "h"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T * (1 - tanh(h)**2)) / N", "derivative at the output", "h"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T * (1 - h)) / N", "power", "z1"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T * (1 + h**2)) / N", "sign", "z1"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T * (1 - z1**2)) / N", "wrong operand", "z1"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2 * (1 - h**2)) / N", "transpose", "h"),
    ("mlp", "W1", "x @ ((z2 - t) @ W2.T * (1 - h**2)) / N", "transpose", "W1"),
    ("mlp", "W1", "(((z2 - t) @ W2.T * (1 - h**2)).T @ x) / N", "transpose", None),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T @ (1 - h**2)) / N", "matrix for entrywise product", "z1"),
    ("mlp", "W1", "x.T * ((z2 - t) @ W2.T * (1 - h**2)) / N", "entrywise for matrix product", "W1"),
    ("mlp", "W1", "x.T @ ((z2 - t) * W2.T * (1 - h**2)) / N", "entrywise for matrix product", "h"),
    ("mlp", "W1", "((z2 - t) @ W2.T * (1 - h**2)) @ x.T / N", "order of factors", "W1"),
    ("mlp", "W1", "x.T @ ((z2 - t) @ W2.T * (1 - h**2) * h) / N", "extra factor", "z1"),
    ("mlp", "W2", "h.T @ (z2 - t)", "missing 1/N", None),
    ("mlp", "W2", "h.T @ (t - z2) / N", "sign", None),
    ("mlp", "W2", "z1.T @ (z2 - t) / N", "wrong operand", "W2"),
    ("mlp", "b2", "(z2 - t) / N", "missing sum", None),
    ("mlp", "b2", "sum(z2 - t, axis=1) / N", "axis", None),
    ("mlp relu", "W1", "x.T @ ((z2 - t) @ W2.T) / N", "forgotten derivative", "h"),
    ("mlp relu", "W1", "x.T @ ((z2 - t) @ W2.T * z1) / N", None, None),
    ("mlp sigmoid", "W1", "x.T @ ((z2 - t) @ W2.T * h * (1 + h)) / N", "sign", "z1"),
    ("mlp sigmoid", "W1", "x.T @ ((z2 - t) @ W2.T * z1 * (1 - z1)) / N", "wrong operand", "z1"),
    (
        "mlp sigmoid",
        "W1",
        "x.T @ ((z2 - t) @ W2.T * sigmoid(h) * (1 - sigmoid(h))) / N",
        "derivative at the output",
        "h",
    ),
    ("softmax", "W2", "h.T @ (t - p) / N", "sign", None),
    ("softmax", "W2", "h.T @ (p - t)", "missing 1/N", None),
    ("softmax", "W1", "x.T @ ((p - t) @ W2.T) / N", "forgotten derivative", "h"),
    ("softmax", "W2", "-(h.T @ (t / p)) / N", "forgotten derivative", "p"),
    ("softmax", "b2", "sum(p - t, axis=0)", "sum for mean", None),
    ("labels", "W2", "h.T @ (p - one_hot(labels, 2))", "missing 1/N", None),
    ("labels", "W2", "h.T @ (p + one_hot(labels, 2)) / N", "sign", None),
    ("labels", "W2", "h.T @ p / N", "missing path", None),
    ("deep", "W1", "x.T @ (((2 * (p - t)) @ W3.T * h2 * (1 - h2)) @ W2.T)", "forgotten derivative", "h1"),
    ("deep", "W1", "x.T @ (((2 * (p - t)) @ W3.T) @ W2.T * (1 - h1**2))", "forgotten derivative", "h2"),
    ("deep", "W1", "x.T @ ((2 * (p - t) * h2 * (1 - h2)) @ W2.T * (1 - h1**2))", "missing factor", "p"),
    ("deep", "W1", "x.T @ (((2 * (p - t)) @ W3 * h2 * (1 - h2)) @ W2.T * (1 - h1**2))", "transpose", "h2"),
    ("deep", "W1", "x.T @ (((2 * (p - t)) @ W2.T * h2 * (1 - h2)) @ W2.T * (1 - h1**2))", "wrong operand", "h2"),
    ("deep", "W1", "x.T @ (((2 * (p - t)) @ W3.T * h2 * (1 + h2)) @ W2.T * (1 - h1**2))", "sign", "z2"),
    ("deep", "W2", "x.T @ ((2 * (p - t)) @ W3.T * h2 * (1 - h2))", "wrong operand", "W2"),
    ("residual", "W", "r.T @ (2 * z2) + x.T @ ((2 * z2 @ W.T) * (z1 > 0))", "missing path", "r"),
    ("residual", "W", "r.T @ (2 * z2) + x.T @ (2 * z2 @ W.T)", "missing path", "r"),
    ("residual", "W", "r.T @ (2 * z2)", "missing path", None),
    ("residual", "W", "x.T @ ((2 * z2 @ W.T) * (1 + (z1 > 0)))", "missing path", "z2"),
    ("residual", "W", "a.T @ (2 * z2) + x.T @ ((2 * z2 @ W.T) * (1 + (z1 > 0)))", "wrong operand", None),
    ("regularised", "w", "2 * x.T @ (f - y) / N", "missing term", "penalty"),
    ("regularised", "w", "0.2 * w", "missing term", "data"),
    ("regularised", "w", "2 * x.T @ (f - y) / N + 0.1 * w", "constant factor", None),
    ("regularised", "w", "2 * x.T @ (f - y) / N - 0.2 * w", "sign", None),
    ("linear sum", "w", "2 * x.T @ (f - y) + 0.2 * w", "extra term", None),
    ("normalised", "gain", "cos(ln) * (ln - bias) / gain", "missing sum", None),
    ("normalised", "gain", "sum(cos(ln) * ln / gain, axis=0)", None, None),
    ("normalised", "V", "x.T @ (cos(ln) * gain)", None, None),
    ("normalised", "V", "x.T @ cos(ln)", "forgotten derivative", "ln"),
    ("shifted", "z", "2 * e**2", "max shift", None),
    ("shifted", "z", "2 * exp(z)**2 - where(z == m, sum(2 * e**2, axis=1, keepdims=True), 0)", "max shift", None),
    ("one layer", "W1", "x.T @ ((p - t) * (1 - p**2))", "wrong operand", None),
    ("one layer", "W1", "x.T @ (p - t)", "forgotten derivative", "h"),
]


@pytest.mark.parametrize(("name", "wrt", "answer", "kind", "node"), WRONG)
def test_wrong(name: str, wrt: str, answer: str, kind: str | None, node: str | None) -> None:
    grade = sg.grade(network(name), wrt, answer=answer)
    assert not grade and grade.status == "different" and grade.proof is None
    first = grade.diagnosis[0]
    assert first.kind in KINDS
    if kind is not None:
        assert first.kind == kind, grade
    if node is not None:
        assert first.node == node, grade
    assert str(first) in str(grade)


@pytest.mark.parametrize(
    ("name", "wrt", "answer", "kind", "node"), [row for row in WRONG if row[0] in ("linear", "mlp", "residual")]
)
def test_no_proof_of_what_is_wrong(name: str, wrt: str, answer: str, kind: str | None, node: str | None) -> None:
    """The proofs do not lean on the numbers that are compared before them."""
    problem = Problem(network(name), [wrt])
    try:
        got = problem.answer(answer)
    except ShapeError:
        return
    expected = problem.gradient(wrt)
    assert prove.proof(expected, got, draw_points(problem.system, expected.name, 1)) is None


def test_two_faults_at_once() -> None:
    grade = sg.grade(network("mlp"), "W1", answer="x.T @ ((z2 - t) @ W2.T)")
    assert [finding.kind for finding in grade.diagnosis] == ["forgotten derivative", "missing 1/N"]


def test_an_unexplained_answer_is_right_up_to_somewhere() -> None:
    grade = sg.grade(network("mlp"), "W1", answer="x.T @ ((z2 - t) @ W2.T / N * exp(h * h))")
    assert grade.diagnosis[0].kind == "unknown" and grade.diagnosis[0].node == "h"
    assert "(z2 - t) @ W2.T / N is right" in grade.diagnosis[0].text


def test_the_counterexample_can_be_computed_again() -> None:
    """The grade's numbers against a gradient by central differences and the answer in NumPy."""
    example = sg.grade(network("linear"), "w", answer="x.T @ (f - y) / N").counterexample
    x, y, w, b = (example.values[name] for name in "xywb")
    assert x.shape == (example.dims["N"], 3)

    def loss(w: Any) -> Any:
        return np.mean((x @ w + b - y) ** 2)

    step = 1e-6 * np.eye(3)[example.index[0]]
    assert example.expected == pytest.approx((loss(w + step) - loss(w - step)) / 2e-6, rel=1e-6)
    assert example.got == pytest.approx((x.T @ (x @ w + b - y) / len(x))[example.index])
    wrong = np.abs(x.T @ (x @ w + b - y))
    assert wrong[example.index] == wrong.max()


def test_what_agrees_without_a_proof_is_not_called_equal() -> None:
    """A difference that 50 digits do not show, and one that only ties would."""
    for name, wrt, answer in (
        ("mlp", "W2", "h.T @ (z2 - t) / N * (1 + 1e-40)"),
        ("shifted", "z", "2 * e**2 - where(z == m, sum(2 * e**2, axis=1, keepdims=True), 0)"),
    ):
        grade = sg.grade(network(name), wrt, answer=answer)
        assert grade and grade.status == "agrees numerically" and "50 digits" in grade.proof
        assert "no difference found" in str(grade)


# exact arithmetic


def test_what_the_normal_form_leaves_open_is_proved_by_arithmetic() -> None:
    """1 - h**2 as a quotient whose common denominator is too large to be multiplied out."""
    slope = f"(1 - h**20) / ({' + '.join(f'h**{2 * k}' for k in range(10))})"
    grade = sg.grade(network("mlp"), "W1", answer=f"x.T @ ((z2 - t) @ W2.T * {slope}) / N")
    assert grade.status == "equal"
    sizes = "N = 3 and N = 4 and N = 11"
    assert grade.proof.startswith(f"exact arithmetic over GF(2^61-1), 6 points with {sizes}, error below 2^-")
    assert int(grade.proof.rpartition("-")[2]) > 60


@pytest.mark.parametrize(("name", "wrt", "answer"), [row for row in RIGHT if row[0] in ("logistic", "mlp", "deep")])
def test_arithmetic_agrees_with_the_normal_form(
    name: str, wrt: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "_equal_by_form", lambda view: False)
    assert sg.grade(network(name), wrt, answer=answer).proof.startswith("exact arithmetic")


def _system(**shapes: tuple[Any, ...]) -> Any:
    """A system whose leaves have these shapes."""
    leaves = [sg.input(name, shape) for name, shape in shapes.items()]
    return Problem(sg.graph(sum(sg.sum(leaf) for leaf in leaves)), list(shapes)).system


def _value(text: Callable[[Any, Any], Any], seed: int = 0) -> int:
    """The expression of two scalars at a random point."""
    arithmetic = field.Arithmetic(_system(a=(), b=()), Dims(), {}, seed)
    return int(arithmetic.value(in_atoms(text(Element("a", ()), Element("b", ()))), ()))


@pytest.mark.parametrize(
    "law",
    [
        lambda a, b: sp.exp(a) * sp.exp(b) - sp.exp(a + b),
        lambda a, b: sp.exp(a) * sp.exp(-a) - 1,
        lambda a, b: sp.exp(3 * a) - sp.exp(a) ** 3,
        lambda a, b: sp.exp(a / 2) ** 2 - sp.exp(a),
        lambda a, b: sp.sqrt(a**2 + b) * (a**2 + b) - (a**2 + b) ** sp.Rational(3, 2),
        lambda a, b: (a + b) / (a - b) - 1 - 2 * b / (a - b),
        lambda a, b: sp.tanh(a) ** 2 + 1 / sp.cosh(a) ** 2 - 1,
        lambda a, b: sp.Abs(a) - a * sp.sign(a),
        lambda a, b: sp.Piecewise((a, a > b), (b, True)) + sp.Piecewise((b, a > b), (a, True)) - a - b,
        lambda a, b: sp.erf(a - b) - sp.erf(-(b - a)),
    ],
)
def test_laws_of_arithmetic(law: Callable[[Any, Any], Any]) -> None:
    assert all(_value(law, seed) == 0 for seed in range(5))


@pytest.mark.parametrize(
    "claim",
    [
        lambda a, b: sp.exp(a * b) - sp.exp(a) * sp.exp(b),
        lambda a, b: sp.exp(a) - 1 - a,
        lambda a, b: sp.tanh(a) ** 2 + 1 / sp.cosh(b) ** 2 - 1,
        lambda a, b: sp.Abs(a) - a,
        lambda a, b: sp.log(a) - sp.log(b),
        lambda a, b: sp.sin(a) - sp.cos(a),
        lambda a, b: sp.Piecewise((1, a > 0), (0, True)) - sp.Piecewise((1, a > b), (0, True)),
        lambda a, b: (field.PRIME - 1) * a + a + b,
    ],
)
def test_what_is_no_law_fails(claim: Callable[[Any, Any], Any]) -> None:
    assert all(_value(claim, seed) != 0 for seed in range(5))


def test_sums_and_maxima_over_a_field() -> None:
    """Against Python's own integers, at the values that the arithmetic drew."""
    n, i, j = dimension("N"), index_symbol("i"), index_symbol("j")
    arithmetic = field.Arithmetic(_system(A=("N", 3)), Dims({n: 4}), {}, 0)
    axes = ((i, n),)
    row = Reduction("sum", Element("A", (i, j)) ** 2 / 3, ((j, sp.Integer(3)),))
    drawn = arithmetic._tensor("A")
    third = pow(3, -1, field.PRIME)
    assert list(arithmetic.value(row, axes)) == [sum(int(v) ** 2 * third for v in r) % field.PRIME for r in drawn]
    largest = Reduction("max", Element("A", (i, j)), ((j, sp.Integer(3)),))
    turned = Reduction("max", Element("A", (i, 2 - j)), ((j, sp.Integer(3)),))
    assert not np.any(arithmetic.value(largest, axes) - arithmetic.value(turned, axes))
    outside = Element("A", (i + 1, sp.Integer(0)))
    assert list(arithmetic.value(outside, axes)) == [*drawn[1:, 0], 0]
    assert 0 < arithmetic.bound(row, axes) < 1e-12


# several answers


def test_answers_for_all_layers() -> None:
    answers = {
        "W1": "x.T @ ((z2 - t) @ W2.T) / N",
        "b1": "sum((z2 - t) @ W2.T / N, axis=0)",
        "W2": "h.T @ (z2 - t) / N",
        "d_z2": "(z2 - t) / N",
    }
    grades = sg.grade(network("mlp"), answer=answers)
    assert next(iter(grades)) == "z2" and set(grades) == {"z2", "W2", "b1", "W1"}
    assert grades["z2"] and grades["W2"] and not grades["W1"] and not grades
    assert grades.first_wrong in ("W1", "b1")
    assert f"it first goes wrong at {grades.first_wrong}" in str(grades)
    assert sg.grade(network("mlp"), answer={"W2": answers["W2"]}).first_wrong is None


# NumPy functions


def backward(x: Any, t: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> dict[str, Any]:
    h = np.tanh(x @ W1 + b1)
    d2 = (h @ W2 + b2 - t) / len(x)
    d1 = d2 @ W2.T * (1 - h**2)
    return {"W2": h.T @ d2, "b2": d2.sum(0), "W1": x.T @ d1, "b1": d1.sum(0)}


def test_a_right_function() -> None:
    grades = sg.grade(network("mlp"), answer=backward)
    assert grades and list(grades)[:2] in (["W2", "b2"], ["b2", "W2"])
    for grade in grades.values():
        assert grade.status == "agrees numerically" and grade.proof.startswith("3 points, worst relative error")
    assert sg.grade(network("mlp"), "W2", answer=lambda **a: backward(**a)["W2"])
    assert sg.grade(network("mlp"), ["W1", "W2"], answer=backward)
    assert sg.grade(network("softmax"), "W2", answer=lambda h, p, t: h.T @ (p - t) / len(p)).proof.endswith("sums to 1")


@pytest.mark.parametrize(
    ("wrt", "function", "kinds"),
    [
        ("W2", lambda h, z2, t: h.T @ (z2 - t), ["missing 1/N"]),
        ("W2", lambda h, z2, t: h.T @ (t - z2) / len(t), ["sign"]),
        ("W2", lambda h, z2, t: (h.T @ (z2 - t) / len(t)).T, ["transpose"]),
        ("b2", lambda z2, t: (z2 - t) / len(t), ["missing sum"]),
        ("b2", lambda z2, t: z2 - t, ["missing sum", "missing 1/N"]),
        ("W1", lambda x, z2, t, W2: x.T @ ((z2 - t) @ W2.T) / len(t), ["forgotten derivative"]),
        (
            "W1",
            lambda x, z2, t, W2, h: x.T @ ((z2 - t) @ W2.T * (1 - np.tanh(h) ** 2)) / len(t),
            ["derivative at the output"],
        ),
        ("W2", lambda x: x, ["shape"]),
        ("W2", lambda W2: W2 / 0, ["not finite"]),
        ("W2", lambda W2: np.exp(W2), ["unknown"]),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_wrong_function(wrt: str, function: Any, kinds: list[str]) -> None:
    grade = sg.grade(network("mlp"), wrt, answer=function)
    assert not grade and [finding.kind for finding in grade.diagnosis] == kinds, grade


def test_a_function_goes_wrong_at_a_layer() -> None:
    def forgetful(**arrays: Any) -> dict[str, Any]:
        right = backward(**arrays)
        return right | {"W1": 2 * right["W1"]}

    grades = sg.grade(network("mlp"), answer=forgetful)
    assert grades.first_wrong == "W1" and grades["W1"].diagnosis[0].kind == "constant factor"


def test_a_function_does_not_change_the_data() -> None:
    def careless(x: Any, t: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> dict[str, Any]:
        right = backward(x, t, W1, b1, W2, b2)
        x *= 0
        return right

    assert sg.grade(network("mlp"), answer=careless)


@pytest.mark.parametrize(
    ("wrt", "function", "message"),
    [
        ("W2", lambda x: 1 / 0, "raised ZeroDivisionError"),
        ("W2", lambda W3: W3, "asks for 'W3'"),
        ("W2", lambda x: {"W1": x}, "no gradient for 'W2'"),
        (None, lambda x: x, "not a dict"),
        ("W2", lambda x: "text", "not an array of real numbers"),
    ],
)
def test_a_function_that_cannot_be_graded(wrt: str | None, function: Any, message: str) -> None:
    with pytest.raises(GradeError, match=message):
        sg.grade(network("mlp"), wrt, answer=function)


@pytest.mark.parametrize("factor", ["where(N > 5, 2, 1)", "(1 + (N - 3)*(N - 4))"])
def test_what_holds_at_some_sizes_is_not_right(factor: str) -> None:
    found = sg.grade(network("mlp"), "W2", answer=f"h.T @ d_z2 * {factor}")
    assert found.status == "different"
    assert sg.grade(network("mlp"), "W2", answer="h.T @ d_z2").status == "equal"


def test_operands_that_no_repair_makes_fit_are_a_wrong_answer() -> None:
    found = sg.grade(network("mlp"), "W2", answer="x @ x @ x")
    assert not found and "the shapes do not fit" in found.diagnosis[0].text


# bad input


@pytest.mark.parametrize(
    ("wrt", "answer", "error", "message"),
    [
        ("W2", "h.T @ (", FormulaError, r"h.T @ \(\n\s+\^"),
        ("W2", "h.T @ (z3 - t)", FormulaError, "'z3' is not defined"),
        ("W2", "__import__('os')", FormulaError, "__import__"),
        ("W2", "d_W2", FormulaError, "'d_W2' is not defined"),
        ("W9", "x", DeriveError, "W"),
        (None, "x", GradeError, "one formula"),
        ("W2", {"W1": "x"}, GradeError, "wrt names W2"),
        (None, {"z2": "x", "d_z2": "x"}, GradeError, "two answers"),
        (None, {}, GradeError, "missing"),
        ("W2", 3, GradeError, "not int"),
    ],
)
def test_refusals(wrt: str | None, answer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sg.grade(network("mlp"), wrt, answer=answer)


# properties

REWRITES: list[Callable[[ast.expr], str]] = [
    lambda e: f"({ast.unparse(e)})",
    lambda e: f"(-(-({ast.unparse(e)})))",
    lambda e: f"(2 * ({ast.unparse(e)}) / 2)",
    lambda e: f"({ast.unparse(e)}).T.T",
    lambda e: f"(({ast.unparse(e)}) + 3 * ({ast.unparse(e)})) / 4",
    lambda e: f"(({ast.unparse(e)}) + x[0, 0] - x[0, 0])",
    lambda e: f"(({ast.unparse(e)}) * (exp(x[0, 1]) * exp(-x[0, 1])))",
    lambda e: f"(({ast.unparse(e)}) * (tanh(x[0, 0])**2 + 1/cosh(x[0, 0])**2))",
]


def _tensors(tree: ast.Expression) -> list[ast.expr]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.BinOp | ast.Name)]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([row for row in RIGHT if row[0] in ("linear sum", "mlp", "logistic")]), st.data())
def test_rewritten_answers_stay_right(row: tuple[str, str, str], data: st.DataObject) -> None:
    name, wrt, text = row
    for _ in range(data.draw(st.integers(1, 2))):
        tree = ast.parse(text, mode="eval")
        place = data.draw(st.integers(0, len(_tensors(tree)) - 1))
        part = _tensors(tree)[place]
        if isinstance(part, ast.Name) and part.id not in ("x", "h", "t", "y", "z1", "z2", "f", "w", "W2"):
            continue
        change = data.draw(st.sampled_from(REWRITES))
        new = ast.parse(change(part), mode="eval").body
        text = ast.unparse(_Replaced(part, new).visit(tree))
    grade = sg.grade(network(name), wrt, answer=text)
    hidden = "cosh(x[0, 0])" in text  # an identity between functions may stay hidden in the argument of another
    assert grade and (grade.status == "equal" or hidden), (text, grade)


class _Replaced(ast.NodeTransformer):
    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([row for row in RIGHT if row[0] in ("linear", "logistic")]), st.data())
def test_mutated_answers_are_caught(row: tuple[str, str, str], data: st.DataObject) -> None:
    """An answer changed at random is judged as NumPy sees it: right only where its numbers are the right answer's."""
    name, wrt, text = row
    problem = Problem(network(name), [wrt.removeprefix("d_")])
    scope = {n: problem.scope[n] for n in problem.named}
    mutated = data.draw(st.sampled_from([e.text for e in edits(text, scope, {})]))
    grade = sg.grade(network(name), wrt, answer=mutated)
    try:
        right, changed = _numbers(problem, text), _numbers(problem, mutated)
    except (AttributeError, TypeError, ValueError):  # NumPy cannot evaluate it: the transpose of a Python number
        return
    if grade.counterexample is None:
        assert grade.status != "equal" or changed == pytest.approx(right, rel=1e-9, nan_ok=True)
    else:
        assert right.shape != changed.shape or not np.allclose(right, changed, rtol=1e-9, atol=0)
        assert grade.diagnosis


def _numbers(problem: Problem, text: str) -> Any:
    """The answer as Python and NumPy compute it."""
    (point,) = draw_points(problem.system, problem.forward.loss, 1)
    names = {n: v for n, v in point.tensors(problem.system).items() if n in problem.scope}
    functions = {n: getattr(np, n) for n in ("exp", "tanh", "cosh", "sum", "mean", "sign", "where", "outer", "sqrt")}
    sigmoid = {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "softmax": _softmax, "len": len}
    with np.errstate(all="ignore"):
        return np.asarray(eval(text, functions | sigmoid | names | dict(point.dims)))


def _softmax(v: Any) -> Any:
    e = np.exp(v)
    return e / e.sum(-1, keepdims=True)


# the command line


@pytest.fixture
def graph_file(tmp_path: Path) -> str:
    path = tmp_path / "mlp.json"
    sg.save_graph(network("mlp"), path)
    return str(path)


def test_command(graph_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = "h.T @ (z2 - t) / N"
    assert cli.main(["grade", graph_file, "--wrt", "W2", "--answer", right]) == 0
    assert "right, proved by normal form" in capsys.readouterr().out
    assert cli.main(["grade", graph_file, "--answer", f"W2={right}", "--answer", "b2 = sum(t - z2, axis=0) / N"]) == 1
    out = capsys.readouterr().out
    assert "the wrong way round" in out and "first goes wrong at b2" in out
    code = tmp_path / "code.py"
    code.write_text("def backward(h, z2, t):\n    return {'W2': h.T @ (z2 - t) / len(t)}\n", encoding="utf-8")
    assert cli.main(["grade", graph_file, f"{code}:backward"]) == 0
    assert cli.main(["grade", graph_file, f"{code}:backwards"]) == 1
    assert "did you mean 'backward'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--answer", "x", "--answer", "y"], ["code.py:f", "--answer", "x"]])
def test_wrong_usage(arguments: list[str], graph_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["grade", graph_file, *arguments]) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_text_of_a_grade() -> None:
    grade = sg.grade(network("regularised"), answer="2 * x.T @ (f - y) / N")
    first, fault, example, *expected = str(grade).splitlines()
    assert first == "∇w: wrong."
    assert fault == "  the term penalty of the loss is left out"
    assert example.startswith("  with N = 3, seed 0: entry [")
    assert expected[0].startswith("  expected: ∇w = ")
