"""Python text for sizes, numbers, views and scalar bodies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.errors import EmitError
from symgrad.index.functions import erfc, expm1, log1p, sigmoid, softplus
from symgrad.index.text import PRECEDENCE, TextPrinter
from symgrad.lower.ir import Cut, View

INDENT = "    "
DTYPES = {"float": "DTYPE", "int64": "np.int64", "int8": "np.int8", "bool": "np.bool_"}
BIND = (
    "def _bind(\n    params: Arrays, grads: Arrays, dims: dict[str, int]\n"
    ") -> tuple[Callable[[Arrays], tuple[Array, ...]], Callable[[Arrays], float], Callable[[Arrays], None]]:"
)
SPECIAL = {  # functions that NumPy lacks -> what has to be copied into the file for them
    "_erf": ("_horner", "_erf_small", "_erfc_tail", "_erf"),
    "_erfc": ("_horner", "_erf_small", "_erfc_tail", "_erfc"),
    "_sigmoid": ("_sigmoid",),
    "_softplus": ("_softplus",),
    "_lyapunov": ("_lyapunov",),
    "_polar": ("_polar",),
}

_NUMPY_CALLS: dict[type[Expr], str] = {
    sp.exp: "np.exp",
    sp.log: "np.log",
    log1p: "np.log1p",
    expm1: "np.expm1",
    sp.Abs: "np.abs",
    sp.sign: "np.sign",
    sp.sin: "np.sin",
    sp.cos: "np.cos",
    sp.tan: "np.tan",
    sp.sinh: "np.sinh",
    sp.cosh: "np.cosh",
    sp.tanh: "np.tanh",
    sp.atan: "np.arctan",
    sp.erf: "_erf",
    erfc: "_erfc",
    sigmoid: "_sigmoid",
    softplus: "_softplus",
    sp.Max: "np.maximum",
    sp.Min: "np.minimum",
}


class SizePrinter(TextPrinter):
    """Sizes and other integers known when the program runs: plain Python over dimension names."""

    def __init__(self) -> None:
        super().__init__(str)

    def _call(self, expr: Expr) -> tuple[str, int]:
        name = {sp.Max: "max", sp.Min: "min"}[type(expr)]
        return f"{name}({', '.join(map(self, expr.args))})", PRECEDENCE["atom"]


size_text = SizePrinter()


def shape_text(shape: tuple[Expr, ...]) -> str:
    sizes = [size_text(n) for n in shape]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


class NumberPrinter(TextPrinter):
    """Scalars over dimensions and hyperparameters, evaluated by Python's floats."""

    def __init__(self) -> None:
        super().__init__(str)

    def _call(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, sp.Max | sp.Min):
            return size_text(expr), PRECEDENCE["atom"]
        return f"math.{type(expr).__name__}({self(expr.args[0])})", PRECEDENCE["atom"]

    def _pow(self, expr: Expr) -> tuple[str, int]:
        text, precedence = super()._pow(expr)
        return text.replace("sqrt(", "math.sqrt(", 1) if text.startswith("sqrt(") else text, precedence

    def _number(self, expr: Expr) -> tuple[str, int]:
        text = number_source(expr)
        return text, PRECEDENCE["sign" if text[0] == "-" else "atom"]

    def _symbol(self, expr: Expr) -> tuple[str, int]:
        return ("math.pi" if expr == sp.pi else str(expr)), PRECEDENCE["atom"]


def number_source(value: Expr) -> str:
    """A number so that Python reads the nearest double. Raises EmitError where there is none."""
    if value in (sp.oo, -sp.oo):
        return "np.inf" if value > 0 else "-np.inf"
    try:
        nearest = int(value.p) / int(value.q) if value.is_Rational else float(value.evalf(20))
    except (OverflowError, TypeError):  # too large, or not real
        nearest = math.nan
    if not math.isfinite(nearest):
        raise EmitError(f"{str(value)[:60]} is no finite number in double precision", hint="rescale the expression")
    return str(int(value)) if value.is_Integer else repr(nearest)


_scalar = NumberPrinter()


def scalar_text(expr: Expr) -> str:
    """A scalar: folded to one literal where nothing in it waits for the run."""
    return number_source(expr) if expr.is_number else _scalar(expr)


def is_mask(expr: Expr) -> bool:
    """Whether a body is 1 where a condition holds and 0 elsewhere."""
    return isinstance(expr, sp.Piecewise) and [value for value, _ in expr.args] == [1, 0]


class ArrayPrinter(TextPrinter):
    """Scalar bodies as NumPy infix expressions; `reads` gives the text of each operand."""

    def __init__(self, reads: Mapping[Symbol, str]) -> None:
        super().__init__(str)
        self.reads = reads
        self.factors: set[Expr] = set()

    def _print(self, expr: Expr) -> tuple[str, int]:
        if not expr.free_symbols & self.reads.keys() and not expr.is_Boolean and expr.is_number:
            text = number_source(expr)
            return text, PRECEDENCE["sign" if text[0] == "-" else "atom"]
        return super()._print(expr)

    def _symbol(self, expr: Expr) -> tuple[str, int]:
        text = self.reads.get(expr, str(expr))
        return text, PRECEDENCE["product" if " @ " in text and not text.startswith("(") else "atom"]

    def _pow(self, expr: Expr) -> tuple[str, int]:
        text, precedence = super()._pow(expr)
        return text.replace("sqrt(", "np.sqrt(", 1) if text.startswith("sqrt(") else text, precedence

    def _ordered(self, terms: Iterable[Expr]) -> list[Expr]:
        """Tensors before functions of them: x - m is exact where x - (m + log(s)) is not."""

        def order(term: Expr) -> tuple[bool, bool, bool]:
            minus = term.could_extract_minus_sign()
            return (-term if minus else term) not in self.reads, term.is_number, minus

        found = sorted(super()._ordered(terms), key=order)
        first = next((k for k, t in enumerate(found) if not t.could_extract_minus_sign()), 0)
        return [found[first], *found[:first], *found[first + 1 :]]

    def _mul(self, expr: Expr) -> tuple[str, int]:
        """Beside a factor of real numbers a mask may stay a boolean."""
        if any(f.free_symbols & self.reads.keys() and not is_mask(f) for f in expr.args):
            self.factors.update(f for f in expr.args if is_mask(f))
        if self.factors and expr.could_extract_minus_sign():
            return f"-({self(-expr)})", PRECEDENCE["sign"]  # the minus is not for the mask alone
        return super()._mul(expr)

    def _piecewise(self, expr: Expr) -> tuple[str, int]:
        (value, condition), *rest = expr.args
        if condition == sp.true or not rest:
            return self._print(value)
        if is_mask(expr):
            text = f"({self(condition)})"
            return text if expr in self.factors else f"{text}.astype(DTYPE)", PRECEDENCE["atom"]
        other = sp.Piecewise(*rest, evaluate=False) if len(rest) > 1 else rest[0][0]
        return f"np.where({self(condition)}, {self(value)}, {self(other)})", PRECEDENCE["atom"]

    def _logic(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, sp.Not):
            return f"~({self(expr.args[0])})", PRECEDENCE["atom"]
        sign = " & " if isinstance(expr, sp.And) else " | "
        parts = sorted(expr.args, key=sp.default_sort_key)
        return sign.join(f"({self(p)})" for p in parts), PRECEDENCE["sum"]

    def _call(self, expr: Expr) -> tuple[str, int]:
        if isinstance(expr, sp.Heaviside):
            return f"np.heaviside({self(expr.args[0])}, 0.5)", PRECEDENCE["atom"]
        name = _NUMPY_CALLS[type(expr)]
        if isinstance(expr, sp.Max | sp.Min):
            arguments = [self(a) for a in sorted(expr.args, key=lambda a: (a.is_number, sp.default_sort_key(a)))]
            text = arguments[0]
            for argument in arguments[1:]:
                text = f"{name}({text}, {argument})"
            return text, PRECEDENCE["atom"]
        return f"{name}({self(expr.args[0])})", PRECEDENCE["atom"]


def cut_text(cut: Cut | Expr | None) -> str:
    """One index entry."""
    if cut is None:
        return ":"
    if not isinstance(cut, Cut):
        return size_text(cut)
    beyond = 1 if cut.step > 0 else -1
    stop = sp.expand(cut.start + cut.step * (cut.count - 1) + beyond)
    first = "" if cut.start == 0 else size_text(cut.start)
    last = size_text(stop)
    if cut.step < 0:  # to Python a stop of -1 is the last element
        last = "" if stop == -1 else last if stop.is_nonnegative else f"({last} if {last} >= 0 else None)"
    return f"{first}:{last}" + (f":{cut.step}" if cut.step != 1 else "")


def view_text(view: View, rank: int, name: Callable[[str], str] = lambda array: array) -> str:
    """The expression that makes the view of an array with `rank` axes."""
    text = name(view.array)
    if view.reshape is not None:
        text = f"{text}.reshape{shape_text(view.reshape) if view.reshape else '(())'}"
        rank = len(view.reshape)
    if view.windows:
        sizes = shape_text(tuple(size for _, size in view.windows))
        axes = tuple(axis for axis, _ in view.windows)
        text = f"sliding_window_view({text}, {sizes}, {axes})"
        rank += len(view.windows)
    if view.index:
        entries = [cut_text(entry) for entry in view.index]
        while len(entries) > 1 and entries[-1] == ":":
            entries.pop()
        if all(isinstance(entry, Expr) for entry in view.index):
            entries.append("...")  # integers alone would take an element, not a view
        text = f"{text}[{', '.join(entries)}]"
        rank -= sum(entry is not None and not isinstance(entry, Cut) for entry in view.index)
    if view.order is not None:
        reverse = view.order == tuple(reversed(range(len(view.order))))
        text += ".T" if reverse else f".transpose{view.order}"
    return text + _inserted(view, rank)


def _inserted(view: View, rank: int) -> str:
    """New axes; leading ones are left to broadcasting."""
    if not view.inserted:
        return ""
    entries = ["None" if k in view.inserted else ":" for k in range(rank + len(view.inserted))]
    while len(entries) > 1 and entries[-1] == ":":
        entries.pop()
    return f"[{', '.join(entries)}]"


def applied_text(function: str, operands: Sequence[str]) -> tuple[str, set[str]]:
    """A function of whole matrices, and those of its names that have to be copied into the file."""
    return function.format(*operands), {name for name in SPECIAL if name + "(" in function}


def bound_functions(functions: Iterable[str]) -> list[str]:
    """Lines that give NumPy's functions local names: a look-up less per call."""
    names = sorted(f for f in functions if f not in SPECIAL)
    return [f"{INDENT}{name.replace('.reduce', '_reduce')} = {_numpy_name(name)}" for name in names]


def _numpy_name(function: str) -> str:
    return "np.lib.stride_tricks." + function if function == "sliding_window_view" else f"np.{function}"


def mentions(text: str, name: str) -> bool:
    """Whether the code names `name`."""
    code = "".join(part for k, part in enumerate(text.split('"')) if k % 2 == 0)  # outside of quotes
    padded = "".join(c if c.isalnum() or c == "_" else " " for c in code)
    return f" {name} " in f" {padded} "
