"""Every statement as calls of NumPy functions with preallocated outputs.

    Call(function, arguments, out, equation)     function is a NumPy name; an argument is a View, a number, or text

Scalar bodies become straight-line code: equal subexpressions are computed once, factors and quotients are
combined at the smallest shape that they have, and stable functions are spelled out in exp(-|x|), which a
function and its derivative then share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import sympy as sp
from sympy import Expr, Integer, Symbol

from symgrad.index.functions import erfc, expm1, is_condition, log1p, plain_conditions, sigmoid, softplus
from symgrad.lower.ir import (
    Apply,
    Array,
    Code,
    Contract,
    Fill,
    For,
    Gather,
    Map,
    Reduce,
    Scatter,
    Statement,
    View,
    whole,
)
from symgrad.names import free_name

Argument: TypeAlias = View | Expr | str


@dataclass(frozen=True)
class Call:
    """See the module's docstring. `body` holds the calls of a loop over `offsets`."""

    function: str
    arguments: tuple[Argument, ...]
    out: View | None
    equation: str = ""
    offsets: tuple[tuple[Symbol, int], ...] = ()
    body: tuple[Call, ...] = ()
    elementwise: bool = False

    def reads(self) -> list[View]:
        inner = [v for call in self.body for v in call.reads()]
        updated = [self.out] if self.out is not None and self.function in UPDATES else []
        return [*(a for a in self.arguments if isinstance(a, View)), *updated, *inner]

    def writes(self) -> list[View]:
        return [
            *([self.out] if self.out is not None else []),
            *(v for call in self.body for v in call.writes()),
        ]


UPDATES = ("copy_where", "scatter", "scatter_add", "accumulate")  # these leave a part of `out` as it was

_UNARY: dict[type[Expr], str] = {
    sp.exp: "exp",
    sp.log: "log",
    log1p: "log1p",
    expm1: "expm1",
    sp.Abs: "absolute",
    sp.sign: "sign",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.tan: "tan",
    sp.sinh: "sinh",
    sp.cosh: "cosh",
    sp.tanh: "tanh",
    sp.atan: "arctan",
    sp.erf: "_erf",
    erfc: "_erfc",
}
_COMPARISONS: dict[type[Expr], str] = {
    sp.Eq: "equal",
    sp.Ne: "not_equal",
    sp.StrictLessThan: "less",
    sp.LessThan: "less_equal",
    sp.StrictGreaterThan: "greater",
    sp.GreaterThan: "greater_equal",
}


def flatten(code: Code) -> list[Call]:
    """The calls that carry out the code's statements; temporaries are added to its arrays."""
    return [call for statement in code.statements for call in _calls(code, statement)]


def _calls(code: Code, statement: Statement) -> list[Call]:
    if isinstance(statement, Map):
        return _Body(code, statement).calls()
    if isinstance(statement, For):
        body = tuple(call for inner in statement.body for call in _calls(code, inner))
        return [Call("for", (), None, statement.equation, statement.offsets, body)]
    return [_single(code, statement)]


def _single(code: Code, s: Statement) -> Call:
    if isinstance(s, Reduce):
        kind = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}[s.kind]
        axes = str(s.axes[0]) if len(s.axes) == 1 else str(s.axes)
        dtype = "None" if code.arrays[s.source.array].dtype == "float" else "DTYPE"
        return Call(f"{kind}.reduce", (s.source, axes, dtype), s.target, s.equation)
    if isinstance(s, Contract):
        if s.form in ("dot", "matmul"):
            plain = s.form == "dot" and max(len(s.left.shape), len(s.right.shape)) <= 2
            return Call("dot" if plain else "matmul", (s.left, s.right), s.target, s.equation)
        return Call("einsum", (f'"{s.form}"', s.left, s.right), s.target, s.equation)
    if isinstance(s, Gather):
        return Call("gather", (s.source, *_entries(s.index)), s.target, s.equation)
    if isinstance(s, Scatter):
        name = "scatter" if s.unique else "scatter_add"
        return Call(name, (s.value, *_entries(s.index)), s.target, s.equation)
    if isinstance(s, Apply):
        return Call("apply", (s.function, *s.operands), s.target, s.equation)
    assert isinstance(s, Fill)
    return Call("fill", (s.value,), s.target, s.equation)


def _entries(index: Sequence[View | None]) -> list[Argument]:
    return [":" if entry is None else entry for entry in index]


class _from_zero(sp.Function):  # type: ignore[misc]
    """1 from 0 on, else 0: a Piecewise of a Piecewise is more than SymPy can take."""

    is_real = True

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return Integer(int(bool(x >= 0))) if x.is_number else None


def spelled_out(body: Expr) -> Expr:
    """sigmoid, softplus and relu in terms of functions that NumPy has, stable for every argument.

    With e = exp(-|x|), sigmoid(x) is max(e, [x >= 0])/(1 + e), for e <= 1; softplus(x) is max(x, 0) + log1p(e).
    """

    def logistic(x: Expr) -> Expr:
        e = sp.exp(-sp.Abs(x))
        step = _from_zero(x)
        return sp.Max(e, step, evaluate=False) / (1 + e)

    body = body.replace(sigmoid, logistic)
    body = body.replace(softplus, lambda x: sp.Max(x, 0) + log1p(sp.exp(-sp.Abs(x))))
    return plain_conditions(body.replace(lambda p: isinstance(p, sp.Piecewise), _rectifier))


def _rectifier(piecewise: Expr) -> Expr:
    """where(x > 0, x, 0) is max(x, 0)."""
    (value, condition), *rest = piecewise.args
    if len(rest) == 1 and rest[0][0] == 0 and condition in (sp.Gt(value, 0), sp.Ge(value, 0)):
        return sp.Max(value, 0)
    return piecewise


class _Body:
    """One scalar body on its way to calls."""

    def __init__(self, code: Code, statement: Map) -> None:
        self.code, self.statement = code, statement
        self.made: list[Call] = []
        self.known: dict[Expr, Argument] = dict(statement.reads)
        target = code.arrays[statement.target.array]
        self.number_type = "int64" if target.dtype == "int64" else "float"

    def calls(self) -> list[Call]:
        s = self.statement
        result = self._value(spelled_out(s.body))
        if s.accumulate:
            return [*self.made, Call("accumulate", (result,), s.target, s.equation)]
        if self.made and isinstance(result, View) and self._owns(result) and self._same_form(result, s.target):
            last = self.made[-1]
            self._forget(result)
            return [*self.made[:-1], replace(last, out=s.target)]
        if isinstance(result, View) and result == s.target:
            return self.made
        return [
            *self.made,
            Call("fill" if not isinstance(result, View) else "copy", (result,), s.target, s.equation),
        ]

    def _owns(self, view: View) -> bool:
        """Whether the last call made this view, and nothing else reads it."""
        last = self.made[-1]
        return last.out == view and last.function not in UPDATES and view.whole

    def _same_form(self, result: View, target: View) -> bool:
        same = self.code.arrays[result.array].dtype == self.code.arrays[target.array].dtype
        return result.shape == target.shape and same

    def _forget(self, view: View) -> None:
        del self.code.arrays[view.array]

    # one subexpression

    def _value(self, expr: Expr) -> Argument:
        if expr not in self.known:
            self.known[expr] = self._computed(expr)
        return self.known[expr]

    def _computed(self, expr: Expr) -> Argument:
        if not expr.free_symbols & self.statement.reads.keys():
            return self._constant(expr)
        if isinstance(expr, sp.Add):
            content, rest = expr.primitive()
            return self._sum(expr) if content == 1 else self._quotient(content, [self._value(rest)], [])
        if isinstance(expr, sp.Mul):
            return self._product(expr)
        if isinstance(expr, sp.Pow) and not isinstance(expr, sp.exp):
            return self._power(expr)
        if isinstance(expr, sp.Piecewise):
            return self._piecewise(expr)
        if isinstance(expr, sp.Max | sp.Min):
            return self._chain("maximum" if isinstance(expr, sp.Max) else "minimum", expr)
        if is_condition(expr):
            return self._condition(expr)
        if isinstance(expr, _from_zero):
            return self._call("greater_equal", self._value(expr.args[0]), Integer(0), boolean=True)
        if isinstance(expr, sp.Heaviside):
            return self._call("heaviside", self._value(expr.args[0]), sp.Rational(1, 2))
        return self._call(_UNARY[type(expr)], self._value(expr.args[0]))

    def _constant(self, expr: Expr) -> Argument:
        if is_condition(expr):
            return Integer(1) if expr == sp.true else Integer(0)
        return expr

    def _shape(self, *arguments: Argument) -> tuple[Expr, ...]:
        shapes = [a.shape for a in arguments if isinstance(a, View)]
        rank = max(map(len, shapes), default=0)
        shape = [Integer(1)] * rank
        for s in shapes:
            for axis, n in enumerate(s, rank - len(s)):
                shape[axis] = n if n != 1 else shape[axis]
        return tuple(shape)

    def _is_boolean(self, argument: Argument) -> bool:
        return isinstance(argument, View) and self.code.arrays[argument.array].dtype == "bool"

    def _call(self, function: str, *arguments: Argument, boolean: bool = False) -> View:
        s = self.statement
        if not boolean and not (function == "multiply" and any(map(self._is_real, arguments))):
            arguments = tuple(map(self._number, arguments))
        made = self._temporary(self._shape(*arguments), "bool" if boolean else self.number_type)
        self.made.append(Call(function, arguments, whole(made), s.equation, elementwise=True))
        return whole(made)

    def _is_real(self, argument: Argument) -> bool:
        return isinstance(argument, View) and not self._is_boolean(argument)

    def _number(self, argument: Argument) -> Argument:
        """A boolean as 0 or 1: NumPy's + on booleans is `or`, and its exp of them is in half precision."""
        if not self._is_boolean(argument):
            return argument
        assert isinstance(argument, View)
        made = self._temporary(argument.shape, self.number_type)
        self.made.append(Call("copy", (argument,), whole(made), self.statement.equation))
        return whole(made)

    def _temporary(self, shape: tuple[Expr, ...], dtype: str) -> Array:
        name = free_name(f"{self.statement.target.array}_t1", self.code.arrays)
        made = Array(name, shape, dtype, temporary=True)
        self.code.arrays[name] = made
        return made

    def _sum(self, expr: Expr) -> Argument:
        """Tensors before functions of them: x - m is exact where x - (m + log s) is not."""

        def order(term: Expr) -> tuple[bool, bool, bool, int, object]:
            bare = (-term if term.could_extract_minus_sign() else term) in self.statement.reads
            size = -sum(n != 1 for n in self._shape(*(self.known[s] for s in term.free_symbols if s in self.known)))
            return term.is_number, not bare, term.could_extract_minus_sign(), size, sp.default_sort_key(term)

        terms = sorted(expr.args, key=order)
        positive = next((k for k, t in enumerate(terms) if not t.could_extract_minus_sign()), None)
        if positive is not None and terms[positive].is_number:
            return self._subtracted(terms)
        if positive is None:
            return self._call("negative", self._value(-expr))
        total = self._number(self._value(terms.pop(positive)))
        for term in terms:
            negative = term.could_extract_minus_sign()
            value = self._number(self._value(-term if negative else term))
            total = self._call("subtract" if negative else "add", total, value)
        return total

    def _subtracted(self, terms: list[Expr]) -> Argument:
        """number - (the rest), where only the number is positive."""
        number = sp.Add(*(t for t in terms if t.is_number))
        rest = self._number(self._value(sp.Add(*(-t for t in terms if not t.is_number))))
        return self._call("subtract", number, rest)

    def _product(self, expr: Expr) -> Argument:
        scale, above, below = Integer(1), [], []
        for factor in expr.args:
            base, power = factor.as_base_exp()
            if isinstance(factor, sp.Add):  # 2*a - 2*b costs two products more than 2*(a - b)
                content, factor = factor.primitive()
                scale *= content
            if not factor.free_symbols & self.statement.reads.keys():
                scale *= factor
            elif power.is_Rational and power.is_negative and not isinstance(factor, sp.exp):
                below.append(self._value(base**-power))
            else:
                above.append(self._value(factor))
        return self._quotient(scale, above, below)

    def _quotient(self, scale: Expr, above: list[Argument], below: list[Argument]) -> Argument:
        """scale * product(above) / product(below), the smaller shapes combined first."""
        numerator: Argument | None = None if scale in (1, -1) else scale
        denominator: Argument | None = None
        shapes = sorted({self._shape(a) for a in (*above, *below)}, key=lambda s: (sum(n != 1 for n in s), str(s)))
        for shape in shapes:
            tops = [a for a in above if self._shape(a) == shape]
            bottoms = [a for a in below if self._shape(a) == shape]
            for top in tops:
                numerator = top if numerator is None else self._call("multiply", top, numerator)
            if denominator is not None and tops:
                numerator, denominator = self._call("divide", numerator, denominator), None
            for bottom in bottoms:
                denominator = bottom if denominator is None else self._call("multiply", bottom, denominator)
            if numerator is not None and denominator is not None:
                numerator, denominator = self._call("divide", numerator, denominator), None
        if denominator is not None:
            numerator = self._call("divide", Integer(1), denominator)
        assert numerator is not None
        return self._call("negative", numerator) if scale == -1 else numerator

    def _power(self, expr: Expr) -> Argument:
        base, power = expr.as_base_exp()
        if power.is_Rational and power.is_negative:
            return self._call("divide", Integer(1), self._value(base**-power))
        if power == sp.Rational(1, 2):
            return self._call("sqrt", self._value(base))
        if power.is_Integer and power <= 16:
            half = self._value(base ** (power // 2))
            square = self._call("multiply", half, half)
            return self._call("multiply", square, self._value(base)) if power % 2 else square
        if power.is_Rational and power.q == 2 and power < 16:
            return self._call("multiply", self._value(base ** sp.floor(power)), self._value(sp.sqrt(base)))
        return self._call("power", self._value(base), self._value(power))

    def _chain(self, function: str, expr: Expr) -> Argument:
        numbers: list[Expr] = []
        others: list[Expr] = []
        for argument in sorted(expr.args, key=sp.default_sort_key):
            (others if argument.free_symbols & self.statement.reads.keys() else numbers).append(argument)
        values = [self._value(a) for a in (*others, *numbers)]
        result = values[0]
        for value in values[1:]:
            result = self._call(function, result, value)
        return result

    def _condition(self, expr: Expr) -> Argument:
        if isinstance(expr, sp.Not):
            return self._call("logical_not", self._value(expr.args[0]), boolean=True)
        if isinstance(expr, sp.And | sp.Or):
            function = "logical_and" if isinstance(expr, sp.And) else "logical_or"
            values = [self._value(a) for a in sorted(expr.args, key=sp.default_sort_key)]
            result = values[0]
            for value in values[1:]:
                result = self._call(function, result, value, boolean=True)
            return result
        return self._call(_COMPARISONS[type(expr)], self._value(expr.lhs), self._value(expr.rhs), boolean=True)

    def _piecewise(self, expr: Expr) -> Argument:
        (value, condition), *rest = expr.args
        if condition == sp.true or not rest:
            return self._value(value)
        mask = self._value(condition)
        other = rest[0][0] if rest[0][1] == sp.true else sp.Piecewise(*rest, evaluate=False)
        if other == 0 and value == 1:
            return mask
        return self._select(mask, self._value(value), self._value(other))

    def _select(self, mask: Argument, yes: Argument, no: Argument) -> View:
        """`no`, overwritten by `yes` where the mask is set."""
        s = self.statement
        made = self._temporary(self._shape(mask, yes, no), self.number_type)
        self.made.append(Call("copy" if isinstance(no, View) else "fill", (no,), whole(made), s.equation))
        self.made.append(Call("copy_where", (yes, mask), whole(made), s.equation))
        return whole(made)
