"""Tensors that equations define, in matrix notation: A⁻¹, A⁻¹ B, det(A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symgrad.formula.indexed import Solved
from symgrad.formula.notation import Atom, Call, Inverse, Node, Transposed, product, transposed
from symgrad.index.solution import Solution

NAMES = {"det": r"\det", "logdet": r"\operatorname{logdet}"}


def solution_node(solution: Solution, operands: Sequence[Node], rows: bool) -> Node:
    """The value over its operands' notation, a vector on the right side of an equation being a row if `rows`."""
    read = [transposed(operands[r.operand]) if r.transposed else operands[r.operand] for r in solution.reads]
    if solution.call == "inv":
        return _inverse(read[0])
    if solution.call == "solve":
        if rows and len(solution.shape) == 1:
            return product([read[1], transposed(_inverse(read[0]))])
        return product([_inverse(read[0]), read[1]])
    name = solution.call
    return Call(name, NAMES.get(name, rf"\operatorname{{{name.replace('_', ' ')}}}"), tuple(read))


def _inverse(node: Node) -> Node:
    return Transposed(Inverse(node.base)) if isinstance(node, Transposed) else Inverse(node)


def solved_atom(solved: Solved, atoms: Mapping[str, Atom]) -> Atom:
    """The whole tensor as a symbol that can take an index: solve(A.T, B)."""
    operands = [atoms[name] for name in solved.operands]
    call, arguments = solved.written.split("(", 1)
    name = call.replace("_", " ")
    written = arguments.replace(".T", "ᵀ").format(*(atom.text for atom in operands))
    turned = arguments.replace(".T", r"^{{\top}}")
    return Atom(f"{call}({written}", rf"\operatorname{{{name}}}({turned.format(*(atom.latex for atom in operands))}")
