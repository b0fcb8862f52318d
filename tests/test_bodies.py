"""Elementwise bodies in few calls: their forms, what forward and backward share, sums, picked elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import networkx as nx
import numpy as np
import pytest
import strategies
import sympy as sp
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

import symgrad as sg
from symgrad.index.functions import sigmoid, softplus
from symgrad.passes import PASSES
from symgrad.simplify.nested import cheapest_form, nested, spread
from symgrad.simplify.straight import Line, straight_line, weight

MINE = ("share_functions", "read_masks_of_values", "accumulate_scatters")
X, Y, Z, S = SYMBOLS = [sp.Symbol(name, real=True) for name in "xyzs"]
N = sp.Symbol("N", integer=True, positive=True)
FULL, ROW = (N, sp.Integer(512)), (sp.Integer(512),)
SHAPES = {X: FULL, Y: FULL, Z: FULL, S: ROW}


def functions(body: sp.Expr) -> list[str]:
    """The functions of the body's cheapest straight-line code."""
    return [line.function for line in straight_line(cheapest_form(body, SHAPES), SHAPES)[0]]


# ---- scalar forms


def gelu(x: sp.Expr) -> sp.Expr:
    return x / 2 * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (x + sp.Rational(44715, 10**6) * x**3)))


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (gelu(X), 8),
        (2 * X - 2 * Y, 2),
        (X * Z + Y * Z, 2),
        (X * (1 - Y**2), 3),
        (-X * (1 - Y**2), 3),
        (X / Z + Y / Z, 2),
        (1 / sp.sqrt(S / 128 + sp.Rational(1, 10**5)), 4),
        (3 * S * X, 2),
        (sigmoid(X), 4),
        (softplus(X), 4),
        (X + 3 * X**3 + 5 * X**5, 6),
    ],
    ids=str,
)
def test_how_many_calls_a_body_takes(body: sp.Expr, count: int) -> None:
    assert len(functions(body)) == count


def test_a_number_is_multiplied_where_the_array_is_small() -> None:
    lines, _ = straight_line(7 * X * S, SHAPES)
    assert [line.shape for line in lines] == [ROW, FULL]


def test_a_number_goes_into_a_sum_where_that_is_free() -> None:
    assert functions(3 * X * (1 + 5 * Y**2)) == functions(X * (1 + 5 * Y**2))


def test_no_form_expands_a_square_of_a_difference() -> None:
    assert functions((X - Y) ** 2) == ["subtract", "multiply"]


EVALUATED: dict[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "negative": np.negative,
    "tanh": np.tanh, "exp": np.exp, "sqrt": np.sqrt, "sin": np.sin, "maximum": np.maximum,
}  # fmt: skip


def run(lines: list[Line], result: sp.Expr, point: dict[sp.Expr, float]) -> float:
    values = dict(point)
    for line in lines:
        arguments = [values[a] if a in values else float(a) for a in line.arguments]
        values[line.result] = float(EVALUATED[line.function](*arguments))
    return values[result] if result in values else float(result)


numbers = st.sampled_from([sp.Integer(k) for k in (-3, -1, 2, 5)] + [sp.Rational(1, 2), sp.Rational(-7, 3)])
bodies = st.recursive(
    st.sampled_from(SYMBOLS) | numbers,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a: a**2, inner),
        st.builds(lambda a: a / (1 + Z**2), inner),
        st.builds(sp.tanh, inner),
        st.builds(lambda a: sp.exp(sp.tanh(a)), inner),
        st.builds(lambda a: 1 / sp.sqrt(1 + a**2), inner),
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(body=bodies)
def test_every_form_has_the_value_of_the_body(body: sp.Expr) -> None:
    point = dict(zip(SYMBOLS, (0.75, -1.25, 0.5, 1.5), strict=True))
    expected = complex(body.evalf(30, subs=point)).real
    scale = 1 + sum(abs(complex(t.evalf(20, subs=point)).real) for t in sp.Add.make_args(sp.expand(body)))
    for form in (body, nested(body), nested(spread(body)), cheapest_form(body, SHAPES)):
        assert run(*straight_line(form, SHAPES), point) == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)


@settings(max_examples=50, deadline=None)
@given(body=bodies)
def test_the_chosen_form_costs_no_more_than_the_body(body: sp.Expr) -> None:
    form = cheapest_form(body, SHAPES)
    assert weight(straight_line(form, SHAPES)[0]) <= weight(straight_line(body, SHAPES)[0])


# ---- what equations share


def dense(activation: Callable[[sg.Tensor], sg.Tensor], layers: int = 2) -> nx.MultiDiGraph:
    h = sg.input("x", ("N", 6))
    for k in range(layers):
        h = activation(h @ sg.parameter(f"W{k}", (6, 6)) + sg.parameter(f"b{k}", (6,)))
    return sg.graph(sg.mse(h, sg.input("y", ("N", 6)), name="loss"))


def source(graph: nx.MultiDiGraph, without: tuple[str, ...] = (), **options: Any) -> str:
    return str(sg.emit(sg.derive(graph), without=without, optimizer="sgd", **options).source)


def calls(text: str, function: str) -> int:
    return sum(line.strip().startswith(f"{function}(") for line in text.splitlines())


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (lambda z: sg.gelu(z, approximate="tanh"), "tanh"),
        (sg.silu, "exp"),
        (sg.sigmoid, "exp"),
        (lambda z: z * sg.tanh(sg.softplus(z)), "exp"),
    ],
    ids=["gelu", "silu", "sigmoid", "mish"],
)
def test_forward_and_backward_share_one_function(activation: Callable[..., Any], function: str) -> None:
    graph = dense(activation)
    assert calls(source(graph), function) == 2
    assert calls(source(graph, without=("share_functions",)), function) > 2


def calls_under(text: str, comment: str) -> list[str]:
    """The lines of the equation whose comment begins so."""
    lines = [line.strip() for line in text.splitlines()]
    first = next(k for k, line in enumerate(lines) if line.startswith(f"# {comment}")) + 1
    end = next(k for k, line in enumerate(lines[first:], first) if not line or line.startswith(("#", "return")))
    return lines[first:end]


def test_gelu_and_its_derivative_take_eight_calls_each() -> None:
    text = source(dense(lambda z: sg.gelu(z, approximate="tanh")))
    assert len(calls_under(text, "gelu1_tanh = ")) + len(calls_under(text, "gelu¹ = ")) == 8
    assert len(calls_under(text, "δ¹ = ")) == 8


def test_the_mask_of_relu_is_read_from_its_value() -> None:
    graph = dense(sg.relu)
    assert "greater(relu1" in source(graph)
    assert "greater(relu1" not in source(graph, without=("read_masks_of_values",))


def classifier(classes: int = 5) -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 4)), sg.input("t", ("N",), dtype="int64")
    logits = x @ sg.parameter("W", (4, classes)) + sg.parameter("b", (classes,))
    return sg.graph(sg.cross_entropy(logits, t, name="loss"))


def test_the_label_is_subtracted_in_place() -> None:
    text, other = source(classifier()), source(classifier(), without=("accumulate_scatters",))
    assert text.count("[t_flat] = ") == other.count("[t_flat] = ") == 1
    assert calls(text, "copyto") < calls(other, "copyto") + 1
    assert ", zero)" not in text
    assert ", zero)" in other


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [5, 100])
def test_cross_entropy_of_picked_labels(dtype: str, classes: int) -> None:
    module = sg.emit(sg.derive(classifier(classes)), dtype=dtype, optimizer="sgd").load()
    rng = np.random.default_rng(0)
    x, W, b = (rng.standard_normal(s) for s in ((7, 4), (4, classes), (classes,)))
    t = rng.integers(0, classes, 7)
    loss, grads = module.loss_and_grads({"W": W.astype(dtype), "b": b.astype(dtype)}, x=x.astype(dtype), t=t)
    z = x @ W + b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    assert loss == pytest.approx(-np.log(p[np.arange(7), t]).mean(), rel=tolerance)
    p[np.arange(7), t] -= 1
    np.testing.assert_allclose(grads["b"], p.sum(0) / 7, rtol=10 * tolerance, atol=tolerance)
    np.testing.assert_allclose(grads["W"], x.T @ p / 7, rtol=10 * tolerance, atol=tolerance)


# ---- values


def results(network: strategies.Network, without: tuple[str, ...]) -> dict[str, np.ndarray]:
    wrt = network.parameters
    inputs = {n: v for n, v in network.values.items() if network.graph.nodes[n]["op"] == "input"}
    params = {n: v for n, v in network.values.items() if network.graph.nodes[n]["op"] == "parameter"}
    program = sg.emit(sg.derive(network.graph, wrt=wrt), dtype="float64", optimizer="sgd", without=without)
    loss, grads = program.load().loss_and_grads(params, **inputs)
    return {"loss": np.asarray(loss), **{n: grads[n] for n in wrt}}


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strategies.networks(most=8))
def test_leaving_the_passes_out_keeps_the_values(network: strategies.Network) -> None:
    assume(network.parameters)
    expected = results(network, MINE)
    for name, value in results(network, ()).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("op", "value", "slope"),
    [
        (sg.sigmoid, lambda s, r, x: s, lambda s, r, x: s * r),
        (sg.silu, lambda s, r, x: x * s, lambda s, r, x: s + x * s * r),
        (sg.softplus, lambda s, r, x: -mpmath.log(r), lambda s, r, x: s),
    ],
    ids=["sigmoid", "silu", "softplus"],
)
def test_shared_exponentials_keep_every_digit(op: Any, value: Any, slope: Any, dtype: str) -> None:
    """Far from zero as near to it, value and derivative to a few units in the last place."""
    points = np.array([-1e4, -700, -87, -30, -5, -1, -1e-3, 0, 1e-3, 1, 5, 17, 30, 41, 87, 700, 1e4], dtype)
    x = sg.input("x", ("N", points.size))
    graph = sg.graph(sg.sum(op(sg.parameter("w", (points.size,)) + 0 * x) * x, name="loss"))
    module = sg.emit(sg.derive(graph), dtype=dtype, optimizer="sgd").load()
    info = np.finfo(dtype)
    with mpmath.workdps(9000):
        for k in range(points.size):
            at = mpmath.mpf(float(points[k]))
            s, r = 1 / (1 + mpmath.exp(-at)), 1 / (1 + mpmath.exp(at))
            loss, grads = module.loss_and_grads({"w": points}, x=np.eye(points.size, dtype=dtype)[k : k + 1])
            for found, expected in ((loss, value(s, r, at)), (grads["w"][k], slope(s, r, at))):
                assert abs(float(found) - float(expected)) <= 16 * info.eps * abs(float(expected)) + 2 * info.tiny


# ---- sums


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("reduced", "function", "reference"),
    [
        (lambda a, b: sg.sum(a, axis=0), "dot", lambda a, b: a.sum(0)),
        (lambda a, b: sg.sum(a, axis=1), "dot", lambda a, b: a.sum(1)),
        (lambda a, b: sg.einsum("nj,nj->j", a, b), "einsum", lambda a, b: (a * b).sum(0)),
        (lambda a, b: sg.einsum("nj,nj->n", a, b), "vecdot", lambda a, b: (a * b).sum(1)),
        (lambda a, b: sg.max(a, axis=1), "maximum_reduce", lambda a, b: a.max(1)),
    ],
    ids=["columns", "rows", "products' columns", "products' rows", "largest"],
)
def test_sums_take_the_fastest_function(reduced: Any, function: str, reference: Any, dtype: str) -> None:
    a, w = sg.input("a", ("N", 6)), sg.parameter("w", ())
    total = sg.sum(sg.square(reduced(sg.exp(a), sg.cos(a)) * w), name="loss")
    program = sg.emit(sg.derive(sg.graph(total)), dtype=dtype, optimizer="sgd")
    assert calls(program.source, function) >= 1
    values = np.random.default_rng(1).standard_normal((5, 6)).astype(dtype)
    loss, _ = program.load().loss_and_grads({"w": np.asarray(1, dtype)}, a=values)
    exact = values.astype("f8")
    expected = np.sum(reference(np.exp(exact), np.cos(exact)) ** 2)
    assert loss == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-13)


def test_the_passes_have_names() -> None:
    assert set(MINE) <= PASSES.keys()
