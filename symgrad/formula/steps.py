"""A gradient derived step by step: every rule that was used, from the loss down to one tensor.

    steps = derivation["W1"].steps()
    print(steps)                       a worked solution
    steps[4].rule, steps[4].after      one step of it
    steps[4].check()                   the same in numbers

The steps are replayed from the record of the derivation: the equations that the chain rule gave, and each pass of
the simplifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from sympy import Expr

from symgrad.equations import System
from symgrad.formula.lines import Line, latex_block
from symgrad.formula.step_check import Claim, StepCheck, check_claim
from symgrad.formula.step_rules import Rule
from symgrad.formula.step_system import Record

_INDENT = "      "
NEAT = 100  # a line longer than this has no shape beside it


@dataclass(frozen=True)
class Step:
    """One step of a derivation: a rule, and what it makes of an equation.

    Attributes:
        number: its place, from 1.
        rule: what was used.
        node: the node of the network that it concerns.
        tensor: the tensor by which the loss is differentiated here.
        shape: of that tensor; symbols stand for dimensions with a name.
        explanation: a sentence or two, perhaps none.
    """

    number: int
    rule: Rule
    node: str
    tensor: str
    shape: tuple[int | Expr, ...]
    explanation: str
    _before: Line = field(repr=False)
    _after: Line = field(repr=False)
    _claim: Claim = field(repr=False)
    _context: tuple[System, System, Record] = field(repr=False, compare=False)

    @property
    def before(self) -> str:
        """The equation that the rule is applied to."""
        return self._before.text

    @property
    def after(self) -> str:
        """The equation that it gives."""
        return self._after.text

    @property
    def latex(self) -> str:
        """Both in LaTeX, for math mode."""
        return latex_block([self._before, self._after] if self._differs else [self._after])

    def check(
        self, values: Mapping[str, Any] | None = None, dims: Mapping[str, int] | None = None, seed: int = 0
    ) -> StepCheck:
        """Compare both sides as numbers in float64; the chain rule with central differences of the loss.

        Args:
            values: arrays of inputs and parameters; the others are drawn at random.
            dims: sizes of named dimensions; the others are small.

        Raises VerifyError if a value does not fit.
        """
        return check_claim(self._claim, *self._context, values, dims, seed)

    @property
    def _differs(self) -> bool:
        return self._before.text != self._after.text

    def __str__(self) -> str:
        return self.written()

    def written(self, follows: Step | None = None) -> str:
        """The step as text; behind the step that it `follows`, without the line that stands there already."""
        repeats = not self._differs or (follows is not None and follows.after == self.before)
        first = [] if repeats else self._before.wrapped(_INDENT)
        explained = [_INDENT + self.explanation] if self.explanation else []
        return "\n".join([f"{self.number:3}  {self.rule}", *first, *self._with_shape(), *explained])

    def _with_shape(self) -> list[str]:
        *front, last = self._after.wrapped(_INDENT)
        sizes = ", ".join(map(str, self.shape)) + ("," if len(self.shape) == 1 else "")
        return [*front, f"{last}    ({sizes})" if len(last) <= NEAT else last]


class Steps(Sequence[Step]):
    """The steps of one gradient. Printed, they read as a worked solution.

    Attributes:
        tensor: the tensor by which the loss is differentiated.
    """

    def __init__(self, tensor: str, given: Sequence[Line], result: Line, steps: Iterable[Step]) -> None:
        self.tensor, self._given, self._result, self._steps = tensor, tuple(given), result, tuple(steps)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, index: int | slice) -> Step | tuple[Step, ...]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __repr__(self) -> str:
        return f"<Steps by {self.tensor!r}: {len(self)}>"

    def __str__(self) -> str:
        given = [part for line in self._given for part in line.wrapped("  ")]
        result = self._result.wrapped("  ")
        steps = [f"{step.written(last)}\n" for last, step in zip([None, *self._steps], self._steps, strict=False)]
        return "\n".join(["given", *given, "", *steps, "result", *result])

    @property
    def latex(self) -> str:
        """The whole solution in LaTeX, for math mode."""
        rows = [line.latex for line in self._given]
        for step in self:
            lines = [step._before, step._after] if step._differs else [step._after]
            rows += [rf"& \textbf{{{step.number}}} \quad {step.rule.latex}", *(x.latex for x in lines)]
        body = " \\\\\n".join("  " + row for row in rows)
        return "\\begin{aligned}\n" + body + "\n\\end{aligned}"
