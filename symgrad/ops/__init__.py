"""Every op, one definition each. Importing this package fills the registry."""

from symgrad.ops import (
    arithmetic,
    contraction,
    kernels,
    linear_algebra,
    losses,
    matrices,
    movement,
    normalisation,
    reduction,
    window,
)
from symgrad.ops.registry import OPS, Op, register

__all__ = ["OPS", "Op", "register"]

MODULES = (
    arithmetic,
    contraction,
    reduction,
    movement,
    normalisation,
    losses,
    window,
    kernels,
    linear_algebra,
    matrices,
)
