"""The step in phases: what every part of the samples does by itself, and what has to wait for all of them.

    Plan   = phases in order, then tasks; which arrays hold all samples; which results come in parts
    Phase  = statements; in a `rows` phase each part of the samples carries them out by itself
    Task   = statements that complete gradients and that nothing else waits for; tasks are independent of one another

A statement's level is even for rows and odd for others, and the least that respects what the statement reads: so
a plain network has one phase of rows (forward, loss and backward), one for the loss's value, and its tasks; batch
normalisation adds a pair for each mean. A small sum over samples is taken in parts: each part of the samples adds up
its own, and the parts are added in a fixed order, whoever computed them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp
from sympy import Symbol

from symgrad.lower.ir import Array, Code, Contract, Reduce, Statement, dims_product, flattened, views_read, whole
from symgrad.machine import LIMITS
from symgrad.names import free_name
from symgrad.schedule.separable import ACROSS, FREE, ROW, WHOLE, has_samples, kind_of, sample_axis


@dataclass(frozen=True)
class Phase:
    """See the module's docstring."""

    rows: bool
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Partial:
    """A result that each part of the samples computes its own share of: `parts` holds them all, `own` is one."""

    total: str
    own: str
    parts: str
    kind: str


@dataclass(frozen=True)
class Task:
    """The gradients (array names) that it completes; `blocks`: rows of the one product can be computed apart."""

    gradients: tuple[str, ...]
    statements: tuple[Statement, ...]
    blocks: bool = False


@dataclass(frozen=True)
class Plan:
    """See the module's docstring. `size` is None where nothing is to be gained by dividing the samples."""

    size: Symbol | None
    phases: tuple[Phase, ...]
    tasks: tuple[Task, ...] = ()
    shared: frozenset[str] = frozenset()  # roots of buffers that live beyond one phase
    partials: Mapping[str, Partial] = field(default_factory=dict)


def plan_phases(
    code: Code,
    sizes: Sequence[Symbol],
    keep: Collection[str],
    gradients: Sequence[str],
    backward: Callable[[str], bool],
) -> Plan:
    """The plan by the first of the `sizes` that divides the network, or one phase of everything.

    Args:
        keep: the arrays that are read after the step; gradients: the arrays of the parameters' gradients.
        backward: whether an equation comes after the loss.
    """
    for size in sizes:
        plan = _Division(code, size, keep, gradients, backward).plan()
        if plan is not None:
            return plan
    return Plan(None, (Phase(False, tuple(code.statements)),))


class _Division:
    """The statements of one code, divided by the samples."""

    def __init__(
        self,
        code: Code,
        size: Symbol,
        keep: Collection[str],
        gradients: Sequence[str],
        backward: Callable[[str], bool],
    ) -> None:
        self.code, self.size, self.gradients, self.backward = code, size, gradients, backward
        self.kept = {code.root(name) for name in keep}
        self.statements = list(code.statements)
        self.kinds = [kind_of(code, s, size) for s in self.statements]
        self.partials: dict[str, Partial] = {}
        self.origins: list[int] = []  # for each statement the one that it was made from
        self.refused: set[int] = set()  # statements that cannot be summed in parts

    def plan(self) -> Plan | None:
        if ROW not in self.kinds:
            return None
        given = list(self.statements), list(self.kinds)
        while True:
            self._take_parts()
            levels = self._levels()
            shared = self._shared(levels)
            rows = [k for k, kind in enumerate(self.kinds) if kind == ROW]
            stuck = {k for k in rows if not self._divisible(self.statements[k], shared)}
            if not stuck:
                break
            for k in stuck:
                statement = self.origins[k]
                if given[1][statement] == ROW:
                    given[1][statement] = WHOLE
                else:
                    self.refused.add(statement)
            self._give_parts_back()
            self.statements, self.kinds = list(given[0]), list(given[1])
        if ROW not in self.kinds or max(levels) >= LIMITS.phases:
            self._give_parts_back()
            return None
        owners = self._owners(levels)
        phases = []
        for level in sorted(set(levels)):
            chosen = [s for k, s in enumerate(self.statements) if levels[k] == level and k not in owners]
            if chosen:
                phases.append(Phase(level % 2 == 0, tuple(chosen)))
        return Plan(self.size, tuple(phases), self._tasks(owners), frozenset(shared), self.partials)

    # sums in parts

    def _take_parts(self) -> None:
        """Each small sum over samples that is some array's only value becomes a row statement, and the sum of parts."""
        statements, kinds = self.statements, self.kinds
        self.statements, self.kinds, self.origins = [], [], []
        written: set[str] = set()
        for k, (s, kind) in enumerate(zip(statements, kinds, strict=True)):
            made = [(s, kind)]
            if kind == ACROSS and isinstance(s, Reduce | Contract) and k not in self.refused and self._is_small(s):
                target = self.code.arrays[s.target.array]
                if self.code.root(target.name) not in written and self._covers(s, target):
                    made = self._in_parts(s, target)
            written |= _written(self.code, s)
            for statement, its in made:
                self.statements.append(statement)
                self.kinds.append(its)
                self.origins.append(k)

    def _give_parts_back(self) -> None:
        for partial in self.partials.values():
            del self.code.arrays[partial.own], self.code.arrays[partial.parts]
        self.partials = {}

    def _covers(self, s: Reduce | Contract, target: Array) -> bool:
        root = self.code.arrays[self.code.root(target.name)]
        plain = not s.target.index and not s.target.windows
        return plain and dims_product(s.target.shape) == dims_product(target.shape) == dims_product(root.shape)

    def _is_small(self, s: Reduce | Contract) -> bool:
        result = dims_product(s.target.shape)
        if not result.is_Integer:
            return False
        views = [s.source] if isinstance(s, Reduce) else [s.left, s.right]
        sizes = [sp.cancel(dims_product(v.shape) / self.size) for v in views]
        each = sum(int(n) for n in sizes if n.is_Integer)
        return int(result) <= max(LIMITS.large_sum if self._is_long(s) else LIMITS.small_sum, each)

    def _is_long(self, s: Reduce | Contract) -> bool:
        """Whether every sample adds so much to each element of a product that adding up the parts is nothing to it."""
        if not isinstance(s, Contract) or s.form not in ("dot", "matmul"):
            return False
        each = sp.cancel(s.left.shape[-1] / self.size)
        return bool(each.is_Integer and each >= LIMITS.long_sum)

    def _in_parts(self, s: Reduce | Contract, target: Array) -> list[tuple[Statement, str]]:
        """The statement for one part of the samples, and the sum of all parts."""
        code = self.code
        own = Array(free_name(f"{target.name}_part", code.arrays), target.shape, target.dtype, "part")
        code.arrays[own.name] = own
        parts = Array(free_name(f"{target.name}_parts", code.arrays), target.shape, target.dtype, "parts")
        code.arrays[parts.name] = parts
        kind = s.kind if isinstance(s, Reduce) else "sum"
        self.partials[target.name] = Partial(target.name, own.name, parts.name, kind)
        share = replace(s, target=replace(s.target, array=own.name))
        return [(share, ROW), (Reduce(whole(target), kind, whole(parts), (), s.equation), FREE)]

    # phases

    def _levels(self) -> list[int]:
        levels: list[int] = []
        written: dict[str, list[int]] = {}
        read: dict[str, list[int]] = {}
        for k, s in enumerate(self.statements):
            row = self.kinds[k] == ROW
            writes, reads = _written(self.code, s), self._read(s)
            before = {j for name in {*reads, *writes} for j in written.get(name, ())}
            before |= {j for name in writes for j in read.get(name, ())}
            level = 0 if row else -1
            for j in before:
                other = levels[j]
                level = max(level, other if (other % 2 == 0) == row else other + 1)
            levels.append(level)
            for name in writes:
                written.setdefault(name, []).append(k)
            for name in reads:
                read.setdefault(name, []).append(k)
        return levels

    def _read(self, s: Statement) -> set[str]:
        """The roots that a statement reads; the sum of parts reads what the parts wrote."""
        roots = {self.code.root(v.array) for v in views_read(s)}
        return roots | {p.own for p in self.partials.values() if p.parts in roots}

    def _shared(self, levels: Sequence[int]) -> set[str]:
        """The buffers that hold samples beyond one phase, or that somebody reads after the step."""
        seen: dict[str, set[int]] = {}
        for k, s in enumerate(self.statements):
            for name in self._read(s) | set(_written(self.code, s)):
                seen.setdefault(name, set()).add(levels[k])
        buffers = {name for name in seen if self.code.arrays[name].kind in ("buffer", "fixed", "gradient")}
        return {n for n in buffers if len(seen[n]) > 1 or n in self.kept or self.code.arrays[n].kind == "gradient"} | {
            n for n in buffers if not has_samples(self.code, n, self.size)
        }

    def _divisible(self, s: Statement, shared: Collection[str]) -> bool:
        """Whether the part of every view that belongs to some samples is a view."""
        for inner in flattened([s]):
            for view in (*views_read(inner), inner.target):  # type: ignore[union-attr]
                root = self.code.root(view.array)
                if root in shared and has_samples(self.code, view.array, self.size):
                    cut = sample_axis(self.code.arrays[view.array].shape, view, self.size)
                    if cut is None or cut.inner:
                        return False
                    if not self._alias_divisible(view.array):
                        return False
        return True

    def _alias_divisible(self, name: str) -> bool:
        alias = self.code.arrays[name].alias
        while alias is not None:
            cut = sample_axis(self.code.arrays[alias.array].shape, alias, self.size)
            if cut is None or cut.inner:
                return False
            alias = self.code.arrays[alias.array].alias
        return True

    # tasks

    def _owners(self, levels: Sequence[int]) -> dict[int, str]:
        """Statement number -> the gradient that it is computed for alone, after the last rows."""
        last_rows = max(level for level in levels if level % 2 == 0)
        users: dict[str, list[int]] = {}
        owners: dict[int, str] = {}
        for k in reversed(range(len(self.statements))):
            s = self.statements[k]
            targets = _written(self.code, s)
            candidates: set[str | None] = {name for name in targets if name in self.gradients}
            candidates |= {owners.get(j) for name in targets for j in users.get(name, ())}
            late = self.kinds[k] != ROW and (levels[k] > last_rows or self.kinds[k] == FREE)
            if late and self.backward(s.equation) and len(candidates) == 1 and not targets & self.kept:
                (owner,) = candidates
                if owner is not None:
                    owners[k] = owner
            for name in self._read(s) | targets:
                users.setdefault(name, []).append(k)
        return owners

    def _tasks(self, owners: Mapping[int, str]) -> tuple[Task, ...]:
        """One task for each gradient in the order of the flat vector."""
        tasks = []
        for name in self.gradients:
            chosen = tuple(s for k, s in enumerate(self.statements) if owners.get(k) == name)
            product = len(chosen) == 1 and isinstance(chosen[0], Contract) and chosen[0].form == "dot"
            tasks.append(Task((name,), chosen, product and len(self.code.arrays[name].shape) == 2))
        return tuple(tasks)


def _written(code: Code, statement: Statement) -> set[str]:
    return {code.root(s.target.array) for s in flattened([statement])}  # type: ignore[union-attr]
