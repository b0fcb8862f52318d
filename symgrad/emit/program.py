"""The finished program: its source, saving it, loading it as a module."""

from __future__ import annotations

import linecache
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType

from symgrad.errors import FileError


@dataclass(frozen=True)
class Program:
    """An emitted module.

    Attributes:
        source: the text of the file.
        title: its first line.
        style, dtype, optimizer: what it was emitted with.
    """

    source: str
    title: str
    style: str
    dtype: str
    optimizer: str
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.source

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all. Raises FileError where that cannot be."""
        write_whole(path, self.source)

    def load(self, name: str = "symgrad_program") -> ModuleType:
        """The program as a module, without a file. Tracebacks show its lines."""
        file = f"<{name} {id(self):x}>"
        module = ModuleType(name)
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(keepends=True), file)
        exec(compile(self.source, file, "exec"), module.__dict__)
        return module


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write beside the target, then rename: nobody ever sees half a file. Raises FileError."""
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise FileError(f"cannot write {os.fspath(path)}: {error.strerror}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
