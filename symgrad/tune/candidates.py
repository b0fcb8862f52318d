"""The settings that are measured against each other, one group after another."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType

import numpy as np

from symgrad.emit.blas import _blas_kernels
from symgrad.emit.settings import Settings
from symgrad.machine import LIMITS

Candidates = dict[str, Settings]  # what is said of them -> the settings; the first are those that hold so far

KINDS = {"thread": "threads", "process": "processes"}
KERNELS = ("Haswell", "Zen", "SkylakeX")
BROKEN_KERNELS = "0.3.34"  # where OpenBLAS overruns its buffers with kernels that are not the processor's own


def divisions(module: ModuleType, sizes: Mapping[str, int]) -> Candidates:
    """Each number of parts, on threads and in processes."""
    if module.SAMPLES is None:
        return {"as a whole": Settings()}
    samples, cores = sizes[module.SAMPLES], processors()
    estimated = module._parts(sizes, "thread")
    most = min(samples, max(LIMITS.parts, 2 * cores, 2 * estimated))
    kinds = KINDS if hasattr(os, "fork") and cores > 1 else ["thread"]
    found = {f"as estimated: {_parts(estimated)}": Settings()}
    for kind in kinds:
        for parts in _powers(most):
            least = samples // parts
            if (kind, samples // least) != ("thread", estimated) and (kind, parts) != ("process", 1):
                limits = (least, max(samples // least, module.PARTS[kind][1]))
                words = f"{_parts(samples // least)} on {KINDS[kind]}"
                found[words] = Settings(workers=kind, parts={**module.PARTS, kind: limits})
    return found


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"


def _powers(most: int) -> Iterator[int]:
    """The powers of two up to a number."""
    return (1 << k for k in range(most.bit_length()))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_counts(settings: Settings) -> Candidates:
    """As many workers as there are processors, and fewer."""
    found = {"as many workers as are worth it": settings}
    for count in _powers(processors() - 1):
        found[f"at most {count}"] = replace(settings, threads=count)
    return found


def kernels(settings: Settings) -> Candidates:
    """OpenBLAS's kernels for processors with vector instructions, where it can choose."""
    found = {"the kernels that BLAS chooses": settings}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    chooses = "DYNAMIC_ARCH" in str(blas.get("openblas configuration"))
    broken = str(blas.get("version")).startswith(BROKEN_KERNELS)
    if chooses and not broken and platform.machine().lower() in ("x86_64", "amd64"):
        others = (core for core in KERNELS if core != _blas_kernels())
        found |= {f"those for {core}": replace(settings, blas_core=core) for core in others}
    return found
