"""The problem as it stands, and then with the rows of one target after the other taken to sum to 1.

The gradient of a cross-entropy is p - t only where each row of t sums to 1, as one-hot rows and probabilities do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np

from symgrad.evaluate.numbers import Array
from symgrad.grade.points import Point, counterexample, draw_points
from symgrad.grade.problem import Problem
from symgrad.grade.result import DIFFERENT, Finding, Grade
from symgrad.pipeline import derive


class Cases:
    """All cases of one network, made when they are needed.

    Args:
        count: how many points are drawn for each.
    """

    def __init__(self, graph: nx.MultiDiGraph[Any], wrt: Sequence[str], count: int) -> None:
        self.graph, self.wrt, self.count = graph, list(wrt), count
        self._made = [Problem(graph, wrt)]
        self._points: dict[tuple[str | None, str], list[Point]] = {}

    @property
    def plain(self) -> Problem:
        return self._made[0]

    def __iter__(self) -> Iterator[Problem]:
        yield self.plain
        for place, name in enumerate(self.plain.targets, 1):
            if place == len(self._made):
                self._made.append(Problem(self.graph, self.wrt, name))
            yield self._made[place]

    def points(self, problem: Problem, tensor: str) -> list[Point]:
        """Points at which the gradient by the tensor is finite."""
        key = problem.distribution, tensor
        if key not in self._points:
            self._points[key] = draw_points(problem.system, problem.gradient(tensor).name, self.count)
        return self._points[key]

    def from_the_loss(self) -> list[str]:
        """The tensors, that nearest to the loss first."""
        place = {name: k for k, name in enumerate(self.plain.system.equations)}
        return sorted(self.wrt, key=lambda tensor: place[self.plain.system.gradients[tensor]])

    @cached_property
    def formulas(self) -> Mapping[str, str]:
        """tensor -> the formula of the gradient by it."""
        derivation = derive(self.graph, self.wrt)
        return {tensor: str(derivation[tensor]) for tensor in self.wrt}

    def right(self, problem: Problem, tensor: str, status: str, proof: str) -> Grade:
        """The Grade of a right answer."""
        given = "" if problem.distribution is None else f", where each row of {problem.distribution} sums to 1"
        return Grade(tensor, status, proof + given, self.formulas[tensor])

    def wrong(
        self, problem: Problem, tensor: str, findings: tuple[Finding, ...], point: Point, expected: Array, got: Array
    ) -> Grade:
        """The Grade of a wrong answer, with what it is worth at a point."""
        tensors = point.tensors(problem.system)
        shown = Point(point.dims, point.seed, {n: tensors[n] for n in problem.forward.leaves if n in tensors})
        example = counterexample(shown, expected, got)
        found = findings or (unexplained(tensor, expected, got),)
        return Grade(tensor, DIFFERENT, None, self.formulas[tensor], found, example)


def unexplained(tensor: str, expected: Array, got: Array) -> Finding:
    """What can be said where no fault explains an answer."""
    if got.shape != expected.shape:
        return Finding("shape", f"the shape is that of neither {tensor} nor its transpose", tensor)
    if not np.isfinite(got).all():
        return Finding("not finite", "the answer is not finite where the gradient is", tensor)
    return Finding("unknown", "no single fault explains the answer", tensor)
