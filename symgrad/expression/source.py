"""The text of an expression: read by Python's `ast` within limits, and pointed at in errors."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import NoReturn

from symgrad.errors import FormulaError, GraphError

MAX_CHARACTERS, MAX_NODES, MAX_DEPTH = 20_000, 2_000, 100

CHAINED: tuple[tuple[type[ast.operator], ...], ...] = ((ast.Add, ast.Sub), (ast.Mult, ast.Div, ast.MatMult))

_MATLAB = re.compile(r"\.[*/^]")
_SPELLINGS = {"ᵀ": ".T", "²": "**2", "³": "**3", "·": "*", "×": "*", "⊙": "*", "⊗": "kron(a, b)", "−": "-", "λ": "lam"}


@dataclass(frozen=True)
class Source:
    """An expression on one line, and its syntax tree. Columns count from 0 in `text`."""

    text: str
    tree: ast.expr

    def part(self, node: ast.expr) -> str:
        """The text of a node."""
        return self.text[node.col_offset : node.end_col_offset]

    def refuse(self, column: int, why: str, hint: str | None = None, kind: type[GraphError] = FormulaError) -> NoReturn:
        """Raise an error of this kind, with a caret under the column."""
        raise kind(why, details=caret(self.text, column), hint=hint)


def read_source(text: str) -> Source:
    """The text as a syntax tree.

    Raises FormulaError where it is malformed, too long, or nested too deeply.
    """
    if not isinstance(text, str):
        raise FormulaError(f"an expression is text, not {type(text).__name__}", hint='"sum(exp(A @ x))"')
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"the expression has {len(text)} characters, {MAX_CHARACTERS} at most are read")
    line = "".join(" " if c in "\n\r\t" else c for c in text).strip()
    if not line:
        raise FormulaError("the expression is empty", hint='such as "norm2(A @ x - b)**2"')
    _refuse_strange_characters(line)
    tree = _parsed(line)
    _limit(line, tree)
    return Source(line, tree)


def caret(text: str, column: int) -> list[str]:
    """The text around a column, and a line that points at it."""
    start = max(0, column - 80)
    shown = "".join(c if c.isprintable() else "?" for c in text[start : start + 160])  # or terminals obey the text
    return [shown, " " * (min(column, len(text)) - start) + "^"]


def _refuse_strange_characters(line: str) -> None:
    for column, character in enumerate(line):
        if not character.isascii() or not character.isprintable() or character in "#;\\":
            hint = f"write {_SPELLINGS[character]}" if character in _SPELLINGS else "expressions are in NumPy's syntax"
            why = f"the expression has the character {character!a}"
            raise FormulaError(why, details=caret(line, column), hint=hint)


def _parsed(line: str) -> ast.expr:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(line, mode="eval").body
    except SyntaxError as error:
        keyword = re.search(r"\blambda\b", line)
        end = keyword.start() if keyword else len(line)
        column = error.offset - 1 if error.offset else end  # no offset: it ends too early
        if "too many nested" in str(error.msg):
            _refuse_size(line, column)
        details, hint = caret(line, column), _syntax_hint(line)
        raise FormulaError("the expression is malformed", details=details, hint=hint) from None
    except (RecursionError, MemoryError, ValueError):
        _refuse_size(line, 0)


def _refuse_size(line: str, column: int) -> NoReturn:
    hint = f"{MAX_NODES} names, numbers and operations in {MAX_DEPTH} levels at most"
    raise FormulaError(
        "the expression is too large or nested too deeply", details=caret(line, column), hint=hint
    ) from None


def _syntax_hint(line: str) -> str | None:
    if "'" in line:
        return "x.T is the transpose"
    if _MATLAB.search(line):
        return "* / ** are elementwise, @ is the matrix product"
    if re.search(r"\blambda\b", line):
        return "lambda is a word of Python: write lam"
    if re.search(r"(?<![=<>!])=(?!=)", line):
        return "write what stands on the right of the = alone"
    return None


def _limit(line: str, tree: ast.expr) -> None:
    count, level = 0, [tree]
    for _depth in range(MAX_DEPTH):
        count += sum(max(1, len(chain(node)[1])) for node in level)
        if count > MAX_NODES:
            _refuse_size(line, level[-1].col_offset)
        deepest, level = level, [child for node in level for child in _children(node)]
        if not level:
            return
    _refuse_size(line, deepest[0].col_offset)


def _children(node: ast.AST) -> list[ast.expr]:
    """The expressions that a node consists of; a sum or product of many terms is one level, as it is read in one go."""
    if isinstance(node, ast.expr):
        first, links = chain(node)
        if links:
            return [first, *(link.right for link in links)]
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(node):
        found += [child] if isinstance(child, ast.expr) else _children(child)
    return found


def chain(node: ast.expr) -> tuple[ast.expr, list[ast.BinOp]]:
    """a + b - c ... as a and its additions, innermost first; a * b / c @ d ... likewise."""
    kinds = next((k for k in CHAINED if isinstance(node, ast.BinOp) and isinstance(node.op, k)), ())
    links: list[ast.BinOp] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, kinds):
        links.append(node)
        node = node.left
    return node, links[::-1]
