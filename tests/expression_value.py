"""Expressions evaluated by NumPy itself, data for their variables, and central differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from symgrad.expression import Problem

Arrays = dict[str, np.ndarray]

SIZES = {"m": 4, "n": 3, "p": 2, "q": 5}
_ENTRYWISE = "abs cos exp log maximum minimum sign sin sqrt tanh"
_WHOLE = "dot kron mean outer prod sum trace"
_LINALG = "det inv matrix_power pinv solve"
_NAMES: dict[str, Any] = {name: getattr(np, name) for name in f"{_ENTRYWISE} {_WHOLE}".split()}
_NAMES |= {name: getattr(np.linalg, name) for name in _LINALG.split()}
_NAMES |= {
    "diag": np.diag,
    "eye": np.eye,
    "eigvalsh": lambda x: np.linalg.eigvalsh((x + x.T) / 2),
    "logdet": lambda x: np.linalg.slogdet(x)[1],
    "logsumexp": lambda x: np.log(np.sum(np.exp(x))),
    "norm1": lambda x: np.abs(x).sum(),
    "norm2": lambda x: np.sqrt((x**2).sum()),
    "normfro": lambda x: np.sqrt((x**2).sum()),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(),
    "vec": lambda x: x.ravel("F"),
}


def computed(expression: str, arrays: Mapping[str, Any]) -> np.ndarray:
    """What NumPy makes of the expression."""
    return np.asarray(eval(expression, {"__builtins__": {}}, _NAMES | dict(arrays)))


def drawn(problem: Problem, rng: np.random.Generator, sizes: Mapping[str, int] | int = SIZES) -> Arrays:
    """Values for the variables: square matrices well conditioned, with the properties that they have.

    A dimension without a size in `sizes` has that of "n"; a number stands for every dimension.
    """
    return {name: _array(v.shape, v.properties, rng, sizes) for name, v in problem.variables.items()}


def _array(shape: Any, properties: Any, rng: np.random.Generator, sizes: Mapping[str, int] | int) -> np.ndarray:
    def size(extent: Any) -> int:
        known = {s: sizes if isinstance(sizes, int) else sizes.get(s.name, sizes["n"]) for s in extent.free_symbols}
        return int(extent.xreplace(known))

    array = rng.uniform(-1, 1, [size(n) for n in shape])
    if array.ndim == 2 and array.shape[0] == array.shape[1]:
        array = array / 2 + 2 * np.eye(len(array))
    return (array + array.T) / 2 if "symmetric" in properties else array


def differences(expression: str, wrt: str, arrays: Mapping[str, np.ndarray], step: float = 1e-4) -> np.ndarray:
    """J[..., r...] = ∂ value[...] / ∂ variable[r...] by central differences of the fourth order."""
    point = np.asarray(arrays[wrt], float)
    columns = []
    for place in np.ndindex(*point.shape):
        move = np.zeros_like(point)
        move[place] = step
        near, far = (
            computed(expression, {**arrays, wrt: point + k * move})
            - computed(expression, {**arrays, wrt: point - k * move})
            for k in (1, 2)
        )
        columns.append((8 * near - far) / (12 * step))
    found = np.array(columns)
    return np.moveaxis(found, 0, -1).reshape(found.shape[1:] + point.shape)
