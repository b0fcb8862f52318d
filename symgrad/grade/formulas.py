"""Answers that are formulas: proved, refuted, or found to agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from symgrad.errors import ShapeError
from symgrad.evaluate.numbers import Array
from symgrad.grade.cases import Cases
from symgrad.grade.diagnose import Diagnosis, Values
from symgrad.grade.points import FAST, PRECISE, TOLERANCE, Point, agree
from symgrad.grade.problem import Candidate, Problem
from symgrad.grade.prove import proof
from symgrad.grade.result import AGREES, DIFFERENT, EQUAL, Finding, Grade

POINTS = 3
# in double precision, only what is clearly different is sorted out; the rest is decided in 50 digits
_SORTED_OUT = {FAST: 1e-5, PRECISE: TOLERANCE[PRECISE]}


def formula_grades(graph: nx.MultiDiGraph[Any], answers: Mapping[str, str]) -> dict[str, Grade]:
    """tensor -> Grade of its answer, from the loss backwards.

    Raises FormulaError.
    """
    cases = Cases(graph, list(answers), POINTS)
    return {tensor: _grade(cases, tensor, answers[tensor]) for tensor in cases.from_the_loss()}


def _grade(cases: Cases, tensor: str, text: str) -> Grade:
    try:
        cases.plain.answer(text)
    except ShapeError as error:
        return _misshapen(cases, tensor, text, error)
    for problem in cases:
        right = _right(cases, problem, tensor, problem.answer(text))
        if right is not None:
            return right
    return _wrong(cases, tensor, text)


def _misshapen(cases: Cases, tensor: str, text: str, error: ShapeError) -> Grade:
    """The Grade of an answer whose operands do not fit, where a transpose or another operator would mend it."""
    for problem in cases:
        points = cases.points(problem, tensor)
        found = Diagnosis(problem, tensor, points, lambda place: None, text).findings()
        if found:
            first = replace(found[0], text=f"{error.summary}: {found[0].text}")
            return Grade(tensor, DIFFERENT, None, cases.formulas[tensor], (first, *found[1:]))
    unknown = Finding("unknown", f"the shapes do not fit: {error.summary}", tensor)
    return Grade(tensor, DIFFERENT, None, cases.formulas[tensor], (unknown,))


def _right(cases: Cases, problem: Problem, tensor: str, answer: Candidate) -> Grade | None:
    """The Grade of an answer that agrees with the gradient, else None."""
    expected, points = problem.gradient(tensor), cases.points(problem, tensor)
    if tuple(answer.shape) != tuple(expected.shape):
        return None
    for number, tolerance in _SORTED_OUT.items():
        if not all(agree(p.value(expected, number), p.value(answer, number), tolerance) for p in points):
            return None
    shown = proof(expected, answer, points)
    if shown is not None:
        return cases.right(problem, tensor, EQUAL, shown)
    return cases.right(problem, tensor, AGREES, f"{len(points)} random points agree in 50 digits")


def _wrong(cases: Cases, tensor: str, text: str) -> Grade:
    problem, found = _explained(cases, tensor, text)
    answer, points = problem.answer(text), cases.points(problem, tensor)
    pairs = [(p.value(problem.gradient(tensor)), p.value(answer)) for p in points]
    if not found:
        found = _up_to(cases, tensor, text, *pairs[0])
    place = next((k for k, pair in enumerate(pairs) if not agree(*pair)), 0)
    return cases.wrong(problem, tensor, found, points[place], *pairs[place])


def _explained(cases: Cases, tensor: str, text: str) -> tuple[Problem, tuple[Finding, ...]]:
    """The first case in which there is an explanation, and it."""
    for problem in cases:
        points = cases.points(problem, tensor)
        found = Diagnosis(problem, tensor, points, _values(problem.answer(text), points), text).findings()
        if found:
            return problem, found
    return cases.plain, ()


def _up_to(cases: Cases, tensor: str, text: str, expected: Array, got: Array) -> tuple[Finding, ...]:
    """The part of an unexplained answer that is right."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return ()
    for problem in cases:
        last = Diagnosis(problem, tensor, cases.points(problem, tensor), lambda place: None, text).last_right()
        if last is not None:
            part, node = last
            said = f"{part} is right, it is the adjoint d_{node}; what is made of it is not"
            return (Finding("unknown", said, node),)
    return ()


def _values(answer: Candidate, points: Sequence[Point]) -> Values:
    found: dict[int, Array] = {}

    def value(place: int) -> Array:
        if place not in found:
            found[place] = points[place].value(answer)
        return found[place]

    return value
