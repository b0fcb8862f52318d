"""Large matrix products in small blocks. A fixed part of a file in the fast style, beside `runtime`."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad.emit.blas import _blas_kernels

Array = np.ndarray[Any, Any]

# <part>
# ---- Products --------------------------------------------------------------------------------------------

_SMALL_PRODUCT = 1_000_000  # multiplications that OpenBLAS carries out without packing its operands first ...
_UNPACKED = ("SkylakeX", "Cooperlake", "SapphireRapids")  # ... on these processors
_WIDTH, _PANEL = 64, 450_000  # columns of a block, and the bytes of the right operand that it reads, at most


def _product(a: Array, b: Array, out: Array) -> Any:
    """out = a b, as one batched product of blocks that need no packing, which takes 0.8 to 0.9 of the time.

    The blocks do not depend on how many workers there are. One BLAS thread computes them: where BLAS has several, the
    whole product is faster.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    most = min(rows, _SMALL_PRODUCT // (_WIDTH * depth))
    if most < 4 or columns % _WIDTH or b.strides[1] != b.itemsize or depth * _WIDTH * b.itemsize > _PANEL:
        return np.matmul(a, b, out)  # which unlike np.dot copies no part of a transposed array
    height = next((m for m in range(most, most // 2, -1) if rows % m == 0), 1 << most.bit_length() - 1)
    whole = rows // height * height
    left = a[:whole].reshape(-1, 1, height, depth)
    right = b.reshape(depth, -1, _WIDTH).swapaxes(0, 1)
    np.matmul(left, right, out[:whole].reshape(-1, height, columns // _WIDTH, _WIDTH).swapaxes(1, 2))
    if whole < rows:
        np.matmul(a[whole:], b, out[whole:])
    return out


def _product_for(parts: int) -> Any:
    """The function that multiplies large matrices where the samples are divided into so many parts."""
    return _product if parts > 1 and _blas_kernels() in _UNPACKED else np.matmul


# </part>
