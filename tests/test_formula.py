"""Printed derivations: the textbook's formulas, and every op in every notation."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy as sp
from formula_value import Matrices, number
from hypothesis import HealthCheck, assume, settings
from hypothesis import given as given_network
from strategies import Network, networks

import symgrad as sg
from symgrad.conventions import CONVENTIONS
from symgrad.derive import derive_system
from symgrad.errors import DeriveError
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand
from symgrad.formula import Comments, Derivation, statement_comment
from symgrad.formula import notation as n
from symgrad.formula.render_latex import latex
from symgrad.formula.render_text import text
from symgrad.formula.symbols import Style
from symgrad.ops import OPS

Row = tuple[Any, ...]


def network(leaves: dict[str, dict[str, Any]], nodes: list[Row], loss: str = "loss") -> nx.MultiDiGraph:
    """A graph from rows (name, op, operands, attributes)."""
    graph = nx.MultiDiGraph(symgrad=1, loss=loss)
    for name, attributes in leaves.items():
        graph.add_node(name, **attributes)
    for name, op, operands, *attributes in nodes:
        graph.add_node(name, op=op, **(attributes[0] if attributes else {}))
        for k, operand in enumerate(operands):
            graph.add_edge(operand, name, arg=k)
    return graph


def given(*shape: Any, dtype: str = "float") -> dict[str, Any]:
    return {"op": "input", "shape": shape, "dtype": dtype}


def learned(*shape: Any) -> dict[str, Any]:
    return {"op": "parameter", "shape": shape}


def derivation(graph: nx.MultiDiGraph, **options: Any) -> Derivation:
    system = expand(graph)
    return Derivation(graph, system, derive_system(system, **options))


def lines(d: object) -> list[str]:
    """The formulas of a printed derivation, without the shapes beside them."""
    return [re.split(r"\s{4,}\(", line.strip())[0].rstrip() for line in str(d).splitlines() if line.strip()]


def perceptron(sizes: list[int], activations: list[str], names: list[str] | None = None) -> nx.MultiDiGraph:
    """z = h W + b for every layer, the hidden ones with an activation; the loss is the cross entropy."""
    leaves = {"x": given("N", sizes[0]), "t": given("N", dtype="int64")}
    nodes: list[Row] = []
    h = "x"
    for k, (rows, columns) in enumerate(itertools.pairwise(sizes), 1):
        leaves |= {f"W{k}": learned(rows, columns), f"b{k}": learned(columns)}
        nodes += [(f"matmul{k}", "matmul", [h, f"W{k}"]), (f"z{k}", "add", [f"matmul{k}", f"b{k}"])]
        if k < len(sizes) - 1:
            h = names[k - 1] if names else f"h{k}"
            nodes.append((h, activations[k - 1], [f"z{k}"]))
    return network(leaves, [*nodes, ("loss", "cross_entropy", [f"z{len(sizes) - 1}", "t"])])


def columns() -> nx.MultiDiGraph:
    """Two layers, written for one column vector."""
    leaves = {"x": given(64), "t": given(10), "W1": learned(32, 64), "b1": learned(32)}
    leaves |= {"W2": learned(10, 32), "b2": learned(10)}
    nodes = [
        ("matmul1", "matmul", ["W1", "x"]),
        ("z1", "add", ["matmul1", "b1"]),
        ("a1", "tanh", ["z1"]),
        ("matmul2", "matmul", ["W2", "a1"]),
        ("z2", "add", ["matmul2", "b2"]),
        ("loss", "mse", ["z2", "t"]),
    ]
    return network(leaves, nodes)


# what a textbook has


def test_two_layers_read_as_in_a_textbook() -> None:
    d = derivation(perceptron([64, 32, 10], ["tanh"], ["h"]))
    expected = """
        forward
        z¹ = x W¹ + b¹
        h = f(z¹)
        z² = h W² + b²
        loss
        backward
        δ² = ∂L/∂z²
        ∇W² = hᵀ δ²
        ∇b² = Σₙ δ²
        δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)
        ∇W¹ = xᵀ δ¹
        ∇b¹ = Σₙ δ¹
        where
        f(z) = tanh(z),  f'(z) = 1 − tanh(z)²
    """
    wanted = [line.strip() for line in expected.splitlines() if line.strip()]
    printed = [line for line in lines(d) if line in wanted]
    assert printed == wanted
    assert str(d["W1"]).splitlines()[:4] == [
        "∇W¹ = xᵀ δ¹",
        "where",
        "  δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)",
        "  δ² = ∂L/∂z²",
    ]
    assert str(d["b1"]).startswith("∇b¹ = Σₙ δ¹\n")
    assert "f(z) = tanh(z),  f'(z) = 1 − tanh(z)²" in str(d["W1"])


def test_the_loss_stage_says_what_the_first_adjoint_is() -> None:
    printed = lines(derivation(perceptron([64, 32, 10], ["tanh"], ["h"])))
    for line in ("m = maxᵢ z²", "s = Σᵢ e", "e[n,i] = exp(z²[n,i] − m[n])", "L = 1/N Σₙ c"):
        assert line in printed
    assert any(line.startswith("∂L/∂z²[n,i] = ") for line in printed)


def test_three_layers() -> None:
    printed = lines(derivation(perceptron([8, 7, 6, 5], ["tanh", "tanh"])))
    backward = """
        δ³ = ∂L/∂z³
        ∇W³ = (h²)ᵀ δ³
        ∇b³ = Σₙ δ³
        δ² = (δ³ (W³)ᵀ) ⊙ f'(z²)
        ∇W² = (h¹)ᵀ δ²
        ∇b² = Σₙ δ²
        δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)
        ∇W¹ = xᵀ δ¹
        ∇b¹ = Σₙ δ¹
    """
    wanted = [line.strip() for line in backward.splitlines() if line.strip()]
    assert [line for line in printed if line in wanted] == wanted


def test_several_activations_have_letters_of_their_own() -> None:
    printed = lines(derivation(perceptron([8, 7, 6, 5], ["tanh", "sigmoid"])))
    assert "h¹ = f(z¹)" in printed and "h² = g(z²)" in printed
    assert "δ² = (δ³ (W³)ᵀ) ⊙ g'(z²)" in printed and "δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)" in printed
    assert "g(z) = σ(z),  g'(z) = σ(z) σ(−z)" in printed


def test_function_letters_avoid_the_names_of_tensors() -> None:
    graph = perceptron([8, 7, 6], ["tanh"], ["f"])
    assert "f = g(z¹)" in lines(derivation(graph))


def test_column_vectors() -> None:
    expected = """
        forward
        z¹ = W¹ x + b¹
        a¹ = f(z¹)
        z² = W² a¹ + b²
        loss
        L = 1/10 Σᵢ (z² − t)²
        backward
        δ² = ∂L/∂z²
        ∂L/∂z² = 1/5 (z² − t)
        ∇W² = δ² (a¹)ᵀ
        ∇b² = δ²
        δ¹ = ((W²)ᵀ δ²) ⊙ f'(z¹)
        ∇W¹ = δ¹ xᵀ
        ∇b¹ = δ¹
        where
        f(z) = tanh(z),  f'(z) = 1 − tanh(z)²
    """
    assert lines(derivation(columns())) == [line.strip() for line in expected.splitlines() if line.strip()]


def test_one_row_vector() -> None:
    leaves = {"x": given(4), "t": given(3), "W": learned(4, 3)}
    d = derivation(network(leaves, [("z", "matmul", ["x", "W"]), ("loss", "mse", ["z", "t"])]))
    assert "z = x W" in lines(d)
    assert "∇W = xᵀ δ" in lines(d)


def test_logistic_regression() -> None:
    leaves = {"X": given("N", "D"), "y": given("N"), "w": learned("D"), "b": learned()}
    nodes = [
        ("matmul1", "matmul", ["X", "w"]),
        ("z", "add", ["matmul1", "b"]),
        ("loss", "binary_cross_entropy_with_logits", ["z", "y"]),
    ]
    printed = lines(derivation(network(leaves, nodes)))
    for line in ("z = X w + b", "δ = ∂L/∂z", "∇w = Xᵀ δ", "∇b = Σₙ δ"):
        assert line in printed


def test_a_relu_network_names_its_convention() -> None:
    d = derivation(perceptron([8, 7, 6], ["relu"]))
    printed = lines(d)
    assert "δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)" in printed
    assert "f(z) = z if z > 0 else 0,  f'(z) = [z > 0]" in printed
    assert "f'(0) = 0" in d.kinks()


def test_a_function_without_a_kink_has_no_convention() -> None:
    leaves = {"x": given("N", 3), "W": learned(3, 2)}
    nodes = [("z", "matmul", ["x", "W"]), ("h", "elu", ["z"]), ("loss", "sum", ["h"])]
    assert derivation(network(leaves, nodes)).kinks() == []
    scaled = [("z", "matmul", ["x", "W"]), ("h", "elu", ["z"], {"alpha": 0.5}), ("loss", "sum", ["h"])]
    assert derivation(network(leaves, scaled)).kinks() == ["f'(0) = 1/2"]


def test_a_custom_op() -> None:
    formula = "Y[i,j] = sum(k, X[i,k]*W[k,j])**2"
    attributes = {"formula": formula, "operands": ["X", "W"]}
    nodes = [("y", "define", ["x", "W"], attributes), ("loss", "sum", ["y"])]
    d = derivation(network({"x": given("N", 8), "W": learned(8, 4)}, nodes))
    assert lines(d) == ["forward", "y = (x W)²", "loss", "L = Σ y", "backward", "∇W = 2 xᵀ x W"]


def recurrent(steps: int) -> nx.MultiDiGraph:
    leaves = {"X": given("N", steps, 8), "y": given("N", 2), "W": learned(8, 4), "U": learned(4, 4)}
    leaves |= {"b": learned(4), "V": learned(4, 2)}
    nodes: list[Row] = []
    for k in range(1, steps + 1):
        nodes += [(f"slice{k}", "slice", ["X"], {"index": [(None, None, None), k - 1]})]
        nodes += [(f"matmul{k}", "matmul", [f"slice{k}", "W"])]
        last = f"matmul{k}"
        if k > 1:
            nodes += [(f"back{k}", "matmul", [f"h{k - 1}", "U"]), (f"add{k}", "add", [last, f"back{k}"])]
            last = f"add{k}"
        nodes += [(f"z{k}", "add", [last, "b"]), (f"h{k}", "tanh", [f"z{k}"])]
    return network(leaves, [*nodes, ("z", "matmul", [f"h{steps}", "V"]), ("loss", "mse", ["z", "y"])])


def test_shared_weights_sum_over_the_steps() -> None:
    graph = nx.relabel_nodes(recurrent(3), {"back2": "matmul12", "back3": "matmul13"})
    printed = lines(derivation(graph))
    for line in (
        "z¹ = X[:,0,:] W + b",
        "z² = X[:,1,:] W + h¹ U + b",
        "δ² = (δ³ Uᵀ) ⊙ f'(z²)",
        "∇W = X[:,0,:]ᵀ δ¹ + X[:,1,:]ᵀ δ² + X[:,2,:]ᵀ δ³",
        "∇U = (h¹)ᵀ δ² + (h²)ᵀ δ³",
        "∇b = Σₙ δ¹ + Σₙ δ² + Σₙ δ³",
    ):
        assert line in printed


def test_layer_norm() -> None:
    leaves = {
        "x": given("N", 16),
        "t": given("N", 16),
        "W": learned(16, 16),
        "g": learned(16),
        "b": learned(16),
    }
    nodes = [("z", "matmul", ["x", "W"]), ("y", "layer_norm", ["z", "g", "b"]), ("loss", "mse", ["y", "t"])]
    printed = lines(derivation(network(leaves, nodes)))
    for line in ("v = 1/16 Σᵢ d²", "y = g ⊙ h + b", "∇g = Σₙ (δ_y ⊙ h)", "∇b = Σₙ δ_y", "∇W = xᵀ δ"):
        assert line in printed


def test_convolution_in_index_notation() -> None:
    leaves = {"X": given("N", 3, 9, 9), "F": learned(4, 3, 3, 3), "t": given("N", 4, 4, 4)}
    nodes = [("c", "conv2d", ["X", "F"], {"stride": 2}), ("loss", "mse", ["c", "t"])]
    d = derivation(network(leaves, nodes), wrt=["F", "X"])
    assert "c[n,i,j,k] = Σₗₘₚ X[n,l,2j+m,2k+p] F[i,l,m,p]" in lines(d)
    assert d["F"].indexed.startswith("∇F[i,j,k,l] = Σₙₘₚ δ_c[n,i,m,p] X[n,j,2m+k,2p+l]\n")
    scatter = d["X"].indexed.splitlines()[0]
    assert scatter.startswith("∇X[n,i,j,k] = Σ") and re.search(r"\[j = 2[a-z]\+[a-z]\]", scatter)


def test_embeddings_read_by_index() -> None:
    leaves = {"t": given("N", dtype="int64"), "E": learned(100, 8), "W": learned(8, 2)}
    nodes = [
        ("embedding1", "embedding", ["E", "t"]),
        ("z", "matmul", ["embedding1", "W"]),
        ("loss", "sum", ["z"]),
    ]
    d = derivation(network(leaves, nodes))
    assert any(line.endswith("[n,i] = E[t[n],i]") for line in lines(d))
    assert "[i = t[n]]" in d["E"].indexed


# every op, every notation


def _case_network(name: str, number: int) -> tuple[nx.MultiDiGraph, list[str]]:
    """The op of a case with a weighted sum on top, and its float operands."""
    op, case = OPS[name], OPS[name].cases[number]
    arrays = [np.zeros(a) if isinstance(a, tuple) else np.asarray(a) for a in case.operands]
    kinds = {"f": "float", "i": "int64", "b": "bool"}
    leaves = {f"x{k}": given(*a.shape, dtype=kinds[a.dtype.kind]) for k, a in enumerate(arrays)}
    graph = network(leaves, [("y", name, list(leaves), dict(case.attrs)), ("loss", "sum", ["y"])])
    floats = [n for n, leaf in leaves.items() if leaf["dtype"] == "float"]
    chosen = floats if case.differentiable is None else [f"x{k}" for k in case.differentiable]
    assert op.operands is None or len(op.operands) == len(arrays)
    return graph, [n for n in chosen if n in floats]


CASES = [(name, k) for name, op in OPS.items() for k in range(len(op.cases))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_op_has_every_notation(name: str, number: int) -> None:
    graph, wrt = _case_network(name, number)
    system = expand(graph)
    wrt = [n for n in wrt if _reaches_loss(system, n)]
    if not wrt:
        pytest.skip("nothing to differentiate by")
    d = derivation(graph, wrt=wrt)
    assert str(d) and balanced(d.latex)
    for tensor in d:
        formula = d[tensor]
        assert formula.indexed.startswith("∇") and balanced(formula.latex)
        assert isinstance(formula.sympy, sp.Eq)
        assert "None" not in str(formula) + formula.indexed
    comments = Comments(d.system)
    assert all(0 < len(comments(e.name)) <= 100 for e in d.system)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_what_is_printed_is_what_is_computed(name: str, number: int) -> None:
    """Every line, in index and in matrix notation, read back and computed from the values of its symbols."""
    graph, wrt = _case_network(name, number)
    wrt = [n for n in wrt if _reaches_loss(expand(graph), n)]
    if not wrt:
        pytest.skip("nothing to differentiate by")
    d = derivation(graph, wrt=wrt)
    values = evaluate(d.system, _data(name, number), needed=d.plan.needed)
    if max(a.size for a in values.values()) > 60:
        pytest.skip("too large to compute element by element")
    check_lines(d, values)


def _data(name: str, number: int) -> dict[str, np.ndarray]:
    """The sample arrays of a case; floats anew, away from where they overflow."""
    case, random = OPS[name].cases[number], np.random.default_rng(number)
    found = {}
    for k, a in enumerate(case.operands):
        shape = a if isinstance(a, tuple) else np.shape(a)
        drawn = random.normal(size=shape) if case.domain is None else random.uniform(*case.domain, size=shape)
        kept = not isinstance(a, tuple) and (np.asarray(a).dtype.kind != "f" or np.abs(a).max() < 50)
        found[f"x{k}"] = np.asarray(a) if kept else drawn
    return found


def check_lines(d: Derivation, values: dict[str, np.ndarray]) -> int:
    """Compare every line of a derivation with the values of its left side; the number of matrix lines."""
    plan, matrices, compared = d.plan, Matrices(d.plan, values), 0
    flat = any(1 in np.shape(values[name]) or not np.size(values[name]) for name in plan.shown if name in values)
    for name in plan.system.equations:
        if name not in plan.shown:
            continue
        heads, body = plan.template(name)
        for place in np.ndindex(*values[name].shape):
            found = number(body, values, plan, dict(zip(heads, place, strict=True)))
            assert found == pytest.approx(float(values[name][place]), rel=1e-9, abs=1e-9)
        own = plan.forms[name]
        choice = own is not None and n.count(own.node, n.Cases) > 0  # compared in index notation above
        if own is not None and len(own.axes) == values[name].ndim and not flat and not choice:
            made = matrices(own.node, values[name].shape)
            np.testing.assert_allclose(made, values[name], rtol=1e-9, atol=1e-9)
            compared += 1
    return compared


@pytest.mark.parametrize("rows", [True, False])
def test_matrix_notation_of_networks_computes_the_gradients(rows: bool) -> None:
    random = np.random.default_rng(0)
    graph = recurrent(3) if rows else columns()
    d = derivation(graph)
    sizes = {"N": 5}
    shapes = {n: [sizes.get(str(s), s) for s in leaf.shape] for n, leaf in d.system.leaves.items()}
    values = evaluate(d.system, {n: random.normal(size=[int(s) for s in shape]) for n, shape in shapes.items()})
    assert d.wrt and check_matrix_lines(d, values) >= 10


def check_matrix_lines(d: Derivation, values: dict[str, np.ndarray]) -> int:
    matrices, compared = Matrices(d.plan, values, {"N": 5}), 0
    for name in d.plan.system.equations:
        own = d.plan.forms.get(name)
        if name in d.plan.shown and own is not None and len(own.axes) == values[name].ndim:
            made = matrices(own.node, values[name].shape)
            np.testing.assert_allclose(made, values[name], rtol=1e-9, atol=1e-9)
            compared += 1
    return compared


def _reaches_loss(system: Any, name: str) -> bool:
    try:
        derive_system(system, wrt=[name])
    except DeriveError:
        return False
    return True


def balanced(written: str) -> bool:
    """Braces, brackets by size, and environments of LaTeX pair up."""
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", written):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            return False
    pairs = ((r"\left", r"\right"), (r"\bigl", r"\bigr"), (r"\begin{", r"\end{"))
    return depth == 0 and all(_count(written, a) == _count(written, b) for a, b in pairs)


def _count(written: str, command: str) -> int:
    return len(re.findall(re.escape(command) + r"(?![a-z])", written))


# the SymPy form


def _evaluated(
    equations: tuple[sp.Eq, ...], arrays: dict[str, np.ndarray], sizes: dict[str, int]
) -> dict[str, np.ndarray]:
    """Every left side as an array, by putting numbers for the Indexed objects of each equation in turn."""
    values = dict(arrays)
    dimensions = {sp.Symbol(k, integer=True, positive=True): v for k, v in sizes.items()}
    for equation in equations:
        left = equation.lhs
        shape = [int(sp.sympify(s).subs(dimensions)) for s in left.shape] if isinstance(left, sp.Indexed) else []
        made = np.zeros(shape)
        for place in np.ndindex(*shape):
            index = dict(zip(left.indices, place, strict=True)) if shape else {}
            body = _written_out(equation.rhs.subs(dimensions).subs(index))
            made[place] = float(_numbers(body, values))
        values[str(left.base) if shape else str(left)] = made
    return values


def _written_out(expr: sp.Expr) -> sp.Expr:
    """Sums as sums of terms: Sum.doit() gives up on Piecewise."""
    if isinstance(expr, sp.Sum):
        (index, low, high), *rest = expr.limits
        inner = sp.Sum(expr.function, *rest) if rest else expr.function
        return sp.Add(*(_written_out(inner.subs(index, k)) for k in range(int(low), int(high) + 1)))
    return expr.func(*map(_written_out, expr.args)) if expr.has(sp.Sum) else expr.doit()


def _numbers(body: sp.Expr, values: dict[str, np.ndarray]) -> sp.Expr:
    while True:
        ready = [a for a in body.atoms(sp.Indexed) if all(i.is_Integer for i in a.indices)]
        if not ready:
            break
        body = body.xreplace({a: _number(values[str(a.base)], a.indices) for a in ready}).doit()
    known = {str(s): s for s in body.free_symbols if str(s) in values and values[str(s)].shape == ()}
    scalars = {s: _number(values[name], ()) for name, s in known.items()}
    return body.xreplace(scalars).doit()


def _number(array: np.ndarray, index: Any) -> sp.Expr:
    value = array[tuple(int(i) for i in index)]
    return sp.Integer(int(value)) if array.dtype.kind == "i" else sp.Float(float(value), 20)


def test_the_sympy_form_gives_the_gradient() -> None:
    d = derivation(perceptron([2, 3, 2], ["tanh"], ["h"]))
    random = np.random.default_rng(0)
    shapes = {"x": (2, 2), "W1": (2, 3), "b1": (3,), "W2": (3, 2), "b2": (2,)}
    arrays: dict[str, np.ndarray] = {k: random.normal(size=s) for k, s in shapes.items()}
    arrays["t"] = np.array([1, 0])

    def loss(**changed: np.ndarray) -> float:
        a = arrays | changed
        z = np.tanh(a["x"] @ a["W1"] + a["b1"]) @ a["W2"] + a["b2"]
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(2), a["t"]]))

    for tensor in ("W1", "b2"):
        found = _evaluated(d[tensor].sympy_definitions, arrays, {"N": 2})[d[tensor].name]
        for place in np.ndindex(*found.shape):
            step = np.zeros(found.shape)
            step[place] = 1e-6
            numeric = (loss(**{tensor: arrays[tensor] + step}) - loss(**{tensor: arrays[tensor] - step})) / 2e-6
            assert found[place] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_the_sympy_form_of_windows_and_maxima_gives_the_gradient() -> None:
    leaves = {"X": given(1, 1, 4), "F": learned(1, 1, 2)}
    nodes = [
        ("c", "conv1d", ["X", "F"], {"padding": 1}),
        ("p", "max_pool", ["c"], {"size": 2}),
        ("y", "square", ["p"]),
        ("loss", "sum", ["y"]),
    ]
    d = derivation(network(leaves, nodes), wrt=["F", "X"])
    arrays = {"X": np.array([[[1.0, -2.0, 3.0, 0.5]]]), "F": np.array([[[0.7, -0.4]]])}

    def loss(**changed: np.ndarray) -> float:
        a = arrays | changed
        padded = np.pad(a["X"][0, 0], 1)
        c = padded[:-1] * a["F"][0, 0, 0] + padded[1:] * a["F"][0, 0, 1]
        return float(sum(max(c[k], c[k + 1]) ** 2 for k in (0, 2)))

    for tensor in d:
        found = _evaluated(d[tensor].sympy_definitions, arrays, {})[d[tensor].name]
        for place in np.ndindex(*found.shape):
            step = np.zeros(found.shape)
            step[place] = 1e-6
            numeric = (loss(**{tensor: arrays[tensor] + step}) - loss(**{tensor: arrays[tensor] - step})) / 2e-6
            assert found[place] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_sympy_itself_fails_on_two_layers() -> None:
    """The headline's claim: of two layers with symbolic sizes SymPy's own derivative raises, or is 0."""
    m, k, p = sp.symbols("m k p", integer=True, positive=True)
    x, y = sp.MatrixSymbol("x", k, 1), sp.MatrixSymbol("y", p, 1)
    first, second = sp.MatrixSymbol("W1", m, k), sp.MatrixSymbol("W2", p, m)
    hidden = (first * x).applyfunc(sp.tanh)
    error = (second * hidden).applyfunc(sp.tanh) - y
    with pytest.raises(ValueError):
        (error.T * error).diff(first)
    linear = second * hidden - y
    assert isinstance((linear.T * linear)[0, 0].diff(first), sp.ZeroMatrix)


# names, precedence, wrapping


@pytest.mark.parametrize(
    ("name", "written", "as_latex"),
    [
        ("W1", "W¹", "W^{1}"),
        ("W10", "W¹⁰", "W^{10}"),
        ("alpha", "α", r"\alpha"),
        ("beta2", "β²", r"\beta^{2}"),
        ("W_out", "W_out", "W_{out}"),
        ("W_out2", "W_out²", "W_{out}^{2}"),
        ("h_1", "h_1", "h_{1}"),
        ("conv1", "conv¹", r"\mathrm{conv}^{1}"),
        ("a_b_c", "a_b_c", r"a_{b\_c}"),
        ("_x", "_x", r"\mathrm{\_x}"),
    ],
)
def test_names(name: str, written: str, as_latex: str) -> None:
    style = Style.of(name)
    assert (style.text, style.latex) == (written, as_latex)


def test_no_name_reaches_latex_unescaped() -> None:
    assert Style.of("x}$\\input{y}").latex == r"\mathrm{x\}\$\backslash{}input\{y\}}"


def test_no_two_tensors_are_written_alike() -> None:
    leaves = {"alpha1": given(3), "beta": given(3), "L": given(3), "m": given(3), "W": learned(3)}
    nodes = [
        ("z", "multiply", ["W", "alpha1"]),
        ("delta", "add", ["z", "beta"]),
        ("u", "softmax", ["delta"]),
        ("v", "multiply", ["u", "L"]),
        ("w", "add", ["v", "m"]),
        ("loss", "sum", ["w"]),
    ]
    d = derivation(network(leaves, nodes), wrt=["W", "z"])
    atoms = [atom.text for atom in d.plan.symbols.atoms.values()]
    assert len(set(atoms)) == len(atoms)


A, B, C = (n.Atom(c, c) for c in "ABC")
A1 = n.Atom("A¹", "A^{1}", True)
TWO = n.Constant(sp.Integer(2))


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (n.product([n.total([A, B]), C]), "(A + B) C"),
        (n.product([n.product([A, B]), C]), "A B C"),
        (n.hadamard([n.product([A, B]), C]), "(A B) ⊙ C"),
        (n.product([n.hadamard([A, B]), C]), "(A ⊙ B) C"),
        (n.total([n.hadamard([A, B]), C]), "A ⊙ B + C"),
        (n.total([A, n.negated(n.total([B, C]))]), "A − (B + C)"),
        (n.transposed(A), "Aᵀ"),
        (n.transposed(A1), "(A¹)ᵀ"),
        (n.transposed(n.product([A, B])), "(A B)ᵀ"),
        (n.transposed(n.transposed(A1)), "A¹"),
        (n.Power(A1, TWO), "(A¹)²"),
        (n.Power(n.total([A, n.negated(B)]), TWO), "(A − B)²"),
        (n.reduced("sum", ["n"], n.product([A, B])), "Σₙ A B"),
        (n.reduced("sum", ["n"], n.total([A, B])), "Σₙ (A + B)"),
        (n.reduced("sum", ["n"], n.hadamard([A, B])), "Σₙ (A ⊙ B)"),
        (n.hadamard([n.reduced("sum", ["n"], A), B]), "(Σₙ A) ⊙ B"),
        (n.product([n.negated(A), TWO, B]), "−2 A B"),
        (n.quotient(n.product([A, B]), n.product([TWO, C])), "A B / (2 C)"),
        (n.quotient(n.total([A, B]), C, "⊘"), "(A + B) ⊘ C"),
        (n.scaled(sp.Rational(1, 3), n.total([A, B])), "1/3 (A + B)"),
        (n.Call("f", "f", (n.total([A, B]),)), "f(A + B)"),
        (n.hadamard([n.Indicator(n.Relation(">", A, B)), C]), "[A > B] ⊙ C"),
    ],
)
def test_precedence(node: n.Node, written: str) -> None:
    assert text(node) == written
    assert balanced(latex(node))


def test_latex_of_the_headline() -> None:
    d = derivation(perceptron([64, 32, 10], ["tanh"], ["h"]))
    assert r"\nabla W^{1} &= x^{\top} \delta^{1} \\" in d["W1"].latex
    assert r"\delta^{1} &= \bigl(\delta^{2} (W^{2})^{\top}\bigr) \odot f'(z^{1}) \\" in d["W1"].latex
    assert balanced(d.latex)


def test_index_notation_of_the_headline() -> None:
    d = derivation(perceptron([64, 32, 10], ["tanh"], ["h"]))
    assert d["W1"].indexed.startswith("∇W¹[i,j] = Σₙ x[n,i] δ¹[n,j]\n")
    assert "δ¹[n,i] = f'(z¹[n,i]) Σⱼ δ²[n,j] W²[i,j]" in d["W1"].indexed
    assert d["W1"].shape == (64, 32)


def test_long_sums_are_wrapped() -> None:
    graph = nx.relabel_nodes(recurrent(12), {f"back{k}": f"matmul{k + 100}" for k in range(2, 13)})
    d = derivation(graph)
    assert max(map(len, str(d["W"]).splitlines())) <= 104
    assert str(d["W"]).count("ᵀ δ") >= 12


# the whole


def test_a_missing_gradient_is_named_with_the_nearest() -> None:
    d = derivation(perceptron([4, 3, 2], ["tanh"]))
    with pytest.raises(DeriveError, match="W1"):
        d["W11"]
    assert list(d) == ["W1", "b1", "W2", "b2"] == list(d.wrt)
    assert "W1" in d and len(d) == 4


def test_the_derived_graph_has_the_networks_schema() -> None:
    d = derivation(perceptron([4, 3, 2], ["tanh"]))
    again = expand(d.graph)
    assert again.gradients["W1"] == d["W1"].name


def test_the_same_text_for_equal_graphs() -> None:
    assert str(derivation(recurrent(3))) == str(derivation(recurrent(3)))


def test_a_thousand_layers_print_in_seconds() -> None:
    graph = perceptron([4] * 1001, ["tanh"] * 1000)
    d = derivation(graph)
    start = time.process_time()
    printed, formula, indexed = str(d), str(d["W1"]), d["W1"].indexed
    assert time.process_time() - start < 20
    assert "δ⁵⁰⁰ = (δ⁵⁰¹ (W⁵⁰¹)ᵀ) ⊙ f'(z⁵⁰⁰)" in printed
    assert formula.startswith("∇W¹ = xᵀ δ¹") and indexed.count("\n") > 990


def test_comments_for_code() -> None:
    d = derivation(perceptron([64, 32, 10], ["tanh"], ["h"]))
    assert statement_comment(d.system, d["W1"].name) == "∇W¹ = xᵀ δ_matmul¹"
    assert statement_comment(d.system, "d_z1") == "δ¹ = δ_h ⊙ (1 − tanh(z¹)²)"
    (delta,) = (name for name, tensor in d.plan.symbols.adjoints.items() if tensor == "z2")
    assert len(statement_comment(d.system, delta).splitlines()) == 1


def test_the_conventions_page_lists_the_record() -> None:
    page = (Path(__file__).parents[1] / "docs" / "conventions.md").read_text(encoding="utf-8")
    for c in CONVENTIONS:
        assert f"| {c.function} | {c.where} | {c.value} |" in page


def test_a_derivation_without_a_loss_and_one_of_a_derivative() -> None:
    leaves = {"x": given("N", 3), "W": learned(3, 2)}
    graph = network(leaves, [("z", "matmul", ["x", "W"]), ("y", "tanh", ["z"])])
    del graph.graph["loss"]
    system = expand(graph)
    product = Derivation(graph, system, derive_system(system, of="y", wrt=["W"], seed="v"))
    assert lines(product)[:3] == ["forward", "z = x W", "y = f(z)"]
    assert "δ = v ⊙ f'(z)" in lines(product) and "∇W = xᵀ δ" in lines(product)
    first = derivation(network(leaves, [("z", "matmul", ["x", "W"]), ("y", "tanh", ["z"]), ("L", "sum", ["y"])], "L"))
    again = first.graph
    again.add_node("total", op="sum")
    again.add_edge(first["W"].name, "total", arg=0)
    again.graph["loss"] = "total"
    assert "f'(z)" in str(first) and str(derivation(again, wrt=["W"])["W"]).startswith("∇W = xᵀ ")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given_network(networks())
def test_random_networks_print_what_they_compute(drawn: Network) -> None:
    wrt = drawn.parameters
    assume(wrt)
    d = derivation(drawn.graph, wrt=wrt)
    assert balanced(d.latex) and all(d[tensor].indexed for tensor in d)
    values = evaluate(d.system, drawn.values, needed=d.plan.needed)
    assume(all(np.isfinite(a).all() for a in values.values()) and max(a.size for a in values.values()) < 40)
    check_lines(d, values)


def test_comments_write_sums_as_networks_do() -> None:
    d = derivation(perceptron([64, 32, 10], ["tanh"], ["h"]))
    assert statement_comment(d.system, "z1") == "z¹ = matmul¹ + b¹"
    assert statement_comment(d.system, "matmul1") == "matmul¹ = x W¹"


def test_columns_with_a_second_axis_read_as_the_textbook_writes_them() -> None:
    leaves = {"W1": learned(5, 4), "b1": learned(5, 1), "W2": learned(2, 5), "b2": learned(2, 1)}
    weights = {name: sg.parameter(name, leaf["shape"]) for name, leaf in leaves.items()}
    a1 = sg.tanh(weights["W1"] @ sg.input("x", (4, 1)) + weights["b1"], name="a1")
    loss = sg.mse(weights["W2"] @ a1 + weights["b2"], sg.input("t", (2, 1)), reduction="sum", name="loss")
    text = str(sg.derive(sg.graph(loss)))
    for line in (
        "z¹ = W¹ x + b¹",
        "L = Σ (z² − t)²",
        "δ¹ = ((W²)ᵀ δ²) ⊙ f'(z¹)",
        "∇W² = δ² (a¹)ᵀ",
        "∇W¹ = δ¹ xᵀ",
        "∇b¹ = δ¹",
    ):
        assert f"  {line} " in text, text


def test_a_regression_with_one_output_reads_as_the_textbook_writes_it() -> None:
    h = sg.tanh(sg.input("x", ("N", 4)) @ sg.parameter("W1", (4, 8)) + sg.parameter("b1", (8,)), name="h")
    y = h @ sg.parameter("W2", (8, 1)) + sg.parameter("b2", (1,))
    text = str(sg.derive(sg.graph(sg.mse(y, sg.input("t", ("N", 1)), name="loss"))))
    for line in ("L = 1/N Σ (z² − t)²", "∇W² = hᵀ δ²", "δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)", "∇b² = Σₙ δ²"):
        assert f"  {line} " in text, text
