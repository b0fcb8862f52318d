"""What is wrong with an answer: hypotheses, each a fault that the author may have made, tried in numbers.

A hypothesis changes the gradient (a step of the chain rule forgotten) or the answer (one sign, one transpose).
The first under which the two agree at all points is the diagnosis; next to it, a constant factor or a transposition
of the whole may be off too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement, islice

import numpy as np

from symgrad.errors import SymgradError
from symgrad.evaluate.numbers import Array
from symgrad.grade.edits import edits, parts, terms
from symgrad.grade.faults import faulty_gradients
from symgrad.grade.points import FAST, TOLERANCE, Point, agree
from symgrad.grade.problem import Candidate, Problem
from symgrad.grade.result import KINDS, Finding

MOST_EDITS = 600

Values = Callable[[int], Array | None]  # point -> array; None where it has none
Findings = tuple[Finding, ...]


@dataclass(frozen=True)
class Hypothesis:
    """A fault, and the two sides that are equal if it was made.

    Attributes:
        around: the part of the answer that was changed and all around it, innermost first.
    """

    finding: Finding
    expected: Values
    got: Values
    around: tuple[str, ...] = ()


class Diagnosis:
    """The faults of one answer.

    Args:
        points: of different sizes.
        got: the answer's values at the points.
        text: the answer, where it is a formula.
    """

    def __init__(
        self,
        problem: Problem,
        tensor: str,
        points: Sequence[Point],
        got: Values,
        text: str | None = None,
        tolerance: float = TOLERANCE[FAST],
    ) -> None:
        self.problem, self.tensor, self.points, self.text = problem, tensor, points, text
        self.got, self.tolerance = got, tolerance

    def findings(self) -> Findings | None:
        """The faults that explain the answer, or None where no hypothesis does."""
        whole = self._whole(self._gradient, self.got)
        if whole:
            return self._explained(whole)
        second: Findings | None = None
        for tried in self._hypotheses():
            also = self._whole(tried.expected, tried.got)
            if also == ():
                return (self._located(tried),)
            if also and second is None and len(also) == 1 and tried.finding.kind != "extra factor":
                second = (self._located(tried), *also)
        term = self._term()
        return second if term is None else (term,)

    def _term(self) -> Finding | None:
        """A term of the answer with a wrong number in front."""
        for text in terms(self.text or "0"):
            value = self._loose_values(self.problem.loose_answer(text))
            ratios = [self._ratio(value(k), self._lacking(k)) for k, _ in enumerate(self.points)]
            if ratios[0] is not None and all(r is not None and abs(r - ratios[0]) < 1e-6 for r in ratios):
                number = 1 + ratios[0]
                if abs(number) > 1e-6:
                    return Finding("constant factor", f"the term {text} should be {number:.6g} times that", self.tensor)
        return None

    def _lacking(self, place: int) -> Array | None:
        """The gradient less the answer."""
        expected, got = self._gradient(place), self.got(place)
        return None if got is None or got.shape != expected.shape else np.asarray(expected - got)

    def _explained(self, whole: Findings) -> Findings:
        """A factor of the whole as the author's mistake: the sum that should be a mean, the sign that is wrong."""
        kinds = {"missing 1/N": ("sum for mean",), "extra 1/N": ("mean for sum",), "sign": ("sign",)}
        if whole[0].kind == "sign" and (self.text or "").lstrip().startswith("-"):
            return whole  # the sign in front is the one to blame
        if len(whole) == 1 and whole[0].kind in kinds and self.text is not None:
            for tried in self._edited(kinds[whole[0].kind]):
                if self._whole(tried.expected, tried.got) == ():
                    return (self._located(tried),)
        return whole

    # hypotheses

    def _hypotheses(self) -> Iterator[Hypothesis]:
        for finding, expected in faulty_gradients(self.problem, self.tensor):
            yield Hypothesis(finding, self._valued(expected), self.got)
        yield from self._edited(KINDS)

    def _edited(self, kinds: Collection[str]) -> Iterator[Hypothesis]:
        """The answer with one thing changed, where that is of one of these kinds."""
        if self.text is None:
            return
        scope = {n: self.problem.scope[n] for n in self.problem.named}
        chosen = (edit for edit in edits(self.text, scope, self._maxima) if edit.finding.kind in kinds)
        for edit in islice(chosen, MOST_EDITS):
            try:
                answer = self.problem.loose_answer(edit.text)
            except SymgradError:
                continue
            yield Hypothesis(edit.finding, self._gradient, self._loose_values(answer), edit.around)

    @cached_property
    def _maxima(self) -> dict[str, str]:
        """tensor -> the maximum that the network takes of it."""
        forward = self.problem.forward
        return {e.operands[0]: e.name for e in forward if e.definition.reduction == "max" and len(e.operands) == 1}

    def _located(self, found: Hypothesis) -> Finding:
        """With the tensor whose adjoint is the first part around the change."""
        if found.finding.node is not None:
            return found.finding
        node = next((n for part in found.around for n in [self._adjoint_like(part)] if n), self.tensor)
        return replace(found.finding, node=node)

    def _adjoint_like(self, part: str) -> str | None:
        """The tensor whose adjoint is the value of a part of an answer, but for a constant factor."""
        try:
            value = self._loose_values(self.problem.loose_answer(part))(0)
        except SymgradError:
            return None
        if value is None or not value.shape or not np.any(value):
            return None
        tensors = self._tensors[0]
        for name in (*reversed(self.problem.forward.equations), *self.problem.forward.leaves):
            adjoint = self.problem.adjoint(name)
            if name in self.problem.graph and adjoint is not None and self._ratio(tensors[adjoint], value):
                return name
        return None

    def last_right(self) -> tuple[str, str] | None:
        """(part, tensor): the largest part of the answer that is the adjoint of a tensor."""
        for part in parts(self.text or "0"):
            tensor = self._adjoint_like(part)
            if tensor is not None:
                return part, tensor
        return None

    # numbers

    @cached_property
    def _tensors(self) -> list[dict[str, Array]]:
        return [point.tensors(self.problem.system) for point in self.points]

    def _gradient(self, place: int) -> Array:
        return self._tensors[place][self.problem.gradient(self.tensor).name]

    def _valued(self, candidate: Candidate) -> Values:
        return lambda place: self.points[place].value(candidate)

    def _loose_values(self, candidate: Candidate) -> Values:
        def value(place: int) -> Array | None:
            tensors = {n: self._tensors[place][n] for n in candidate.system.leaves if n in self._tensors[place]}
            try:
                return replace(self.points[place], values=tensors).value(candidate)
            except SymgradError:
                return None

        return value

    def _whole(self, expected: Values, got: Values) -> Findings | None:
        """The faults of the whole under which the two agree at all points; None if there are none."""
        for turn, faults in _TURNS:
            ratios = []
            for place, _ in enumerate(self.points):
                ratio = self._ratio(expected(place), turn(got(place)))
                if ratio is None:
                    break
                ratios.append(ratio)
            if len(ratios) == len(self.points):
                factor = _factor([dict(p.dims) for p in self.points], ratios, self._batch_sizes, self.tolerance)
                if factor is not None:
                    return (*faults, *factor)
        return None

    @cached_property
    def _batch_sizes(self) -> frozenset[int]:
        """The sizes, where they are numbers, of the inputs' first axes."""
        leaves = [leaf for leaf in self.problem.forward.leaves.values() if leaf.kind == "input" and leaf.shape]
        return frozenset(int(leaf.shape[0]) for leaf in leaves if leaf.shape[0].is_Integer)

    def _ratio(self, expected: Array | None, got: Array | None) -> float | None:
        """The number c with got = c expected, or None if there is none."""
        if expected is None or got is None or expected.shape != got.shape or not np.isfinite(got).all():
            return None
        square = float(np.sum(expected * expected))
        ratio = float(np.sum(expected * got)) / square if square > 0 and np.isfinite(square) else 0.0
        return ratio if ratio and agree(ratio * expected, got, self.tolerance) else None


def _turned(got: Array | None) -> Array | None:
    return None if got is None or got.ndim != 2 else got.T


def _summed(got: Array | None) -> Array | None:
    with np.errstate(all="ignore"):
        return None if got is None or got.ndim == 0 else np.asarray(got.sum(axis=0))


_TURNS: tuple[tuple[Callable[[Array | None], Array | None], Findings], ...] = (
    (lambda got: got, ()),
    (_turned, (Finding("transpose", "the answer is the transpose of the gradient"),)),
    (_summed, (Finding("missing sum", "the answer is not summed over the first axis, the batch"),)),
)


def _factor(
    dims: Sequence[dict[str, int]], ratios: Sequence[float], batch: Collection[int], tolerance: float
) -> Findings | None:
    """What is to be said of answer = c gradient, where c is known at points of several sizes."""

    def fits(values: Sequence[float]) -> bool:
        return all(abs(r - v) <= 10 * tolerance * abs(v) for r, v in zip(ratios, values, strict=True))

    if fits([1.0] * len(ratios)):
        return ()
    if fits([-1.0] * len(ratios)):
        return (Finding("sign", "the sign of the whole is wrong"),)
    for size in sorted(n for n in batch if n > 2):
        for kind, c in (("missing 1/N", float(size)), ("extra 1/N", 1 / size)):
            if fits([c] * len(ratios)):
                return (_size_finding(kind, str(size), 1.0),)
    if fits([ratios[0]] * len(ratios)):
        return (Finding("constant factor", f"the answer is {ratios[0]:.6g} times the gradient"),)
    for count in (1, 2):
        for names in combinations_with_replacement(sorted(dims[0]), count):
            sizes = [float(np.prod([d[n] for n in names])) for d in dims]
            for kind, powers in (("missing 1/N", sizes), ("extra 1/N", [1 / s for s in sizes])):
                c = ratios[0] / powers[0]
                if fits([c * s for s in powers]):
                    return (_size_finding(kind, " ".join(names), c),)
    return None


def _size_finding(kind: str, size: str, c: float) -> Finding:
    number = f"{c:.6g} " if abs(c - 1) > 1e-6 else ""
    if kind == "missing 1/N":
        return Finding(kind, f"the answer is {number}{size} times the gradient: a factor 1/{size} is missing")
    return Finding(kind, f"the answer is {number}1/{size} of the gradient: the division by {size} is too much")
