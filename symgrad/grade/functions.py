"""Answers that are NumPy functions: compared in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from symgrad.errors import GradeError
from symgrad.evaluate.numbers import Array
from symgrad.expand import expand
from symgrad.grade.backward import Backward, call_backward, gradients_of, name_of
from symgrad.grade.cases import Cases
from symgrad.grade.diagnose import Diagnosis
from symgrad.grade.points import PRECISE, Point, agree, deviation, draw_points
from symgrad.grade.problem import Problem, target_named
from symgrad.grade.result import AGREES, Grade

POINTS = 3
TOLERANCE = 1e-6  # of code in double precision that may cancel a little

Pairs = Sequence[tuple[Array, Array]]  # expected, got


def function_grades(graph: nx.MultiDiGraph[Any], wrt: Sequence[str] | None, function: Backward) -> dict[str, Grade]:
    """tensor -> Grade of the gradient that the function returns for it, from the loss backwards.

    Raises GradeError where the function raises, or returns no such gradients.
    """
    asked = list(wrt) if wrt is not None else _names(graph, function)
    function_cases = _Called(graph, asked, function)
    return {tensor: function_cases.grade(tensor) for tensor in function_cases.cases.from_the_loss()}


def _names(graph: nx.MultiDiGraph[Any], function: Backward) -> list[str]:
    """The tensors for which the function returns a gradient."""
    forward = expand(graph)
    if forward.loss is None:
        raise GradeError("the graph names no loss", hint='set graph.graph["loss"] = "NAME"')
    (point,) = draw_points(forward, forward.loss, 1)
    returned = call_backward(function, point.tensors(forward), point.values)
    return [target_named(forward, name) for name in gradients_of(returned, None, name_of(function))]


class _Called:
    """A function and what it returned at the points of each case."""

    def __init__(self, graph: nx.MultiDiGraph[Any], wrt: Sequence[str], function: Backward) -> None:
        self.cases, self.function = Cases(graph, wrt, POINTS), function

    def grade(self, tensor: str) -> Grade:
        explained: Grade | None = None
        for problem in self.cases:
            points = self.cases.points(problem, tensor)
            pairs = [self._pair(problem, tensor, point) for point in points]
            if all(agree(*pair, TOLERANCE) for pair in pairs):
                worst = max(deviation(*pair) for pair in pairs)
                said = f"{len(points)} points, worst relative error {worst:.1e}"
                return self.cases.right(problem, tensor, AGREES, said)
            wrong = self._wrong(problem, tensor, points, pairs)
            if explained is None or explained.diagnosis[0].kind == "unknown":
                explained = wrong
        assert explained is not None
        return explained

    def _pair(self, problem: Problem, tensor: str, point: Point) -> tuple[Array, Array]:
        tensors = point.tensors(problem.system)
        inside = {n: v for n, v in tensors.items() if n in problem.forward}
        leaves = {n: tensors[n] for n, leaf in problem.forward.leaves.items() if leaf.kind != "constant"}
        returned = call_backward(self.function, inside, leaves)
        found = gradients_of(returned, self.cases.wrt, name_of(self.function))
        expected = point.value(problem.gradient(tensor), PRECISE).astype(float)
        return expected, self._of(found, tensor, problem)

    def _of(self, found: Mapping[str, Array], tensor: str, problem: Problem) -> Array:
        for name, value in found.items():
            if target_named(problem.forward, name) == tensor:
                return value
        raise GradeError(f"{name_of(self.function)} returned no gradient for {tensor!r}")

    def _wrong(self, problem: Problem, tensor: str, points: Sequence[Point], pairs: Pairs) -> Grade:
        diagnosis = Diagnosis(problem, tensor, points, lambda place: pairs[place][1], tolerance=TOLERANCE)
        place = next(k for k, pair in enumerate(pairs) if not agree(*pair, TOLERANCE))
        return self.cases.wrong(problem, tensor, diagnosis.findings() or (), points[place], *pairs[place])
