"""The readable style: the same statements as plain NumPy expressions, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sympy import Symbol

from symgrad.emit.source import ArrayPrinter, cut_text, is_mask, scalar_text, shape_text, size_text, view_text
from symgrad.lower.ir import Code, Contract, Fill, For, Gather, Map, Reduce, Scatter, Statement, View, views_read

INDENT = "    "


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

    def lines(self, statements: Sequence[Statement], keep: set[str]) -> list[str]:
        """The statements' lines; arrays in `keep` get a line of their own."""
        lines: list[str] = []
        previous = ""
        for k, statement in enumerate(statements):
            following = statements[k + 1] if k + 1 < len(statements) else None
            if isinstance(statement, Contract) and self._inlines(statement, following, keep):
                self.inlined[statement.target.array] = self._contraction(statement)
                continue
            if statement.equation != previous and statement.equation in self.comments:
                lines.append(f"# {self.comments[statement.equation]}")
            previous = statement.equation
            lines += self._statement(statement)
            lines += self._aliases(statement)
        return lines

    def _inlines(self, s: Contract, following: Statement | None, keep: set[str]) -> bool:
        name = s.target.array
        reads = views_read(following) if isinstance(following, Map) else []
        return s.target.whole and self.counts.get(name) == 1 and name not in keep and any(v == s.target for v in reads)

    def _aliases(self, s: Statement) -> list[str]:
        """Views that are named as soon as what they view is there."""
        if isinstance(s, For) or not isinstance(s, Contract):
            return []
        return [
            f"{a.name} = {self._view(a.alias)}"
            for a in self.code.arrays.values()
            if a.alias is not None and a.alias.array == s.target.array
        ]

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
                return [f"{s.target.array} = np.full({shape_text(s.target.shape)}, {scalar_text(s.value)}, DTYPE)"
                        if s.value != 0 else f"{s.target.array} = np.zeros({shape_text(s.target.shape)}, DTYPE)"]
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

    def _right(self, s: Map | Reduce | Contract | Gather) -> str:
        if isinstance(s, Map):
            return self._body(s)
        if isinstance(s, Reduce):
            axes = str(s.axes[0]) if len(s.axes) == 1 else str(s.axes)
            text = f"{self._view(s.source)}.{s.kind}(axis={axes})"
        elif isinstance(s, Contract):
            text = self._contraction(s)
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
        text = ArrayPrinter(reads)(s.body)
        if is_mask(s.body) and self.code.arrays[s.target.array].dtype == "float":
            text += ".astype(DTYPE)"
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
                return f"np.full({shape_text(array.shape)}, {text}, DTYPE)" if not s.reads else (
                    f"np.broadcast_to({text}, {shape_text(array.shape)})"
                )
            if s.body.is_Symbol and s.reads[s.body].whole:
                return f"{text}.copy()"
            if max(len(v.shape) for v in s.reads.values()) < len(array.shape):
                return f"({text}).reshape{shape_text(array.shape)}"
        return text

    def _scatter(self, s: Scatter) -> str:
        entries = [":" if v is None else self._view(v) for v in s.index]
        value = self._view(s.value) if isinstance(s.value, View) else scalar_text(s.value)
        if s.unique:
            return f"{s.target.array}[{', '.join(entries)}] += {value}"
        entries = ["slice(None)" if e == ":" else e for e in entries]
        return f"np.add.at({s.target.array}, ({', '.join(entries)},), {value})"


def range_lines(code: Code) -> list[str]:
    """The index arrays."""
    return [f"{a.name} = np.arange({size_text(a.shape[0])})" for a in code.arrays.values() if a.kind == "range"]
