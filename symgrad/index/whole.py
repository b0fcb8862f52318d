"""Reading the statements that define a whole tensor by a call of a kernel: Y = solve(A.T, B)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NoReturn, Protocol

from symgrad.errors import nearest
from symgrad.index.solution import Shape, Solution, is_call, solution


class Refuse(Protocol):
    """Raises the error that points at a node of the text."""

    def __call__(self, node: ast.AST, why: str, hint: str | None) -> NoReturn: ...


def is_whole(statement: ast.Assign) -> bool:
    """Whether the right side is a call of a kernel."""
    value = statement.value
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and is_call(value.func.id)


def read_names(statement: ast.Assign) -> list[str]:
    """The tensors that such a statement names, in order."""
    arguments = [_argument(node) for node in getattr(statement.value, "args", ())]
    return [argument[0] for argument in arguments if argument is not None]


def _argument(node: ast.expr) -> tuple[str, bool] | None:
    """(name, transposed) of NAME or NAME.T."""
    transposed = isinstance(node, ast.Attribute) and node.attr == "T"
    base = node.value if isinstance(node, ast.Attribute) and transposed else node
    return (base.id, transposed) if isinstance(base, ast.Name) else None


def read_whole(statement: ast.Assign, shapes: Mapping[str, Shape], refuse: Refuse) -> tuple[Solution, tuple[str, ...]]:
    """The solution that the statement's right side is, and the names of its operands.

    Raises FormulaError for an argument that is no operand, ShapeError for shapes that the kernel does not take.
    """
    call = statement.value
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    if call.keywords:
        refuse(call, f"{call.func.id} takes operands only", None)
    names: list[str] = []
    transposed: list[bool] = []
    for node in call.args:
        argument = _argument(node)
        if argument is None:
            refuse(node, f"{call.func.id} takes whole operands: A or A.T", "give other arguments an equation first")
        if argument[0] not in shapes:
            refuse(node, f"{argument[0]!r} is not an operand", nearest(argument[0], shapes))
        names.append(argument[0])
        transposed.append(argument[1])
    return solution(call.func.id, [shapes[name] for name in names], transposed), tuple(names)
