"""Networks that once came out wrong, each small and by name: what a review and an attack found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import EmitError, ShapeError
from symgrad.verify.report import PRECISE, Comparison, Row

STYLES = ("fast", "readable")


def program(loss: Any, style: str = "fast", dtype: str = "float64", outputs: Sequence[Any] = ()) -> Any:
    """The module that is emitted for a loss."""
    return sg.emit(sg.derive(sg.graph(loss, outputs=list(outputs))), style=style, dtype=dtype).load()


# gradients against numeric ones


@dataclass(frozen=True)
class Net:
    """A network's loss, and what its verification is given."""

    loss: Callable[[], Any]
    options: dict[str, Any] = field(default_factory=dict)


def p(name: str, *shape: int) -> Any:
    return sg.parameter(name, shape, init=["normal", 1.0])


def defined(formula: str, **operands: Any) -> Any:
    return sg.sum(sg.define(formula, **operands))


def masks(loss: Callable[[Any], Any], **params: np.ndarray) -> Net:
    """A network of one vector with entries on both sides of its kinks."""
    x = np.array([-2.0, -0.3, 0.2, 1.0, 3.0])
    return Net(lambda: loss(p("x", 5)), {"params": {"x": x, **params}})


def box(count: int) -> Net:
    """An operand read 5 places before its start, over a named extent that may be shorter than that."""
    return Net(
        lambda: defined("Y[i:N] = X[i - 5]*W[0]", X=sg.input("x", ("N",)), W=p("w", 1)),
        {"inputs": {"x": np.arange(1.0, count + 1)}},
    )


def backwards(count: int) -> Net:
    """Every other entry from the end of an axis of named size, even and odd."""
    return Net(lambda: sg.sum(sg.input("x", ("N",))[::-2]) * p("w"), {"dims": {"N": count}})


def constants_c_and_C() -> Any:
    small, large = sg.constant(np.arange(5.0), name="c"), sg.constant(3 * np.ones(5), name="C")
    return sg.sum(p("x", 5) * small * large + p("C_VALUE", 5))


def softmax_of_difference() -> Any:
    x = p("p", 1, 3)
    return sg.sum(sg.sin(sg.softmax(x - x)))


def divergence_from_itself() -> Any:
    x = p("p", 2, 3)
    s, t = sg.softmax(x, axis=0), sg.softmax(x, axis=0)
    return sg.sum(sg.sigmoid(sg.kl_divergence(s, t, reduction="none", axis=0)))


def equal_branches() -> Any:
    q = p("q", 4, 7)
    return sg.sum(q @ p("p", 7, 2)) + sg.sum(sg.where(q > 0, q, q))


def choice_between_masks() -> Any:
    """Of one number: no index stands in the condition."""
    a = sg.leaky_relu(p("q", 1))
    return sg.sum(sg.where(a < -a, -a, a)) + sg.sum(a) - sg.sum(-a)


def padded_convolution_in_groups() -> Any:
    return sg.sum(sg.conv2d(p("p", 2, 2, 2, 2), p("f", 4, 1, 1, 3), stride=(3, 1), padding=(0, 1), groups=2) ** 2)


MASKS = {
    "-relu": masks(lambda x: sg.sum(-sg.relu(x))),
    "1 - relu": masks(lambda x: sg.sum(1 - sg.relu(x))),
    "relu + relu": masks(lambda x: sg.sum(sg.relu(x) + sg.relu(x + 0.5))),
    "relu - relu": masks(lambda x: sg.sum(sg.relu(x) - sg.relu(x - 0.5))),
    "exp of a mask": masks(lambda x: sg.sum(sg.exp(sg.where(x > 0, 1, 0)) * x)),
    "where beside a square": masks(lambda x: sg.sum(sg.where(x > 0, sg.sqrt(x * x + 1), 0.0) + x**2)),
    "where of a column of booleans": Net(
        lambda: sg.sum(sg.where(sg.expand_dims(sg.input("b", ("N",), dtype="bool"), -1), p("w", 3), 0.0))
    ),
    "where of equal branches": Net(equal_branches),
    "where of a test that always holds": masks(lambda x: sg.sum(sg.pad(sg.where(x >= x, x, x), 1))),
    "choice between masks of one number": Net(choice_between_masks),
    "count of booleans": masks(lambda x: sg.sum(x) - sg.sum(x > 0.5)),
    "transposed booleans": Net(
        lambda: sg.sum(sg.where(sg.transpose(sg.input("x", (2, 3)) > 0.1), p("w", 3, 2), 1.0)),
    ),
    "minus a mask of ties": Net(lambda: -sg.sum(sg.max_pool(p("x", 1, 1, 5, 5), 2, stride=1, padding=1))),
}
LOOPS = {
    "product over an unnamed loop": masks(lambda x: defined("Y[i] = prod((j, 3), X[i])", X=x)),
    "log of a sum with an unnamed loop": masks(
        lambda x: sg.sum(sg.log(sg.define("Y[()] = sum((j, 3), k, exp(X[k]))", X=x)))
    ),
    "log of a product of negatives over a sum of exp": masks(
        lambda x: sg.sum(sg.log(p("a", 3) * p("b", 3)) / sg.sum(sg.exp(x))), a=-np.ones(3), b=-np.arange(1.0, 4)
    ),
    "softmax of x - x": Net(softmax_of_difference),
    "sigmoid of the divergence from itself": Net(divergence_from_itself),
    "sum of a slice and square of the mean": Net(lambda: sg.sum(p("p", 3)[1:]) + sg.sum(sg.mean(p("q", 3)) ** 2)),
}
BORDERS = {
    "diagonal above": Net(lambda: defined("Y[i:4] = X[i, i + 1]**2", X=p("x", 4, 4))),
    "diagonal below": Net(lambda: defined("Y[i:4] = X[i, i - 1]**2", X=p("x", 4, 4))),
    "window divided by its place": Net(
        lambda: defined("Y[i:4] = sum(k, X[i + k]*W[k]/(i + 1))", X=p("x", 6), W=p("w", 3))
    ),
    **{f"read from outside, N = {n}": box(n) for n in (3, 4, 6)},
    **{f"every other from the end, N = {n}": backwards(n) for n in (4, 5)},
    "trace of an unknown size": Net(lambda: sg.einsum(sg.input("x", ("N", "N")), subscripts="aa->") * p("w")),
    "padded conv1d, by its input too": Net(
        lambda: sg.sum(sg.conv1d(sg.input("x", ("N", 2, 3)), p("f", 1, 2, 3), padding=1) ** 2), {"wrt": ["x", "f"]}
    ),
    "padded conv2d in groups": Net(padded_convolution_in_groups),
}
BROADCASTS = {
    "slice of sin to 3": Net(lambda: sg.sum(sg.broadcast_to(sg.sin(p("p", 3))[:1], (3,)))),
    "slice to a row, squared": Net(lambda: sg.sum(sg.broadcast_to(p("p", 3)[:1], (1, 3)) ** 2)),
    "slice of tanh to a row": Net(lambda: sg.sum(sg.broadcast_to(sg.tanh(p("q", 2))[:-1], (1, 3)))),
}
NAMES = {
    "constants c and C": Net(constants_c_and_C),
    "parameters named as NumPy's functions": Net(lambda: sg.sum(p("add_reduce", 3) * p("sliding_window_view", 3))),
}
NETS = MASKS | LOOPS | BORDERS | BROADCASTS | NAMES


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NETS)
def test_gradients_are_right(name: str, style: str) -> None:
    report = sg.verify(sg.graph(NETS[name].loss()), style=style, entries=None, **NETS[name].options)
    assert report.ok, str(report)
    assert report.max_error < 1e-13
    assert not any(row.kinks for row in report.rows)


# numbers far out: |x| up to 1e4, where exp(x) is infinite


def assert_exact(found: Any, expected: Any, dtype: str, ulps: float = 32) -> None:
    """Within a few units in the last place of the exact numbers, or nothing where those are below the type's range."""
    found, info = np.asarray(found), np.finfo(dtype)
    assert found.dtype == dtype
    assert found.size == len(expected)
    for value, truth in zip(found.ravel(), expected, strict=True):
        assert np.isfinite(value), (value, mpmath.nstr(truth, 20))
        error = abs(mpmath.mpf(float(value)) - truth)
        allowed = ulps * float(info.eps) * abs(truth) + float(info.tiny) * 8
        assert error <= allowed, (float(value), mpmath.nstr(truth, 20))


ROWS = np.array([[1e4, -1e4, 0.0], [3.0, 1.0, 2.0], [-1e4, -9999.0, -9998.5], [9999.0, 1e4, 9998.5]])
LABELS = (1, 0, 2, 0)
Vector = list[Any]


def _softmax(row: Vector) -> Vector:
    powers = [mpmath.exp(v) for v in row]
    return [v / mpmath.fsum(powers) for v in powers]


def _logsumexp(row: Vector) -> Any:
    return mpmath.log(mpmath.fsum(map(mpmath.exp, row)))


def _log_softmax(row: Vector) -> Vector:
    return [v - _logsumexp(row) for v in row]


def _total(x: Any) -> Any:
    return sg.sum(sg.exp(x), axis=1, keepdims=True)


def _entropy(x: Any) -> Any:
    return -sg.sum(sg.softmax(x) * sg.log(sg.softmax(x)), axis=1)


ROW_FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Vector, int], Vector]]] = {
    "log(softmax)": (lambda x: sg.log(sg.softmax(x)), lambda row, t: _log_softmax(row)),
    "log(exp/sum)": (lambda x: sg.log(sg.exp(x) / _total(x)), lambda row, t: _log_softmax(row)),
    "-log(softmax at labels)": (
        lambda x: -sg.log(sg.gather(sg.softmax(x), sg.constant([[t] for t in LABELS]))),
        lambda row, t: [-_log_softmax(row)[t]],
    ),
    "-log(softmax in a column)": (lambda x: -sg.log(sg.softmax(x)[:, 1]), lambda row, t: [-_log_softmax(row)[1]]),
    "entropy": (
        _entropy,
        lambda row, t: [-sum(s * u for s, u in zip(_softmax(row), _log_softmax(row), strict=True))],
    ),
    "log(mean(exp))": (
        lambda x: sg.log(sg.mean(sg.exp(x), axis=1)),
        lambda row, t: [_logsumexp(row) - mpmath.log(len(row))],
    ),
    "log(sum(2*exp))": (
        lambda x: sg.log(sg.sum(2 * sg.exp(x), axis=1)),
        lambda row, t: [_logsumexp(row) + mpmath.log(2)],
    ),
    "exp*sum**-1": (lambda x: sg.exp(x) * _total(x) ** -1, lambda row, t: _softmax(row)),
}


def _slopes(truth: Callable[[Vector], Vector], row: Vector, weights: Vector) -> Vector:
    """The derivatives of the weighted sum of a row's results, to hundreds of digits."""

    def total(k: int, step: Any) -> Any:
        moved = [v + step * (j == k) for j, v in enumerate(row)]
        return mpmath.fsum(w * y for w, y in zip(weights, truth(moved), strict=True))

    step = mpmath.mpf(10) ** -200
    return [(total(k, step) - total(k, -step)) / (2 * step) for k in range(len(row))]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ROW_FORMS)
def test_forms_of_rows_are_right_far_out(name: str, style: str, dtype: str) -> None:
    build, truth = ROW_FORMS[name]
    y = build(sg.parameter("x", ROWS.shape))
    values = program(sg.sum(y), style, dtype, [y]).forward({"x": ROWS})
    weights = np.resize([1.0, 2.0, -4.0], values.shape)
    module = program(sg.sum(y * sg.constant(weights)), style, dtype)
    _, grads = module.loss_and_grads({"x": ROWS})
    with mpmath.workdps(700):
        expected, slopes = [], []
        for numbers, label, weight in zip(ROWS, LABELS, weights.reshape(len(ROWS), -1), strict=True):
            row = [mpmath.mpf(float(v)) for v in numbers]
            expected += truth(row, label)
            slopes += _slopes(lambda r, t=label: truth(r, t), row, [mpmath.mpf(float(w)) for w in weight])
        assert_exact(values, expected, dtype)
        assert_exact(grads["x"], slopes, dtype, ulps=128)


POINTS = (-1e4, -800.0, -90.0, -30.0, -1.0, -0.125, 0.0, 0.25, 1.0, 6.0, 40.0, 90.0, 800.0, 1e4)
Real = Callable[[Any], Any]


def _logistic(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


ELEMENTWISE: dict[str, tuple[Callable[[Any], Any], Real, Real]] = {
    "log1p(exp(x))": (lambda x: sg.log1p(sg.exp(x)), lambda x: mpmath.log1p(mpmath.exp(x)), _logistic),
    "log(1 - sigmoid(x))": (
        lambda x: sg.log(1 - sg.sigmoid(x)),
        lambda x: -mpmath.log1p(mpmath.exp(x)),
        lambda x: -_logistic(x),
    ),
    "elu by where": (
        lambda x: sg.where(x > 0, x, sg.exp(x) - 1),
        lambda x: x if x > 0 else mpmath.expm1(x),
        lambda x: 1 if x > 0 else mpmath.exp(x),
    ),
    "exp, cut": (
        lambda x: sg.where(x < 5, sg.exp(x), 0.0),
        lambda x: mpmath.exp(x) if x < 5 else 0,
        lambda x: mpmath.exp(x) if x < 5 else 0,
    ),
    "-exp, cut": (
        lambda x: 1 - sg.where(x < 5, sg.exp(x), 0.0),
        lambda x: 1 - mpmath.exp(x) if x < 5 else 1,
        lambda x: -mpmath.exp(x) if x < 5 else 0,
    ),
    "sqrt of the positive": (
        lambda x: sg.where(x > 0, sg.sqrt(x), 0.0),
        lambda x: mpmath.sqrt(x) if x > 0 else 0,
        lambda x: 1 / (2 * mpmath.sqrt(x)) if x > 0 else 0,
    ),
    "log of the positive": (
        lambda x: sg.where(x > 0, sg.log(x), x),
        lambda x: mpmath.log(x) if x > 0 else x,
        lambda x: 1 / x if x > 0 else 1,
    ),
    "3/x away from 0": (
        lambda x: 3 * sg.where(sg.equal(x, 0), x, 1 / x),
        lambda x: 3 / x if x else 0,
        lambda x: -3 / x**2 if x else 3,
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_forms_are_right_far_out(name: str, style: str, dtype: str) -> None:
    """Also where the branch that is not selected is infinite, or has no value at all."""
    build, truth, slope = ELEMENTWISE[name]
    y = build(sg.parameter("x", (len(POINTS),)))
    module = program(sg.sum(y), style, dtype, [y])
    point = {"x": np.array(POINTS)}
    with np.errstate(all="ignore"):
        values = module.forward(point)
        _, grads = module.loss_and_grads(point)
    with mpmath.workdps(6000):
        numbers = [mpmath.mpf(v) for v in POINTS]
        assert_exact(values, [mpmath.mpf(truth(v)) for v in numbers], dtype)
        assert_exact(grads["x"], [mpmath.mpf(slope(v)) for v in numbers], dtype)


# names and shapes


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["params", "np", "dot"])
def test_dimensions_that_are_named_as_the_programs_own_names_are_refused(name: str, style: str) -> None:
    derivation = sg.derive(sg.graph(sg.mean(sg.tanh(sg.input("x", (name, 3)) @ p("w", 3, 2)))))
    with pytest.raises(EmitError, match=f"the dimension '{name}' has a name that the program needs") as caught:
        sg.emit(derivation, style=style)
    assert caught.value.hint == "give the dimension another name"


def test_every_shape_fault_of_a_network_is_reported_at_once() -> None:
    h = sg.tanh(sg.input("x", ("N", 4)) @ p("W1", 5, 8) + p("b1", 7), name="h")
    with pytest.raises(ShapeError, match="3 faults") as caught:
        sg.graph(sg.sum(h @ p("W2", 9, 3)))
    assert [fault.op for fault in caught.value.faults] == ["matmul", "add", "matmul"]
    assert [type(fault) for fault in caught.value.faults] == [ShapeError] * 3
    for fault, names in zip(caught.value.faults, [("'x'", "'W1'"), ("'b1'",), ("'h'", "'W2'")], strict=True):
        assert all(name in " ".join(fault.details) for name in names)
        assert str(fault).splitlines()[0] in str(caught.value)


def test_a_sum_over_a_reshaped_tensor_is_emitted() -> None:
    """The program's comments were to show it as a matrix, whose axes were looked for in the index of the view."""
    x, t = sg.input("x", ("N", 2, 1, 3)), sg.input("t", ("N", 6))
    scores = sg.log_softmax(sg.reshape(x * p("w", 2, 1, 3), ("N", 6)))
    assert sg.verify(sg.graph(sg.binary_cross_entropy_with_logits(scores, sg.sigmoid(t)))).ok


# labels from a matrix


def classifier(*columns: tuple[int, int]) -> Any:
    """Cross entropies of (column, classes), with the labels in the columns of one matrix."""
    x, t = sg.input("x", ("N", 4)), sg.input("t", ("N", 2), dtype="int64")
    losses = [sg.cross_entropy(x @ p(f"W{k}", 4, classes), t[:, k]) for k, classes in columns]
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total


def run(module: Any, labels: list[list[int]]) -> Any:
    params = {name: np.ones(shape) for name, shape in module.PARAMETERS.items()}
    return module.loss_and_grads(params, x=np.ones((len(labels), 4)), t=np.array(labels))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("label", [-1, 3])
def test_labels_in_a_column_are_checked(label: int, style: str) -> None:
    module = program(classifier((0, 3)), style)
    assert module.RANGES == {"t": (0, 3)}
    loss, _ = run(module, [[0, 1], [2, 0]])
    assert loss == pytest.approx(np.log(3))
    with pytest.raises(module.DataError, match="input 't': expected whole numbers from 0 to 2"):
        run(module, [[0, 1], [label, 0]])


@pytest.mark.parametrize("style", STYLES)
def test_columns_of_labels_may_have_ranges_of_their_own(style: str) -> None:
    loss, _ = run(program(classifier((0, 3), (1, 5)), style), [[0, 4], [2, 3]])
    assert loss == pytest.approx(np.log(3) + np.log(5))


# what was compared with nothing is not confirmed


def test_a_tensor_with_kinks_everywhere_is_not_confirmed() -> None:
    x, w = p("x", 5), p("w", 5)
    report = sg.verify(sg.graph(sg.sum(sg.relu(x) + w**2)), params={"x": np.zeros(5)})
    assert not report.ok
    assert not report.to_dict()["ok"]
    assert [(row.name, row.ok, row.checked) for row in report.rows] == [
        ("loss", True, True),
        ("x", False, False),
        ("w", True, True),
    ]
    lines = str(report).splitlines()
    assert [line.split("  ")[-1] for line in lines[1:4]] == ["ok", "not checked", "ok"]
    assert lines[-1].startswith("not checked: x; worst error ")
    assert "WRONG" not in str(report)


def test_a_tensor_with_some_kinks_is_confirmed_by_the_rest() -> None:
    report = sg.verify(sg.graph(sg.sum(sg.relu(p("x", 3)))), params={"x": np.array([0.0, 1.0, -1.0])})
    assert report.ok and report["x"].kinks == 1


@pytest.mark.parametrize(("entries", "ok"), [(0, True), (2, False)])
def test_only_a_tensor_without_entries_needs_no_comparison(entries: int, ok: bool) -> None:
    row = Row("x", (entries,), entries, entries, {PRECISE: Comparison(0, 0.0, 0.0, True)})
    assert row.ok is ok


def test_a_report_shows_itself_as_its_table() -> None:
    report = sg.verify(sg.graph(sg.sum(sg.tanh(p("x", 2)))))
    assert repr(report) == str(report)
    assert repr(report).startswith("tensor  shape")
