"""The comparison part of an emitted linear map: the map as arrays, once by `matvec` and once by `todense`."""

from __future__ import annotations

import numpy as np

from symgrad.calculus.operators import Array, BlockMap, LinearMap, _count


# <own>
def compared(a: LinearMap) -> tuple[Array, Array]:
    """The map of each unit tensor, and the map as `todense` gives it."""
    units = np.eye(_count(a.columns))
    images = [a.matvec(unit.reshape(a.columns)) for unit in units]
    return np.moveaxis(np.array(images), 0, -1).reshape(a.rows + a.columns), a.todense()


def compared_blocks(a: BlockMap) -> tuple[Array, ...]:
    """The same for each variable: what the map makes of it, the results flattened one behind the other."""
    names = list(a.shapes)
    zero = {name: np.zeros(a.shapes[name]) for name in names}
    by_matvec, by_todense, start, dense = [], [], 0, a.todense()
    for name in names:
        shape, size = a.shapes[name], _count(a.shapes[name])
        units = [unit.reshape(shape) for unit in np.eye(size)]
        images = [a.matvec(zero | {name: unit}) for unit in units]
        flat = np.array([np.concatenate([np.ravel(image[p]) for p in names]) for image in images])
        by_matvec.append(flat.T.reshape(-1, *shape))
        by_todense.append(dense[:, start : start + size].reshape(-1, *shape))
        start += size
    return (*by_matvec, *by_todense)
