"""Every registered op, from its own table of cases: forward, gradients to order 2, ties, and singular points.

Registering an op is all it takes to be tested here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import networkx as nx
import numpy as np
import pytest

from symgrad.derive import derive_system
from symgrad.equations import System
from symgrad.errors import DeriveError
from symgrad.evaluate.numeric import (
    analytic,
    central_difference,
    complex_step,
    precise_slope,
    unit,
)
from symgrad.evaluate.reference import Evaluation, evaluate
from symgrad.expand import expand
from symgrad.ops import OPS, register
from symgrad.ops.registry import Case, unary

Values = dict[str, np.ndarray]

# name -> (system, values) -> all tensors; each one must agree with the tables
EVALUATORS: dict[str, Callable[[System, Values], Mapping[str, Any]]] = {
    "reference": lambda system, values: evaluate(system, values),
}


@dataclass(frozen=True)
class Row:
    """One case of one op, as a network of inputs X0, X1, ... and the node Y, with values for the inputs."""

    op: str
    case: Case
    name: str

    @property
    def values(self) -> Values:
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        return {f"X{k}": _sample(given, self.case, random) for k, given in enumerate(self.case.operands)}

    @property
    def system(self) -> System:
        return op_system(self.op, self.values, self.case.attrs)

    @property
    def differentiable(self) -> list[str]:
        values = self.values
        chosen = range(len(values)) if self.case.differentiable is None else self.case.differentiable
        return [f"X{k}" for k in chosen if values[f"X{k}"].dtype.kind == "f"]


def _sample(given: Any, case: Case, random: np.random.Generator) -> np.ndarray:
    if isinstance(given, np.ndarray):
        return given
    return np.asarray(random.normal(size=given) if case.domain is None else random.uniform(*case.domain, given))


def op_system(op: str, values: Values, attrs: Mapping[str, Any] | None = None) -> System:
    graph = nx.MultiDiGraph(outputs=["Y"])
    for name, value in values.items():
        dtype = {"b": "bool", "i": "int64"}.get(value.dtype.kind, "float")
        graph.add_node(name, op="input", shape=value.shape, dtype=dtype)
    graph.add_node("Y", op=op, **(attrs or {}))
    for arg, name in enumerate(values):
        graph.add_edge(name, "Y", arg=arg)
    return expand(graph)


def rows() -> Iterator[Row]:
    for op in OPS.values():
        for k, case in enumerate(op.cases):
            yield Row(op.name, case, f"{op.name}-{k}")


every_case = pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)


@pytest.fixture(params=EVALUATORS)
def evaluator(request: pytest.FixtureRequest) -> Callable[[System, Values], Mapping[str, Any]]:
    return EVALUATORS[request.param]


# forward


def check_forward(row: Row, evaluator: Callable[[System, Values], Mapping[str, Any]]) -> None:
    values = row.values
    found = np.asarray(evaluator(row.system, values)["Y"])
    with np.errstate(all="ignore"):
        expected = np.asarray(row.case.reference(*values.values()))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-12, atol=1e-300)


@every_case
def test_forward(row: Row, evaluator: Callable[[System, Values], Mapping[str, Any]]) -> None:
    check_forward(row, evaluator)


@every_case
def test_number_systems_agree(row: Row) -> None:
    values = row.values
    plain = evaluate(row.system, values)["Y"]
    precise = evaluate(row.system, values, "mp")["Y"].astype(float)
    np.testing.assert_allclose(plain.astype(float), precise, rtol=1e-12, atol=1e-15)


# gradients


def directions(values: Values, name: str, random: np.random.Generator, at: Evaluation) -> Iterator[np.ndarray]:
    """Single entries, or two random directions where there are many; never an entry that is at a kink."""
    shape, scale = values[name].shape, np.where(values[name] == 0, 1.0, np.abs(values[name]))
    few = [unit(shape, index, scale[index]) for index in np.ndindex(shape)]
    if len(few) <= 16 or at.trace.edges:
        yield from few
    else:
        yield from (random.normal(size=shape) * scale for _ in range(2))


def check_vjp(system: System, values: Values, of: str, wrt: str, seed: str, between: bool = False) -> System | None:
    """<v, J u> of a tensor by differences in 50 digits, against <Jᵀ v, u> of the derived system.

    At a kink the derived number should lie `between` the one-sided derivatives. Returns the derived system,
    or None if there is no dependence, in which case the differences are zero.
    """
    random = np.random.default_rng(7)
    at = Evaluation(system, values, of, "mp")
    v = random.normal(size=at.value.shape)
    try:
        derived = derive_system(system, of=of, wrt=[wrt], seed=seed)
    except DeriveError:
        derived = None
    gradient = at.numbers.lift(np.zeros(values[wrt].shape))
    if derived is not None:
        gradient = gradient_of(derived, values | {seed: v}, wrt, "mp")
        check_floats(derived, values | {seed: v}, wrt, gradient)
    for u in directions(values, wrt, random, at):
        slope = precise_slope(at, {wrt: u})
        right, left, found = dot(v, slope.right), dot(v, slope.left), dot(u, gradient)
        if not slope.kink:
            assert abs(found - right) <= 1e-14 * abs(right) + 1e-17 * size(v, slope.right), (of, wrt, u)
        elif between and not slope.jump:
            slack = 1e-14 * size(v, slope.right)
            assert min(left, right) - slack <= found <= max(left, right) + slack, (of, wrt, u)
    return derived


def gradient_of(derived: System, values: Values, wrt: str, number: str) -> np.ndarray:
    name = derived.gradients[wrt]
    return evaluate(derived, values, number, [name])[name]


def check_floats(derived: System, values: Values, wrt: str, precise: np.ndarray) -> None:
    """The derived system is as good in float64: no overflow, no cancellation."""
    true = precise.astype(float)
    found = gradient_of(derived, values, wrt, "float64")
    assert found.shape == values[wrt].shape
    elementwise = derived.equations["Y"].definition.elementwise and len(derived.equations) <= 3
    shown = np.abs(true) < 1e300
    scale = np.abs(true) if elementwise else np.max(np.abs(true), initial=0)
    with np.errstate(invalid="ignore"):
        wrong = shown & ~(np.abs(found - true) <= 1e-11 * scale + 4e-15)
    assert not wrong.any(), (found[wrong], true[wrong])


def dot(a: np.ndarray, b: np.ndarray) -> Any:
    return sum(
        (mpmath.mpf(float(x)) * mpmath.mpf(str(y)) for x, y in zip(a.flat, b.flat, strict=True)),
        mpmath.mpf(0),
    )


def size(a: np.ndarray, b: np.ndarray) -> Any:
    return dot(np.asarray(np.abs(a)), np.asarray(np.abs(b))) + 1


def check_gradients(row: Row, order: int) -> None:
    system, values = row.system, row.values
    if system.dtype("Y") != "float":
        return
    for wrt in row.differentiable:
        first = check_vjp(system, values, "Y", wrt, "v", between=True)
        if order == 1 or first is None:
            continue
        shape = np.shape(evaluate(system, values)["Y"])
        extended = values | {"v": np.random.default_rng(8).normal(size=shape)}
        for other in [*row.differentiable, "v"]:
            check_vjp(first, extended, first.gradients[wrt], other, "v2")


@pytest.fixture(autouse=True)
def fifty_digits() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


@every_case
def test_gradient(row: Row) -> None:
    check_gradients(row, 1)


@every_case
def test_second_derivative(row: Row) -> None:
    check_gradients(row, 2)


@every_case
def test_float64_methods_agree_with_fifty_digits(row: Row) -> None:
    """Central differences away from kinks, and complex steps where they are valid."""
    system, values = row.system, row.values
    if system.dtype("Y") != "float" or any(np.abs(v).max(initial=0) > 10 for v in values.values()):
        return
    random = np.random.default_rng(3)
    precise, plain = (Evaluation(system, values, "Y", number) for number in ("mp", "float64"))
    for wrt in row.differentiable:
        u = random.normal(size=values[wrt].shape)
        slope = precise_slope(precise, {wrt: u})
        if slope.kink:
            continue
        true = slope.right.astype(float)
        central = central_difference(plain, {wrt: u})
        if central is not None:
            np.testing.assert_allclose(central, true, rtol=1e-6, atol=1e-8)
        if analytic(system, "Y", [wrt]):
            stepped = complex_step(Evaluation(system, values, "Y", "complex128"), {wrt: u})
            np.testing.assert_allclose(stepped, true, rtol=1e-12, atol=1e-13)


@every_case
def test_the_derived_graph_reads_back(row: Row) -> None:
    """Written as a networkx graph of formula text and read again, it computes the same numbers."""
    system, values = row.system, row.values
    names = row.differentiable
    if system.dtype("Y") != "float" or not names:
        return
    derived = derive_system(system, of="Y", wrt=names, seed="v")
    values["v"] = np.random.default_rng(9).normal(size=np.shape(evaluate(system, values)["Y"]))
    wanted = sorted(derived.gradients.values())
    again = evaluate(expand(derived.to_graph()), values, needed=wanted)
    for name, expected in evaluate(derived, values, needed=wanted).items():
        np.testing.assert_allclose(again[name], expected, rtol=1e-13, atol=1e-300)


# ties and kinks


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize(
    ("entries", "shares"),
    [
        ([1.0, 1.0, 0.0], {"max": [1 / 2, 1 / 2, 0], "min": [0, 0, 1]}),
        ([2.0, 2.0, 2.0], {"max": [1 / 3] * 3, "min": [1 / 3] * 3}),
        ([0.0, -0.0, 5.0], {"max": [0, 0, 1], "min": [1 / 2, 1 / 2, 0]}),
        ([-np.inf, 3.0, 3.0], {"max": [0, 1 / 2, 1 / 2], "min": [1, 0, 0]}),
    ],
)
def test_winners_share_evenly(op: str, entries: list[float], shares: dict[str, list[float]]) -> None:
    assert gradient_at(op, {"X0": np.array(entries)}, "X0").tolist() == pytest.approx(shares[op])


def test_overlapping_windows_share_each_on_its_own() -> None:
    x = np.array([[[1.0, 1.0, 0.0, 2.0]]])
    found = gradient_at("max_pool", {"X0": x}, "X0", size=2, stride=1)
    assert found.tolist() == [[[1 / 2, 3 / 2, 0, 1]]]


@pytest.mark.parametrize(
    ("op", "attrs", "x", "slope"),
    [
        ("relu", {}, 0.0, 0.0),
        ("leaky_relu", {"slope": 0.25}, 0.0, 0.25),
        ("elu", {"alpha": 0.5}, 0.0, 0.5),
        ("clip", {"low": -1.0, "high": 2.0}, -1.0, 1.0),
        ("clip", {"low": -1.0, "high": 2.0}, 2.0, 1.0),
        ("clip", {"low": -1.0, "high": 2.0}, 2.5, 0.0),
        ("abs", {}, 0.0, 0.0),
        ("sign", {}, 0.0, 0.0),
        ("square", {}, 0.0, 0.0),
    ],
)
def test_convention_at_a_kink(op: str, attrs: dict[str, float], x: float, slope: float) -> None:
    assert gradient_at(op, {"X0": np.array([x])}, "X0", **attrs).tolist() == [slope]


@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_equal_operands_share_evenly(op: str) -> None:
    values = {"X0": np.array([1.0, 2.0]), "X1": np.array([1.0, -1.0])}
    halves = [gradient_at(op, values, name).tolist() for name in values]
    assert [first for first, _ in halves] == [0.5, 0.5]
    assert sum(second for _, second in halves) == 1


def test_the_hinge_is_flat_at_the_margin() -> None:
    values = {"X0": np.array([1.0]), "X1": np.array([1.0])}
    assert gradient_at("hinge", values, "X0").tolist() == [0.0]


def gradient_at(op: str, values: Values, wrt: str, **attrs: Any) -> np.ndarray:
    """The derived gradient of the sum of an op's entries."""
    system = op_system(op, values, attrs)
    ones = np.ones_like(evaluate(system, values)["Y"])
    return gradient_of(derive_system(system, of="Y", wrt=[wrt], seed="v"), values | {"v": ones}, wrt, "float64")


# singular points: right to a few units in the last place wherever the true value is a normal number

FAR = np.array([-1e4, -800, -745, -709, -100, -37, -1, -1e-5, -1e-300, 0, 1e-12, 0.5, 1, 37, 100, 709, 800, 1e4])
FAR_ROWS = np.array(
    [
        [1e4, -1e4, 9999.0, 0.0],
        [-1e4, -1e4, -1e4 - 1, -1e4],
        [800, 0, -800, 37],
        [0, 1e-9, 0, 0],
        [1, 2, 3, 40.0],
    ]
)


def assert_ulps(found: Any, true: Any, ulps: float, terms: Any = None) -> None:
    """Each number within some units in the last place of the true one, or of the `terms` that it sums."""
    found, true = np.asarray(found), np.asarray(true, dtype=object)
    terms = np.abs(true) if terms is None else np.asarray(terms, dtype=object)
    assert found.shape == true.shape
    assert np.isfinite(found).all()
    for f, t, s in zip(found.flat, true.flat, terms.flat, strict=True):
        assert abs(mpmath.mpf(float(f)) - t) <= ulps * 2.0**-52 * s + 2.3e-308, (float(f), mpmath.nstr(t, 20))


def precise(x: np.ndarray) -> np.ndarray:
    return np.vectorize(mpmath.mpf, otypes=[object])(x)


def mapped(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    return np.vectorize(function, otypes=[object])(precise(x))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


ELEMENTWISE: dict[str, tuple[Callable[[Any], Any], ...]] = {  # op -> value, first, second derivative
    "sigmoid": (
        _sigmoid,
        lambda x: _sigmoid(x) * _sigmoid(-x),
        lambda x: _sigmoid(x) * _sigmoid(-x) * (_sigmoid(-x) - _sigmoid(x)),
    ),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
}


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_far_from_zero(op: str, evaluator: Callable[[System, Values], Mapping[str, Any]]) -> None:
    value, first, second = ELEMENTWISE[op]
    values = {"X0": FAR}
    system = op_system(op, values)
    ones = np.ones(FAR.shape)
    d = derive_system(system, of="Y", wrt=["X0"], seed="v")
    dd = derive_system(d, of=d.gradients["X0"], wrt=["X0"], seed="v2")
    assert_ulps(evaluator(system, values)["Y"], mapped(value, FAR), 4)
    assert_ulps(evaluator(d, values | {"v": ones})[d.gradients["X0"]], mapped(first, FAR), 6)
    found = evaluator(dd, values | {"v": ones, "v2": ones})[dd.gradients["X0"]]
    assert_ulps(found, mapped(second, FAR), 12, mapped(lambda x: _sigmoid(x) * _sigmoid(-x), FAR))


def far_vjp(op: str, values: Values, evaluator: Any, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    """An op's value, and its gradient by X0 for a cotangent of ones."""
    system = op_system(op, values, attrs)
    d = derive_system(system, of="Y", wrt=["X0"], seed="v")
    found = evaluator(system, values)["Y"]
    gradient = evaluator(d, values | {"v": np.ones_like(found)})[d.gradients["X0"]]
    return np.asarray(found), np.asarray(gradient)


def softmax_rows(x: np.ndarray) -> np.ndarray:
    e = mapped(mpmath.exp, x)
    return e / e.sum(-1, keepdims=True)


def lse_rows(x: np.ndarray) -> np.ndarray:
    return np.array([mpmath.log(row.sum()) for row in mapped(mpmath.exp, x)], dtype=object)


def test_logsumexp_far_from_zero(evaluator: Any) -> None:
    value, gradient = far_vjp("logsumexp", {"X0": FAR_ROWS}, evaluator, axis=1)
    assert_ulps(value, lse_rows(FAR_ROWS), 4)
    assert_ulps(gradient, softmax_rows(FAR_ROWS), 10)


def test_softmax_far_from_zero(evaluator: Any) -> None:
    system, values = op_system("softmax", {"X0": FAR_ROWS}), {"X0": FAR_ROWS}
    p = softmax_rows(FAR_ROWS)
    assert_ulps(evaluator(system, values)["Y"], p, 6)
    v = np.array([1.0, -2.0, 0.5, 3.0]) * np.ones_like(FAR_ROWS)
    d = derive_system(system, of="Y", wrt=["X0"], seed="v")
    inner = (p * precise(v)).sum(-1, keepdims=True)
    terms = p * (np.abs(precise(v)) + (p * np.abs(precise(v))).sum(-1, keepdims=True))
    assert_ulps(evaluator(d, values | {"v": v})[d.gradients["X0"]], p * (precise(v) - inner), 16, terms)


def test_log_softmax_far_from_zero(evaluator: Any) -> None:
    value, gradient = far_vjp("log_softmax", {"X0": FAR_ROWS}, evaluator)
    shifted = precise(FAR_ROWS) - precise(FAR_ROWS.max(-1, keepdims=True))
    terms = np.abs(shifted) + 1  # the logarithm is of a sum of 1 and more, rounded
    assert_ulps(value, precise(FAR_ROWS) - lse_rows(FAR_ROWS)[:, None], 4, terms)
    p = softmax_rows(FAR_ROWS)
    assert_ulps(gradient, 1 - 4 * p, 16, 1 + 4 * p)


@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_far_from_zero(evaluator: Any, soft: bool) -> None:
    labels = np.array([0, 2, 1, 3, 3])
    hot = np.eye(4)[labels]
    values = {"X0": FAR_ROWS, "X1": 0.9 * hot + 0.025 if soft else labels}
    t = precise(values["X1"] if soft else hot)
    value, gradient = far_vjp("cross_entropy", values, evaluator, reduction="none")
    p, top = softmax_rows(FAR_ROWS), precise(FAR_ROWS.max(-1, keepdims=True))
    log_p = precise(FAR_ROWS) - lse_rows(FAR_ROWS)[:, None]
    terms = np.abs(t) * (np.abs(precise(FAR_ROWS) - top) + 1)
    assert_ulps(value, -(t * log_p).sum(-1), 8, terms.sum(-1))
    assert_ulps(gradient, p * t.sum(-1, keepdims=True) - t, 16, p + t)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.25])
def test_binary_cross_entropy_far_from_zero(evaluator: Any, target: float) -> None:
    t = mpmath.mpf(target)
    values = {"X0": FAR, "X1": np.full(FAR.shape, target)}
    value, gradient = far_vjp("binary_cross_entropy_with_logits", values, evaluator, reduction="none")
    true = mapped(lambda x: t * mpmath.log1p(mpmath.exp(-x)) + (1 - t) * mpmath.log1p(mpmath.exp(x)), FAR)
    assert_ulps(value, true, 6)
    slope = mapped(lambda x: (1 - t) * _sigmoid(x) - t * _sigmoid(-x), FAR)
    assert_ulps(gradient, slope, 8, mapped(lambda x: (1 - t) * _sigmoid(x) + t * _sigmoid(-x), FAR))


# the harness itself


def checked(formula: str, reference: Callable[..., Any]) -> None:
    """Register an op for a moment, and run on its rows what runs on those of every other op."""
    register("momentary", formula, cases=[unary(reference, at=[0.0, 2.0])])
    try:
        found = [row for row in rows() if row.op == "momentary"]
        assert len(found) == 1
        check_forward(found[0], EVALUATORS["reference"])
        check_gradients(found[0], 2)
    finally:
        del OPS["momentary"]


def test_a_new_op_is_covered_by_registering_it() -> None:
    checked("Y[...] = X[...]**3 + sin(X[...])", lambda x: x**3 + np.sin(x))


def test_a_wrong_definition_is_found() -> None:
    with pytest.raises(AssertionError):
        checked("Y[...] = X[...]**3", lambda x: x**3 + np.sin(x))


@pytest.mark.parametrize("order", [1, 2])
def test_a_wrong_derivative_is_found(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from symgrad.derive import reverse

    right = reverse.scalar_derivative
    calls: list[int] = []

    def wrong(body: Any, access: Any) -> Any:
        calls.append(1)
        return right(body, access) * (1 + 1e-9 if len(calls) == order else 1)

    monkeypatch.setattr(reverse, "scalar_derivative", wrong)
    with pytest.raises(AssertionError):
        checked("Y[...] = X[...]**3", lambda x: x**3)


# another program's opinion


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "theirs"),
    [
        (
            "conv2d",
            ((2, 4, 6, 5), (6, 2, 3, 2)),
            {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2},
            lambda f, x, w: f.conv2d(x, w, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        ),
        ("layer_norm", ((3, 5), (5,), (5,)), {}, lambda f, x, g, b: f.layer_norm(x, (5,), g, b)),
        (
            "max_pool",
            ((2, 3, 7, 6),),
            {"size": 3, "stride": 2, "padding": 1},
            lambda f, x: f.max_pool2d(x, 3, 2, 1),
        ),
        ("gelu", ((9,),), {}, lambda f, x: f.gelu(x)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_gradients_are_those_of_torch(
    op: str, shapes: Sequence[tuple[int, ...]], attrs: dict[str, Any], theirs: Callable[..., Any]
) -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(2)
    values = {f"X{k}": random.normal(size=shape) for k, shape in enumerate(shapes)}
    tensors = [torch.tensor(value, requires_grad=True) for value in values.values()]
    result = theirs(torch.nn.functional, *tensors)
    v = random.normal(size=tuple(result.shape))
    result.backward(torch.tensor(v))
    derived = derive_system(op_system(op, values, attrs), of="Y", wrt=list(values), seed="v")
    for name, tensor in zip(values, tensors, strict=True):
        found = gradient_of(derived, values | {"v": v}, name, "float64")
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_cross_entropy_gradient_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    z, t = np.random.default_rng(2).normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])
    logits = torch.tensor(z, requires_grad=True)
    torch.nn.functional.cross_entropy(logits, torch.tensor(t)).backward()
    found = gradient_at("cross_entropy", {"X0": z, "X1": t}, "X0")
    np.testing.assert_allclose(found, logits.grad.numpy(), rtol=1e-12, atol=1e-15)
