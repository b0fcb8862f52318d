"""Writes the steps of a gradient: the chain rule for each adjoint on the way, and what the passes made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from symgrad.equations import System
from symgrad.formula.lines import Line, Lines
from symgrad.formula.notation import hadamard, reduced
from symgrad.formula.step_check import Claim
from symgrad.formula.step_plan import StepPlan, find_way
from symgrad.formula.step_rules import ADDED, CHAIN, SOLVED, START, Rule, simplification
from symgrad.formula.step_system import Record, joint_system
from symgrad.formula.step_text import Read, Solved, chain_line
from symgrad.formula.steps import Step, Steps
from symgrad.formula.survey import is_copy

_SHARES = {
    "max": "The elements that win the maximum share the cotangent",
    "min": "The elements that win the minimum share the cotangent",
    "prod": "Every factor gets the product of the others",
}


def derivation_steps(
    record: Record, forward: System, nodes: Mapping[str, str], tensor: str, shown: Iterable[str]
) -> Steps:
    """The steps from the target to `tensor`, in the notation of the tensors `shown`."""
    way = find_way(record, forward, tensor, shown)
    joint = joint_system(record, forward, tensor, way.written_out)
    gradient = record.raw.gradients[tensor]
    needed = joint.system.needed_for([*(f for base in joint.bases for f in joint.forms(base)), record.target])
    forward_names = frozenset(forward.equations)
    plan = StepPlan(joint.system, forward_names, nodes, frozenset(needed), joint=joint, record=record, way=way)
    return _Writer(plan, forward, tensor).steps(gradient)


class _Writer:
    """Writes the steps of a plan."""

    def __init__(self, plan: StepPlan, forward: System, tensor: str) -> None:
        self.plan, self.forward, self.tensor = plan, forward, tensor
        self.joint, self.record, self.way = plan.joint, plan.record, plan.way
        self.lines = Lines(plan)
        self.found: list[Step] = []

    def steps(self, gradient: str) -> Steps:
        if self.record.seed:
            self._weighted(self.record.seed)
        for base in self._in_order():
            self._first(base)
            self._simplified(base)
        result = self._line(self.joint.of(gradient)[-1])
        return Steps(self.tensor, self._given(), result, self.found)

    def _in_order(self) -> list[str]:
        """The adjoints with a symbol, each behind the contributions to it."""
        named = [b for b in self.joint.path if not self.way.written_out(self.joint.system.equations[b])]
        return [n for base in named if base not in self.way.whole_of for n in (*self.way.parts.get(base, ()), base)]

    def _given(self) -> list[Line]:
        """The network's own equations from the tensor to the target."""
        below = {self.tensor}
        for e in self.forward:
            if below.intersection(e.operands):
                below.add(e.name)
        target, seed = self.record.target, self.record.seed
        needed = self.forward.needed_for([target])
        names = [e.name for e in self.forward if e.name in below & needed and e.name in self.plan.shown]
        symbols = self.plan.symbols
        weighted = hadamard([symbols[seed], symbols[target]]) if seed else symbols.loss
        loss = [Line(symbols.loss, reduced("sum", (), weighted))] if seed else []
        return [*map(self._line, names), *loss]

    # the first form of an adjoint

    def _first(self, base: str) -> None:
        if base in self.way.parts:
            self._added(base)
        elif self._ends(base):
            self._chain(base)
        else:
            self._start(base)

    def _start(self, base: str) -> None:
        line = self._line(base)
        derivative = replace(line, left=self.lines.partial(self.plan.symbols[self._of(base)]))
        explanation = "The derivative of the loss by itself."
        self._add(base, Rule(START, "start"), derivative, line, Claim(base, tensor=self._of(base)), explanation)

    def _weighted(self, seed: str) -> None:
        """What a vector-Jacobian product starts with: the cotangent itself."""
        target = self.record.target
        line = Line(self.lines.partial(self.plan.symbols[target]), self.plan.symbols[seed])
        self._append(target, target, Rule(START, "start"), line, line, Claim(seed, tensor=target), "")

    def _added(self, base: str) -> None:
        tensor, ends = self._of(base), self._ends(base)
        rule = Rule(ADDED, f"adjoints of {self._symbol(tensor)} added")
        users = " and ".join([", ".join(map(self._symbol, ends[:-1])), self._symbol(ends[-1])])
        explanation = f"{users} depend on {self._symbol(tensor)}; what comes through each of them is added."
        before = chain_line(self.plan, tensor, ends)
        self._add(base, rule, before, self._line(base), Claim(base, tensor=tensor), explanation)

    def _chain(self, base: str) -> None:
        tensor, ends = self._of(base), self._ends(base)
        rule = Rule(CHAIN, "chain rule through", tuple(map(self._line, ends)))
        part = self.record.sources.get(base)
        solved = self._solved(base)
        telling = solved is not None and bool(solved.telling)
        unsolved = self.joint.scattered[base] if telling else base
        claim = Claim(base, tensor=tensor)
        if part is not None and base in self.way.whole_of:
            claim = Claim(base, tensor=tensor, user=part.equation, access=part.access)
        before = chain_line(self.plan, tensor, ends)
        self._add(base, rule, before, self._line(unsolved), claim, self._derivative(base, ends))
        if solved is not None and telling:
            found = Rule(SOLVED, "index solved:", tuple(solved.lines()))
            claim = Claim(base, unsolved)
            explanation = "Every element outside the tensor is 0, so no condition is left."
            self._add(base, found, self._line(unsolved), self._line(base), claim, explanation)

    def _solved(self, base: str) -> Solved | None:
        part = self.record.sources.get(base)
        if part is None or base not in self.joint.scattered:
            return None
        return Solved(self.plan, part, self.joint.system.equations[self.joint.scattered[base]])

    def _derivative(self, base: str, ends: Sequence[str]) -> str:
        """What the derivative of one element by another is, where a single equation makes the contribution."""
        implicit = [end for end in ends if end in self.forward.equations and self.forward.equations[end].solution]
        if implicit:
            names = " and ".join(map(self._symbol, implicit))
            return f"From the equations that define {names}, by the implicit function theorem."
        shares = [sentence for kind, sentence in _SHARES.items() if kind in self._reductions(base)]
        if shares:
            return "; ".join(shares) + "."
        part = self.record.sources.get(base)
        if part is None or part.access.view is not None:
            return ""
        end = self.way.whole.get(self._original(part.operands[-1]))
        if end is None or list(ends) != [end]:
            return ""
        symbols = self.plan.symbols
        written = Read(self.plan, part).derivative(symbols[self._of(base)], symbols[end])
        return f"{written}.{self._unsolved(base)}"

    def _unsolved(self, base: str) -> str:
        """Why a condition is left in the sum."""
        solved = self._solved(base)
        if solved is None or not (solved.by_data or solved.open):
            return ""
        if solved.by_data:
            return " Only the data tell which element is read; what goes to the same one is added."
        return " Not every element has a whole number that solves its index, so this stays as a condition."

    def _reductions(self, base: str) -> set[str]:
        """The reductions on the way from the last adjoint with a symbol."""
        found: set[str] = set()
        stack = [base]
        while stack:
            name = stack.pop()
            if name in self.record.sources:
                d = self.forward.equations[self.record.sources[name].equation].definition
                found.update([d.reduction] if d.reduced else [])
            operands = self.record.raw.equations[name].operands
            stack += [o for o in operands if o in self.joint.on_path and o not in self.plan.shown]
        return found

    def _original(self, name: str) -> str:
        """The adjoint that another one without a symbol is a mere copy of."""
        equations = self.record.raw.equations
        while name in equations and name not in self.way.whole and is_copy(equations[name]):
            name = equations[name].operands[0]
        return name

    # the other forms

    def _simplified(self, base: str) -> None:
        names = self.joint.of(base)
        for before, version in zip(names, self.joint.versions.get(base, ()), strict=False):
            old, new = self._line(before), self._line(version.name)
            if old.text == new.text:
                continue
            equations = self.joint.system.equations
            rule, explanation = simplification(self.plan, equations[before], equations[version.name], version.made_by)
            self._add(base, rule, old, new, Claim(version.name, before), explanation)

    # parts of a step

    def _ends(self, base: str) -> list[str]:
        """The tensors through which the chain rule comes here."""
        whole = {**self.way.whole} | ({self.record.seed: self.record.target} if self.record.seed else {})
        found: dict[str, None] = {}
        stack = [base]
        while stack:
            operands = self.record.raw.equations[stack.pop()].operands
            found.update((whole[o], None) for o in operands if o in whole)
            stack += [o for o in reversed(operands) if o in self.joint.on_path and o not in whole]
        return list(found)

    def _of(self, base: str) -> str:
        return self.record.raw.equations[base].adjoint_of or ""

    def _symbol(self, name: str) -> str:
        return self.plan.symbols[name].text

    def _line(self, name: str) -> Line:
        return self.lines.matrix(name)[0]

    def _add(self, base: str, rule: Rule, before: Line, after: Line, claim: Claim, explanation: str) -> None:
        origin, tensor = self.record.raw.equations[base].origin, self._of(base)
        node = origin if origin in self.plan.nodes else tensor
        self._append(node, tensor, rule, before, after, claim, explanation)

    def _append(
        self, node: str, tensor: str, rule: Rule, before: Line, after: Line, claim: Claim, explanation: str
    ) -> None:
        shape = tuple(int(n) if n.is_Integer else n for n in self.plan.system.shape(claim.after))
        context = (self.joint.system, self.forward, self.record)
        number = len(self.found) + 1
        self.found.append(Step(number, rule, node, tensor, shape, explanation, before, after, claim, context))
