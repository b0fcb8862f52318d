"""A function's statements as Python's own syntax trees.

Python prints a tree with the parentheses that it needs, so that what is written into another expression keeps its
meaning, whatever operators stand around it.
"""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from symgrad.emit.source import INDENT

LONGEST_LINE = 100

Change = Callable[[ast.expr], ast.expr | None]


@dataclass(frozen=True)
class Step:
    """One statement, and the equation that it is a part of."""

    node: ast.stmt
    equation: str = ""

    @property
    def text(self) -> str:
        """Its source, on several lines where it returns many names."""
        if isinstance(self.node, ast.Return) and isinstance(self.node.value, ast.Tuple):
            names = list(map(source, self.node.value.elts))
            line = f"return {', '.join(names)}"
            return line if len(line) <= LONGEST_LINE else "\n".join(listed("return (", names, ")"))
        return source(self.node)


def read_steps(text: str, equation: str = "") -> list[Step]:
    """The statements of a piece of our own source text."""
    return [Step(node, equation) for node in ast.parse(text).body]


def source(node: ast.AST) -> str:
    """A tree as text; the only strings in our code are plain ones, such as those of einsum."""
    return ast.unparse(node).replace("'", '"')


def loads(node: ast.AST) -> Counter[str]:
    """How often each name is read; a name whose array is written into is read too."""
    found = Counter(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    found.update(n.target.id for n in ast.walk(node) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name))
    return found


def stores(node: ast.AST) -> set[str]:
    """The names that are bound."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def bound_name(node: ast.stmt) -> str | None:
    """v where the statement is `v = ...`, else None."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    return target.id if isinstance(target, ast.Name) else None


def bound_value(node: ast.stmt) -> ast.expr:
    """What stands to the right in `v = ...`."""
    assert isinstance(node, ast.Assign)
    return node.value


def filled(node: ast.AST) -> set[str]:
    """The names whose arrays the statement writes into."""
    return {name for n in ast.walk(node) for target in _targets(n) if (name := base_name(target))}


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.AugAssign):
        yield node.target
    elif isinstance(node, ast.Assign):
        yield from (t for t in node.targets if isinstance(t, ast.Subscript))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # np.add.at(array, ...)
        yield node.value.args[0]


def base_name(node: ast.expr) -> str | None:
    """a of a[...], a.T, a.reshape(...) and their like, which are views of a; None of other expressions."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in ("reshape", "transpose"):
                return None
            node = node.func.value
        elif isinstance(node, ast.Subscript | ast.Attribute):
            node = node.value
        else:
            return None
    return node.id


def replaced(node: ast.stmt, change: Change) -> ast.stmt:
    """A copy of the statement, in which the expressions are replaced for which `change` has another one."""
    (copy,) = ast.parse(ast.unparse(node)).body
    made = _Replacement(change).visit(copy)
    assert isinstance(made, ast.stmt)
    return made


def renamed(nodes: Iterable[ast.stmt], names: dict[str, str]) -> list[ast.stmt]:
    """Copies of the statements with other names in them."""

    def change(node: ast.expr) -> ast.expr | None:
        return ast.Name(names[node.id], node.ctx) if isinstance(node, ast.Name) and node.id in names else None

    return [replaced(node, change) for node in nodes]


class _Replacement(ast.NodeTransformer):
    def __init__(self, change: Change) -> None:
        self.change = change

    def visit(self, node: ast.AST) -> ast.AST:
        made = self.change(node) if isinstance(node, ast.expr) else None
        found: ast.AST = self.generic_visit(node) if made is None else made
        return found


def listed(head: str, items: Sequence[str], tail: str) -> list[str]:
    """head, items with commas between them, tail: on as many lines as it takes."""
    line = head + ", ".join(items) + tail
    return [line] if len(line) <= LONGEST_LINE else [head, *wrapped(items), tail]


def wrapped(items: Iterable[str]) -> list[str]:
    """Indented lines with a comma after each item; a comma is where they may be broken."""
    text = "".join(f"{item}, " for item in items).strip()
    width = LONGEST_LINE - len(INDENT)
    return [INDENT + line for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)]
