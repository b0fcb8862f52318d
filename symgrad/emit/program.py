"""The finished program: its source, saving it, loading it as a module."""

from __future__ import annotations

import hashlib
import linecache
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType

from symgrad.emit.source_map import SourceEntry
from symgrad.markup import element, html
from symgrad.writing import write_whole

SEAL = "# Emitted by symgrad; SHA-256 of the lines above: "


@dataclass(frozen=True)
class Program:
    """An emitted module.

    Attributes:
        source: the text of the file.
        title: its first line.
        style, dtype, optimizer: what it was emitted with.
        parameters: the shape of each parameter.
        source_map: what each line of code computes, and the node that it is there for.
    """

    source: str
    title: str
    style: str
    dtype: str
    optimizer: str
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    source_map: tuple[SourceEntry, ...] = ()

    def __str__(self) -> str:
        return self.source

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.source, "text/html": html(element("pre", {}, element("code", {}, self.source)))}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all. Raises FileError where that cannot be."""
        write_whole(path, self.source)

    def load(self, name: str = "symgrad_program") -> ModuleType:
        """The program as a module, without a file. Tracebacks show its lines."""
        return load_module(self.source, name)


def load_module(source: str, name: str) -> ModuleType:
    """An emitted file as a module, without a file. Tracebacks show its lines."""
    file = f"<{name} {_digest(source)[:12]}>"
    module = ModuleType(name)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    return module


def sealed(source: str) -> str:
    """The source with a last line that tells whether anybody changed it since."""
    return f"{source}{SEAL}{_digest(source)}\n"


def is_untouched(text: str) -> bool:
    """Whether this is a program as it was emitted (line ends aside)."""
    source, seal, digest = text.replace("\r\n", "\n").rpartition(SEAL)
    return bool(seal) and digest.strip() == _digest(source)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
