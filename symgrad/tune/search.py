"""`tune`: emit a program, measure it with several settings on this machine, and write the fastest into it.

One group of settings is chosen after another, by programs that differ in nothing else: into how many parts the
samples are divided, and whether threads or processes work on them; how many; BLAS's kernels.
"""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from symgrad.emit.program import Program
from symgrad.emit.settings import Settings, with_settings
from symgrad.equations import System
from symgrad.errors import EmitError, nearest
from symgrad.evaluate.draw import draw
from symgrad.evaluate.numbers import Array
from symgrad.formula import Derivation
from symgrad.pipeline import emit
from symgrad.tune.candidates import Candidates, divisions, kernels, processors, thread_counts
from symgrad.tune.race import Times, race

TIE = 0.03  # so much faster must a program be for its settings to take the place of simpler ones
LONGEST_NAME = 60

Show = Callable[[str], None]


def tune(
    derivation: Derivation,
    sizes: Mapping[str, int],
    optimizer: str = "adam",
    dtype: str = "float32",
    title: str = "",
    seconds: float = 1.0,
    show: Show | None = None,
) -> Program:
    """The derivation's program in the fast style, with the settings that are fastest on this machine.

    Each program is measured in a process of its own, on random data. Other machines and sizes may want others: the
    program tells at its head what was measured.

    Args:
        sizes: of every named dimension of the inputs, {"N": 128}.
        optimizer, dtype, title: as `emit` takes them.
        seconds: how long each program is measured.
        show: what takes the lines of a table of all times, as they are known.

    Raises EmitError for sizes that do not fit, and where the network cannot be measured.
    """
    if not 0 < seconds < math.inf:
        raise EmitError(f"seconds: expected a positive number, got {seconds!r}")
    program = emit(derivation, optimizer, dtype, "fast", title)
    _check_sizes(derivation.forward, sizes)
    module = program.load()
    data = _data(derivation.forward, sizes, module)
    with tempfile.TemporaryDirectory(prefix="symgrad-") as folder:
        np.savez(Path(folder, "data.npz"), allow_pickle=False, **data)
        settings = _search(program, module, sizes, Path(folder), seconds, show or _ignore)
    return with_settings(program, replace(settings, measured=_measured(sizes)))


def _ignore(line: str) -> None:
    """Show nothing."""


def _check_sizes(forward: System, sizes: Mapping[str, int]) -> None:
    shapes = [leaf.shape for leaf in forward.leaves.values() if leaf.kind == "input"]
    names = sorted({str(s) for shape in shapes for n in shape for s in n.free_symbols})
    for name, size in sizes.items():
        if name not in names:
            raise EmitError(f"the inputs have no dimension {name!r}", hint=nearest(str(name), names))
        if not isinstance(size, int) or size < 1:
            raise EmitError(f"the size of {name}: expected a whole number of 1 or more, got {size!r}")
    if missing := [name for name in names if name not in sizes]:
        listing = ", ".join(f"{name!r}: 128" for name in missing)
        raise EmitError(f"what size {', '.join(missing)} is to be measured with is not said", hint=f"{{{listing}}}")


def _data(forward: System, sizes: Mapping[str, int], module: ModuleType) -> dict[str, Array]:
    """Random inputs for which the loss is a finite number. Raises EmitError if none are found."""
    loss = math.nan
    for positive in (False, True):
        drawn = draw(forward, module.INPUTS, sizes, 0, {}, positive)
        data = {n: np.ascontiguousarray(a, module.DTYPE if a.dtype.kind == "f" else None) for n, a in drawn.items()}
        with np.errstate(all="ignore"):
            loss = module.loss_fn(module.init_params(0), **data)
        if math.isfinite(loss):
            return data
    raise EmitError(f"the loss of random data is {loss}: nothing can be measured")


def _search(
    program: Program, module: ModuleType, sizes: Mapping[str, int], folder: Path, seconds: float, show: Show
) -> Settings:
    """The fastest settings: those of one group with the fastest of the groups before it."""
    settings = _fastest(program, divisions(module, sizes), folder, seconds, show)
    settings = _fastest(program, thread_counts(settings), folder, seconds, show)
    return _fastest(program, kernels(settings), folder, seconds, show)


def _fastest(program: Program, candidates: Candidates, folder: Path, seconds: float, show: Show) -> Settings:
    settings = list(candidates.values())
    if len(settings) == 1:
        return settings[0]
    paths = [folder / f"program{k}.py" for k in range(len(settings))]
    for path, one in zip(paths, settings, strict=True):
        with_settings(program, one).save(path)
    times = race(paths, folder / "data.npz", seconds)
    if times[0].fault:
        raise EmitError(f"the program cannot be measured: {times[0].fault}")
    best = choose(times)
    show(f"  {'ms':34}{'min':>10}{'median':>10}{'relative':>10}")
    for k, (words, found) in enumerate(zip(candidates, times, strict=True)):
        show(_row(words, found, k == best))
    return settings[best]


def choose(times: Sequence[Times]) -> int:
    """The fastest, by its least time and beside the others; of equals the first, whose settings are the simplest."""
    best = 0
    for k, one in enumerate(times):
        so_far = times[best]
        if max(one.least / so_far.least, one.relative / so_far.relative) < 1 - TIE:
            best = k
    return best


def _row(words: str, times: Times, best: bool) -> str:
    start = f"{'*' if best else ' '} {words:34}"
    if times.fault:
        return f"{start}  {times.fault}"
    return f"{start}{1e3 * times.least:10.4g}{1e3 * times.median:10.4g}{times.relative:10.2f}"


def _measured(sizes: Mapping[str, int]) -> str:
    """Where and for what sizes."""
    cores = processors()
    listing = ", ".join(f"{name} = {size}" for name, size in sorted(sizes.items())) or "its only sizes"
    return f"{_processor()}, {cores} processor{'s' * (cores > 1)}, for {listing}"


def _processor() -> str:
    """The processor's name, as printable text."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2] for line in lines if line.startswith("model name")), name)
    except (OSError, UnicodeDecodeError):
        pass
    return "".join(c for c in " ".join(name.split()) if c.isprintable())[:LONGEST_NAME] or "this machine"
