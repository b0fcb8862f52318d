"""The optimizer's table as code over the flat vectors, by the way that every elementwise body takes.

The readable style prints the rows as they are. The fast style prints them in the form that `scaling` finds, for a block
of the vectors, with every number taken from an array that is filled once a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sympy as sp
from sympy import Expr, Symbol

from symgrad.emit.scaling import Scaled, scaled
from symgrad.emit.source import INDENT, ArrayPrinter, bound_functions, scalar_text
from symgrad.emit.source_map import UPDATE, Line
from symgrad.lower.ir import Array, Code, Map, View, whole
from symgrad.optimizers import Optimizer
from symgrad.schedule import Call, flatten

SIZE = sp.Symbol("P", integer=True, positive=True)
SIGNATURE = "def _bind_update(theta: Array, grad: Array, state: Arrays) -> Callable[[int, dict[str, float]], None]:"
BLOCK_SIGNATURE = (
    "def _bind_update(theta: Array, grad: Array, state: Arrays, scalars: Array, scratch: Array) -> Callable[[], None]:"
)


def update_lines(optimizer: Optimizer, style: str) -> list[str]:
    """`_bind_update` as lines; in the fast style also the functions of its numbers."""
    if style == "readable":
        return _readable(optimizer)
    form = scaled(optimizer, lambda form: len(_calls(form, optimizer)))
    return _fast(optimizer, form)


def _doc(optimizer: Optimizer) -> str:
    return f'{INDENT}"""{optimizer.name.capitalize()}: {optimizer.source}."""'


def _arrays(optimizer: Optimizer) -> dict[str, str]:
    """Vector of the table -> the name of its array."""
    return {"theta": "theta", "g": "grad", **{s: s for s in optimizer.state}}


def _hyperparameters(text: Iterable[str], optimizer: Optimizer) -> list[str]:
    """The lines that take from `hyper` what the lines `text` name."""
    words = {word for line in text for word in "".join(c if c.isalnum() or c == "_" else " " for c in line).split()}
    return [f'{name} = hyper["{name}"]' for name in optimizer.defaults if name in words]


# ---- Readable ---------------------------------------------------------------------------------------------


def _readable(optimizer: Optimizer) -> list[str]:
    arrays = _arrays(optimizer)
    printer = ArrayPrinter({Symbol(name, real=True): array for name, array in arrays.items()})
    rows = {str(symbol): expr for symbol, expr in optimizer.updates.items()}
    lines = [SIGNATURE, _doc(optimizer)]
    lines += [f'{INDENT}{s} = state["{s}"]' for s in optimizer.state]
    lines += ["", f"{INDENT}def update(k: int, hyper: dict[str, float]) -> None:"]
    lines += [f'{INDENT * 2}"""Step number k, in place."""']
    lines += [f'{INDENT * 2}{name} = hyper["{name}"]' for name in optimizer.defaults]
    lines += [
        INDENT * 2 + Line(f"{arrays[name]}[...] = {printer(expr)}", [name], UPDATE) for name, expr in rows.items()
    ]
    return [*lines, "", f"{INDENT}return update"]


# ---- Fast -------------------------------------------------------------------------------------------------


def _fast(optimizer: Optimizer, form: Scaled) -> list[str]:
    calls = _calls(form, optimizer)
    vectors = _arrays(optimizer).values()
    memory = in_place(calls, vectors)
    scratch = sorted({name for name in memory.values() if name not in vectors}, key=lambda name: int(name[1:]))
    numbers = [str(symbol) for symbol in form.scalars]
    numbers += dict.fromkeys(text for call in calls for text in _literals(call))
    names = {text: text if text.isidentifier() else f"c{n}" for n, text in enumerate(numbers)}
    lines = [
        f"SCALARS, SCRATCH = {len(numbers)}, {len(scratch)}  # numbers and vectors that an update works with",
        *_state_scale(optimizer, form),
        *_scalars(optimizer, form, numbers),
        *("", "", BLOCK_SIGNATURE, _doc(optimizer)),
        *bound_functions({_function(call) for call in calls}),
        *(f'{INDENT}{s} = state["{s}"]' for s in optimizer.state),
        *(f"{INDENT}{names[text]} = scalars[{n}, ...]" for n, text in enumerate(numbers)),
        *(f"{INDENT}{name} = scratch[{n}]" for n, name in enumerate(scratch)),
        "",
        f"{INDENT}def update() -> None:",
        f'{INDENT * 2}"""One step of a block, in place."""',
        *(INDENT * 2 + _line(call, memory, names) for call in calls),
    ]
    return [*lines, "", f"{INDENT}return update"]


def _calls(form: Scaled, optimizer: Optimizer) -> list[Call]:
    """The calls that carry out the form's steps."""
    arrays = _arrays(optimizer)
    code = Code({array: Array(array, (SIZE,), kind="gradient") for array in arrays.values()})
    reads = {Symbol(name, real=True): whole(code.arrays[array]) for name, array in arrays.items()}
    for symbol, row, body in form.steps:
        if symbol not in reads:
            code.arrays[str(symbol)] = Array(str(symbol), (SIZE,))
            reads[symbol] = whole(code.arrays[str(symbol)])
        used = {s: view for s, view in reads.items() if s in body.free_symbols}
        code.statements.append(Map(reads[symbol], body, used, equation=row))
    return flatten(code)


def in_place(calls: Sequence[Call], vectors: Iterable[str]) -> dict[str, str]:
    """Every array that the calls write -> its memory: a vector, or one of the scratch vectors t1, t2, ...

    A value on the way goes into a vector that is to be overwritten later and whose old value nobody reads any more,
    else into the memory of an operand that is read for the last time, else into a free scratch vector.
    """
    memory = {name: name for name in vectors}
    last = {v.array: time for time, call in enumerate(calls) for v in call.reads()}
    free: list[str] = []
    made = 0
    for time, call in enumerate(calls):
        assert call.out is not None
        out = call.out.array
        operands = dict.fromkeys(v.array for v in call.reads())
        dying = [memory[o] for o in operands if last[o] == time and memory[o] not in memory]
        if out not in memory:
            until = last.get(out, time)
            ripe = [o for o in operands if memory[o] == o and _overwritten(calls, o, time) >= until]
            through = [memory[o] for o in operands if memory[o] in memory and memory[o] != o and last[o] == time]
            ripe += [name for name in through if _overwritten(calls, name, time) >= until]
            if ripe:
                memory[out] = ripe[0]
            elif dying:
                memory[out] = dying.pop(0)
            else:
                made += not free
                memory[out] = free.pop() if free else f"t{made}"
        free += [name for name in dict.fromkeys(dying) if name not in free]
    return memory


def _overwritten(calls: Sequence[Call], vector: str, time: int) -> int:
    """When the vector is written next after the call at `time`, if nobody reads it in between; else -1."""
    for later in range(time + 1, len(calls)):
        if any(v.array == vector for v in calls[later].reads()):
            return -1
        out = calls[later].out
        if out is not None and out.array == vector:
            return later
    return -1


def _function(call: Call) -> str:
    return {"copy": "copyto", "fill": "copyto"}.get(call.function, call.function)


def _literals(call: Call) -> list[str]:
    return [scalar_text(a) for a in call.arguments if isinstance(a, Expr) and a.is_number]


def _line(call: Call, memory: Mapping[str, str], names: Mapping[str, str]) -> Line:
    assert call.out is not None
    texts = [memory[a.array] if isinstance(a, View) else names[str(scalar_text(sp.sympify(a)))] for a in call.arguments]
    out = memory[call.out.array]
    if call.function in ("maximum", "minimum"):  # NumPy 2.4 wants their output by keyword
        out = f"out={out}"
    arguments = [out, *texts] if _function(call) == "copyto" else [*texts, out]
    return Line(f"{_function(call)}({', '.join(arguments)})", [call.equation], UPDATE)


def _state_scale(optimizer: Optimizer, form: Scaled) -> list[str]:
    texts = [scalar_text(form.scale[Symbol(s, real=True)]) for s in optimizer.state]
    return [
        *("", "", "def _state_scale(hyper: dict[str, float]) -> list[float]:"),
        f'{INDENT}"""What each part of the state, as it is kept, has to be multiplied by."""',
        *(INDENT + line for line in _hyperparameters(texts, optimizer)),
        f"{INDENT}return [{', '.join('1.0' if text == '1' else text for text in texts)}]",
    ]


def _scalars(optimizer: Optimizer, form: Scaled, numbers: Sequence[str]) -> list[str]:
    shared, values = sp.cse(list(form.scalars.values()), symbols=sp.numbered_symbols("r"), order="canonical")
    pairs = [*shared, *zip(form.scalars, values, strict=True)]
    rows = {symbol: {row for _, row, body in form.steps if symbol in body.free_symbols} for symbol in form.scalars}
    lines: list[str] = []
    for symbol, value in reversed(pairs):
        for part in value.free_symbols:
            rows[part] = rows.get(part, set()) | rows[symbol]
        text = scalar_text(value)
        if text != str(symbol):
            read = [str(vector) for vector in optimizer.updates if str(vector) in rows[symbol]]
            lines.insert(0, Line(f"{symbol} = {text}", read, UPDATE))
    returned = ", ".join(numbers)
    return [
        *("", "", "def _scalars(k: int, hyper: dict[str, float]) -> tuple[float, ...]:"),
        f'{INDENT}"""The numbers that step number k works with."""',
        *(INDENT + line for line in (*_hyperparameters([*lines, returned], optimizer), *lines)),
        f"{INDENT}return {returned}" + "," * (len(numbers) == 1),
    ]
