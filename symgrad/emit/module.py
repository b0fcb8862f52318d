"""The emitted file: the network's part printed, the part that is the same for all taken from `runtime`."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import sympy as sp
from sympy import Expr

from symgrad.emit import runtime, special
from symgrad.emit.fast import Binder, Segment
from symgrad.emit.initial import initialiser
from symgrad.emit.program import Program
from symgrad.emit.readable import Writer, range_lines
from symgrad.emit.source import size_text
from symgrad.emit.update import update_lines
from symgrad.equations import System, shape_attribute
from symgrad.errors import EmitError
from symgrad.index.definition import At
from symgrad.lower import lower
from symgrad.lower.ir import Code, flattened
from symgrad.optimizers import Optimizer
from symgrad.schedule import Call, flatten, plan_memory

START, END = "# <network>\n", "# </network>\n"
INDENT = "    "
SIGNATURE = (
    "def _bind(\n    params: Arrays, grads: Arrays, dims: dict[str, int]\n"
    ") -> tuple[Callable[[Arrays], tuple[Array, ...]], Callable[[Arrays], float], Callable[[Arrays], None]]:"
)
NUMPY_NAMES = {
    "sliding_window_view": "np.lib.stride_tricks.sliding_window_view",
}
SPECIAL = {
    "_erf": ("_horner", "_erf_small", "_erfc_tail", "_erf"),
    "_erfc": ("_horner", "_erf_small", "_erfc_tail", "_erfc"),
    "_sigmoid": ("_sigmoid",),
    "_softplus": ("_softplus",),
}


@dataclass(frozen=True)
class Request:
    """What is to be emitted.

    Attributes:
        forward: the network's equations, for how parameters start.
        system: forward and adjoint equations, simplified, in the order forward, loss, backward.
        comments: equation -> formula; description: the module's docstring.
    """

    forward: System
    system: System
    optimizer: Optimizer
    dtype: str
    style: str
    title: str
    description: str
    comments: Mapping[str, str]
    loss: str


def emit_module(request: Request) -> Program:
    """The program for a request. Raises EmitError for what cannot be a program."""
    _check(request)
    body, helpers = (_fast if request.style == "fast" else _readable)(request)
    update, functions = update_lines(request.optimizer, request.style)
    update = [update[0], update[1], *_bound_functions(functions), *update[2:]]
    region = [*_tables(request), "", *_helper_sources(helpers), "", *body, "", "", *update, "", ""]
    source = _assembled(request, "\n".join(line.rstrip() for line in region))
    shapes = {n: tuple(map(int, leaf.shape)) for n, leaf in request.forward.leaves.items() if leaf.kind == "parameter"}
    return Program(source, request.title, request.style, request.dtype, request.optimizer.name, shapes)


def _check(request: Request) -> None:
    for leaf in request.forward.leaves.values():
        if leaf.kind == "parameter" and not all(n.is_Integer for n in leaf.shape):
            raise EmitError(
                f"the parameter has the symbolic shape {shape_attribute(leaf.shape)}",
                node=leaf.name,
                op="parameter",
                hint="a program needs the sizes of its parameters; give integers",
            )
    plain = {n for leaf in request.forward.leaves.values() if leaf.kind == "input" for n in leaf.shape if n.is_Symbol}
    used = {s for leaf in request.forward.leaves.values() for n in leaf.shape for s in n.free_symbols}
    used |= {s for e in request.system for n in e.shape for s in n.free_symbols}
    for symbol in sorted(used - plain, key=str):
        raise EmitError(
            f"nothing tells the size {symbol} when the program runs",
            hint=f"some input needs an axis whose size is {symbol} alone",
        )


def _assembled(request: Request, region: str) -> str:
    text = Path(inspect.getsourcefile(runtime) or "").read_text(encoding="utf-8")
    head, rest = text.split(START)
    _, tail = rest.split(END)
    imports = head[head.index("from __future__") :]
    return f'"""{_docstring(request)}"""\n\n{imports}{START}{region}{END}{tail}'


def _docstring(request: Request) -> str:
    text = f"{request.title}\n\n{request.description.strip()}\n"
    return text.replace("\\", "\\\\").replace('"""', "'''")


# tables


def _tables(request: Request) -> list[str]:
    forward, system = request.forward, request.system
    leaves = forward.leaves.values()
    inputs = {x.name: (x.dtype, shape_attribute(x.shape)) for x in leaves if x.kind == "input"}
    parameters = {x.name: shape_attribute(x.shape) for x in leaves if x.kind == "parameter"}
    needed = system.needed_for(system.outputs)
    first = tuple(name for name in inputs if name in needed)
    starts = {x.name: initialiser(forward, x) for x in leaves if x.kind == "parameter"}
    gradients = {name: shape_attribute(system.shape(name)) for name in system.gradients}
    lines = [
        f"DTYPE: type[np.floating[Any]] = np.{request.dtype}",
        *_table("INPUTS: dict[str, tuple[str, tuple[int | str, ...]]]", inputs),
        f"FORWARD_INPUTS: tuple[str, ...] = {_quoted(first)}",
        f"OUTPUTS: tuple[str, ...] = {_quoted(system.outputs)}",
        *_table("PARAMETERS: dict[str, tuple[int, ...]]", parameters),
        *_table("GRADIENTS: dict[str, tuple[int | str, ...]]", gradients),
        *_table("INITIALISERS: dict[str, tuple[Any, ...]]", starts),
        *_table("RANGES: dict[str, tuple[int, int]]", _ranges(forward)),
        f"BATCH: str | None = {_quoted(_batch(forward))}",
        *_table("HYPERPARAMETERS: dict[str, float]", dict(request.optimizer.defaults)),
        f"STATE: tuple[str, ...] = {_quoted(request.optimizer.state)}",
        *_expressions(inputs, gradients),
    ]
    for leaf in leaves:
        if leaf.kind == "constant" and leaf.shape != ():
            lines.append(f"{leaf.name.upper()}_VALUE = {_array_literal(leaf.value, leaf.dtype)}")
    return lines


def _table(name: str, rows: Mapping[str, object]) -> list[str]:
    short = f"{name} = {dict(rows)!r}".replace("'", '"')
    if len(short) <= 100:
        return [short]
    return [f"{name} = {{", *(f'{INDENT}"{k}": {v!r},'.replace("'", '"') for k, v in rows.items()), "}"]


def _quoted(value: object) -> str:
    return repr(value).replace("'", '"')


def _array_literal(value: object, dtype: str) -> str:
    kind = {"float": "DTYPE", "int64": "np.int64", "bool": "np.bool_"}[dtype]
    return f"np.array({value!r}, {kind})"


def _expressions(*tables: Mapping[str, object]) -> list[str]:
    """Sizes that are computed from other ones."""
    shapes: list[tuple[int | str, ...]] = [*(t[1] if len(t) == 2 and isinstance(t[1], tuple) else t for table in tables for t in table.values())]  # type: ignore[arg-type, misc]
    texts = dict.fromkeys(n for shape in shapes for n in shape if isinstance(n, str) and not n.isidentifier())
    from symgrad.index.parser import parse_dimension

    rows = []
    for text in texts:
        size = parse_dimension(text)
        change = {s: sp.Symbol(f'dims["{s}"]') for s in size.free_symbols}
        rows.append(f'{INDENT}"{text}": lambda dims: {size_text(size.xreplace(change))},')
    head = "DIM_EXPRESSIONS: dict[str, Callable[[dict[str, int]], int]] = {"
    return [head + "}"] if not rows else [head, *rows, "}"]


def _ranges(system: System) -> dict[str, tuple[int, int]]:
    """The integers that an input may hold: it indexes axes of these sizes."""
    found: dict[str, tuple[int, int]] = {}
    for e in system:
        for at in (*e.definition.body.atoms(At), *(a for w in e.definition.write for a in w.atoms(At))):
            for index, size in zip(at.index, at.sizes(system.shape(e.source(at))), strict=True):
                if isinstance(index, At) and size.is_Integer:
                    name = e.source(index)
                    if name in system.leaves and system.leaves[name].kind == "input":
                        found[name] = (0, min(int(size), found.get(name, (0, int(size)))[1]))
    return dict(sorted(found.items()))


def _batch(system: System) -> str | None:
    """The dimension that counts samples: the leading one of the first input that has a named one."""
    inputs = [leaf for leaf in system.leaves.values() if leaf.kind == "input"]
    for leaf in inputs:
        if leaf.shape and leaf.shape[0].is_Symbol:
            symbol = leaf.shape[0]
            inner = any(n.has(symbol) for other in inputs for k, n in enumerate(other.shape) if k or n != symbol)
            return None if inner else str(symbol)
    return None


# code


def reserved_names(request: Request) -> set[str]:
    """Names that tensors must not take in the program."""
    names = {n for n in vars(runtime) if n != "__builtins__"} | set(vars(special)) | set(keyword.kwlist)
    names |= {"np", "math", "params", "grads", "dims", "inputs", "forward", "loss", "backward", "values", "add"}
    names |= {n for n in dir(np) if not n.startswith("_") and n.islower()}
    names |= {"float", "int", "tuple", "dict", "range", "slice", "max", "min", "None", "zero", "one", "half", "two"}
    shapes = [n for leaf in request.forward.leaves.values() for n in leaf.shape]
    return names | {str(s) for n in shapes for s in n.free_symbols}


def _lowered(request: Request) -> Code:
    code = lower(request.system, reserved_names(request))
    for name in request.system.gradients.values():
        array = code.values[name]
        code.arrays[array] = replace(code.arrays[array], kind="gradient")
    return code


def _segments(request: Request) -> tuple[set[str], set[str]]:
    """The equations of forward, and those of forward and loss."""
    system = request.system
    return system.needed_for(system.outputs), system.needed_for([*system.outputs, request.loss])


def _dimensions(request: Request) -> list[str]:
    symbols = {s for e in request.system for n in (*e.shape, *e.definition.extents.values()) for s in n.free_symbols}
    symbols |= {s for e in request.system for s in e.definition.body.free_symbols - e.definition.extents.keys()}
    return sorted(str(s) for s in symbols if s.is_integer and s.is_positive)


def _fast(request: Request) -> tuple[list[str], set[str]]:
    code = _lowered(request)
    calls = flatten(code)
    results = [code.values[n] for n in (*request.system.outputs, request.loss)]
    plan_memory(code, calls, results)
    binder = Binder(code, _dimensions(request), request.comments, originals=_originals(code))
    first, second = _segments(request)
    parts: tuple[list[Call], list[Call], list[Call]] = ([], [], [])
    for call in calls:
        parts[0 if call.equation in first else 1 if call.equation in second else 2].append(call)
    outputs = [binder.mention(name) for name in results[:-1]]
    loss = binder.mention(results[-1])
    segments = [
        Segment("forward", "forward(inputs: Arrays) -> tuple[Array, ...]", "The outputs.", parts[0],
                f"return ({', '.join(outputs)},)"),
        Segment("loss", "loss(inputs: Arrays) -> float", "The loss, after forward.", parts[1], f"return float({loss})"),
        Segment("backward", "backward(inputs: Arrays) -> None", "Every gradient, after loss.", parts[2], ""),
    ]  # fmt: skip
    gradients = {code.values[e]: wrt for wrt, e in request.system.gradients.items()}
    doc = f'{INDENT}"""Buffers for one batch size, and forward, loss and backward that work in them."""'
    lines = binder.text([SIGNATURE, doc], segments, gradients)
    helpers = {f for f in binder.functions if f in SPECIAL}
    return _with_functions(lines, binder.functions - helpers), helpers


def _with_functions(lines: list[str], functions: set[str]) -> list[str]:
    return [lines[0], lines[1], *_bound_functions(functions), *lines[2:]]


def _bound_functions(functions: set[str]) -> list[str]:
    """NumPy's functions as local names: a look-up less per call."""
    names = sorted(f for f in functions if f not in SPECIAL)
    pairs = [(f.replace(".reduce", "_reduce"), NUMPY_NAMES.get(f, f"np.{f}")) for f in names]
    return [f"{INDENT}{name} = {source}" for name, source in pairs]


def _originals(code: Code) -> dict[str, str]:
    """Array -> the tensor's own name, where the program needs another one."""
    originals = {array: tensor for tensor, array in code.values.items()}
    return {a: t + "_value" if code.arrays[a].kind == "constant" else t for a, t in originals.items()}


def _helper_sources(helpers: set[str]) -> list[str]:
    names = dict.fromkeys(name for helper in sorted(helpers) for name in SPECIAL[helper])
    return [line for name in names for line in ["", *inspect.getsource(getattr(special, name)).splitlines(), ""]]


def _readable(request: Request) -> tuple[list[str], set[str]]:
    code = _lowered(request)
    writer = Writer(code, request.comments)
    first, second = _segments(request)
    parts: tuple[list, list, list] = ([], [], [])  # type: ignore[type-arg]
    for statement in code.statements:
        parts[0 if statement.equation in first else 1 if statement.equation in second else 2].append(statement)
    keep = {code.values[n] for n in request.system.wanted()}
    lines: list[str] = []
    known: set[str] = set()
    originals = _originals(code)
    for k, (name, doc) in enumerate(_READABLE_STAGES):
        body = writer.lines(parts[k], keep)
        later = _read_later(code, parts[k + 1 :], parts[k])
        lines += ["", "", f"def {name}(params: Arrays, inputs: Arrays, dims: dict[str, int], values: Arrays) -> {_RETURNS[k]}:"]
        lines += [f'{INDENT}"""{doc}"""', *_bindings(code, parts[k], known, originals, _dimensions(request))]
        lines += [INDENT + line for line in body]
        stored = sorted(later | ({code.values[n] for n in request.system.outputs} if k == 0 else set()))
        stored = [n for n in stored if n not in _leaf_arrays(code) and n not in writer.inlined]
        if stored and k < 2:
            lines.append(f"{INDENT}values.update({', '.join(f'{n}={n}' for n in stored)})")
        known |= set(stored)
        lines.append(INDENT + _readable_result(request, code, k))
    return [*lines[2:], *_READABLE_BIND], writer.helpers & set(SPECIAL)


_READABLE_STAGES = (
    ("_forward", "The outputs; what later stages read goes into `values`."),
    ("_loss", "The loss, after _forward."),
    ("_backward", "The gradients, after _loss."),
)
_RETURNS = ("tuple[Array, ...]", "float", "Arrays")
_READABLE_BIND = [
    "",
    "",
    SIGNATURE,
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


def _leaf_arrays(code: Code) -> set[str]:
    return {a.name for a in code.arrays.values() if a.kind in ("input", "parameter", "constant", "range")}


def _reads(code: Code, statements: Sequence[object]) -> set[str]:
    from symgrad.lower.ir import views_read

    names = {v.array for s in flattened(statements) for v in views_read(s)}  # type: ignore[arg-type]
    return names


def _made(code: Code, statements: Sequence[object]) -> set[str]:
    made = {s.target.array for s in flattened(statements) if not hasattr(s, "body") or hasattr(s, "target")}  # type: ignore[arg-type, union-attr]
    return made | {a.name for a in code.arrays.values() if a.alias is not None and a.alias.array in made}


def _read_later(code: Code, later: Sequence[Sequence[object]], here: Sequence[object]) -> set[str]:
    return {n for part in later for n in _reads(code, part)} & _made(code, here)


def _bindings(
    code: Code, statements: Sequence[object], known: set[str], originals: Mapping[str, str], dims: Sequence[str]
) -> list[str]:
    """The lines that give a stage's tensors their names."""
    read = _reads(code, statements)
    lines = [f'{INDENT}{n} = dims["{n}"]' for n in dims]
    for array in code.arrays.values():
        if array.name not in read:
            continue
        source = {"input": "inputs", "parameter": "params"}.get(array.kind)
        tensor = originals.get(array.name, array.name)
        if source:
            lines.append(f'{INDENT}{array.name} = {source}["{tensor}"]')
        elif array.kind == "constant":
            lines.append(f"{INDENT}{array.name} = {tensor.upper()}")
        elif array.kind == "range":
            lines += [INDENT + line for line in range_lines(code) if line.startswith(f"{array.name} =")]
        elif array.name in known:
            lines.append(f'{INDENT}{array.name} = values["{array.name}"]')
    return lines


def _readable_result(request: Request, code: Code, stage: int) -> str:
    system = request.system
    if stage == 0:
        return f"return ({', '.join(code.values[n] for n in system.outputs)},)"
    if stage == 1:
        return f"return float({code.values[request.loss]})"
    pairs = ", ".join(f'"{wrt}": {code.values[e]}' for wrt, e in system.gradients.items())
    return f"return {{{pairs}}}"


def in_order(system: System, loss: str) -> System:
    """The equations sorted into forward, loss and backward, each in its old order."""
    first, second = system.needed_for(system.outputs), system.needed_for([*system.outputs, loss])

    def stage(name: str) -> int:
        return 0 if name in first else 1 if name in second else 2

    names = sorted(system.equations, key=stage)
    return replace(system, equations={n: system.equations[n] for n in names})


