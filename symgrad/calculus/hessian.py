"""Hessians that know their structure: formula, and NumPy code that multiplies and solves without forming them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sympy import Expr

from symgrad.calculus import operators
from symgrad.algebra.closed import Closed, jacobian_of
from symgrad.calculus.derivative import Declarations, require_scalar, symmetric_variables
from symgrad.calculus.display import symbol
from symgrad.calculus.shortened import Shortened, computed
from symgrad.algebra.tidy import Shape
from symgrad.calculus.structure import Piece, Tensor, name_of, pieces
from symgrad.derive import derive_system
from symgrad.emit.function import FunctionProgram, emit_function
from symgrad.emit.function_file import docstring
from symgrad.emit.module import MARK
from symgrad.emit.program import load_module, sealed
from symgrad.errors import DeriveError, VerifyError, nearest
from symgrad.expand import expand
from symgrad.expression import Problem, read_expression
from symgrad.formula.derivation import notebook_bundle
from symgrad.formula.lines import Line, latex_block, mathml_block
from symgrad.formula.notation import Atom
from symgrad.names import free_name
from symgrad.writing import write_whole

_INDENT = "    "


def hessian(expression: str, wrt: str | Sequence[str] | None = None, declare: Declarations = None) -> HessianFormula:
    """The Hessian of a scalar expression by one variable, or by several, in blocks.

    Called with arrays, the result gives an object with `matvec`, `solve` and `todense`.

    Raises FormulaError, ShapeError and DeriveError as `gradient` does.
    """
    problem = read_expression(expression, declare)
    require_scalar(problem)
    return HessianFormula(problem, _variables(problem, wrt))


def _variables(problem: Problem, wrt: str | Sequence[str] | None) -> tuple[str, ...]:
    names = [wrt] if isinstance(wrt, str) else list(wrt or problem.variables)
    if wrt is None and len(names) > 1:
        raise DeriveError("name the variable to differentiate by", hint=f"wrt= one of {', '.join(names)}, or several")
    for name in names:
        if name not in problem.variables:
            known = nearest(str(name), problem.variables) or f"wrt= one of {', '.join(problem.variables)}"
            raise DeriveError(f"there is no variable {name!r}", hint=known)
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Block:
    """∂²f/∂p∂q in closed form: its indices are those of p, then those of q."""

    rows: str
    columns: str
    short: Shortened
    structure: tuple[Piece, ...]
    shapes: tuple[Shape, Shape]

    @property
    def lines(self) -> list[Line]:
        """The block's own line, and those of the symbols that it introduces."""
        plain, vec = (_left(self, form) for form in ("{}", "vec({})"))
        return self.short.map_lines(plain, vec, *self.shapes)


class HessianFormula:
    """The Hessian of an expression. Printed: its formula. Called with arrays: the Hessian there.

    Attributes:
        problem: the expression.
        names: the variables.
    """

    def __init__(self, problem: Problem, names: tuple[str, ...]) -> None:
        self.problem, self.names = problem, names
        self.blocks = {(b.rows, b.columns): b for column in names for b in self._column(column)}

    def _column(self, column: str) -> Iterator[Block]:
        """The blocks whose columns are this variable's: by symmetry, the derivatives of its gradient by the others."""
        first = derive_system(expand(self.problem.graph), of=self.problem.output, wrt=list(self.names), zeros=True)
        seed = free_name("seed", first)
        second = derive_system(first, of=first.gradients[column], wrt=list(self.names), seed=seed, zeros=True)
        closed = Closed(second, symmetric=symmetric_variables(self.problem))
        shape = second.shape(column)
        for row in self.names:
            own = second.shape(row)
            raw = jacobian_of(closed[second.gradients[row]], len(own), seed, len(shape), closed.facts)
            short = Shortened(closed, raw, (*own, *shape))
            structure = pieces(short.expr, tuple(own), tuple(shape))
            yield Block(row, column, short, structure, (tuple(own), tuple(shape)))

    @property
    def structure(self) -> str:
        """In words: diagonal, low rank, Kronecker, blocks, dense, and sums of them."""
        if len(self.names) == 1:
            return name_of(self.blocks[self.names[0], self.names[0]].structure)
        return "; ".join(f"{p}, {q}: {name_of(b.structure)}" for (p, q), b in self.blocks.items())

    @property
    def lines(self) -> list[Line]:
        """One for each block, and those of the symbols that they introduce."""
        lines: list[Line] = []
        for block in self.blocks.values():
            lines += block.lines
        return list({line.text: line for line in lines}.values())

    @property
    def text(self) -> str:
        """The formulas, one below the other."""
        return "\n".join(part for line in self.lines for part in line.wrapped(""))

    @property
    def latex(self) -> str:
        """The same in LaTeX, for math mode."""
        return latex_block(self.lines)

    @property
    def mathml(self) -> str:
        """The same as a `math` element."""
        return mathml_block(self.lines)

    def __str__(self) -> str:
        return f"{self.text}\nstructure: {self.structure}"

    def __repr__(self) -> str:
        return f"<hessian: {self.structure}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return notebook_bundle(str(self), self.latex, self.mathml)

    # the code

    @cached_property
    def program(self) -> HessianProgram:
        """The emitted module."""
        return emit_hessian(self)

    @property
    def source(self) -> str:
        """A NumPy module with the function `hessian`."""
        return self.program.source

    code = source

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the module, whole or not at all. Raises FileError where that cannot be."""
        write_whole(path, self.source)

    def __call__(self, **arrays: Any) -> Any:
        """The Hessian at these values, with `matvec`, `solve` and `todense`."""
        return self.program(**arrays)


def _left(block: Block, form: str) -> Atom:
    """∂²f/∂p∂q, the variables in a form: as they are, or vec of them."""
    p, q = symbol(block.rows), symbol(block.columns)
    texts = [form.format(v.text) for v in (p, q)]
    latexes = [form.format(v.latex).replace("vec", r"\operatorname{vec}") for v in (p, q)]
    if block.rows == block.columns:
        return Atom(f"∂²f/∂{texts[0]}²", rf"\frac{{\partial^2 f}}{{\partial {latexes[0]}^2}}")
    return Atom(
        f"∂²f/∂{texts[0]}∂{texts[1]}", rf"\frac{{\partial^2 f}}{{\partial {latexes[0]} \, \partial {latexes[1]}}}"
    )


@dataclass(frozen=True)
class HessianProgram:
    """An emitted module, whose function `hessian` takes every variable of the expression.

    Attributes:
        source: its text.
        listing: the same without the operators, which are the same in every module.
        variables: the arguments of `hessian`.
        parts: the function that computes the tensors of each block.
    """

    source: str
    listing: str
    variables: tuple[str, ...]
    parts: tuple[FunctionProgram, ...]

    def __call__(self, **arrays: Any) -> Any:
        """The Hessian at these arrays. Raises as FunctionProgram does."""
        for name in arrays:
            if name not in self.variables:
                hint = nearest(name, self.variables) or "there are: " + ", ".join(self.variables)
                raise VerifyError(f"hessian has no argument {name!r}", hint=hint)
        for name in self.variables:
            if name not in arrays:
                raise VerifyError(f"hessian needs the argument {name!r}", hint=", ".join(self.variables))
        for part in self.parts:
            part.check_arguments({name: arrays[name] for name in part.arguments})
        return self._module.hessian(**arrays)

    @cached_property
    def _module(self) -> Any:
        return load_module(self.source, "symgrad_hessian")


def emit_hessian(formula: HessianFormula) -> HessianProgram:
    """The module of a Hessian."""
    parts, calls = [], {}
    for key, block in formula.blocks.items():
        name = "_parts" if len(formula.names) == 1 else f"_parts_{block.rows}_{block.columns}"
        program, calls[key] = _block_code(block, name)
        parts += [program] if program else []
    body = _function_lines(formula, calls)
    functions = [_without_imports(program.source) for program in parts]
    listing = "\n\n\n".join([*functions, "\n".join(body)]) + "\n"
    return HessianProgram(sealed(f"{_head(formula)}\n\n\n{listing}"), listing, tuple(formula.problem.variables), tuple(parts))


def _block_code(block: Block, name: str) -> tuple[FunctionProgram | None, list[str]]:
    """The function of a block's tensors, and the lines of an expression that makes the block of them."""
    wanted: dict[str, Tensor] = {}
    made = []
    for k, piece in enumerate(block.structure):
        number = str(k + 1) if len(block.structure) > 1 else ""
        arguments = [
            _argument(role + number, piece, tensor, wanted)
            for role, tensor in zip(_ROLES[piece.kind], piece.tensors, strict=True)
        ]
        arguments += [str(piece.axis)] if piece.axis is not None else []
        made.append(f"{piece.kind}({', '.join(arguments)})")
    single = "," if len(made) == 1 else ""
    expression = f"Hessian(np.shape({block.rows}), np.shape({block.columns}), ({', '.join(made)}{single}))"
    if not wanted:
        return None, [expression]
    system, tensors = computed(wanted, block.short.closed, block.short.given)
    program = emit_function(system, name, {label: tensors[label] for label in wanted})
    call = f"{', '.join(wanted)} = {name}({', '.join(program.arguments)})"
    return program, [call, expression]


_ROLES = {
    "Diagonal": ("entries",),
    "LowRank": ("left", "weights", "right"),
    "Kronecker": ("left", "right"),
    "Swapped": ("left", "right"),
    "Blocks": ("matrices",),
    "Dense": ("values",),
}


def _argument(label: str, piece: Piece, tensor: Tensor | None, wanted: dict[str, Tensor]) -> str:
    """A tensor as an operator takes it; what has to be computed for it is added to `wanted`."""
    if tensor is None:
        return "None"
    expr, shape = tensor
    if expr.is_number and shape == ():
        return repr(int(expr) if expr.is_Integer else float(expr))
    known = next((other for other, same in wanted.items() if same == tensor), label)
    wanted[known] = tensor
    flat = piece.kind == "LowRank" and len(shape) > 2  # its factors have one axis for all of the variable's
    return f"{known}.reshape(-1, {known}.shape[-1])" if flat else known


def _function_lines(formula: HessianFormula, calls: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    lines = [f"def hessian({', '.join(formula.problem.variables)}):", *(_INDENT + part for part in docstring(formula.text))]
    if len(formula.names) == 1:
        ((*before, expression),) = calls.values()
        return [*lines, *(_INDENT + part for part in before), f"{_INDENT}return {expression}"]
    lines.append(f"{_INDENT}blocks = {{}}")
    for (row, column), (*before, expression) in calls.items():
        lines += [*(_INDENT + part for part in before), f'{_INDENT}blocks["{row}", "{column}"] = {expression}']
    shapes = ", ".join(f'"{name}": np.shape({name})' for name in formula.names)
    return [*lines, f"{_INDENT}return BlockHessian({{{shapes}}}, blocks)"]


def _head(formula: HessianFormula) -> str:
    """The docstring, and the operators."""
    text = Path(inspect.getsourcefile(operators) or "").read_text(encoding="utf-8")
    title = [f"{MARK}: the Hessian of {formula.problem.text}, in double precision.", "", f"Structure: {formula.structure}."]
    return "\n".join([*docstring("\n".join(title)), "", text[text.index("from dataclasses") :].rstrip()])


def _without_imports(source: str) -> str:
    """A function's source behind a module that has imported NumPy."""
    head, found, rest = source.partition("import numpy as np\n")
    return (rest if found else head).strip()
