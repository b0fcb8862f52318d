"""From an expression in NumPy's syntax to terms. Nothing is evaluated.

expression = names, numbers, + - * / ** @, one comparison, parentheses
           | f(x, ...)  np.f(x, ...)  linalg.f(x, ...)  x.sum(axis=0)      see `functions`
           | x.T  x[1:, None]  x.shape[0]  len(x)  x.size  eye(n)  np.pi
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import sympy as sp
from sympy import Expr, Rational

from symgrad.errors import nearest
from symgrad.expression.arithmetic import MAX_EXPONENT, exact_arithmetic, exact_literal
from symgrad.expression.attributes import attributes, literal, norm_signature
from symgrad.expression.functions import FILLED, METHODS, MODULES, function_hint, function_named, is_function
from symgrad.expression.rules import Elementwise
from symgrad.expression.source import CHAINED, Source, chain
from symgrad.expression.terms import Applied, Dimension, Extent, Filled, Form, Named, Number, Term
from symgrad.names import name_fault

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.MatMult: "matmul",
    ast.Pow: "power",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}
_HINTS: dict[type[ast.AST], str] = {
    ast.BitXor: "** is the power",
    ast.Mod: "@ is the matrix product",
    ast.BoolOp: "where(a, where(b, x, y), y)",
    ast.IfExp: "where(c, a, b) chooses",
}
_CONSTANTS: dict[str, Expr] = {"pi": sp.pi, "e": sp.E}


@dataclass
class Reader:
    """Reads one expression.

    Attributes:
        declared: names that are variables whatever else they mean.
        dimensions: names that stand for sizes, those inside eye(n) among them.
        closed: whether `declared` are the only variables.
    """

    source: Source
    declared: Sequence[str]
    dimensions: set[str]
    closed: bool = False
    terms: list[Term] = field(default_factory=list)
    _places: dict[tuple[Form, tuple[int, ...]], int] = field(default_factory=dict)

    def read(self) -> int:
        """Fill `terms`, operands first; the number of the one that is the whole expression.

        Raises FormulaError for what has no place in an expression.
        """
        self.dimensions |= _filling_names(self.source.tree)
        return self._term(self.source.tree)

    def refuse(self, node: ast.expr, why: str, hint: str | None = None) -> NoReturn:
        self.source.refuse(node.col_offset, why, hint)

    def _add(self, form: Form, operands: Sequence[int], node: ast.expr, column: int | None = None) -> int:
        key = form, tuple(operands)
        if key not in self._places:
            self._places[key] = len(self.terms)
            place = node.col_offset if column is None else column
            self.terms.append(Term(form, key[1], place, self.source.part(node)))
        return self._places[key]

    def _term(self, node: ast.expr) -> int:
        readers: dict[type[ast.expr], Callable[[Any], int]] = {
            ast.Name: self._name,
            ast.Constant: self._constant,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._binary,
            ast.Compare: self._comparison,
            ast.Call: self._call,
            ast.Attribute: self._attribute,
            ast.Subscript: self._subscript,
        }
        if type(node) not in readers:
            self.refuse(node, "this has no place in an expression", _HINTS.get(type(node)))
        return readers[type(node)](node)

    # leaves

    def _name(self, node: ast.Name) -> int:
        name = node.id
        if name in self.declared:
            return self._add(Named(name), (), node)
        if name in self.dimensions:
            return self._add(Dimension(name), (), node)
        if name == "pi":
            return self._add(Number(sp.pi), (), node)
        if is_function(name):
            self.refuse(node, f"{name} is a function and stands here without arguments", f"{name}(x)")
        if self.closed:
            known = sorted({*self.declared, *self.dimensions})
            hint = nearest(name, known) or "known are " + ", ".join(known[:12])
            self.refuse(node, f"{name[:100]!r} is not defined", hint)
        if name_fault(name):
            self.refuse(node, f"{name[:100]!r}: {name_fault(name)}", "such as x, W or lam")
        return self._add(Named(name), (), node)

    def _constant(self, node: ast.Constant) -> int:
        return self._add(Number(exact_literal(self.source, node)), (), node)

    # operators

    def _unary(self, node: ast.UnaryOp) -> int:
        if isinstance(node.op, ast.Not | ast.Invert):
            self.refuse(node, "not and ~ have no place in an expression", "where(c, a, b) chooses")
        operand = self._term(node.operand)
        if isinstance(node.op, ast.UAdd):
            return operand
        value = self._rational(operand)
        if value is not None:
            return self._add(Number(-value), (), node)
        return self._add(Applied(Elementwise("negative")), (operand,), node)

    def _binary(self, node: ast.BinOp) -> int:
        if type(node.op) not in _BINARY:
            hint = _HINTS.get(type(node.op))
            self.source.refuse(self._operator_column(node), "this operator has no place in an expression", hint)
        if not isinstance(node.op, tuple(k for kinds in CHAINED for k in kinds)):
            return self._applied(node, self._term(node.left), self._term(node.right))
        first, links = chain(node)
        value = self._term(first)
        for link in links:
            value = self._applied(link, value, self._term(link.right))
        return value

    def _applied(self, node: ast.BinOp, left: int, right: int) -> int:
        op, column = _BINARY[type(node.op)], self._operator_column(node)
        a, b = self._rational(left), self._rational(right)
        if op == "power" and b is not None and abs(b) > MAX_EXPONENT:
            self.refuse(node.right, f"the exponent is larger than {MAX_EXPONENT}")
        if a is not None and b is not None and op != "matmul":
            value = exact_arithmetic(self.source, column, op, a, b)
            if value is not None:
                return self._add(Number(value), (), node)
        known = function_named(op)
        assert known is not None
        return self._add(Applied(known.rule(())), (left, right), node, column)

    def _rational(self, term: int) -> Rational | None:
        form = self.terms[term].form
        return form.value if isinstance(form, Number) and form.value.is_Rational else None

    def _operator_column(self, node: ast.BinOp) -> int:
        between = self.source.text[node.left.end_col_offset : node.right.col_offset]
        return (node.left.end_col_offset or 0) + len(between) - len(between.lstrip(" )"))

    def _comparison(self, node: ast.Compare) -> int:
        kind = type(node.ops[0])
        if len(node.ops) > 1 or kind not in _COMPARISONS:
            self.refuse(node, "only one comparison at a time has a place in an expression", "where(a < b, x, y)")
        sides = self._term(node.left), self._term(node.comparators[0])
        return self._add(Applied(Elementwise(_COMPARISONS[kind])), sides, node)

    # calls

    def _call(self, node: ast.Call) -> int:
        name, receiver = self._callee(node.func)
        args = [*receiver, *node.args]
        if name in FILLED:
            return self._filled(node, name, args)
        if name == "len":
            return self._add(Extent(0), self._operands(node, name, args, 1), node)
        if name == "norm":
            signature = norm_signature(self.source, node, args)
            return self._add(Applied(signature, signature.attributes), (self._term(args[0]),), node)
        known = function_named(name)
        if known is None:
            self.refuse(node, f"{name[:100]!r} is no function of an expression", function_hint(name))
        if len(args) < known.operands:
            self._wrong_count(node, name, known.operands, len(args))
        given = attributes(self.source, node, known, args[known.operands :])
        operands = tuple(map(self._term, args[: known.operands]))
        return self._add(Applied(known.rule(given), given), operands, node)

    def _callee(self, node: ast.expr) -> tuple[str, list[ast.expr]]:
        """The function's name, and the object of a method as a list of one."""
        if isinstance(node, ast.Name):
            return node.id, []
        if not isinstance(node, ast.Attribute):
            self.refuse(node, "only functions can be called", "write * to multiply")
        if self.source.part(node.value) in MODULES:
            return node.attr, []
        if node.attr not in METHODS:
            hint = nearest(node.attr, METHODS) or f"{node.attr}(...) where it is a function"
            self.source.refuse(node.end_col_offset or 0, f"there is no method {node.attr[:100]!r}", hint)
        return node.attr, [node.value]

    def _operands(self, node: ast.Call, name: str, args: Sequence[ast.expr], count: int) -> tuple[int, ...]:
        if len(args) != count or node.keywords:
            self._wrong_count(node, name, count, len(args))
        return tuple(map(self._term, args))

    def _wrong_count(self, node: ast.expr, name: str, count: int, got: int) -> NoReturn:
        self.refuse(node, f"{name} takes {count} operand{'s' * (count != 1)}, got {got}")

    def _filled(self, node: ast.Call, name: str, args: Sequence[ast.expr]) -> int:
        if len(args) == 1 and isinstance(args[0], ast.Tuple) and name != "eye":
            args = args[0].elts
        if not args or node.keywords or (name == "eye" and len(args) != 1):
            self.refuse(node, f"{name} takes {'one size' if name == 'eye' else 'sizes'}", f"{name}(n)")
        sizes = tuple(map(self._term, args))
        for size, arg in zip(sizes, args, strict=True):
            if not self._is_size(size):
                self.refuse(arg, "this is not a size", "a whole number, the name of a dimension, or A.shape[0]")
        return self._add(Filled(name), sizes, node)

    def _is_size(self, term: int) -> bool:
        form = self.terms[term].form
        if isinstance(form, Number):
            return bool(form.value.is_Integer and form.value >= 0)
        return isinstance(form, Dimension | Extent)

    # x.T, x.shape[0], x[1:]

    def _attribute(self, node: ast.Attribute) -> int:
        if self.source.part(node.value) in MODULES:
            return self._add(Number(self._constant_named(node)), (), node)
        if node.attr == "size":
            return self._add(Extent(None), (self._term(node.value),), node)
        if node.attr != "T":
            hint = (
                "x.shape[0]"
                if node.attr == "shape"
                else "known are x.T, x.size, x.shape[0] and methods such as x.sum()"
            )
            self.refuse(node, f"{node.attr[:100]!r} has no place here", hint)
        known = function_named("transpose")
        assert known is not None
        return self._add(Applied(known.rule(())), (self._term(node.value),), node)

    def _constant_named(self, node: ast.Attribute) -> Expr:
        """np.pi or np.e."""
        if node.attr not in _CONSTANTS:
            whole = self.source.part(node)[:100]
            self.refuse(node, f"{whole} is no number and stands here without arguments", f"{whole}(x)")
        return _CONSTANTS[node.attr]

    def _subscript(self, node: ast.Subscript) -> int:
        base = node.value
        if isinstance(base, ast.Attribute) and base.attr == "shape":
            axis = literal(node.slice)
            if type(axis) is not int:
                self.refuse(node.slice, "an axis is a whole number", "x.shape[0]")
            return self._add(Extent(axis), (self._term(base.value),), node)
        nodes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        entries = [self._entry(n) for n in nodes]
        return self._indexed(node, self._term(base), entries)

    def _entry(self, node: ast.expr) -> Any:
        """One index: a whole number, None, or (start, stop, step)."""
        slices = isinstance(node, ast.Slice)
        parts = [node.lower, node.upper, node.step] if isinstance(node, ast.Slice) else [node]
        values = [None if n is None else literal(n) for n in parts]
        if any(v is not None and type(v) is not int for v in values):
            hint = "x[0], X[:, 1:], x[:, None]"
            self.refuse(node, "an index is a whole number, a slice of them, or None", hint)
        return tuple(values) if slices else values[0]

    def _indexed(self, node: ast.Subscript, value: int, entries: list[Any]) -> int:
        kept = tuple(e for e in entries if e is not None)
        if any(e != (None, None, None) for e in kept):
            value = self._moved(node, "slice", value, kept)
        places = [e for e in entries if not isinstance(e, int)]
        added = tuple(k for k, e in enumerate(places) if e is None)
        return self._moved(node, "expand_dims", value, added) if added else value

    def _moved(self, node: ast.expr, op: str, value: int, argument: tuple[Any, ...]) -> int:
        known = function_named(op)
        assert known is not None
        given = ((next(iter(known.attributes)), argument),)
        return self._add(Applied(known.rule(given), given), (value,), node)


def _filling_names(tree: ast.expr) -> set[str]:
    """The names that stand as sizes: n in eye(n)."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n.func) in FILLED]
    args = [a for call in calls for arg in call.args for a in (arg.elts if isinstance(arg, ast.Tuple) else [arg])]
    return {a.id for a in args if isinstance(a, ast.Name)}


def _called(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
