"""The finished function: its source, saving it as a file, calling it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from symgrad.emit.program import load_module
from symgrad.errors import DtypeError, ShapeError, VerifyError, nearest
from symgrad.writing import write_whole

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class FunctionProgram:
    """An emitted function of NumPy arrays, in double precision.

    Attributes:
        name: of the function.
        source: imports, helpers and the function, to paste anywhere. It does not check what it is given.
        standalone: a whole file, which checks shapes and, where the function was emitted with a `Check`, can compare
            its derivatives with central differences: `python FILE`.
        arguments: name -> (dtype, shape); results: the labels, in the order in which they are returned.
    """

    name: str
    source: str
    standalone: str
    arguments: Mapping[str, tuple[str, Shape]]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return self.source

    @property
    def listing(self) -> str:
        """What there is to read: the source."""
        return self.source

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the standalone file, whole or not at all. Raises FileError where that cannot be."""
        write_whole(path, self.standalone)

    def load(self, name: str = "symgrad_function") -> ModuleType:
        """The standalone file as a module, without a file. Tracebacks show its lines."""
        return load_module(self.standalone, name)

    @cached_property
    def _module(self) -> ModuleType:
        return self.load()

    def __call__(self, /, **arrays: Any) -> Any:
        """The function's value: an array, or a float where it has no axes; a tuple of them for several results.

        Raises:
            VerifyError: an argument is missing, unknown, or beyond the range that it indexes.
            ShapeError, DtypeError: an argument has not the shape or dtype that it should have.
        """
        self.check_arguments(arrays)
        return getattr(self._module, self.name)(**{name: arrays[name] for name in self.arguments})

    def check_arguments(self, arrays: Mapping[str, Any]) -> None:
        """Raise what `__call__` raises for arguments that it cannot take."""
        self._check_names(arrays)
        try:
            self._module._checked(**{name: arrays[name] for name in self.arguments})
        except TypeError as error:
            raise DtypeError(str(error)) from None
        except IndexError as error:
            raise VerifyError(str(error)) from None
        except ValueError as error:
            raise ShapeError(str(error)) from None

    def _check_names(self, arrays: Mapping[str, Any]) -> None:
        listing = f"the arguments of {self.name} are {', '.join(self.arguments) or 'none'}"
        for name in arrays:
            if name not in self.arguments:
                hint = "; ".join(filter(None, [nearest(name, self.arguments), listing]))
                raise VerifyError(f"{self.name} has no argument {name!r}", hint=hint)
        for name in self.arguments:
            if name not in arrays:
                raise VerifyError(f"{self.name} needs the argument {name!r}", hint=listing)
