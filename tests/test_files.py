"""Files: what is written comes back, is written whole, and what is no network is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgrad as sg
from symgrad.derive import derive_system
from symgrad.errors import FileError, GraphError
from symgrad.expand import expand
from symgrad.files import MAX_BYTES

equal = nx.utils.graphs_equal


def network() -> nx.MultiDiGraph:
    x = sg.input("x", ("N", 6))
    W = sg.parameter("W", (6, 3), init=["normal", 0.02])
    y = sg.reshape(x @ W, ("N", 3, 1))[1:, :, 0]
    y = sg.define("Y[i, j] = tanh(X[i, j])*s", X=y, s=sg.parameter("s", ()), name="y")
    return sg.graph(sg.sum(y * y, axis=(0, 1)) + sg.constant([1.5, -2]).sum(), outputs=[y])


def saved(graph: nx.MultiDiGraph, folder: Path) -> nx.MultiDiGraph:
    sg.save_graph(graph, folder / "network.json")
    return sg.load_graph(folder / "network.json")


def document(**changes: Any) -> dict[str, Any]:
    nodes = [{"id": "x", "op": "input", "shape": ["N"]}, {"id": "y", "op": "tanh"}]
    edges = [{"source": "x", "target": "y", "key": 0, "arg": 0}]
    whole = {"directed": True, "multigraph": True, "graph": {"symgrad": 1}, "nodes": nodes, "edges": edges}
    return {k: v for k, v in (whole | changes).items() if v is not ...}


def loaded(content: Any, folder: Path) -> nx.MultiDiGraph:
    raw = content if isinstance(content, bytes | str) else json.dumps(content)
    (folder / "file.json").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return sg.load_graph(folder / "file.json")


# what is written comes back


def test_a_network_comes_back(tmp_path: Path) -> None:
    graph = network()
    again = saved(graph, tmp_path)
    assert equal(again, graph)
    assert list(again) == list(graph) and again.nodes["x"]["shape"] == ("N", 6)
    assert again.graph == graph.graph == {"symgrad": 1, "loss": graph.graph["loss"], "outputs": ["y"]}


def test_a_derived_graph_comes_back(tmp_path: Path) -> None:
    derived = derive_system(expand(network())).to_graph()
    assert derived.graph["gradients"]
    again = saved(derived, tmp_path)
    assert equal(again, derived) and again.graph == derived.graph
    assert expand(again).gradients == expand(derived).gradients


def test_numpy_values_are_written_as_numbers(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph()
    graph.add_node("a", op="constant", value=np.array([[1.0, 0.1], [-0.0, 1e-300]]))
    graph.add_node("b", op="constant", value=np.float64(0.1))
    graph.add_node("c", op="constant", value=np.int64(3))
    again = saved(graph, tmp_path)
    assert again.nodes["a"]["value"] == [[1.0, 0.1], [-0.0, 1e-300]]
    assert str(again.nodes["a"]["value"][1][0]) == "-0.0"
    assert (again.nodes["b"]["value"], again.nodes["c"]["value"]) == (0.1, 3)
    assert isinstance(graph.nodes["a"]["value"], np.ndarray), "the graph that is saved stays as it is"


def test_parallel_edges_and_their_keys_come_back(tmp_path: Path) -> None:
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node("x", op="input", shape=(2,))
    graph.add_node("y", op="multiply")
    graph.add_edge("x", "y", key="left", arg=1)
    graph.add_edge("x", "y", key=7, arg=0)
    assert equal(saved(graph, tmp_path), graph)


def test_networkx_reads_and_writes_the_same_form(tmp_path: Path) -> None:
    graph = network()
    sg.save_graph(graph, tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "b.json").write_text(
        json.dumps(nx.node_link_data(nx.node_link_graph(data, edges="edges"), edges="edges"))
    )
    assert equal(sg.load_graph(tmp_path / "b.json"), graph)
    (tmp_path / "c.json").write_text(json.dumps(nx.node_link_data(graph, edges="links")))
    assert equal(sg.load_graph(tmp_path / "c.json"), graph)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        sg.save_graph(network(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_text().count("\n  {") == len(network()) + network().number_of_edges()


DIMENSIONS = st.sampled_from([1, 2, 3])
OPS = st.sampled_from(
    [
        "add",
        "multiply",
        "tanh",
        "sum",
        "transpose",
        "reshape",
        "slice",
        "pad",
        "leaky",
        "define",
        "constant",
        "stack",
    ]
)


@st.composite
def networks(draw: st.DrawFn) -> nx.MultiDiGraph:
    """A random network of square tensors: every op keeps the shape (n, n)."""
    n = draw(DIMENSIONS)
    tensors = [
        sg.input("x", (n, n)),
        sg.parameter("W", (n, n), draw(st.sampled_from([None, 0.5, ["normal", 1]]))),
    ]
    for _ in range(draw(st.integers(0, 8))):
        a, b = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
        tensors.append(_grown(draw(OPS), a, b, n, draw(st.floats(-1e300, 1e300))))
    named = draw(st.booleans())
    end = tensors[-1]
    return sg.graph(
        sg.mean(end, name="loss" if named else None),
        outputs=draw(st.sampled_from([None, [end], [end, tensors[0]]])),
    )


def _grown(op: str, a: sg.Tensor, b: sg.Tensor, n: int, number: float) -> sg.Tensor:
    made = {
        "add": lambda: a + b,
        "multiply": lambda: a * b,
        "tanh": lambda: sg.tanh(a),
        "sum": lambda: sg.sum(a, axis=(0, 1), keepdims=True) + b,
        "transpose": lambda: sg.transpose(a, axes=[1, 0]),
        "reshape": lambda: a.reshape(-1, n),
        "slice": lambda: a[::-1, :],
        "pad": lambda: sg.pad(a, ((1, 0), (0, 0)))[1:],
        "leaky": lambda: sg.leaky_relu(a, slope=0.1),
        "define": lambda: sg.define("Y[i, j] = A[i, j] - B[j, i]", A=a, B=b),
        "constant": lambda: a + sg.constant([[number] * n] * n),
        "stack": lambda: sg.stack([a, b], axis=-1)[..., 0],
    }
    return made[op]()


@settings(max_examples=60, deadline=None)
@given(networks())
def test_any_network_comes_back(tmp_path_factory: pytest.TempPathFactory, graph: nx.MultiDiGraph) -> None:
    again = saved(graph, tmp_path_factory.mktemp("any"))
    assert equal(again, graph) and again.graph == graph.graph


# what is refused


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "this is not JSON"),
        ("{", "this is not JSON: Expecting property name enclosed in double quotes in line 1, column 2"),
        ("\x00", "this is not JSON"),
        (b"\xff\xfe{}", "the file is not UTF-8 text: byte 0"),
        ("[]", "the file holds a JSON list, not an object with nodes and edges"),
        ("null", "the file holds a JSON null, not an object"),
        ("3", "the file holds a JSON number, not an object"),
        ("{}", "the format is None, this reads 1"),
        ("[" * 100_000, "the file is nested too deeply"),
        ('{"a":' * 100_000, "the file is nested too deeply"),
        ('{"graph": {"symgrad": ' + "9" * 5000 + "}}", "this is not JSON that can be read"),
        ('{"graph": {"symgrad": 1}, "graph": {"symgrad": 1}}', "the key 'graph' stands twice in one object"),
        (document(graph={"symgrad": 2}), "the format is 2, this reads 1"),
        (document(graph={"symgrad": "1"}), "the format is '1', this reads 1"),
        (document(graph={"symgrad": True}), "the format is True, this reads 1"),
        (document(graph=...), "the format is None, this reads 1"),
        (document(graph=[]), "'graph' holds a JSON list, expected an object"),
        (document(nodes=...), "the key 'nodes' is missing"),
        (document(edges=...), "the key 'edges' is missing"),
        (document(nodes={}), "'nodes' holds a JSON object, expected a list"),
        (document(edges="x"), "'edges' holds a JSON text, expected a list"),
        (document(edgse=[]), "unknown key 'edgse'\n  hint: did you mean 'edges'?"),
        (document(directed=False), "'directed' is False, and a network is a directed multigraph"),
        (document(multigraph=False), "'multigraph' is False"),
        (document(nodes=[3]), 'node 0 of the list is no object whose "id" is text'),
        (document(nodes=[{"op": "tanh"}]), 'node 0 of the list is no object whose "id" is text'),
        (document(nodes=[{"id": 3}]), 'node 0 of the list is no object whose "id" is text'),
        (document(nodes=[{"id": ["x"]}]), 'node 0 of the list is no object whose "id" is text'),
        (document(nodes=[{"id": "x"}] * 2), "the node 'x' stands twice in the file"),
        (document(edges=[3]), 'edge 0 of the list is no object with "source" and "target" as text'),
        (document(edges=[{"source": "x"}]), "edge 0 of the list is no object"),
        (document(edges=[{"source": "x", "target": 3}]), "edge 0 of the list is no object"),
        (document(edges=[{"source": "x", "target": "y", "key": [0]}]), "edge 0 of the list has the key [0]"),
        (
            document(edges=[{"source": "x", "target": "y", "key": 0}] * 2),
            "the edge from 'x' with key 0 stands twice",
        ),
        ('{"graph": {"symgrad": NaN}}', "NaN is no number of JSON"),
        ('{"graph": {"symgrad": -Infinity}}', "-Infinity is no number of JSON"),
    ],
)
def test_what_is_no_network(content: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        loaded(content, tmp_path)
    assert text in str(caught.value), str(caught.value)
    assert "file.json: " in str(caught.value)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    for literal in ("NaN", "Infinity", "1e400"):
        node = f'[{{"id": "c", "op": "constant", "value": [1.0, {literal}]}}]'
        with pytest.raises(FileError, match="no number of JSON"):
            loaded(f'{{"graph": {{"symgrad": 1}}, "nodes": {node}, "edges": []}}', tmp_path)


def test_an_attribute_that_is_nested_too_deeply(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(FileError, match="the attribute 'value' is nested too deeply") as caught:
        loaded(document(nodes=[{"id": "c", "op": "constant", "value": value}], edges=[]), tmp_path)
    assert caught.value.node == "c"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(FileError, match=f"the file has more than {MAX_BYTES} bytes"):
        sg.load_graph(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, text in ((tmp_path / "none.json", "No such file"), (tmp_path, "this is not a file")):
        with pytest.raises(FileError, match=text) as caught:
            sg.load_graph(path)
        assert str(path) in str(caught.value)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="this is not a file"):
        sg.load_graph(tmp_path / "pipe")
    with pytest.raises(FileError, match="cannot be read"):
        sg.load_graph("a\x00b")


def test_a_loaded_network_is_checked(tmp_path: Path) -> None:
    nodes = [{"id": "x; import os", "op": "input", "shape": ["N"]}, {"id": "y", "op": "tahn"}]
    with pytest.raises(GraphError) as caught:
        loaded(document(nodes=nodes, edges=[{"source": "q", "target": "y", "arg": 0}]), tmp_path)
    text = str(caught.value)
    assert "3 faults" in text and "'x; import os'" in text and "did you mean 'tanh'?" in text
    assert "node 'q': the node is not declared" in text


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        ("init", {1, 2}, "the attribute 'init' holds set {1, 2}, which is no plain data"),
        ("init", object, "which is no plain data"),
        ("init", np.float64(1), "the attribute 'init' holds float64"),
        ("init", 1j, "the attribute 'init' holds complex"),
        ("init", float("nan"), "the attribute 'init' holds nan, which is no number of JSON"),
        ("init", {1: 2}, "the attribute 'init' holds dict"),
        ("init", b"x", "the attribute 'init' holds bytes"),
        ("shape", (np.int64(2),), "the attribute 'shape' holds int64"),
        ("id", 3, "an attribute cannot be called 'id'"),
        (3, 3, "an attribute cannot be called 3"),
    ],
)
def test_attributes_that_are_no_plain_data(attribute: Any, value: Any, text: str, tmp_path: Path) -> None:
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node("W", op="parameter", shape=(2,))
    graph.nodes["W"][attribute] = value
    with pytest.raises(FileError) as caught:
        sg.save_graph(graph, tmp_path / "x.json")
    assert text in str(caught.value) and caught.value.node == "W", str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_things_that_cannot_be_saved(tmp_path: Path) -> None:
    graph = network()
    graph.graph["author"] = object()
    with pytest.raises(FileError, match="the graph holds object"):
        sg.save_graph(graph, tmp_path / "x.json")
    with pytest.raises(GraphError, match=r"a network is a networkx\.MultiDiGraph, not DiGraph"):
        sg.save_graph(nx.DiGraph(), tmp_path / "x.json")
    graph = nx.MultiDiGraph(symgrad=1, loss="y")
    graph.add_node("x", op="input", shape=(2,))
    with pytest.raises(GraphError, match="loss names 'y', which is no node"):
        sg.save_graph(graph, tmp_path / "x.json")
    graph = nx.MultiDiGraph(symgrad=1)
    graph.add_node(("a", 1), op="input", shape=(2,))
    with pytest.raises(GraphError, match="a name is text, not tuple"):
        sg.save_graph(graph, tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


# atomic writing


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.json"
    sg.save_graph(network(), path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = nx.MultiDiGraph(symgrad=1)
    other.add_node("x", op="input", shape=(2,))
    with pytest.raises(FileError, match=r"network\.json: cannot be written: No space left on device"):
        sg.save_graph(other, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written: No such file"):
        sg.save_graph(network(), tmp_path / "none" / "x.json")


def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "network.json", tmp_path / "link.json"
    path.write_text("")
    path.chmod(0o640)
    link.symlink_to(path)
    sg.save_graph(network(), link)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert equal(sg.load_graph(link), network())
    previous = os.umask(0o027)
    try:
        sg.save_graph(network(), tmp_path / "new.json")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "new.json").stat().st_mode) == 0o640
