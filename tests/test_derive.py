"""The one derivation routine: what it covers, what it refuses, and that it stays the only one."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path
from typing import Any

import mpmath
import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import Network, networks

import symgrad
from symgrad.derive import derive_system, reverse
from symgrad.derive.reverse import _contribution
from symgrad.derive.scalar import scalar_derivative
from symgrad.equations import System
from symgrad.errors import DeriveError
from symgrad.evaluate.numeric import central_difference, precise_slope
from symgrad.evaluate.reference import Evaluation, evaluate
from symgrad.expand import expand
from symgrad.ops import OPS

ROOT = Path(symgrad.__file__).parent


def network(**nodes: tuple[Any, ...]) -> nx.MultiDiGraph:
    """A graph from name=("parameter", shape) or name=(op, operand, ..., {attributes})."""
    graph = nx.MultiDiGraph()
    if "loss" in nodes:
        graph.graph["loss"] = "loss"
    for name, (op, *rest) in nodes.items():
        if op in ("input", "parameter"):
            graph.add_node(name, op=op, shape=rest[0])
            continue
        attrs = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        graph.add_node(name, op=op, **attrs)
        for arg, source in enumerate(rest):
            graph.add_edge(source, name, arg=arg)
    return graph


def gradients(system: System, values: dict[str, Any], number: str = "float64") -> dict[str, np.ndarray]:
    found = evaluate(system, values, number, system.gradients.values())
    return {name: found[where] for name, where in system.gradients.items()}


# networks


def test_an_operand_that_is_used_twice_counts_twice() -> None:
    graph = network(x=("parameter", (3,)), y=("multiply", "x", "x"), loss=("sum", "y"))
    x = np.array([1.0, -2.0, 3.0])
    assert gradients(derive_system(expand(graph)), {"x": x})["x"].tolist() == (2 * x).tolist()


def test_a_parameter_shared_over_time() -> None:
    """h_t = tanh(h_{t-1} W + x), with W in every step: the gradient is the sum over the steps."""
    nodes: dict[str, tuple[Any, ...]] = {
        "W": ("parameter", (3, 3)),
        "h0": ("input", ("N", 3)),
        "x": ("input", ("N", 3)),
    }
    for t in range(1, 33):
        nodes[f"z{t}"] = ("matmul", f"h{t - 1}", "W")
        nodes[f"a{t}"] = ("add", f"z{t}", "x")
        nodes[f"h{t}"] = ("tanh", f"a{t}")
    graph = network(**nodes, loss=("mean", "h32"))
    random = np.random.default_rng(0)
    values = {
        "W": random.normal(size=(3, 3)) / 2,
        "h0": random.normal(size=(2, 3)),
        "x": random.normal(size=(2, 3)),
    }
    system = expand(graph)
    found = gradients(derive_system(system), values)["W"]
    assert found == pytest.approx(recurrent_gradient(**values), rel=1e-12)


def recurrent_gradient(W: np.ndarray, h0: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Backpropagation through time, by hand."""
    states = [h0]
    for _ in range(32):
        states.append(np.tanh(states[-1] @ W + x))
    delta, total = np.full(h0.shape, 1 / h0.size), np.zeros_like(W)
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        delta = delta * (1 - after**2)
        total += before.T @ delta
        delta = delta @ W.T
    return total


def chain(length: int) -> nx.MultiDiGraph:
    nodes: dict[str, tuple[Any, ...]] = {"x0": ("input", ("N", 4)), "W": ("parameter", (4, 4))}
    for k in range(length):
        nodes[f"z{k}"] = ("matmul", f"x{k}", "W")
        nodes[f"x{k + 1}"] = ("tanh", f"z{k}")
    return network(**nodes, loss=("mean", f"x{length}"))


def test_a_thousand_layers_differentiate_each_body_once() -> None:
    system = expand(chain(1000))
    scalar_derivative.cache_clear()
    _contribution.cache_clear()
    start = time.perf_counter()
    derived = derive_system(system)
    assert time.perf_counter() - start < 10
    assert scalar_derivative.cache_info().misses <= 5  # A*B by A and by B, tanh, the sum and the mean
    assert _contribution.cache_info().misses <= 8
    assert len(derived.equations) > 5000
    assert nx.is_directed_acyclic_graph(derived.to_graph())


def test_layers_of_different_names_are_equal_definitions() -> None:
    system = expand(chain(3))
    assert system.equations["z0"].definition == system.equations["z2"].definition


# derivatives of derivatives


def test_the_derived_graph_is_a_network_that_is_derived_again() -> None:
    """sum(x**3)/2: the gradient is 3 x**2/2, and the gradient of its sum is 3 x."""
    graph = network(x=("parameter", (3,)), y=("define", "x", {"formula": "Y = sum(i, X[i]**3)/2"}))
    graph.graph["loss"] = "y"
    once = derive_system(expand(graph)).to_graph()
    gradient = once.graph["gradients"]["x"]
    once.add_node("total", op="sum")
    once.add_edge(gradient, "total", arg=0)
    once.graph["loss"] = "total"
    x = np.array([1.0, -2.0, 0.5])
    again = derive_system(expand(once))
    assert gradients(again, {"x": x})["x"] == pytest.approx(3 * x)
    assert gradients(
        derive_system(expand(again.to_graph()), of=again.gradients["x"], wrt=["x"], seed="v"),
        {"x": x, "v": np.ones(3)},
    )["x"] == pytest.approx([3.0] * 3)


def test_the_hessian_of_a_network_is_symmetric() -> None:
    graph = network(
        x=("input", (4, 3)), W=("parameter", (3, 2)), z=("matmul", "x", "W"), y=("tanh", "z"),
        s=("softmax", "y"), q=("square", "s"), loss=("mean", "q"),
    )  # fmt: skip
    random = np.random.default_rng(1)
    values = {"x": random.normal(size=(4, 3)), "W": random.normal(size=(3, 2))}
    once = derive_system(expand(graph))
    twice = derive_system(once, of=once.gradients["W"], wrt=["W"], seed="v")
    columns = []
    for k in range(6):
        v = np.eye(6)[k].reshape(3, 2)
        columns.append(gradients(twice, values | {"v": v})["W"].ravel())
    hessian = np.array(columns)
    assert np.abs(hessian).max() > 1e-4
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-16)


# refusals


def small() -> nx.MultiDiGraph:
    return network(
        x=("input", (3,)), weight=("parameter", (3,)), unused=("parameter", (3,)),
        y=("multiply", "x", "weight"), loss=("sum", "y"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"wrt": ["unused"]}, "'loss' does not depend on 'unused'"),
        ({"wrt": None}, "'loss' does not depend on 'unused'"),
        ({"wrt": ["wieght"]}, "did you mean 'weight'?"),
        ({"of": "y"}, "'y' has shape (3,) and is no scalar"),
        ({"of": "los"}, "did you mean 'loss'?"),
        ({"of": "y", "wrt": ["x"], "seed": "weight"}, "'weight' is taken"),
        ({"of": "x"}, "'x' is not a computed tensor"),
    ],
)
def test_refusals_say_what_is_wrong(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DeriveError, match=re.escape(words)):
        derive_system(expand(small()), **arguments)


def test_a_graph_without_loss_or_parameters_is_refused() -> None:
    with pytest.raises(DeriveError, match="names no loss"):
        derive_system(expand(network(x=("parameter", (2,)), y=("sum", "x"))))
    with pytest.raises(DeriveError, match="has no parameters"):
        derive_system(expand(network(x=("input", (2,)), loss=("sum", "x"))))


def test_integers_have_no_gradient() -> None:
    graph = network(E=("parameter", (4, 2)), y=("embedding", "E", "t"), loss=("sum", "y"))
    graph.add_node("t", op="input", shape=(3,), dtype="int64")
    with pytest.raises(DeriveError, match="it holds int64"):
        derive_system(expand(graph), wrt=["t"])
    found = gradients(derive_system(expand(graph)), {"E": np.ones((4, 2)), "t": np.array([1, 3, 1])})
    assert found["E"].tolist() == [[0, 0], [2, 2], [0, 0], [1, 1]]


# random networks


def inner(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    return sum(
        (mpmath.mpf(float(x)) * mpmath.mpf(str(y)) for x, y in zip(a.flat, b.flat, strict=True)),
        mpmath.mpf(0),
    )


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks())
def test_gradients_of_random_networks(drawn: Network) -> None:
    check_network(drawn)


def check_network(drawn: Network) -> None:
    """Against differences in 50 digits, and central differences in float64, along one direction."""
    system = expand(drawn.graph)
    derived = derive_system(system, wrt=drawn.parameters)
    random = np.random.default_rng(0)
    u = {name: random.normal(size=drawn.values[name].shape) for name in drawn.parameters}
    at = Evaluation(system, drawn.values, "loss", "mp")
    slope = precise_slope(at, u)
    if slope.kink or not np.isfinite(float(at.value)):
        return
    with mpmath.workdps(50):
        precise = gradients(derived, drawn.values, "mp")
        found = sum(inner(u[name], precise[name]) for name in u)
        terms = sum(inner(np.abs(u[name]), np.abs(precise[name]) + 0) for name in u)
        true = mpmath.mpf(str(slope.right))
        assert abs(found - true) <= 1e-15 * terms + 1e-15 * abs(at.value)
    plain = gradients(derived, drawn.values)
    assert sum(float((u[name] * plain[name]).sum()) for name in u) == pytest.approx(
        float(true), rel=1e-9, abs=1e-12 * float(terms) + 1e-300
    )
    central = central_difference(Evaluation(system, drawn.values, "loss"), u)
    if central is not None:
        assert float(central) == pytest.approx(float(true), rel=1e-5, abs=1e-5 * (1 + float(terms)))


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks(most=4, kinks=False))
def test_second_derivatives_of_random_networks(drawn: Network) -> None:
    system = expand(drawn.graph)
    name = drawn.parameters[0]
    once = derive_system(system, wrt=[name])
    values = drawn.values | {"v": np.random.default_rng(1).normal(size=drawn.values[name].shape)}
    try:
        twice = derive_system(once, of=once.gradients[name], wrt=[name], seed="v")
    except DeriveError:
        twice = None
    at = Evaluation(once, values, once.gradients[name], "mp")
    u = np.random.default_rng(2).normal(size=drawn.values[name].shape)
    with mpmath.workdps(50):
        slope = precise_slope(at, {name: u})
        true = inner(values["v"], slope.right)
        if slope.kink:
            return
        found = inner(u, gradients(twice, values, "mp")[name]) if twice else mpmath.mpf(0)
        size = inner(np.abs(values["v"]), np.asarray(np.abs(slope.right)))
        assert abs(found - true) <= 1e-14 * (size + 1) + 1e-18 * np.max(np.abs(np.asarray(at.value)))


BODIES = (
    "{}*W[p]",
    "sin({})*W[p]",
    "exp(-{}**2)*W[p]",
    "{}*{}*W[p]",
    "softplus({} + W[p])",
    "where(p > 0, {}, W[p])*X[0]",
)

TARGETS = (
    ("Y[i:4]", "(p, 3)"),
    ("Y[p:3, i:4]", ""),
    ("Y[{} : 7]", "(i, 4), (p, 3)"),
    ("Y[T[i] : 5]", "(i, 4), (p, 3)"),
    ("Y[i:4, 2*p - 1 : 5]", "(p, 3)"),
)


@st.composite
def windows(draw: st.DrawFn) -> Network:
    """A window over X at stride*i + gap*p + start, of either sign, reaching out of X, read or written."""
    stride, gap, start = (draw(st.integers(-3, 3)) for _ in range(3))
    place = f"{stride}*i + {gap}*p + {start}"
    view = draw(st.sampled_from(["X[{}]", "X.reshape(2, 3)[{}, 1]", "X.reshape(2, 3)[1, {}]", "X[T[i] + 0*p]"]))
    body = draw(st.sampled_from(BODIES)).replace("{}", view.format(place).replace(" + 0*p", ""))
    target, bound = draw(st.sampled_from(TARGETS))
    value = f"sum({bound}, {body})" if bound else body
    text = f"{target.replace('{}', place)} = {value}"
    graph = nx.MultiDiGraph(loss="loss")
    graph.add_node("X", op="parameter", shape=(6,))
    graph.add_node("W", op="parameter", shape=(3,))
    graph.add_node("T", op="constant", value=[2, 0, 2, 1])
    graph.add_node("y", op="define", formula=text, operands=["X", "W", "T"])
    graph.add_node("s", op="sin")
    graph.add_node("loss", op="sum")
    edges = (("X", "y", 0), ("W", "y", 1), ("T", "y", 2), ("y", "s", 0), ("s", "loss", 0))
    for source, node, arg in edges:
        graph.add_edge(source, node, arg=arg)
    random = np.random.default_rng(3)
    return Network(graph, {"X": random.normal(size=6), "W": random.normal(size=3)})


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(windows())
def test_gradients_of_random_windows(drawn: Network) -> None:
    check_network(drawn)


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "sizes"),
    [
        (
            "conv2d",
            [("N", 2, "H", "W"), (3, 2, 3, 2)],
            {"stride": 2, "padding": 1},
            [(2, 2, 6, 5), (3, 2, 3, 2)],
        ),
        ("conv2d", [("N", 2, "H", "W"), (3, 2, 3, 2)], {"stride": (3, 1)}, [(2, 2, 5, 4), (3, 2, 3, 2)]),
        ("conv1d", [("N", "C", "L"), ("K", "C", "F")], {"dilation": 2}, [(2, 3, 8), (2, 3, 3)]),
        ("max_pool", [("N", "C", "L")], {"size": 3, "stride": 2, "padding": 1}, [(2, 1, 6)]),
        ("avg_pool", [("N", "C", "L")], {"size": 2}, [(2, 1, 7)]),
        ("slice", [("N", "M")], {"index": [[1, -1, 2], [None, None, -1]]}, [(6, 3)]),
        ("slice", [("N", "M")], {"index": [-1, [None, None, 3]]}, [(4, 5)]),
        ("concatenate", [("N", 2), ("M", 2)], {"axis": 0}, [(3, 2), (1, 2)]),
        ("reshape", [("N", 2, "M")], {"shape": ("N", -1)}, [(3, 2, 4)]),
        ("pad", [("N", 2)], {"widths": ((1, 2), (0, 1)), "value": 0.5}, [(3, 2)]),
        ("mean", [("N", "M")], {"axis": 0}, [(3, 2)]),
        ("var", [("N", "M")], {"ddof": 1}, [(3, 2)]),
        ("prod", [("N", "M")], {"axis": 1}, [(3, 2)]),
        ("softmax", [("N", "M")], {"axis": 0}, [(3, 2)]),
        ("layer_norm", [("N", "M"), ("M",), ("M",)], {}, [(3, 4), (4,), (4,)]),
        ("matmul", [("B", "N", "M"), ("M", "K")], {}, [(2, 3, 2), (2, 4)]),
    ],
)
def test_sizes_that_are_names(op: str, shapes: list[Any], attrs: dict[str, Any], sizes: list[Any]) -> None:
    graph = nx.MultiDiGraph(loss="loss")
    names = [f"p{k}" for k in range(len(shapes))]
    graph.add_node("y", op=op, **attrs)
    for k, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        graph.add_node(name, op="parameter", shape=shape)
        graph.add_edge(name, "y", arg=k)
    graph.add_node("s", op="sin")
    graph.add_node("loss", op="sum")
    graph.add_edge("y", "s", arg=0)
    graph.add_edge("s", "loss", arg=0)
    random = np.random.default_rng(4)
    check_network(Network(graph, {n: random.normal(size=size) for n, size in zip(names, sizes, strict=True)}))


def test_a_forgotten_contribution_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above notices an adjoint that leaves out a tensor's second user."""
    graph = network(p=("parameter", (3,)), a=("sin", "p"), b=("multiply", "p", "a"), loss=("sum", "b"))
    drawn = Network(graph, {"p": np.array([1.0, -2.0, 3.0])})
    check_network(drawn)

    def forgetful(self: Any, name: str) -> str:
        self.adjoints.setdefault(name, self.partials[name][0])
        return str(self.adjoints[name])

    monkeypatch.setattr(reverse._Reverse, "_adjoint", forgetful)
    with pytest.raises(AssertionError):
        check_network(drawn)


# the architecture

LATER_STAGES = ("derive", "simplify", "lower", "schedule", "emit")

# Ops whose names are words of NumPy, of the formula language or of English, too: a scalar function, a NumPy
# call that is emitted, or a reduction. A stage may have one of these as text; it may not have "conv2d".
WORDS = {
    "abs", "add", "clip", "cos", "divide", "dot", "einsum", "equal", "erf", "exp", "expm1", "eye", "gather",
    "greater", "greater_equal", "less", "less_equal", "log", "log1p", "matmul", "max", "maximum",
    "mean", "min", "minimum", "multiply", "negative", "not_equal", "outer", "power", "prod", "reshape",
    "sigmoid", "sign", "sin", "slice", "softplus", "solve", "sqrt", "square", "stack", "subtract", "sum", "take",
    "tanh", "transpose", "where",
}  # fmt: skip


def sources(*stages: str) -> list[Path]:
    return [path for stage in stages for path in sorted((ROOT / stage).rglob("*.py"))]


def words_of(path: Path) -> set[str]:
    """The string literals (docstrings apart) and identifiers of a module."""
    tree = ast.parse(path.read_text())
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            found.add(node.value)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("path", sources(*LATER_STAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_stage_after_the_expansion_knows_an_op(path: Path) -> None:
    names = {word.removeprefix("_") for word in words_of(path)}
    known = sorted(names & (OPS.keys() - WORDS))
    assert not known


@pytest.mark.parametrize("path", sources("derive"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_derivation_knows_reductions_only(path: Path) -> None:
    assert words_of(path) & OPS.keys() <= {"sum", "max", "min", "prod", "add", "sign", "solve"}


def test_the_list_of_words_is_needed() -> None:
    assert OPS.keys() >= WORDS
    assert {"conv2d", "softmax", "relu", "cross_entropy", "layer_norm", "embedding"} <= OPS.keys() - WORDS


def test_no_definition_stops_a_gradient() -> None:
    for path in ROOT.rglob("*.py"):
        assert "stop_gradient" not in path.read_text()


ORDER = (
    ("errors", "names", "passes", "machine"),
    ("writing", "markup"),
    ("index",),
    ("ops",),
    ("graph", "conventions", "initialise"),
    ("check", "equations"),
    ("expand",),
    ("drawing",),
    ("files",),
    ("builder", "expression", "derive", "optimizers"),
    ("simplify", "evaluate"),
    ("algebra",),
    ("lower",),
    ("optimise",),
    ("schedule",),
    ("emit",),
    ("pipeline",),
    ("costs", "calculus", "verify", "tune"),
    ("grade", "report"),
    ("differentiate", "demo"),
    ("cli",),
)
# They may read what is listed here, beside all that stands left of `simplify`. No stage reads them but the algebra,
# whose tensor expressions are those of `formula`; what stands behind the emitter does.
SIDE_EXITS: dict[str, set[str]] = {
    "formula": {"simplify", "evaluate"},
    "importers": set(),
    "data": set(),
}
READ_FROM = {"algebra": {"formula"}}  # a part -> the side exits that it and all behind it read


def imports_of(path: Path) -> set[str]:
    """The parts of the package that a module imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("symgrad.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "symgrad":
            found |= {
                alias.name
                for alias in node.names
                if (ROOT / alias.name).exists() or (ROOT / f"{alias.name}.py").exists()
            }
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("symgrad."):
            found.add(node.module.split(".")[1])
    return found


def allowed(part: str) -> set[str]:
    """What a part of the package may import: itself, its own level, and all that stands to the left."""
    before: set[str] = set()
    for level in ORDER:
        if part in SIDE_EXITS and "simplify" in level:
            return before | SIDE_EXITS[part] | {part}
        before |= {*level, *READ_FROM.get(level[0], ())}
        if part in level:
            return before
    raise AssertionError(f"symgrad.{part} has no place in ORDER")


def modules() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py")) if p.parent != ROOT or p.stem not in ("__init__", "__main__")]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_to_its_left(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("cli", "demo"):
        return  # they use everything, and nothing uses them
    assert imports_of(path) <= allowed(part)


def test_no_stage_reads_a_side_exit() -> None:
    for path in sources(*LATER_STAGES, "index", "ops"):
        assert not imports_of(path) & SIDE_EXITS.keys()
