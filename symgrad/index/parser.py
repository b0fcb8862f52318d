"""Formula text to definitions, without evaluating anything.

    program   = equation (newline | ";") ...          the last one is the op's value, earlier ones its parts
    equation  = NAME "[" target, ... "]" "=" expr
              | NAME "=" KERNEL "(" NAME [".T"], ... ")"  a whole tensor that equations define: Y = solve(A.T, B)
    target    = index | index ":" extent              the extent may be left out where an operand tells it
    expr      = numbers, + - * / **, comparisons, and/or/not, FUNCTIONS, pi
              | NAME "[" index, ... "]"               an element; NAME alone if it has no axes
              | NAME ".reshape(" extent, ... ")[" index, ... "]"
              | REDUCTION "(" bound, ..., expr ")"    bound = NAME | "(" NAME "," extent ")"
              | "len(" NAME ")"                       the extent of an index
    index     = affine in indices and dimensions, or an element of an integer tensor
    "..."     first in an index: all leading axes, aligned as NumPy broadcasts

Text is data that may come from a file: Python's `ast` reads it, and only the nodes listed here are taken,
with limits on size, depth and the magnitude of literals.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import NoReturn

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.errors import FormulaError, ShapeError, nearest
from symgrad.index.definition import REDUCTIONS, At, Definition, define, dimension, index_symbol, map_accesses
from symgrad.index.functions import CONSTANTS, FUNCTIONS, is_condition, stable, truth
from symgrad.index.solution import is_call
from symgrad.index.whole import is_whole, read_names, read_whole
from symgrad.names import free_name, name_fault

MAX_CHARACTERS, MAX_NODES, MAX_DEPTH, MAX_LITERAL_DIGITS, MAX_POWER_BITS = 100_000, 20_000, 60, 40, 2_048
MAX_NUMBER, MAX_DENOMINATOR_BITS, MAX_EXTENT, MAX_SIZE_POWER = Integer(2) ** 1024, 2_200, 2**63 - 1, 8

Shape = tuple[Expr, ...]


@dataclass(frozen=True)
class Operand:
    """What a formula may know of an operand: its name in the text, shape, and whether it holds integers.

    Of a scalar constant also its `value`, which then stands in the definition.
    """

    name: str
    shape: Shape
    integral: bool = False
    value: Expr | None = None


@dataclass(frozen=True)
class Part:
    """One parsed equation: `target` is the definition applied to the named operands."""

    target: str
    definition: Definition
    operands: tuple[str, ...]
    boolean: bool = False


def parse_dimension(text: str | int) -> Expr:
    """An extent: an integer, a name, or arithmetic over them such as "2*N + 1".

    Raises FormulaError for anything else.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return Integer(text)
    return _dimension(str(text))


@lru_cache(maxsize=4096)
def _dimension(text: str) -> Expr:
    reader = _Reader(text, {}, {}, any_dimension=True)
    return reader.size(_parse(text, "eval").body)  # type: ignore[attr-defined]


def target_names(text: str) -> tuple[str, ...]:
    """The names that a program defines, in order; the last is the op's own."""
    return tuple(_split(statement, text)[0] for statement in _statements(text))


def operand_names(text: str) -> tuple[str, ...]:
    """The subscripted names that a program reads and does not define, by first appearance."""
    names: dict[str, None] = {}
    defined: set[str] = set()
    for statement in _statements(text):
        if is_whole(statement):
            names.update((name, None) for name in read_names(statement) if name not in defined)
        found = [n for n in ast.walk(statement.value) if isinstance(n, ast.Subscript)]
        for node in sorted(found, key=lambda n: (n.lineno, n.col_offset)):
            base = node.value
            if isinstance(base, ast.Call) and isinstance(base.func, ast.Attribute):
                base = base.func.value
            if isinstance(base, ast.Name) and base.id not in defined:
                names.setdefault(base.id)
        defined.add(_split(statement, text)[0])
    return tuple(names)


@lru_cache(maxsize=4096)
def parse(
    text: str, operands: tuple[Operand, ...], dimensions: frozenset[str] = frozenset(), lenient: bool = False
) -> tuple[Part, ...]:
    """The equations of a formula text over `operands`, in order.

    The body may name the operands' dimensions as numbers, and those in `dimensions`. Where `lenient`, sizes that
    clash are let pass and the first one taken: the shapes are what they would be without the fault.

    A reduction inside an expression becomes an equation of its own, so every definition is one reduction of
    a body without reductions, and the body of max, min and prod is a plain access.

    Raises:
        FormulaError: the text is malformed, names something unknown, or exceeds the limits.
        ShapeError: an index has two extents, or none that the operands tell.
    """
    known = {operand.name: operand for operand in operands}
    parts: list[Part] = []
    for statement in _statements(text):
        if is_whole(statement):
            new = [_whole_part(statement, text, known)]
        else:
            new = _Equation(statement, text, dict(known), dimensions, lenient).parts()
        for part in new:
            known[part.target] = Operand(part.target, part.definition.shape)
        parts += new
    return tuple(parts)


def _whole_part(statement: ast.Assign, text: str, known: Mapping[str, Operand]) -> Part:
    """A statement such as Y = solve(A.T, B). Raises as `parse`."""

    def refuse(node: ast.AST, why: str, hint: str | None) -> NoReturn:
        _refuse(text, node, why, hint)

    name, axes = _split(statement, text)
    if axes:
        refuse(statement, "a matrix function defines a whole tensor, without indices", f"{name} = ...")
    shapes = {operand: known[operand].shape for operand in known}
    definition, operands = read_whole(statement, shapes, refuse)
    return Part(name, definition, operands)


def _statements(text: str) -> list[ast.Assign]:
    tree = _parse(text, "exec")
    for statement in tree.body:  # type: ignore[attr-defined]
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            _refuse(text, statement, "an equation has the form Y[i, j] = expression")
    if not tree.body:  # type: ignore[attr-defined]
        raise FormulaError("the formula is empty", hint="an equation has the form Y[i, j] = expression")
    return list(tree.body)  # type: ignore[attr-defined]


def _split(statement: ast.Assign, text: str) -> tuple[str, list[ast.expr]]:
    target = statement.targets[0]
    name = target.value if isinstance(target, ast.Subscript) else target
    if not isinstance(name, ast.Name):
        _refuse(text, target, "the left side has the form Y[i, j]")
    if name_fault(name.id):
        _refuse(text, target, f"{name.id[:100]!r}: {name_fault(name.id)}")
    return name.id, _elements(target.slice) if isinstance(target, ast.Subscript) else []


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


@lru_cache(maxsize=4096)
def _parse(text: str, mode: str) -> ast.AST:
    if not isinstance(text, str):
        raise FormulaError(f"a formula is text, not {type(text).__name__}")
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"the formula has {len(text)} characters, {MAX_CHARACTERS} at most are read")
    if not text.isascii():
        strange = next(c for c in text if not c.isascii())
        raise FormulaError(f"the formula has the character {strange!a}", hint="formulas are written in ASCII")
    lines = "\n".join(line.strip() for line in text.strip().splitlines())
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(lines, mode=mode)
    except (SyntaxError, ValueError) as error:
        column = getattr(error, "offset", None) or 1
        line = getattr(error, "lineno", None) or 1
        raise FormulaError("the formula is malformed", details=_caret(text, line, column - 1)) from None
    except (RecursionError, MemoryError):
        raise FormulaError("the formula is nested too deeply", hint=f"{MAX_DEPTH} levels at most") from None
    _limit(tree)
    return tree


def _limit(tree: ast.AST) -> None:
    count, level = 0, [tree]
    for _depth in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_NODES:
            raise FormulaError("the formula is too large", hint=f"{MAX_NODES} syntax nodes at most are read")
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise FormulaError("the formula is nested too deeply", hint=f"{MAX_DEPTH} levels at most")


_SUM, _PRODUCT = (ast.Add, ast.Sub), (ast.Mult, ast.Div)


def _children(node: ast.AST) -> list[ast.AST]:
    """What a node consists of; a sum or product of many terms is one level, as it is read in one go."""
    chain = _chain(node)
    return [term for term, _ in chain] if len(chain) > 1 else list(ast.iter_child_nodes(node))


def _chain(node: ast.AST) -> list[tuple[ast.expr, bool]]:
    """The terms of a + b - c ..., or the factors of a * b / c ..., each with whether it is inverted."""
    kinds = next((k for k in (_SUM, _PRODUCT) if isinstance(node, ast.BinOp) and isinstance(node.op, k)), ())
    found = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, kinds):
        found.append((node.right, isinstance(node.op, ast.Sub | ast.Div)))
        node = node.left
    return [(node, False), *reversed(found)] if isinstance(node, ast.expr) else []


def _caret(text: str, line: int, column: int) -> list[str]:
    lines = [row.strip() for row in text.strip().splitlines()] or [""]
    row = lines[min(line, len(lines)) - 1]
    start = max(0, column - 80)
    return [row[start : start + 160], " " * (min(column, len(row)) - start) + "^"]


def _refuse(text: str, node: ast.AST, why: str, hint: str | None = None) -> NoReturn:
    place = _caret(text, getattr(node, "lineno", 1), getattr(node, "col_offset", 0))
    raise FormulaError(why, details=place, hint=hint)


_ARITHMETIC: dict[type[ast.operator], Callable[[Expr, Expr], Expr]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Expr, Expr], Expr]] = {
    ast.Eq: sp.Eq,
    ast.NotEq: sp.Ne,
    ast.Lt: sp.Lt,
    ast.LtE: sp.Le,
    ast.Gt: sp.Gt,
    ast.GtE: sp.Ge,
}


@dataclass
class _Reader:
    """Reads expressions; `loops` maps index names to extents (None: not known yet)."""

    text: str
    operands: dict[str, Operand]
    loops: dict[str, Expr | None]
    dimensions: frozenset[str] = frozenset()
    any_dimension: bool = False
    leading: tuple[Expr, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    reductions: list[_Reduction] = field(default_factory=list)
    bound: tuple[str, ...] = ()

    def refuse(self, node: ast.AST, why: str, hint: str | None = None) -> NoReturn:
        _refuse(self.text, node, why, hint)

    # values

    def value(self, node: ast.expr) -> Expr:
        method = getattr(self, "_" + type(node).__name__.lower(), None)
        if method is None:
            self.refuse(node, f"{type(node).__name__} has no place in a formula")
        result: Expr = method(node)
        if not is_condition(result):
            self._check_number(node, result)
        return result

    def number(self, node: ast.expr) -> Expr:
        """A value that is no condition."""
        result = self.value(node)
        if is_condition(result):
            self.refuse(node, "a comparison is true or false and no number here", "write where(c, 1, 0)")
        return result

    def checked(self, node: ast.expr, function: Callable[..., Expr], arguments: Sequence[Expr]) -> Expr:
        """function(*arguments), refused like text that says so."""
        result: Expr = self._power(node, *arguments) if function is sp.Pow else function(*arguments)
        if isinstance(result, Expr):
            self._check_number(node, result)
        return result

    def _check_number(self, node: ast.expr, value: Expr) -> None:
        """Refuse what is no real number of double precision, before SymPy computes with it any further."""
        if value.has(sp.zoo, sp.nan):
            self.refuse(node, "this is not a finite number")
        if value.has(sp.I):
            self.refuse(node, "this is not a real number")
        factor = value if value.is_number else value.as_coeff_Mul()[0]
        if factor.is_infinite:
            return
        size = abs(factor if factor.is_Rational else factor.evalf(15))
        if (size < MAX_NUMBER) != sp.true:
            self.refuse(node, "the number is not finite in double precision")
        if factor.is_Rational and factor.q.bit_length() > MAX_DENOMINATOR_BITS:
            self.refuse(node, "the number has too many digits")

    def _constant(self, node: ast.Constant) -> Expr:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.refuse(node, f"{node.value!r} is not a number")
        if isinstance(node.value, float):
            return self._decimal(node)
        if abs(node.value) >= 10**MAX_LITERAL_DIGITS:
            self.refuse(node, f"the number has more than {MAX_LITERAL_DIGITS} digits")
        return Integer(node.value)

    def _decimal(self, node: ast.Constant) -> Expr:
        if node.value in (float("inf"), float("-inf")):
            self.refuse(node, "the number is not finite in double precision")
        return sp.Rational(*Decimal(repr(node.value)).as_integer_ratio())

    def _name(self, node: ast.Name) -> Expr:
        if node.id in self.loops:
            return index_symbol(node.id)
        known = self._dimensions()
        if node.id in self.operands and not self.operands[node.id].shape:
            if node.id in known:
                hint = f"{node.id}[()] is the operand; call one of them something else"
                self.refuse(node, f"{node.id!r} names an operand and a dimension", hint)
            return self._access(node, node.id, [], None)
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        if node.id in self.operands and node.id not in known:
            rank = len(self.operands[node.id].shape)
            self.refuse(node, f"{node.id!r} has {rank} axes and stands here without indices")
        if node.id not in known:
            close = nearest(node.id, [*self.loops, *self.operands])
            self.refuse(node, f"{node.id!r} is neither an index nor an operand", close)
        return dimension(node.id)

    def _dimensions(self) -> set[str]:
        shapes = (operand.shape for operand in self.operands.values())
        return {str(s) for shape in shapes for n in shape for s in n.free_symbols} | self.dimensions

    def _unaryop(self, node: ast.UnaryOp) -> Expr:
        if isinstance(node.op, ast.Not):
            return sp.Not(self._truth(node.operand))
        if isinstance(node.op, ast.Invert):
            self.refuse(node, "~ has no place in a formula", "write not")
        operand = self.number(node.operand)
        return -operand if isinstance(node.op, ast.USub) else operand

    def _binop(self, node: ast.BinOp) -> Expr:
        if isinstance(node.op, _SUM):
            return sp.Add(*(-self.number(t) if minus else self.number(t) for t, minus in _chain(node)))
        if isinstance(node.op, _PRODUCT):
            return sp.Mul(*(e for f, below in _chain(node) for e in self._factors(f, below)))
        if not isinstance(node.op, ast.Pow | ast.FloorDiv):
            self.refuse(node, f"{type(node.op).__name__} has no place in a formula")
        left, right = self.number(node.left), self.number(node.right)
        return (self._power if isinstance(node.op, ast.Pow) else self._floor)(node, left, right)

    def _factors(self, node: ast.expr, below: bool) -> list[Expr]:
        """A factor. Its sign is one of the product's own, so that -(a + b)*c stays as it is."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return [Integer(-1), *self._factors(node.operand, below)]
        return [1 / self.number(node) if below else self.number(node)]

    def _floor(self, node: ast.expr, left: Expr, right: Expr) -> Expr:
        if left.has(At) or right.has(At) or not right.is_positive:
            self.refuse(node, "// divides sizes by positive sizes only")
        return sp.floor(left / right)

    def _power(self, node: ast.expr, base: Expr, power: Expr) -> Expr:
        if power.is_number and abs(power) > 10_000:
            self.refuse(node, f"the exponent {power} is too large")
        if base.is_negative and base.is_number and not power.is_integer:
            self.refuse(node, "a negative number has whole powers only")
        if base.is_Rational and power.is_number:
            bits = max(abs(base.p).bit_length(), base.q.bit_length())
            if bits * abs(power) > MAX_POWER_BITS:
                self.refuse(node, "the power is too large to be written out")
        return base**power

    def _compare(self, node: ast.Compare) -> Expr:
        values = [self._compared(side) for side in (node.left, *node.comparators)]
        parts = []
        for operator, left, right in zip(node.ops, values, values[1:], strict=False):
            if type(operator) not in _COMPARISONS:
                self.refuse(node, f"{type(operator).__name__} has no place in a formula")
            parts.append(_COMPARISONS[type(operator)](left, right))
        return sp.And(*parts)

    def _compared(self, node: ast.expr) -> Expr:
        """One side of a comparison. SymPy cannot solve for a choice there."""
        value = self.number(node)
        if value.has(sp.Piecewise):
            hint = "give it an equation of its own: C[i] = where(...); Y[i] = C[i] > 0"
            self.refuse(node, "where(...) has no place in a condition", hint)
        return value

    def _truth(self, node: ast.expr) -> Expr:
        value = self.value(node)
        return value if is_condition(value) else truth(self._compared(node))

    def _boolop(self, node: ast.BoolOp) -> Expr:
        parts = [self._truth(v) for v in node.values]
        return sp.And(*parts) if isinstance(node.op, ast.And) else sp.Or(*parts)

    def _call(self, node: ast.Call) -> Expr:
        if not isinstance(node.func, ast.Name) or node.keywords:
            self.refuse(node, "only the functions of the formula language can be called", _functions_hint())
        name = node.func.id
        if name == "len":
            return self._len(node)
        if name in REDUCTIONS:
            return self._reduction(node, name)
        if is_call(name):
            self.refuse(node, f"{name} is a function of whole matrices", f"give it an equation: Z = {name}(...)")
        if name not in FUNCTIONS:
            self.refuse(
                node,
                f"{name!r} is no function of the formula language",
                nearest(name, FUNCTIONS) or _functions_hint(),
            )
        count, function = FUNCTIONS[name]
        if len(node.args) != count:
            self.refuse(node, f"{name} takes {count} argument{'s' * (count > 1)}, got {len(node.args)}")
        if name == "where":
            return function(self._truth(node.args[0]), *map(self.number, node.args[1:]))
        return function(*map(self.number, node.args))

    def _len(self, node: ast.Call) -> Expr:
        if len(node.args) != 1 or not isinstance(node.args[0], ast.Name) or node.args[0].id not in self.loops:
            self.refuse(node, "len takes the name of an index")
        name = node.args[0].id
        extent = self.loops[name]
        return Symbol(f"len {name}", positive=True, integer=True) if extent is None else extent

    def _reduction(self, node: ast.Call, kind: str) -> Expr:
        *bounds, body = node.args or [node]
        if not bounds:
            hint = f"{kind}imum(a, b) is the larger of two values" if kind in ("max", "min") else None
            self.refuse(node, f"{kind} takes index names, then an expression: {kind}(k, ...)", hint)
        names = [self._bind(bound) for bound in bounds]
        outer, self.bound = self.bound, (*self.bound, *names)
        value = self.number(body)
        self.bound = outer
        marker = Symbol(f"reduction {len(self.reductions)}", real=True)
        self.reductions.append(_Reduction(marker, kind, tuple(names), outer, value))
        return marker

    def _bind(self, node: ast.expr) -> str:
        extent = None
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            extent = self.extent(node.elts[1])
            node = node.elts[0]
        if not isinstance(node, ast.Name):
            self.refuse(node, "a reduction names its index: sum(k, ...) or sum((k, 3), ...)")
        if node.id in self.loops:
            self.refuse(node, f"the index {node.id!r} is bound twice", "use another name")
        if node.id in self.operands:
            self.refuse(node, f"{node.id!r} names an operand and an index", "use another name for the index")
        self.loops[node.id] = extent
        return node.id

    # elements

    def _subscript(self, node: ast.Subscript) -> Expr:
        view = None
        base = node.value
        if isinstance(base, ast.Call) and isinstance(base.func, ast.Attribute) and base.func.attr == "reshape":
            if base.keywords:
                self.refuse(node, "reshape takes sizes only")
            view = tuple(map(self.extent, base.args))
            base = base.func.value
        if not isinstance(base, ast.Name):
            self.refuse(node, "only operands have elements")
        if base.id not in self.operands:
            self.refuse(node, f"{base.id!r} is not an operand", nearest(base.id, self.operands))
        return self._access(node, base.id, _elements(node.slice), view)

    def _access(self, node: ast.expr, name: str, index: Sequence[ast.expr], view: Shape | None) -> Expr:
        operand = self.operands[name]
        shape = operand.shape if view is None else view
        if view is not None and sp.expand(sp.Mul(*view) - sp.Mul(*operand.shape)) != 0:
            self.refuse(node, f"{name} of shape {_shape(operand.shape)} cannot be reshaped to {_shape(view)}")
        leading: tuple[Expr, ...] = ()
        if index and isinstance(index[0], ast.Constant) and index[0].value is Ellipsis:
            index = index[1:]
            axes = shape[: max(0, len(shape) - len(index))]
            if len(axes) > len(self.leading):
                hint = 'the left side has "..." too, and X.reshape(...) none'
                self.refuse(
                    node,
                    f'"..." stands for {len(axes)} axes of {name} that the left side does not have',
                    hint,
                )
            leading = self._broadcast(axes)
        if len(index) + len(leading) != len(shape):
            raise ShapeError(
                f"{name} has shape {_shape(shape)} and is read with {len(index) + len(leading)} indices",
                details=_caret(self.text, node.lineno, node.col_offset),
            )
        if operand.value is not None:
            return operand.value
        number = self.numbers.setdefault(name, len(self.numbers))
        return At(number, (*leading, *map(self.index, index)), view)

    def _broadcast(self, axes: Shape) -> tuple[Expr, ...]:
        """The leading indices of an access that wrote "...": axes of size 1 stay at 0."""
        names = self.leading[len(self.leading) - len(axes) :]
        sizes = [self.loops[str(i)] for i in names]
        return tuple(Integer(0) if n == 1 and size != 1 else i for i, n, size in zip(names, axes, sizes, strict=True))

    # indices and sizes

    def index(self, node: ast.expr) -> Expr:
        value = self.number(node)
        if isinstance(value, At):
            if not self._integral(value):
                self.refuse(node, "an index must be an integer tensor", "give the operand dtype='int64'")
            return value
        symbols = [s for s in value.free_symbols if str(s) in self.loops]
        if value.has(At) or not value.is_integer or any(value.diff(s).has(*symbols) for s in symbols):
            self.refuse(
                node,
                "an index is affine in the indices (such as 2*i + p), or an element of an integer tensor",
            )
        if any(abs(n) > MAX_EXTENT for n in value.atoms(Integer)):
            self.refuse(node, "the index does not fit int64")
        return value

    def _integral(self, at: At) -> bool:
        names = {number: name for name, number in self.numbers.items()}
        return self.operands[names[at.operand]].integral

    def extent(self, node: ast.expr) -> Expr:
        """How many values an index takes: a size that is not negative."""
        value = self.size(node)
        if value.is_negative or (value.is_Integer and value > MAX_EXTENT):
            self.refuse(node, f"there cannot be {value} of an index")
        return value

    def _size_power(self, node: ast.BinOp) -> Expr:
        """n**2, as the size of a Kronecker product."""
        power = self.size(node.right)
        if not power.is_Integer or not 0 <= power <= MAX_SIZE_POWER:
            self.refuse(node, f"the power of a size is a number from 0 to {MAX_SIZE_POWER}")
        return self.size(node.left) ** power

    def size(self, node: ast.expr) -> Expr:
        """A size, over dimension names only."""
        if isinstance(node, ast.Name):
            if not self.any_dimension and node.id not in self._dimensions():
                self.refuse(node, f"{node.id!r} is no dimension", nearest(node.id, self._dimensions()))
            return dimension(node.id)
        if isinstance(node, ast.Constant):
            value = self._constant(node)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = -self.size(node.operand)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
            value = self._floor(node, self.size(node.left), self.size(node.right))
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            value = _ARITHMETIC[type(node.op)](self.size(node.left), self.size(node.right))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            value = self._size_power(node)
        else:
            self.refuse(node, "a size is an integer, a name, or + - * // ** of sizes")
        if not value.is_integer:
            self.refuse(node, "a size is a whole number")
        return value


@dataclass(frozen=True)
class _Reduction:
    marker: Symbol
    kind: str
    names: tuple[str, ...]
    outer: tuple[str, ...]
    value: Expr


class _Equation:
    """One statement on its way to definitions."""

    def __init__(
        self,
        statement: ast.Assign,
        text: str,
        operands: dict[str, Operand],
        dimensions: frozenset[str],
        lenient: bool,
    ) -> None:
        self.text, self.operands, self.lenient = text, operands, lenient
        self.statement = statement
        self.target, self.axes = _split(statement, text)
        self.reader = _Reader(text, operands, {}, dimensions)

    def parts(self) -> list[Part]:
        self._expand_ellipsis()
        write, extents = self._read_target()
        value = self.reader.value(self.statement.value)
        self.boolean = is_condition(value)
        if self.boolean:
            value = sp.Piecewise((1, value), (0, True))
        target = [w if isinstance(w, Symbol) else self.reader.index(w) for w in write]
        self._find_extents([value, *target])
        self.lengths = {Symbol(f"len {n}", positive=True, integer=True): e for n, e in self._loops.items()}
        target = [self._with_lengths(w) for w in target]
        shape = [
            self._axis_extent(w, node) if extent is None else extent
            for w, extent, node in zip(target, extents, write, strict=True)
        ]
        return self._emit(self._with_lengths(value), target, shape)

    def _with_lengths(self, expr: Expr) -> Expr:
        """`expr` with every len(i) known, checked step by step like anything that is read."""
        if not expr.free_symbols & self.lengths.keys():
            return expr
        if expr in self.lengths:
            return self.lengths[expr]
        args = [self._with_lengths(a) for a in expr.args]
        return self.reader.checked(self.statement.value, expr.func, args)

    @property
    def _loops(self) -> dict[str, Expr | None]:
        return self.reader.loops

    def _expand_ellipsis(self) -> None:
        """Give the "..." of the text names and extents: the operands' leading axes, broadcast."""
        axes = self.axes
        if not (axes and isinstance(axes[0], ast.Constant) and axes[0].value is Ellipsis):
            return
        shapes = [self._leading_shape(node) for node in ast.walk(self.statement.value) if _has_ellipsis(node)]
        shape = broadcast_shapes([s for s in shapes if s is not None], self.lenient)
        names = tuple(index_symbol(f"b{k}_") for k in range(len(shape)))
        self.reader.loops.update({str(i): n for i, n in zip(names, shape, strict=True)})
        self.reader.leading = names
        self.axes = axes[1:]

    def _leading_shape(self, node: ast.AST) -> Shape | None:
        assert isinstance(node, ast.Subscript)
        base = node.value
        if not isinstance(base, ast.Name) or base.id not in self.operands:
            return None
        shape = self.operands[base.id].shape
        rest = len(_elements(node.slice)) - 1
        if len(shape) < rest:
            raise ShapeError(
                f"{base.id} has shape {_shape(shape)}; at least {rest} axes are needed",
                details=_caret(self.text, node.lineno, node.col_offset),
            )
        return shape[: len(shape) - rest]

    def _read_target(self) -> tuple[list[ast.expr | Symbol], list[Expr | None]]:
        write: list[ast.expr | Symbol] = list(self.reader.leading)
        extents: list[Expr | None] = [self.reader.loops[str(i)] for i in self.reader.leading]
        for node in self.axes:
            extent = None
            if isinstance(node, ast.Slice):
                if node.lower is None or node.upper is None or node.step is not None:
                    _refuse(self.text, self.statement, "an axis on the left is an index or index:extent")
                extent, node = self.reader.extent(node.upper), node.lower
            if isinstance(node, ast.Tuple) and not node.elts:
                continue
            if isinstance(node, ast.Name):
                self._declare(node, extent)
            write.append(node)
            extents.append(extent)
        return write, extents

    def _declare(self, node: ast.Name, extent: Expr | None) -> None:
        bound = {
            elt.id
            for call in ast.walk(self.statement.value)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in REDUCTIONS
            for arg in call.args[:-1]
            for elt in _elements(arg)[:1]
            if isinstance(elt, ast.Name)
        }
        if node.id in bound:
            return
        if node.id in self.operands:
            _refuse(
                self.text,
                node,
                f"{node.id!r} names an operand and an index",
                "use another name for the index",
            )
        if node.id in self._loops:
            _refuse(self.text, node, f"the index {node.id!r} stands twice on the left")
        self._loops[node.id] = extent

    def _find_extents(self, read: Sequence[Expr]) -> None:
        bodies = [*read, *(r.value for r in self.reader.reductions)]
        accesses = sorted(set().union(*(b.atoms(At) for b in bodies)), key=sp.default_sort_key)
        shapes = {number: self.operands[name].shape for name, number in self.reader.numbers.items()}
        names = {number: name for name, number in self.reader.numbers.items()}
        declared = {name for name, extent in self._loops.items() if extent is not None}
        told: dict[str, tuple[Expr, str]] = {}
        for at in accesses:
            for axis, (e, n) in enumerate(zip(at.index, at.sizes(shapes[at.operand]), strict=True)):
                name = str(e)
                if not e.is_Symbol or name not in self._loops or name in declared:
                    continue
                shape = _shape(at.sizes(shapes[at.operand]))
                where = f"{names[at.operand]} has shape {shape}, {name} = {n} on axis {axis}"
                if name in told and told[name][0] != n and not self.lenient:
                    raise ShapeError(
                        f"index {name} differs between operands", details=[told[name][1], where], hint=None
                    )
                told.setdefault(name, (n, where))
        self._loops.update({name: n for name, (n, _) in told.items()})
        for at in accesses:
            for e, n in zip(at.index, at.sizes(shapes[at.operand]), strict=True):
                self._infer_window(e, n)
        missing = [name for name, extent in self._loops.items() if extent is None]
        if missing:
            raise ShapeError(
                f"nothing tells how many values the index {missing[0]!r} takes",
                details=_caret(self.text, self.statement.lineno, 0),
                hint=f"write Y[{missing[0]}:5] on the left, or sum(({missing[0]}, 5), ...) in a reduction",
            )

    def _infer_window(self, e: Expr, n: Expr) -> None:
        """The extent of the one unknown index of e that keeps 0 <= e < n for all values of the others."""
        unknown = [s for s in e.free_symbols if str(s) in self._loops and self._loops[str(s)] is None]
        if len(unknown) != 1 or not e.coeff(unknown[0]).is_positive:
            return
        step = e.coeff(unknown[0])
        top = e.subs(unknown[0], 0)
        for s in sorted(top.free_symbols, key=str):
            extent = self._loops.get(str(s))
            if extent is not None:
                top = top.subs(s, extent - 1 if e.coeff(s).is_positive else 0)
        self._loops[str(unknown[0])] = sp.floor((n - 1 - top) / step) + 1

    def _emit(self, value: Expr, target: Sequence[Expr], shape: Sequence[Expr]) -> list[Part]:
        parts: list[Part] = []
        replaced: dict[Expr, Expr] = {}
        for reduction in self.reader.reductions:
            body = self._with_lengths(reduction.value).xreplace(replaced)
            if value == reduction.marker:
                names = [n for n in self._loops if self._is_free(n, reduction)]
                parts += self._reduced(self.target, target, shape, body, reduction.kind, names)
                return parts
            free = [n for n in self._loops if n not in reduction.names and n in _names(body)]
            out = [index_symbol(n) for n in free]
            sizes = [self._loops[n] for n in free]
            name = free_name(f"{self.target}_{reduction.kind}{len(parts) or ''}", self.operands)
            parts += self._reduced(name, out, sizes, body, reduction.kind, [*free, *reduction.names])
            replaced[reduction.marker] = self._reference(name, out, sizes)
        parts.append(self._part(self.target, target, shape, value.xreplace(replaced), "sum", list(self._outer())))
        return parts

    def _is_free(self, name: str, reduction: _Reduction) -> bool:
        return name in reduction.names or not any(name in r.names for r in self.reader.reductions)

    def _outer(self) -> Iterable[str]:
        bound = {n for r in self.reader.reductions for n in r.names}
        return (n for n in self._loops if n not in bound)

    def _axis_extent(self, w: Expr, node: ast.expr | Symbol) -> Expr:
        extent = self._loops.get(str(w))
        if extent is None:
            assert isinstance(node, ast.expr)
            _refuse(self.text, node, "an axis that is no plain index needs its extent: Y[2*i + p : 9]")
        return extent

    def _reduced(
        self,
        name: str,
        out: Sequence[Expr],
        shape: Sequence[Expr],
        body: Expr,
        kind: str,
        loops: Sequence[str],
    ) -> list[Part]:
        if kind == "sum" or isinstance(body, At):
            return [self._part(name, out, shape, body, kind, loops)]
        inner = [index_symbol(n) for n in loops]
        sizes = [self._loops[n] for n in loops]
        each = self._part(free_name(f"{name}_each", self.operands), inner, sizes, body, "sum", loops)
        return [each, self._part(name, out, shape, self._reference(each.target, inner, sizes), kind, loops)]

    def _reference(self, name: str, out: Sequence[Expr], shape: Sequence[Expr]) -> Expr:
        self.operands[name] = Operand(name, tuple(shape))
        return At(self.reader.numbers.setdefault(name, len(self.reader.numbers)), out)

    def _part(
        self,
        name: str,
        out: Sequence[Expr],
        shape: Sequence[Expr],
        body: Expr,
        kind: str,
        loops: Sequence[str],
    ) -> Part:
        pairs = [(index_symbol(n), self._loops[n]) for n in loops]
        names = {number: operand for operand, number in self.reader.numbers.items()}
        used = sorted({at.operand for e in (body, *out) for at in e.atoms(At)})
        place = {number: k for k, number in enumerate(used)}
        body, *out = (_renumbered(e, place) for e in (stable(body), *out))
        boolean = self.boolean and name == self.target
        return Part(name, define(pairs, shape, out, body, kind), tuple(names[k] for k in used), boolean)


def _renumbered(expr: Expr, place: Mapping[int, int]) -> Expr:
    return map_accesses(expr, lambda at: At(place[at.operand], [_renumbered(e, place) for e in at.index], at.view))


def _names(expr: Expr) -> set[str]:
    return {str(s) for s in expr.free_symbols}


def _has_ellipsis(node: ast.AST) -> bool:
    if not isinstance(node, ast.Subscript):
        return False
    first = _elements(node.slice)[0] if _elements(node.slice) else None
    return isinstance(first, ast.Constant) and first.value is Ellipsis


def _shape(shape: Iterable[Expr]) -> str:
    inner = [str(n) for n in shape]
    return f"({', '.join(inner)}{',' * (len(inner) == 1)})"


def _functions_hint() -> str:
    return "functions: " + ", ".join(sorted(FUNCTIONS)) + "; reductions: " + ", ".join(REDUCTIONS)


def broadcast_shapes(shapes: Sequence[Shape], lenient: bool = False) -> Shape:
    """The shape that NumPy broadcasting gives; a named size fits itself and 1 only. Raises ShapeError."""
    rank = max(map(len, shapes), default=0)
    result = [Integer(1)] * rank
    for shape in shapes:
        for axis, n in enumerate(shape, rank - len(shape)):
            clash = n != 1 and result[axis] not in (1, n)
            if clash and not lenient:
                listed = " and ".join(map(_shape, shapes))
                raise ShapeError(
                    f"shapes {listed} do not broadcast: {result[axis]} against {n} on axis {axis - rank}",
                    hint="sizes on an axis must be equal, or 1",
                )
            result[axis] = n if n != 1 and not clash else result[axis]
    return tuple(result)
