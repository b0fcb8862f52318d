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
from symgrad.formula.indexed import Element, Reduction
from symgrad.grade import KINDS, field, prove
from symgrad.grade.edits import edits
from symgrad.grade.points import draw_points
from symgrad.grade.problem import Problem
from symgrad.grade.rewriting import in_atoms
from symgrad.index.definition import dimension, index_symbol
from symgrad.verify.dims import Dims

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
    
]


@pytest.mark.parametrize(("name", "wrt", "answer"), RIGHT)
def test_right(name: str, wrt: str, answer: str) -> None:
    grade = sg.grade(network(name), wrt, answer=answer)
    assert grade, grade
    assert grade.status == "equal" and grade.proof.startswith("normal form"), grade
    assert grade.diagnosis == () and grade.counterexample is None
    assert "right, proved by" in str(grade)


@pytest.mark.parametrize("answer", ["h.T @ (p - t) / N", "h.T @ (softmax(z2) - t) / N", "mean(h[:, :, None] * (p - t)[:, None, :], axis=0)"])
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
    ("mlp sigmoid", "W1", "x.T @ ((z2 - t) @ W2.T * sigmoid(h) * (1 - sigmoid(h))) / N", "derivative at the output", "h"),
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
