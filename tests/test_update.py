"""The optimizers of the fast style: the same numbers as the tables say, in fewer passes, at any change of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symgrad.emit.scaling import scaled
from symgrad.emit.update import _calls, in_place, update_lines
from symgrad.optimizers import OPTIMIZERS, Optimizer, beta1, eps, g, lr, m, momentum, theta, v, velocity, weight_decay

PASSES = {"sgd": 2, "momentum": 4, "nesterov": 6, "rmsprop": 8, "adagrad": 7, "adam": 10, "adamw": 11}
OTHERS = [
    Optimizer(
        "lion",
        {
            theta: theta - lr * (sp.sign(beta1 * m + (1 - beta1) * g) + weight_decay * theta),
            m: beta1 * m + (1 - beta1) * g,
        },
        {"lr": 0.01, "beta1": 0.9, "weight_decay": 0.1},
        "a step of fixed length",
    ),
    Optimizer(
        "coupled",
        {velocity: momentum * velocity + (1 - momentum) * (g + weight_decay * theta), theta: theta - lr * velocity},
        {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1},
        "decay within the average",
    ),
    Optimizer(
        "largest",
        {v: sp.Max(v, abs(g)), theta: theta - 3 * lr * g / (2 * v + eps)},
        {"lr": 0.1, "eps": 1e-3},
        "an infinity norm",
    ),
]
TABLES = {o.name: o for o in (*OPTIMIZERS.values(), *OTHERS)}


def emitted(optimizer: Optimizer, style: str, dtype: Any) -> dict[str, Any]:
    source = "from __future__ import annotations\nimport math\nimport numpy as np\n"
    names: dict[str, Any] = {"DTYPE": dtype}
    exec(compile(source + "\n".join(update_lines(optimizer, style)), "update", "exec"), names)
    return names


class Run:
    """An optimizer's vectors, updated step by step."""

    def __init__(self, optimizer: Optimizer, style: str, dtype: Any, size: int = 37) -> None:
        self.names, self.style = emitted(optimizer, style, dtype), style
        self.theta = np.linspace(-1, 1, size).astype(dtype)
        self.grad = np.zeros(size, dtype)
        self.state = {s: np.zeros(size, dtype) for s in optimizer.state}
        if style == "fast":
            self.scalars = np.zeros(self.names["SCALARS"], dtype)
            scratch = np.full((self.names["SCRATCH"], size), np.nan, dtype)
            self.update = self.names["_bind_update"](self.theta, self.grad, self.state, self.scalars, scratch)
        else:
            self.update = self.names["_bind_update"](self.theta, self.grad, self.state)

    def step(self, k: int, hyper: Mapping[str, float], grad: Any) -> None:
        self.grad[...] = grad
        if self.style == "fast":
            self.scalars[...] = self.names["_scalars"](k, hyper)
            self.update()
        else:
            self.update(k, hyper)

    def true_state(self, hyper: Mapping[str, float]) -> list[Any]:
        scale = self.names["_state_scale"](hyper) if self.style == "fast" else [1.0] * len(self.state)
        return [c * vector for c, vector in zip(scale, self.state.values(), strict=True)]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 3e-6)])
def test_both_styles_compute_the_same(name: str, dtype: Any, tolerance: float) -> None:
    optimizer = TABLES[name]
    fast, readable = Run(optimizer, "fast", dtype), Run(optimizer, "readable", dtype)
    rng = np.random.default_rng(0)
    for k in range(1, 30):
        grad = rng.normal(size=37)
        for run in (fast, readable):
            run.step(k, optimizer.defaults, grad)
        assert np.array_equal(fast.grad, grad.astype(dtype))  # a gradient may be read after the step
    np.testing.assert_allclose(fast.theta, readable.theta, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(fast.true_state(optimizer.defaults), readable.state.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PASSES)
def test_the_fewest_passes(name: str) -> None:
    optimizer = OPTIMIZERS[name]
    form = scaled(optimizer, lambda form: len(_calls(form, optimizer)))
    calls = _calls(form, optimizer)
    assert len(calls) == PASSES[name]
    memory = in_place(calls, ["theta", "grad", *optimizer.state])
    assert len({name for name in memory.values() if name.startswith("t") and name != "theta"}) == 1


def test_a_state_is_scaled_only_where_it_saves_a_pass() -> None:
    for name, scale in {"adam": ["1 - beta1", "1 - beta2"], "rmsprop": ["1 - rho"], "momentum": ["1"]}.items():
        form = scaled(OPTIMIZERS[name], lambda form, o=OPTIMIZERS[name]: len(_calls(form, o)))  # type: ignore[misc]
        assert [str(value) for value in form.scale.values()] == scale


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(TABLES)))
def test_random_hyperparameters(seed: int, name: str) -> None:
    optimizer, rng = TABLES[name], np.random.default_rng(seed)
    hyper = {key: float(rng.uniform(0.01, 0.99)) for key in optimizer.defaults}
    fast, readable = Run(optimizer, "fast", np.float64), Run(optimizer, "readable", np.float64)
    for k in range(1, 6):
        grad = rng.normal(size=37) * 10.0 ** rng.integers(-3, 3)
        fast.step(k, hyper, grad)
        readable.step(k, hyper, grad)
    np.testing.assert_allclose(fast.theta, readable.theta, rtol=1e-11, atol=1e-12)


def test_a_value_on_the_way_never_overwrites_what_is_still_read() -> None:
    """At each call every operand still stands where it was put."""
    for optimizer in TABLES.values():
        form = scaled(optimizer, lambda form, o=optimizer: len(_calls(form, o)))  # type: ignore[misc]
        calls = _calls(form, optimizer)
        memory = in_place(calls, ["theta", "grad", *optimizer.state])
        holds = {name: name for name in ("theta", "grad", *optimizer.state)}
        for call in calls:
            for view in call.reads():
                assert holds[memory[view.array]] == view.array, (optimizer.name, call)
            assert call.out is not None
            holds[memory[call.out.array]] = call.out.array
