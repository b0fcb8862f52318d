"""Emitted code for every case of every registered op: both styles, both precisions, against the reference."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pytest

import symgrad as sg
from symgrad.derive import derive_system
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand
from symgrad.ops import OPS
from symgrad.ops.registry import Case

TOLERANCE = {"float64": {"rtol": 1e-10, "atol": 1e-11}, "float32": {"rtol": 1e-3, "atol": 2e-4}}
WEIGHTED, PLAIN = "sum(v*y)", "-sum(y)"  # cotangents that are random, and cotangents that are exactly -1


@dataclass(frozen=True)
class Row:
    """One case of an op as a trainable network: float operands are parameters, the loss is sum(v*y) or -sum(y)."""

    op: str
    case: Case
    name: str

    def values(self) -> dict[str, np.ndarray]:
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        found: dict[str, np.ndarray] = {}
        for k, given in enumerate(self.case.operands):
            if not isinstance(given, tuple):
                found[f"p{k}"] = np.asarray(given)
            elif self.case.domain is None:
                found[f"p{k}"] = random.normal(size=given)
            else:
                found[f"p{k}"] = random.uniform(*self.case.domain, size=given)
        return found

    def graph(self, values: dict[str, np.ndarray], shape: tuple[int, ...], loss: str) -> nx.MultiDiGraph:
        graph = nx.MultiDiGraph(loss="loss", outputs=["y"])
        for name, value in values.items():
            kind = {"f": "float", "b": "bool"}.get(value.dtype.kind, "int64")
            if kind == "float":
                graph.add_node(name, op="parameter", shape=value.shape)
            else:
                graph.add_node(name, op="input", shape=value.shape, dtype=kind)
        graph.add_node("y", op=self.op, **self.case.attrs)
        for k, name in enumerate(values):
            graph.add_edge(name, "y", arg=k)
        if loss == WEIGHTED:
            graph.add_node("v", op="input", shape=shape)
            ends = [("weighted", "multiply", ["y", "v"]), ("loss", "sum", ["weighted"])]
        else:
            ends = [("total", "sum", ["y"]), ("loss", "negative", ["total"])]
        for end, op, sources in ends:
            graph.add_node(end, op=op)
            for k, source in enumerate(sources):
                graph.add_edge(source, end, arg=k)
        return graph


def rows() -> Iterator[Row]:
    for op in OPS.values():
        for number, case in enumerate(op.cases):
            row = Row(op.name, case, f"{op.name}-{number}")
            values = row.values()
            floats = any(value.dtype.kind == "f" for value in values.values())
            if floats and all(value.size for value in values.values()) and np.size(case.reference(*values.values())):
                yield row


@pytest.mark.parametrize(("dtype", "loss"), [("float64", WEIGHTED), ("float32", WEIGHTED), ("float64", PLAIN)])
@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)
def test_emitted_code_computes_the_reference(row: Row, dtype: str, loss: str) -> None:
    values = {n: v.astype(dtype) if v.dtype.kind == "f" else v for n, v in row.values().items()}
    exact = {n: v.astype(float) if v.dtype.kind == "f" else v for n, v in values.items()}
    with np.errstate(all="ignore"):
        y = np.asarray(row.case.reference(*exact.values()), float)
    weights = np.random.default_rng(7).normal(size=y.shape).astype(dtype)
    v = {"v": weights} if loss == WEIGHTED else {}
    graph = row.graph(values, y.shape, loss)
    derivation = sg.derive(graph)
    expected = evaluate(derive_system(expand(graph), wrt=list(derivation)), {**exact, **v})
    inputs: dict[str, Any] = {n: v for n, v in values.items() if v.dtype.kind != "f"}
    params = {n: v for n, v in values.items() if v.dtype.kind == "f"}
    for style in ("fast", "readable"):
        module = sg.emit(derivation, style=style, dtype=dtype, optimizer="sgd").load()
        with np.errstate(all="ignore"):
            output = module.forward(params, **{n: inputs[n] for n in module.FORWARD_INPUTS})
            found, grads = module.loss_and_grads(params, **inputs, **v)
        assert_close(output, y, dtype, f"{style} forward")
        assert output.dtype == (np.bool_ if output.dtype == np.bool_ else dtype)
        if dtype == "float64":
            assert_close(found, expected["loss"], dtype, f"{style} loss")
        for name in params:
            assert_close(grads[name], expected[derivation.system.gradients[name]], dtype, f"{style} {name}")


def assert_close(found: Any, expected: Any, dtype: str, message: str) -> None:
    """Equal as far as dtype reaches: beyond its range both are left out."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert found.shape == expected.shape, message
    inside = np.abs(expected) < np.finfo(dtype).max / 1e3
    np.testing.assert_allclose(found[inside], expected[inside], err_msg=message, **TOLERANCE[dtype])
