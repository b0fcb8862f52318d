"""The fixed part of an emitted program: its checks, its trainer, its files and its command line."""

from __future__ import annotations

import ast
import copy
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from symgrad.emit import runtime

SOURCE = Path(runtime.__file__).read_text(encoding="utf-8")

# A classifier: integer labels and a table lookup, both of known range, an input without the sample axis,
# and Adam's two states.
CLASSIFIER = """
DTYPE = np.float64
INPUTS = {"x": ("int64", ("N",)), "scale": ("float", ()), "t": ("int64", ("N",))}
FORWARD_INPUTS = ("x", "scale")
OUTPUTS = ("logits", "picked")
PARAMETERS = {"table": (5, 3), "bias": (3,)}
GRADIENTS = {"table": (5, 3), "bias": (3,)}
INITIALISERS = {"table": ("glorot_normal", 5, 3), "bias": ("constant", 0.25)}
RANGES = {"t": (0, 3), "x": (0, 5)}
BATCH = "N"
HYPERPARAMETERS = {"lr": 0.1, "beta1": 0.9, "weight_decay": 0.0}
STATE = ("m", "v")
OPTIMIZER = "adam"
NETWORK = "classifier"
DIM_EXPRESSIONS = {}

def _bind(params, grads, dims):
    n = dims["N"]
    logits, picked, p = np.empty((n, 3)), np.empty((n, 3)), np.empty((n, 3))

    def forward(inputs):
        np.multiply(params["table"][inputs["x"]], inputs["scale"], out=picked)
        np.add(picked, params["bias"], out=logits)
        return logits, picked

    def loss(inputs):
        np.exp(logits - logits.max(axis=1, keepdims=True), out=p)
        np.divide(p, p.sum(axis=1, keepdims=True), out=p)
        return -np.log(p[np.arange(n), inputs["t"]]).mean()

    def backward(inputs):
        p[np.arange(n), inputs["t"]] -= 1
        grads["bias"][...] = p.sum(axis=0) / n
        grads["table"][...] = 0
        np.add.at(grads["table"], inputs["x"], p * inputs["scale"] / n)

    return forward, loss, backward

def _bind_update(theta, grad, state):
    m, v = state["m"], state["v"]

    def update(k, hyper):
        m[...] = hyper["beta1"] * m + (1 - hyper["beta1"]) * grad
        v[...] = 0.99 * v + 0.01 * grad * grad
        np.subtract(theta, hyper["lr"] * m / (np.sqrt(v / (1 - 0.99**k)) + 1e-8), out=theta)

    return update
"""

# No sample axis, a size that depends on another, and a boolean input: loss = sum of (x a)^2 where m holds.
WHOLE = """
DTYPE = np.float64
INPUTS = {
    "x": ("float", ("2*K + 1",)), "m": ("bool", ("2*K + 1",)), "k": ("float", ("K",)), "q": ("float", ("Q",)),
}
FORWARD_INPUTS = ("x", "m", "k")
OUTPUTS = ("y",)
PARAMETERS = {"a": ()}
GRADIENTS = {"a": ()}
INITIALISERS = {"a": ("ones",)}
RANGES = {}
BATCH = None
HYPERPARAMETERS = {"lr": 0.01}
STATE = ()
OPTIMIZER = "sgd"
NETWORK = "whole"
DIM_EXPRESSIONS = {"2*K + 1": lambda dims: 2 * dims["K"] + 1}

def _bind(params, grads, dims):
    assert dims["Q"] > 0

    def forward(inputs):
        return (inputs["x"] * params["a"] * inputs["m"],)

    def loss(inputs):
        return float(np.sum(forward(inputs)[0] ** 2))

    def backward(inputs):
        grads["a"][...] = 2 * params["a"] * np.sum((inputs["x"] * inputs["m"]) ** 2)

    return forward, loss, backward

def _bind_update(theta, grad, state):
    def update(k, hyper):
        np.subtract(theta, hyper["lr"] * grad, out=theta)

    return update
"""

# The same with a gradient by the input x, and with a parameter c that has none.
PARTIAL = (
    WHOLE.replace('PARAMETERS = {"a": ()}', 'PARAMETERS = {"c": (2,), "a": ()}')
    .replace('GRADIENTS = {"a": ()}', 'GRADIENTS = {"x": ("2*K + 1",), "a": ()}')
    .replace('INITIALISERS = {"a"', 'INITIALISERS = {"c": ("constant", 7.0), "a"')
    .replace(
        "    def backward(inputs):\n",
        "    def backward(inputs):\n"
        '        np.multiply(2 * params["a"] ** 2 * inputs["m"], inputs["x"], out=grads["x"])\n',
    )
)


def assemble(network: str) -> str:
    """The program of another network: what stands between the markers is replaced, as the emitter does it."""
    head, rest = SOURCE.split("# <network>\n")
    return head + "# <network>\n" + network + "\n# </network>\n" + rest.split("# </network>\n")[1]


def program(network: str) -> ModuleType:
    module = ModuleType("program")
    exec(compile(assemble(network), "program.py", "exec"), module.__dict__)
    return module


def line(samples: int = 50, seed: int = 0) -> dict[str, np.ndarray]:
    """Samples of y = x (1, -2, 3) + 0.5."""
    x = np.random.default_rng(seed).normal(size=(samples, 3)).astype(np.float32)
    return {"x": x, "t": x @ np.array([1, -2, 3], np.float32) + np.float32(0.5)}


def trainer(**hyper: float) -> runtime.Trainer:
    return runtime.Trainer(runtime.init_params(1), **hyper)


def same(a: Any, b: Any) -> bool:
    """Whether two trainers are in the same state, to the last bit."""
    return pickle.dumps(a.__getstate__()) == pickle.dumps(b.__getstate__())


@pytest.fixture(scope="module")
def classifier() -> ModuleType:
    return program(CLASSIFIER)


@pytest.fixture
def labelled() -> dict[str, Any]:
    x = np.random.default_rng(2).integers(0, 5, 23)
    return {"x": x, "t": x % 3, "scale": 2.0}


# ---- The file itself -------------------------------------------------------------------------------------


def test_needs_only_numpy_and_the_standard_library() -> None:
    imports = [n for n in ast.walk(ast.parse(SOURCE)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports}
    assert {str(name).partition(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy"}


def test_import_is_light() -> None:
    heavy = "{'json', 'argparse', 'difflib', 'tempfile', 'zipfile', 'pickle'}"
    code = f"import sys, numpy; b = set(sys.modules); import runtime; print((set(sys.modules) - b) & {heavy})"
    folder = Path(runtime.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- Parameters ------------------------------------------------------------------------------------------


def test_init_params_are_views_into_one_aligned_vector() -> None:
    for _ in range(20):
        params = runtime.init_params()
        assert params["w"].ctypes.data % 64 == 0
        assert params["b"].ctypes.data == params["w"].ctypes.data + 3 * 4
        assert [(p.shape, p.dtype) for p in params.values()] == [((3,), np.float32), ((), np.float32)]


def test_init_params_depend_on_the_seed_only() -> None:
    assert np.array_equal(runtime.init_params(3)["w"], runtime.init_params(3)["w"])
    assert not np.array_equal(runtime.init_params(3)["w"], runtime.init_params(4)["w"])


def test_each_parameter_has_its_own_random_stream(classifier: ModuleType) -> None:
    other = program(
        CLASSIFIER.replace('"table": ("glorot_normal", 5, 3)', '"table": ("zeros",)').replace(
            '("constant", 0.25)', '("normal", 1.0)'
        )
    )
    both = program(CLASSIFIER.replace('("constant", 0.25)', '("normal", 1.0)'))
    assert np.array_equal(other.init_params(0)["bias"], both.init_params(0)["bias"])
    assert not np.array_equal(both.init_params(0)["bias"], both.init_params(0)["table"][0])
    assert np.array_equal(classifier.init_params(0)["bias"], [0.25] * 3)


@pytest.mark.parametrize(
    ("scheme", "deviation", "bounded"),
    [
        (("glorot_uniform", 30, 70), np.sqrt(2 / 100), True),
        (("glorot_normal", 30, 70), np.sqrt(2 / 100), False),
        (("he_uniform", 30, 70), np.sqrt(2 / 30), True),
        (("he_normal", 30, 70), np.sqrt(2 / 30), False),
        (("lecun_normal", 30, 70), np.sqrt(1 / 30), False),
        (("normal", 0.7), 0.7, False),
        (("uniform", -3.0, 3.0), np.sqrt(3), True),
        (("constant", 4.0), 0, True),
        (("zeros",), 0, True),
        (("ones",), 0, True),
    ],
)
def test_initialisers(scheme: tuple[Any, ...], deviation: float, bounded: bool) -> None:
    values = runtime._draw(np.random.default_rng(0), (20000,), *scheme) * np.ones(20000)
    assert np.std(values) == pytest.approx(deviation, rel=0.02)
    centre = {"constant": 4.0, "ones": 1.0}.get(scheme[0], 0.0)
    assert np.mean(values) == pytest.approx(centre, abs=0.03)
    assert (np.abs(values - centre).max() <= np.sqrt(3) * deviation * (1 + 1e-12)) == bounded


# ---- Pure functions --------------------------------------------------------------------------------------


def test_pure_functions_agree_with_the_closed_form() -> None:
    data, params = line(7), runtime.init_params(5)
    x, t, w, b = (np.float64(a) for a in (data["x"], data["t"], params["w"], params["b"]))
    r = x @ w + b - t
    loss, grads = runtime.loss_and_grads(params, **data)
    assert loss == pytest.approx(np.mean(r**2), rel=1e-5)
    assert loss == runtime.loss_fn(params, **data)
    assert runtime.forward(params, x=data["x"]) == pytest.approx(x @ w + b, rel=1e-5)
    assert grads["w"] == pytest.approx(2 * r @ x / 7, rel=1e-4)
    assert float(grads["b"]) == pytest.approx(2 * r.mean(), rel=1e-4)


def test_pure_functions_return_fresh_arrays_and_leave_the_parameters_alone() -> None:
    data, params = line(7), runtime.init_params(5)
    before = copy.deepcopy(params)
    first, second = runtime.forward(params, **data), runtime.forward(params, x=-data["x"])
    (_, grads), (_, others) = (
        runtime.loss_and_grads(params, **data),
        runtime.loss_and_grads(params, **line(7, 9)),
    )
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(grads["w"], others["w"])
    assert {g.shape for g in grads.values()} == {(3,), ()}
    assert all(np.array_equal(params[name], before[name]) for name in params)


def test_networks_are_always_given_arrays_for_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    bind = runtime._bind
    monkeypatch.setattr(runtime, "_bind", lambda *args: given.append(args[1]) or bind(*args))
    own = trainer()
    calls = (runtime.forward, runtime.loss_fn, runtime.loss_and_grads)
    for call in calls:
        call(own.params, **line(4))
    own.step(**line(4))
    for grads in given:
        assert [(name, g.shape, g.dtype) for name, g in grads.items()] == [
            ("w", (3,), np.float32),
            ("b", (), np.float32),
        ]
        assert grads["w"].ctypes.data % 64 == 0
        assert grads["b"].ctypes.data == grads["w"].ctypes.data + 3 * 4
    assert [np.shares_memory(grads["w"], own._grad) for grads in given] == [False, False, False, True]


def test_gradients_by_inputs_are_returned_and_those_of_other_parameters_are_not() -> None:
    partial = program(PARTIAL)
    params = {"c": [1.0, 2.0], "a": 3.0}
    for size in (1, 2, 4):
        n = 2 * size + 1
        x, m = np.arange(1.0, n + 1), np.arange(n) % 2 == 0
        data = {"x": x, "m": m, "k": np.zeros(size), "q": [0.0]}
        loss, grads = partial.loss_and_grads(params, **data)
        again = partial.loss_and_grads(params, **data)[1]
        assert loss == 9 * np.sum(x[m] ** 2) == partial.loss_fn(params, **data)
        assert list(grads) == ["x", "a"]
        assert np.array_equal(grads["x"], 18 * x * m)
        assert grads["x"].dtype == np.float64
        assert float(grads["a"]) == 6 * np.sum(x[m] ** 2)
        assert not np.shares_memory(grads["x"], again["x"])


def test_a_trainer_leaves_parameters_without_a_gradient_alone() -> None:
    partial = program(PARTIAL)
    own = partial.Trainer(partial.init_params(), lr=0.001)
    for size in (1, 2, 1):
        n = 2 * size + 1
        before = float(own.params["a"])
        own.step(x=np.ones(n), m=np.ones(n, bool), k=np.zeros(size), q=[0.0])
        assert own._grad.tolist() == [0, 0, 2 * before * n]
        assert float(own.params["a"]) == pytest.approx(before - 0.001 * 2 * before * n)
    assert own.params["c"].tolist() == [7, 7]
    assert own.steps == 3


def test_several_outputs_come_as_a_tuple(classifier: ModuleType) -> None:
    logits, picked = classifier.forward(classifier.init_params(), x=[1, 2], scale=2)
    assert np.allclose(logits - picked, 0.25)


def test_an_output_that_is_an_input_is_copied() -> None:
    echo = program(WHOLE.replace('return (inputs["x"] * params["a"] * inputs["m"],)', 'return (inputs["x"],)'))
    x = np.ones(3)
    assert not np.shares_memory(echo.forward({"a": 1.0}, x=x, m=x > 0, k=[0.0]), x)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": np.ones(3)}, "parameter 'b': missing"),
        ({}, "parameter 'w', 'b': missing"),
        ({"w": np.ones(3), "b": 0.0, "W": 1}, "parameter 'W': unknown\n  hint: did you mean 'w'?"),
        (
            {"w": np.ones(4), "b": 0.0},
            "parameter 'w': expected float32 of shape (3,), got float64 of shape (4,)",
        ),
        ({"w": 1j * np.ones(3), "b": 0.0}, "got complex128 of shape (3,)"),
        ({"w": [[1], [2, 3]], "b": 0.0}, "parameter 'w': cannot be made an array"),
    ],
)
def test_parameters_are_checked(params: dict[str, Any], message: str) -> None:
    for call in (runtime.loss_fn, runtime.loss_and_grads, runtime.forward):
        with pytest.raises(runtime.DataError, match=re.escape(message)):
            call(params, **line(4))
    with pytest.raises(runtime.DataError, match=re.escape(message)):
        runtime.Trainer(params)


def test_parameters_of_other_types_are_converted() -> None:
    data = line(4)
    assert runtime.loss_fn({"w": [1, -2, 3], "b": np.float64(0.5)}, **data) == pytest.approx(0, abs=1e-10)


# ---- Checks of the data ----------------------------------------------------------------------------------

X, T = line(4)["x"], line(4)["t"]
LINE_FAULTS = [
    ({"x": X}, "input 't': missing\n  hint: inputs: x, t"),
    ({"x": X, "t": T, "T": T}, "input 'T': unknown\n  hint: did you mean 't'? inputs: x, t"),
    ({"x": X, "t": T, "zebra": T}, "input 'zebra': unknown\n  hint: inputs: x, t"),
    (
        {"x": X, "t": T[:, None]},
        "input 't': expected float32 of shape (N,), got float32 of shape (4, 1)\n  hint: drop the last axis",
    ),
    ({"x": X[0], "t": T}, "input 'x': expected float32 of shape (N, 3), got float32 of shape (3,)"),
    ({"x": X[:, :2], "t": T}, "got float32 of shape (4, 2)\n  hint: axis 1 has 2 entries, expected 3"),
    ({"x": X, "t": T[:3]}, "hint: axis 0 has 3 entries, expected 4 = N, as in input 'x'"),
    ({"x": X.astype(str), "t": T}, "hint: the array must hold real numbers"),
    ({"x": X.astype(object), "t": T}, "got object of shape (4, 3)"),
    ({"x": X * 1j, "t": T}, "got complex64 of shape (4, 3)\n  hint: the array must hold real numbers"),
    ({"x": X.astype("M8[s]"), "t": T}, "got datetime64[s]"),
    ({"x": [[1, 2, 3], [4, 5]], "t": T}, "input 'x': cannot be made an array"),
    ({"x": X[:0], "t": T[:0]}, "got float32 of shape (0, 3)\n  hint: the array is empty"),
]


@pytest.mark.parametrize(("data", "message"), LINE_FAULTS, ids=range(len(LINE_FAULTS)))
def test_faulty_inputs_are_refused_everywhere(data: dict[str, Any], message: str) -> None:
    own = trainer()
    own.step(**line(4))
    before = copy.deepcopy(own)
    calls = [own.step, own.loss, lambda **d: own.fit(d), lambda **d: runtime.loss_fn(own.params, **d)]
    for call in calls:
        with pytest.raises(runtime.DataError, match=re.escape(message)):
            call(**data)
    assert same(own, before)


def test_the_nearest_name_is_given_as_it_is_spelt() -> None:
    with pytest.raises(runtime.DataError, match=re.escape("input 'w_1': unknown\n  hint: did you mean 'W1'?")):
        runtime._check_names("input", ["w_1"], ["W1", "bias"], [])


def test_forward_ignores_inputs_that_only_the_loss_needs() -> None:
    own = trainer()
    assert np.array_equal(own.predict(x=X), runtime.forward(own.params, x=X, t="anything"))
    with pytest.raises(runtime.DataError, match="input 'u': unknown"):
        own.predict(x=X, u=T)


def test_a_workspace_for_prediction_does_not_excuse_a_missing_target() -> None:
    own = trainer()
    own.predict(x=X)
    with pytest.raises(runtime.DataError, match="input 't': missing"):
        own.step(x=X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"t": np.zeros(23)},
            "expected int64 of shape (N,), got float64 of shape (23,)\n  hint: if the values",
        ),
        ({"t": np.zeros((23, 3))}, "hint: the array has 2 axes where 1 are needed"),
        ({"scale": np.ones(1)}, "expected float64 of shape (), got float64 of shape (1,)\n  hint: drop"),
        ({"t": np.arange(23) % 5 - 1}, "input 't': expected whole numbers from 0 to 2, got values -1 to 3"),
        (
            {"t": np.arange(23) % 4},
            "input 't': expected whole numbers from 0 to 2, got values 0 to 3\n  hint: c",
        ),
        ({"t": -(np.arange(23) % 2)}, "input 't': expected whole numbers from 0 to 2, got values -1 to 0"),
        ({"t": np.full(23, 200, np.uint8)}, "got values 200 to 200"),
        ({"t": np.full(23, 2**64 - 1, np.uint64)}, f"got values {2**64 - 1} to {2**64 - 1}"),
        ({"x": np.full(23, 5)}, "input 'x': expected whole numbers from 0 to 4, got values 5 to 5"),
        (
            {"x": -np.eye(1, 23, 9, int)[0]},
            "input 'x': expected whole numbers from 0 to 4, got values -1 to 0",
        ),
    ],
)
def test_faulty_labels_are_refused(
    classifier: ModuleType, labelled: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(classifier.DataError, match=re.escape(message)):
        classifier.loss_and_grads(classifier.init_params(), **labelled | change)
    own = classifier.Trainer(classifier.init_params())
    before = copy.deepcopy(own)
    for call in (own.step, own.loss, lambda **data: own.fit(data)):
        with pytest.raises(classifier.DataError, match=re.escape(message)):
            call(**labelled | change)
    assert same(own, before)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("t", -1, "input 't': expected whole numbers from 0 to 2, got values -1 to 2"),
        ("t", 3, "input 't': expected whole numbers from 0 to 2, got values 0 to 3"),
        ("x", -1, "input 'x': expected whole numbers from 0 to 4, got values -1 to 4"),
        ("x", 5, "input 'x': expected whole numbers from 0 to 4, got values 0 to 5"),
    ],
)
def test_ranges_are_checked_even_if_the_shapes_are_known(
    classifier: ModuleType, labelled: dict[str, Any], name: str, bad: int, message: str
) -> None:
    labelled["scale"] = np.array(2.0)  # no input needs conversion
    values = np.arange(23) % (3 if name == "t" else 5)
    values[7] = bad
    faulty = labelled | {name: values}
    features = {n: faulty[n] for n in ("x", "scale")}
    own = classifier.Trainer(classifier.init_params())
    calls = [own.step, own.loss, lambda **data: own.fit(data, epochs=1)]
    calls += [lambda **data: own.fit(labelled, epochs=1, validation=data)]
    calls += [lambda **data: classifier.loss_and_grads(own.params, **data)]
    calls += [lambda **data: classifier.loss_fn(own.params, **data)]
    own.step(**labelled)
    before = copy.deepcopy(own)
    for call in calls:
        with pytest.raises(classifier.DataError, match=re.escape(message)):
            call(**faulty)
    assert same(own, before)
    known = {n: labelled[n] for n in ("x", "scale")}
    for predict in (own.predict, lambda **data: classifier.forward(own.params, **data)):
        for prepare, given in ((own.step, faulty), (own.predict, features)):
            prepare(**(labelled if given is faulty else known))
            if name == "x":
                with pytest.raises(classifier.DataError, match=re.escape(message)):
                    predict(**given)
            else:  # labels have no part in a prediction
                assert predict(**given)[0].shape == (23, 3)


def test_fit_checks_ranges_once(
    classifier: ModuleType, labelled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    check = classifier._out_of_range
    monkeypatch.setattr(
        classifier, "_out_of_range", lambda data, needed: sizes.append(len(data["t"])) or check(data, needed)
    )
    own = classifier.Trainer(classifier.init_params())
    own.fit({name: value[:20] if name in "xt" else value for name, value in labelled.items()}, 3, 4)
    assert own.steps == 15
    assert sizes == [20, 4]  # the data set, and the first batch, for which a workspace is planned


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": np.full(23, 7)}, "input 't': values 7 to 7: index 7 is out of bounds"),
        ({"x": np.full(23, 5)}, "input 'x': values 5 to 5; input 't': values 0 to 2: index 5"),
    ],
)
def test_an_index_out_of_bounds_is_explained_where_no_range_is_known(
    labelled: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    free = program(CLASSIFIER.replace('RANGES = {"t": (0, 3), "x": (0, 5)}', "RANGES = {}"))
    own = free.Trainer(free.init_params())
    before = copy.deepcopy(own)
    pure = lambda **data: free.loss_and_grads(own.params, **data)  # noqa: E731
    for call in (own.step, own.loss, lambda **data: own.fit(data), pure):
        with pytest.raises(free.DataError, match=re.escape(message)):
            call(**labelled | change)
    assert same(own, before)


def test_an_index_error_without_integer_inputs_stays_what_it_is() -> None:
    broken = program(WHOLE.replace("return (inputs", 'inputs["x"][99]; return (inputs'))
    with pytest.raises(IndexError):
        broken.forward({"a": 1.0}, x=[1, 2, 3], m=[True] * 3, k=[1])


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "i1", "u8", "?", "g"])
def test_number_types_are_converted(dtype: str) -> None:
    x, t = np.arange(12).reshape(4, 3) % 2, np.arange(4) % 2
    expected = runtime.loss_and_grads(runtime.init_params(), x=x.astype("f4"), t=t.astype("f4"))
    found = runtime.loss_and_grads(runtime.init_params(), x=x.astype(dtype), t=t.astype(dtype))
    assert found[0] == expected[0]
    assert np.array_equal(found[1]["w"], expected[1]["w"])
    assert trainer().step(x=x.astype(dtype), t=t.astype(dtype)) == trainer().step(x=x, t=t)


@pytest.mark.parametrize("dtype", ["i1", "u2", ">i8", "?"])
def test_label_types_are_converted(classifier: ModuleType, labelled: dict[str, Any], dtype: str) -> None:
    labelled["t"] %= 2
    params = classifier.init_params()
    expected = classifier.loss_fn(params, **labelled)
    assert classifier.loss_fn(params, **labelled | {"t": labelled["t"].astype(dtype)}) == expected


def test_sizes_that_depend_on_each_other() -> None:
    whole = program(WHOLE)
    good = {"x": np.arange(5.0), "m": np.arange(5) > 2, "k": [0, 0], "q": [1.0]}
    assert whole.loss_fn({"a": 2.0}, **good) == 4 * (9 + 16)
    assert whole.forward({"a": 1}, **good).tolist() == [0, 0, 0, 3, 4]
    with pytest.raises(whole.DataError, match=re.escape("axis 0 has 5 entries, expected 7 = 2*K + 1")):
        whole.loss_fn({"a": 2.0}, **good | {"k": [0, 0, 0]})
    with pytest.raises(whole.DataError, match="expected bool of shape"):
        whole.loss_fn({"a": 2.0}, **good | {"m": [0, 0, 0, 1, 1]})


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "nan"), (np.inf, "inf"), (1e300, "inf")])
def test_fit_names_the_first_value_that_is_not_finite(bad: float, word: str) -> None:
    data = {name: array.astype(np.float64) for name, array in line(40).items()}
    data["x"][31, 2] = data["x"][33, 0] = bad
    message = re.escape(f"input 'x': {word} at index (31, 2) is not a finite float32")
    own = trainer()
    with pytest.raises(runtime.DataError, match=message):
        own.fit(data)
    with pytest.raises(runtime.DataError, match=message):
        own.fit(line(), validation=data)
    assert (own.steps, own.epochs) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size: expected a whole number of at least 1, got 2.5"),
        ({"epochs": -1}, "epochs: expected a whole number of at least 0, got -1"),
        ({"data": np.ones(3)}, "data: expected a dict of arrays or the path of one, got ndarray"),
        ({"validation": {}}, "input 'x', 't': missing"),
    ],
)
def test_settings_of_fit_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(runtime.DataError, match=re.escape(message)):
        trainer().fit(**{"data": line(), **settings})


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        (
            {"learning_rate": 0.1},
            "hyperparameter 'learning_rate': unknown\n  hint: hyperparameters: lr, momentum",
        ),
        ({"momentun": 0.1}, "hint: did you mean 'momentum'?"),
        ({"lr": "fast"}, "hyperparameter 'lr': expected a finite number, got 'fast'"),
        ({"lr": np.nan}, "hyperparameter 'lr': expected a finite number, got nan"),
    ],
)
def test_hyperparameters_are_checked(hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(runtime.DataError, match=re.escape(message)):
        trainer(**hyper)


# ---- Steps -----------------------------------------------------------------------------------------------


def test_steps_follow_the_update_rule_at_any_batch_size() -> None:
    own, velocity = trainer(lr=0.02), 0.0
    theta = np.append(own.params["w"], own.params["b"]).astype(np.float64)
    for size in (4, 7, 4, 1, 9, 10, 11, 4):
        data = line(size, size)
        loss, grads = runtime.loss_and_grads({"w": theta[:3], "b": theta[3]}, **data)
        assert own.step(**data) == pytest.approx(loss, rel=1e-4, abs=1e-6)
        velocity = 0.9 * velocity + np.append(grads["w"], grads["b"])
        theta -= 0.02 * velocity
    assert np.append(own.params["w"], own.params["b"]) == pytest.approx(theta, rel=1e-4)
    assert own.steps == 8


def test_a_workspace_is_planned_once_per_batch_size_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    bind = runtime._bind
    monkeypatch.setattr(runtime, "_bind", lambda *args: planned.append(args[2]["N"]) or bind(*args))
    own = trainer()
    for size in (4, 7, 4, 4, 7, 1, 4):
        own.step(**line(size))
    assert planned == [4, 7, 1]
    for size in range(10, 30):
        own.step(**line(size))
    assert len(own._workspaces) == own._crew.kept


def test_arrays_that_need_conversion_train_the_same_after_the_fast_path_was_taken() -> None:
    plain, mixed, data = trainer(), trainer(), line(6)
    wide = np.zeros((6, 6), np.float32)
    wide[:, ::2] = data["x"]
    variants = [
        data["x"],
        data["x"].tolist(),
        wide[:, ::2],
        np.asfortranarray(data["x"]),
        data["x"].astype("f8"),
    ]
    for x in variants:
        assert mixed.step(x=x, t=data["t"]) == plain.step(**data)
    assert same(plain, mixed)


def test_networks_receive_contiguous_arrays_of_their_own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    bind = runtime._bind

    def spy(*args: Any) -> Any:
        forward, loss, backward = bind(*args)
        return lambda inputs: seen.extend(inputs.values()) or forward(inputs), loss, backward

    monkeypatch.setattr(runtime, "_bind", spy)
    own = trainer()
    for x in (X, np.asfortranarray(X), X[::-1], X.astype("f8")):
        own.step(x=x, t=T[::-1])
    runtime.forward(own.params, x=X.T.copy().T)
    assert len(seen) == 9
    assert all(a.flags.c_contiguous and a.dtype == np.float32 for a in seen)


def test_the_callers_parameters_are_never_changed() -> None:
    params = runtime.init_params(1)
    before = copy.deepcopy(params)
    own = runtime.Trainer(params)
    own.fit(line(), epochs=2)
    assert all(np.array_equal(params[name], before[name]) for name in params)
    assert not np.array_equal(own.params["w"], before["w"])


def test_the_trainers_parameters_are_live_views_of_one_vector() -> None:
    own = trainer()
    own.step(**line())
    assert np.array_equal(np.append(own.params["w"], own.params["b"]), own._theta)
    assert all(v.ctypes.data % 64 == 0 for v in (own._theta, own._grad, *own._state.values()))
    own.params["w"][...], own.params["b"][...] = [1, -2, 3], 0.5
    assert own.loss(**line()) == pytest.approx(0, abs=1e-10)


def test_predict_returns_copies() -> None:
    own = trainer()
    first = own.predict(x=X)
    kept = first.copy()
    own.predict(x=-X)
    assert np.array_equal(first, kept)
    assert np.array_equal(first, runtime.forward(own.params, x=X))


def test_loss_does_not_train() -> None:
    own = trainer()
    before = copy.deepcopy(own)
    assert own.loss(**line()) == runtime.loss_fn(own.params, **line())
    assert same(own, before)


def test_hyperparameters_may_change_between_steps() -> None:
    own = trainer(lr=0.1)
    own.hyper["lr"] = 0.0
    before = own.params["w"].copy()
    own.step(**line())
    assert np.array_equal(own.params["w"], before)


def test_a_loss_that_is_not_finite_updates_nothing() -> None:
    own = trainer()
    own.step(**line(4))
    before = copy.deepcopy(own)
    bad = X.copy()
    bad[2, 1] = np.nan
    with pytest.raises(runtime.DataError, match=re.escape("input 'x': nan at index (2, 1)")):
        own.step(x=bad, t=T)
    with pytest.raises(FloatingPointError, match="loss became inf at step 2\n  hint: lower the learning rate"):
        own.step(x=X * np.float32(1e30), t=T)
    assert same(own, before)


def test_parameters_that_went_astray_are_named() -> None:
    own = trainer()
    own.params["b"][...] = np.inf
    with pytest.raises(runtime.TrainingError, match="parameter 'b' is no longer finite after step 0"):
        own.step(**line())


@pytest.mark.filterwarnings("error")
def test_overflow_is_silent_but_invalid_operations_are_not_hidden() -> None:
    own = trainer()
    with pytest.raises(runtime.TrainingError, match="loss became inf"):
        own.step(x=X * np.float32(1e30), t=T)
    own.params["b"][...] = np.inf
    with pytest.raises(RuntimeWarning, match="invalid"):
        own.loss(x=X, t=np.full_like(T, np.inf))


# ---- Fit -------------------------------------------------------------------------------------------------


def test_fit_learns_and_reports() -> None:
    own = trainer()
    history = own.fit(line(100), epochs=60, validation=line(40, seed=7))
    assert own.params["w"] == pytest.approx([1, -2, 3], abs=1e-3)
    assert set(history) == {"loss", "val_loss", "seconds"}
    assert {len(values) for values in history.values()} == {60}
    assert history["val_loss"][-1] < 1e-6 < history["val_loss"][0]
    assert (own.steps, own.epochs) == (60 * 4, 60)
    assert set(own.fit(line(), epochs=0)) == {"loss", "seconds"}


def test_fit_uses_every_sample_once_in_a_new_order_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    own, batches = trainer(lr=0.0), []
    step = own._step
    monkeypatch.setattr(own, "_step", lambda space, b: batches.append((b["x"].copy(), b["t"].copy())) or step(space, b))
    data = line(50)
    own.fit(data, epochs=2, batch_size=16)
    assert [len(t) for _, t in batches] == [16, 16, 16, 2] * 2
    orders = []
    for epoch in (batches[:4], batches[4:]):
        x, t = (np.concatenate(part) for part in zip(*epoch, strict=True))
        rows = [int(np.flatnonzero(data["t"] == value)[0]) for value in t]
        assert sorted(rows) == list(range(50))
        assert np.array_equal(data["x"][rows], x)
        orders.append(rows)
    assert orders[0] != orders[1] != list(range(50))


def test_the_loss_of_an_epoch_weighs_batches_by_size() -> None:
    own = trainer(lr=0.0)
    whole = own.loss(**line(50))
    history = own.fit(line(50), epochs=1, batch_size=16, validation=line(50))
    assert history["loss"][0] == pytest.approx(whole, rel=1e-5)
    assert history["val_loss"][0] == pytest.approx(whole, rel=1e-5)


def test_inputs_without_the_sample_axis_are_passed_whole(classifier: ModuleType, labelled: dict[str, Any]) -> None:
    own = classifier.Trainer(classifier.init_params())
    history = own.fit(labelled, epochs=60, batch_size=4)
    assert history["loss"][-1] < 0.1 < history["loss"][0]
    assert own.steps == 60 * 6


@pytest.mark.parametrize("size", [None, 50, 1000])
def test_a_full_batch_is_one_step(size: int | None) -> None:
    own, other = trainer(), trainer()
    own.fit(line(50), epochs=3, batch_size=size)
    for _ in range(3):
        other.step(**line(50))
    assert np.array_equal(own._theta, other._theta)


def test_without_a_sample_axis_the_data_are_one_batch() -> None:
    whole = program(WHOLE)
    own = whole.Trainer(whole.init_params(), lr=0.1)
    own.fit({"x": [1, 1, 1], "m": [True, True, False], "k": [0], "q": [0]}, epochs=2, batch_size=1)
    assert own.steps == 2
    assert float(own.params["a"]) == pytest.approx(0.6**2)


def test_fit_reads_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **line())
    own, other = trainer(), trainer()
    own.fit(str(tmp_path / "data.npz"), epochs=2, validation=tmp_path / "data.npz")
    other.fit(line(), epochs=2)
    assert same(own, other)


def test_fit_does_not_touch_the_data() -> None:
    data = line()
    before = copy.deepcopy(data)
    trainer().fit(data, epochs=2)
    assert all(np.array_equal(data[name], before[name]) for name in data)


def test_training_is_deterministic_and_depends_on_the_seed() -> None:
    runs = [runtime.Trainer(runtime.init_params(1), seed=seed) for seed in (0, 0, 1)]
    for run in runs:
        run.fit(line(), epochs=3, batch_size=8)
    assert same(runs[0], runs[1])
    assert not np.array_equal(runs[0]._theta, runs[2]._theta)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_fit_cut_short_leaves_the_last_completed_epoch(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    whole, cut = trainer(), trainer()
    whole.fit(line(50), epochs=2, batch_size=10)
    update = cut._update

    def fail(k: int, hyper: Any) -> None:
        update(k, hyper)
        if k == 13:
            raise error

    monkeypatch.setattr(cut, "_update", fail)
    with pytest.raises(error):
        cut.fit(line(50), epochs=5, batch_size=10)
    assert same(whole, cut)
    monkeypatch.undo()
    for own in (whole, cut):
        own.fit(line(50), epochs=3, batch_size=10)
    assert same(whole, cut)


def test_fit_that_diverges_in_its_last_step_says_so_and_steps_back() -> None:
    own = trainer(lr=3e38)
    before = copy.deepcopy(own)
    with pytest.raises(runtime.TrainingError, match="parameter 'w' is no longer finite after step 1"):
        own.fit({"x": X * 100, "t": T}, epochs=1)
    assert same(own, before)


# ---- Files -----------------------------------------------------------------------------------------------


def test_resume_is_exact(tmp_path: Path) -> None:
    straight, stopped = trainer(lr=0.01), trainer(lr=0.01)
    full = straight.fit(line(50), epochs=5, batch_size=8, validation=line(9, 3))
    first = stopped.fit(line(50), epochs=3, batch_size=8, validation=line(9, 3))
    stopped.save(tmp_path / "half")
    resumed = runtime.Trainer.load(tmp_path / "half")
    assert same(stopped, resumed)
    second = resumed.fit(line(50), epochs=2, batch_size=8, validation=line(9, 3))
    assert same(straight, resumed)
    assert first["loss"] + second["loss"] == full["loss"]
    assert first["val_loss"] + second["val_loss"] == full["val_loss"]


def test_resume_is_exact_for_several_states(classifier: ModuleType, labelled: dict[str, Any], tmp_path: Path) -> None:
    straight = classifier.Trainer(classifier.init_params(), seed=4, lr=0.03, weight_decay=0.125)
    stopped = copy.deepcopy(straight)
    straight.fit(labelled, epochs=5, batch_size=5)
    stopped.fit(labelled, epochs=3, batch_size=5)
    stopped.save(tmp_path / "half.npz")
    resumed = classifier.Trainer.load(tmp_path / "half.npz")
    resumed.fit(labelled, epochs=2, batch_size=5)
    assert same(straight, resumed)
    assert resumed.hyper == {"lr": 0.03, "beta1": 0.9, "weight_decay": 0.125}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_are_independent_and_whole(duplicate: Any) -> None:
    own = trainer(lr=0.01)
    own.fit(line(), epochs=1)
    twin = duplicate(own)
    assert same(own, twin)
    twin.fit(line(), epochs=1)
    assert not np.array_equal(own._theta, twin._theta)
    assert np.array_equal(np.append(twin.params["w"], twin.params["b"]), twin._theta)
    own.fit(line(), epochs=1)
    assert same(own, twin)


def test_a_saved_file_holds_plain_arrays_under_the_given_name(tmp_path: Path) -> None:
    own = trainer()
    own.fit(line(), epochs=1)
    own.save(str(tmp_path / "weights.v1"))
    assert os.listdir(tmp_path) == ["weights.v1"]
    with np.load(tmp_path / "weights.v1", allow_pickle=False) as file:
        assert set(file) == {"about", "parameter/w", "parameter/b", "state/velocity"}
        assert np.array_equal(file["parameter/w"], own.params["w"])
        assert json.loads(str(file["about"]))["steps"] == own.steps


def fail(*args: Any, **kwargs: Any) -> Any:
    raise OSError("the disk is full")


@pytest.mark.parametrize(("owner", "name"), [(os, "replace"), (os, "fsync"), (np, "savez")])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    path = tmp_path / "weights.npz"
    own = trainer()
    own.save(path)
    before = path.read_bytes()
    own.step(**line())
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="the disk is full"):
        own.save(path)
    assert os.listdir(tmp_path) == ["weights.npz"]
    assert path.read_bytes() == before


def test_a_save_interrupted_in_the_middle_of_the_data_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.npz"
    trainer().save(path)
    before = path.read_bytes()

    def half(file: Any, **arrays: Any) -> None:
        file.write(before[: len(before) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(KeyboardInterrupt):
        trainer().save(path)
    assert os.listdir(tmp_path) == ["weights.npz"]
    assert path.read_bytes() == before


def test_save_writes_through_links_and_spares_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    trainer().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert same(runtime.Trainer.load(tmp_path / "real"), trainer())
    with pytest.raises(runtime.DataError, match="not a regular file"):
        trainer().save(tmp_path)


def test_the_same_training_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        own = trainer()
        own.fit(line(), epochs=2)
        own.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"w": (3,)', '"w": (4,)', "it has 'parameter w (3,)' where this program has 'parameter w (4,)'"),
        ('"b": ()}', '"c": ()}', "it has 'parameter b ()' where this program has 'parameter c ()'"),
        (
            '("velocity",)',
            '("m", "v")',
            "'optimizer state velocity' where this program has 'optimizer state m'",
        ),
        ('("velocity",)', "()", "it has 'optimizer state velocity' where this program has 'network linear regression'"),
        (
            '("velocity",)',
            '("velocity", "v")',
            "it has 'network linear regression' where this program has 'optimizer state v'",
        ),
        ('"momentum"', '"nesterov"', "it has 'optimizer momentum' where this program has 'optimizer nesterov'"),
        ('"linear regression"', '"other"', "it has 'network linear regression' where this program has 'network other'"),
        ("np.float32", "np.float64", "it has 'type float32' where this program has 'type float64'"),
    ],
)
def test_a_file_of_another_network_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    trainer().save(tmp_path / "weights")
    network = SOURCE.split("# <network>\n")[1].split("# </network>")[0]
    assert old in network
    other = program(network.replace(old, new))
    with pytest.raises(other.DataError, match=re.escape(message)) as caught:
        other.Trainer.load(tmp_path / "weights")
    assert "another network or optimizer" in str(caught.value)


def altered(content: bytes, **changes: Any) -> bytes:
    """A saved file with changed entries in its description; None removes one."""
    arrays = dict(np.load(io.BytesIO(content)))
    about = json.loads(str(arrays["about"])) | changes
    arrays["about"] = np.array(json.dumps({key: value for key, value in about.items() if value is not None}))
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: b"", "not a readable .npz file"),
        (lambda content: b"some text", "not a readable .npz file"),
        (lambda content: content[:200], "not a readable .npz file"),
        (lambda content: content[:90] + b"?" + content[91:], "not a readable .npz file"),
        (lambda content: altered(content, format=2), "has format 2, not 1"),
        (lambda content: altered(content, rng=None), "not a file that Trainer.save wrote (KeyError('rng'))"),
        (
            lambda content: altered(content, rng={"bit_generator": "MT19937"}),
            "not a file that Trainer.save wrote",
        ),
        (lambda content: altered(content, signature=3), "not a file that Trainer.save wrote"),
        (lambda content: altered(content, hyper={"lr": 1, "beta": 2}), "hyperparameter 'beta': unknown"),
    ],
    ids=range(9),
)
def test_a_damaged_file_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    path = tmp_path / "weights.npz"
    trainer().save(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(runtime.DataError, match=re.escape(message)):
        runtime.Trainer.load(path)


def test_a_data_file_is_no_trainer_and_pickles_are_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **line())
    with pytest.raises(runtime.DataError, match=r"not a file that Trainer\.save wrote"):
        runtime.Trainer.load(tmp_path / "data.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), t=T)
    with pytest.raises(runtime.DataError, match=r"not a readable \.npz file of plain arrays"):
        trainer().fit(tmp_path / "objects.npz")
    np.save(tmp_path / "array.npy", T)
    with pytest.raises(runtime.DataError, match=r"not a readable \.npz file"):
        trainer().fit(tmp_path / "array.npy")
    with pytest.raises(FileNotFoundError):
        trainer().fit(tmp_path / "none.npz")


# ---- Progress --------------------------------------------------------------------------------------------


def test_progress_goes_to_stderr_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    trainer().fit(line(), epochs=2)
    assert capsys.readouterr() == ("", "")
    trainer().fit(line(), epochs=2, progress=True, validation=line())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 2
    assert all(text in err for text in ("\repoch 1/2 [", "\repoch 2/2 [" + "#" * 30 + "] loss ", "held out"))


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    trainer().fit(line(), epochs=1)
    assert "epoch 1/1" in capsys.readouterr().err
    trainer().fit(line(), epochs=1, progress=False)
    assert capsys.readouterr().err == ""


def test_an_error_starts_on_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(runtime.TrainingError):
        trainer(lr=1e9).fit(line(), epochs=9, batch_size=1, progress=True)
    assert capsys.readouterr().err.endswith("\n")


# ---- Command line ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", **line(100))
    (tmp_path / "model_train.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path


def run(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "model_train.py", *arguments.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_the_program_trains_saves_and_resumes(folder: Path) -> None:
    done = run(folder, "data.npz --epochs 3 --batch-size 16 --lr 0.02 --holdout 0.2 --save a.npz")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"loss: \S+\nheld-out loss: \S+\nsaved: a.npz\n", done.stdout)
    rest = ["--batch-size", "16", "--holdout", "0.2"]
    assert (
        runtime.main(
            [
                f"{folder}/data.npz",
                "--epochs",
                "2",
                f"--resume={folder}/a.npz",
                f"--save={folder}/b.npz",
                *rest,
            ]
        )
        == 0
    )
    assert runtime.main([f"{folder}/data.npz", "--epochs", "5", "--lr", "0.02", f"--save={folder}/c.npz", *rest]) == 0
    assert (folder / "b.npz").read_bytes() == (folder / "c.npz").read_bytes()
    resumed = runtime.Trainer.load(folder / "b.npz")
    assert (resumed.epochs, resumed.hyper) == (5, {"lr": 0.02, "momentum": 0.9})


def test_resume_takes_new_hyperparameters_and_keeps_the_others(folder: Path) -> None:
    trainer(lr=0.25, momentum=0.5).save(folder / "a")
    assert runtime.main([f"{folder}/data.npz", f"--resume={folder}/a", f"--save={folder}/b", "--lr", "0.001"]) == 0
    assert runtime.Trainer.load(folder / "b").hyper == {"lr": 0.001, "momentum": 0.5}


def test_the_held_out_samples_take_no_part_in_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = line(100)
    kept, held = runtime._hold_out(data, 0.2, 0)
    assert held is not None
    assert (len(kept["t"]), len(held["t"])) == (80, 20)
    assert sorted([*kept["t"], *held["t"]]) == sorted(data["t"])
    assert set(held["t"]) != set((runtime._hold_out(data, 0.2, 1)[1] or {})["t"])
    for part in (kept, held):
        rows = [int(np.flatnonzero(data["t"] == value)[0]) for value in part["t"]]
        assert np.array_equal(part["x"], data["x"][rows])
    used = []
    step = runtime.Trainer._step
    monkeypatch.setattr(
        runtime.Trainer, "_step", lambda own, space, b: used.extend(b["t"].tolist()) or step(own, space, b)
    )
    assert runtime.main([f"{folder}/data.npz", "--holdout", "0.2", "--epochs", "2"]) == 0
    assert set(used) == set(kept["t"].tolist())
    assert "held-out loss: " in capsys.readouterr().out


def test_the_seed_decides_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for seed in "001":
        assert runtime.main([f"{folder}/data.npz", "--seed", seed, "--epochs", "1", "--holdout", "0.3"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_the_program_trains_as_the_trainer_does(folder: Path) -> None:
    own = runtime.Trainer(runtime.init_params(3), seed=3)
    own.fit(line(100), epochs=2, batch_size=16)
    options = ["--seed", "3", "--epochs", "2", "--batch-size", "16", f"--save={folder}/a"]
    assert runtime.main([f"{folder}/data.npz", *options]) == 0
    assert same(own, runtime.Trainer.load(folder / "a"))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("", 2, "the following arguments are required: data"),
        ("data.npz --epochs many", 2, "argument --epochs: invalid int value"),
        ("data.npz --seed -1", 2, "argument --seed: must not be negative"),
        ("data.npz --epochs -1", 1, "DataError: epochs: expected a whole number"),
        ("data.npz --lr nan", 1, "DataError: hyperparameter 'lr': expected a finite number"),
        ("data.npz --holdout 1.5", 1, "DataError: holdout: cannot hold out 1.5 of 100 samples"),
        ("none.npz", 1, "FileNotFoundError: "),
        ("data.npz --resume data.npz", 1, "not a file that Trainer.save wrote"),
        ("data.npz --lr 1e30", 1, "TrainingError: "),
        ("data.npz --save none/a.npz", 1, "there is no such directory"),
        ("data.npz --save data.npz", 1, "is the file with the data"),
    ],
)
def test_errors_are_one_message_without_a_traceback(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert runtime.main(arguments.split()) == status
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert "saved" not in out
    assert sorted(os.listdir(folder)) == ["data.npz", "model_train.py"]


def test_help_lists_the_inputs_and_the_hyperparameters(
    classifier: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classifier.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "the arrays x, scale, t" in out
    assert all(option in out for option in ("--lr NUMBER", "--beta1 NUMBER", "--weight-decay NUMBER"))


def test_an_option_with_a_dash_reaches_its_hyperparameter(
    classifier: ModuleType, labelled: dict[str, Any], tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **labelled)
    save = f"--save={tmp_path}/a"
    assert classifier.main([f"{tmp_path}/data.npz", "--epochs=1", "--weight-decay=0.5", save]) == 0
    assert classifier.Trainer.load(tmp_path / "a").hyper["weight_decay"] == 0.5


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interrupt_saves_the_last_completed_epoch(folder: Path) -> None:
    code = SOURCE.replace("        self.epochs += 1\n", "        self.epochs += 1\n        print('done', flush=True)\n")
    (folder / "model_train.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "model_train.py", "data.npz", "--epochs", "1000000", "--save", "a.npz"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    epochs = int(re.fullmatch(r"interrupted; epochs completed: (\d+)\n", err)[1])  # type: ignore[index]
    assert out.endswith("saved: a.npz\n")
    stopped = runtime.Trainer.load(folder / "a.npz")
    assert (stopped.epochs, stopped.steps) == (epochs, epochs * 4)
    again = runtime.Trainer(runtime.init_params(0))
    again.fit(line(100), epochs=epochs)
    assert same(again, stopped)


def test_a_resumed_training_holds_out_the_same_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, saved = str(tmp_path / "data.npz"), str(tmp_path / "saved.npz")
    np.savez(data, **line(40))
    assert runtime.main([data, "--epochs", "3", "--seed", "5", "--holdout", "0.3", "--save", saved]) == 0
    first = capsys.readouterr().out.splitlines()[1]
    assert runtime.main([data, "--epochs", "0", "--holdout", "0.3", "--resume", saved]) == 0
    assert capsys.readouterr().out.splitlines()[1] == first
    assert runtime.main([data, "--epochs", "0", "--seed", "6", "--resume", saved]) == 1
    assert "the resumed training has seed 5" in capsys.readouterr().err


def test_a_division_by_zero_in_the_update_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    own = trainer()
    monkeypatch.setattr(own, "_update", lambda step, hyper: 1 / 0)
    with pytest.raises(runtime.TrainingError, match="check the hyperparameters"):
        own.step(**line(4))
