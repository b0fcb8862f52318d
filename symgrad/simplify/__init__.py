"""Rewriting the joint graph of forward and adjoint equations, keeping every value.

Each pass is one file with one subject, takes a System and returns a System.
"""

from symgrad.simplify.constants import fold_constants
from symgrad.simplify.forward_values import reuse_forward_values
from symgrad.simplify.fuse import fuse_elementwise
from symgrad.simplify.masks import apply_masks_last
from symgrad.simplify.masks_of_values import read_masks_of_values
from symgrad.simplify.pull_factors import pull_factors
from symgrad.simplify.read_quotients import read_quotients
from symgrad.simplify.residuals import share_residuals
from symgrad.simplify.scaled_sums import scale_sums
from symgrad.simplify.share import share_equal
from symgrad.simplify.share_functions import share_functions
from symgrad.simplify.shared_sums import share_sums
from symgrad.simplify.stabilise import stabilise
from symgrad.simplify.sum_first import sum_first
from symgrad.simplify.sums import simplify_sums

__all__ = [
    "apply_masks_last",
    "fold_constants",
    "fuse_elementwise",
    "pull_factors",
    "read_masks_of_values",
    "read_quotients",
    "reuse_forward_values",
    "scale_sums",
    "share_equal",
    "share_functions",
    "share_residuals",
    "share_sums",
    "simplify_sums",
    "stabilise",
    "sum_first",
]
