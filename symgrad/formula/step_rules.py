"""Which rule a simplification used, read off the equation before and after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sympy as sp

from symgrad.equations import Equation, equation
from symgrad.formula.lines import Line, Lines
from symgrad.formula.step_plan import StepPlan
from symgrad.formula.survey import is_copy
from symgrad.formula.symbols import escape
from symgrad.index.definition import At, define
from symgrad.simplify.constants import is_constant
from symgrad.simplify.substitute import substitute
from symgrad.simplify.sums import MAX_OPERATIONS

START, CHAIN, SOLVED, ADDED = "start", "chain rule", "index solved", "adjoints added"
FOLDED, NAMED, RECOGNISED, FACTORED, CANCELLED = "folded", "value named", "sum recognised", "factor moved", "cancelled"
REWRITTEN = "rewritten"


@dataclass(frozen=True)
class Rule:
    """A rule of calculus or algebra as one step uses it.

    Attributes:
        kind: one of the names above; those from "folded" on are simplifications.
        words: the rule in words.
        lines: the equations that it is applied with.
        made_by: the pass that applied it, for simplifications.
    """

    kind: str
    words: str
    lines: tuple[Line, ...] = ()
    made_by: str = ""

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """Words and equations."""
        return f"{self.words} {self._between.join(line.text for line in self.lines)}".rstrip()

    @property
    def latex(self) -> str:
        """The same in LaTeX, for math mode."""
        equations = [line.latex.replace("&=", "=") for line in self.lines]
        return rf"\text{{{escape(self.words)} }}" + rf" \text{{{self._between}}} ".join(equations)

    @property
    def _between(self) -> str:
        return " and " if self.kind == CHAIN else "; "


def simplification(plan: StepPlan, before: Equation, after: Equation, made_by: str) -> tuple[Rule, str]:
    """The rule by which a pass rewrote an equation, and a sentence on it, which may be empty."""
    return _Change(plan, before, after, made_by).rule()


class _Change:
    """One equation before and after a pass.

    `gone` and `new` are the tensors with a symbol that only the one or only the other reads.
    """

    def __init__(self, plan: StepPlan, before: Equation, after: Equation, made_by: str) -> None:
        self.plan, self.before, self.after, self.made_by = plan, before, after, made_by
        self.lines = Lines(plan)
        old, now = self._read(before), self._read(after)
        self.gone = [name for name in old if name not in now]
        self.new = [name for name in now if name not in old]

    def _read(self, e: Equation) -> list[str]:
        """The tensors with a symbol that an equation reads, through those without one."""
        found: dict[str, None] = {}
        stack = [*reversed(e.operands)]
        while stack:
            name = stack.pop()
            if name in self.plan.shown:
                found[name] = None
            else:
                stack.extend(reversed(self.plan.system.equations[name].operands))
        return list(found)

    def rule(self) -> tuple[Rule, str]:
        zeros = self._stands_for(self.gone, zero=True)
        if self._is_zero() and zeros:
            return self._named(FOLDED, "zero folded:", zeros), "So nothing comes through here."
        if len(self.after.definition.reduced) < len(self.before.definition.reduced):
            return self._sum()
        if self._is_zero():
            return self._named(CANCELLED, "terms cancel"), self._with()
        values = [self._line(name) for name in self.new if name in self.plan.forward]
        if values:
            return self._named(NAMED, "common value written by its name:", values), ""
        folded = self._stands_for(self.gone)
        if folded:
            constant = not any(map(self._reads_more, self.gone))
            return self._named(FOLDED, "constant folded:" if constant else "copy folded:", folded), ""
        return self._named(REWRITTEN, self.made_by.replace("_", " ")), self._with()

    def _reads_more(self, name: str) -> bool:
        e = self.plan.system.equations.get(self.plan.joint.of(name)[-1])
        return e is not None and bool(e.operands)

    def _is_zero(self) -> bool:
        return is_constant(self.after.definition) and self.after.definition.body == 0

    def _sum(self) -> tuple[Rule, str]:
        helpers = [name for name in self.new if name in self.plan.joint.added]
        if helpers:
            return self._named(FACTORED, "factor moved out of the sum:", map(self._line, helpers)), self._with()
        known = [*self._known_sums(), *(n for n in self.new if self.plan.system.equations[n].definition.reduced)]
        if known:
            lines = [self._line(name) for name in dict.fromkeys(known)]
            return self._named(RECOGNISED, "sum recognised:", lines), self._with()
        return self._named(REWRITTEN, "sum written in sums that are known"), self._with()

    def _known_sums(self) -> list[str]:
        """The sums with a symbol that a term of the sum before is a multiple of, its adjoints written out."""
        opened = self._opened()
        keys = {self._inner_key(opened, term) for term in sp.Add.make_args(sp.expand_mul(opened.definition.body))}
        network = [e for e in self.plan.system if e.name in self.plan.forward or e.name in self.plan.joint.added]
        return [e.name for e in network if e.definition.reduced and e.name in self.plan.shown and e.key in keys]

    def _opened(self) -> Equation:
        """The equation before, with the elementwise adjoints that it reads in place, while it stays small."""
        e = self.before
        while sp.count_ops(e.definition.body) <= MAX_OPERATIONS:
            adjoints = [o for o in e.operands if o in self.plan.joint.on_path]
            last = {o: self.plan.system.equations[self.plan.joint.of(o)[-1]] for o in adjoints}
            bodies = {o: made for o, made in last.items() if made.definition.elementwise}
            opened = substitute(self.plan.system, e, bodies)
            if opened is e:
                break
            e = opened
        return e

    def _inner_key(self, e: Equation, term: sp.Expr) -> object:
        """The part of a term that depends on what is summed over, as the key of a sum."""
        bound = {i for i, _ in e.definition.reduced}
        body = sp.Mul(*(f for f in sp.Mul.make_args(term) if f.free_symbols & bound))
        loops = [(i, n) for i, n in e.definition.loops if i in body.free_symbols]
        kept = [(i, n) for i, n in loops if i not in bound]
        made = define(loops, [n for _, n in kept], [i for i, _ in kept], body)
        return equation("", made, e.operands, dtype=e.dtype).key

    # words

    def _named(self, kind: str, words: str, lines: Iterable[Line] = ()) -> Rule:
        return Rule(kind, words, tuple(lines), self.made_by)

    def _with(self) -> str:
        """The adjoints that were written out on the way."""
        helpers = [self.plan.system.equations[name] for name in self.new if name in self.plan.joint.added]
        kept = {name for e in helpers for name in self._read(e)}
        gone = [name for name in self.gone if name not in self.plan.forward and name not in kept]
        written = [self._last_line(name).text for name in gone]
        return f"With {' and '.join(written)}." if written else ""

    def _stands_for(self, names: Sequence[str], zero: bool = False) -> list[Line]:
        """The lines of those that are a constant, or an element of another tensor."""
        last = {name: self.plan.system.equations.get(self.plan.joint.of(name)[-1]) for name in names}
        return [
            self._last_line(name)
            for name, e in last.items()
            if e is not None and (e.definition.body == 0 if zero else _is_trivial(e))
        ]

    def _line(self, name: str) -> Line:
        return self.lines.matrix(name)[0]

    def _last_line(self, name: str) -> Line:
        return self._line(self.plan.joint.of(name)[-1])


def _is_trivial(e: Equation) -> bool:
    return is_constant(e.definition) or is_copy(e) or isinstance(e.definition.body, At)
