"""Is this gradient right? `grade` compares an answer with the gradient that the chain rule gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from symgrad.equations import System
from symgrad.errors import GradeError
from symgrad.expand import expand
from symgrad.grade.backward import Backward
from symgrad.grade.formulas import formula_grades
from symgrad.grade.functions import function_grades
from symgrad.grade.problem import target_named
from symgrad.grade.result import Grade, Grades


def grade(
    graph: nx.MultiDiGraph[Any],
    wrt: str | Sequence[str] | None = None,
    *,
    answer: str | Mapping[str, str] | Backward,
) -> Grade | Grades:
    """Whether an answer is the gradient of the graph's loss.

        grade(graph, wrt="W1", answer="x.T @ ((p - t) * (1 - h**2))")      a Grade
        grade(graph, answer={"W2": "h.T @ (p - t)", "b2": "..."})          Grades, from the loss backwards
        grade(graph, answer=backward)                                      Grades of a NumPy function

    A formula may use every tensor of the network by its name, the adjoint of a tensor X as d_X, and the names of
    dimensions. It is proved or refuted. A function is called with the tensors that its parameters name, and all
    inputs and parameters for `**kwargs`; it returns a dict of gradients by name, or the one that `wrt` names, and is
    compared in numbers. Answers may also be for inner tensors, named "z2" or "d_z2".

    Raises:
        GraphError and its kinds: the graph is no network, or a formula is malformed or names something unknown.
        DeriveError: there is no such tensor, or the loss does not depend on it.
        GradeError: it is not clear what is answered, or the function raises or returns no gradients.
    """
    forward = expand(graph)
    names = None if wrt is None else [target_named(forward, n) for n in ([wrt] if isinstance(wrt, str) else wrt)]
    if isinstance(answer, str):
        tensor = _only(forward, names)
        return formula_grades(graph, {tensor: answer})[tensor]
    if isinstance(answer, Mapping):
        return Grades(formula_grades(graph, _answers(forward, names, answer)))
    if not callable(answer):
        raise GradeError(f"an answer is a formula, a dict of formulas or a function, not {type(answer).__name__}")
    grades = function_grades(graph, names, answer)
    return grades[names[0]] if names is not None and isinstance(wrt, str) else Grades(grades)


def _only(forward: System, names: Sequence[str] | None) -> str:
    """The one tensor that is meant: by default the only parameter."""
    if names is None:
        names = [n for n, leaf in forward.leaves.items() if leaf.kind == "parameter"]
    if len(names) != 1:
        hint = 'wrt="W1", or answer={"W1": "...", "W2": "..."}'
        raise GradeError(f"one formula answers for one tensor, not for {', '.join(names) or 'none'}", hint=hint)
    return names[0]


def _answers(forward: System, names: Sequence[str] | None, given: Mapping[str, str]) -> dict[str, str]:
    """tensor -> answer."""
    found = {target_named(forward, name): text for name, text in given.items()}
    if not found or len(found) < len(given):
        raise GradeError("an answer is missing" if not found else "there are two answers for one tensor")
    if names is not None and set(names) != set(found):
        raise GradeError(f"wrt names {', '.join(names)}, the answers are for {', '.join(found)}")
    return found
