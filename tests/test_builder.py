"""The builder: NumPy's names and operators, names for the nameless, and the same graph in every run."""

from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import symgrad as sg
from symgrad.builder import shape_of
from symgrad.errors import DtypeError, FormulaError, GraphError, ShapeError
from symgrad.expand import expand
from symgrad.ops import OPS
from symgrad.ops.registry import Attribute, Case, register


def ends(graph: nx.MultiDiGraph, node: str) -> list[str]:
    """The operands of a node, in order."""
    edges = graph.in_edges(node, data="arg")
    return [source for source, _, _ in sorted(edges, key=lambda edge: edge[2])]


def only(tensor: sg.Tensor) -> dict[str, Any]:
    """The attributes of the last node of the tensor's graph."""
    graph = sg.graph(outputs=tensor)
    return dict(graph.nodes[graph.graph["outputs"][0]])


def shape(tensor: sg.Tensor) -> tuple[str, ...]:
    return tuple(map(str, shape_of(tensor)))


x = sg.input("x", ("N", 4))
a = sg.input("a", (5, 4))
W = sg.parameter("W", (4, 3))
b = sg.parameter("b", (3,))


# the example of the documentation


def example() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 64)), sg.input("t", ("N",), dtype="int64")
    W1, b1 = sg.parameter("W1", (64, 32)), sg.parameter("b1", (32,))
    W2, b2 = sg.parameter("W2", (32, 10)), sg.parameter("b2", (10,))
    h = sg.tanh(x @ W1 + b1, name="h")
    return sg.graph(sg.cross_entropy(h @ W2 + b2, t, name="loss"))


def test_the_example() -> None:
    graph = example()
    assert isinstance(graph, nx.MultiDiGraph) and graph.graph == {"symgrad": 1, "loss": "loss"}
    assert {n: d["op"] for n, d in graph.nodes(data=True) if d["op"] not in ("input", "parameter")} == {
        "matmul1": "matmul",
        "z1": "add",
        "h": "tanh",
        "matmul2": "matmul",
        "z2": "add",
        "loss": "cross_entropy",
    }
    assert graph.nodes["x"] == {"op": "input", "shape": ("N", 64), "dtype": "float"}
    assert graph.nodes["W1"] == {"op": "parameter", "shape": (64, 32)}
    assert ends(graph, "matmul2") == ["h", "W2"] and ends(graph, "loss") == ["z2", "t"]
    assert expand(graph).outputs == ("z2",)


def test_the_same_graph_under_any_hash_seed() -> None:
    show = "graph = sg.graph(lstm(2)); print(graph.nodes(data=True), graph.edges(data=True))"
    code = f"{inspect.getsource(lstm)}\n{show}"
    root = str(Path(__file__).parent.parent)
    environment = {"PYTHONPATH": root}
    seen = [
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from typing import Any; import numpy as np; import symgrad as sg\n" + code,
            ],
            env=environment | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert seen[0] == seen[1] and b"mse" in seen[0]


# names


def names_of(tensor: sg.Tensor) -> list[str]:
    leaves = ("input", "parameter")
    return [n for n, d in sg.graph(outputs=tensor).nodes(data=True) if d["op"] not in leaves]


def test_a_contraction_without_bias_is_a_pre_activation() -> None:
    assert names_of(sg.relu(x @ W)) == ["z1", "relu1"]


def test_other_contractions_are_pre_activations_too() -> None:
    image, kernel = sg.input("image", ("N", 2, 8, 8)), sg.parameter("kernel", (3, 2, 3, 3))
    assert names_of(sg.relu(sg.conv2d(image, kernel) + sg.parameter("bias", (3, 1, 1)))) == [
        "conv2d1",
        "z1",
        "relu1",
    ]
    assert names_of(sg.einsum("ni,ij->nj", x, W)) == ["z1"]
    assert names_of(sg.define("Y[i, j] = sum(k, X[i, k]*V[k, j]) + c[j]", X=x, V=W, c=b)) == ["z1"]
    assert names_of(sg.define("Y[i] = sum(k, (X[i, k] - V[k])**2)", X=x, V=x[0])) == ["slice1", "define1"]


def test_a_sum_of_several_contractions_is_one_pre_activation() -> None:
    h, U = sg.input("h", ("N", 3)), sg.parameter("U", (3, 3))
    assert names_of(sg.tanh(x @ W + h @ U + b)) == ["matmul1", "matmul2", "add1", "z1", "tanh1"]


def test_what_else_is_added_is_no_part_of_it() -> None:
    h = sg.input("h", ("N", 3))
    assert names_of(h + x @ W) == ["z1", "add1"]
    assert names_of(sg.mean(x) + b) == ["mean1", "add1"]


def test_sums_and_means_are_no_contractions() -> None:
    assert names_of(sg.mean(x) * sg.sum(x)) == ["mean1", "sum1", "multiply1"]
    assert names_of(sg.cross_entropy(x, x, reduction="none")) == ["cross_entropy1"]
    assert names_of(sg.max_pool(sg.input("v", ("N", 2, 8)), 2)) == ["max_pool1"]


def test_names_of_users_are_kept_and_passed_over() -> None:
    first = sg.matmul(x, W, name="z2")
    second = sg.tanh(first, name="matmul1") @ sg.parameter("U", (3, 3))
    third = sg.exp(second) @ sg.parameter("V", (3, 3)) + b
    exp = sg.exp(third, name="exp2")
    assert names_of(sg.exp(exp)) == ["z2", "matmul1", "z3", "exp1", "matmul2", "z4", "exp2", "exp3"]


def test_layers_are_counted_with_the_named_ones() -> None:
    h = sg.tanh(sg.add(x @ W, b, name="first"))
    assert names_of(h @ sg.parameter("U", (3, 3)) + b) == ["matmul1", "first", "tanh1", "matmul2", "z2"]


def test_constants_are_numbered() -> None:
    y = x * 2 + sg.constant([1.0, 2.0, 3.0, 4.0], name="offset") - 2
    assert names_of(y) == ["c1", "multiply1", "offset", "add1", "c2", "subtract1"]


def test_two_tensors_of_one_name() -> None:
    y = sg.tanh(x, name="h") + sg.exp(x, name="h") + sg.input("x", ("N", 4))
    with pytest.raises(GraphError) as caught:
        sg.graph(outputs=y)
    text = str(caught.value)
    assert "2 faults" in text and "two tensors are named 'h'" in text and "two tensors are named 'x'" in text
    assert "<Tensor h = tanh(x)>" in text and "<Tensor h = exp(x)>" in text and "rename one" in text


@pytest.mark.parametrize(
    "name", ["", "1x", "x; import os", "x\ny", "\uff58", "class", "__init__", "a__b", "x" * 200, 3, ["x"]]
)
def test_names_are_checked_where_they_are_given(name: Any) -> None:
    for make in (lambda: sg.input(name, ()), lambda: sg.tanh(x, name=name), lambda: sg.constant(1, name)):
        with pytest.raises(GraphError, match="name"):
            make()


def test_leaves_have_names() -> None:
    with pytest.raises(GraphError, match="inputs and parameters have names"):
        sg.input(None, (2,))  # type: ignore[arg-type]


# operators


@pytest.mark.parametrize(
    ("made", "op", "operands"),
    [
        (x + x, "add", ["x", "x"]),
        (x - 1, "subtract", ["x", "c1"]),
        (1 - x, "subtract", ["c1", "x"]),
        (2 * x, "multiply", ["c1", "x"]),
        (x / 2, "divide", ["x", "c1"]),
        (2 / x, "divide", ["c1", "x"]),
        (x**2, "power", ["x", "c1"]),
        (2**x, "power", ["c1", "x"]),
        (x @ W, "matmul", ["x", "W"]),
        (np.ones((2, 4)) @ W, "matmul", ["c1", "W"]),
        (W.T @ np.ones(4), "matmul", ["transpose1", "c1"]),
        (-x, "negative", ["x"]),
        (abs(x), "abs", ["x"]),
        (x < 1, "less", ["x", "c1"]),
        (x > 1, "greater", ["x", "c1"]),
        (x <= a[0], "less_equal", ["x", "slice1"]),
        (x > 1, "greater", ["x", "c1"]),
        (x >= 1, "greater_equal", ["x", "c1"]),
        (np.ones(4) + x, "add", ["c1", "x"]),
        (np.float64(2) * x, "multiply", ["c1", "x"]),
        (np.ones(4) < x, "greater", ["x", "c1"]),
        (sg.equal(x, 1), "equal", ["x", "c1"]),
        (x.sum(), "sum", ["x"]),
        (x.T, "transpose", ["x"]),
    ],
)
def test_operators(made: sg.Tensor, op: str, operands: list[str]) -> None:
    graph = sg.graph(outputs=made)
    node = graph.graph["outputs"][0]
    assert graph.nodes[node]["op"] == op and ends(graph, node) == operands


def test_comparing_tensors_with_equals_compares_identity() -> None:
    same = x
    assert x == same and x != sg.input("x", ("N", 4)) and x in [a, x] and len({x, a, x}) == 2
    assert +x is x


def test_methods() -> None:
    assert only(x.mean(1, keepdims=True)) == {"op": "mean", "axis": 1, "keepdims": True}
    for method in ("sum", "mean", "max", "min", "prod", "var"):
        assert only(getattr(x, method)(axis=-1)) == {"op": method, "axis": -1}
    assert only(a.reshape(2, 10)) == only(a.reshape((2, 10))) == {"op": "reshape", "shape": (2, 10)}
    assert shape(a.transpose((1, 0))) == ("4", "5")


@pytest.mark.parametrize("use", [bool, iter, len, float, lambda t: t and 1, list, lambda t: 0 < t < 1])
def test_a_tensor_has_no_value(use: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"; use "):
        use(x)


def test_a_tensor_shows_what_it_is() -> None:
    assert repr(x) == "<Tensor x = input(shape=('N', 4), dtype='float')>"
    assert repr(sg.sum(x @ W, axis=1, name="s")) == "<Tensor s = sum(matmul(...), axis=1)>"
    assert len(repr(sg.stack([x] * 1000))) < 200 and len(repr(sg.constant(np.ones(10**5)))) < 200


def test_a_tensor_is_immutable() -> None:
    with pytest.raises(AttributeError):
        x.name = "y"  # type: ignore[misc]


# indexing

VALUES = np.arange(4 * 5 * 6).reshape(4, 5, 6)


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(2),
        slice(1, 3),
        slice(None, None, -1),
        (slice(1, 3), slice(None, None, 2)),
        (slice(None), 0),
        (Ellipsis, -1),
        (Ellipsis, slice(1, 2)),
        (0, Ellipsis, 0),
        Ellipsis,
        (),
        None,
        (Ellipsis, None),
        (slice(None), None),
        (None, 0, None, Ellipsis, None, slice(None)),
        (0, Ellipsis, None, slice(1, 2)),
        (0, None, slice(1, 3), None, 0),
        [0, 2],
        np.array([[1, 1], [0, 3]]),
        (slice(None), np.array([1, 1, 1])),
        (Ellipsis, np.array([1])),
        (slice(0, 2), [2, 2, 2, 2]),
    ],
)
def test_indexing_as_numpy_does(key: Any) -> None:
    tensor = sg.input("v", VALUES.shape)
    assert tuple(map(int, shape_of(tensor[key]))) == VALUES[key].shape


def test_what_an_index_becomes() -> None:
    assert only(a[1:3, ::2]) == {"op": "slice", "index": ((1, 3, None), (None, None, 2))}
    assert only(a[..., -1]) == {"op": "slice", "index": ((None, None, None), -1)}
    assert only(a[:, None]) == {"op": "expand_dims", "axis": (1,)}
    assert a[:] is a and a[...] is a
    t = sg.input("t", ("K",), dtype="int64")
    assert only(a[t]) == {"op": "take", "axis": 0} and shape(a[t]) == ("K", "4")
    assert only(a[:, t]) == {"op": "take", "axis": 1} and shape(a[1:, t]) == ("4", "K")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (True, "no index"),
        ("x", "no index"),
        (1.5, "no index"),
        (slice(0, 1.5), "no index"),
        (np.array([True, False]), "integers of 0 or more"),
        ([-1], "integers of 0 or more"),
        ((Ellipsis, Ellipsis), "one ... at most"),
        ((0, [1, 2]), "stands alone or beside slices only"),
        (([1, 2], [1, 2]), "stands alone or beside slices only"),
        ((None, [1, 2]), "stands alone or beside slices only"),
        (a > 0, "take"),
    ],
)
def test_indices_that_are_refused(key: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        sg.graph(outputs=a[key])


# op functions


def test_numpy_s_calls() -> None:
    assert only(sg.sum(x, axis=1, keepdims=True)) == {"op": "sum", "axis": 1, "keepdims": True}
    assert only(sg.sum(x, 1)) == {"op": "sum", "axis": 1}
    assert only(sg.concatenate([x, x], axis=1)) == only(sg.concatenate([x, x], 1)) == {"op": "concatenate", "axis": 1}
    assert only(sg.concatenate((x, x))) == {"op": "concatenate"}
    assert only(sg.stack([a, np.ones((5, 4))])) == {"op": "stack"}
    assert only(sg.einsum("ij,jk->ik", x, W)) == {"op": "einsum", "subscripts": "ij,jk->ik"}
    assert only(sg.where(x > 0, x, 0)) == {"op": "where"}
    assert only(sg.reshape(a, (2, 10))) == {"op": "reshape", "shape": (2, 10)}
    assert only(sg.clip(x, -1, 1)) == {"op": "clip", "low": -1, "high": 1}
    assert only(sg.sum(x, axis=np.int64(1), keepdims=np.bool_(True))) == {
        "op": "sum",
        "axis": 1,
        "keepdims": True,
    }
    image, kernel = sg.input("image", ("N", 1, 8, 8)), sg.parameter("kernel", (2, 1, 3, 3))
    assert only(sg.conv2d(image, kernel, stride=2)) == {"op": "conv2d", "stride": 2}


def test_every_op_has_a_function() -> None:
    for name, op in OPS.items():
        function = getattr(sg, name)
        assert function.__name__ == name and op.doc in function.__doc__ and name in dir(sg)
        parameters = inspect.signature(function).parameters
        assert set(op.attributes) == {
            p for p in parameters if parameters[p].kind is not inspect.Parameter.POSITIONAL_ONLY
        } - {
            "name",
            "operands",
        }
        assert parameters["name"].kind is inspect.Parameter.KEYWORD_ONLY
        assert len([p for p in parameters.values() if p.kind is p.POSITIONAL_ONLY]) == len(op.operands or ())
    assert str(inspect.signature(sg.sum)).startswith("(X, /, axis=None, keepdims=False, *, name=None)")
    assert str(inspect.signature(sg.einsum)).startswith("(*operands, subscripts, name=None)")


def test_an_op_that_a_user_registers() -> None:
    def formula(x: Any, gain: Any, name: Any, power: int, first: int) -> str:
        return f"Y[...] = (X[...]*G[...])**{power} + {first}"

    attributes = {"power": Attribute("int", 2), "first": Attribute("int")}
    case = Case(lambda x, g: (x * g) ** 2, ((2,), (2,)))
    register("doubled", "Y[...] = 2*X[...]", cases=[case])
    register(
        "gained",
        lambda x, g, power, first: formula(x, g, None, power, first),
        operands=["X", "G"],
        attributes=attributes,
        cases=[case],
    )
    try:
        assert only(sg.doubled(x)) == {"op": "doubled"}
        assert only(sg.gained(x, 2.0, 3, first=1)) == {"op": "gained", "power": 3, "first": 1}
        assert str(inspect.signature(sg.gained)).startswith("(X, G, /, first, power=2, *, name=None)")
        assert "doubled" in dir(sg)
    finally:
        del OPS["doubled"], OPS["gained"]
    with pytest.raises(AttributeError, match="symgrad has no op 'doubled'"):
        _ = sg.doubled


def test_an_unknown_function() -> None:
    with pytest.raises(AttributeError, match="symgrad has no op 'tahn'; did you mean 'tanh'"):
        _ = sg.tahn
    assert not hasattr(sg, "__wrapped__")


@pytest.mark.parametrize(
    ("call", "texts"),
    [
        (lambda: sg.sum(x, axes=1), ["sum: unknown attribute 'axes'", "did you mean 'axis'?"]),
        (lambda: sg.tanh(x, nane="h"), ["tanh: unknown attribute 'nane'", "did you mean 'name'?"]),
        (lambda: sg.tanh(X=x), ["tanh: expected 1 operands, got 0", "operands: X"]),
        (lambda: sg.add(x, x, B=x), ["add: unknown attribute 'B'", "operands have no keywords"]),
        (lambda: sg.add(x), ["add: expected 2 operands, got 1", "operands: A, B"]),
        (lambda: sg.concatenate([]), ["concatenate: expected 1 operands, got 0", "any number of tensors"]),
        (
            lambda: sg.tanh(x, 1),
            ["tanh: too many positional arguments: 1 too many, the last int 1", "it takes no attributes"],
        ),
        (lambda: sg.sum(x, 1, True, 3), ["sum: too many positional arguments", "it takes axis, keepdims"]),
        (lambda: sg.sum(x, 1, axis=2), ["sum: the attribute 'axis' is given twice"]),
        (lambda: sg.reshape(x), ["reshape: the attribute 'shape' is missing", "it is shape"]),
        (
            lambda: sg.sum(x, axis="1"),
            ["sum: the attribute 'axis' has the wrong type", "expected axes, got '1'"],
        ),
        (lambda: sg.sum(x, axis="1", axes=2), ["2 faults", "has the wrong type", "unknown attribute 'axes'"]),
        (lambda: sg.sum(x, axis=x), ["the attribute 'axis' has the wrong type", "got <Tensor x"]),
    ],
)
def test_calls_that_are_refused(call: Callable[[], Any], texts: list[str]) -> None:
    with pytest.raises(GraphError) as caught:
        call()
    assert all(text in str(caught.value) for text in texts), str(caught.value)


@pytest.mark.parametrize("value", ["abc", None, {}, [x, x], [[1], [2, 3]], 1j, object(), print, 10**30])
def test_operands_that_are_no_tensors(value: Any) -> None:
    for call in (lambda: sg.add(x, value), lambda: x + value):
        with pytest.raises(DtypeError, match="add: operand B: a constant is a number or nested lists of numbers, not "):
            call()
    with pytest.raises(DtypeError):
        sg.constant(value)


def test_constants() -> None:
    assert only(sg.constant(2)) == {"op": "constant", "value": 2}
    assert only(sg.constant(np.float32(0.5))) == {"op": "constant", "value": 0.5}
    assert only(sg.constant([[1, 2]])) == {"op": "constant", "value": [[1, 2]]}
    assert type(only(sg.constant(np.ones(2)))["value"][0]) is float
    with pytest.raises(GraphError, match=r"node 'c1' .constant.: the constant is not finite"):
        sg.graph(outputs=x * float("nan"))


def test_shapes_and_inits_are_plain() -> None:
    assert only(sg.input("v", 3)) == {"op": "input", "shape": (3,), "dtype": "float"}
    assert only(sg.input("v", "N"))["shape"] == ("N",)
    assert only(sg.input("v", [np.int64(2), "N"]))["shape"] == (2, "N")
    assert only(sg.parameter("p", (), init=["normal", np.float64(0.5)])) == {
        "op": "parameter",
        "shape": (),
        "init": ("normal", 0.5),
    }


# define


def test_define() -> None:
    s = sg.parameter("s", (3,))
    y = sg.define("Y[i, j] = tanh(X[i, j])*s[j]", s=s, X=x @ W, name="y")
    graph = sg.graph(outputs=y)
    assert graph.nodes["y"] == {
        "op": "define",
        "formula": "Y[i, j] = tanh(X[i, j])*s[j]",
        "operands": ["s", "X"],
    }
    assert ends(graph, "y") == ["s", "z1"]
    assert shape(sg.define("Y[i] = X[i, 0]*r", X=x, r=2.5)) == ("N",)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: sg.define("Y[i] = X[i, 0]"),
            GraphError,
            "define: the operand 'X' of the formula is not given",
        ),
        (lambda: sg.define("Y[i] = X[i, 0]", X=x, Z=x), GraphError, "define: the formula does not read 'Z'"),
        (lambda: sg.define("Y[i] = gain[i]", gian=x, gain=x), GraphError, "did you mean 'gain'?"),
        (lambda: sg.define("Y[i] = X[i, 0]; import os", X=x), FormulaError, "an equation has the form"),
        (lambda: sg.define("Y[i] =", X=x), FormulaError, "the formula is malformed"),
        (lambda: sg.define("", X=x), FormulaError, "the formula is empty"),
        (lambda: sg.define(3, X=x), FormulaError, "a formula is text, not int"),
        (lambda: sg.define("Y[i] = X[i, 0]", X="x"), DtypeError, "a constant is a number"),
    ],
)
def test_define_refuses(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and text in str(caught.value)


# the graph


def test_outputs() -> None:
    h = sg.tanh(x, name="h")
    assert sg.graph(sg.mean(h, name="loss"), outputs=[h, x]).graph == {
        "symgrad": 1,
        "loss": "loss",
        "outputs": ["h", "x"],
    }
    assert sg.graph(outputs=h).graph == {"symgrad": 1, "outputs": ["h"]}
    both = sg.graph(sg.mean(x), outputs=sg.exp(h))
    assert {"mean1", "exp1", "h"} <= set(both)


@pytest.mark.parametrize("args", [(), (None, []), (3,), ("loss",), (None, [3])])
def test_a_graph_needs_tensors(args: tuple[Any, ...]) -> None:
    with pytest.raises(GraphError, match=r"a graph needs a loss or outputs|the loss and the outputs are tensors"):
        sg.graph(*args)


def test_all_shape_faults_are_reported_at_once() -> None:
    first, second = x @ sg.parameter("V", (5, 3)), sg.add(x, b, name="bias")
    with pytest.raises(ShapeError) as caught:
        sg.graph(sg.mean(sg.sum(first) + sg.sum(second), name="loss"))
    assert [fault.node for fault in caught.value.faults] == ["matmul1", "bias"]
    assert "path: loss <- add1 <- sum1 <- matmul1" in str(caught.value)
    assert "'x' has shape (N, 4); 'V' has shape (5, 3)" in str(caught.value)


def test_a_loss_is_a_scalar() -> None:
    with pytest.raises(ShapeError, match=r"the loss has shape .N, 3. and should be a scalar"):
        sg.graph(x @ W)


def test_shared_tensors_are_one_node() -> None:
    h = sg.tanh(x)
    graph = sg.graph(outputs=h * h + h)
    assert [d["op"] for _, d in graph.nodes(data=True)] == ["input", "tanh", "multiply", "add"]
    assert ends(graph, "multiply1") == ["tanh1", "tanh1"]


def test_building_leaves_no_trace() -> None:
    before = {**vars(sg.builder)}
    first = sg.graph(sg.mean(sg.tanh(x @ W + b)))
    second = sg.graph(sg.mean(sg.tanh(x @ W + b)))
    assert nx.utils.graphs_equal(first, second) and vars(sg.builder) == before


# size


def test_a_long_chain() -> None:
    h = sg.input("v", ("N",))
    for _ in range(2500):
        h = sg.tanh(h) + 1.5
    graph = sg.graph(outputs=h)
    assert len(graph) == 7501 and {"tanh2500", "add2500", "c2500"} <= set(graph)
    del h


def test_a_chain_of_parts_takes_linear_time() -> None:
    h = sg.input("v", ("N", 3))
    for k in range(800):
        h = sg.softmax(h) + sg.parameter(f"b{k}_x", (3,))
    start = time.perf_counter()
    sg.graph(outputs=h)
    assert time.perf_counter() - start < 10


def rnn(steps: int) -> Any:
    sequence = sg.input("x", ("N", steps, 8))
    U, V, c = sg.parameter("U", (8, 16)), sg.parameter("V", (16, 16)), sg.parameter("c", (16,))
    h: Any = sg.constant(np.zeros((1, 16)))
    for k in range(steps):
        h = sg.tanh(sequence[:, k] @ U + h @ V + c)
    return sg.mse(h @ sg.parameter("R", (16, 1)), sg.input("t", ("N", 1)), name="loss")


def lstm(steps: int) -> Any:
    sequence = sg.input("x", ("N", steps, 8))
    U, V, c = sg.parameter("U", (8, 64)), sg.parameter("V", (16, 64)), sg.parameter("c", (64,))
    h: Any = np.zeros((1, 16))
    state: Any = np.zeros((1, 16))
    for k in range(steps):
        z = sequence[:, k] @ U + h @ V + c
        keep, write, show = (sg.sigmoid(z[:, 16 * g : 16 * g + 16]) for g in range(3))
        state = keep * state + write * sg.tanh(z[:, 48:])
        h = show * sg.tanh(state)
    return sg.mse(h @ sg.parameter("R", (16, 1)), sg.input("t", ("N", 1)), name="loss")


@pytest.mark.parametrize(("network", "size"), [(rnn, 201), (lstm, 586)])
def test_recurrent_networks_unroll(network: Callable[[int], sg.Tensor], size: int) -> None:
    start = time.process_time()
    graph = sg.graph(network(32))
    expand(graph)
    assert time.process_time() - start < 3
    assert sum(d["op"] == "parameter" for _, d in graph.nodes(data=True)) == 4
    assert graph.out_degree("U") == graph.out_degree("V") == 32
    assert {f"z{k}" for k in range(1, 34)} <= set(graph) and "z34" not in graph
    assert len(graph) == size
