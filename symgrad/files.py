"""Networks as files: node-link JSON, the form that networkx itself reads and writes.

    {"directed": true, "multigraph": true,
     "graph": {"symgrad": 1, "loss": "loss"},
     "nodes": [{"id": "x", "op": "input", "shape": ["N", 64]}, ...],
     "edges": [{"source": "x", "target": "h", "key": 0, "arg": 0}, ...]}

The graph attribute `symgrad` is the version of the format. A file is read as data, with limits on its size
and nesting, and written whole or not at all. JSON has one kind of sequence: `value`, `operands` and graph
attributes come back as lists, every other attribute as tuples.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import networkx as nx
import numpy as np

from symgrad.check import check
from symgrad.drawing import Graph
from symgrad.errors import FileError, nearest
from symgrad.graph import FORMAT
from symgrad.writing import write_whole

MAX_BYTES, MAX_DEPTH = 64 * 2**20, 40
KEYS = ("directed", "multigraph", "graph", "nodes", "edges")
LISTS = ("value", "operands")


def save_graph(graph: nx.MultiDiGraph[Any], path: str | os.PathLike[str]) -> None:
    """Write a network as versioned node-link JSON, whole or not at all.

    Raises:
        GraphError: the graph is not well formed.
        FileError: an attribute is not plain data, or the file cannot be written.
    """
    if isinstance(graph, nx.MultiDiGraph):
        graph = _plain_graph(graph)
    check(graph)
    text = _text(graph)
    if len(text) > MAX_BYTES:
        raise FileError(f"{path}: the graph takes {len(text)} bytes, {MAX_BYTES} at most are read")
    write_whole(path, text)


def load_graph(path: str | os.PathLike[str]) -> nx.MultiDiGraph[Any]:
    """Read a network that `save_graph`, or json and networkx, wrote, and check it.

    Raises:
        FileError: the file cannot be read as a network's JSON.
        GraphError and its kinds: every fault of the network in it.
    """
    try:
        graph = _graph(_document(_read(Path(path))))
    except FileError as error:
        summary = f"{path}: {error.summary}"
        raise FileError(summary, node=error.node, details=error.details, hint=error.hint) from None
    check(graph)
    return graph


# writing


def _plain_graph(graph: nx.MultiDiGraph[Any]) -> nx.MultiDiGraph[Any]:
    """A copy that holds nothing but plain data, in the kinds of sequence that `load_graph` gives."""
    made: nx.MultiDiGraph[Any] = nx.MultiDiGraph(
        **{**_plain(graph.graph, "the graph", None), "symgrad": _version(graph.graph)}
    )
    for node, attrs in graph.nodes(data=True):
        made.add_node(node, **_node_attributes(node, attrs))
    for source, target, key, attrs in graph.edges(keys=True, data=True):
        if not isinstance(key, int | str):
            raise FileError(f"the edge from {source!r} has the key {key!r}, not an integer or text", node=str(target))
        made.add_edge(source, target, key=key, **_plain(attrs, f"the edge from {source!r}", str(target)))
    return made


def _version(attributes: Mapping[str, Any]) -> Any:
    return attributes.get("symgrad", FORMAT)


def _node_attributes(node: Any, attrs: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in attrs.items():
        if not isinstance(key, str) or key == "id":
            raise FileError(f"an attribute cannot be called {key!r}", node=str(node))
        if key == "value" and isinstance(value, np.generic | np.ndarray):
            value = value.tolist()
        plain = _plain(value, f"the attribute {key!r}", str(node))
        found[key] = plain if key in LISTS else _tuples(plain)
    return found


def _plain(value: Any, what: str, node: str | None, depth: int = 0) -> Any:
    """`value` with lists for tuples. Raises FileError for anything that is no plain data."""
    if depth > MAX_DEPTH:
        raise FileError(f"{what} is nested too deeply", node=node, hint=f"{MAX_DEPTH} levels at most")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise FileError(f"{what} holds {value!r}, which is no number of JSON", node=node)
        return value
    if isinstance(value, list | tuple):
        return [_plain(v, what, node, depth + 1) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: _plain(v, what, node, depth + 1) for k, v in value.items()}
    hint = "attributes are numbers, text, true, false, None, and lists of them"
    raise FileError(
        f"{what} holds {type(value).__name__} {value!r}"[:200] + ", which is no plain data",
        node=node,
        hint=hint,
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _text(graph: nx.MultiDiGraph[Any]) -> bytes:
    """The document, one node or edge a line."""
    nodes = [{"id": node, **attrs} for node, attrs in graph.nodes(data=True)]
    edges = [{"source": u, "target": v, "key": k, **attrs} for u, v, k, attrs in graph.edges(keys=True, data=True)]
    head = f'"directed": true,\n "multigraph": true,\n "graph": {_json(graph.graph)}'
    return f'{{{head},\n "nodes": [{_lines(nodes)}],\n "edges": [{_lines(edges)}]}}\n'.encode()


def _lines(rows: list[dict[str, Any]]) -> str:
    return ",".join("\n  " + _json(row) for row in rows)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


# reading


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise FileError("this is not a file")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise FileError(f"the file has more than {MAX_BYTES} bytes")
    return content


def _document(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            content.decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_repetition,
        )
    except RecursionError:
        raise FileError("the file is nested too deeply", hint=f"{MAX_DEPTH} levels at most") from None
    except UnicodeDecodeError as error:
        raise FileError(f"the file is not UTF-8 text: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise FileError(f"this is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise FileError(f"this is not JSON that can be read: {error}") from None
    if not isinstance(found, dict):
        raise FileError(f"the file holds a JSON {_kind(found)}, not an object with nodes and edges")
    return found


def _refuse_constant(literal: str) -> NoReturn:
    raise FileError(f"{literal} is no number of JSON", hint="use finite numbers")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")


def _graph(document: dict[str, Any]) -> nx.MultiDiGraph[Any]:
    document = _renamed(document)
    attributes = _member(document, "graph", dict, {})
    version = attributes.get("symgrad")
    if type(version) is not int or version != FORMAT:
        hint = f'the object "graph" says "symgrad": {FORMAT}'
        raise FileError(f"the format is {version!r}, this reads {FORMAT}"[:200], hint=hint)
    for flag in ("directed", "multigraph"):
        if document.get(flag, True) is not True:
            raise FileError(f"{flag!r} is {document[flag]!r}, and a network is a directed multigraph"[:200])
    graph: nx.MultiDiGraph[Any] = Graph(**_plain(attributes, "the graph", None))
    for name, attrs in _nodes(_member(document, "nodes", list)):
        if name in graph:
            raise FileError(f"the node {name[:80]!r} stands twice in the file")
        graph.add_node(name, **attrs)
    for source, target, key, attrs in _edges(_member(document, "edges", list)):
        if key is not None and graph.has_edge(source, target, key):
            raise FileError(f"the edge from {source!r} with key {key!r} stands twice in the file", node=target)
        graph.add_edge(source, target, key=key, **attrs)
    return graph


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """With the name of the edges that networkx before 3.4 wrote, and no unknown key."""
    if "links" in document and "edges" not in document:
        document = {("edges" if key == "links" else key): value for key, value in document.items()}
    for key in document:
        if key not in KEYS:
            raise FileError(f"unknown key {key[:80]!r}", hint=nearest(key, KEYS) or f"keys: {', '.join(KEYS)}")
    return document


def _member(document: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = document.get(key, default)
    if value is None:
        raise FileError(f"the key {key!r} is missing", hint=f"keys: {', '.join(KEYS)}")
    if not isinstance(value, kind):
        raise FileError(f"{key!r} holds a JSON {_kind(value)}, expected {'a list' if kind is list else 'an object'}")
    return value


def _nodes(rows: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, row in enumerate(rows):
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(name, str):
            raise FileError(f'node {place} of the list is no object whose "id" is text', hint='{"id": "x", "op": ...}')
        yield name, _node_attributes(name, {key: value for key, value in row.items() if key != "id"})


def _edges(rows: list[Any]) -> Iterator[tuple[str, str, int | str | None, dict[str, Any]]]:
    for place, row in enumerate(rows):
        ends = [row.get("source"), row.get("target")] if isinstance(row, dict) else []
        if not ends or not all(isinstance(end, str) for end in ends):
            hint = '{"source": "x", "target": "h", "arg": 0}'
            raise FileError(f'edge {place} of the list is no object with "source" and "target" as text', hint=hint)
        key = row.get("key")
        if isinstance(key, bool) or not isinstance(key, int | str | None):
            raise FileError(f"edge {place} of the list has the key {key!r}, not an integer or text"[:200])
        attrs = {k: v for k, v in row.items() if k not in ("source", "target", "key")}
        yield *ends, key, _plain(attrs, f"the edge from {ends[0]!r}", ends[1])
