"""The threads of the BLAS library that NumPy uses. A fixed part of a file in the fast style, beside `runtime`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Job = Callable[[dict[str, np.ndarray[Any, Any]]], None]

# <part>
# ---- BLAS ------------------------------------------------------------------------------------------------

_BLAS: list[tuple[Callable[[], int], Callable[[int], None]] | None] = []  # how to read and set its threads, if known


def _blas_threads() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Functions of the BLAS library that read and set the number of its threads; None where there are none."""
    if not _BLAS:
        _BLAS.append(_find_blas())
    return _BLAS[0]


def _find_blas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    import ctypes
    from glob import glob

    kinds = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]
    names = [(kind.format("get"), kind.format("set")) for kind in kinds]
    names.append(("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"))
    folder = os.path.dirname(np.__file__)
    libraries = glob(os.path.join(folder, "_core", "_multiarray_umath.*"))  # its symbols, and those it is linked to
    libraries += [path for place in (folder + ".libs", folder + "/.dylibs") for path in glob(place + "/*openblas*")]
    for path in libraries:
        try:
            library = ctypes.PyDLL(path)
        except OSError:
            continue
        for read, write in names:
            if hasattr(library, read) and hasattr(library, write):
                getattr(library, write).restype = None
                return getattr(library, read), getattr(library, write)
    return None


def _with_blas(count: int | None, run: Job) -> Job:
    """`run` with so many BLAS threads; None leaves it to BLAS."""
    blas = None if count is None else _blas_threads()
    if count is None or blas is None:
        return run
    read, write = blas

    def limited(inputs: dict[str, np.ndarray[Any, Any]]) -> None:
        before = read()
        if before == count:
            return run(inputs)
        write(count)
        try:
            run(inputs)
        finally:
            write(before)

    return limited


# </part>
