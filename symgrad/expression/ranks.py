"""Which of its variables an expression means as scalars, vectors and matrices.

What the use leaves open, the name decides: an upper-case letter first is a matrix, a Greek letter a scalar, anything
else a vector. Each reading has a cost; they are found in order of cost, by best-first search over the ranks of the
variables, and a reading is given up at the first term whose operands do not fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from symgrad.expression.rules import Elementwise, Registered
from symgrad.expression.terms import Applied, Filled, Named, Term

MAX_WORK = 100_000  # terms looked at

GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "eps", "zeta", "eta", "theta", "iota", "kappa", "lam", "mu"}
GREEK |= {"nu", "xi", "omicron", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"}

# a matrix read as a vector, or a vector as a matrix
OTHER_KIND = 30
# cost of a variable as scalar, vector, matrix
_GREEK, _UPPER, _LOWER = (0, OTHER_KIND, OTHER_KIND + 1), (12, OTHER_KIND, 0), (10, 0, OTHER_KIND)
_BROADCAST = 25  # operands of different ranks, both with axes
_BIAS = 8  # the same in a sum: X @ W + b
_REDUCED_SCALAR = 50  # sum(c) of a scalar c
# a sum of everything, added to a tensor or divided by one: norm2(x) + c*y is odd unless y is a scalar
_ODD_TOTAL = 15
_TOTAL_OPERANDS: dict[str, tuple[int, ...]] = {"add": (0, 1), "subtract": (0, 1), "divide": (0,)}


@dataclass(frozen=True)
class Ranked:
    """A term's rank, and whether it is a scalar that tensors were reduced to."""

    rank: int
    total: bool = False


@dataclass
class RankSearch:
    """The readings of the terms. `known` are the ranks of variables that are declared.

    Attributes:
        furthest: the ranks of the reading that got furthest before it was given up.
        work: how many terms were looked at.
    """

    terms: Sequence[Term]
    known: Mapping[str, int]
    furthest: tuple[Ranked, ...] = ()
    work: int = 0
    _heap: list[tuple[int, int, int, tuple[Ranked, ...]]] = field(default_factory=list)

    def readings(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The cost and the ranks of all terms, for each reading, cheapest first."""
        self._push(0, ())
        while self._heap and self.work < MAX_WORK:
            cost, _, _, ranks = heapq.heappop(self._heap)
            if len(ranks) == len(self.terms):
                yield cost, tuple(r.rank for r in ranks)
            else:
                self._follow(cost, ranks)

    def _push(self, cost: int, ranks: tuple[Ranked, ...]) -> None:
        self.work += 1
        heapq.heappush(self._heap, (cost, -len(ranks), self.work, ranks))

    def _follow(self, cost: int, ranks: tuple[Ranked, ...]) -> None:
        """Rank the terms up to the next variable, and put off one reading for each of its ranks."""
        following = list(ranks)
        for term in self.terms[len(ranks) :]:
            self.work += 1
            if isinstance(term.form, Named):
                for rank, more in self._options(term.form.name):
                    self._push(cost + more, (*following, Ranked(rank)))
                return
            found = _ranked(term, following)
            if found is None:
                self.furthest = max(self.furthest, tuple(following), key=len)
                return
            following.append(found[0])
            cost += found[1]
        self._push(cost, tuple(following))

    def unlike(self, ranks: Sequence[int]) -> str | None:
        """The first variable with a matrix's name that the ranks make something else, though nobody declared it."""
        for term, rank in zip(self.terms, ranks, strict=True):
            name = term.form.name if isinstance(term.form, Named) else ""
            if name[:1].isupper() and name not in self.known and rank != 2 and self._options(name)[2][1] == 0:
                return name
        return None

    def rank_of(self, name: str, ranks: Sequence[int]) -> int:
        """The rank of a variable in a reading."""
        pairs = zip(self.terms, ranks, strict=True)
        return next(rank for term, rank in pairs if isinstance(term.form, Named) and term.form.name == name)

    def _options(self, name: str) -> list[tuple[int, int]]:
        """The ranks that a variable may have, each with its cost."""
        if name in self.known:
            return [(self.known[name], 0)]
        letter = name.split("_")[0].rstrip("0123456789")
        return list(enumerate(_GREEK if letter in GREEK else _UPPER if name[0].isupper() else _LOWER))


def _ranked(term: Term, ranks: Sequence[Ranked]) -> tuple[Ranked, int] | None:
    """The rank of a term that is no variable, and what it adds to the cost; None where its operands do not fit."""
    form = term.form
    if isinstance(form, Filled):
        return Ranked(2 if form.function == "eye" else len(term.operands)), 0
    if not isinstance(form, Applied):
        return Ranked(0), 0
    operands = [ranks[k] for k in term.operands]
    rank = form.rule.rank(tuple(r.rank for r in operands))
    if rank is None:
        return None
    return Ranked(rank, rank == 0 and any(r.rank or r.total for r in operands)), _cost(form, operands, rank)


def _cost(form: Applied, operands: Sequence[Ranked], rank: int) -> int:
    if isinstance(form.rule, Registered):
        return _REDUCED_SCALAR * (operands[0].rank == 0)
    if not isinstance(form.rule, Elementwise) or not rank:
        return 0
    odd = any(operands[k].total for k in _TOTAL_OPERANDS.get(form.rule.name, ()))
    broadcast = _BIAS if form.rule.name in ("add", "subtract") else _BROADCAST
    return _ODD_TOTAL * odd + broadcast * (len({r.rank for r in operands} - {0}) > 1)
