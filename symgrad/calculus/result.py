"""What every derivative of an expression offers, whatever it is: its formula in three forms, and its function."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from symgrad.emit.function import FunctionProgram
from symgrad.formula.derivation import notebook_bundle
from symgrad.formula.lines import Line, latex_block, mathml_block


class Result(ABC):
    """See the module's docstring."""

    @property
    @abstractmethod
    def lines(self) -> Sequence[Line]:
        """The formula's own lines, then those of the symbols that it introduces."""

    @property
    @abstractmethod
    def program(self) -> FunctionProgram:
        """The emitted function."""

    @property
    def latex(self) -> str:
        """The formula in LaTeX, for math mode."""
        return latex_block(self.lines)

    @property
    def mathml(self) -> str:
        """The formula as a `math` element."""
        return mathml_block(self.lines)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return notebook_bundle(str(self), self.latex, self.mathml)

    @property
    def source(self) -> str:
        """The NumPy function, and what it needs."""
        return self.program.source

    @property
    def code(self) -> str:
        """The function as a file of its own, with shape checks and a check of its own result."""
        return self.program.standalone

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `code`, whole or not at all. Raises FileError where that cannot be."""
        self.program.save(path)

    def __call__(self, /, **arrays: Any) -> Any:
        """The derivative at these values: an array, or for a Hessian a map with `matvec`, `solve` and `todense`."""
        return self.program(**arrays)
