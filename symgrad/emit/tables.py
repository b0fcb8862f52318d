"""The tables at the head of an emitted file: what it takes, what it learns, how that starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import sympy as sp
from sympy import Expr

from symgrad.emit.request import Request
from symgrad.emit.source import DTYPES, INDENT, size_text
from symgrad.emit.source_map import INIT, Line
from symgrad.equations import System, shape_attribute
from symgrad.index.definition import At
from symgrad.index.parser import parse_dimension

Shape = tuple[int | str, ...]


def table_lines(request: Request) -> list[str]:
    """The constants that the fixed part of the file works with."""
    forward, system = request.forward, request.system
    leaves = forward.leaves.values()
    inputs = {x.name: (x.dtype, shape_attribute(x.shape)) for x in leaves if x.kind == "input"}
    parameters = {x.name: shape_attribute(x.shape) for x in leaves if x.kind == "parameter"}
    starts = request.initialisers
    gradients = {name: shape_attribute(system.shape(name)) for name in system.gradients}
    needed = system.needed_for(system.outputs)
    return [
        f"DTYPE: type[np.floating[Any]] = np.{request.dtype}",
        *table("INPUTS: dict[str, tuple[str, tuple[int | str, ...]]]", inputs),
        f"FORWARD_INPUTS: tuple[str, ...] = {quoted(tuple(n for n in inputs if n in needed))}",
        f"OUTPUTS: tuple[str, ...] = {quoted(forward.outputs)}",
        *table("PARAMETERS: dict[str, tuple[int, ...]]", parameters),
        *table("GRADIENTS: dict[str, tuple[int | str, ...]]", gradients),
        *_starts(table("INITIALISERS: dict[str, tuple[Any, ...]]", starts), list(starts)),
        *table("RANGES: dict[str, tuple[int, int]]", index_ranges(forward)),
        f"BATCH: str | None = {quoted(batch_dimension(forward))}",
        *table("HYPERPARAMETERS: dict[str, float]", dict(request.optimizer.defaults)),
        f"STATE: tuple[str, ...] = {quoted(request.optimizer.state)}",
        f'OPTIMIZER = "{request.optimizer.name}"',
        f'NETWORK = "{_fingerprint(forward)}"',
        *size_expressions([shape for _, shape in inputs.values()] + list(gradients.values())),
        *(f"{request.constants[x.name]} = {_array(x.value, x.dtype)}" for x in leaves if x.name in request.constants),
    ]


def _fingerprint(system: System) -> str:
    """The same for equal networks: their equations, hashed."""
    nodes = system.to_graph().nodes(data=True)
    text = "\n".join(f"{name} {sorted(attrs.items(), key=str)}" for name, attrs in nodes)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def table(name: str, rows: Mapping[str, object]) -> list[str]:
    """`name = {...}`, on one line if it is short."""
    short = f"{name} = {quoted(dict(rows))}"
    if len(short) <= 100:
        return [short]
    return [f"{name} = {{", *(f'{INDENT}"{key}": {quoted(value)},' for key, value in rows.items()), "}"]


def _starts(table: list[str], parameters: list[str]) -> list[str]:
    """The table's lines marked with the parameters whose start they say."""
    if len(table) == 1:
        return [Line(table[0], parameters, INIT)]
    head, *rows, tail = table
    return [head, *(Line(row, [name], INIT) for row, name in zip(rows, parameters, strict=True)), tail]


def quoted(value: object) -> str:
    """repr with double quotes; names hold no quotes of their own."""
    return repr(value).replace("'", '"')


def _array(value: object, dtype: str) -> str:
    return f"np.array({value!r}, {DTYPES[dtype]})"


def size_expressions(shapes: list[Shape]) -> list[str]:
    """Sizes that are computed from other ones."""
    texts = dict.fromkeys(n for shape in shapes for n in shape if isinstance(n, str) and not n.isidentifier())
    head = "DIM_EXPRESSIONS: dict[str, Callable[[dict[str, int]], int]] = {"
    rows = [f'{INDENT}"{text}": lambda dims: {_over_dims(parse_dimension(text))},' for text in texts]
    return [head, *rows, "}"] if rows else [head + "}"]


def _over_dims(size: Expr) -> str:
    return size_text(size.xreplace({s: sp.Symbol(f'dims["{s}"]') for s in size.free_symbols}))


def index_ranges(system: System) -> dict[str, tuple[int, int]]:
    """The integers that an input may hold, where it indexes axes of known size.

    Several uses of a whole tensor all hold; of several parts of it, such as columns, each may have its own
    range, and the widest is what can be said of all.
    """
    whole: dict[str, list[int]] = {}
    parts: dict[str, list[int | None]] = {}

    def limit(name: str) -> int | None:
        sizes = list(whole.get(name, ()))
        found = [n for n in parts.get(name, ()) if n is not None]
        if found and len(found) == len(parts[name]):
            sizes.append(max(found))
        return min(sizes) if sizes else None

    for e in reversed(list(system.equations.values())):
        body = e.definition.body
        if isinstance(body, At):
            parts.setdefault(e.source(body), []).append(limit(e.name))
        for at in e.definition.body.atoms(At).union(*(w.atoms(At) for w in e.definition.write)):
            for index, size in zip(at.index, at.sizes(system.shape(e.source(at))), strict=True):
                if isinstance(index, At) and size.is_Integer:
                    whole.setdefault(e.source(index), []).append(int(size))
    inputs = sorted(leaf.name for leaf in system.leaves.values() if leaf.kind == "input")
    limits = {name: limit(name) for name in inputs}
    return {name: (0, high) for name, high in limits.items() if high is not None}


def batch_dimension(system: System) -> str | None:
    """The dimension that counts samples: the leading one of the first input that has a named one.

    None where it also stands elsewhere, so that rows alone cannot be picked.
    """
    shapes = [leaf.shape for leaf in system.leaves.values() if leaf.kind == "input"]
    first = next((shape[0] for shape in shapes if shape and shape[0].is_Symbol), None)
    if first is None or any(n.has(first) for shape in shapes for k, n in enumerate(shape) if k or n != first):
        return None
    return str(first)
