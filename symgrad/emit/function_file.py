"""A function as source text: to paste, and as a file with shape checks and a comparison with central differences.

What every file has in common is `function_runtime`, an ordinary module with a small function of its own between two
markers: emitting means to put another one there. Its last part, the comparison, is left out where there is nothing
to compare.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from symgrad.emit import function_runtime, special
from symgrad.emit.function_body import Body, arguments
from symgrad.emit.function_steps import LONGEST_LINE, listed, wrapped
from symgrad.emit.module import MARK
from symgrad.emit.program import sealed
from symgrad.emit.source import INDENT, SPECIAL
from symgrad.emit.tables import index_ranges, quoted, size_expressions, table
from symgrad.equations import System, shape_attribute

_START, _END = "# <function>\n", "# </function>\n"
_CHECK, _CHECK_END = "# <check>\n", "# </check>\n"


@dataclass(frozen=True)
class Check:
    """What a file compares with central differences.

    Attributes:
        value: the tensor that is differentiated, of any shape.
        derivatives: result label -> the argument that it is the derivative by. Its shape is that of the value,
            followed by that of the argument.
        name: of the function that computes the value.
        properties: argument -> "symmetric" or "positive definite", which its random values are.
    """

    value: str
    derivatives: Mapping[str, str]
    name: str = "value"
    properties: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A function that is to be written: its name, docstring, the names of its arguments, and its body."""

    name: str
    doc: str
    arguments: Sequence[str]
    body: Body

    def lines(self, checked: bool = False) -> list[str]:
        """Its definition; where `checked`, it checks its arguments first."""
        inside = docstring(self.doc) if self.doc else []
        names = list(self.arguments)
        if checked and names:
            inside += _checking(names)
        inside += self.body.lines
        return [*listed(f"def {self.name}(", names, "):"), *(INDENT + line if line else "" for line in inside)]


def docstring(text: str) -> list[str]:
    """Lines of a docstring that holds any text."""
    safe = text.strip().replace("\\", "\\\\").replace('"""', "'''")
    if safe.endswith('"'):
        safe += " "
    lines = safe.splitlines()
    return [f'"""{safe}"""'] if len(lines) == 1 else [f'"""{lines[0]}', *lines[1:], '"""']


def plain_source(function: Function) -> str:
    """Imports, helpers, constants, and the function."""
    lines = [*function.body.constants, *([""] * 2 if function.body.constants else []), *function.lines()]
    text = "\n".join([*_helpers(["\n".join(lines)]), *lines])
    used = _names(text)
    imports = [line for line, name in (("import math", "math"), ("import numpy as np", "np")) if name in used]
    return "\n\n".join(imports) + "\n\n\n" * bool(imports) + text + "\n"


def standalone_file(system: System, functions: Sequence[Function], results: Iterable[str], check: Check | None) -> str:
    """The file, sealed. `functions` are the function and, where there is a check, that of the value."""
    function = functions[0]
    origin = f"{MARK}: the function {function.name}, in double precision."
    doc = "\n".join([*function.doc.strip().splitlines(), "", origin])
    region = [*tables(system, results, check), *definitions(functions), "", "", *_bound(functions)]
    return whole_file(doc, region, check is not None)


def whole_file(doc: str, region: Sequence[str], checks: bool, typing: str = "Any") -> str:
    """A sealed file: the lines of its own part, among those that every file has. `typing`: what is imported of that."""
    before, after = _surroundings(checks)
    before = before.replace("from typing import Any", f"from typing import {typing}", 1)
    rest = "\n".join([*docstring(doc), "", before + _START + "\n".join(region)]) + "\n" + _END + after
    return sealed(_without_unused_imports(rest))


def _surroundings(checks: bool) -> tuple[str, str]:
    """What stands before the function's part and after it."""
    text = Path(inspect.getsourcefile(function_runtime) or "").read_text(encoding="utf-8")
    head, rest = text.split(_START)
    _, tail = rest.split(_END)
    fixed, check = tail.split(_CHECK)
    check, _ = check.split(_CHECK_END)
    return head[head.index("from __future__") :], fixed.rstrip() + "\n" + ("\n\n" + check.lstrip() if checks else "")


def tables(system: System, results: Iterable[str], check: Check | None) -> list[str]:
    """What a file knows of its arguments and, where there is a check, of its results."""
    leaves = [system.leaves[name] for name in arguments(system)]
    shapes = {leaf.name: (leaf.dtype, shape_attribute(leaf.shape)) for leaf in leaves}
    lines = [
        *table("ARGUMENTS: dict[str, tuple[str, tuple[int | str, ...]]]", shapes),
        *table("RANGES: dict[str, tuple[int, int]]", index_ranges(system)),
        *size_expressions([shape for _, shape in shapes.values()]),
    ]
    if check:
        labels = list(results)
        properties = {name: tuple(sorted(found)) for name, found in check.properties.items() if found}
        lines += [
            *listed("RESULTS: tuple[str, ...] = (", [*map(quoted, labels)], ",)" if len(labels) == 1 else ")"),
            *table("DERIVATIVES: dict[str, str]", dict(check.derivatives)),
            *table("PROPERTIES: dict[str, tuple[str, ...]]", properties),
        ]
    return lines


def definitions(functions: Sequence[Function], inner: Sequence[Function] = ()) -> list[str]:
    """Constants, helpers and functions, the value's first; before them `inner` ones, which check no arguments."""
    constants = list(dict.fromkeys("\n".join(f.body.constants) for f in (*inner, *functions) if f.body.constants))
    written = ["\n".join(f.lines()) for f in inner] + ["\n".join(f.lines(checked=True)) for f in reversed(functions)]
    helpers = _helpers(written)
    lines = [*constants, "", "", *helpers]
    for text in written:
        lines += [text, "", ""]
    return lines[:-2]


def _bound(functions: Sequence[Function]) -> list[str]:
    names = zip(("FUNCTION", "VALUE"), functions, strict=False)
    return [f"{name}: Callable[..., Any] = {f.name}" for name, f in names] if len(functions) > 1 else []


def _helpers(texts: Iterable[str]) -> list[str]:
    """The source of the functions that NumPy lacks and the texts call, each with two empty lines after it."""
    used = set().union(*map(_names, texts))
    called = [name for name in SPECIAL if name in used]
    names = dict.fromkeys(part for name in called for part in SPECIAL[name])
    return [line for name in names for line in [*_untyped(getattr(special, name)), "", ""]]


def _untyped(function: object) -> list[str]:
    """The source of a function without annotations, which would need more imports than the function itself."""
    assert inspect.isfunction(function)
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    bare_signature = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    _, *body = inspect.getsource(function).rstrip().splitlines()
    return [f"def {function.__name__}{bare_signature}:", *body]


def _checking(names: Sequence[str]) -> list[str]:
    """`x, y = _checked(x=x, y=y)`, on as many lines as it takes."""
    given = [f"{name}={name}" for name in names]
    line = f"{', '.join(names)}{',' * (len(names) == 1)} = _checked({', '.join(given)})"
    if len(line) <= LONGEST_LINE:
        return [line]
    return ["(", *wrapped(names), ") = _checked(", *wrapped(given), ")"]


def _names(text: str) -> set[str]:
    """The names that stand in source text."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _without_unused_imports(text: str) -> str:
    """Without the modules that only a part needs that is left out."""
    used = _names(text)
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import) and not {alias.asname or alias.name for alias in node.names} & used:
            lines[node.lineno - 1] = ""
    return "".join(lines)
