"""Formulas read back and computed: what a printed line says, as numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp

from symgrad.formula import notation as n
from symgrad.formula.functions import VARIABLE
from symgrad.formula.indexed import Applied, Element, Reduction, Solved
from symgrad.formula.plan import Plan

Arrays = Mapping[str, np.ndarray]
FOLD = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}
MATRIX = {
    "inv": np.linalg.inv,
    "solve": np.linalg.solve,
    "det": np.linalg.det,
    "logdet": lambda a: np.linalg.slogdet(a)[1],
    "cholesky": np.linalg.cholesky,
    "eigenvalues": np.linalg.eigvalsh,
    "eigenvectors": lambda a: np.linalg.eigh(a)[1],
    "nuclear": lambda a: np.linalg.norm(a, "nuc"),
    "polar": lambda a: a @ np.linalg.inv(_root(a.T @ a)),
}


def _root(a: np.ndarray) -> np.ndarray:
    """The symmetric square root."""
    w, v = np.linalg.eigh(a)
    return (v * np.sqrt(w)) @ v.T


def number(body: sp.Expr, values: Arrays, plan: Plan, place: dict[sp.Symbol, int]) -> float:
    """An index expression at one place, element by element."""

    def inside(expr: sp.Expr) -> sp.Expr:
        if isinstance(expr, Element):
            array = values[expr.name] if expr.view is None else values[expr.name].reshape([int(s) for s in expr.view])
            index = [int(inside(e)) for e in expr.index]
            within = all(0 <= k < size for k, size in zip(index, array.shape, strict=True))
            value = float(array[tuple(index)]) if within else 0.0
            if np.isinf(value):
                return sp.oo if value > 0 else -sp.oo
            return sp.Float(value, 17) if value != int(value) else sp.Integer(int(value))
        if isinstance(expr, Reduction):
            return folded(expr)
        if isinstance(expr, Solved):
            return sp.Float(float(_solved(expr, values)[tuple(int(inside(e)) for e in expr.index)]), 17)
        if isinstance(expr, Applied):
            functions = plan.functions
            formula = functions.derivative(expr.function) if expr.order else functions.bodies[expr.function]
            return formula.xreplace({VARIABLE: inside(expr.argument)})
        if isinstance(expr, sp.Symbol):
            return sp.Integer(place[expr])
        if isinstance(expr, sp.Piecewise):
            return next(inside(value) for value, condition in expr.args if bool(inside(condition)))
        return expr.func(*map(inside, expr.args)) if expr.args else expr

    def folded(expr: Reduction) -> sp.Expr:
        found = []
        for point in itertools.product(*(range(int(size)) for _, size in expr.loops)):
            place.update({i: k for (i, _), k in zip(expr.loops, point, strict=True)})
            if bool(inside(expr.condition)):
                found.append(inside(expr.body))
        if expr.kind in ("sum", "prod"):
            return sp.Add(*found) if expr.kind == "sum" else sp.Mul(*found)
        return (sp.Max if expr.kind == "max" else sp.Min)(*found) if found else sp.Integer(0)

    return float(inside(body))


def _solved(expr: Solved, values: Arrays) -> np.ndarray:
    """A matrix function of whole tensors: solve({0}.T, {1})."""
    call, arguments = expr.written.removesuffix(")").split("(")
    operands = [values[name] for name in expr.operands]
    read = [(operands[int(a[1 : a.index("}")])], a.endswith(".T")) for a in arguments.split(", ")]
    return np.asarray(MATRIX[call](*(a.T if turned else a for a, turned in read)))


class Matrices:
    """Computes matrix notation: vectors are columns or rows; beside a matrix they run along its rows."""

    def __init__(self, plan: Plan, values: Arrays, sizes: Mapping[str, int] | None = None) -> None:
        self.plan = plan
        self.sizes = {sp.Symbol(k, integer=True, positive=True): size for k, size in (sizes or {}).items()}
        self.values = {
            plan.symbols[name].text: np.asarray(a, float) for name, a in values.items() if name in plan.shown
        }

    def __call__(self, node: n.Node, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(self.value(node)).reshape(shape)

    def value(self, node: n.Node) -> Any:
        return getattr(self, type(node).__name__.lower())(node)

    def atom(self, node: n.Atom) -> Any:
        base, _, part = node.text.partition("[")
        array = self.values[base]
        if part:
            array = array[tuple(self._entry(e) for e in part[:-1].split(","))]
        return (array[None, :] if self.plan.setting.rows else array[:, None]) if array.ndim == 1 else array

    def _entry(self, text: str) -> Any:
        if ":" not in text:
            return int(text)
        start, stop = text.split(":")
        return slice(int(start or 0), int(stop) if stop else None)

    def constant(self, node: n.Constant) -> Any:
        return float(node.value.subs(self.sizes))

    def scaled(self, node: n.Scaled) -> Any:
        return float(node.value.subs(self.sizes)) * self.value(node.body)

    def product(self, node: n.Product) -> Any:
        made = 1.0
        for factor in map(self.value, node.factors):
            scalar = np.ndim(made) == 0 or np.ndim(factor) == 0
            made = made * factor if scalar else made @ factor
        return made

    def _aligned(self, parts: list[Any]) -> list[Any]:
        """A vector beside a matrix is one row."""
        largest = max(parts, key=np.size)
        full = np.ndim(largest) == 2 and 1 not in np.shape(largest)
        wide = np.ndim(largest) > 2

        def fit(part: Any) -> Any:
            vector = np.ndim(part) == 2 and 1 in np.shape(part)
            return part.reshape(-1) if vector and (full or wide) else part

        return [fit(part) for part in parts]

    def hadamard(self, node: n.Hadamard) -> Any:
        made = 1.0
        for part in self._aligned([self.value(f) for f in node.factors]):
            made = made * part
        return made

    def quotient(self, node: n.Quotient) -> Any:
        above, below = self._aligned([self.value(node.above), self.value(node.below)])
        return above / below

    def sum(self, node: n.Sum) -> Any:
        parts = self._aligned([self.value(term) for _, term in node.terms])
        made = 0.0
        for (negative, _), part in zip(node.terms, parts, strict=True):
            made = made - part if negative else made + part
        return made

    def power(self, node: n.Power) -> Any:
        base, exponent = self._aligned([self.value(node.base), self.value(node.exponent)])
        return base**exponent

    def transposed(self, node: n.Transposed) -> Any:
        return self.value(node.base).T

    def inverse(self, node: n.Inverse) -> Any:
        return np.linalg.inv(self.value(node.base))

    def call(self, node: n.Call) -> Any:
        if node.text in MATRIX:
            found = MATRIX[node.text](*map(self.value, node.arguments))
            return (found[None, :] if self.plan.setting.rows else found[:, None]) if found.ndim == 1 else found
        arguments = self._aligned([self.value(a) for a in node.arguments])
        for number, letter in enumerate(self.plan.functions.letters):
            functions = self.plan.functions
            if node.text in (letter.text, letter.text + "'"):
                body = functions.bodies[number] if node.text == letter.text else functions.derivative(number)
                return _pointwise(body.xreplace({VARIABLE: sp.Symbol("x", real=True)}), arguments[0])
        x = sp.Symbol("x", real=True)
        table = {
            "max": np.maximum,
            "min": np.minimum,
            "|": np.abs,
            "sqrt": np.sqrt,
            "exp": np.exp,
            "log": np.log,
        }
        if node.text in table:
            return table[node.text](*arguments)
        names = {"σ": 1 / (1 + sp.exp(-x)), "softplus": sp.log(1 + sp.exp(x)), "log1p": sp.log(1 + x)}
        names |= {"expm1": sp.exp(x) - 1, "H": sp.Heaviside(x, sp.Rational(1, 2))}
        return _pointwise(names.get(node.text) or getattr(sp, node.text)(x), arguments[0])

    def reduce(self, node: n.Reduce) -> Any:
        body = self.value(node.body)
        if not node.letters or np.ndim(body) != 2 or 1 in np.shape(body):
            return FOLD[node.kind](body)
        letters = self.plan.setting.letters.several([sp.Integer(7)] * 2)
        axis = 0 if node.letters[0] == "n" else letters.index(node.letters[0])
        folded = FOLD[node.kind](body, axis=axis)
        return folded[None, :] if self.plan.setting.rows else folded[:, None]

    def indicator(self, node: n.Indicator) -> Any:
        return np.asarray(self.value(node.condition), float)

    def relation(self, node: n.Relation) -> Any:
        left, right = self._aligned([self.value(node.left), self.value(node.right)])
        table = {"=": np.equal, "≠": np.not_equal, "<": np.less, "≤": np.less_equal}
        return (table | {">": np.greater, "≥": np.greater_equal})[node.sign](left, right)

    def logic(self, node: n.Logic) -> Any:
        parts = [self.value(a) for a in node.arguments]
        if node.word == "¬":
            return np.logical_not(parts[0])
        return (np.logical_and if node.word == "∧" else np.logical_or).reduce(np.broadcast_arrays(*parts))


def _pointwise(body: sp.Expr, array: Any) -> Any:
    x = sp.Symbol("x", real=True)
    return np.vectorize(lambda v: float(body.subs(x, float(v)).evalf()), otypes=[float])(array)
