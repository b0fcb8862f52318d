"""The joint graph of forward and adjoint equations as it is computed fastest. Each pass is one file."""

from __future__ import annotations

from collections.abc import Callable, Collection

from symgrad.equations import System
from symgrad.passes import through
from symgrad.simplify.masks_of_values import read_masks_of_values
from symgrad.simplify.one_exponential import share_exponentials
from symgrad.simplify.pull_factors import pull_factors
from symgrad.simplify.read_quotients import read_quotients
from symgrad.simplify.refit import refit_functions
from symgrad.simplify.residuals import share_residuals
from symgrad.simplify.scaled_sums import scale_sums
from symgrad.simplify.share_functions import share_functions
from symgrad.simplify.shared_sums import share_sums
from symgrad.simplify.sum_first import sum_first

JOINT_PASSES: dict[str, Callable[[System], System]] = {  # by their names in passes.PASSES, in their order
    "share_exponentials": share_exponentials,
    "share_functions": share_functions,
    "refit_functions": refit_functions,
    "read_masks_of_values": read_masks_of_values,
    "read_quotients": read_quotients,
    "share_residuals": share_residuals,
    "sum_first": sum_first,
    "pull_factors": pull_factors,
    "share_sums": share_sums,
    "scale_sums": scale_sums,
}


def share_work(system: System, without: Collection[str] = ()) -> System:
    """The system after every pass that is not left out; the values of what is wanted stay."""
    return through(JOINT_PASSES, system, without)
