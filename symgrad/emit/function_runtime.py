"""The gradient of a sum of squares, 2 Aᵀ (A x − b).

The part between the two markers is one function; everything below it works for any function that defines the same
names. Only NumPy and the standard library are needed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

# <function>
ARGUMENTS: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "A": ("float", ("m", "n")),
    "x": ("float", ("n",)),
    "b": ("float", ("m",)),
}
RANGES: dict[str, tuple[int, int]] = {}
DIM_EXPRESSIONS: dict[str, Callable[[dict[str, int]], int]] = {}
RESULTS: tuple[str, ...] = ("gradient",)
DERIVATIVES: dict[str, str] = {"gradient": "x"}
PROPERTIES: dict[str, tuple[str, ...]] = {}


def value(A, x, b):  # type: ignore[no-untyped-def]
    A, x, b = _checked(A=A, x=x, b=b)
    r = A @ x - b
    return float(r @ r)


def gradient(A, x, b):  # type: ignore[no-untyped-def]
    """2 Aᵀ (A x − b)"""
    A, x, b = _checked(A=A, x=x, b=b)
    return 2 * (A.T @ (A @ x - b))


FUNCTION: Callable[..., Any] = gradient
VALUE: Callable[..., Any] = value
# </function>

_KINDS = {  # the dtype of an argument, and the kinds of dtype that are converted to it
    "float": (np.dtype(np.float64), "biuf"),
    "int64": (np.dtype(np.int64), "biu"),
    "bool": (np.dtype(np.bool_), "b"),
}


def _checked(**given: Any) -> list[Array]:
    """The arguments as arrays of float64, int64 or bool, their shapes checked against each other.

    Raises:
        TypeError: an array has a dtype that cannot be converted.
        ValueError: the shapes do not fit.
        IndexError: an integer is beyond the axis that it indexes.
    """
    arrays = {name: _array(name, value) for name, value in given.items()}
    _sizes(arrays)
    for name, (low, high) in RANGES.items():
        array = arrays.get(name, np.zeros(0))
        if array.size and not low <= array.min() <= array.max() < high:
            raise IndexError(f"{name} must hold whole numbers from {low} to {high - 1}: it counts from 0")
    return list(arrays.values())


def _array(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths, for instance
        raise ValueError(f"{name} cannot be made an array: {error}") from None
    dtype, kinds = _KINDS[ARGUMENTS[name][0]]
    if array.dtype.kind not in kinds and array.size:
        raise TypeError(f"{name} must hold {dtype}, got {array.dtype}")
    return np.asarray(array, dtype)


def _sizes(arrays: Mapping[str, Array]) -> dict[str, int]:
    """The size that each symbol stands for. Raises ValueError where an array does not agree."""
    sizes: dict[str, int] = {}
    told: dict[str, str] = {}  # symbol -> the argument that says its size
    for name, array in arrays.items():
        shape = ARGUMENTS[name][1]
        if array.ndim != len(shape):
            raise ValueError(f"{name} must be {_text(shape)}, got {array.shape}")
        for axis, size in zip(shape, array.shape, strict=True):
            if isinstance(axis, str) and axis not in sizes and axis not in DIM_EXPRESSIONS:
                sizes[axis], told[axis] = size, name
    for name, array in arrays.items():
        shape = ARGUMENTS[name][1]
        wanted = tuple(_size(axis, sizes) for axis in shape)
        if array.shape != wanted:
            others = dict.fromkeys(told[s] for s in told if s in " ".join(map(str, shape)) and told[s] != name)
            known = "".join(f"; {other} is {arrays[other].shape}, {_text(ARGUMENTS[other][1])}" for other in others)
            raise ValueError(f"{name} must be {_text(shape)} = {wanted}, got {array.shape}{known}")
    return sizes


def _size(axis: int | str, sizes: dict[str, int]) -> int:
    if isinstance(axis, int):
        return axis
    return sizes[axis] if axis in sizes else DIM_EXPRESSIONS[axis](sizes)


def _text(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


# <check>

# ---- Comparison of the derivatives with central differences ----------------------------------------------

_STEP = 6e-6  # about the cube root of the rounding error, where central differences are most accurate
_ENTRIES = 300  # of an argument, moved one at a time


def check(arguments: Mapping[str, Any], seed: int = 0) -> bool:
    """Compare each derivative with central differences at these arguments; print a table. True if all agree."""
    given = dict(zip(ARGUMENTS, _checked(**{name: arguments[name] for name in ARGUMENTS}), strict=True))
    found = _results(given)
    print(f"{'derivative':16}{'by':10}{'entries':>14}{'largest error':>16}{'allowed':>12}")
    passed = True
    for label, name in DERIVATIVES.items():
        error, allowed, count = _compare(found[label], given, name, np.random.default_rng(seed))
        fits = bool(error <= allowed and (count or not given[name].size))
        passed &= fits
        entries = f"{count} of {given[name].size}"
        print(f"{label:16}{name:10}{entries:>14}{error:16.2e}{allowed:12.2e}  {'ok' if fits else 'WRONG'}")
    return passed


def _results(arguments: Arrays) -> Arrays:
    """The function's results as arrays, by label."""
    found = FUNCTION(**arguments)
    return dict(zip(RESULTS, map(np.asarray, found if len(RESULTS) > 1 else [found]), strict=True))


def _compare(derivative: Array, arguments: Arrays, name: str, random: np.random.Generator) -> tuple[float, float, int]:
    """The largest error, how much of it is rounding at most, and how many entries of the argument were moved.

    An entry where the value has different slopes to the left and to the right is left out: a kink.
    """
    x, start = arguments[name], np.asarray(VALUE(**arguments), float)
    symmetric = bool(PROPERTIES.get(name))
    if symmetric:  # entries are moved in pairs
        derivative = (derivative + np.swapaxes(derivative, -1, -2)) / 2
    chosen = random.permutation(x.size)[:_ENTRIES]
    error, scale, moved = 0.0, float(np.abs(derivative).max(initial=0)), 0
    for place in chosen:
        index = tuple(map(int, np.unravel_index(place, x.shape)))
        step = _STEP * max(1.0, abs(float(x[index])))
        move = np.zeros(x.shape)
        move[index] = step
        if symmetric:
            move = (move + move.T) / 2
        above, below = (np.asarray(VALUE(**arguments | {name: x + sign * move}), float) for sign in (1, -1))
        slope = (above - below) / (2 * step)
        bend = np.abs(above - 2 * start + below) / step
        if (bend > 1e-2 * np.maximum(1, np.abs(slope))).any():
            continue
        moved += 1
        entry: Any = (..., *index)
        scale = max(scale, float(np.abs(slope).max(initial=0)))
        error = max(error, float(np.abs(derivative[entry] - slope).max(initial=0)))
        error = error if np.isfinite(slope).all() and np.isfinite(derivative).all() else math.inf
    return error, 1e-6 * scale + 1e-8 * max(1.0, float(np.abs(start).max(initial=0))), moved


def random_arguments(sizes: Mapping[str, int] | None = None, seed: int = 0) -> Arrays:
    """Arguments for which the function and its value are finite. Raises ValueError if none are found."""
    random = np.random.default_rng(seed)
    dims = _small_sizes(sizes or {})
    for positive, definite in ((False, False), (True, False), (False, True), (True, True)):
        drawn = {name: _drawn(name, dims, random, positive, definite) for name in ARGUMENTS}
        try:
            with np.errstate(all="ignore"):
                results = [*_results(drawn).values(), np.asarray(VALUE(**drawn))]
        except np.linalg.LinAlgError:
            continue
        if all(np.isfinite(result).all() for result in results):
            return drawn
    raise ValueError("no random arguments give finite results; name a file with arguments")


def _drawn(name: str, sizes: dict[str, int], random: np.random.Generator, positive: bool, definite: bool) -> Array:
    dtype, axes = ARGUMENTS[name]
    shape = tuple(_size(axis, sizes) for axis in axes)
    properties = PROPERTIES.get(name, ())
    if dtype == "bool":
        return random.random(shape) < 0.5
    if dtype == "int64":
        return random.integers(0, RANGES.get(name, (0, min([3, *sizes.values()])))[1], shape)
    drawn: Array = np.asarray(random.uniform(0.1, 0.9, shape) if positive else random.normal(size=shape))
    if "positive definite" in properties or (definite and len(shape) == 2 and shape[0] == shape[1]):
        return drawn @ drawn.T + shape[0] * np.eye(shape[0])
    return (drawn + drawn.T) / 2 if "symmetric" in properties else drawn


def _small_sizes(wanted: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the symbols: those that are wanted, else small and distinct ones for which every axis is a size."""
    axes = [axis for _, shape in ARGUMENTS.values() for axis in shape]
    symbols = sorted({axis for axis in axes if isinstance(axis, str) and axis not in DIM_EXPRESSIONS})
    if unknown := sorted(wanted.keys() - set(symbols)):
        raise ValueError(f"there is no size {unknown[0]}; there are: {', '.join(symbols) or 'none'}")
    for start, step in ((3, 1), (6, 2), (8, 4), (12, 12), (16, 16)):
        sizes = {symbol: wanted.get(symbol, start + step * k) for k, symbol in enumerate(symbols)}
        if all(_size(axis, sizes) >= 1 for axis in axes):
            return sizes
    raise ValueError("no small sizes fit; give them with --dims")


def _dimension(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    return name, int(size)


def main(argv: list[str] | None = None) -> int:
    """Check the derivatives from the command line. Returns 0 if they agree, else 1; 2 for wrong usage."""
    from argparse import ArgumentParser

    parser = ArgumentParser(description="Compare the derivatives with central differences.")
    parser.add_argument("arguments", nargs="?", help=f"an .npz file with {', '.join(ARGUMENTS)}; random without")
    parser.add_argument("--seed", type=int, default=0, help="of the random arguments (default 0)")
    parser.add_argument("--dims", type=_dimension, nargs="+", default=[], metavar="n=5", help="their sizes")
    options = parser.parse_args(argv)
    try:
        if options.arguments:
            with np.load(options.arguments, allow_pickle=False) as file:
                arguments = {name: file[name] for name in ARGUMENTS}
        else:
            arguments = random_arguments(dict(options.dims), options.seed)
        return 0 if check(arguments, options.seed) else 1
    except (ValueError, TypeError, LookupError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
# </check>
