"""Gradients with one fault in the chain rule: what comes out if a step is forgotten or taken at the wrong place.

Each is made by changing equations of the derived system; nothing is derived anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sympy import Integer

from symgrad.equations import Equation, System, equation
from symgrad.grade.problem import Candidate, Problem
from symgrad.grade.result import Finding
from symgrad.index.definition import At, Definition, define, index_symbol, outermost


def faulty_gradients(problem: Problem, tensor: str) -> Iterator[tuple[Finding, Candidate]]:
    """The gradients by a tensor, each with one fault, those nearest to the loss first."""
    name = problem.gradient(tensor).name
    needed = problem.system.needed_for([name])
    for finding, system in _faults(problem, needed):
        yield finding, Candidate(system, name)


def _faults(problem: Problem, needed: set[str]) -> Iterator[tuple[Finding, System]]:
    nodes = [n for n in reversed(list(problem.forward.equations)) if n in problem.graph]
    for node in nodes:
        yield from _unchanged_cotangents(problem, node)
        yield from _derivatives_at_the_output(problem, node)
    yield from _missing_contributions(problem, needed)


# the derivative of one node


def _unchanged_cotangents(problem: Problem, node: str) -> Iterator[tuple[Finding, System]]:
    """The cotangent of a node passed to its operand as it is."""
    system, cotangent = problem.system, problem.adjoint(node)
    if cotangent is None:
        return
    for operand in _operands(problem, node):
        parts = _parts_by(problem, operand, node)
        if not parts or system.shape(operand) != system.shape(cotangent) or not _nonlinear(problem, node):
            continue
        changed = system
        for k, part in enumerate(parts):
            changed = _replaced(changed, part, _copy(changed.equations[part], cotangent) if k == 0 else None)
        op = problem.graph.nodes[node]["op"]
        kind = "missing factor" if op != "define" and _mixes(problem, node) else "forgotten derivative"
        text = f"the derivative of {node} = {op}({operand}) is left out: d_{operand} is not d_{node}"
        yield Finding(kind, text, node), changed


def _operands(problem: Problem, node: str) -> list[str]:
    return list(dict.fromkeys(source for source, _ in problem.graph.in_edges(node)))


def _parts_by(problem: Problem, operand: str, node: str) -> list[str]:
    """The adjoint equations through which `operand` receives something from `node`."""
    return [
        n
        for n, c in problem.record.items()
        if problem.system.equations[n].adjoint_of == operand and problem.forward.equations[c.equation].origin == node
    ]


def _nonlinear(problem: Problem, node: str) -> bool:
    """Whether its derivative is more than a number: else nothing can be forgotten."""
    equations = [e for e in problem.forward if e.origin == node]
    return len(equations) > 1 or not _adds_only(equations[0].definition)


def _adds_only(definition: Definition) -> bool:
    terms = definition.body.as_ordered_terms()
    return definition.elementwise and all(isinstance(t.as_coeff_Mul()[1], At) or not t.has(At) for t in terms)


def _mixes(problem: Problem, node: str) -> bool:
    """Whether the node is a sum of products of two tensors."""
    equations = [e for e in problem.forward if e.origin == node]
    return len(equations) == 1 and len(equations[0].operands) > 1


def _derivatives_at_the_output(problem: Problem, node: str) -> Iterator[tuple[Finding, System]]:
    """f'(x) read at y = f(x)."""
    e = problem.forward.equations[node]
    if e.origin != node or len(e.operands) != 1 or not e.definition.elementwise:
        return
    (operand,) = e.operands
    for part in _parts_by(problem, operand, node):
        adjoint = problem.system.equations[part]
        if operand not in adjoint.operands:
            continue
        number, place = len(adjoint.operands), adjoint.operands.index(operand)
        reads = [at for at in outermost(adjoint.definition.body) if at.operand == place]
        body = adjoint.definition.body.xreplace({at: At(number, at.index, at.view) for at in reads})
        made = define(adjoint.definition.loops, adjoint.shape, adjoint.definition.write, body)
        op = problem.graph.nodes[node]["op"]
        text = f"the derivative of {node} = {op}({operand}) is taken at {node}, it belongs at {operand}"
        system = _replaced(problem.system, part, equation(part, made, [*adjoint.operands, node]))
        yield Finding("derivative at the output", text, node), system


# paths


def _missing_contributions(problem: Problem, needed: set[str]) -> Iterator[tuple[Finding, System]]:
    terms = _terms_of_loss(problem)
    for name, contribution in problem.record.items():
        if name not in needed:
            continue
        e = problem.system.equations[name]
        finding = _path_finding(problem, e, contribution.equation, terms)
        yield finding, _replaced(problem.system, name, None)


def _terms_of_loss(problem: Problem) -> set[tuple[str, str]]:
    """(operand, sum) for all that is added up to the loss."""
    found: set[tuple[str, str]] = set()
    stack = [problem.forward.loss]
    while stack:
        e = problem.forward.equations.get(stack.pop() or "")
        if e is not None and e.shape == () and len(e.operands) > 1 and _adds_only(e.definition):
            found |= {(operand, e.name) for operand in e.operands}
            stack.extend(e.operands)
    return found


def _path_finding(problem: Problem, e: Equation, by: str, terms: set[tuple[str, str]]) -> Finding:
    tensor = e.adjoint_of or ""
    origin = problem.forward.equations[by].origin
    if (tensor, by) in terms:
        return Finding("missing term", f"the term {tensor} of the loss is left out", tensor)
    for name in (by, tensor):
        reduction = problem.forward.equations[name].definition.reduction if name in problem.forward.equations else ""
        if reduction in ("max", "min"):
            return Finding("max shift", f"the gradient through the {reduction} {name} is left out", origin)
    text = f"the way from {origin} back to {tensor} is left out: {tensor} acts on the loss through {origin} too"
    return Finding("missing path", text, origin)


# systems


def _replaced(system: System, name: str, new: Equation | None) -> System:
    """The system with another equation for a tensor, or with 0 for it."""
    old = system.equations[name]
    made = equation(name, _zero(old), ()) if new is None else new
    changed = system.copy()
    changed.equations[name] = replace(made, name=name, origin=old.origin, adjoint_of=old.adjoint_of)
    return changed


def _zero(e: Equation) -> Definition:
    index = [index_symbol(f"i{k}") for k, _ in enumerate(e.shape)]
    return define(list(zip(index, e.shape, strict=True)), e.shape, index, Integer(0))


def _copy(e: Equation, source: str) -> Equation:
    index = [index_symbol(f"i{k}") for k, _ in enumerate(e.shape)]
    return equation(e.name, define(list(zip(index, e.shape, strict=True)), e.shape, index, At(0, index)), [source])
