"""Elementwise ops: a scalar body under NumPy broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from symgrad.index.parser import Operand
from symgrad.ops.registry import Attribute, Case, binary, register, unary


def _vectorised(function: Callable[[float], float]) -> Callable[[Any], Any]:
    return np.vectorize(function, otypes=[float])


_erf, _erfc = _vectorised(math.erf), _vectorised(math.erfc)


def _sigmoid(x: Any) -> Any:
    return np.exp(-np.logaddexp(0, -x))


FAR = (-1e4, -800.0, -30.0, 0.0, 30.0, 800.0, 1e4)
KINK = (-800.0, -1.0, 0.0, 1.0, 800.0)
POSITIVE = (0.1, 5.0)

register("add", "Y[...] = A[...] + B[...]", cases=binary(np.add))
register("subtract", "Y[...] = A[...] - B[...]", cases=binary(np.subtract))
register("multiply", "Y[...] = A[...] * B[...]", cases=binary(np.multiply))
register("divide", "Y[...] = A[...] / B[...]", cases=binary(np.divide, POSITIVE))
register("power", "Y[...] = A[...] ** B[...]", cases=binary(np.power, POSITIVE))
register("maximum", "Y[...] = maximum(A[...], B[...])", cases=binary(np.maximum))
register("minimum", "Y[...] = minimum(A[...], B[...])", cases=binary(np.minimum))
register("negative", "Y[...] = -X[...]", cases=[unary(np.negative)])

register("exp", "Y[...] = exp(X[...])", cases=[unary(np.exp, at=[-800, 0, 700])])
register("log", "Y[...] = log(X[...])", cases=[unary(np.log, at=[1e-300, 1, 1e300], domain=POSITIVE)])
register("log1p", "Y[...] = log1p(X[...])", cases=[unary(np.log1p, at=[-0.5, 1e-18, 1e10], domain=POSITIVE)])
register("expm1", "Y[...] = expm1(X[...])", cases=[unary(np.expm1, at=[-800, -1e-18, 0, 1e-18, 700])])
register("sqrt", "Y[...] = sqrt(X[...])", cases=[unary(np.sqrt, at=[1e-300, 1, 1e300], domain=POSITIVE)])
register("rsqrt", "Y[...] = rsqrt(X[...])", cases=[unary(lambda x: x**-0.5, at=[1e-10, 1e10], domain=POSITIVE)])
register("square", "Y[...] = X[...] ** 2", cases=[unary(np.square, at=[0])])
register("abs", "Y[...] = abs(X[...])", cases=[unary(np.abs, at=KINK)])
register("sign", "Y[...] = sign(X[...])", cases=[unary(np.sign, at=KINK)])
register("sin", "Y[...] = sin(X[...])", cases=[unary(np.sin, at=[0, 100])])
register("cos", "Y[...] = cos(X[...])", cases=[unary(np.cos, at=[0, 100])])
register("tanh", "Y[...] = tanh(X[...])", cases=[unary(np.tanh, at=FAR)])
register("sigmoid", "Y[...] = sigmoid(X[...])", cases=[unary(_sigmoid, at=FAR)])
register("softplus", "Y[...] = softplus(X[...])", cases=[unary(lambda x: np.logaddexp(0, x), at=FAR)])
register("erf", "Y[...] = erf(X[...])", cases=[unary(_erf, at=[-30, -1, -1e-10, 0, 0.4, 2, 5, 30])])
register("relu", "Y[...] = where(X[...] > 0, X[...], 0)", cases=[unary(lambda x: x * (x > 0), at=KINK)])
register("silu", "Y[...] = X[...] * sigmoid(X[...])", cases=[unary(lambda x: x * _sigmoid(x), at=FAR)])


def _leaky_relu(x: Operand, slope: float) -> str:
    """Y[...] = where(X[...] > 0, X[...], slope*X[...])"""
    return f"Y[...] = where(X[...] > 0, X[...], {slope!r}*X[...])"


def _elu(x: Operand, alpha: float) -> str:
    """Y[...] = where(X[...] > 0, X[...], alpha*expm1(X[...])); the exponential sees min(x, 0) only"""
    return f"Y[...] = where(X[...] > 0, X[...], {alpha!r}*expm1(where(X[...] > 0, 0, X[...])))"


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

register(
    "leaky_relu",
    _leaky_relu,
    operands=["X"],
    attributes={"slope": Attribute("float", 0.01)},
    cases=[
        unary(lambda x: np.where(x > 0, x, 0.01 * x), at=KINK),
        unary(lambda x: np.where(x > 0, x, x / 4), slope=0.25),
    ],
)
register(
    "elu",
    _elu,
    operands=["X"],
    attributes={"alpha": Attribute("float", 1.0)},
    cases=[
        unary(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), at=KINK),
        unary(lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))), alpha=0.5),
    ],
)
register(
    "selu",
    f"Y[...] = {_SELU_SCALE}*where(X[...] > 0, X[...], {_SELU_ALPHA}*expm1(where(X[...] > 0, 0, X[...])))",
    cases=[unary(lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))), at=KINK)],
)


def _gelu(x: Operand, approximate: str) -> str:
    """Y[...] = X[...]*erfc(-X[...]/sqrt(2))/2, or the tanh form of Hendrycks and Gimpel (2016)"""
    if approximate == "tanh":
        return "Y[...] = X[...]/2*(1 + tanh(sqrt(2/pi)*(X[...] + 0.044715*X[...]**3)))"
    return "Y[...] = X[...]*erfc(-X[...]/sqrt(2))/2"


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


register(
    "gelu",
    _gelu,
    operands=["X"],
    attributes={"approximate": Attribute("none|tanh", "none")},
    cases=[
        unary(lambda x: 0.5 * x * _erfc(-x / math.sqrt(2)), at=[-30, -8, -1, 0, 1, 8, 30]),
        unary(_gelu_tanh, at=[-30, 0, 30], approximate="tanh"),
    ],
)


def _clip(x: Operand, low: float | None, high: float | None) -> str:
    """Y[...] = where(X[...] < low, low, where(X[...] > high, high, X[...]))"""
    text = "X[...]"
    text = text if high is None else f"where(X[...] > {high!r}, {high!r}, {text})"
    text = text if low is None else f"where(X[...] < {low!r}, {low!r}, {text})"
    return f"Y[...] = {text}"


register(
    "clip",
    _clip,
    operands=["X"],
    attributes={"low": Attribute("optional float", None), "high": Attribute("optional float", None)},
    cases=[
        unary(lambda x: np.clip(x, -0.5, 0.75), at=[-800, 800], low=-0.5, high=0.75),
        unary(lambda x: np.maximum(x, 0.1), low=0.1),
    ],
)

for _name, _sign, _reference in (
    ("greater", ">", np.greater),
    ("greater_equal", ">=", np.greater_equal),
    ("less", "<", np.less),
    ("less_equal", "<=", np.less_equal),
    ("equal", "==", np.equal),
    ("not_equal", "!=", np.not_equal),
):
    register(_name, f"Y[...] = A[...] {_sign} B[...]", cases=binary(_reference))

register(
    "where",
    "Y[...] = where(C[...], A[...], B[...])",
    cases=[Case(np.where, (np.array([[True, False, True], [False, False, True]]), (2, 3), (3,)))],
)


def _dropout(x: Operand, mask: Operand, rate: float) -> str:
    """Y[...] = X[...]*M[...]/(1 - rate), with M a 0/1 mask in training, 1 - rate everywhere in prediction"""
    return f"Y[...] = X[...]*M[...]/(1 - {rate!r})"


register(
    "dropout",
    _dropout,
    operands=["X", "M"],
    attributes={"rate": Attribute("rate", 0.5)},
    cases=[Case(lambda x, m: x * m / 0.75, ((2, 3), np.array([1.0, 0.0, 1.0])), {"rate": 0.25})],
)
