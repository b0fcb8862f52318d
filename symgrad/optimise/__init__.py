"""Array statements to fewer and better ones. Each pass is one file; it takes Code and returns Code."""

from __future__ import annotations

from collections.abc import Callable, Collection

from symgrad.lower.ir import Code

Pass = Callable[[Code, Collection[str]], Code]  # the second argument names the arrays that somebody else reads

CODE_PASSES: dict[str, Pass] = {}  # by their names in passes.PASSES, in the order in which they run


def optimise(code: Code, keep: Collection[str], without: Collection[str] = ()) -> Code:
    """The code after every pass that is not left out. The arrays `keep` (and gradients) hold what they held."""
    for name, run in CODE_PASSES.items():
        if name not in without:
            code = run(code, keep)
    return code
