"""Rewriting the joint graph of forward and adjoint equations, keeping every value.

Each pass is one file with one subject, takes a System and returns a System.
"""

from symgrad.simplify.constants import fold_constants
from symgrad.simplify.forward_values import reuse_forward_values
from symgrad.simplify.fuse import fuse_elementwise
from symgrad.simplify.masks import apply_masks_last
from symgrad.simplify.share import share_equal
from symgrad.simplify.stabilise import stabilise
from symgrad.simplify.sums import simplify_sums
from symgrad.simplify.training import JOINT_PASSES, share_work

__all__ = [
    "JOINT_PASSES",
    "apply_masks_last",
    "fold_constants",
    "fuse_elementwise",
    "reuse_forward_values",
    "share_equal",
    "share_work",
    "simplify_sums",
    "stabilise",
]
