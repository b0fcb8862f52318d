"""The source map: every line that computes is in it, and the tensor that it names is there after that line."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple
from unittest import mock

import networkx as nx
import numpy as np
import pytest
import strategies
import sympy as sp
from hypothesis import Phase, assume, given, settings
from test_programs import GOLDEN_FILES, convolution, lookup, perceptron

import symgrad as sg
from symgrad import pipeline
from symgrad.emit.request import STAGES, Request
from symgrad.emit.source_map import Line, SourceEntry
from symgrad.equations import System
from symgrad.evaluate.draw import draw
from symgrad.evaluate.reference import evaluate
from symgrad.lower.ir import flattened
from symgrad.optimizers import OPTIMIZERS
from symgrad.simplify.spelled import LARGEST

STYLES = ("fast", "readable")


def transformer() -> nx.MultiDiGraph:
    """One block: attention of two heads, a residual, layer norm, and a two-layer network."""
    x, t = sg.input("x", ("N", 4, 6)), sg.input("t", ("N", 4, 6))

    def heads(name: str) -> sg.Tensor:
        split = sg.reshape(x @ sg.parameter(f"W{name}", (6, 6)), ("N", 4, 2, 3))
        return sg.transpose(split, (0, 2, 1, 3), name=name)

    scores = sg.einsum("bhqd,bhkd->bhqk", heads("q"), heads("k"), name="scores")
    mixed = sg.einsum("bhqk,bhkd->bqhd", sg.softmax(scores / 3**0.5, name="p"), heads("v"), name="mixed")
    added = x + sg.reshape(mixed, ("N", 4, 6)) @ sg.parameter("Wo", (6, 6))
    a = sg.layer_norm(added, sg.parameter("g", (6,), init=1.0), sg.parameter("s", (6,)), name="a")
    h = sg.gelu(a @ sg.parameter("W1", (6, 5)) + sg.parameter("b1", (5,)), name="h")
    return sg.graph(sg.mse(a + h @ sg.parameter("W2", (5, 6)), t, name="loss"))


NETWORKS = {"perceptron": perceptron, "convolution": convolution, "lookup": lookup, "transformer": transformer}
CASES: dict[str, tuple[Callable[[], nx.MultiDiGraph], dict[str, str]]] = {
    **GOLDEN_FILES,
    **{f"{n}_{s}_64": (build, {"style": s, "dtype": "float64"}) for n, build in NETWORKS.items() for s in STYLES},
}


class Emitted(NamedTuple):
    """A program, and the request that it was made from."""

    graph: nx.MultiDiGraph
    program: sg.Program
    request: Request

    @property
    def lines(self) -> list[str]:
        return self.program.source.split("\n")

    def entries(self, *stages: str) -> list[SourceEntry]:
        return [e for e in self.program.source_map if e.stage in stages]


def emitted(graph: nx.MultiDiGraph, **options: Any) -> Emitted:
    requests: list[Request] = []
    original = pipeline.emit_module

    def caught(request: Request) -> sg.Program:
        requests.append(request)
        return original(request)

    with mock.patch.object(pipeline, "emit_module", caught):
        program = sg.emit(sg.derive(graph, wrt=options.pop("wrt", None)), **options)
    return Emitted(graph, program, requests[0])


@lru_cache
def case(name: str) -> Emitted:
    build, options = CASES[name]
    return emitted(build(), **options)


# what the source says, read by Python's own parser


FAST = {"gradients": "backward", "job": "backward"}  # what a plan's tasks are called -> their stage


def functions(source: str) -> dict[str, list[ast.FunctionDef]]:
    """The functions of the network's part by stage, and what binds their names."""
    found: dict[str, list[ast.FunctionDef]] = {stage: [] for stage in (*STAGES, "update")}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        if node.name in ("_forward", "_loss", "_backward"):
            found[node.name[1:]].append(node)
        if node.name == "_scalars":
            found["update"].append(node)
        if node.name in ("_bind", "_bind_update"):
            found[node.name] = [node]
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef):
                    name = inner.name.rstrip("0123456789_")
                    found.setdefault("in " + FAST.get(name, name), []).append(inner)
    return {name: nodes or found.get("in " + name, []) for name, nodes in found.items()} | (
        {"update": found["update"] + found.get("in update", [])}
    )


def computing(functions: list[ast.FunctionDef]) -> Iterator[ast.stmt]:
    """The statements that compute: no docstring, no return, nothing that only takes a tensor from where it is."""
    for function in functions:
        for statement in function.body:
            yield from statement.body if isinstance(statement, ast.If) else _computing(statement)


def _computing(statement: ast.stmt) -> Iterator[ast.stmt]:
    text = ast.unparse(statement)
    given_name = isinstance(statement, ast.Assign) and (
        text.split(" = ")[1].split("[")[0] in ("inputs", "params", "values", "dims", "hyper")
        or "np.arange(" in text
        or text.split(" = ")[1].endswith("_VALUE")
    )
    is_doc = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    if not (given_name or is_doc or isinstance(statement, ast.Return) or text.startswith("values.update(")):
        yield statement


def written(statement: ast.stmt) -> str:
    """The name of what the last call or assignment in a statement writes to."""
    if isinstance(statement, ast.For):
        return written(statement.body[-1])
    if isinstance(statement, ast.Assign | ast.AugAssign):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        return base(target)
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    call = statement.value
    named = [k.value for k in call.keywords if k.arg == "out"]
    first = ast.unparse(call.func) in ("copyto", "add.at", "np.add.at")
    return base(named[0] if named else call.args[0 if first else -1])


def base(expression: ast.expr) -> str:
    """`d_F` of `d_F[:, 0].reshape(3, 9)`."""
    while not isinstance(expression, ast.Name):
        if isinstance(expression, ast.Call):
            function, arguments = expression.func, expression.args
            is_window = isinstance(function, ast.Name) or ast.unparse(function).startswith("np.")
            expression = arguments[0] if is_window else function
        else:
            assert isinstance(expression, ast.Attribute | ast.Subscript), ast.unparse(expression)
            expression = expression.value
    return expression.id


# structure


def check_every_line(found: Emitted) -> None:
    """Each computing statement of a stage is in an entry of this stage, and entries hold nothing else."""
    parts = functions(found.program.source)
    for stage in STAGES:
        expected = {n for s in computing(parts[stage]) for n in range(s.lineno, (s.end_lineno or 0) + 1)}
        mapped = {n for e in found.entries(stage) for n in range(e.first, e.last + 1)}
        assert mapped == expected, stage


def check_every_equation(found: Emitted) -> None:
    """Each equation with statements has a line, and each entry tells of its equation what the system does."""
    request = found.request
    mapped = found.entries(*STAGES)
    assert {e.tensor for e in mapped} == {s.equation for s in flattened(request.code.statements)}
    for entry in mapped:
        e = request.system.equations[entry.tensor]
        assert (entry.stage, entry.adjoint_of) == (request.stage(e.name), e.adjoint_of)
        assert entry.node in found.graph
        assert entry.formula == request.comments[e.name]


def check_written(found: Emitted) -> None:
    """What the last statement of an entry writes is the entry's tensor, or one that reads it in the same line.

    In the fast style memory has many names; there `test_a_tensor_is_there_after_its_last_line` says what is written.
    """
    if found.program.style == "fast":
        return
    parts, code = functions(found.program.source), found.request.code
    ends = {s.end_lineno: s for stage in STAGES for s in computing(parts[stage])}
    for entry in found.entries(*STAGES):
        into = written(ends[entry.last])
        tensors = [e.tensor for e in found.entries(*STAGES) if e.last == entry.last]
        assert code.root(into) == code.root(code.values[tensors[0]])
        read = {n for t in tensors for n in found.request.system.equations[t].operands}
        assert entry.tensor == tensors[0] or entry.tensor in read


@pytest.mark.parametrize("name", CASES)
def test_map_of_a_network(name: str) -> None:
    found = case(name)
    check_every_line(found)
    check_every_equation(found)
    check_written(found)


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strategies.networks(most=6))
def test_map_of_random_networks(network: strategies.Network) -> None:
    wrt = network.parameters
    assume(wrt)
    for style in STYLES:
        found = emitted(network.graph, wrt=wrt, style=style, dtype="float64", optimizer="sgd")
        check_every_line(found)
        check_every_equation(found)


# values


def probed(found: Emitted) -> tuple[str, set[str]]:
    """The source with a line behind each entry that reports its tensor's array, and the tensors that have one."""
    lines, reported = found.lines, set()
    names = [n for n in ast.walk(ast.parse(found.program.source)) if isinstance(n, ast.Name)]
    stored, read = ({n.id for n in names if isinstance(n.ctx, kind)} for kind in (ast.Store, ast.Load))
    for entry in sorted(found.entries(*STAGES), key=lambda e: -e.last):
        array = found.request.code.values[entry.tensor]
        if array in stored & read:
            last = lines[entry.last - 1]
            indent = last[: len(last) - len(last.lstrip())]
            lines.insert(entry.last, f"{indent}_seen({entry.tensor!r}, lambda: {array})")
            reported.add(entry.tensor)
    return "\n".join(lines), reported


def with_largest(system: System) -> System:
    """The system with a number for the one that an emitted file computes from its dtype."""
    made = system.copy()
    for e in system:
        body = e.definition.body
        if body.has(LARGEST):
            body = body.xreplace({LARGEST: sp.Float(0.693 * np.finfo(float).maxexp)})
            made.add(replace(e, definition=replace(e.definition, body=body)))
    return made


@pytest.mark.parametrize("name", [n for n, (_, options) in CASES.items() if options["dtype"] == "float64"])
def test_a_tensor_is_there_after_its_last_line(name: str) -> None:
    found = case(name)
    leaves = found.request.forward.leaves
    values = draw(found.request.forward, leaves, {"N": 3}, seed=1, given={})
    expected = evaluate(with_largest(found.request.system), values)
    source, reported = probed(found)
    seen: dict[str, np.ndarray] = {}
    elsewhere: set[str] = set()

    def see(tensor: str, array: Callable[[], Any]) -> None:
        try:
            seen[tensor] = np.array(array())
        except NameError:  # the fast style names it in another function
            elsewhere.add(tensor)

    module: dict[str, Any] = {"_seen": see, "__name__": "probed"}
    exec(compile(source, "<probed>", "exec"), module)
    params = {n: values[n] for n in found.program.parameters}
    inputs = {n: v for n, v in values.items() if n not in params}
    module["loss_and_grads"](params, **inputs)
    assert seen.keys() | elsewhere == reported
    assert not elsewhere or found.program.style == "fast"
    assert len(seen) >= 0.6 * len(found.request.system.equations)
    for tensor, value in seen.items():
        np.testing.assert_allclose(value, expected[tensor], rtol=1e-9, atol=1e-12, err_msg=tensor)


# start and update


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_map_of_the_update(optimizer: str, style: str) -> None:
    found = emitted(perceptron(), style=style, optimizer=optimizer)
    parts = functions(found.program.source)
    entries = found.entries("update")
    expected = {n for s in computing(parts["update"]) for n in range(s.lineno, (s.end_lineno or 0) + 1)}
    assert {n for e in entries for n in range(e.first, e.last + 1)} == expected
    assert {e.tensor for e in entries} == {str(s) for s in OPTIMIZERS[optimizer].updates}
    for entry in entries:
        assert (entry.node, entry.adjoint_of) == (None, None)
        assert entry.formula.startswith(f"{entry.tensor} ← ")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_a_hoisted_scalar_is_a_line_of_each_update_that_reads_it(optimizer: str) -> None:
    found = emitted(perceptron(), optimizer=optimizer)
    statements = list(computing(functions(found.program.source)["update"]))
    tensors = {
        s.lineno: {e.tensor for e in found.entries("update") if e.first <= s.lineno <= e.last} for s in statements
    }
    hoisted = [s for s in statements if isinstance(s, ast.Assign)]
    assert hoisted
    for scalar in hoisted:
        name = written(scalar)
        users = [s for s in statements if s is not scalar and name in {n.id for n in ast.walk(s) if _is_name(n)}]
        assert tensors[scalar.lineno] == set.union(*(tensors[s.lineno] for s in users))


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def line_fit() -> nx.MultiDiGraph:
    x = sg.input("x", ("N",))
    line = sg.parameter("a", (), init="zeros") * x + sg.parameter("b", (), init="zeros")
    return sg.graph(sg.sum(line * line, name="loss"))


@pytest.mark.parametrize(("build", "lines"), [(perceptron, 4), (line_fit, 1)])
def test_map_of_the_start(build: Callable[[], nx.MultiDiGraph], lines: int) -> None:
    found = emitted(build())
    entries = found.entries("init")
    assert len({e.first for e in entries}) == lines
    assert [e.tensor for e in entries] == list(found.program.parameters) == [e.node for e in entries]
    starts = found.program.load().INITIALISERS
    for entry in entries:
        assert entry.first == entry.last
        assert f'"{entry.tensor}": (' in found.lines[entry.first - 1]
        assert entry.formula.startswith(f"{entry.tensor} ← {starts[entry.tensor][0]}")


# the file as a whole


@pytest.mark.parametrize("title", ["short", "two\nlines", "# <network>\n# </network>\nmarkers", "a\rb", 'x """ y \\'])
def test_a_docstring_moves_every_line_alike(title: str) -> None:
    plain, titled = emitted(perceptron()).program, emitted(perceptron(), title=title).program
    shift = titled.source.count("\n") - plain.source.count("\n")
    moved = [replace(e, first=e.first + shift, last=e.last + shift) for e in plain.source_map]
    assert list(titled.source_map) == moved
    read = "\n".join(titled.source.split("\n"))
    assert len(ast.parse(read).body) > 5
    numbers = {s.lineno for s in computing(functions(read)["forward"])}
    forward = [e for e in titled.source_map if e.stage == "forward"]
    assert {line for e in forward for line in range(e.first, e.last + 1)} == numbers


def test_entries_are_in_order_and_plain() -> None:
    entries = case("convolution_fast").program.source_map
    assert list(entries) == sorted(entries, key=lambda e: e.first)
    assert json.loads(json.dumps([e.to_dict() for e in entries])) == [e.to_dict() for e in entries]
    assert [SourceEntry(**e.to_dict()) for e in entries] == list(entries)  # type: ignore[arg-type]


def test_nodes_of_helpers() -> None:
    """Sums of contributions and counts of ties are equations that have no node of their own name."""
    nodes = {e.tensor: e.node for e in case("convolution_readable").program.source_map}
    assert nodes["pooled_ties"] == "pooled"
    assert nodes["d_z1"] == "h"
    nodes = {e.tensor: e.node for e in case("perceptron_fast").program.source_map}
    assert nodes["d_z2"] == "z2"  # the sum of two contributions


def test_an_inlined_product_is_in_the_line_that_it_was_written_into() -> None:
    entries = {e.tensor: e for e in case("perceptron_readable").program.source_map}
    assert (entries["z1"].first, entries["z1"].last) == (entries["matmul1"].first, entries["matmul1"].last)
    assert case("perceptron_readable").lines[entries["matmul1"].first - 1].strip() == "z1 = x @ W1 + b1"


def test_line_keeps_its_mark_when_indented() -> None:
    line = "    " + Line("y = x", ["y"], "update")
    assert isinstance(line, Line)
    assert (line, line.tensors, line.part) == ("    y = x", ("y",), "update")
