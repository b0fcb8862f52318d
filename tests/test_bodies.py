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
from symgrad.equations import Leaf, System, equation
from symgrad.index.definition import At, define, index_symbol
from symgrad.index.functions import sigmoid, softplus
from symgrad.lower.ir import Array, Code, Map, whole
from symgrad.passes import PASSES
from symgrad.pipeline import training_system
from symgrad.schedule.bodies import map_calls
from symgrad.simplify import JOINT_PASSES
from symgrad.simplify.masks_of_values import read_masks_of_values
from symgrad.simplify.nested import cheapest_form, nested, spread
from symgrad.simplify.refit import refit_functions
from symgrad.simplify.straight import Line, straight_line, weight

SHARING = ("share_exponentials", "share_functions")
MINE = (
    *JOINT_PASSES, "accumulate_scatters", "cheapest_forms", "sums_as_products", "flat_indices", "weigh_sums",
    "spread_operands",
)  # fmt: skip
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


def test_a_mask_is_a_common_factor() -> None:
    a, b, c, _ = SYMBOLS
    mask = sp.Piecewise((1, c > 0), (0, True))
    assert nested(a * mask + b * mask) == mask * (a + b)


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
    assert calls(source(graph, without=SHARING), function) > 2


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


@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_out_of_range_is_refused(label: int) -> None:
    module = sg.emit(sg.derive(classifier(5))).load()
    with pytest.raises(ValueError, match="t"):
        module.loss_and_grads(module.init_params(0), x=np.ones((2, 4), "f4"), t=np.array([0, label]))


def test_labels_are_picked_by_one_index() -> None:
    text, other = source(classifier()), source(classifier(), without=("flat_indices",))
    assert text.count(".take(t_flat, None, ") == 2
    assert "t_flat" not in other


def logistic() -> nx.MultiDiGraph:
    z = sg.input("x", ("N", 4)) @ sg.parameter("w", (4,)) + sg.parameter("b", ())
    return sg.graph(sg.binary_cross_entropy_with_logits(z, sg.input("t", ("N",)), name="loss"))


def test_cross_entropy_with_logits_takes_one_exponential_and_one_logarithm() -> None:
    text, other = source(logistic()), source(logistic(), without=SHARING)
    assert calls(text, "exp") == calls(text, "log1p") == calls(text, "divide") == 1
    assert calls(other, "exp") + calls(other, "log1p") > 2
    bodies = text[text.index("        def loss(") : text.index("        return forward, loss, backward")]
    assert sum("(" in line and "dot(" not in line for line in bodies.splitlines() if line.startswith(" " * 12)) <= 30


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.25, 0.999, 1e-4])
def test_cross_entropy_with_logits_keeps_every_digit(target: float, dtype: str) -> None:
    """The loss to a few units in the last place; its derivative, of those of the terms that it is a difference of."""
    z = sg.parameter("w", ()) + sg.input("x", ("N",))
    graph = sg.graph(sg.binary_cross_entropy_with_logits(z, sg.input("t", ("N",)), name="loss"))
    module = sg.emit(sg.derive(graph), dtype=dtype, optimizer="sgd").load()
    info = np.finfo(dtype)
    with mpmath.workdps(9000):
        for point in np.array([-1e4, -700, -87, -30, -5, -1e-3, 0, 1e-3, 1, 5, 17, 41, 87, 700, 1e4], dtype):
            at, t = mpmath.mpf(float(point)), mpmath.mpf(float(np.asarray(target, dtype)))
            s, r = 1 / (1 + mpmath.exp(-at)), 1 / (1 + mpmath.exp(at))
            values = {"x": np.array([point]), "t": np.array([target], dtype)}
            loss, grads = module.loss_and_grads({"w": np.zeros((), dtype)}, **values)
            exact = float(-t * mpmath.log(s) - (1 - t) * mpmath.log(r))
            assert abs(float(loss) - exact) <= 8 * info.eps * exact + 2 * info.tiny
            slope, terms = float((1 - t) * s - t * r), float((1 - t) * s + t * r)
            assert abs(float(grads["w"]) - slope) <= 8 * info.eps * terms + 2 * info.tiny


def test_both_softplus_of_any_weights() -> None:
    """Weights that add up to no number, and a body that is not linear in them."""
    a, b, x = (sg.input(name, ("N",)) for name in "abx")
    z = sg.parameter("w", ()) * x
    total = a * sg.softplus(z) + b * sg.softplus(-z) + sg.softplus(z) * sg.softplus(-z)
    graph = sg.graph(sg.sum(total, name="loss"))
    values = {n: np.random.default_rng(k).standard_normal(7) for k, n in enumerate("abx")}
    module = sg.emit(sg.derive(graph), dtype="float64", optimizer="sgd").load()
    loss, grads = module.loss_and_grads({"w": np.asarray(2.0)}, **values)
    z, s = 2 * values["x"], 1 / (1 + np.exp(-2 * values["x"]))
    p, q = np.logaddexp(0, z), np.logaddexp(0, -z)
    assert loss == pytest.approx(np.sum(values["a"] * p + values["b"] * q + p * q), rel=1e-13)
    slope = values["a"] * s - values["b"] * (1 - s) + s * q - p * (1 - s)
    assert grads["w"] == pytest.approx(np.sum(slope * values["x"]), rel=1e-12)


# ---- factors and sums


def scaled() -> nx.MultiDiGraph:
    """The mean of f tanh(e x)²."""
    x, e, f = sg.input("x", ("N", 64)), sg.parameter("e", (64,)), sg.parameter("f", (64,))
    return sg.graph(sg.mean(sg.square(sg.tanh(x * e + x * x)) * f, name="loss"))


def elementwise() -> nx.MultiDiGraph:
    """Gradients by vectors and by the tensor that they multiply."""
    x, u, w = sg.input("x", ("N", 512)), sg.parameter("u", (512,)), sg.parameter("w", (512,))
    inner = sg.tanh(x * u)
    return sg.graph(sg.mean(sg.square(sg.tanh((inner + x) * w)) * sg.parameter("f", (512,)), name="loss"))


def test_a_vector_is_pulled_out_of_a_product() -> None:
    text, other = source(elementwise()), source(elementwise(), without=("pull_factors",))
    assert "d_w_sum" in text
    assert "d_w_sum" not in other


def rows(text: str) -> str:
    """What every part of the samples does."""
    return text[text.index("        def forward(") : text.index("        return forward, loss, backward")]


def test_the_loss_is_made_of_the_sums_of_a_gradient() -> None:
    text, other = source(scaled()), source(scaled(), without=("share_sums",))
    assert "d_f_sum = " in text
    assert "d_f_sum = " not in other
    assert calls(rows(text), "dot") < calls(rows(other), "dot")


def regression(size: int | str = "N") -> nx.MultiDiGraph:
    z = sg.input("x", (size, 4)) @ sg.parameter("W", (4, 3)) + sg.parameter("b", (3,))
    return sg.graph(sg.mse(z, sg.input("y", (size, 3)), name="loss"))


def mixture() -> nx.MultiDiGraph:
    """Rows of V mixed by a softmax."""
    x, W, V = sg.input("x", ("N", 8)), sg.parameter("W", (8, 40)), sg.parameter("V", (40, 6))
    return sg.graph(sg.mean(sg.square(sg.softmax(x @ W) @ V), name="loss"))


@pytest.mark.parametrize("size", [1, 1e5])
def test_the_gradient_of_a_softmax_has_no_quotients(size: float) -> None:
    derivation = sg.derive(mixture())
    passes: list[tuple[str, ...]] = [(), ("read_quotients",)]
    programs = [sg.emit(derivation, dtype="float64", without=w) for w in passes]
    assert calls(rows(programs[0].source), "divide") == 1 < calls(rows(programs[1].source), "divide")
    modules = [p.load() for p in programs]
    x, params = size * np.random.default_rng(4).standard_normal((7, 8)), modules[0].init_params(3)
    (loss, grads), (other, others) = (m.loss_and_grads(params, x=x) for m in modules)
    assert loss == pytest.approx(other, rel=1e-14)
    for name, g in grads.items():
        np.testing.assert_allclose(g, others[name], rtol=1e-9, atol=1e-14 * size)


def gated() -> nx.MultiDiGraph:
    """Two layers, weighted by the elements of a softmax."""
    x = sg.input("x", ("N", 8))
    gate = sg.softmax(x @ sg.parameter("G", (8, 2)), name="gate")
    layers = [gate[:, k : k + 1] * (x @ sg.parameter(f"W{k}", (8, 3))) for k in range(2)]
    return sg.graph(sg.mean(sg.square(layers[0] + layers[1]), name="loss"))


def test_the_shift_of_a_softmax_cancels_where_it_is_read_in_slices() -> None:
    system = training_system(sg.derive(gated()))
    (shift,) = (e.name for e in system if e.definition.reduction == "max")
    assert [system.equations[user].adjoint_of for user in system.uses()[shift]] == [None]


def test_a_state_of_zeros_is_multiplied_by_nothing() -> None:
    x, W, U = sg.input("x", ("N", 5)), sg.parameter("W", (5, 5)), sg.parameter("U", (5, 5))
    first = sg.tanh(x @ W + sg.constant(np.zeros((1, 5)), name="start") @ U)
    derivation = sg.derive(sg.graph(sg.mean(sg.square(sg.tanh(x @ W + first @ U)), name="loss")))
    assert not [e.name for e in training_system(derivation) if "start" in e.operands]
    module = sg.emit(derivation, dtype="float64").load()
    params, data = module.init_params(1), np.random.default_rng(2).standard_normal((3, 5))
    h = np.tanh(data @ params["W"])
    loss, _ = module.loss_and_grads(params, x=data)
    assert loss == pytest.approx(np.mean(np.tanh(data @ params["W"] + h @ params["U"]) ** 2), rel=1e-14)
    assert "START_VALUE" not in sg.emit(derivation).source


def scaled_layer(scale: bool, shift: bool) -> nx.MultiDiGraph:
    """A layer behind scaled and shifted functions of the input."""
    h = sg.tanh(sg.input("x", ("N", 64)))
    if scale:
        h = h * sg.parameter("g", (64,))
    if shift:
        h = h + sg.parameter("s", (64,))
    z = sg.tanh(h @ sg.parameter("W", (64, 512)) + sg.parameter("b", (512,)))
    return sg.graph(sg.mean(sg.square(z), name="loss"))


@pytest.mark.parametrize(("scale", "shift"), [(True, True), (True, False), (False, True)])
def test_a_product_that_only_sums_read_is_not_computed(scale: bool, shift: bool) -> None:
    derivation = sg.derive(scaled_layer(scale, shift))
    passes: list[tuple[str, ...]] = [(), ("sum_first",)]
    products = [[e for e in training_system(derivation, without=w) if len(e.definition.loops) == 3] for w in passes]
    assert list(map(len, products)) == [2, 3]
    modules = [sg.emit(derivation, dtype="float64", without=w).load() for w in passes]
    x, params = np.random.default_rng(4).standard_normal((7, 64)), modules[0].init_params(3)
    (loss, grads), (other, others) = (m.loss_and_grads(params, x=x) for m in modules)
    assert loss == pytest.approx(other, rel=1e-14)
    for name, g in grads.items():
        np.testing.assert_allclose(g, others[name], rtol=1e-11, atol=1e-14)


def test_a_sum_that_may_cancel_is_not_split() -> None:
    """Data around 1000 that a scale and a shift of -1000 centre: the gradient behind them keeps its digits."""
    x, s, b = sg.input("x", ("N", 256)), sg.parameter("s", (256,)), sg.parameter("b", (256,))
    z = sg.tanh((x * s + b) @ sg.parameter("W", (256, 128)))
    derivation = sg.derive(sg.graph(sg.mean(sg.square(z), name="loss")))
    rng = np.random.default_rng(0)
    data = (1000 + rng.standard_normal((64, 256))).astype("f4")
    weights = rng.standard_normal((256, 128)).astype("f4") / 20
    params = {"s": np.ones(256, "f4"), "b": np.full(256, -1000, "f4"), "W": weights}
    exact = sg.emit(derivation, dtype="float64", style="readable").load()
    expected = exact.loss_and_grads({k: v.astype("f8") for k, v in params.items()}, x=data.astype("f8"))[1]["W"]
    found = sg.emit(derivation).load().loss_and_grads(params, x=data)[1]["W"]
    assert np.abs(found - expected).max() < 5e-6 * np.abs(expected).max()


def test_a_sum_with_what_is_normalised_is_split() -> None:
    h = sg.layer_norm(sg.input("x", ("N", 64)), sg.parameter("g", (64,)), sg.parameter("s", (64,)))
    z = sg.tanh(h @ sg.parameter("W", (64, 512)) + sg.parameter("b", (512,)))
    derivation = sg.derive(sg.graph(sg.mean(sg.square(z), name="loss")))
    systems = [training_system(derivation, without=w) for w in ((), ("sum_first",))]
    assert [sum(len(e.definition.loops) == 3 for e in s) for s in systems] == [2, 3]


def test_a_product_stays_where_the_sums_alone_save_nothing() -> None:
    x = sg.tanh(sg.input("x", ("N", 64)) * sg.parameter("g", (64,)))
    z = sg.tanh(x @ sg.parameter("W", (64, 512)))
    derivation = sg.derive(sg.graph(sg.mean(sg.square(z), name="loss")))
    assert sg.emit(derivation).source == sg.emit(derivation, without=("sum_first",)).source


@pytest.mark.parametrize("size", ["N", 6])
def test_a_residual_is_computed_once(size: int | str) -> None:
    text, other = source(regression(size)), source(regression(size), without=("share_residuals",))
    first, second = (t[t.index("def _bind(") : t.index("phases: list")] for t in (text, other))
    assert calls(first, "subtract") == 1
    assert calls(second, "subtract") == 2
    assert "dot(loss_r_flat, loss_r_flat, " in first


def test_a_mean_is_one_product() -> None:
    text, other = source(classifier()), source(classifier(), without=("weigh_sums",))
    assert "L = 1/N Σₙ loss_c" in text
    assert calls(text, "multiply") == calls(other, "multiply") - 1


def test_a_repeated_operand_is_written_to_the_place_of_the_result() -> None:
    derivation = sg.derive(classifier())
    passes: list[tuple[str, ...]] = [(), ("spread_operands",)]
    programs = [sg.emit(derivation, without=w) for w in passes]
    text, other = (program.source for program in programs)
    modules = [program.load() for program in programs]
    assert calls(text, "add") == calls(other, "add")
    assert "z1_rows[...] = b\n" in text and "add(matmul1, z1_rows, z1_rows)" in text
    assert "add(matmul1, b, z1_rows)" in other
    params, data = modules[0].init_params(3), {"x": np.random.default_rng(5).random((7, 4)), "t": np.arange(7) % 5}
    assert modules[0].PARTS == modules[1].PARTS  # the copies count as parts of the calls
    (loss, grads), (same, others) = (m.loss_and_grads(params, **data) for m in modules)
    assert loss == same and all((g == others[name]).all() for name, g in grads.items())


def test_sums_as_products_can_be_left_out() -> None:
    text, other = source(dense(sg.tanh)), source(dense(sg.tanh), without=("sums_as_products", "weigh_sums"))
    assert calls(rows(text), "dot") > calls(rows(other), "dot")
    assert calls(rows(other), "add_reduce") > 0


def test_cheapest_forms_can_be_left_out() -> None:
    graph = dense(lambda z: z + 3 * z * z * z + 5 * z * z * z * z * z)
    assert calls(source(graph), "multiply") < calls(source(graph, without=("cheapest_forms",)), "multiply")


@pytest.mark.parametrize("make", [scaled, elementwise, classifier, logistic, regression], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", MINE)
def test_leaving_one_pass_out_keeps_the_values(make: Callable[[], nx.MultiDiGraph], name: str) -> None:
    graph, rng = make(), np.random.default_rng(3)
    shapes = {"x": (6, graph.nodes["x"]["shape"][-1]), "y": (6, 3), "t": (6,)}
    found = []
    for without in ((), (name,)):
        module = sg.emit(sg.derive(graph), dtype="float64", optimizer="sgd", without=without).load()
        params = {k: np.random.default_rng(1).standard_normal(v.shape) for k, v in module.init_params(0).items()}
        inputs = {}
        for k in shapes:
            if k in graph and graph.nodes[k]["op"] == "input":
                whole = graph.nodes[k].get("dtype") == "int64"
                rng = np.random.default_rng(2)
                inputs[k] = rng.integers(0, 5, shapes[k]) if whole else rng.standard_normal(shapes[k])
        found.append(module.loss_and_grads(params, **inputs))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for key, value in found[0][1].items():
        np.testing.assert_allclose(value, found[1][1][key], rtol=1e-10, atol=1e-13)


# ---- a part of a tensor is not the whole


def sliced_sigmoid(op: Callable[..., sg.Tensor]) -> sg.Tensor:
    z = sg.input("x", ("N", 6)) @ sg.parameter("W", (6, 8))
    return sg.sum(op(z[:, :5]) ** 2) + sg.sum(sg.sigmoid(z) ** 2)


def sliced_quotient() -> sg.Tensor:
    e = sg.exp(sg.input("x", ("N", 6)) @ sg.parameter("W", (6, 8)))
    q = e[:, :5] / sg.sum(e, axis=1, keepdims=True)
    return sg.sum((q @ sg.parameter("U", (5, 3))) ** 2)


@pytest.mark.parametrize(
    "make",
    [lambda: sliced_sigmoid(sg.sigmoid), lambda: sliced_sigmoid(sg.softplus), sliced_quotient],
    ids=["sigmoid", "softplus", "quotient"],
)
def test_what_is_shared_with_a_slice_is_no_larger(make: Callable[[], sg.Tensor]) -> None:
    derivation = sg.derive(sg.graph(make()))
    modules = [sg.emit(derivation, dtype="float64", style=style).load() for style in ("fast", "readable")]
    x, params = np.random.default_rng(0).standard_normal((4, 6)), modules[0].init_params(1)
    (loss, grads), (other, others) = (m.loss_and_grads(params, x=x) for m in modules)
    assert loss == pytest.approx(other, rel=1e-12)
    for name, g in grads.items():
        np.testing.assert_allclose(g, others[name], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("style", ["fast", "readable"])
def test_data_picks_from_the_whole_tensor_though_a_part_of_it_has_a_value(style: str) -> None:
    z, t = sg.parameter("Z", (8, 4)), sg.input("t", (3,), dtype="int64")
    picked = sg.define("Y[i,j] = where(Z[T[i],j] > 0, Z[T[i],j], 0)", Z=z, T=t)
    loss = sg.sum(sg.relu(z[:5]) ** 2) + sg.sum(picked**2)
    module = sg.emit(sg.derive(sg.graph(loss)), dtype="float64", style=style).load()
    params = {"Z": np.random.default_rng(2).standard_normal((8, 4))}
    rectified = np.maximum(params["Z"], 0)
    found, _ = module.loss_and_grads(params, t=np.array([5, 7, 0]))
    assert found == pytest.approx((rectified[:5] ** 2).sum() + (rectified[[5, 7, 0]] ** 2).sum(), rel=1e-12)


def test_the_mask_of_a_part_is_read_from_the_whole_tensor() -> None:
    i, part = index_symbol("i"), [sp.Integer(5)]
    z, far = At(0, [i]), At(0, [i + 3])
    value = define([(i, part[0])], part, [i], sp.Max(z, 0))
    slope = define([(i, part[0])], part, [i], sp.Piecewise((far, sp.Gt(far, 0)), (0, True)))
    system = System({"Z": Leaf("Z", "input", (sp.Integer(8),))}, outputs=("value", "slope"))
    system.add(equation("value", value, ["Z"]))
    system.add(equation("slope", slope, ["Z"], adjoint_of="Z"))
    assert read_masks_of_values(system).equations["slope"].operands == ("Z",)


def test_a_function_whose_zeros_outside_are_read_is_not_shifted() -> None:
    i, part, whole = index_symbol("i"), [sp.Integer(5000)], [sp.Integer(8000)]
    f, z = At(0, [i]), At(1, [i])
    system = System({"Z": Leaf("Z", "input", (part[0],)), "V": Leaf("V", "input", (whole[0],))}, outputs=("a", "b"))
    system.add(equation("f", define([(i, part[0])], part, [i], sp.tanh(f)), ["Z"]))
    system.add(equation("a", define([(i, part[0])], part, [i], z * (1 + f) / 2), ["f", "Z"]))
    system.add(equation("b", define([(i, whole[0])], whole, [i], z * (1 + f)), ["f", "V"]))
    assert refit_functions(system).equations["f"] == system.equations["f"]


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


@pytest.mark.parametrize(("target", "copies"), [("t", 1), ("no", 1), ("yes", 2)])
def test_a_choice_is_written_into_its_target(target: str, copies: int) -> None:
    """Where the target is what is chosen under the mask, it would be overwritten before it is read."""
    code = Code({name: Array(name, (sp.Integer(3),)) for name in ("x", "yes", "no", "t")})
    views = {sp.Symbol(name, real=True): whole(array) for name, array in code.arrays.items() if name != "t"}
    x, yes, no = views
    choice = Map(whole(code.arrays[target]), sp.Piecewise((yes, x > 0), (no, True)), views)
    made = map_calls(code, choice)
    assert [call.function for call in made] == ["greater", "copy", "copy_where", "copy"][: 2 + copies]
    assert made[-1].out == choice.target


def test_the_passes_have_names() -> None:
    assert set(MINE) <= PASSES.keys()
