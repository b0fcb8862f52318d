"""What a grader says of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

EQUAL, DIFFERENT, AGREES = "equal", "different", "agrees numerically"


@dataclass(frozen=True)
class Finding:
    """One fault of an answer.

    Attributes:
        kind: its name, one of `KINDS`.
        text: what is wrong, and what would be right.
        node: the tensor of the network at which it goes wrong, where that is known.
    """

    kind: str
    text: str
    node: str | None = None

    def __str__(self) -> str:
        return self.text


KINDS = (
    "transpose",
    "missing 1/N",
    "extra 1/N",
    "sum for mean",
    "mean for sum",
    "sign",
    "constant factor",
    "entrywise for matrix product",
    "matrix for entrywise product",
    "order of factors",
    "forgotten derivative",
    "derivative at the output",
    "max shift",
    "missing term",
    "missing path",
    "missing factor",
    "missing sum",
    "extra term",
    "extra factor",
    "wrong operand",
    "power",
    "axis",
    "shape",
    "not finite",
    "unknown",
)


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A point at which the answer and the gradient differ, and the entry that differs most.

    Attributes:
        dims, seed: the sizes of the named dimensions, and what the random data were drawn with.
        values: the data themselves, by name.
        index: the entry; None where the shapes differ, and then `expected` and `got` are shapes.
    """

    dims: Mapping[str, int]
    seed: int
    values: Mapping[str, np.ndarray[Any, Any]]
    index: tuple[int, ...] | None
    expected: Any
    got: Any

    def __str__(self) -> str:
        sizes = "".join(f"{name} = {size}, " for name, size in self.dims.items())
        if self.index is None:
            return f"with {sizes}seed {self.seed}: the shape should be {self.expected}, it is {self.got}"
        entry = f"entry [{', '.join(map(str, self.index))}]" if self.index else "the value"
        return f"with {sizes}seed {self.seed}: {entry} should be {self.expected:.6g}, it is {self.got:.6g}"


@dataclass(frozen=True)
class Grade:
    """Whether an answer is the gradient by one tensor. True as a condition where it is.

    Attributes:
        tensor: by which the loss is differentiated.
        status: "equal", "different", or "agrees numerically" where all numbers agree and no proof was found.
        proof: what shows that they are equal, or how far the numbers agree.
        diagnosis: the faults, the likeliest first.
        expected: the gradient's formula.
    """

    tensor: str
    status: str
    proof: str | None
    expected: str
    diagnosis: tuple[Finding, ...] = ()
    counterexample: Counterexample | None = None

    @property
    def equal(self) -> bool:
        """Whether the answer is right. Numbers that agree without a proof count, and `status` says so."""
        return self.status != DIFFERENT

    def __bool__(self) -> bool:
        return self.equal

    def __str__(self) -> str:
        if self.status == EQUAL:
            return f"∇{self.tensor}: right, proved by {self.proof}."
        if self.status == AGREES:
            return f"∇{self.tensor}: no difference found, {self.proof}."
        lines = [f"∇{self.tensor}: wrong."]
        lines += [f"  {finding.text}" for finding in self.diagnosis]
        lines += [f"  {self.counterexample}"] if self.counterexample else []
        first, *rest = self.expected.splitlines()
        return "\n".join([*lines, f"  expected: {first}", *(f"    {line}" for line in rest)])

    __repr__ = __str__


class Grades(Mapping[str, Grade]):
    """One Grade per tensor, from the loss backwards. True as a condition where all answers are right."""

    def __init__(self, grades: Mapping[str, Grade]) -> None:
        self._grades = dict(grades)

    def __getitem__(self, tensor: str) -> Grade:
        return self._grades[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._grades)

    def __len__(self) -> int:
        return len(self._grades)

    @property
    def equal(self) -> bool:
        """Whether every answer is right."""
        return all(self._grades.values())

    @property
    def first_wrong(self) -> str | None:
        """The tensor nearest to the loss whose gradient is wrong."""
        return next((name for name, grade in self._grades.items() if not grade), None)

    def __bool__(self) -> bool:
        return self.equal

    def __str__(self) -> str:
        lines = [str(grade) for grade in self._grades.values()]
        if self.first_wrong is not None and len(self) > 1:
            lines.append(f"From the loss backwards, it first goes wrong at {self.first_wrong}.")
        return "\n".join(lines)

    __repr__ = __str__
