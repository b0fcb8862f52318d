"""Whether an array may lie inside another one: no view of it may become a copy, no product leave BLAS."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from symgrad.lower.ir import Apply, Code, Contract, Gather, Scatter, Statement, View, flattened
from symgrad.machine import LIMITS, MACHINE, estimate
from symgrad.optimise.layout import array_layout, view_layout
from symgrad.optimise.uses import make_alias, purely_read, views_of


def placed_as(
    code: Code, name: str, view: View, keep: Collection[str], gone: Collection[int] = (), few: int = LIMITS.reads_apart
) -> bool:
    """Make the array an alias of the view, if all who use it (statements that are `gone` aside) can do with that.

    At most `few` of them may read elements that then lie apart because the array is transposed.
    """
    before = code.arrays[name]
    make_alias(code, name, view)
    names = _seen_through(code, name)
    changed: dict[int, Statement] = {}
    for place, statement in enumerate(code.statements):
        if place not in gone and any(v.array in names for v in views_of(statement)):
            made = _fitting(code, statement, names)
            if made is None:
                break
            changed[place] = made
    else:
        if _lies_well(code, name, names, changed.values(), keep, few):
            for place, made in changed.items():
                code.statements[place] = made
            return True
    code.arrays[name] = before
    return False


def _seen_through(code: Code, name: str) -> set[str]:
    """The array and all that are views of it, of views of it, and so on."""
    found = {name}
    for other in code.arrays:
        chain, step = [other], code.arrays[other].alias
        while step is not None:
            if step.array in found:
                found.update(chain)
                break
            chain.append(step.array)
            step = code.arrays[step.array].alias
    return found


def _lies_well(
    code: Code, name: str, names: Collection[str], statements: Iterable[Statement], keep: Collection[str], few: int
) -> bool:
    layouts = {n: array_layout(code, n) for n in names}
    if any(layout is None for layout in layouts.values()):
        return False
    if any(not layout.contiguous for n, layout in layouts.items() if layout is not None and n in keep):
        return False
    own = layouts[name]
    readers = [s for s in statements if not _product(s) and any(v.array in names for v in purely_read(s))]
    return own is not None and (own.inner_contiguous or len(readers) <= (few if own.transposed else LIMITS.reads_apart))


def _product(statement: Statement) -> bool:
    return isinstance(statement, Contract) and statement.form in ("dot", "matmul")


def _fitting(code: Code, statement: Statement, names: Collection[str]) -> Statement | None:
    """The statement in the form that the new layouts ask for; None if there is none."""
    for inner in flattened([statement]):
        layouts = [view_layout(code, v) for v in views_of(inner) if v.array in names]
        if any(layout is None for layout in layouts):
            return None
        flat = isinstance(inner, Gather | Scatter | Apply)  # these may see arrays as one axis
        if flat and any(layout is not None and not layout.contiguous for layout in layouts):
            return None
        if isinstance(inner, Contract) and _product(inner):
            turned = inner.right.array in names and _slow_transposed(code, inner)
            fitting = None if turned else _fitting_product(code, inner)
            if fitting is None or (fitting != inner and inner is not statement):
                return None
            if inner is statement:
                return fitting
    return statement


def _slow_transposed(code: Code, s: Contract) -> bool:
    """Whether one of many small products would need packing because its right operand lies transposed."""
    right = view_layout(code, s.right)
    if s.form != "matmul" or len(s.left.shape) < 3 or right is None or right.axes[-1][1] == 1:
        return False
    rows, bound, columns = (estimate(n) for n in (*s.left.shape[-2:], s.right.shape[-1]))
    small = 2 * MACHINE.small_product  # a part has half the samples or fewer
    return rows * columns > LIMITS.transposed_result and rows * bound * columns <= small


def _fitting_product(code: Code, s: Contract) -> Contract | None:
    """np.dot writes into row-major arrays only; matmul wherever BLAS does."""
    left, right, target = (view_layout(code, v) for v in (s.left, s.right, s.target))
    if left is None or right is None or target is None or not (left.blas and right.blas):
        return None
    if s.form == "dot":
        if target.contiguous:
            return s
        if min(len(left.axes), len(right.axes)) < 2:
            return None
    return replace(s, form="matmul") if target.blas else None
