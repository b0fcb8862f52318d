"""The evidence: the reference evaluator, the numeric derivatives, and the report that compares."""

from __future__ import annotations

import json
import math
from typing import Any

import mpmath
import networkx as nx
import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from strategies import Network, networks

import symgrad as sg
from symgrad import pipeline
from symgrad.derive import derive_system
from symgrad.equations import System, equation
from symgrad.errors import VerifyError
from symgrad.evaluate.dims import Dims
from symgrad.evaluate.draw import draw, integer_limits
from symgrad.evaluate.numeric import analytic, central_difference, complex_step, precise_slope, unit
from symgrad.evaluate.reference import Evaluation, Trace, evaluate
from symgrad.expand import expand
from symgrad.index.definition import At, define, dimension, index_symbol
from symgrad.index.parser import parse_dimension
from symgrad.verify import Report, verify, verify_against
from symgrad.verify.report import draw_point


def formula(text: str, loss: bool = False, **leaves: Any) -> nx.MultiDiGraph:
    """The network Y = formula, of leaves name=shape or name=(shape, dtype); upper case means parameter."""
    graph = nx.MultiDiGraph(outputs=["Y"])
    if loss:
        graph.graph["loss"] = "Y"
    for name, described in leaves.items():
        shape, dtype = described if described and isinstance(described[0], tuple) else (described, "float")
        if name.isupper() and dtype == "float":
            graph.add_node(name, op="parameter", shape=shape)
        else:
            graph.add_node(name, op="input", shape=shape, dtype=dtype)
    graph.add_node("Y", op="define", formula=text, operands=list(leaves))
    for arg, name in enumerate(leaves):
        graph.add_edge(name, "Y", arg=arg)
    return graph


def value(text: str, number: str = "float64", **values: Any) -> np.ndarray:
    arrays = {name: np.asarray(v) for name, v in values.items()}
    kinds = {"i": "int64", "b": "bool"}
    leaves = {n: (a.shape, kinds[a.dtype.kind]) if a.dtype.kind in kinds else a.shape for n, a in arrays.items()}
    return evaluate(expand(formula(text, **leaves)), arrays, number)["Y"]


# the reference evaluator


def test_a_sum_of_products() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 3))
    assert value("Y[i, j] = sum(k, A[i, k]*B[k, j])", A=a, B=b) == pytest.approx(a @ b)


def test_outside_an_operand_there_is_zero() -> None:
    assert value("Y[i:5] = X[i - 1] + 10*X[i + 1]", X=[1.0, 2.0]).tolist() == [20.0, 1.0, 2.0, 0.0, 0.0]


def test_writes_outside_are_dropped_and_the_unwritten_is_zero() -> None:
    assert value("Y[2*i : 4] = sum(i, p, X[i]*W[p])", X=[1.0, 2.0, 3.0], W=[1.0, 1.0]).tolist() == [
        2,
        0,
        4,
        0,
    ]
    assert value("Y[2*i - 1 : 3] = sum(i, X[i])", X=[1.0, 2.0, 3.0]).tolist() == [0, 2, 0]


def test_several_writes_of_one_element_are_added() -> None:
    assert value("Y[T[i] : 3] = sum(i, X[i])", X=[1.0, 2.0, 4.0], T=[2, 0, 2]).tolist() == [2, 0, 5]


def test_a_view_is_read_row_by_row() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert value("Y[i, j] = X.reshape(3, 2)[i, j]", X=x).tolist() == x.reshape(3, 2).tolist()


@pytest.mark.parametrize(("kind", "empty"), [("sum", 0.0), ("prod", 1.0)])
def test_sums_and_products_of_nothing(kind: str, empty: float) -> None:
    assert value(f"Y[i] = {kind}(k, X[i, k])", X=np.zeros((2, 0))).tolist() == [empty, empty]


@pytest.mark.parametrize("kind", ["max", "min"])
def test_there_is_no_largest_of_nothing(kind: str) -> None:
    with pytest.raises(VerifyError, match="of no elements"):
        value(f"Y[i] = {kind}(k, X[i, k])", X=np.zeros((2, 0)))


@pytest.mark.parametrize("index", [3, -1])
def test_labels_out_of_range_are_refused(index: int) -> None:
    with pytest.raises(VerifyError, match=f"index {index} is out of range for an axis of size 3"):
        value("Y[n] = X[T[n]]", X=[1.0, 2.0, 3.0], T=[0, index])


def test_the_branch_that_is_not_taken_does_no_harm() -> None:
    for number in ("float64", "complex128", "mp"):
        found = value("Y[i] = where(X[i] > 0, log(X[i]), 1/(X[i] - X[i]/2))", number, X=[-1.0, 1.0])
        assert found.astype(complex).tolist() == [-2.0, 0.0]


def test_dimensions_and_indices_are_numbers() -> None:
    graph = formula("Y[i] = X[i]*i/N + len(i)", X=("N",))
    assert evaluate(expand(graph), {"X": np.ones(4)})["Y"].tolist() == [4.0, 4.25, 4.5, 4.75]


def test_functions_are_stable_in_every_system() -> None:
    x = np.array([-1e4, -40.0, -1e-18, 0.0, 1e-18, 40.0, 1e4])
    for text in ("sigmoid", "softplus", "tanh", "erf", "erfc"):
        body = f"Y[i] = {text}(X[i])"
        plain, precise = value(body, X=x), value(body, "mp", X=x).astype(float)
        np.testing.assert_allclose(plain, precise, rtol=1e-15, atol=1e-323)
    small = np.array([-1e-18, 1e-18, 0.5])
    for text in ("log1p", "expm1"):
        body = f"Y[i] = {text}(X[i])"
        np.testing.assert_allclose(value(body, X=small), value(body, "mp", X=small).astype(float), rtol=1e-15)


def test_fifty_digits() -> None:
    (found,) = value("Y[i] = exp(X[i])/3 + 0.1", "mp", X=[1.0])
    with mpmath.workdps(50):
        assert abs(mpmath.mpf(str(found)) - mpmath.e / 3 - mpmath.mpf("0.1")) < mpmath.mpf("1e-48")
    assert mpmath.mp.dps == 15


def test_erf_has_no_complex_value() -> None:
    assert value("Y[i] = erf(X[i])", "complex128", X=[1.0]) == pytest.approx([math.erf(1.0)])
    with pytest.raises(VerifyError, match="erf has no value in complex128"):
        value("Y[i] = erf(X[i])", "complex128", X=[1j])


@pytest.mark.parametrize(
    ("shape", "size", "dims"),
    [
        (("N", 3), (5, 3), {"N": 5}),
        (("2*N + 1",), (7,), {"N": 3}),
        (("N", "N + M"), (2, 6), {"N": 2, "M": 4}),
    ],
)
def test_dimensions_follow_from_the_shapes(shape: Any, size: tuple[int, ...], dims: dict[str, int]) -> None:
    graph = nx.MultiDiGraph(outputs=["Y"])
    graph.add_node("X", op="input", shape=shape)
    graph.add_node("Y", op="sum")
    graph.add_edge("X", "Y", arg=0)
    at = Evaluation(expand(graph), {"X": np.ones(size)}, "Y")
    assert {str(s): n for s, n in at.dims.sizes.items()} == dims


def test_extents_with_divisions() -> None:
    dims = Dims({dimension("N"): 7})
    assert dims.size(parse_dimension("(N - 3)//2 + 1")) == 3
    with pytest.raises(VerifyError, match="no size"):
        dims.size(parse_dimension("N - 8"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"X": np.ones((2, 3))}, "no value is given for the input 'w'"),
        ({"X": np.ones((2, 3)), "w": np.ones(2)}, "the value of 'w' has the wrong shape"),
        ({"X": np.ones(3), "w": np.ones(3)}, "the value of 'X' has the wrong shape"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(VerifyError, match=words):
        evaluate(expand(formula("Y[i] = sum(k, X[i, k]*w[k])", X=("N", "K"), w=("K",))), values)


def test_a_maximum_cannot_be_scattered() -> None:
    i = index_symbol("i")
    made = define([(i, sp.Integer(3))], [sp.Integer(6)], [2 * i], At(0, [i]), "max")
    system = expand(formula("Y[i] = X[i]", X=(3,)))
    system.add(equation("Z", made, ["X"]))
    with pytest.raises(VerifyError, match="no plain loops"):
        evaluate(system, {"X": np.ones(3)})


def test_moving_a_tensor_evaluates_what_depends_on_it() -> None:
    graph = formula("Z[i] = X[i]**2\nY = sum(i, Z[i]*X[i])", X=(2,))
    at = Evaluation(expand(graph), {"X": np.array([1.0, 2.0])}, "Y")
    assert float(at.value) == 9.0
    assert float(at.moved({"X": np.array([1.0, 3.0])})[0]) == 28.0
    assert float(at.moved({"Y_z": np.array([0.0, 1.0])})[0]) == 2.0
    assert float(at.value) == 9.0


# kinks


def trace(text: str, **values: Any) -> Trace:
    arrays = {name: np.asarray(v, float) for name, v in values.items()}
    found = Trace()
    evaluate(expand(formula(text, **{n: a.shape for n, a in arrays.items()})), arrays, trace=found)
    return found


@pytest.mark.parametrize(
    "body",
    [
        "where(X[i] > 0, X[i], 0)",
        "abs(X[i])",
        "sign(X[i])",
        "heaviside(X[i])",
        "maximum(X[i], 0)",
        "minimum(0, X[i])",
    ],
)
def test_edges_are_recorded(body: str) -> None:
    on, right, left = (trace(f"Y[i] = {body}", X=[x, 5.0]) for x in (0.0, 1.0, -1.0))
    assert on.edges == {"Y"} and not right.edges and not left.edges
    assert right.differs(left) and right.differs(on) and left.differs(on)
    assert not right.differs(trace(f"Y[i] = {body}", X=[2.0, 7.0]))


def test_winners_are_recorded() -> None:
    text = "Y = max(i, X[i])"
    assert trace(text, X=[1.0, 1.0]).edges and not trace(text, X=[1.0, 2.0]).edges
    assert trace(text, X=[1.0, 2.0]).differs(trace(text, X=[2.0, 1.0]))


def test_conditions_on_indices_are_no_kinks() -> None:
    assert not trace("Y[i] = where(i == 1, X[i], 2*X[i])", X=[1.0, 1.0, 0.0]).decisions


def slopes(text: str, number: str, x: float) -> Evaluation:
    return Evaluation(expand(formula(text, X=())), {"X": np.array(x)}, "Y", number)


@pytest.mark.parametrize(
    ("text", "x", "left", "right"),
    [
        ("abs(X)", 0.0, -1, 1),
        ("where(X > 0, X, 0)", 0.0, 0, 1),
        ("minimum(X, 2)", 2.0, 1, 0),
        ("clip", 3.0, 1, 0),
    ],
)
def test_a_kink_has_two_slopes(text: str, x: float, left: float, right: float) -> None:
    text = "where(X > 3, 3, X)" if text == "clip" else text
    slope = precise_slope(slopes(f"Y = {text}", "mp", x), {"X": np.array(1.0)})
    assert (slope.kink, slope.jump) == (True, False)
    assert [float(slope.left), float(slope.right)] == pytest.approx([left, right], abs=1e-15)
    assert central_difference(slopes(f"Y = {text}", "float64", x + 1e-4), {"X": np.array(1.0)}) is None


def test_a_smooth_joint_is_no_kink() -> None:
    """A huber loss changes its branch where both have the same slope."""
    slope = precise_slope(slopes("Y = where(abs(X) <= 1, X**2/2, abs(X) - 0.5)", "mp", 1.0), {"X": np.array(1.0)})
    assert not slope.kink
    assert float(slope.right) == pytest.approx(1.0)


def test_a_jump_is_told_from_a_slope() -> None:
    slope = precise_slope(slopes("Y = sign(X)", "mp", 0.0), {"X": np.array(1.0)})
    assert slope.kink and slope.jump


# numeric derivatives


@pytest.mark.parametrize("body", ["exp(sin(X))", "tanh(X)**3", "softplus(X)*sigmoid(X)", "log1p(X**2)", "X**1.5"])
@pytest.mark.parametrize("x", [0.25, 1.0, 3.0])
def test_three_methods_find_the_derivative(body: str, x: float) -> None:
    symbol = sp.Symbol("X", real=True)
    plain = body.replace("softplus(X)*sigmoid(X)", "log(1 + exp(X))/(1 + exp(-X))").replace(
        "log1p(X**2)", "log(1 + X**2)"
    )
    expression = sp.lambdify(symbol, sp.diff(sp.sympify(plain, {"X": symbol}), symbol), "mpmath")
    with mpmath.workdps(50):
        true = expression(mpmath.mpf(x))
        precise = precise_slope(slopes(f"Y = {body}", "mp", x), {"X": np.array(1.0)}).right
        assert abs(mpmath.mpf(str(precise)) - true) < 1e-18 * (1 + abs(true))
    stepped = complex_step(slopes(f"Y = {body}", "complex128", x), {"X": np.array(1.0)})
    assert float(stepped) == pytest.approx(float(true), rel=1e-14)
    central = central_difference(slopes(f"Y = {body}", "float64", x), {"X": np.array(1.0)})
    assert central is not None and float(central) == pytest.approx(float(true), rel=1e-9)


@pytest.mark.parametrize(
    ("body", "by_x", "by_w"),
    [
        ("tanh(X*W)", True, True),
        ("abs(X)*W", False, True),
        ("where(X > 0, W, 2*W)", False, True),
        ("maximum(X, 0) + W", False, True),
        ("erf(X)*exp(W)", False, True),
        ("sign(X)*W**2", False, True),
    ],
)
def test_complex_steps_are_taken_where_they_are_valid(body: str, by_x: bool, by_w: bool) -> None:
    system = expand(formula(f"Y = {body}", X=(), W=()))
    assert (analytic(system, "Y", ["X"]), analytic(system, "Y", ["W"])) == (by_x, by_w)


def test_a_path_through_a_maximum_is_not_analytic() -> None:
    system = expand(formula("M = max(i, X[i])\nZ = tanh(W)\nY = M*Z", X=(3,), W=()))
    assert not analytic(system, "Y", ["X"]) and analytic(system, "Y", ["W"])


def test_unit_directions() -> None:
    assert unit((2, 2), (1, 0), 3.0).tolist() == [[0, 0], [3, 0]]


# random data


def test_labels_are_drawn_in_range() -> None:
    """Directly, through a slice of the labels, and compared with an index."""
    graph = nx.MultiDiGraph(outputs=["a", "b", "c"])
    for name, shape, dtype in (("E", (7, 2), "float"), ("t", ("N",), "int64"), ("u", (5,), "int64")):
        graph.add_node(name, op="input", shape=shape, dtype=dtype)
    graph.add_node("a", op="embedding")
    graph.add_node("part", op="slice", index=[[1, 4, None]])
    graph.add_node("b", op="embedding")
    graph.add_node("c", op="one_hot", depth=4)
    graph.add_node("v", op="input", shape=(3,), dtype="int64")
    edges = (("E", "a", 0), ("t", "a", 1), ("u", "part", 0), ("E", "b", 0), ("part", "b", 1), ("v", "c", 0))
    for source, node, arg in edges:
        graph.add_edge(source, node, arg=arg)
    system = expand(graph)
    limits = integer_limits(system, Dims({dimension("N"): 3}))
    assert {name: limits[name] for name in ("t", "u", "v")} == {"t": 7, "u": 7, "v": 4}
    values = draw(system, system.leaves, {"N": 200}, 0, {})
    assert set(values["t"]) == set(range(7)) and values["t"].shape == (200,)


def test_dimensions_are_small_and_distinct() -> None:
    system = expand(formula("Y[n, m, k] = X[n, m]*W[m, k]", X=("N", "M"), W=("M", "K")))
    values = draw(system, system.leaves, {"M": 9}, 0, {})
    assert values["X"].shape == (4, 9) and values["W"].shape == (9, 3)
    given = draw(system, system.leaves, None, 0, {"X": np.ones((2, 6))})
    assert given["X"].tolist() == np.ones((2, 6)).tolist() and given["W"].shape == (6, 3)


def test_sizes_grow_until_every_extent_fits() -> None:
    graph = nx.MultiDiGraph(outputs=["y"])
    graph.add_node("x", op="input", shape=("N", 1, "H"))
    graph.add_node("f", op="input", shape=(1, 1, 7))
    graph.add_node("y", op="conv1d", stride=2)
    graph.add_edge("x", "y", arg=0)
    graph.add_edge("f", "y", arg=1)
    system = expand(graph)
    shape = draw(system, system.needed_for(["y"]), None, 0, {})["x"].shape
    assert shape[2] >= 7 and shape[0] != shape[2]


def test_positive_data_where_the_loss_needs_it() -> None:
    system = expand(formula("Y = sum(i, log(X[i])*W)", loss=True, X=(6,), W=()))
    assert (draw_point(system, None, 0, {})["X"] > 0).all()
    with pytest.raises(VerifyError, match="inputs= and params="):
        draw_point(system, None, 0, {"X": -np.ones(6)})


def test_the_seed_decides() -> None:
    system = expand(formula("Y[i] = X[i]", X=(3,)))
    one, same, other = (draw(system, ["X"], None, seed, {})["X"].tolist() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("dims", "values", "words"),
    [({"M": 3}, {}, "no dimension"), ({"N": 3}, {"X": np.ones(4)}, "the given arrays say 4")],
)
def test_sizes_that_contradict_are_refused(dims: dict[str, int], values: dict[str, Any], words: str) -> None:
    system = expand(formula("Y[i] = X[i]", X=("N",)))
    with pytest.raises(VerifyError, match=words):
        draw(system, ["X"], dims, 0, values)


# the report, on gradients that the reference evaluator computes from the derived system


def classifier(loss: str = "cross_entropy") -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(loss="loss")
    graph.add_node("x", op="input", shape=("N", 4))
    graph.add_node("t", op="input", shape=("N",), dtype="int64")
    for name, shape in (("W1", (4, 5)), ("b1", (5,)), ("W2", (5, 3))):
        graph.add_node(name, op="parameter", shape=shape)
    nodes = {
        "m": ("matmul", "x", "W1"),
        "z": ("add", "m", "b1"),
        "h": ("tanh", "z"),
        "y": ("matmul", "h", "W2"),
        "loss": (loss, "y", "t"),
    }
    for name, (op, *sources) in nodes.items():
        graph.add_node(name, op=op)
        for arg, source in enumerate(sources):
            graph.add_edge(source, name, arg=arg)
    return graph


def derived_gradients(system: System, wrt: list[str]) -> Any:
    derived = derive_system(system, wrt=wrt)

    def gradients(values: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
        found = evaluate(derived, values)
        return found[str(system.loss)], {name: found[where] for name, where in derived.gradients.items()}

    return gradients


def checked(
    graph: nx.MultiDiGraph,
    wrt: list[str],
    change: Any = None,
    given: dict[str, Any] | None = None,
    **options: Any,
) -> Report:
    """A report on derived gradients, which `change` may spoil."""
    system = expand(graph)
    right = derived_gradients(system, wrt)

    def gradients(values: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
        loss, found = right(values)
        return (loss, found) if change is None else change(loss, found)

    return verify_against(system, gradients, wrt, draw_point(system, None, 0, given or {}), **options)


def test_right_gradients_are_confirmed() -> None:
    report = checked(classifier(), ["W1", "b1", "W2", "x"], entries=None)
    assert report.ok
    assert report.max_error < 1e-14
    assert [row.name for row in report.rows] == ["loss", "W1", "b1", "W2", "x"]
    assert [row.entries for row in report.rows] == [1, 20, 5, 15, 12]
    assert report.dims == {"N": 3}
    assert "complex step" not in report["W1"].comparisons  # the shift of the softmax is a maximum
    assert report["W1"].comparisons["central"].entries == 20


def test_complex_steps_join_where_they_are_valid() -> None:
    graph = formula("Y = sum((i, 3), tanh(X[i]*W[i]))", loss=True, X=(3,), W=(3,))
    report = checked(graph, ["W"])
    assert report.ok
    assert report["W"].comparisons["complex step"].relative < 1e-14


def test_twelve_entries_are_sampled() -> None:
    report = checked(classifier(), ["W1", "b1"])
    assert (report["W1"].entries, report["b1"].entries) == (12, 5)


def test_the_table() -> None:
    text = str(checked(classifier(), ["W1", "b1"]))
    first, *_, last = text.splitlines()
    assert first.split("  ")[0] == "tensor" and "50 digits" in first
    assert last.startswith("ok: 2 gradients, worst error ") and last.endswith(" against 50 digits")
    assert all(len(line) < 100 and line == line.rstrip() for line in text.splitlines())


def test_plain_data() -> None:
    data = json.loads(json.dumps(checked(classifier(), ["W1"]).to_dict()))
    assert data["ok"] is True and data["rows"][1]["name"] == "W1"
    assert data["rows"][1]["methods"]["50 digits"]["entries"] == 12
    assert math.isfinite(data["max_error"])


@pytest.mark.parametrize("factor", [1 + 1e-7, -1.0, 0.0, math.nan])
def test_a_wrong_gradient_is_found(factor: float) -> None:
    def spoil(loss: Any, found: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
        return loss, found | {"b1": found["b1"] * factor}

    report = checked(classifier(), ["W1", "b1"], spoil)
    assert not report.ok
    assert [row.name for row in report.rows if not row.ok] == ["b1"]
    assert "WRONG: b1" in str(report)


def test_one_wrong_entry_is_found() -> None:
    def spoil(loss: Any, found: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
        wrong = found["b1"].copy()
        wrong[3] += 1e-6
        return loss, found | {"b1": wrong}

    assert not checked(classifier(), ["b1"], spoil).ok


def test_a_wrong_loss_is_found() -> None:
    report = checked(classifier(), ["W1"], lambda loss, found: (loss * (1 + 1e-8), found))
    assert [row.name for row in report.rows if not row.ok] == ["loss"]


def test_gradients_that_vanish_are_right() -> None:
    """The bias before a softmax over the same axis: its gradient is 0 up to rounding."""
    graph = formula(
        "Z[i] = X[i] + B\nM = max(i, Z[i])\nS = sum(i, exp(Z[i] - M))\nY = sum(i, (Z[i] - M - log(S))*X[i])",
        loss=True,
        X=(4,),
        B=(),
    )
    report = checked(graph, ["X", "B"])
    assert report.ok and report["B"].error < 1e-9


def test_kinks_are_skipped_and_said() -> None:
    graph = formula("Y = sum(i, where(X[i]*W[i] > 0, X[i]*W[i], 0)*V[i])", loss=True, X=(4,), W=(4,), V=(4,))
    report = checked(graph, ["W", "V"], given={"X": np.array([1.0, 0.0, 2.0, 3.0]), "W": np.array([0.0, 1, 1, 0])})
    assert report.ok
    assert (report["W"].kinks, report["V"].kinks) == (2, 0)
    assert report["W"].comparisons["50 digits"].entries == 2
    assert "2 entries at kinks skipped" in str(report)


def test_a_kink_beside_the_point_spoils_central_differences_only() -> None:
    graph = formula("Y = sum(i, abs(W[i]))", loss=True, W=(2,))
    report = checked(graph, ["W"], given={"W": np.array([1e-6, 1.0])})
    assert report.ok
    assert report["W"].comparisons["central"].entries == 1
    assert report["W"].comparisons["50 digits"].entries == 2


def test_a_tensor_inside_the_network() -> None:
    report = checked(classifier(), ["h", "z"])
    assert report.ok and report["h"].shape == (3, 5)


def test_gradients_that_are_missing_or_misshapen_are_refused() -> None:
    with pytest.raises(VerifyError, match="no gradient for 'b1'"):
        checked(classifier(), ["b1"], lambda loss, found: (loss, {}))
    with pytest.raises(VerifyError, match=r"the gradient of 'b1' has shape \(1, 5\), the tensor has \(5,\)"):
        checked(classifier(), ["b1"], lambda loss, found: (loss, {"b1": found["b1"][None]}))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks_are_confirmed(drawn: Network) -> None:
    system = expand(drawn.graph)
    if not np.isfinite(evaluate(system, drawn.values)["loss"]):
        return
    names = drawn.parameters
    report = verify_against(system, derived_gradients(system, names), names, drawn.values, entries=3)
    assert report.ok, str(report)


def test_gradients_that_are_all_zero() -> None:
    """The slopes in 50 digits are then what a step leaves, next to which any error is large."""
    q, x = sg.parameter("q", (1,)), sg.input("x", (2, 3))
    total = sg.sum(sg.where(sg.greater(q, 0.0), x, q)) + sg.sum(sg.relu(x) - q)
    graph = sg.graph(sg.multiply(total, total, name="loss"))
    x_value = [[0.64, 0.1, -0.53], [0.36, 1.3, 0.94]]
    report = sg.verify(graph, params={"q": [-0.1321048632913019]}, inputs={"x": x_value})
    assert report.ok, str(report)


# the whole of it


emitting = pytest.mark.skipif(not hasattr(pipeline, "emit"), reason="there are no programs to verify")


@emitting
@pytest.mark.parametrize("style", ["fast", "readable"])
def test_an_emitted_program_is_verified(style: str) -> None:
    report = verify(classifier(), style=style)
    assert report.ok and report.max_error < 1e-13
    assert [row.name for row in report.rows] == ["loss", "W1", "b1", "W2"]


@emitting
def test_an_input_may_be_named() -> None:
    report = verify(classifier(), wrt=["x", "W1"], dims={"N": 2}, seed=3, entries=4)
    assert report.ok and report["x"].shape == (2, 4)


def test_no_loss_and_unknown_names_are_refused() -> None:
    graph = classifier()
    with pytest.raises(VerifyError, match="did you mean 'W1'"):
        verify(graph, wrt=["W11"])
    del graph.graph["loss"]
    with pytest.raises(VerifyError, match="names no loss"):
        verify(graph)


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(VerifyError, match="'x' has the wrong shape"):
        verify(classifier(), inputs={"x": np.ones((3, 5))})
    with pytest.raises(VerifyError, match="did you mean 'W1'"):
        verify(classifier(), params={"W11": np.ones((3, 5))})
