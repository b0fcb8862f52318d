"""Random points, and what two candidates are worth there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from symgrad.equations import System
from symgrad.errors import VerifyError
from symgrad.evaluate.dims import Dims
from symgrad.evaluate.draw import choose_sizes, draw
from symgrad.evaluate.numbers import Array
from symgrad.evaluate.reference import evaluate
from symgrad.grade.problem import Candidate
from symgrad.grade.result import Counterexample

PRECISE, FAST = "mp", "float64"
TOLERANCE = {PRECISE: 1e-35, FAST: 1e-9}


@dataclass(frozen=True)
class Point:
    """Data for a network.

    Attributes:
        dims, seed: the sizes of the named dimensions, and what the data were drawn with.
        values: the arrays of inputs and parameters.
    """

    dims: Mapping[str, int]
    seed: int
    values: Mapping[str, Array]

    def value(self, candidate: Candidate, number: str = FAST) -> Array:
        """The candidate here."""
        known = [name for name in candidate.system.leaves if name in self.values]  # these tell the dimensions
        return evaluate(candidate.system, self.values, number, [candidate.name, *known])[candidate.name]

    def tensors(self, system: System, number: str = FAST) -> dict[str, Array]:
        """All tensors of the system here."""
        return evaluate(system, self.values, number)


def draw_points(system: System, name: str, count: int) -> list[Point]:
    """Points of different sizes at which a tensor of the system is finite.

    Raises VerifyError if it is finite neither for normal numbers nor for positive ones.
    """
    return [_point(system, name, seed) for seed in range(count)]


def _point(system: System, name: str, seed: int) -> Point:
    names = set(system.leaves) | system.needed_for([name])
    sizes = _sizes(system, names, seed)
    for positive in (False, True):
        values = draw(system, names, sizes, seed, {}, positive)
        point = Point(sizes, seed, values)
        if np.isfinite(point.value(Candidate(system, name))).all():
            return point
    raise VerifyError(f"{name!r} is not finite at the random points that were tried")


def _sizes(system: System, names: set[str], step: int) -> dict[str, int]:
    """Sizes that fit the network; other ones for another step, the third well apart, where those fit too."""
    first = choose_sizes(system, names, Dims(), {})
    plain = {str(symbol): size for symbol, size in sorted(first.sizes.items(), key=str)}
    larger = {symbol: size + step**3 * (k + 1) for k, (symbol, size) in enumerate(plain.items())}
    try:
        choose_sizes(system, names, Dims(), larger)
    except VerifyError:
        return plain
    return larger


def agree(expected: Array, got: Array, tolerance: float = TOLERANCE[FAST]) -> bool:
    """Whether two arrays are of the same shape and equal within a relative tolerance."""
    return expected.shape == got.shape and deviation(expected, got) <= tolerance


def deviation(expected: Array, got: Array) -> float:
    """The largest difference of two arrays of one shape, relative to the largest entry of either."""
    if not expected.size:
        return 0.0
    scale = max(_largest(expected), _largest(got))
    error = _largest(expected - got)
    return error / scale if scale and np.isfinite(scale) else error


def _largest(array: Array) -> float:
    """The largest absolute value; inf if one is not finite."""
    values = np.asarray(np.abs(array), dtype=float)
    return float(np.where(np.isfinite(values), values, np.inf).max())


def counterexample(point: Point, expected: Array, got: Array) -> Counterexample:
    """The entry that differs most, or the shapes where those differ."""
    if expected.shape != got.shape:
        return Counterexample(point.dims, point.seed, point.values, None, expected.shape, got.shape)
    error = np.asarray(np.abs(expected - got), dtype=float)
    place = np.unravel_index(int(np.argmax(np.where(np.isfinite(error), error, np.inf))), expected.shape)
    index = tuple(map(int, place))
    values = float(expected[index]), float(got[index])
    return Counterexample(point.dims, point.seed, point.values, index, *values)
