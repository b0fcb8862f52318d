"""Numbers that multiply a sum as the weights that its elements are added with: the mean is one product.

    S <- sum over n of a[n];   L <- S/N        becomes        L <- dot(a, w)  where w is full of 1/N

BLAS adds by products with ones anyway, so the number costs nothing there.
"""

from __future__ import annotations

from collections.abc import Collection

from sympy import Expr

from symgrad.lower.filled import filled
from symgrad.lower.ir import Code, Contract, Map, Reduce, View
from symgrad.optimise.uses import Uses, fresh, own_buffer


def weigh_sums(code: Code, keep: Collection[str]) -> Code:
    """The code with each sum over a first axis, and the product with a number that follows, as one product."""
    made = fresh(code)
    uses = Uses(code)
    kept = {code.root(name) for name in keep}
    gone: set[int] = set()
    for place, s in enumerate(code.statements):
        if not isinstance(s, Reduce) or not _is_plain_sum(code, s):
            continue
        found = _scaled(code, uses, place, s, kept)
        if found is None:
            continue
        after, scale = found
        scaled = code.statements[after]
        assert isinstance(scaled, Map)
        weights = filled(made, s.source.shape[:1], scale)
        one = len(s.source.shape) == 1
        left, right = (s.source, weights) if one else (weights, s.source)
        made.statements[after] = Contract(scaled.target, "dot", left, right, scaled.equation)
        gone.add(place)
    made.statements = [s for place, s in enumerate(made.statements) if place not in gone]
    return made


def _is_plain_sum(code: Code, s: Reduce) -> bool:
    array = code.arrays[s.source.array]
    plain = s.source.whole and array.dtype == "float" and array.alias is None
    return s.kind == "sum" and s.axes == (0,) and plain and len(array.shape) <= 2 and s.target.whole


def _scaled(code: Code, uses: Uses, place: int, s: Reduce, kept: Collection[str]) -> tuple[int, Expr] | None:
    """The statement that is the only one to read the sum, and the number that it multiplies by."""
    root = code.root(s.target.array)
    readers = uses.read(root)
    if len(readers) != 1 or not all(place < reader for reader in readers):
        return None
    after = code.statements[readers[0]]
    if not isinstance(after, Map) or after.accumulate or not after.target.whole or len(after.reads) != 1:
        return None
    ((symbol, view),) = after.reads.items()
    scale = after.body / symbol
    in_place = after.target.array == s.target.array and uses.written(root) == [place, readers[0]]
    apart = own_buffer(code, s.target.array) and root not in kept and uses.written(root) == [place]
    same = view == s.target and view.shape == after.target.shape
    if not same or scale.has(symbol) or not (in_place or apart) or _changes(code, uses, s.source, place, readers[0]):
        return None
    return readers[0], scale


def _changes(code: Code, uses: Uses, view: View, first: int, last: int) -> bool:
    """Whether something writes the array between the two statements."""
    return any(first < k < last for k in uses.written(code.root(view.array)))
