"""Equations rewritten for how NumPy and BLAS go through memory. Each pass is one file."""

from __future__ import annotations

from collections.abc import Callable, Collection

from symgrad.equations import System
from symgrad.lower.batch_last import move_batch_last
from symgrad.lower.invariant import share_invariant
from symgrad.lower.merge_taps import merge_taps
from symgrad.lower.overlaps import add_overlaps, overlap_rows
from symgrad.lower.pool_first import pool_first
from symgrad.lower.renamed import drop_copies
from symgrad.lower.share_masks import share_masks
from symgrad.lower.small_windows import unroll_windows
from symgrad.lower.window_rows import window_rows
from symgrad.lower.windows import copy_windows, pad_windows
from symgrad.passes import through

Pass = Callable[[System], System]

NETWORK_PASSES: dict[str, Pass] = {"pool_first": pool_first, "merge_taps": merge_taps}  # before it is derived
TRAINING_PASSES: dict[str, Pass] = {
    "drop_copies": drop_copies,
    "overlap_rows": overlap_rows,
    "add_overlaps": add_overlaps,
    "share_masks": share_masks,
    "share_invariant": share_invariant,
    "pad_windows": pad_windows,
    "move_batch_last": move_batch_last,
    "window_rows": window_rows,
    "copy_windows": copy_windows,
    "unroll_windows": unroll_windows,
}


def arrange_network(system: System, without: Collection[str] = ()) -> System:
    """The network's equations in the order of computation that is cheapest; the values stay."""
    return through(NETWORK_PASSES, system, without)


def arrange(system: System, without: Collection[str] = ()) -> System:
    """The equations of a training step as they are to be lowered."""
    return through(TRAINING_PASSES, system, without)
