"""The threads of the BLAS library that NumPy uses. A fixed part of a file in the fast style, beside `runtime`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Job = Callable[[dict[str, np.ndarray[Any, Any]]], None]

# <part>
# ---- BLAS ------------------------------------------------------------------------------------------------



class _Blas(NamedTuple):
    """The library, and how to read and set the number of its threads."""

    read: Callable[[], int]
    write: Callable[[int], None]
    library: Any


_BLAS: list[_Blas | None] = []


def _blas_threads() -> _Blas | None:
    """The BLAS library, looked for once; None where its threads cannot be set."""
    if not _BLAS:
        _BLAS.append(_find_blas())
    return _BLAS[0]


def _find_blas() -> _Blas | None:
    try:
        import ctypes
    except ImportError:  # Python may be built without
        return None
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
                return _Blas(getattr(library, read), getattr(library, write), library)
    return None


def _blas_kernels() -> str:
    """The processor whose kernels OpenBLAS has taken; empty for another library."""
    blas = _blas_threads()
    for name in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename"):
        if blas is not None and hasattr(blas.library, name):
            import ctypes

            read = getattr(blas.library, name)
            read.restype = ctypes.c_char_p
            return str(read().decode())
    return ""


def _with_blas(count: int | None, run: Job) -> Job:
    """`run` with so many BLAS threads; None leaves it to BLAS."""
    blas = None if count is None else _blas_threads()
    if count is None or blas is None:
        return run
    read, write, _ = blas

    def limited(inputs: dict[str, np.ndarray[Any, Any]]) -> None:
        before = read()
        if before == count:
            return run(inputs)
        try:
            write(count)
            run(inputs)
        finally:  # a call of C comes before any interruption
            write(before)

    return limited


# </part>
