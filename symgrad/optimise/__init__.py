"""Array statements to fewer and better ones. Each pass is one file; it takes Code and returns Code."""

from __future__ import annotations

from collections.abc import Callable, Collection

from symgrad.lower.ir import Code
from symgrad.optimise.accumulate_scatters import accumulate_scatters
from symgrad.optimise.forward_destinations import forward_destinations
from symgrad.optimise.join_parts import join_parts
from symgrad.optimise.share_early import share_early
from symgrad.optimise.stack_contractions import stack_contractions
from symgrad.optimise.transpose_once import transpose_once
from symgrad.optimise.weigh_sums import weigh_sums

Pass = Callable[[Code, Collection[str]], Code]  # the second argument names the arrays that somebody else reads

CODE_PASSES: dict[str, Pass] = {  # by their names in passes.PASSES, in the order in which they run
    "accumulate_scatters": accumulate_scatters,
    "join_parts": join_parts,
    "forward_destinations": forward_destinations,
    "stack_contractions": stack_contractions,
    "share_early": share_early,
    "transpose_once": transpose_once,
    "weigh_sums": weigh_sums,
}


def optimise(code: Code, keep: Collection[str], without: Collection[str] = ()) -> Code:
    """The code after every pass that is not left out. The arrays `keep` (and gradients) hold what they held."""
    for name, run in CODE_PASSES.items():
        if name not in without:
            code = run(code, keep)
    return code
