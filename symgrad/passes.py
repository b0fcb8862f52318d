"""The passes that make emitted code fast, by name: each can be left out, so that its effect can be measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from symgrad.errors import EmitError, nearest

T = TypeVar("T")

PASSES: dict[str, str] = {  # name -> what it does, in the order in which they run
    "pool_first": "a max over windows comes before bias, relu and whatever else does not decrease",
    "merge_taps": "a convolution that is pooled without overlap is computed for all places of a window at once",
    "share_exponentials": "sigmoid and softplus of one value, and of its negative, share one exponential",
    "share_functions": "one tanh, exp or quotient for all equations that read it, forward and backward",
    "refit_functions": "a shared function is kept in the form that makes its readers cheapest, (1 + tanh u)/2 for gelu",
    "read_masks_of_values": "the mask of relu's gradient is read from relu's value",
    "read_quotients": "a quotient that is there is read in place of what it divides: a softmax's gradient has none",
    "share_residuals": "a residual whose squares are added up is computed once, for the loss and its gradient",
    "sum_first": "a product that only sums over samples read is not computed: these sums come first",
    "pull_factors": "a factor of few elements is multiplied where that is free: into a vector, or after a sum",
    "share_sums": "a sum over everything is made of smaller sums that a gradient needs anyway",
    "scale_sums": "a sum and a multiple of it that alone reads it are one sum",
    "drop_copies": "who reads an unchanged copy reads the tensor itself",
    "share_masks": "comparisons that several equations make are made once",
    "overlap_rows": "the adjoint of windows along several axes is a product for each row, with fewer parts to be added",
    "add_overlaps": "the adjoint of windows is one product, and its overlapping parts added up",
    "share_invariant": "factors that all parts of a scatter share are multiplied once",
    "pad_windows": "windows that reach outside read a copy with a border, the same forward and backward",
    "move_batch_last": "tensors over which windows slide lie in memory with the batch as the last axis",
    "window_rows": "of windows along several axes, those along the first one are read without a copy, row by row",
    "copy_windows": "the windows that a product reads are copied once, for forward and backward",
    "unroll_windows": "reductions over a few neighbours are expressions of strided views",
    "same_memory": "a tensor that is another one in a new shape is a view of it",
    "constant_borders": "zeros that nothing is written over are written once",
    "write_parts": "scatters at known places are written part by part, and added only where parts overlap",
    "small_products": "long thin products as many small ones, for which BLAS has kernels of their own",
    "accumulate_scatters": "what is 0 but for a few elements is added to those of the sum that reads it",
    "join_parts": "sums of arrays that are zero but for boxes: the boxes are written into one array",
    "forward_destinations": "no copies: what makes a value writes it where it is wanted",
    "stack_contractions": "products of one form become one product over operands that lie behind one another",
    "share_early": "what elementwise bodies of one form can know early is computed for all of them at once",
    "product_blocks": "large products as one call of many small ones, which BLAS computes without packing",
    "transpose_once": "a transposed right operand of several small products is copied once",
    "cheapest_forms": "elementwise bodies in the form that takes the fewest calls: Horner's, common factors taken out",
    "spread_operands": "an operand that is repeated along an axis is copied to the result's place first, a faster pass",
    "sums_as_products": "sums as products with ones, sums of products without the products: BLAS, vecdot, einsum",
    "flat_indices": "elements picked out of rows by one index into the rows behind one another",
    "weigh_sums": "a mean is one product: its elements are added with the weight that they have in it",
}


def left_out(without: Iterable[str]) -> frozenset[str]:
    """The names `without` as a set. Raises EmitError for one that is no pass."""
    try:
        names = frozenset([without] if isinstance(without, str) else without)
    except TypeError:
        fault = f"without: expected names of passes, got {without!r}"
        raise EmitError(fault, hint="some of " + ", ".join(PASSES)) from None
    for name in sorted(names, key=str):
        if name not in PASSES:
            raise EmitError(f"unknown pass {name!r}", hint=nearest(str(name), PASSES) or "one of " + ", ".join(PASSES))
    return names


def through(passes: Mapping[str, Callable[[T], T]], value: T, without: Collection[str] = ()) -> T:
    """The value after every pass that is not left out, in their order."""
    for name, run in passes.items():
        if name not in without:
            value = run(value)
    return value
