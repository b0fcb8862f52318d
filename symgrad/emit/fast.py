"""The fast style: memory bound once for each batch size, then straight-line calls into it."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr

from symgrad.emit.request import Request
from symgrad.emit.source import (
    BIND,
    DTYPES,
    INDENT,
    applied_text,
    bound_functions,
    mentions,
    scalar_text,
    shape_text,
    size_text,
    view_text,
)
from symgrad.emit.source_map import Line
from symgrad.lower.ir import Array, View
from symgrad.names import free_name
from symgrad.schedule import Call, flatten, plan_memory

_NUMBERS = {"0": "zero", "1": "one", "0.5": "half", "2": "two"}


def fast_lines(request: Request) -> tuple[list[str], set[str]]:
    """`_bind` as lines, and the functions that it calls."""
    code = request.code
    calls = flatten(code)
    loss = code.values[request.loss]
    plan_memory(code, calls, [*request.outputs, loss])
    forward, until_loss, backward = request.stages(calls)
    binder = _Binder(request)
    returned = ", ".join(map(binder.mention, request.outputs))
    bodies = [
        *binder.segment("forward(inputs: Arrays) -> tuple[Array, ...]", "The outputs.", forward, request.outputs),
        f"{INDENT * 2}return ({returned},)",
        "",
        *binder.segment("loss(inputs: Arrays) -> float", "The loss, after forward.", until_loss, [loss]),
        f"{INDENT * 2}return float({binder.mention(loss)})",
        "",
        *binder.segment("backward(inputs: Arrays) -> None", "Every gradient, after loss.", backward, []),
    ]
    doc = f'{INDENT}"""Buffers for one batch size, and forward, loss and backward that work in them."""'
    memory = binder.memory()
    head = [BIND, doc, *bound_functions(binder.functions), *memory]
    return [*head, "", *bodies, "", f"{INDENT}return forward, loss, backward"], binder.functions


class _Binder:
    """Prints calls, and collects what has to be bound before them.

    `views` and `constants` are named once; `mentioned` are the arrays that some line names.
    """

    def __init__(self, request: Request) -> None:
        self.request, self.code = request, request.code
        self.constants: dict[str, str] = {}
        self.views: dict[View, str] = {}
        self.functions: set[str] = set()
        self.mentioned: set[str] = set()
        self.taken = set(self.code.arrays)

    # what is bound

    def memory(self) -> list[str]:
        """Sizes, arrays, numbers and views."""
        used = self._used()
        arrays = sorted(self.code.arrays.values(), key=lambda a: self._depth(a.name))
        lines = [self._array(a) for a in arrays if a.name in used and a.kind != "input"]
        lines += [f"{name} = np.array({text}, DTYPE)" for text, name in self.constants.items()]
        lines += [f"{name} = {self._view(view)}" for view, name in self.views.items()]
        text = "\n".join(lines)
        sizes = [f'{n} = dims["{n}"]' for n in self.request.dimensions if mentions(text, n)]
        return [INDENT + line for line in (*sizes, *lines)]

    def _used(self) -> set[str]:
        """The arrays that a line mentions, and those that they are views of."""
        found: set[str] = set()
        stack = [*(v.array for v in self.views), *self.mentioned]
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                alias = self.code.arrays[name].alias
                stack += [alias.array] if alias else []
        return found

    def _depth(self, name: str) -> int:
        """How many names stand between an array and its memory."""
        depth = 0
        alias = self.code.arrays[name].alias
        while alias is not None:
            depth += 1
            alias = self.code.arrays[alias.array].alias
        return depth

    def _array(self, array: Array) -> str:
        tensor = self.request.tensor(array.name)
        if array.alias is not None:
            return f"{array.name} = {self._view(array.alias)}"
        if array.kind == "parameter":
            return f'{array.name} = params["{tensor}"]'
        if array.kind == "gradient":
            return f'{array.name} = grads["{self.request.gradients[array.name]}"]'
        if array.kind == "constant":
            return f"{array.name} = {self.request.constants[tensor]}"
        if array.kind == "range":
            return f"{array.name} = np.arange({size_text(array.shape[0])})"
        return f"{array.name} = _aligned({shape_text(array.shape)}, {DTYPES[array.dtype]})"

    def _view(self, view: View) -> str:
        if view.windows:
            self.functions.add("sliding_window_view")
        return view_text(view, len(self.code.arrays[view.array].shape))

    # what is called

    def segment(self, signature: str, doc: str, calls: Sequence[Call], results: Sequence[str]) -> list[str]:
        """One of the three functions, without its return."""
        lines = [f"def {signature}:", f'{INDENT}"""{doc}"""']
        lines += [f'{INDENT}{name} = inputs["{self.request.tensor(name)}"]' for name in self._inputs(calls, results)]
        previous = ""
        for call in calls:
            comment = self.request.comments.get(call.equation)
            if call.equation != previous and comment:
                lines.append(f"{INDENT}# {comment}")
            previous = call.equation
            lines += [Line(INDENT + line, [call.equation]) for line in self._call(call)]
        return [INDENT + line for line in lines]

    def _inputs(self, calls: Sequence[Call], results: Sequence[str]) -> list[str]:
        names = {self.code.root(v.array) for call in calls for v in (*call.reads(), *call.writes())}
        names.update(map(self.code.root, results))
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
        if argument.whole:
            return self.mention(argument.array)
        if inner or self.code.arrays[argument.array].kind == "input":
            self.mentioned.add(argument.array)
            return self._view(argument)
        if argument not in self.views:
            suffix = "T" if argument.order and not argument.index and not argument.reshape else "v"
            self.views[argument] = self._free(f"{argument.array}_{suffix}")
        return self.views[argument]

    def _free(self, wanted: str) -> str:
        name = free_name(wanted, self.taken)
        self.taken.add(name)
        return name

    def _constant(self, value: Expr) -> str:
        """A number as an array without axes of the right dtype, which NumPy takes faster than a float."""
        text = scalar_text(value)
        if text not in self.constants:
            self.constants[text] = self._free(_NUMBERS.get(text, "c1"))
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
            scalar_text(a) if whole_numbers and isinstance(a, Expr) else self._argument(a, inner)
            for a in call.arguments
        ]
        if call.function == "fill" and self.code.arrays[call.out.array].dtype == "bool":
            arguments = [str(call.arguments[0] != 0)]
        return [self._line(call.function, arguments, self._argument(call.out, inner))]

    def _line(self, function: str, arguments: list[str], out: str) -> str:
        if function in ("fill", "copy"):
            return f"{self._function('copyto')}({out}, {arguments[0]})"
        if function == "copy_where":
            return f"{self._function('copyto')}({out}, {arguments[0]}, where={arguments[1]})"
        if function == "accumulate":
            return f"{self._function('add')}({out}, {arguments[0]}, {out})"
        if function == "apply":
            text, helpers = applied_text(arguments[0], arguments[1:])
            self.functions |= helpers
            return f"{self._function('copyto')}({out}, {text})"
        if function == "gather":
            return f"{self._function('copyto')}({out}, {arguments[0]}[{', '.join(arguments[1:])}])"
        if function == "scatter":
            return f"{out}[{', '.join(arguments[1:])}] = {arguments[0]}"
        if function == "scatter_add":
            entries = ", ".join("slice(None)" if entry == ":" else entry for entry in arguments[1:])
            return f"{self._function('add')}.at({out}, ({entries},), {arguments[0]})"
        if function in ("einsum", "maximum", "minimum"):  # NumPy 2.4 wants the last two by keyword
            return f"{self._function(function)}({', '.join(arguments)}, out={out})"
        return f"{self._function(function)}({', '.join([*arguments, out])})"

    def _loop(self, call: Call) -> list[str]:
        names = ", ".join(str(i) for i, _ in call.offsets)
        sizes = ", ".join(str(n) for _, n in call.offsets)
        single = "," if len(call.offsets) == 1 else ""
        head = f"for {names}{single} in {self._function('ndindex')}({sizes}):"
        return [head, *(INDENT + line for inner in call.body for line in self._call(inner, inner=True))]
