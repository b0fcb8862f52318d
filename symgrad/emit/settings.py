"""How a program in the fast style works where nobody tells it otherwise: constants at the head of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from symgrad.emit.program import SEAL, Program, sealed
from symgrad.emit.tables import table
from symgrad.errors import EmitError

PARTS = "PARTS: dict[str, tuple[int, int]]"
_PARTS = re.compile(rf"^{re.escape(PARTS)} = \{{.*?\}}$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Settings:
    """What `symgrad tune` finds. By default nothing was measured, and the cost model's choices stand.

    Attributes:
        threads: workers on a step; None means as many as are worth it. workers: "thread" or "process".
        blas_core: the processor whose kernels OpenBLAS is to take; None leaves it the choice.
        parts: kind of worker -> (least samples in a part, most parts); empty leaves it to the cost model.
        measured: where and for what sizes, in one line.
    """

    threads: int | None = None
    workers: str = "thread"
    blas_core: str | None = None
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    measured: str = ""


def settings_head(settings: Settings) -> str:
    """The constants, before NumPy is imported; as many lines for any settings."""
    core = "None" if settings.blas_core is None else f'"{settings.blas_core}"'
    measured = settings.measured or "no machine; `symgrad tune` does it"
    return f"""
# The work is done as follows where the caller says nothing else. Measured on {measured}.
# How many share a step, None for as many as are worth it; "thread" or "process".
THREADS: int | None = {settings.threads}
WORKERS = "{settings.workers}"
# The processor whose kernels OpenBLAS is to take, such as "Haswell"; None leaves it the choice. This has an effect
# only where NumPy is not imported yet.
BLAS_CORE: str | None = {core}
"""


def with_settings(program: Program, settings: Settings) -> Program:
    """A program that was emitted without settings, with these. Its lines keep their numbers.

    Raises EmitError for a program that is not in the fast style.
    """
    source, head = program.source.rpartition(SEAL)[0], settings_head(Settings())
    if head not in source:
        raise EmitError(f"a program in the {program.style} style has no settings", hint='style="fast"')
    source = source.replace(head, settings_head(settings), 1)
    if settings.parts:
        parts = "\n".join(table(PARTS, settings.parts))
        source = _PARTS.sub(lambda _: parts, source, count=1)
    return replace(program, source=sealed(source))
