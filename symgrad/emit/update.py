"""The optimizer's table as code over the flat vectors, by the way that every elementwise body takes."""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Symbol

from symgrad.emit.source import INDENT, ArrayPrinter, bound_functions, scalar_text
from symgrad.emit.source_map import UPDATE, Line
from symgrad.lower.ir import Array, Code, Map, View, whole
from symgrad.optimizers import Optimizer
from symgrad.schedule import flatten, plan_memory

SIZE = sp.Symbol("P", integer=True, positive=True)
SIGNATURE = "def _bind_update(theta: Array, grad: Array, state: Arrays) -> Callable[[int, dict[str, float]], None]:"


def update_lines(optimizer: Optimizer, style: str) -> list[str]:
    """`_bind_update` as lines."""
    vectors = {"theta": "theta", "g": "grad", **{s: s for s in optimizer.state}}
    scalars: dict[Symbol, Expr] = {}
    if style == "readable":
        updates = {str(symbol): expr for symbol, expr in optimizer.updates.items()}
    else:
        scalars, updates = _hoisted(optimizer, set(vectors))
    lines = [SIGNATURE, f'{INDENT}"""{optimizer.name.capitalize()}: {optimizer.source}."""']
    if style == "readable":
        body, functions, scratch = _readable(updates, vectors), set[str](), list[str]()
    else:
        body, functions, scratch = _fast(updates, vectors)
    lines += bound_functions(functions)
    lines += [f'{INDENT}{s} = state["{s}"]' for s in optimizer.state]
    lines += [INDENT + line for line in scratch]
    lines += ["", f"{INDENT}def update(k: int, hyper: dict[str, float]) -> None:"]
    lines += [f'{INDENT * 2}"""Step number k, in place."""']
    lines += [f'{INDENT * 2}{name} = hyper["{name}"]' for name in optimizer.defaults]
    lines += [INDENT * 2 + line for line in _shared(scalars, updates)]
    lines += [INDENT * 2 + line for line in body]
    return [*lines, "", f"{INDENT}return update"]


def _hoisted(optimizer: Optimizer, vectors: set[str]) -> tuple[dict[Symbol, Expr], dict[str, Expr]]:
    """Scalar parts computed once a step, and the updates in terms of them."""
    scalars: dict[Expr, Symbol] = {}

    def hoist(expr: Expr) -> Expr:
        if not {str(s) for s in expr.free_symbols} & vectors:
            if expr.is_Symbol or expr.is_number:
                return expr
            return scalars.setdefault(expr, sp.Symbol(f"h{len(scalars) + 1}", real=True))
        if isinstance(expr, sp.Add | sp.Mul):
            return _partly(expr, hoist, vectors)
        return expr.func(*map(hoist, expr.args)) if expr.args else expr

    updates = {str(symbol): hoist(expr) for symbol, expr in optimizer.updates.items()}
    return {symbol: expr for expr, symbol in scalars.items()}, updates


def _partly(expr: Expr, hoist: object, vectors: set[str]) -> Expr:
    """A sum or product whose scalar arguments are hoisted together."""
    assert callable(hoist)
    fixed = [a for a in expr.args if not {str(s) for s in a.free_symbols} & vectors]
    moving = [hoist(a) for a in expr.args if a not in fixed]
    sign = -1 if isinstance(expr, sp.Mul) and sp.Mul(*fixed).as_coeff_Mul()[0].is_negative else 1
    whole_part = expr.func(*fixed) if fixed else None
    if whole_part is None:
        return expr.func(*moving)
    return (
        sign * expr.func(hoist(sign * whole_part), *moving)
        if isinstance(expr, sp.Mul)
        else expr.func(hoist(whole_part), *moving)
    )


def _shared(scalars: dict[Symbol, Expr], updates: dict[str, Expr]) -> list[str]:
    """The lines of the hoisted scalars, each for all the updates that read it."""
    users = {symbol: [name for name, expr in updates.items() if symbol in expr.free_symbols] for symbol in scalars}
    return [Line(f"{symbol} = {scalar_text(value)}", users[symbol], UPDATE) for symbol, value in scalars.items()]


def _readable(updates: dict[str, Expr], vectors: dict[str, str]) -> list[str]:
    reads = {sp.Symbol(name, real=True): array for name, array in vectors.items()}
    printer = ArrayPrinter(reads)
    return [Line(f"{vectors[name]}[...] = {printer(expr)}", [name], UPDATE) for name, expr in updates.items()]


def _fast(updates: dict[str, Expr], vectors: dict[str, str]) -> tuple[list[str], set[str], list[str]]:
    code = Code({array: Array(array, (SIZE,), kind="gradient") for array in vectors.values()})
    reads = {sp.Symbol(name, real=True): whole(code.arrays[array]) for name, array in vectors.items()}
    for name, expr in updates.items():
        used = {s: view for s, view in reads.items() if s in expr.free_symbols}
        code.statements.append(Map(whole(code.arrays[vectors[name]]), expr, used, equation=name))
    calls = flatten(code)
    plan_memory(code, calls, ())
    functions: set[str] = set()
    lines: list[str] = []
    for call in calls:
        name = {"copy": "copyto", "fill": "copyto"}.get(call.function, call.function)
        functions.add(name)
        arguments = [a.array if isinstance(a, View) else scalar_text(a) for a in call.arguments]
        assert call.out is not None
        first = [call.out.array] if name == "copyto" else []
        last = [] if name == "copyto" else [call.out.array]
        lines.append(Line(f"{name}({', '.join([*first, *arguments, *last])})", [call.equation], UPDATE))
    made = [a for a in code.arrays.values() if a.kind == "buffer"]
    own = [f"{a.name} = np.empty_like(theta)" for a in made if a.alias is None]
    shared = [f"{a.name} = {a.alias.array}" for a in made if a.alias is not None]
    return lines, functions, [*own, *shared]
