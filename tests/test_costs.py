"""Costs: by hand, against a count over the loops, against PyTorch's counter, and against what a program allocates."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import strategies
import sympy as sp
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from sympy import Expr

import symgrad as sg
from symgrad.costs import Costs, costs
from symgrad.costs.kernels import OPERATIONS
from symgrad.costs.operations import definition_operations, scalar_operations
from symgrad.equations import System
from symgrad.expand import expand
from symgrad.index.definition import At, Definition, dimension
from symgrad.index.solution import KERNELS
from symgrad.pipeline import training_system

N, M = dimension("N"), dimension("M")
a, b, c = (At(k, ()) for k in range(3))


def perceptron() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 64)), sg.input("t", ("N", 10))
    h = sg.tanh(sg.matmul(x, sg.parameter("W1", (64, 32)), name="z") + sg.parameter("b1", (32,)), name="h")
    y = sg.matmul(h, sg.parameter("W2", (32, 10)), name="y")
    return sg.graph(sg.mse(y, t, name="loss"))


def convolution(stride: int = 1) -> nx.MultiDiGraph:
    x = sg.input("x", ("N", 2, 9, 9))
    y = sg.conv2d(x, sg.parameter("F", (5, 2, 3, 3)), stride=stride, name="y")
    z = sg.conv2d(y, sg.parameter("G", (4, 5, 3, 3)), name="z")
    return sg.graph(sg.sum(z * z, name="loss"))


def by_tensor(found: Costs) -> dict[str, Any]:
    return {e.tensor: e for e in found.equations}


# scalar bodies


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (a, (0, 0)),
        (a + b, (1, 0)),
        (a - b, (1, 0)),
        (-a - b, (2, 0)),  # -(a + b)
        (-a, (1, 0)),
        (a + b + 1 + N, (2, 0)),  # 1 + N is one number
        (a * b * c, (2, 0)),
        (2 * a * N, (1, 0)),
        (a / b, (1, 0)),
        (1 / a, (1, 0)),
        (1 / (a * b), (2, 0)),
        (a * b / (N * c), (3, 0)),
        ((2 * a - 2 * b) / (4 * N), (2, 0)),  # (a - b) times a number
        (2 * a - 2 * b, (2, 0)),
        ((a - b) ** 2, (2, 0)),
        (a**5, (3, 0)),  # a2 = a*a, a4 = a2*a2, a4*a
        (a**-2, (2, 0)),
        (sp.sqrt(a), (0, 1)),
        (1 / sp.sqrt(a), (1, 1)),
        (a**b, (0, 1)),
        (sp.exp(-a), (1, 1)),
        (1 - sp.tanh(a) ** 2, (2, 1)),
        (sp.tanh(a) * (1 - sp.tanh(a)), (2, 1)),  # tanh once
        (sp.Max(a, b, 0), (2, 0)),
        (sp.Abs(a), (1, 0)),
        (sp.Piecewise((a, a > 0), (0, True)), (1, 0)),
        (sp.Piecewise((a, (a > 0) & (b > 0)), (b * c, True)), (4, 0)),
        (sp.exp(N) + 1, (0, 0)),
    ],
)
def test_operations_of_a_scalar_body(body: Expr, expected: tuple[int, int]) -> None:
    assert scalar_operations(body) == expected


@st.composite
def bodies(draw: st.DrawFn, most: int = 10) -> tuple[Expr, int, int]:
    """A body that reads every element once, and the operations that it was put together with."""
    parts: list[Expr] = [At(k, ()) for k in range(draw(st.integers(1, most)))]
    arithmetic, calls = len(parts) - 1, 0
    while len(parts) > 1:
        left, right = parts.pop(), parts.pop()
        if draw(st.booleans()):
            left, calls = sp.log(left), calls + 1  # odd functions would pass their signs on
        made = draw(st.sampled_from([left + right, left - right, left * right, left / right, sp.Max(left, right)]))
        parts.insert(draw(st.integers(0, len(parts))), made)
    return parts[0], arithmetic, calls


@settings(max_examples=150, deadline=None)
@given(bodies())
def test_every_operation_of_a_body_counts_once(drawn: tuple[Expr, int, int]) -> None:
    body, arithmetic, calls = drawn
    assert scalar_operations(body) == (arithmetic, calls)


# by hand


def test_matmul() -> None:
    x, w = sg.input("x", ("N", "M")), sg.input("w", ("M", 7))
    found = costs(expand(sg.graph(outputs=[sg.matmul(x, w, name="y")])))
    assert by_tensor(found)["y"].flops == 14 * M * N
    assert found.flops == 14 * M * N
    assert (found.parameters, found.gradients, found.activations) == (0, 0, 0)
    assert found.workspace == found.memory == 28 * N  # y in float32


def test_perceptron() -> None:
    found = costs(sg.derive(perceptron()), "float64")
    flops = {e.tensor: (e.arithmetic, e.calls) for e in found.equations}
    assert flops["z"] == flops["d_W1"] == (2 * 64 * 32 * N, 0)
    assert flops["h"] == (32 * N, 32 * N)  # the bias, and tanh
    assert flops["y"] == flops["d_W2"] == flops["d_h"] == (2 * 32 * 10 * N, 0)
    assert flops["loss_r"] == flops["d_y"] == (10 * N, 0)  # y - t for loss and gradient, and a number times it
    assert flops["d_b1"] == (32 * N, 0)
    products = 2 * (2 * 64 * 32) + 3 * (2 * 32 * 10)
    backward = 32 * 3 + 32 + 10  # δ_h (1 - h²), its sums, δ_y
    assert found.flops == sp.expand((products + 64 + backward) * N + 30 * N + 1)  # (y - t)², its sum, times 1/(10 N)
    assert found.parameters == found.gradients == 8 * (64 * 32 + 32 + 32 * 10)
    assert found.activations == 8 * (32 + 10) * N  # h and y


def test_convolution() -> None:
    found = by_tensor(costs(sg.derive(convolution())))
    assert found["y"].flops == 2 * N * 5 * 7 * 7 * 2 * 3 * 3
    assert found["z"].flops == 2 * N * 4 * 5 * 5 * 5 * 3 * 3
    assert found["d_F"].flops == found["y"].flops
    assert found["d_G"].flops == found["z"].flops


def test_nodes_add_up_to_the_total() -> None:
    for graph in (perceptron(), convolution(stride=2)):
        found = costs(sg.derive(graph))
        assert sp.expand(sp.Add(*(n.forward + n.backward for n in found.nodes)) - found.flops) == 0
        assert sp.expand(sp.Add(*(n.bytes for n in found.nodes)) - found.parameters - found.activations) == 0
        assert {n.node for n in found.nodes} <= set(graph)


def test_max_pooling_belongs_to_its_node() -> None:
    """The counts of ties are equations of their own, which no node of the network has the name of."""
    x = sg.input("x", ("N", 1, 4, 4)) * sg.parameter("s", ())
    found = costs(sg.derive(sg.graph(sg.sum(sg.max_pool(x, 2, name="pooled"), name="loss"))))
    (ties,) = (e for e in found.equations if e.tensor.endswith("_ties"))
    assert (ties.node, ties.backward) == ("pooled", True)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (lambda x: x[::2], 0),  # written to places of their own
        (lambda x: x[::-1], 0),
        (lambda x: sg.concatenate([x, x], axis=0), 6),  # the sum of two contributions
        (lambda x: sg.take(x, sg.constant([1, 1, 2, 0])), 4),  # places that may coincide
    ],
)
def test_only_what_meets_is_added(of: Callable[[sg.Tensor], sg.Tensor], expected: int) -> None:
    x = sg.parameter("x", (6,))
    found = costs(sg.derive(sg.graph(sg.sum(sg.tanh(of(x), name="h"), name="loss"))))
    assert by_tensor(found)["d_x"].flops == expected


def test_every_matrix_function_has_a_cost() -> None:
    assert {call for call, _ in KERNELS} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (sg.inv, 2 * M**3),
        (sg.det, M**3 * sp.Rational(2, 3)),
        (lambda a: sg.solve(a, sg.input("b", ("M", 5))), M**3 * sp.Rational(2, 3) + 10 * M**2),
        (lambda a: sg.solve(a, sg.input("b", ("M",))), M**3 * sp.Rational(2, 3) + 2 * M**2),
    ],
)
def test_matrix_functions(of: Callable[[sg.Tensor], sg.Tensor], expected: Expr) -> None:
    y = of(sg.input("a", ("M", "M")))
    assert sp.expand(costs(expand(sg.graph(outputs=[y]))).flops - expected) == 0


# a count over the loops


def counted(system: System) -> tuple[int, int]:
    """(arithmetic, calls), one value of the loops after the other."""
    arithmetic = calls = 0
    for e in system:
        d = e.definition
        per_element = [scalar_operations(part, d.extents) for part in _hoisted(e.definition)]
        written: set[tuple[Expr, ...]] = set()
        points = list(itertools.product(*(range(int(n)) for _, n in d.loops)))
        for point in points:
            at = dict(zip(d.extents, map(sp.Integer, point), strict=True))
            written.add(tuple(w.xreplace(at) for w in d.write))
            arithmetic, calls = arithmetic + per_element[0][0], calls + per_element[0][1]
        scattered = any(w.has(At) for w in d.write)
        if scattered or len(written) < len(points):
            arithmetic += len(points)
            arithmetic += (len(per_element) - 1) * len(written)
    return arithmetic, calls


def _hoisted(d: Definition) -> list[Expr]:
    """The body, and a constant factor that a sum is multiplied with at the end."""
    constant = sp.Mul(*(f for f in sp.Mul.make_args(d.body) if not f.has(At, *d.extents)))
    summed = d.reduction == "sum" and d.gathers and d.reduced and constant not in (1, d.body)
    return [d.body / constant, constant] if summed else [d.body]


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strategies.networks(most=5))
def test_costs_are_a_count_over_the_loops(network: strategies.Network) -> None:
    wrt = network.parameters
    assume(wrt)
    derivation = sg.derive(network.graph, wrt=wrt)
    found = costs(derivation)
    assert (found.arithmetic, found.calls) == counted(training_system(derivation))


# other counters


def test_products_as_pytorch_counts_them() -> None:
    torch = pytest.importorskip("torch")
    counter = pytest.importorskip("torch.utils.flop_counter")
    weights = [torch.zeros(s, requires_grad=True) for s in ((5, 2, 3, 3), (4, 5, 3, 3))]
    with counter.FlopCounterMode(display=False) as mode:
        y = torch.nn.functional.conv2d(torch.zeros(6, 2, 9, 9), weights[0])
        (torch.nn.functional.conv2d(y, weights[1]) ** 2).sum().backward()
    found = by_tensor(costs(sg.derive(convolution())).at(N=6))
    # the adjoint of y is the fifth; its loops also run over what lies outside, which PyTorch does not count
    counted_twice = found["z"].flops
    assert mode.get_total_flops() == sum(found[name].flops for name in ("y", "z", "d_F", "d_G")) + counted_twice


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", [perceptron, convolution])
def test_memory_is_what_the_program_allocates(build: Any, dtype: str) -> None:
    derivation = sg.derive(build())
    found = costs(derivation, dtype).at(N=13)
    module = sg.emit(derivation, dtype=dtype).load()
    allocated: list[int] = []

    def make(shape: tuple[int, ...], kind: Any) -> np.ndarray:
        made = module._aligned(shape, kind)
        allocated.append(made.nbytes)
        return made

    params = module.init_params(0)
    grads = {name: np.zeros(np.shape(value), dtype) for name, value in params.items()}
    module._bind(params, grads, {"N": 13}, 1, 1, make)
    assert sum(allocated) == found.workspace
    assert sum(value.nbytes for value in params.values()) == found.parameters == found.gradients


# what is asked of them


def test_at_evaluates_every_number() -> None:
    found = costs(sg.derive(perceptron()))
    known = found.at(N=32)
    assert known.flops == found.flops.xreplace({N: sp.Integer(32)})
    assert known.memory == found.memory.xreplace({N: sp.Integer(32)})
    assert known.dimensions == ()
    numbers = [x for n in known.nodes for x in (n.forward, n.backward, n.bytes)]
    assert all(x.is_Integer for x in numbers)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n": 3}, "no dimension 'n'.*\n.*dimensions are N"),
        ({"N": 0}, "'N' is 0.*\n.*positive integer"),
        ({"N": True}, "'N' is True"),
        ({"N": 2.5}, "'N' is 2.5"),
    ],
)
def test_at_refuses(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(sg.ShapeError, match=message):
        costs(sg.derive(perceptron())).at(**sizes)


def test_unknown_dtype() -> None:
    with pytest.raises(sg.EmitError, match="unknown dtype 'float16'"):
        costs(sg.derive(perceptron()), "float16")


def test_table() -> None:
    x, w = sg.input("x", ("N", 3)), sg.parameter("w", (3,))
    derivation = sg.derive(sg.graph(sg.sum(sg.exp(sg.matmul(x, w, name="y"), name="e"), name="loss")))
    assert str(costs(derivation)) == (
        "node   forward FLOPs  backward FLOPs  bytes\n"
        "w      0              0               12\n"
        "y      6*N            6*N             0\n"
        "e      N              0               4*N\n"
        "loss   N              0               0\n"
        "total  8*N            6*N             4*N + 12\n"
        "\n"
        "FLOPs: 14*N, of which N are calls of functions such as exp\n"
        "memory in float32: 8*N + 28 bytes\n"
        "  parameters: 12\n"
        "  gradients: 12\n"
        "  workspace: 8*N + 4\n"
        "    of which values kept for the backward pass: 4*N"
    )
    assert str(costs(derivation).at(N=1000)).splitlines()[2] == "y      6,000          6,000           0"


def test_a_derivation_of_something_else_costs_its_own_equations() -> None:
    x, w = sg.input("x", (4, 3)), sg.parameter("w", (3,))
    derivation = sg.derive(sg.graph(outputs=[sg.matmul(x, w, name="y")]), of="y", seed="v", wrt=["w"])
    assert by_tensor(costs(derivation))["d_w"].flops == 2 * 4 * 3


def test_equal_definitions_are_counted_once() -> None:
    definition_operations.cache_clear()
    h = sg.input("x", ("N", 8))
    for k in range(6):
        h = sg.tanh(h @ sg.parameter(f"W{k}", (8, 8)))
    costs(sg.derive(sg.graph(sg.sum(h, name="loss"))))
    assert definition_operations.cache_info().misses < 12
