"""The statements of one function: lowered, printed in the readable style, and put together as a person would."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sympy import Expr

from symgrad.emit.function_inline import make_shallow, split_long, write_into_users
from symgrad.emit.function_names import temporary_names
from symgrad.emit.function_plain import plain
from symgrad.emit.function_steps import (
    LONGEST_LINE,
    Step,
    base_name,
    bound_name,
    bound_value,
    loads,
    read_steps,
    renamed,
    source,
    stores,
    wrapped,
)
from symgrad.emit.readable import Writer
from symgrad.emit.source import SPECIAL, size_text
from symgrad.equations import System
from symgrad.errors import EmitError
from symgrad.lower import lower
from symgrad.lower.ir import Array, Contract, Reduce, Statement, View, views_read
from symgrad.names import free_name, name_fault

RESERVED = frozenset({"np", "math", "float", "int", "bool", "max", "min", "len", "DTYPE", *SPECIAL})
_SCALARS = {"float": "float", "int64": "int", "bool": "bool"}


@dataclass(frozen=True)
class Body:
    """The lines of a function's body, and those of the constants that stand before the function."""

    lines: tuple[str, ...]
    constants: tuple[str, ...]


def function_body(system: System, results: Mapping[str, str], comments: Mapping[str, str]) -> Body:
    """The body of the function that returns the `results`, label -> tensor."""
    wanted = tuple(dict.fromkeys(results.values()))
    needed = replace(system, outputs=wanted, loss=None, gradients={}).pruned()
    return _Writing(needed, results, comments).body()


def arguments(system: System) -> list[str]:
    """The tensors that are given when the function is called."""
    return [leaf.name for leaf in system.leaves.values() if leaf.kind != "constant"]


def dimensions(system: System) -> list[str]:
    """The names of the sizes that the shapes of the arguments hold."""
    return sorted({str(s) for name in arguments(system) for n in system.shape(name) for s in n.free_symbols})


class _Writing:
    def __init__(self, system: System, results: Mapping[str, str], comments: Mapping[str, str]) -> None:
        self.system, self.results, self.comments = system, results, comments
        self.arguments = arguments(system)
        labels = set(results if len(results) > 1 else ())  # those become names
        self.code = lower(system, {*RESERVED, *dimensions(system), *(labels - set(self.arguments))})
        self.writer = Writer(self.code, {})
        self.bound: set[str] = set()
        self.constants: list[str] = []

    def body(self) -> Body:
        steps = make_shallow([*self._computed(), *self._returned()], {*self._fixed, *self.code.arrays})
        steps = write_into_users([plain(step) for step in steps])
        steps = self._named(self._owned(steps))
        lines = [*self._sizes(steps), *self._lines(steps)]
        return Body(tuple(lines), tuple(self.constants))

    # the statements as they are lowered

    def _computed(self) -> Iterator[Step]:
        for s in self.code.statements:
            for view in views_read(s):
                yield from self._binding(self.code.arrays[view.array])
            text = _short_form(s, self.writer) or "\n".join(self.writer.lines([s], set()))
            try:
                yield from read_steps(text, s.equation)
            except RecursionError:
                hint = "write its parts as tensors of their own"
                raise EmitError("the formula has too many terms for a function", node=s.equation, hint=hint) from None

    def _binding(self, array: Array) -> list[Step]:
        """How an array that no statement computes gets its name, where it first needs one."""
        if array.kind not in ("range", "constant") or array.name in self.bound:
            return []
        self.bound.add(array.name)
        if array.kind == "range":
            return read_steps(f"{array.name} = np.arange({size_text(array.shape[0])})")
        dtype = {"float": "float", "int64": "np.int64", "bool": "np.bool_"}[array.dtype]
        text = f"{array.name} = np.array({array.value!r}, {dtype})"
        if len(text) <= LONGEST_LINE:
            return read_steps(text)
        self.constants += [f"{array.name} = np.array(", *wrapped([f"{array.value!r}", dtype]), ")"]
        return []

    def _returned(self) -> Iterator[Step]:
        values = {label: self._value(tensor) for label, tensor in self.results.items()}
        for tensor in self.results.values():
            yield from self._binding(self.code.arrays[self.code.values[tensor]])
        if len(values) == 1:
            yield from read_steps(f"return {next(iter(values.values()))}")
            return
        names: list[str] = []
        taken = {*self.arguments, *dimensions(self.system), *RESERVED}
        for label, value in values.items():
            names.append(free_name(label if name_fault(label) is None else "result", {*taken, *names}))
            yield from read_steps(f"{names[-1]} = {value}", self.results[label])
        yield from read_steps(f"return ({', '.join(names)})")

    def _value(self, tensor: str) -> str:
        array = self.code.values[tensor]
        return array if self.system.shape(tensor) else f"{_SCALARS[self.system.dtype(tensor)]}({array})"

    # the statements as a whole

    def _owned(self, steps: Sequence[Step]) -> list[Step]:
        """What is returned must not share memory with an argument."""
        views = {name: bound_value(s.node) for s in steps if (name := bound_name(s.node))}
        *before, last = steps
        if len(self.results) == 1:
            return [*before, self._copied(last, views)]
        ends = loads(last.node).keys()
        return [self._copied(step, views) if bound_name(step.node) in ends else step for step in steps]

    def _copied(self, step: Step, views: Mapping[str, ast.expr]) -> Step:
        assert isinstance(step.node, ast.Assign | ast.Return) and step.node.value
        base = base_name(step.node.value)
        seen: set[str] = set()
        while base and base in views and base not in seen:
            seen.add(base)
            base = base_name(views[base])
        if base not in {*self.arguments, *(a.name for a in self.code.arrays.values() if a.kind == "constant")}:
            return step
        (copy,) = read_steps(f"{source(step.node)}.copy()", step.equation)
        return copy

    def _named(self, steps: Sequence[Step]) -> list[Step]:
        """Short lines, and names as they are used by hand."""
        used = {name for step in steps for name in loads(step.node).keys() | stores(step.node)}
        steps = split_long(steps, {*self._fixed, *used})
        statements = [n for step in steps for n in ast.walk(step.node) if isinstance(n, ast.stmt)]
        fixed = {*self._fixed, *(used - {bound_name(n) for n in statements})}
        ranks = {a.name: len(a.shape) for a in self.code.arrays.values()}
        kept = {self.code.values[name] for name in self.system.equations}
        names = temporary_names(statements, ranks, kept, fixed)
        nodes = renamed([step.node for step in steps], names)
        return [replace(step, node=node) for step, node in zip(steps, nodes, strict=True)]

    @property
    def _fixed(self) -> set[str]:
        """Names that no temporary may have."""
        return {*self.arguments, *dimensions(self.system), *RESERVED, *self.results}

    def _sizes(self, steps: Sequence[Step]) -> Iterator[str]:
        """Lines that read the sizes that are used from the shapes of the arguments."""
        read = {name for step in steps for name in loads(step.node)}
        needed = [name for name in dimensions(self.system) if name in read]
        shapes = {name: self.system.shape(name) for name in self.arguments}
        for name, shape in shapes.items():
            texts = list(map(str, shape))
            if len(texts) > 1 and len({*texts}) == len(texts) and {*texts} <= {*needed}:
                yield f"{', '.join(texts)} = {name}.shape"
                needed = [n for n in needed if n not in texts]
        yield from (f"{n} = {_size_of(n, shapes)}" for n in needed)

    def _lines(self, steps: Sequence[Step]) -> Iterator[str]:
        for name in self.arguments:
            if not self.system.shape(name) and any(_indexes(step.node, name) for step in steps):
                yield f"{name} = np.asarray({name})"
        shown: set[str] = set()
        for step in steps:
            comment = self.comments.get(step.equation)
            if comment and step.equation not in shown:
                shown.add(step.equation)
                yield f"# {comment}"
            yield from step.text.splitlines()


def _size_of(dimension: str, shapes: Mapping[str, Sequence[Expr]]) -> str:
    """What reads a size; vectors come first, as len(x) is the shortest."""
    for name, shape in sorted(shapes.items(), key=lambda item: len(item[1]) != 1):
        texts = list(map(str, shape))
        if dimension in texts:
            return f"len({name})" if len(texts) == 1 else f"{name}.shape[{texts.index(dimension)}]"
    raise AssertionError(dimension)  # emit_function has checked that


def _short_form(s: Statement, writer: Writer) -> str | None:
    """Statements that over all axes are said more shortly."""
    if isinstance(s, Contract) and s.form == "dot" and _flattened(s.left) and _flattened(s.right):
        return f"{s.target.array} = np.vdot({s.left.array}, {s.right.array})"
    if isinstance(s, Reduce) and len(s.axes) == len(s.source.shape) and s.target.whole:
        (line,) = writer.lines([s], set())
        return line[: line.rindex("(axis=")] + "()"
    return None


def _flattened(view: View) -> bool:
    """Whether the view is the whole array as one vector."""
    whole = not (view.windows or view.index or view.order or view.inserted)
    return whole and view.reshape is not None and len(view.reshape) == 1


def _indexes(node: ast.AST, name: str) -> bool:
    """Whether name[...] or name.attribute stands somewhere."""
    parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Subscript | ast.Attribute)]
    return any(isinstance(part, ast.Name) and part.id == name for part in parts)
