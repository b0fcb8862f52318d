"""The fast style: memory bound once for each batch size, then straight-line calls into it.

A phase of rows is printed as a function `rows` that binds what one part of the samples needs, in memory of the
worker that computes it, and returns its forward, loss and backward. All else is bound once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from math import prod

import sympy as sp
from sympy import Expr, Symbol

from symgrad.emit.request import STAGES, Request
from symgrad.emit.source import (
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
from symgrad.emit.tables import batch_dimension, quoted, table
from symgrad.lower.ir import Array, Contract, Cut, Statement, View, whole
from symgrad.machine import LIMITS, estimate
from symgrad.names import free_name
from symgrad.schedule import Call, flatten, plan_memory
from symgrad.schedule.division import NEVER, WORKERS, parts_of
from symgrad.schedule.phases import Partial, Phase, Plan, Task, plan_phases
from symgrad.schedule.separable import has_samples, is_range_of_samples, sample_axis

BIND = [
    "def _bind(",
    f"{INDENT}params: Arrays, grads: Arrays, dims: dict[str, int], parts: int, workers: int, make: Allocate",
    ") -> _Plan:",
    f'{INDENT}"""What computes the network for one batch size, its samples divided into parts."""',
]
INDEXING = ("gather", "scatter", "scatter_add")

_NUMBERS = {"0": "zero", "1": "one", "0.5": "half", "2": "two"}

_HEADINGS = {  # of what a function binds first, by the kind of array
    "parameter": "parameters",
    "constant": "constants",
    "buffer": "buffers for all samples",
    "fixed": "buffers for all samples",  # zeros, where nothing is written
    "gradient": "gradients",
    "parts": "what each part of the samples adds to a sum",
    "part": "what this part adds to a sum",
    "filled": "numbers",
    "starts": "numbers",
    "range": "numbers",
    "alias": "values that share memory",
    "view": "views",
}
_OWN_HEADINGS = _HEADINGS | {"buffer": "memory of the worker"}


def fast_lines(request: Request) -> tuple[list[str], set[str]]:
    """How the samples are divided and `_bind`, as lines, and the functions that they call."""
    module = _Module(request)
    return [*module.division(), "", "", *module.lines()], module.functions


def buffers(request: Request) -> tuple[list[Array], list[list[Array]]]:
    """The buffers that `_bind` makes for all samples, and those that each phase of rows makes for some of them."""
    module = _Module(request)
    module.lines()
    return module.outer.made, [scope.made for scope in module.scopes]


def plan_of(request: Request) -> Plan:
    """The phases and tasks of a request's code."""
    code = request.code
    keep = [*request.outputs, code.values[request.loss]]
    names = {wrt: array for array, wrt in request.gradients.items()}
    gradients = [names[p] for p in parameters(request) if p in names]
    return plan_phases(code, _sizes(request), keep, gradients, lambda e: request.stage(e) == STAGES[2])


def parameters(request: Request) -> list[str]:
    """In the order of the flat vector."""
    return [leaf.name for leaf in request.forward.leaves.values() if leaf.kind == "parameter"]


def _sizes(request: Request) -> list[Symbol]:
    """The dimensions that may count samples, the most likely first."""
    symbols = {s for leaf in request.forward.leaves.values() for n in leaf.shape for s in n.free_symbols}
    batch = batch_dimension(request.forward)
    return sorted(symbols, key=lambda s: (str(s) != batch, str(s)))


def _is_large(left: object, right: object) -> bool:
    """Whether a product of two matrices is worth blocks, which only a right operand that lies row after row allows."""
    if not (isinstance(left, View) and isinstance(right, View) and len(left.shape) == len(right.shape) == 2):
        return False
    return prod(map(estimate, (*left.shape, right.shape[1]))) > LIMITS.large_product and right.order is None


class _Module:
    """Everything that `_bind` consists of."""

    def __init__(self, request: Request) -> None:
        self.request, self.code = request, request.code
        self.functions: set[str] = set()
        self.plan = plan_of(request)
        self.phase_calls = [self.calls(phase.statements) for phase in self.plan.phases]
        self.task_calls = {task.gradients: self.calls(task.statements) for task in self.plan.tasks}
        self.taken = {*self.code.arrays, *request.dimensions}
        self.count, self.product = self.free("n"), self.free("product")
        self.products = False
        self.outer = _Scope(self, None)
        self.scopes: list[_Scope] = []  # of the phases of rows
        self.parts = self._parts()
        self.body: list[str] = []

    def free(self, wanted: str) -> str:
        name = free_name(wanted, self.taken)
        self.taken.add(name)
        return name

    def division(self) -> list[str]:
        """The dimension that is divided, the inputs' axes of it, and into how many parts for what kind of worker."""
        size = self.plan.size
        leaves = [leaf for leaf in self.request.forward.leaves.values() if leaf.kind == "input" and size is not None]
        axes = {leaf.name: leaf.shape.index(size) for leaf in leaves if leaf.shape.count(size) == 1}
        return [
            "# What counts the samples, its axis of each input, and for each kind of worker the least samples that",
            "# make a part of their own and the most parts.",
            f"SAMPLES: str | None = {quoted(None if size is None else str(size))}",
            *table("DIVIDED: dict[str, int]", axes),
            *table("PARTS: dict[str, tuple[int, int]]", self.parts),
        ]

    def lines(self) -> list[str]:
        phases = list(map(self._phase, self.plan.phases, self.phase_calls, count(1)))
        tasks = self._tasks()
        outputs = ", ".join(map(self.outer.mention, self.request.outputs))
        loss = self.outer.mention(self.code.values[self.request.loss])
        size = str(self.plan.size) if self.plan.size is not None else "1"
        returned = [
            f"phases: list[Rows | Stages] = [{', '.join(phases)}]",
            "tasks: list[Task] = [  # each completes a range of the flat gradient",
            *(f"{INDENT}{task}," for task in tasks),
            "]",
            f"return _plan({size}, parts, workers, make, phases, tasks, ({outputs},), {loss})",
        ]
        text = "\n".join([*self.body, *returned])
        head = self.outer.memory(text)
        functions = [*bound_functions(self.functions), *self._product_line()]
        return [*BIND, *functions, "", *head, "", *self.body, *(INDENT + line for line in returned)]

    def _parts(self) -> dict[str, tuple[int, int]]:
        """Kind of worker -> (least samples in a part, most parts)."""
        if self.plan.size is None:
            return dict.fromkeys(WORKERS, NEVER)
        pairs = zip(self.plan.phases, self.phase_calls, strict=True)
        return parts_of(self.code, [call for phase, calls in pairs if phase.rows for call in calls], self.plan.size)

    def multiplies(self, call: Call, strided: bool = False) -> str:
        """The function for a call: large products of samples that are divided are computed in blocks.

        strided: whether the result may lie apart in memory, where np.dot cannot write.
        """
        divided = self.plan.size is not None and "product_blocks" not in self.request.without
        if call.function == "dot" and divided and _is_large(*call.arguments):
            self.products = True
            return self.product
        function = "matmul" if strided else call.function
        self.functions.add(function)
        return function.replace(".reduce", "_reduce")

    def _product_line(self) -> list[str]:
        return [f"{INDENT}{self.product} = _product_for(parts)"] * self.products

    def calls(self, statements: Sequence[Statement]) -> list[Call]:
        """The statements as calls, their buffers sharing memory where nothing that lives longer is in them."""
        calls = flatten(replace(self.code, statements=list(statements)), self.request.without)
        keep = {*self.request.outputs, self.code.values[self.request.loss]}
        plan_memory(self.code, calls, keep | self.plan.shared)
        return calls

    # phases

    def _phase(self, phase: Phase, calls: list[Call], number: int) -> str:
        """Prints the phase's functions; returns what the list of phases says of it."""
        several = sum(p.rows == phase.rows for p in self.plan.phases) > 1
        suffix = str(number) if several else ""
        staged = self.request.stages(calls)
        if phase.rows:
            name = self.free(f"rows{suffix}")
            self.body += self._rows(name, staged)
            return name
        return f"({', '.join(self._stages(self.outer, staged, suffix))})"

    def _stages(self, scope: _Scope, staged: Sequence[Sequence[Call]], suffix: str) -> list[str]:
        names = []
        for stage, calls in zip(STAGES, staged, strict=True):
            if not calls:
                names.append("_nothing")
                continue
            name = f"{stage}{suffix}"
            names.append(scope.if_needed(name, calls))
            self.body += [INDENT + line for line in scope.function(name, calls)]
            self.body.append("")
        return names

    def _rows(self, name: str, staged: Sequence[Sequence[Call]]) -> list[str]:
        scope = _Scope(self, self.plan.size)
        self.scopes.append(scope)
        scope.locals = self._locals([call for calls in staged for call in calls])
        outer, self.body = self.body, []
        names = self._stages(scope, staged, "")
        inner, self.body = self.body, outer
        text = "\n".join(inner)
        lines = [
            f"def {name}(part: int, start: int, stop: int, own: Allocate) -> Stages:",
            f'{INDENT}"""Forward, loss and backward of the samples from start to stop."""',
            *scope.memory(text),
            "",
            *inner,
            f"{INDENT}return {', '.join(names)}",
        ]
        return [*(INDENT + line for line in lines), ""]

    def _locals(self, calls: Sequence[Call]) -> set[str]:
        """The arrays that live in a phase of rows only, or hold one number for each sample."""
        roots = {self.code.root(v.array) for call in calls for v in (*call.reads(), *call.writes())}
        kinds = {name: self.code.arrays[name].kind for name in roots if name not in self.plan.shared}
        size = self.plan.size
        assert size is not None
        own = {name for name, kind in kinds.items() if kind in ("buffer", "fixed", "part")}
        numbers = {name for name, kind in kinds.items() if kind in ("filled", "starts")}
        return own | {name for name in numbers if has_samples(self.code, name, size)}

    # tasks

    def _tasks(self) -> list[str]:
        """The lines of the list of tasks."""
        offsets = self._offsets()
        made: list[str] = []
        waiting: list[Task] = []
        for task in self.plan.tasks or ():
            if task.blocks and self._work(task) >= 2 * LIMITS.task:
                made += self._together(waiting, offsets)
                waiting = []
                made.append(self._block(task, offsets))
                continue
            waiting.append(task)
            if sum(map(self._work, waiting)) >= LIMITS.task:
                made += self._together(waiting, offsets)
                waiting = []
        made += self._together(waiting, offsets)
        if not made:
            total = max((stop for _, stop in offsets.values()), default=0)
            return [f"(_nothing, 0, {total}, 0.0)"]
        return made

    def _offsets(self) -> dict[str, tuple[int, int]]:
        """Parameter -> its range in the flat vector."""
        offsets, start = {}, 0
        for name in parameters(self.request):
            stop = start + prod(map(int, self.request.forward.leaves[name].shape))
            offsets[name] = start, stop
            start = stop
        return offsets

    def _elements(self, task: Task) -> int:
        return sum(prod(map(int, self.code.arrays[name].shape)) for name in task.gradients)

    def _range(self, tasks: Sequence[Task], offsets: dict[str, tuple[int, int]]) -> tuple[int, int]:
        ranges = [offsets[self.request.gradients[name]] for task in tasks for name in task.gradients]
        return min(a for a, _ in ranges), max(b for _, b in ranges)

    def _together(self, tasks: Sequence[Task], offsets: dict[str, tuple[int, int]]) -> list[str]:
        if not tasks:
            return []
        first, last = self._range(tasks, offsets)
        calls = [call for task in tasks for call in self.task_calls[task.gradients]]
        name = "_nothing"
        if calls:
            name = self.free("gradients")
            names = [self.request.gradients[gradient] for task in tasks for gradient in task.gradients]
            doc = f"What is left to do for the gradient{'s' * (len(names) > 1)} by {_listed(names)}."
            self.body += [INDENT + line for line in self.outer.function(name, calls, doc)]
            self.body.append("")
            name = self.outer.if_needed(name, calls)
        cost = sp.Add(*map(self._cost, tasks))
        return [f"({name}, {first}, {last}, {size_text(cost)})"]

    def _cost(self, task: Task) -> Expr:
        products = [s for s in task.statements if isinstance(s, Contract)]
        bound = sp.Add(*(s.left.shape[-1] for s in products))
        return sp.expand(self._elements(task) * (bound + LIMITS.update))

    def _work(self, task: Task) -> int:
        """Multiplications, with `UNKNOWN` samples."""
        products = [s for s in task.statements if isinstance(s, Contract)]
        return self._elements(task) * (sum(estimate(s.left.shape[-1]) for s in products) + LIMITS.update)

    def _block(self, task: Task, offsets: dict[str, tuple[int, int]]) -> str:
        (call,) = self.task_calls[task.gradients]
        (gradient,) = task.gradients
        assert call.out is not None
        name = self.free(f"{gradient}_rows")
        left, right = call.arguments
        assert isinstance(left, View) and isinstance(right, View)
        scope = self.outer
        inputs = scope.inputs([call])
        out = f"{scope.mention(gradient)}[start:stop]"
        rows = f"{scope.argument(left, False)}[start:stop]"
        late = self.code.arrays[self.code.root(left.array)].kind == "input"
        bound = [] if late else [f"{INDENT}rows = {rows}"]
        comment = self.request.comments.get(call.equation)
        lines = [
            f"def {name}(start: int, stop: int) -> Job:",
            *bound,
            f"{INDENT}out = {out}",
            "",
            f"{INDENT}def job(inputs: Arrays) -> None:",
            *([f"{INDENT * 2}# {comment}, the rows from start to stop"] if comment else []),
            *(f"{INDENT * 2}{line}" for line in inputs),
            Line(
                f"{INDENT * 2}{self.multiplies(call)}({rows if late else 'rows'}, {scope.argument(right, False)}, out)",
                [call.equation],
            ),
            "",
            f"{INDENT}return job",
        ]
        self.body += [*(INDENT + line for line in lines), ""]
        count, width = map(int, self.code.arrays[gradient].shape)
        first, _ = self._range([task], offsets)
        return f"*_blocks({name}, {count}, {width}, {first}, {size_text(self._cost(task))}, workers)"


class _Scope:
    """Names bound in one function: all of `_bind`, or the rows of some samples (of which there are `size` in all).

    `views` and `constants` are named once; `mentioned` are the arrays that some line names; `locals` are the buffers
    that belong to the function, `made` those that it has made.
    """

    def __init__(self, module: _Module, size: Symbol | None) -> None:
        self.module, self.request, self.code, self.size = module, module.request, module.code, size
        self.constants: dict[str, str] = {}
        self.views: dict[View, str] = {}
        self.mentioned: set[str] = set()
        self.locals: set[str] = set()
        self.ranges: dict[str, str] = {}
        self.made: list[Array] = []

    # what is bound

    def memory(self, text: str) -> list[str]:
        """Sizes, arrays, numbers and views, before the lines `text`."""
        used = self._used()
        arrays = sorted(self.code.arrays.values(), key=lambda a: self._depth(a.name))
        mine = [a for a in arrays if a.name in used and a.kind != "input" and self._is_mine(a)]
        found = [("alias" if self._depth(a.name) > (a.kind == "parts") else a.kind, self._array(a)) for a in mine]
        found += [("range", f"{name} = np.arange({self.module.count})") for name in self.ranges.values()]
        found += [("range", f"{name} = np.array({text}, DTYPE)") for text, name in self.constants.items()]
        found += [("view", f"{name} = {self._view(view)}") for view, name in self.views.items()]
        headings = _HEADINGS if self.size is None else _OWN_HEADINGS
        lines: list[str] = []
        for heading in dict.fromkeys(headings.values()):
            group = [line for kind, line in found if headings[kind] == heading]
            lines += [f"# {heading}", *group] if group else []
        return [INDENT + line for line in (*self._sizes("\n".join([*lines, text])), *lines)]

    def _sizes(self, text: str) -> list[str]:
        if self.size is not None:
            return [f"{self.module.count} = stop - start"] * mentions(text, self.module.count)
        return [f'{n} = dims["{n}"]' for n in self.request.dimensions if mentions(text, n)]

    def _is_mine(self, array: Array) -> bool:
        return self.size is None or self.code.root(array.name) in self.locals

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
        """How many names stand between an array and its memory; the parts of a sum may be the sum itself."""
        depth = 0
        if self.code.arrays[name].kind == "parts":
            depth, name = 1, next(p.total for p in self.module.plan.partials.values() if p.parts == name)
        alias = self.code.arrays[name].alias
        while alias is not None:
            depth += 1
            alias = self.code.arrays[alias.array].alias
        return depth

    def _array(self, array: Array) -> str:
        tensor = self.request.tensor(array.name)
        if array.alias is not None:
            return f"{array.name} = {self._local(array.alias)}"
        if array.kind == "parameter":
            return f'{array.name} = params["{tensor}"]'
        if array.kind == "gradient":
            return f'{array.name} = grads["{self.request.gradients[array.name]}"]'
        if array.kind == "constant":
            return f"{array.name} = {self.request.constants[tensor]}"
        if array.kind == "range":
            return f"{array.name} = np.arange({size_text(array.shape[0])})"
        if array.kind == "part":
            (partial,) = (p for p in self.module.plan.partials.values() if p.own == array.name)
            return f"{array.name} = {self.module.outer.mention(partial.parts)}[part{', ...' * (not array.shape)}]"
        if array.kind == "parts":
            (partial,) = (p for p in self.module.plan.partials.values() if p.parts == array.name)
            shape = shape_text((Symbol("parts"), *array.shape))
            return f"{array.name} = {partial.total}[None] if parts == 1 else make({shape}, {DTYPES[array.dtype]})"
        if array.kind == "filled":
            assert isinstance(array.value, Expr)
            shape = shape_text(self._resized(array.shape))
            return f"{array.name} = np.full({shape}, {scalar_text(array.value)}, DTYPE)"
        if array.kind == "starts":
            assert isinstance(array.value, Expr)
            (size,) = self._resized(array.shape)
            return f"{array.name} = np.arange({size_text(size)}) * {size_text(array.value)}"
        self.made.append(array)
        maker = "own" if self.size is not None and array.kind != "fixed" else "make"  # that one starts as zeros
        return f"{array.name} = {maker}({shape_text(self._resized(array.shape))}, {DTYPES[array.dtype]})"

    def _resized(self, shape: Sequence[Expr]) -> tuple[Expr, ...]:
        """Sizes as they are for the samples at hand."""
        if self.size is None:
            return tuple(shape)
        return tuple(n.xreplace({self.size: Symbol(self.module.count, integer=True, positive=True)}) for n in shape)

    def _local(self, view: View) -> str:
        """The text of a view of an array of this function."""
        if view.windows:
            self.module.functions.add("sliding_window_view")
        if self.size is not None:
            view = replace(
                view,
                shape=self._resized(view.shape),
                reshape=None if view.reshape is None else self._resized(view.reshape),
                windows=tuple((k, self._resized([n])[0]) for k, n in view.windows),
                index=tuple(map(self._resized_entry, view.index)),
            )
        return view_text(view, len(self.code.arrays[view.array].shape))

    def _resized_entry(self, entry: Cut | Expr | None) -> Cut | Expr | None:
        if entry is None:
            return None
        if isinstance(entry, Cut):
            start, count = self._resized([entry.start, entry.count])
            return Cut(start, count, entry.step)
        return self._resized([entry])[0]

    def _view(self, view: View) -> str:
        """The text of any view; of an array with all samples, the part that is at hand."""
        array = self.code.arrays[view.array]
        root = self.code.arrays[self.code.root(view.array)]
        if self.size is None or root.name in self.locals or root.kind == "input":
            return self._local(view)
        outer = self.module.outer
        text = outer.argument(view, False)
        if not has_samples(self.code, view.array, self.size):
            return text
        cut = sample_axis(array.shape, view, self.size)
        assert cut is not None and not cut.inner, view
        start, stop = (("" if cut.width == 1 else f"{size_text(cut.width)} * ") + bound for bound in ("start", "stop"))
        return f"{text}[{':, ' * cut.axis}{start}:{stop}]"

    # what is called

    def function(self, name: str, calls: Sequence[Call], doc: str = "") -> list[str]:
        """A function that carries out the calls."""
        lines = [f"def {name}(inputs: Arrays) -> None:", *([f'{INDENT}"""{doc}"""'] if doc else [])]
        lines += [f"{INDENT}{line}" for line in self.inputs(calls)]
        previous, adding = "", False
        bare = self._adds_parts_only(calls)
        lines += [f"{INDENT}# each part of the samples has computed its share"] * bare
        for call in calls:
            partial = self._partial(call)
            if partial and not adding and not bare:
                lines.append(f"{INDENT}if parts > 1:  # then each part has computed its share only")
            adding = partial is not None and not bare
            indent = INDENT * (1 + adding)
            comment = self.request.comments.get(call.equation)
            if call.equation != previous and comment and partial is None:
                lines.append(f"{indent}# {comment}")
            previous = call.equation
            made = [self._sum_of_parts(partial)] if partial else self._call(call)
            lines += [Line(indent + line, [call.equation]) for line in made]
        return lines

    def if_needed(self, name: str, calls: Sequence[Call]) -> str:
        """What to call for the function: nothing where there are no parts whose shares it would add up."""
        return f"{name} if parts > 1 else _nothing" if self._adds_parts_only(calls) else name

    def _adds_parts_only(self, calls: Sequence[Call]) -> bool:
        return all(self._partial(call) for call in calls)

    def inputs(self, calls: Sequence[Call]) -> list[str]:
        """The lines that name the inputs which the calls read."""
        names = {self.code.root(v.array) for call in calls for v in (*call.reads(), *call.writes())}
        found = [a.name for a in self.code.arrays.values() if a.kind == "input" and a.name in names]
        return [f'{name} = inputs["{self.request.tensor(name)}"]' for name in found]

    def mention(self, name: str) -> str:
        """The name to print: a temporary goes by that of the memory that it uses."""
        array = self.code.arrays[name]
        while array.temporary and array.alias is not None and array.alias.whole:
            name = array.alias.array
            array = self.code.arrays[name]
        root = self.code.arrays[self.code.root(name)]
        if self.size is None or root.name in self.locals or root.kind == "input":
            self.mentioned.add(name)
            return name
        if has_samples(self.code, name, self.size):
            return self._named(whole(array))
        return self.module.outer.mention(name)

    def argument(self, argument: View | Expr | str, inner: bool) -> str:
        if isinstance(argument, str):
            return argument
        if not isinstance(argument, View):
            return self.module.outer.constant(argument)
        if argument.whole:
            return self.mention(argument.array)
        root = self.code.arrays[self.code.root(argument.array)]
        if inner or root.kind == "input":
            if self.size is None or root.name in self.locals or root.kind == "input":
                self.mentioned.add(argument.array)
            return self._inline(argument)
        if self.size is not None and root.name not in self.locals and not has_samples(
            self.code, argument.array, self.size
        ):
            return self.module.outer.argument(argument, inner)
        return self._named(argument)

    def _inline(self, view: View) -> str:
        """A view with the offsets of a loop in it, which cannot be named before."""
        root = self.code.arrays[self.code.root(view.array)]
        if self.size is None or root.name in self.locals or root.kind == "input":
            return self._local(view)
        outer = self.module.outer
        outer.mentioned.add(view.array)
        text = outer._local(view)
        cut = sample_axis(self.code.arrays[view.array].shape, view, self.size)
        if cut is None:
            return text
        assert cut.width == 1
        return f"{text}[{':, ' * cut.axis}start:stop]"

    def _named(self, view: View) -> str:
        if view not in self.views:
            mine = self.size is None or self.code.root(view.array) in self.locals
            wanted = f"{view.array}_{_form(view)}" if mine else f"{self.module.outer.argument(view, False)}_rows"
            self.views[view] = self.module.free(wanted)
        return self.views[view]

    def constant(self, value: Expr) -> str:
        """A number as an array without axes of the right dtype, which NumPy takes faster than a float."""
        text = scalar_text(value)
        if text not in self.constants:
            self.constants[text] = self.module.free(_number_name(text) or f"c{len(self.constants) + 1}")
        return self.constants[text]

    def _function(self, name: str) -> str:
        self.module.functions.add(name)
        return name.replace(".reduce", "_reduce")

    def _call(self, call: Call, inner: bool = False) -> list[str]:
        if call.function == "for":
            return self._loop(call)
        assert call.out is not None
        whole_numbers = self.code.arrays[call.out.array].dtype == "int64"
        arguments = [
            scalar_text(a) if whole_numbers and isinstance(a, Expr) else self._indexed(call, k, a, inner)
            for k, a in enumerate(call.arguments)
        ]
        if call.function == "fill" and self.code.arrays[call.out.array].dtype == "bool":
            arguments = [str(call.arguments[0] != 0)]
        out = self.argument(call.out, inner)
        if call.function == "dot":
            function = self.module.multiplies(call, self._is_cut_inside(call.out))
            return [f"{function}({', '.join([*arguments, out])})"]
        return [self._line(call.function, arguments, out)]

    def _is_cut_inside(self, view: View) -> bool:
        """Whether the samples at hand are a part of an axis of the view that is not its first."""
        array = self.code.arrays[view.array]
        if self.size is None or self.code.root(view.array) in self.locals:
            return False
        cut = sample_axis(array.shape, view, self.size)
        return cut is not None and cut.axis > 0

    def _indexed(self, call: Call, k: int, argument: View | Expr | str, inner: bool) -> str:
        """An argument; the samples' own numbers as an index count from the first one at hand."""
        if not isinstance(argument, View) or k == 0 or call.function not in INDEXING:
            return self.argument(argument, inner)
        array = self.code.arrays[argument.array]
        if self.size is None or not is_range_of_samples(array, self.size):
            return self.argument(argument, inner)
        if array.name not in self.ranges:
            self.ranges[array.name] = self.module.free(f"{array.name}_rows")
        return view_text(replace(argument, array=self.ranges[array.name]), 1)

    def _partial(self, call: Call) -> Partial | None:
        """The result whose shares the call adds up; None for any other call."""
        read = {view.array for view in call.reads()}
        return next((p for p in self.module.plan.partials.values() if p.parts in read), None)

    def _sum_of_parts(self, partial: Partial) -> str:
        name = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}[partial.kind]
        parts, total = self.mention(partial.parts), self.mention(partial.total)
        return f"{self._function(f'{name}.reduce')}({parts}, 0, None, {total})"

    def _line(self, function: str, arguments: list[str], out: str) -> str:
        if function == "spread":  # takes less time than copyto
            return f"{out}[...] = {arguments[0]}"
        if function in ("fill", "copy"):
            return f"{self._function('copyto')}({out}, {arguments[0]})"
        if function == "copy_where":
            return f"{self._function('copyto')}({out}, {arguments[0]}, where={arguments[1]})"
        if function == "accumulate":
            return f"{self._function('add')}({out}, {arguments[0]}, {out})"
        if function == "apply":
            text, helpers = applied_text(arguments[0], arguments[1:])
            self.module.functions |= helpers
            return f"{self._function('copyto')}({out}, {text})"
        if function == "gather":
            return f"{self._function('copyto')}({out}, {arguments[0]}[{', '.join(arguments[1:])}])"
        if function == "take":  # the labels are checked; to "clip", NumPy needs no buffer
            return f'{arguments[0]}.take({arguments[1]}, None, {out}, "clip")'
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


def _form(view: View) -> str:
    """A word for what a view is of its array."""
    if view.windows or view.index:
        return "windows" if view.windows else "cut"
    if view.reshape is not None:
        return "flat" if len(view.shape) == 1 else "shaped"
    if view.order is not None:
        return "T"
    return "column" if view.inserted == (len(view.shape) - 1,) else "spread"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first and the last of many."""
    if len(names) > 6:
        return f"{names[0]} to {names[-1]}"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _number_name(text: str) -> str | None:
    """`per_N` for 1/N, `minus_one` for -1; None for a number without a name."""
    size = text.lstrip("-")
    name = f"per_{size[2:]}" if size.startswith("1/") and size[2:].isidentifier() else _NUMBERS.get(size)
    return f"minus_{name}" if name and text != size else name
