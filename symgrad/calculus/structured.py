"""NumPy code of derivatives that are linear maps: a function that makes the map of its parts, in a file of its own.

    def _parts(X, w):                                      the tensors of the parts, emitted as any function is
        ...
    def hessian(X, w):
        weights = _parts(X, w)
        left = X.T                                         what is an argument already is not computed
        return LinearMap(np.shape(w), np.shape(w), (LowRank(left, weights, left),))

Beside it the file has the classes of `operators` and what the map is the derivative of, and compares the map with
central differences of that.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from sympy import Expr

from symgrad.algebra.naming import heads
from symgrad.algebra.tidy import Shape
from symgrad.calculus import operator_check, operators
from symgrad.calculus.shortened import Shortened, computed
from symgrad.calculus.structure import Piece, Tensor
from symgrad.emit.function_body import RESERVED, Body, dimensions, function_body
from symgrad.emit.function_file import Check, Function, definitions, tables, whole_file
from symgrad.emit.function_program import FunctionProgram
from symgrad.emit.module import MARK
from symgrad.emit.source import INDENT, size_text
from symgrad.equations import System, shape_attribute
from symgrad.errors import EmitError
from symgrad.expand import expand
from symgrad.expression import Problem
from symgrad.formula.indexed import Element
from symgrad.names import free_name

_ROLES = {
    "Diagonal": ("entries",),
    "LowRank": ("left", "weights", "right"),
    "Kronecker": ("left", "right"),
    "Swapped": ("left", "right"),
    "Blocks": ("matrices",),
    "Dense": ("values",),
}
_FUNCTIONS = ("blocks", "gradient", "hessian", "jacobian", "value")
_NAMES = frozenset({*RESERVED, *vars(operators), *vars(operator_check), *_FUNCTIONS})


@dataclass(frozen=True)
class Block:
    """A linear map in closed form: its indices are those of its rows, then those of its columns.

    Attributes:
        rows, columns: the names of the tensors.
        shapes: of its rows and its columns.
    """

    rows: str
    columns: str
    short: Shortened
    structure: tuple[Piece, ...]
    shapes: tuple[Shape, Shape]


@dataclass(frozen=True)
class Differentiated:
    """What a map is the derivative of, to compare the map with: a tensor for each row."""

    name: str
    short: Mapping[str, Shortened]


@dataclass(frozen=True)
class MapProgram(FunctionProgram):
    """An emitted function that returns a linear map, with `matvec`, `solve` and `todense`.

    Attributes:
        functions: the source without the classes, which are the same in every file.
    """

    functions: str

    @property
    def listing(self) -> str:
        """What there is to read: the functions."""
        return self.functions


def emit_map(
    name: str, problem: Problem, title: Sequence[str], blocks: Sequence[Block], of: Differentiated
) -> MapProgram:
    """The function `name` of a problem's variables that returns the map, or a map of several variables.

    Args:
        title: its formulas, and what else the file says of itself.
        blocks: of a symmetric map those on the diagonal and those to the right of it.

    Raises EmitError for variables that are called as something in the file.
    """
    writing = _Writing(name, problem, "\n".join(title))
    made = writing.function(blocks)
    parts = writing.parts
    listing = "\n".join(definitions([], [*parts, made])).strip() + "\n"
    imports = "from __future__ import annotations\n\nfrom collections.abc import Callable\n"
    imports += "from typing import Any, NamedTuple\n\nimport numpy as np\n\nArray = np.ndarray[Any, Any]\n\n"
    source = f"{imports}{_own_part(operators)}\n\n\n{listing}"
    standalone = _standalone(writing, made, blocks, of)
    return MapProgram(name, source, standalone, writing.shapes, (name,), functions=listing)


class _Writing:
    """The functions of a map, and the names that are taken in them."""

    def __init__(self, name: str, problem: Problem, doc: str) -> None:
        self.name, self.problem, self.doc = name, problem, doc
        self.system = expand(problem.graph)
        self.variables = list(problem.variables)
        self.shapes = {n: (self.system.dtype(n), shape_attribute(self.system.shape(n))) for n in self.variables}
        self.parts: list[Function] = []
        for variable in self.variables:
            if variable in {*_NAMES, *dimensions(self.system)}:
                raise EmitError(f"an argument cannot be called {variable!r}: the file needs the name for itself")

    def function(self, blocks: Sequence[Block]) -> Function:
        """The function that returns the map."""
        lines = list(self._sizes(blocks))
        several = len({block.columns for block in blocks}) > 1
        lines += ["blocks = {}"] if several else []
        for block in blocks:
            *before, expression = self._block(block, f"_parts_{block.rows}_{block.columns}" if several else "_parts")
            if not several:
                lines += [*before, f"return {expression}"]
                continue
            lines += [*before, f'blocks["{block.rows}", "{block.columns}"] = {expression}']
            if block.rows != block.columns:
                lines.append(f'blocks["{block.columns}", "{block.rows}"] = blocks["{block.rows}", "{block.columns}"].T')
        if several:
            names = dict.fromkeys(block.columns for block in blocks)
            shapes = ", ".join(f'"{n}": np.shape({n})' for n in names)
            lines.append(f"return BlockMap({{{shapes}}}, blocks)")
        return Function(self.name, self.doc, self.variables, Body(tuple(lines), ()))

    def _sizes(self, blocks: Sequence[Block]) -> Iterator[str]:
        """Lines that read the sizes of rows that no variable has the shape of."""
        loose = {s for b in blocks if b.rows not in self.variables for n in b.shapes[0] for s in n.free_symbols}
        for symbol in sorted(loose, key=str):
            owner = self._owner(symbol)
            yield f"{symbol} = np.shape({owner})[{list(self.system.shape(owner)).index(symbol)}]"

    def _owner(self, size: Expr) -> str:
        """A variable that has an axis of this size."""
        return next(n for n in self.variables if size in self.system.shape(n))

    def with_sizes(self, system: System) -> System:
        """The system with variables that tell the sizes that its own do not."""
        told = {n for name in system.leaves for n in system.shape(name)}
        equations = system.equations.values()
        sizes = {s for e in equations for n in e.shape for s in n.free_symbols}
        sizes |= {s for e in equations for s in e.definition.body.free_symbols - e.definition.extents.keys()}
        sizes -= told
        owners = dict.fromkeys(self._owner(size) for size in sorted(sizes, key=str))
        return replace(system, leaves=system.leaves | {n: self.system.leaves[n] for n in owners})

    def _block(self, block: Block, name: str) -> list[str]:
        """The lines that compute a block's tensors, and the expression that makes the block of them."""
        wanted: dict[str, Tensor] = {}
        made = []
        for number, piece in enumerate(block.structure, 1):
            roles = [role + str(number) * (len(block.structure) > 1) for role in _ROLES[piece.kind]]
            tensors = zip(roles, piece.tensors, strict=True)
            texts = [self._argument(role, piece, tensor, wanted) for role, tensor in tensors]
            texts += [str(piece.axis)] if piece.axis is not None else []
            made.append(f"{piece.kind}({', '.join(texts)})")
        given = {label: text for label, tensor in wanted.items() if (text := self._given(tensor))}
        left = {label: tensor for label, tensor in wanted.items() if label not in given}
        lines = [f"{label} = {text}" for label, text in given.items()]
        if left:
            part = self._part(block.short, name, left)
            lines.append(f"{', '.join(left)} = {name}({', '.join(part.arguments)})")
        comma = "," * (len(made) == 1)
        shapes = ", ".join(self._shape(n, s) for n, s in zip((block.rows, block.columns), block.shapes, strict=True))
        return [*lines, f"LinearMap({shapes}, ({', '.join(made)}{comma}))"]

    def _shape(self, name: str, shape: Shape) -> str:
        if name in self.variables:
            return f"np.shape({name})"
        return f"({', '.join(map(size_text, shape))}{',' * (len(shape) == 1)})"

    def _argument(self, role: str, piece: Piece, tensor: Tensor | None, wanted: dict[str, Tensor]) -> str:
        """A tensor as an operator takes it; what has to be computed for it is added to `wanted`."""
        if tensor is None:
            return "None"
        expr, shape = tensor
        if expr.is_number and shape == ():
            return repr(int(expr) if expr.is_Integer else float(expr))
        label = free_name(role, {*self.variables, *dimensions(self.system), *_NAMES, *wanted})
        known = next((other for other, same in wanted.items() if same == tensor), label)
        wanted[known] = tensor
        flat = piece.kind == "LowRank" and len(shape) > 2  # its factors have one axis for all of the variable's
        return f"{known}.reshape(-1, {known}.shape[-1])" if flat else known

    def _given(self, tensor: Tensor) -> str | None:
        """A matrix that is an argument, or its transpose."""
        expr, shape = tensor
        if not isinstance(expr, Element) or expr.name not in self.variables or len(shape) != 2:
            return None
        return {heads(2): expr.name, heads(2)[::-1]: f"{expr.name}.T"}.get(expr.index)

    def _part(self, short: Shortened, name: str, wanted: Mapping[str, tuple[Expr, Sequence[Expr]]]) -> Function:
        system, names = computed(wanted, short.closed, short.given)
        system = self.with_sizes(system)
        body = function_body(system, {label: names[label] for label in wanted}, {})
        self.parts.append(Function(name, "", [n for n in self.variables if n in system.leaves], body))
        return self.parts[-1]


def _own_part(module: ModuleType) -> str:
    """A module's source below its imports."""
    return Path(inspect.getsourcefile(module) or "").read_text(encoding="utf-8").partition("# <own>\n")[2].strip()


def _standalone(writing: _Writing, made: Function, blocks: Sequence[Block], of: Differentiated) -> str:
    """The file: tables, classes, what is differentiated, the map, and the comparison."""
    columns = list(dict.fromkeys(block.columns for block in blocks))
    rows = list(dict.fromkeys(block.rows for block in blocks))
    several = len(columns) > 1
    labels = {f"{way} {n}" if several else way: n for way in ("matvec", "todense") for n in columns}
    properties = {n: v.properties for n, v in writing.problem.variables.items() if v.properties}
    values = [_value(writing, of, row, several) for row in rows]
    names = ", ".join(writing.variables)
    calls = [f"{value.name}({names})" for value in values]
    compare = "compared_blocks" if several else "compared"
    stacked = f"np.concatenate([{', '.join(f'np.ravel({call})' for call in calls)}])" if several else calls[0]
    region = [
        *tables(writing.system, labels, Check("", labels, properties=properties)),
        *("", "", "# ---- Linear maps " + "-" * 60, "", ""),
        _own_part(operators),
        *("", "", "# ---- This one " + "-" * 63, "", ""),
        *definitions([made, *values], writing.parts),
        *("", "", _own_part(operator_check), "", ""),
        *(f"def FUNCTION({names}):", f"{INDENT}return {compare}({made.name}({names}))"),
        *("", "", f"def VALUE({names}):", f"{INDENT}return {stacked}"),
    ]
    doc = "\n".join([made.doc, "", f"{MARK}: the function {made.name}, in double precision."])
    return whole_file(doc, region, checks=True, typing="Any, NamedTuple")


def _value(writing: _Writing, of: Differentiated, row: str, several: bool) -> Function:
    """The function of a tensor that is differentiated."""
    short = of.short[row]
    system, names = computed({of.name: (short.expr, short.shape)}, short.closed, short.given)
    system = writing.with_sizes(system)
    name = f"{of.name}_{row}" if several else of.name
    body = function_body(system, {of.name: names[of.name]}, {})
    return Function(name, "What is differentiated.", writing.variables, body)
