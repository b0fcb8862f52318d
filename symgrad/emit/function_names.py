"""Names for a function's temporaries: letters as they are used by hand, capital ones for matrices."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count

from symgrad.emit.function_steps import bound_name

_LETTERS = {0: "stcabg", 1: "uvzrpqw", 2: "UVZRPQW"}  # by the number of axes
_GENERATED = re.compile(r"[A-Za-z_]{3,}\d+(_|$)|_via_")


def temporary_names(
    nodes: Iterable[ast.stmt], ranks: Mapping[str, int], kept: Collection[str], taken: Collection[str]
) -> dict[str, str]:
    """A new name for each one that the statements bind.

    Args:
        ranks: the number of axes of what a name stands for, where that is known.
        kept: names that stay if they are ones that a person gives, and short: h, d_h, but not multiply12.
        taken: names that no temporary may have.
    """
    bound = list(dict.fromkeys(name for node in nodes if (name := bound_name(node))))
    staying = {n for n in bound if n in kept and len(n) <= 12 and not _GENERATED.search(n)}
    used = {*taken, *staying}
    names: dict[str, str] = {}
    for name in bound:
        if name not in staying and name not in taken:
            names[name] = next(n for n in _candidates(ranks.get(name)) if n not in used)
            used.add(names[name])
    return names


def _candidates(rank: int | None) -> Iterator[str]:
    if rank is not None:
        yield from _LETTERS[min(rank, 2)]
    yield from (f"t{k}" for k in count(1))
