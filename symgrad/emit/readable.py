"""The readable style: the same statements as plain NumPy expressions, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sympy import Symbol
from sympy.core.relational import Relational

from symgrad.emit.request import Request
from symgrad.emit.source import (
    BIND,
    DTYPES,
    INDENT,
    ArrayPrinter,
    applied_text,
    cut_text,
    is_mask,
    mentions,
    scalar_text,
    shape_text,
    size_text,
    view_text,
)
from symgrad.emit.source_map import Line
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
    flattened,
    views_read,
)

STAGES = (
    ("_forward", "tuple[Array, ...]", "The outputs; what later stages read goes into `values`."),
    ("_loss", "float", "The loss, after _forward."),
    ("_backward", "Arrays", "The gradients, after _loss."),
)
_BIND_LINES = [
    BIND,
    f'{INDENT}"""The three stages for one batch size; they hand on what they computed in one dict."""',
    f"{INDENT}values: Arrays = {{}}",
    "",
    f"{INDENT}def forward(inputs: Arrays) -> tuple[Array, ...]:",
    f"{INDENT * 2}return _forward(params, inputs, dims, values)",
    "",
    f"{INDENT}def loss(inputs: Arrays) -> float:",
    f"{INDENT * 2}return _loss(params, inputs, dims, values)",
    "",
    f"{INDENT}def backward(inputs: Arrays) -> None:",
    f"{INDENT * 2}for name, gradient in _backward(params, inputs, dims, values).items():",
    f"{INDENT * 3}grads[name][...] = gradient",
    "",
    f"{INDENT}return forward, loss, backward",
]


def readable_lines(request: Request) -> tuple[list[str], set[str]]:
    """Three functions and `_bind` as lines, and the functions that they call."""
    code = request.code
    writer = Writer(code, request.notes)
    parts = request.stages(code.statements)
    keep = {code.values[name] for name in request.system.wanted()}
    lines: list[str] = []
    stored: list[str] = []
    for k, (name, result, doc) in enumerate(STAGES):
        body = writer.lines(parts[k], keep)
        handed_on = _handed_on(request, writer, parts[k], parts[k + 1 :])
        if handed_on:
            body.append(f"values.update({', '.join(f'{n}={n}' for n in handed_on)})")
        body.append(_result(request, k))
        body = [*_bindings(request, parts[k], stored, body), *body]
        stored += handed_on
        signature = f"def {name}(params: Arrays, inputs: Arrays, dims: dict[str, int], values: Arrays) -> {result}:"
        lines += [signature, *(INDENT + line for line in (f'"""{doc}"""', *body)), "", ""]
    return [*lines, *_BIND_LINES], writer.helpers


def _result(request: Request, stage: int) -> str:
    code, system = request.code, request.system
    if stage == 0:
        return f"return ({', '.join(request.outputs)},)"
    if stage == 1:
        return f"return float({code.values[request.loss]})"
    pairs = ", ".join(f'"{wrt}": {code.values[e]}' for wrt, e in system.gradients.items())
    return f"return {{{pairs}}}"


def _handed_on(
    request: Request, writer: Writer, here: Sequence[Statement], later: Sequence[Sequence[Statement]]
) -> list[str]:
    """The arrays made here that a later stage reads, or returns."""
    code = request.code
    made = {s.target.array for s in flattened(here) if not isinstance(s, For)}
    made |= {a.name for a in code.arrays.values() if a.alias is not None and a.alias.array in made}
    wanted = {v.array for part in later for s in flattened(part) for v in views_read(s)}
    if later:
        wanted |= {code.values[name] for name in (request.loss, *request.system.gradients.values())}
    return sorted(n for n in made & wanted if n not in writer.inlined)


def _bindings(request: Request, here: Sequence[Statement], stored: Sequence[str], body: list[str]) -> list[str]:
    """The lines that give a stage's tensors their names."""
    text = "\n".join(body)
    lines: list[str] = []
    read = {v.array for s in flattened(here) for v in views_read(s)}
    for array in request.code.arrays.values():
        if (
            array.name in read
            or (mentions(text, array.name) and array.name in stored)
            or _is_result(request, array, text)
        ):
            lines += _binding(request, array, stored)
    text = "\n".join([*lines, *body])
    return [*(f'{n} = dims["{n}"]' for n in request.dimensions if mentions(text, n)), *lines]


def _is_result(request: Request, array: Array, text: str) -> bool:
    return array.kind in ("input", "parameter") and mentions(text.rpartition("return")[2], array.name)


def _binding(request: Request, array: Array, stored: Sequence[str]) -> list[str]:
    tensor = request.tensor(array.name)
    if array.kind in ("input", "parameter"):
        source = {"input": "inputs", "parameter": "params"}[array.kind]
        return [f'{array.name} = {source}["{tensor}"]']
    if array.kind == "constant":
        return [f"{array.name} = {request.constants[tensor]}"]
    if array.kind == "range":
        return [f"{array.name} = np.arange({size_text(array.shape[0])})"]
    return [f'{array.name} = values["{array.name}"]'] if array.name in stored else []


@dataclass
class Writer:
    """Prints statements; a product that one expression reads whole is written into that expression."""

    code: Code
    comments: Mapping[str, str]
    inlined: dict[str, str] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.counts: dict[str, int] = {}
        for statement in self.code.statements:
            for view in views_read(statement):
                self.counts[view.array] = self.counts.get(view.array, 0) + 1
        self.aliases: dict[str, list[tuple[str, View]]] = {}
        self.filled = _filled(self.code.statements)
        for array in self.code.arrays.values():
            if array.alias is not None:
                self.aliases.setdefault(array.alias.array, []).append((array.name, array.alias))

    def lines(self, statements: Sequence[Statement], keep: set[str]) -> list[str]:
        """The statements' lines; arrays in `keep` get a line of their own."""
        lines: list[str] = []
        previous = ""
        within: list[str] = []
        for k, statement in enumerate(statements):
            following = statements[k + 1] if k + 1 < len(statements) else None
            if statement.equation != previous and statement.equation in self.comments:
                lines.append(f"# {self.comments[statement.equation]}")
            previous = statement.equation
            if isinstance(statement, Contract) and self._inlines(statement, following, keep):
                self.inlined[statement.target.array] = self._contraction(statement)
                within.append(statement.equation)
                continue
            computed = dict.fromkeys([statement.equation, *within])
            lines += [Line(line, [*computed]) for line in (*self._statement(statement), *self._aliases(statement))]
            within = []
        return lines

    def _inlines(self, s: Contract, following: Statement | None, keep: set[str]) -> bool:
        name = s.target.array
        reads = views_read(following) if isinstance(following, Map) else []
        return s.target.whole and self.counts.get(name) == 1 and name not in keep and any(v == s.target for v in reads)

    def _aliases(self, s: Statement) -> list[str]:
        """Views that are named as soon as what they view is there."""
        if isinstance(s, For) or not isinstance(s, Contract):
            return []
        return [f"{name} = {self._view(view)}" for name, view in self.aliases.get(s.target.array, ())]

    def _view(self, view: View) -> str:
        if view.whole and view.array in self.inlined:
            return self.inlined[view.array]
        text = view_text(view, len(self.code.arrays[view.array].shape))
        if view.windows:
            return "np.lib.stride_tricks." + text
        return text

    def _statement(self, s: Statement) -> list[str]:
        if isinstance(s, For):
            names, sizes = ", ".join(str(i) for i, _ in s.offsets), ", ".join(str(n) for _, n in s.offsets)
            single = "," if len(s.offsets) == 1 else ""
            body = [INDENT + line for inner in s.body for line in self._statement(inner)]
            return [f"for {names}{single} in np.ndindex({sizes}):", *body]
        if isinstance(s, Fill):
            if s.target.whole:
                return [
                    f"{s.target.array} = np.full({shape_text(s.target.shape)}, {scalar_text(s.value)}, DTYPE)"
                    if s.value != 0
                    else f"{s.target.array} = np.zeros({shape_text(s.target.shape)}, DTYPE)"
                ]
            return [f"{self._target(s.target)} = {scalar_text(s.value)}"]
        if isinstance(s, Scatter):
            return [self._scatter(s)]
        sign = "+=" if isinstance(s, Map) and s.accumulate else "="
        return [f"{self._target(s.target)} {sign} {self._right(s)}"]

    def _target(self, view: View) -> str:
        if view.reshape is not None and not view.index:
            return view.array
        if not view.index:
            return view.array
        return f"{view.array}[{', '.join(map(cut_text, view.index))}]"

    def _right(self, s: Map | Reduce | Contract | Gather | Apply) -> str:
        if isinstance(s, Map):
            return self._body(s)
        if isinstance(s, Reduce):
            axes = str(s.axes[0]) if len(s.axes) == 1 else str(s.axes)
            text = f"{self._view(s.source)}.{s.kind}(axis={axes})"
        elif isinstance(s, Contract):
            text = self._contraction(s)
        elif isinstance(s, Apply):
            text, helpers = applied_text(s.function, [self._view(v) for v in s.operands])
            self.helpers |= helpers
        else:
            entries = [":" if v is None else self._view(v) for v in s.index]
            text = f"{self._view(s.source)}[{', '.join(entries)}]"
        reshaped = s.target.reshape is not None
        return f"({text}).reshape{shape_text(self.code.arrays[s.target.array].shape)}" if reshaped else text

    def _contraction(self, s: Contract) -> str:
        left, right = self._view(s.left), self._view(s.right)
        if s.form in ("dot", "matmul"):
            return f"{left} @ {right}"
        return f'np.einsum("{s.form}", {left}, {right})'

    def _body(self, s: Map) -> str:
        reads: dict[Symbol, str] = {symbol: self._view(view) for symbol, view in s.reads.items()}
        reads |= {symbol: f"{reads[symbol]}.astype(DTYPE)" for symbol in self._numbers(s)}
        text = ArrayPrinter(reads)(s.body)
        if is_mask(s.body) and self.code.arrays[s.target.array].dtype == "bool":
            text = text.removesuffix(".astype(DTYPE)")
        for helper in ("_erfc", "_erf", "_sigmoid", "_softplus"):
            if helper + "(" in text:
                self.helpers.add(helper)
        covered = all(
            n == 1 or any(len(v.shape) >= k and v.shape[-k] == n for v in s.reads.values())
            for k, n in enumerate(reversed(s.target.shape), 1)
        )
        array = self.code.arrays[s.target.array]
        if s.target.whole and not s.accumulate:
            if not covered or not s.reads:
                return (
                    f"np.full({shape_text(array.shape)}, {text}, {DTYPES[array.dtype]})"
                    if not s.reads
                    else (f"np.broadcast_to({text}, {shape_text(array.shape)}).copy()")
                )
            if max(len(v.shape) for v in s.reads.values()) < len(array.shape):
                text = f"({text}).reshape{shape_text(array.shape)}"
            if s.body.is_Symbol and (s.reads[s.body].whole or array.name in self.filled):
                return f"{text}.copy()"
        return text

    def _numbers(self, s: Map) -> list[Symbol]:
        """The booleans that a body computes with: NumPy knows no minus of them, and adds them by `or`."""
        tests = s.body.atoms(Relational)
        inside = {symbol for test in tests for symbol in test.free_symbols}
        booleans = [x for x, view in s.reads.items() if self.code.arrays[view.array].dtype == "bool"]
        return [] if s.body.is_Symbol else [x for x in booleans if x not in inside]

    def _scatter(self, s: Scatter) -> str:
        entries = [":" if v is None else self._view(v) for v in s.index]
        value = self._view(s.value) if isinstance(s.value, View) else scalar_text(s.value)
        if s.unique:
            return f"{s.target.array}[{', '.join(entries)}] += {value}"
        entries = ["slice(None)" if e == ":" else e for e in entries]
        return f"np.add.at({s.target.array}, ({', '.join(entries)},), {value})"


def _filled(statements: Sequence[Statement]) -> set[str]:
    """The arrays that are there before a statement writes into them."""
    plain = [s for s in flattened(statements) if not isinstance(s, For)]
    return {
        s.target.array
        for s in plain
        if isinstance(s, Scatter) or not s.target.whole or getattr(s, "accumulate", False)
    }
