"""The fast style: memory bound once for each batch size, then straight-line calls into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sympy as sp
from sympy import Expr

from symgrad.emit.source import scalar_text, shape_text, size_text, view_text
from symgrad.lower.ir import Array, Code, View
from symgrad.names import free_name
from symgrad.schedule import Call

INDENT = "    "


@dataclass
class Segment:
    """One of forward, loss and backward: its calls, and the line that ends it."""

    name: str
    signature: str
    doc: str
    calls: list[Call]
    result: str


@dataclass
class Binder:
    """Prints a `_bind` function from a planned code.

    Attributes:
        comments: equation -> the formula that it computes.
        results: names of wanted arrays, which stay bound.
    """

    code: Code
    dimensions: Sequence[str]
    comments: Mapping[str, str]
    constants: dict[str, str] = field(default_factory=dict)
    views: dict[View, str] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    originals: Mapping[str, str] = field(default_factory=dict)
    mentioned: set[str] = field(default_factory=set)

    def text(self, header: Sequence[str], segments: Sequence[Segment], gradients: Mapping[str, str]) -> list[str]:
        """The whole function, as lines; `gradients` maps an array to the name of its gradient."""
        bodies = [self._segment(segment) for segment in segments]
        lines = [*header]
        lines += [f'{INDENT}{n} = dims["{n}"]' for n in self.dimensions]
        lines += self._arrays(gradients)
        lines += [f"{INDENT}{name} = np.array({text}, DTYPE)" for text, name in self.constants.items()]
        lines += [f"{INDENT}{name} = {self._view_source(view)}" for view, name in self.views.items()]
        for body in bodies:
            lines += ["", *body]
        names = ", ".join(segment.name for segment in segments)
        return [*lines, "", f"{INDENT}return {names}"]

    # memory

    def _arrays(self, gradients: Mapping[str, str]) -> list[str]:
        used = self._used()
        lines = []
        for array in sorted(self.code.arrays.values(), key=lambda a: self._depth(a.name)):
            if array.name in used and array.kind != "input":
                lines.append(INDENT + self._array(array, gradients))
        return lines

    def _used(self) -> set[str]:
        """The arrays that a line mentions, and those that they are views of."""
        found: set[str] = set()
        stack = [v.array for v in self.views] + list(self.mentioned)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                alias = self.code.arrays[name].alias
                stack += [alias.array] if alias else []
        return found

    def _depth(self, name: str) -> int:
        depth = 0
        alias = self.code.arrays[name].alias
        while alias is not None:
            depth += 1
            alias = self.code.arrays[alias.array].alias
        return depth

    def _array(self, array: Array, gradients: Mapping[str, str]) -> str:
        if array.alias is not None:
            return f"{array.name} = {self._view_source(array.alias)}"
        if array.kind == "parameter":
            return f'{array.name} = params["{self.originals.get(array.name, array.name)}"]'
        if array.kind == "gradient":
            return f'{array.name} = grads["{gradients[array.name]}"]'
        if array.kind == "constant":
            return f"{array.name} = {self.originals.get(array.name, array.name).upper()}"
        if array.kind == "range":
            return f"{array.name} = np.arange({size_text(array.shape[0])})"
        dtype = {"float": "DTYPE", "int64": "np.int64", "bool": "np.bool_"}[array.dtype]
        return f"{array.name} = _aligned({shape_text(array.shape)}, {dtype})"

    def _view_source(self, view: View) -> str:
        if view.windows:
            self.functions.add("sliding_window_view")
        return view_text(view, len(self.code.arrays[view.array].shape))

    # code

    def _segment(self, segment: Segment) -> list[str]:
        lines = [f"{INDENT}def {segment.signature}:", f'{INDENT * 2}"""{segment.doc}"""']
        inputs = self._inputs(segment.calls)
        lines += [f'{INDENT * 2}{name} = inputs["{self.originals.get(name, name)}"]' for name in inputs]
        previous = ""
        for call in segment.calls:
            if call.equation != previous and call.equation in self.comments:
                lines.append(f"{INDENT * 2}# {self.comments[call.equation]}")
            previous = call.equation
            lines += [INDENT * 2 + line for line in self._call(call)]
        return [*lines, INDENT * 2 + segment.result] if segment.result else lines or [INDENT * 2 + "pass"]

    def _inputs(self, calls: Sequence[Call]) -> list[str]:
        names = {self.code.root(v.array) for call in calls for v in (*call.reads(), *call.writes())}
        return [a.name for a in self.code.arrays.values() if a.kind == "input" and a.name in names]

    def mention(self, name: str) -> str:
        """The name to print: a temporary goes by that of the memory that it uses."""
        array = self.code.arrays[name]
        while array.temporary and array.alias is not None and array.alias.whole:
            name = array.alias.array
            array = self.code.arrays[name]
        self.mentioned.add(name)
        return name

    def _argument(self, argument: View | Expr | str, inner: bool) -> str:
        if isinstance(argument, str):
            return argument
        if not isinstance(argument, View):
            return self._constant(argument)
        array = self.code.arrays[argument.array]
        if argument.whole:
            return self.mention(argument.array)
        if inner or array.kind == "input":
            self.mentioned.add(argument.array)
            return self._view_source(argument)
        if argument not in self.views:
            suffix = "T" if argument.order and not argument.index and not argument.reshape else "v"
            taken = {*self.code.arrays, *self.views.values(), *self.constants.values()}
            self.views[argument] = free_name(f"{argument.array}_{suffix}", taken)
        return self.views[argument]

    def _constant(self, value: Expr) -> str:
        """A number as an array without axes of the right dtype, which NumPy takes faster than a float."""
        text = scalar_text(value)
        if text not in self.constants:
            taken = {*self.code.arrays, *self.views.values(), *self.constants.values()}
            known = {"0": "zero", "1": "one", "0.5": "half", "2": "two"}
            self.constants[text] = free_name(known.get(text, "c1"), taken)
        return self.constants[text]

    def _function(self, name: str) -> str:
        self.functions.add(name)
        return name.replace(".reduce", "_reduce")

    def _call(self, call: Call, inner: bool = False) -> list[str]:
        if call.function == "for":
            return self._loop(call)
        assert call.out is not None
        whole_numbers = self.code.arrays[call.out.array].dtype == "int64"
        arguments = [
            scalar_text(a) if whole_numbers and isinstance(a, Expr) else self._argument(a, inner) for a in call.arguments
        ]
        out = self._argument(call.out, inner)
        return [self._line(call, arguments, out)]

    def _line(self, call: Call, arguments: list[str], out: str) -> str:
        function = call.function
        if function in ("fill", "copy"):
            return f"{self._function('copyto')}({out}, {arguments[0]})"
        if function == "copy_where":
            return f"{self._function('copyto')}({out}, {arguments[0]}, where={arguments[1]})"
        if function == "accumulate":
            return f"{self._function('add')}({out}, {arguments[0]}, {out})"
        if function == "gather":
            return f"{self._function('copyto')}({out}, {arguments[0]}[{', '.join(arguments[1:])}])"
        if function == "scatter":
            return f"{out}[{', '.join(arguments[1:])}] = {arguments[0]}"
        if function == "scatter_add":
            self.functions.add("add")
            return f"add.at({out}, ({_entries(arguments[1:])},), {arguments[0]})"
        if function in ("einsum", "maximum", "minimum"):  # NumPy 2.4 wants the last two by keyword
            return f"{self._function(function)}({', '.join(arguments)}, out={out})"
        return f"{self._function(function)}({', '.join([*arguments, out])})"

    def _loop(self, call: Call) -> list[str]:
        names = ", ".join(str(i) for i, _ in call.offsets)
        sizes = ", ".join(str(n) for _, n in call.offsets)
        self.functions.add("ndindex")
        single = "," if len(call.offsets) == 1 else ""
        lines = [f"for {names}{single} in ndindex({sizes}):"]
        return lines + [INDENT + line for inner in call.body for line in self._call(inner, inner=True)]


def _entries(entries: Sequence[str]) -> str:
    return ", ".join("slice(None)" if entry == ":" else entry for entry in entries)


