"""The graph's schema, and the refusals of a bad graph: one typed error each, which says what to change."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from symgrad.check import check
from symgrad.errors import DtypeError, FormulaError, GraphError, ShapeError, SymgradError
from symgrad.expand import expand
from symgrad.index.functions import CONSTANTS, FUNCTIONS
from symgrad.ops import OPS
from symgrad.ops.registry import REQUIRED

DOCS = Path(__file__).parent.parent / "docs" / "graph-format.md"


def chain(op: Any = "tanh", count: int = 1, of: Any = ("N", 4), **attrs: Any) -> nx.MultiDiGraph:
    """y = op(x0, x1, ...)"""
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node("y", op=op, **attrs)
    for k in range(count):
        graph.add_node(f"x{k}", op="input", shape=of)
        graph.add_edge(f"x{k}", "y", arg=k)
    return graph


def leaf(**attrs: Any) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node("y", **attrs)
    return graph


def refused(graph: Any, kind: type[SymgradError], *texts: str, node: str | None = "y") -> SymgradError:
    with pytest.raises(SymgradError) as caught:
        expand(graph)
    error = caught.value
    assert type(error) is kind, error
    assert node is None or error.node == node
    for text in texts:
        assert text in str(error), str(error)
    return error


def test_a_good_graph_passes() -> None:
    graph = chain()
    check(graph)
    assert expand(graph).outputs == ("y",)


# structure


def test_a_cycle_is_named_from_end_to_end() -> None:
    graph = nx.MultiDiGraph(symgrad=1)
    for name in "abc":
        graph.add_node(name, op="tanh")
    for source, target in ("ab", "bc", "ca"):
        graph.add_edge(source, target, arg=0)
    error = refused(graph, GraphError, "the graph has a cycle", node=None)
    assert error.path[0] == error.path[-1] and sorted(error.path[:-1]) == ["a", "b", "c"]


def test_a_node_that_is_its_own_operand() -> None:
    graph = chain("add")
    graph.add_edge("y", "y", arg=1)
    refused(graph, GraphError, "the graph has a cycle", "path: y <- y")


def test_undeclared_nodes() -> None:
    graph = nx.MultiDiGraph()
    graph.add_edge("x", "y", arg=0)
    error = refused(graph, GraphError, "2 faults", "node 'x': the node is not declared: it has no op", node=None)
    assert [fault.node for fault in error.faults] == ["x", "y"]
    assert "add_node(name, op=...)" in str(error)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((0, 2), "arg 1 is missing"),
        ((1, 2), "arg 0 is missing"),
        ((0, 0), "arg 0 is given twice, by 'x0', 'x1'"),
        ((0,), "expected 2 operands, got 1"),
        ((0, 1, 2), "expected 2 operands, got 3"),
        ((0, None), "the edge from 'x1' has arg None"),
        ((0, "1"), "the edge from 'x1' has arg '1'"),
        ((0, 1.0), "has arg 1.0"),
        ((0, True), "has arg True"),
        ((0, -1), "has arg -1"),
        ((0, [1]), "has arg [1]"),
    ],
)
def test_missing_doubled_and_malformed_args(args: tuple[Any, ...], text: str) -> None:
    graph = leaf(op="add")
    for k, arg in enumerate(args):
        graph.add_node(f"x{k}", op="input", shape=(2,))
        graph.add_edge(f"x{k}", "y", arg=arg)
    refused(graph, GraphError, "node 'y' (add): ", text, "hint: ")


def test_an_edge_without_arg() -> None:
    graph = leaf(op="tanh")
    graph.add_node("x", op="input", shape=(2,))
    graph.add_edge("x", "y")
    refused(graph, GraphError, "has arg None", "add_edge('x', 'y', arg=0) for the first operand")


def test_leaves_take_no_operands_and_ops_need_them() -> None:
    refused(_with_operand(), GraphError, "expected 0 operands, got 1")
    refused(leaf(op="concatenate"), GraphError, "the op needs an operand")
    refused(leaf(op="tanh"), GraphError, "expected 1 operands, got 0", "operands: X")


def _with_operand() -> nx.MultiDiGraph:
    graph = leaf(op="input", shape=(2,))
    graph.add_node("x", op="input", shape=(2,))
    graph.add_edge("x", "y", arg=0)
    return graph


@pytest.mark.parametrize("graph", [None, 3, "x", nx.Graph(), nx.DiGraph(), nx.MultiGraph(), {}])
def test_other_graphs_are_refused(graph: Any) -> None:
    refused(graph, GraphError, "a network is a networkx.MultiDiGraph, not " + type(graph).__name__, node=None)


def test_an_empty_graph() -> None:
    refused(nx.MultiDiGraph(), GraphError, "the graph has no nodes", node=None)


# ops and attributes


@pytest.mark.parametrize(
    ("op", "hint"),
    [
        ("tahn", "did you mean 'tanh'?"),
        ("conv_2d", "did you mean 'conv2d'?"),
        ("paramter", "did you mean 'parameter'?"),
        ("qqqqq", "symgrad.OPS lists the ops"),
        (3, "symgrad.OPS lists the ops"),
        (["tanh"], "unknown op ['tanh']"),
        ("__class__", "unknown op '__class__'"),
    ],
)
def test_unknown_ops(op: Any, hint: str) -> None:
    refused(chain(op), GraphError, f"unknown op {op!r}", hint)


def test_a_huge_op_is_not_repeated_in_full() -> None:
    assert len(str(refused(chain("a" * 10**6), GraphError, "unknown op"))) < 1000


@pytest.mark.parametrize(
    ("op", "attrs", "texts"),
    [
        ("sum", {"axes": 1}, ["unknown attribute 'axes'", "did you mean 'axis'?"]),
        ("tanh", {"slope": 1}, ["unknown attribute 'slope'", "it takes no attributes"]),
        ("sum", {"axis": "1"}, ["the attribute 'axis' has the wrong type", "expected axes, got '1'"]),
        ("sum", {"axis": True}, ["expected axes, got True"]),
        ("sum", {"axis": 1.0}, ["expected axes, got 1.0"]),
        ("sum", {"keepdims": 1}, ["expected bool, got 1"]),
        ("reshape", {}, ["the attribute 'shape' is missing", "it is shape"]),
        ("leaky_relu", {"slope": float("nan")}, ["expected float, got nan"]),
        ("leaky_relu", {"slope": float("inf")}, ["expected float, got inf"]),
        ("leaky_relu", {"slope": 10**400}, ["expected float, got 1000"]),
        ("dropout", {"rate": 1.0}, ["expected rate, got 1.0"]),
        ("gelu", {"approximate": "tan"}, ["expected none|tanh, got 'tan'"]),
        ("gelu", {"approximate": ["tanh"]}, ["expected none|tanh, got ['tanh']"]),
        ("gelu", {"approximate": np.array(["tanh", "none"])}, ["expected none|tanh, got array"]),
        ("one_hot", {"depth": -1}, ["expected size, got -1"]),
        ("slice", {"index": [[1, 2]]}, ["expected index, got [[1, 2]]"]),
        ("pad", {"widths": "1"}, ["expected widths, got '1'"]),
        ("einsum", {"subscripts": 3}, ["expected text, got 3"]),
        ("input", {"shape": (2,), "value": 3}, ["unknown attribute 'value'", "it takes dtype, shape"]),
    ],
)
def test_attributes(op: str, attrs: dict[str, Any], texts: list[str]) -> None:
    count = 0 if op == "input" else 1 if OPS[op].operands is None else len(OPS[op].operands)
    refused(chain(op, count, **attrs) if op != "input" else leaf(op=op, **attrs), GraphError, *texts)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (None, "the shape is missing or no tuple: None"),
        ("N", "the shape is missing or no tuple: 'N'"),
        (3, "the shape is missing or no tuple: 3"),
        (np.array([2, 3]), "the shape is missing or no tuple: array"),
        (("N", None), "the size None is neither a whole number nor a name"),
        ((True,), "the size True is neither"),
        ((2.0,), "the size 2.0 is neither"),
        (({},), "the size {} is neither"),
        ((-1,), "the size -1 is not from 0 to"),
        (("-1",), "the size '-1' is not from 0 to"),
        ((10**30,), "is not from 0 to 9223372036854775807"),
        (("lambda",), "the formula is malformed"),
        (("a__b",), "dimension 'a__b': the name has a double underscore"),
        (("N" * 101,), "the name is longer than 100 characters"),
        (("pi",), "dimension 'pi': the name is a number's"),
        (("i0",), "dimension 'i0': the name is kept for indices"),
        (("N; import os",), "malformed"),
        (("__import__('os')",), "a size is an integer, a name, or + - * // ** of sizes"),
        (("N**N",), "the power of a size is a number from 0 to 8"),
        (("N//0",), "// divides sizes by positive sizes only"),
        (("9" * 50,), "the number has more than 40 digits"),
        (("Ñ",), "the formula has the character '\\xd1'"),
        (("",), "the formula is malformed"),
        (("(" * 300 + "N" + ")" * 300,), "the formula is"),
    ],
)
def test_shapes(shape: Any, text: str) -> None:
    graph = leaf(op="input", shape=shape)
    with pytest.raises(GraphError) as caught:
        expand(graph)
    assert text in str(caught.value) and caught.value.node == "y"


@pytest.mark.parametrize(
    ("init", "text"),
    [
        ("he", "unknown init 'he': one of zeros, ones"),
        ({}, "init {} is neither a scheme nor a number"),
        ((), "init () is neither a scheme nor a number"),
        ([["a"], 1], "is neither a scheme nor a number"),
        ([None], "unknown init None"),
        (True, "init True is neither a scheme nor a number"),
        (float("nan"), "init 'constant' takes 1 finite numbers, got [nan]"),
        (10**400, "is neither a scheme nor a number"),
        (["normal", 10**400], "is neither a scheme nor a number"),
        (["normal"], "init 'normal' takes 1 finite numbers, got []"),
        (["uniform", 0, "x"], "init 'uniform' takes 2 finite numbers"),
        (np.zeros(2), "is neither a scheme nor a number"),
    ],
)
def test_inits(init: Any, text: str) -> None:
    refused(leaf(op="parameter", shape=(2,), init=init), GraphError, text)


@pytest.mark.parametrize("init", ["he_normal", 0.5, 1, ["normal", 0.02], ("uniform", -1, 1), ["constant", 2]])
def test_good_inits(init: Any) -> None:
    check(leaf(op="parameter", shape=(2,), init=init))


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("float32", "did you mean 'float'?"),
        ("int", "did you mean 'int64'?"),
        ("complex", "one of float, int64, bool; emit(dtype=...) sets the precision"),
        (None, "one of float, int64, bool"),
        (float, "one of"),
        (["float"], "did you mean"),
        (np.zeros(2), "one of"),
    ],
)
def test_unknown_dtypes(dtype: Any, hint: str) -> None:
    refused(leaf(op="input", shape=(2,), dtype=dtype), DtypeError, "node 'y' (input): unknown dtype", hint)


def test_an_index_that_is_no_integer_tensor() -> None:
    graph = chain("embedding", 2, of=(3, 3))
    refused(graph, FormulaError, "an index must be an integer tensor", "give the operand dtype='int64'")


def test_labels_that_are_floats() -> None:
    graph = chain("cross_entropy", 2)
    graph.nodes["x1"]["shape"] = ("N",)
    refused(graph, ShapeError, "do not fit targets of shape (N,)", "targets are int64 labels")


# values


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (float("nan"), GraphError, "the constant is not finite"),
        (float("-inf"), GraphError, "the constant is not finite"),
        ([[1.0, 2.0], [3.0, float("inf")]], GraphError, "the constant is not finite at index [1, 1]"),
        (np.array([1.0, np.nan]), GraphError, "the constant is not finite at index [1]"),
        (None, DtypeError, "a constant is a number or nested lists of numbers of equal length"),
        ("1", DtypeError, "a constant is a number"),
        (1j, DtypeError, "a constant is a number"),
        ([[1], [2, 3]], DtypeError, "a constant is a number"),
        ({}, DtypeError, "a constant is a number"),
        ([None], DtypeError, "a constant is a number"),
        (10**400, DtypeError, "a constant is a number"),
        (2**63, DtypeError, "the constant does not fit int64"),
        ([2**63], DtypeError, "the constant does not fit int64"),
    ],
)
def test_constants(value: Any, kind: type[SymgradError], text: str) -> None:
    refused(leaf(op="constant", value=value), kind, text)


def test_a_constant_without_value() -> None:
    refused(leaf(op="constant"), DtypeError, "a constant is a number")


@pytest.mark.parametrize(("op", "left", "right"), [("divide", 1, 0), ("power", 0, -1), ("multiply", 1e300, 1e300)])
def test_constants_whose_result_is_not_finite(op: str, left: float, right: float) -> None:
    graph = leaf(op=op)
    for k, value in enumerate((left, right)):
        graph.add_node(f"c{k}", op="constant", value=value)
        graph.add_edge(f"c{k}", "y", arg=k)
    refused(graph, FormulaError, "not", "finite")


def test_powers_of_constants_are_not_written_out() -> None:
    graph = leaf(op="power")
    for k in range(2):
        graph.add_node(f"c{k}", op="constant", value=2**62)
        graph.add_edge(f"c{k}", "y", arg=k)
    refused(graph, FormulaError, "the exponent 4611686018427387904 is too large")


# names

BAD_NAMES = [
    ("", "not an ASCII identifier"),
    ("1x", "not an ASCII identifier"),
    ("x y", "not an ASCII identifier"),
    ("x; import os", "not an ASCII identifier"),
    ("x\nimport os", "not an ASCII identifier"),
    ("x'", "not an ASCII identifier"),
    ('x"""', "not an ASCII identifier"),
    ("x\u200b", "not an ASCII identifier"),
    ("\uff58", "not an ASCII identifier"),  # fullwidth x, which Python reads as x
    ("\u0445", "not an ASCII identifier"),  # Cyrillic ha
    ("h\u00e9", "not an ASCII identifier"),
    ("\ud800", "not an ASCII identifier"),
    ("class", "a Python keyword"),
    ("None", "a Python keyword"),
    ("match", "a Python keyword"),
    ("lambda", "a Python keyword"),
    ("__init__", "not an ASCII identifier"),
    ("x__", "a double underscore"),
    ("a__b", "a double underscore"),
    ("_", "not an ASCII identifier"),
    ("x" * 200, "longer than 100 characters"),
    (3, "a name is text, not int"),
    (("a", 1), "a name is text, not tuple"),
    (b"x", "a name is text, not bytes"),
    (None.__class__, "a name is text, not type"),
]


@pytest.mark.parametrize(("name", "text"), BAD_NAMES)
def test_names_that_are_no_identifiers(name: Any, text: str) -> None:
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node(name, op="input", shape=(2,))
    refused(graph, GraphError, text, "letters, digits and _, starting with a letter", node=str(name)[:120])


@pytest.mark.parametrize("name", ["x", "W1", "_hidden", "x_", "x" * 100, "Loss", "print"])
def test_good_names(name: str) -> None:
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node(name, op="input", shape=(2,))
    check(graph)


# graph attributes


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"symgrad": 2}, "the graph says format 2, this is format 1"),
        ({"symgrad": "1"}, "the graph says format '1'"),
        ({"symgrad": None}, "the graph says format None"),
        ({"symgrad": np.array([1, 1])}, "the graph says format array"),
        ({"loss": "yy"}, "loss names 'yy', which is no node"),
        ({"loss": ["y"]}, "loss names ['y'], which is no node"),
        ({"loss": 3}, "loss names 3, which is no node"),
        ({"outputs": "y"}, "outputs is a list of node names, not 'y'"),
        ({"outputs": 5}, "outputs is a list of node names, not 5"),
        ({"outputs": ["nope"]}, "outputs names 'nope', which is no node"),
        ({"outputs": [["y"]]}, "outputs names ['y'], which is no node"),
        ({"gradients": 5}, "gradients maps node names to node names, not 5"),
        ({"gradients": {"y": "q"}}, "gradients names 'q', which is no node"),
        ({"gradients": {"y": ["z"]}}, "gradients names ['z'], which is no node"),
    ],
)
def test_graph_attributes(attributes: dict[str, Any], text: str) -> None:
    graph = chain()
    graph.graph.update(attributes)
    refused(graph, GraphError, text, node=None)


def test_the_nearest_node_is_suggested_for_a_loss() -> None:
    graph = nx.relabel_nodes(chain(), {"y": "output"})
    graph.graph["loss"] = "outptu"
    refused(graph, GraphError, "did you mean 'output'?", node=None)


def test_a_loss_that_is_no_scalar() -> None:
    graph = chain()
    graph.graph["loss"] = "y"
    refused(graph, ShapeError, "node 'y' (tanh): the loss has shape (N, 4) and should be a scalar", "sum or mean")


# shapes


def test_all_shape_clashes_are_reported_at_once() -> None:
    graph = nx.MultiDiGraph(symgrad=1, loss="loss")
    graph.add_node("x", op="input", shape=("N", 4))
    graph.add_node("W1", op="parameter", shape=(5, 8))
    graph.add_node("W2", op="parameter", shape=(7, 3))
    graph.add_node("b", op="parameter", shape=(3,))
    for name, op, operands in (
        ("fc1", "matmul", ("x", "W1")),
        ("fc2", "matmul", ("x", "W2")),
        ("bias", "add", ("x", "b")),
        ("after", "tanh", ("fc1",)),
        ("both", "add", ("after", "fc2")),
        ("more", "add", ("both", "bias")),
        ("loss", "sum", ("more",)),
    ):
        graph.add_node(name, op=op)
        for k, operand in enumerate(operands):
            graph.add_edge(operand, name, arg=k)
    error = refused(graph, ShapeError, "5 faults", node=None)  # behind a fault too, with the shape that was meant
    assert [fault.node for fault in error.faults] == ["fc1", "fc2", "bias", "both", "more"]
    first = str(error.faults[0])
    assert "node 'fc1' (matmul): index k differs between operands" in first
    assert "'x' has shape (N, 4); 'W1' has shape (5, 8)" in first
    assert "path: loss <- more <- both <- after <- fc1" in first
    assert "shapes (N, 4) and (3,) do not broadcast: 4 against 3 on axis -1" in str(error.faults[2])


@pytest.mark.parametrize(
    ("op", "attrs", "text"),
    [
        ("sum", {"axis": 5}, "axis 5 does not exist in 2 dimensions"),
        ("sum", {"axis": -3}, "axis -3 does not exist"),
        ("sum", {"axis": 10**30}, "does not exist"),
        ("sum", {"axis": (0, 0)}, "names an axis twice"),
        ("reshape", {"shape": (3, -1, -1)}, "reshape can work out one size only"),
        ("reshape", {"shape": (3,)}, "cannot be reshaped"),
        ("reshape", {"shape": ("import os",)}, "the formula is malformed"),
        ("broadcast_to", {"shape": (3, 4, 5)}, "does not broadcast to"),
        ("broadcast_to", {"shape": (-1, "N", 4)}, "there cannot be -1 of an index"),
        ("transpose", {"axes": (0, 0)}, "do not permute"),
        ("squeeze", {"axis": 1}, "has size 4 and cannot be squeezed"),
        ("slice", {"index": [0, 0, 0]}, "is indexed with 3 entries"),
        ("slice", {"index": [0, 4]}, "index 4 is out of range for size 4"),
        ("slice", {"index": [[0, 1, 0]]}, "a slice step cannot be 0"),
        ("pad", {"widths": [[1]]}, "pad needs (before, after)"),
        ("pad", {"widths": -1}, "pad needs (before, after)"),
        ("var", {"ddof": 4, "axis": 1}, "this is not a finite number"),
        ("one_hot", {"depth": 10**50}, "digits"),
        ("max_pool", {"size": 2}, "pooling needs (batch, channels, space...)"),
        ("einsum", {"subscripts": "ij,jk->ik"}, "names 2 operands, got 1"),
        ("einsum", {"subscripts": "ij;import os"}, "characters other than letters"),
        ("concatenate", {"axis": 5}, "axis 5 does not exist"),
    ],
)
def test_attributes_that_the_shapes_do_not_allow(op: str, attrs: dict[str, Any], text: str) -> None:
    with pytest.raises(GraphError) as caught:
        expand(chain(op, 1, **attrs))
    assert text in str(caught.value) and caught.value.node == "y", str(caught.value)


def test_faults_of_structure_come_before_those_of_shape_and_all_at_once() -> None:
    graph = chain("sum", axis="1")
    graph.nodes["x0"]["shape"] = ("N", None)
    graph.add_node("c", op="constant", value="x")
    error = refused(graph, GraphError, "3 faults", node=None)
    assert {fault.node for fault in error.faults} == {"y", "x0", "c"}
    assert DtypeError in {type(fault) for fault in error.faults}


# formulas in a graph


@pytest.mark.parametrize(
    ("operands", "text"),
    [
        (5, "operands is a list of names, not 5"),
        ("X", "operands is a list of names, not 'X'"),
        ([3], "operands: a name is text, not int: 3"),
        (["X y"], "operands: the name is not an ASCII identifier: 'X y'"),
        (["X", "X"], "operands names an operand twice"),
        ([], "expected 0 operands, got 1"),
        (["X", "Z"], "expected 2 operands, got 1"),
    ],
)
def test_operands_of_a_define_node(operands: Any, text: str) -> None:
    refused(chain("define", formula="Y[i, j] = X[i, j]", operands=operands), GraphError, text)


@pytest.mark.parametrize("formula", [None, 3, b"Y[i] = X[i]", ["Y"]])
def test_a_formula_that_is_no_text(formula: Any) -> None:
    refused(chain("define", formula=formula), GraphError, "a define node needs its formula as text")


def test_a_dimension_may_have_the_name_of_an_operand() -> None:
    graph = nx.MultiDiGraph(symgrad=1, loss="loss")
    graph.add_node("x", op="input", shape=("A", "T"))
    graph.add_node("h", op="mean", axis=0)
    graph.add_edge("x", "h", arg=0)
    graph.add_node("loss", op="mean")
    graph.add_edge("h", "loss", arg=0)
    derived = expand(graph).to_graph()
    again = expand(derived)
    assert again.equations["loss"].definition == expand(graph).equations["loss"].definition
    assert again.shape("h") == expand(graph).shape("h")


def test_many_operands() -> None:
    graph = leaf(op="concatenate")
    for k in range(300):
        graph.add_node(f"x{k}", op="input", shape=("N", 2))
        graph.add_edge(f"x{k}", "y", arg=k)
    system = expand(graph)
    assert str(system.shape("y")) == "(300*N, 2)"
    assert expand(system.to_graph()).equations["y"].definition == system.equations["y"].definition


def test_a_derived_graph_of_long_and_odd_names_is_a_good_graph() -> None:
    for name in ("x_", "_x", "x" * 100):
        graph = nx.MultiDiGraph(symgrad=1)
        graph.add_node("p", op="parameter", shape=(3,))
        graph.add_node(name, op="logsumexp")
        graph.add_edge("p", name, arg=0)
        derived = expand(graph).to_graph()
        assert len(derived) > 2
        check(derived)


# the documentation


def ops_table() -> str:
    """The table of docs/graph-format.md, from the registry."""
    rows = ["| op | operands | attributes | definition |", "|---|---|---|---|"]
    for op in OPS.values():
        operands = "any number" if op.operands is None else ", ".join(op.operands)
        attributes = ", ".join(_attribute(name, a) for name, a in op.attributes.items())
        definition = " ".join(op.doc.split()).replace("|", "\\|")
        rows.append(f"| `{op.name}` | {operands} | {attributes} | `{definition}` |")
    return "\n".join(rows)


def _attribute(name: str, attribute: Any) -> str:
    default = "" if attribute.default is REQUIRED else f" = {attribute.default!r}"
    return f"`{name}`: {attribute.kind}{default}".replace("|", " or ")


def functions_text() -> str:
    names = ", ".join(f"`{name}`" + f" ({count} arguments)" * (count > 1) for name, (count, _) in FUNCTIONS.items())
    numbers = " and ".join(f"`{name}`" for name in CONSTANTS)
    return f"Functions: {names}. Numbers with a name: {numbers}."


def updated(text: str) -> str:
    for name, made in (("ops", ops_table()), ("functions", functions_text())):
        pattern = rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
        text = re.sub(pattern, lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text, flags=re.DOTALL)
    return text


def test_the_documented_ops_are_the_registered_ones() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text == updated(text), "run: python tests/test_graph.py"


def test_the_documented_grammar_is_the_parser_s() -> None:
    from symgrad.index import parser

    grammar = re.search(r"    program .*?broadcasts\n", inspect.getdoc(parser) or "", re.DOTALL)
    assert grammar
    names = "numbers, + - * / **, comparisons, and/or/not, "
    assert grammar[0].replace(names + "FUNCTIONS", names + "functions") in DOCS.read_text(encoding="utf-8")


if __name__ == "__main__":
    DOCS.write_text(updated(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
