"""Derivations step by step, and both layouts: what they say, and that what they say is so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy as sp
from formula_value import Matrices
from hypothesis import HealthCheck, assume, given, settings
from strategies import Network, networks

import symgrad as sg
from symgrad.derive import reverse
from symgrad.equations import System
from symgrad.errors import DeriveError, VerifyError
from symgrad.evaluate.dims import solve_dims
from symgrad.evaluate.draw import draw
from symgrad.evaluate.numeric import central_difference, unit
from symgrad.evaluate.reference import Evaluation, evaluate
from symgrad.formula import Derivation, Step
from symgrad.formula import notation as n
from symgrad.formula.layout import layout_lines, transpose_node
from symgrad.formula.render_text import text
from symgrad.formula.step_rules import CHAIN
from symgrad.index.definition import At

GOLDEN = Path(__file__).parent / "golden" / "steps_mlp.txt"


def perceptron() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 3)), sg.input("t", ("N",), dtype="int64")
    h = sg.tanh(sg.add(sg.matmul(x, sg.parameter("W1", (3, 4))), sg.parameter("b1", (4,)), name="z1"), name="h")
    z = sg.add(sg.matmul(h, sg.parameter("W2", (4, 2))), sg.parameter("b2", (2,)), name="z2")
    return sg.graph(sg.cross_entropy(z, t, name="loss"))


def convolution() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 1, 7, 7)), sg.input("t", ("N",), dtype="int64")
    a = sg.relu(sg.conv2d(x, sg.parameter("F1", (2, 1, 3, 3)), name="z1"), name="a")
    z = sg.conv2d(a, sg.parameter("F2", (2, 2, 2, 2)), name="z2")
    p = sg.reshape(sg.max_pool(z, size=2, name="p"), shape=("N", 8), name="flat")
    return sg.graph(sg.cross_entropy(sg.matmul(p, sg.parameter("W", (8, 3)), name="z3"), t, name="loss"))


def normalised() -> nx.MultiDiGraph:
    x, t = sg.input("x", ("N", 5)), sg.input("t", ("N", 4))
    z = sg.matmul(x, sg.parameter("W", (5, 4)), name="z")
    return sg.graph(
        sg.mse(sg.layer_norm(z, sg.parameter("g", (4,)), sg.parameter("b", (4,)), name="y"), t, name="loss")
    )


def lookup() -> nx.MultiDiGraph:
    words, t = sg.input("T", ("N",), dtype="int64"), sg.input("t", ("N",))
    e = sg.embedding(sg.parameter("E", ("V", 3)), words, name="e")
    return sg.graph(sg.mse(sg.matmul(e, sg.parameter("w", (3,)), name="y"), t, name="loss"))


def attention() -> nx.MultiDiGraph:
    x = sg.input("X", ("T", 4))
    q, k, v = (sg.matmul(x, sg.parameter(name, (4, 4)), name=name.lower()) for name in "QKV")
    p = sg.softmax(sg.matmul(q, sg.transpose(k), name="s"), name="p")
    return sg.graph(sg.mean(sg.square(sg.matmul(p, v, name="y")), name="loss"))


def shared() -> nx.MultiDiGraph:
    x, w = sg.input("x", ("N", 3)), sg.parameter("W", (3, 3))
    h = sg.tanh(sg.matmul(x, w, name="z1"), name="h1")
    return sg.graph(sg.mean(sg.tanh(sg.matmul(h, w, name="z2"), name="h2"), name="loss"))


def strided() -> nx.MultiDiGraph:
    z = sg.conv1d(sg.parameter("x", ("N", 1, 7)), sg.parameter("F", (2, 1, 3)), stride=2, name="z")
    return sg.graph(sg.mean(sg.square(z), name="loss"))


def product() -> nx.MultiDiGraph:
    return sg.graph(sg.prod(sg.parameter("x", (4,)), name="loss"))


def solution() -> nx.MultiDiGraph:
    y = sg.solve(sg.parameter("A", (3, 3)), sg.parameter("b", (3,)), name="y")
    return sg.graph(sg.sum(sg.square(y), name="loss"))


NETWORKS = (perceptron, convolution, normalised, lookup, attention, shared, strided, product, solution)


def of_kind(derivation: Derivation, tensor: str, kind: str) -> list[Step]:
    return [step for step in derivation[tensor].steps() if step.rule.kind == kind]


# what the steps say


def test_the_steps_of_a_perceptron(update: bool) -> None:
    written = str(sg.derive(perceptron())["W1"].steps()) + "\n"
    if update:
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8"), "run pytest --update, and read the difference"


def test_a_step_says_what_it_is() -> None:
    (step,) = (s for s in sg.derive(perceptron())["W1"].steps() if s.tensor == "z1")
    assert (step.rule.kind, str(step.rule)) == ("chain rule", "chain rule through h = tanh(z¹)")
    assert (step.node, step.tensor, step.shape) == ("h", "z1", (sp.Symbol("N", integer=True, positive=True), 4))
    assert step.before == "∂L/∂z¹ = ∂L/∂h · ∂h/∂z¹"
    assert step.after == "δ¹ = δ_h ⊙ (1 − tanh(z¹)²)"
    assert step.explanation == "∂h[n,i]/∂z¹[n,i] = 1 − tanh(z¹[n,i])²."
    assert step.latex.startswith("\\begin{aligned}\n  \\frac{\\partial L}{\\partial z^{1}} &= ")


def test_only_what_is_on_the_way_has_a_step() -> None:
    steps = sg.derive(perceptron())["W2"].steps()
    assert not {"W1", "b1", "b2", "z1", "h"} & {step.tensor for step in steps}
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].after == "∇W² = hᵀ δ²" and len(steps[:2]) == 2
    assert repr(steps) == f"<Steps by 'W2': {len(steps)}>"


def test_index_equations_are_solved_in_letters() -> None:
    (step,) = of_kind(sg.derive(convolution()), "F1", "index solved")
    assert str(step.rule) == "index solved: l+q = j,  q = j−l; r+u = k,  u = k−r"
    assert step.before.endswith("[j = l+q] [k = r+u]")
    assert step.after == "δ_a[n,i,j,k] = Σ_l,q,r δ²[n,l,j−q,k−r] F²[l,i,q,r]"


def test_an_index_without_a_solution_stays() -> None:
    d = sg.derive(strided())
    assert not of_kind(d, "x", "index solved")
    assert "stays as a condition" in of_kind(d, "x", "chain rule")[-1].explanation
    assert "[j = 2l+k]" in of_kind(d, "x", "chain rule")[-1].after
    assert "Only the data tell" in of_kind(sg.derive(lookup()), "E", "chain rule")[-1].explanation


def test_the_shift_of_a_softmax_vanishes_before_the_reader() -> None:
    steps = [s for s in sg.derive(attention())["Q"].steps() if s.tensor == "p_m"]
    assert [s.rule.kind for s in steps] == ["chain rule", "value named", "sum recognised"]
    assert str(steps[-1].rule) == "sum recognised: p_s = Σᵢ e; u = Σᵢ (δ_p ⊙ e)"
    assert steps[-1].after == "δ_m[t] = 0"
    (moved,) = of_kind(sg.derive(attention()), "Q", "factor moved")
    assert moved.after == "δ_p_s = −u ⊘ p_s²"


def test_winners_share_and_contributions_are_added() -> None:
    d = sg.derive(convolution())
    assert "win the maximum share" in next(s for s in d["F2"].steps() if s.tensor == "z2").explanation
    (added,) = of_kind(sg.derive(shared()), "W", "adjoints added")
    assert added.before == "∂L/∂W = ∂L/∂z² · ∂z²/∂W + ∂L/∂z¹ · ∂z¹/∂W"
    assert added.after == "∇W = ∇W_via_z¹ + ∇W_via_z²"


def test_the_implicit_function_theorem_is_named() -> None:
    step = sg.derive(solution())["A"].steps()[-1]
    assert (str(step.rule), step.after) == ("chain rule through y = A⁻¹ b", "∇A = −A⁻ᵀ δ_y yᵀ")
    assert step.explanation == "From the equations that define y, by the implicit function theorem."


def test_a_cotangent_is_where_a_product_starts() -> None:
    d = sg.derive(perceptron(), of="z2", wrt=["W1", "z2", "h"], seed="v")
    assert "  L = Σ (v ⊙ z²)\n" in str(d["W1"].steps())
    assert [s.rule.kind for s in d["z2"].steps()] == ["start"]
    assert all(step.check() for tensor in d for step in d[tensor].steps())


def test_a_derivative_of_a_derivative_has_steps() -> None:
    x = sg.parameter("x", (3,))
    first = sg.derive(sg.graph(sg.sum(sg.multiply(x, sg.matmul(sg.input("A", (3, 3)), x, name="y")), name="loss")))
    second = sg.derive(first.graph, of=first.system.gradients["x"], seed="v", wrt=["x"])
    assert all(step.check() for step in second["x"].steps())


def test_a_derivation_without_a_record_says_so() -> None:
    d = sg.derive(perceptron())
    with pytest.raises(DeriveError, match="no record"):
        Derivation(d.network, d.forward, d.system)["W1"].steps()


@pytest.mark.parametrize("build", NETWORKS)
def test_latex_is_balanced(build: Callable[[], nx.MultiDiGraph]) -> None:
    d = sg.derive(build())
    for tensor in d:
        written = d[tensor].steps().latex
        assert written.count("{") - written.count(r"\{") == written.count("}") - written.count(r"\}")
        assert not re.search(r"[⁰-⁹₀-₉ᵀδ∂Σ⊙−]", written)
        assert all(line.count("&") == 1 for line in written.split("\\\\\n") if "begin{cases}" not in line)


# that it is so


@pytest.mark.parametrize("build", NETWORKS)
def test_every_step_holds(build: Callable[[], nx.MultiDiGraph]) -> None:
    d = sg.derive(build())
    for tensor in d:
        for step in d[tensor].steps():
            found = step.check()
            assert found.ok and found.error < 1e-7, f"{tensor}: {step}"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_every_step_of_a_random_network_holds(drawn: Network) -> None:
    try:
        d = sg.derive(drawn.graph, wrt=list(drawn.values)[:2])
    except DeriveError:
        assume(False)
    for tensor in d:
        for step in d[tensor].steps():
            try:
                assert step.check(), f"{tensor}: {step}"
            except VerifyError as error:
                assert "kink" in str(error)


def broken(system: System) -> System:
    """A pass that forgets a sign in the adjoint of z1."""
    result = system.copy()
    e = result.equations["d_z1"]
    result.equations["d_z1"] = replace(e, definition=replace(e.definition, body=-e.definition.body))
    return result


def test_a_wrong_pass_is_found_and_only_that() -> None:
    d = sg.derive(perceptron())
    assert d.record is not None
    d.record = replace(d.record, passes=(*d.record.passes, ("broken", broken)))
    wrong = [step for step in d["W1"].steps() if not step.check()]
    assert [(s.tensor, s.rule.made_by, s.rule.kind) for s in wrong] == [("z1", "broken", "rewritten")]
    assert wrong[0].check().error > 0.01


def test_a_wrong_derivative_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = reverse.scalar_derivative
    monkeypatch.setattr(reverse, "scalar_derivative", lambda body, at: true(body, at) * (2 if body.has(sp.tanh) else 1))
    reverse._contribution.cache_clear()
    wrong = [step.tensor for step in sg.derive(perceptron())["W1"].steps() if not step.check()]
    assert wrong == ["z1", "W1"]


def test_a_wrong_contribution_among_several_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of a contribution looks at its own read alone."""
    true = reverse._contribution

    def doubled(definition: Any, access: At, weight: sp.Expr, *rest: Any) -> Any:
        return true(definition, access, weight * (2 if definition.reduction == "max" else 1), *rest)

    x = sg.parameter("x", ("N", 3))
    graph = sg.graph(sg.sum(sg.multiply(sg.max(x, axis=1, name="m"), sg.sum(x, axis=1, name="s")), name="loss"))
    assert all(step.check() for step in sg.derive(graph)["x"].steps())
    monkeypatch.setattr(reverse, "_contribution", doubled)
    wrong = [step for step in sg.derive(graph)["x"].steps() if not step.check()]
    assert [str(step.rule) for step in wrong] == ["chain rule through m = maxᵢ x", "adjoints of x added"]


def test_a_step_is_checked_where_the_reader_says() -> None:
    step = sg.derive(perceptron())["W1"].steps()[-1]
    assert step.check({"x": np.ones((5, 3))}).ok
    assert step.check(dims={"N": 7}, seed=3).ok
    with pytest.raises(VerifyError, match="wrong shape"):
        step.check({"x": np.ones((5, 4))})
    (kink,) = of_kind(sg.derive(sg.graph(sg.sum(sg.abs(sg.parameter("x", (2,)), name="y"), name="loss"))), "x", CHAIN)[
        1:
    ]
    with pytest.raises(VerifyError, match="kink"):
        kink.check({"x": np.zeros(2)})


def test_the_same_text_under_any_hash_seed() -> None:
    program = "import test_steps as t, symgrad as sg; print(sg.derive(t.attention())['K'].steps())"
    here = Path(__file__).parent
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            cwd=here,
            env={"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1


# layouts


def test_numerator_layout_transposes_to_the_symbols() -> None:
    d = sg.derive(perceptron())
    assert d["W1"].written(layout="numerator").splitlines()[:4] == [
        "∂L/∂W¹ = (xᵀ δ¹)ᵀ = (δ¹)ᵀ x",
        "where",
        "  δ¹ = (δ² (W²)ᵀ) ⊙ f'(z¹)",
        "  δ² = (∂L/∂z²)ᵀ",
    ]
    assert d["b1"].written(layout="numerator").startswith("∂L/∂b¹ = (Σₙ δ¹)ᵀ\n")
    assert d["W1"].written() == d["W1"].written(layout="denominator") == str(d["W1"])
    assert re.search(r"∂L/∂W¹ = .* +\(4, 3\)\n", d.written(layout="numerator"))
    assert re.search(r"∂L/∂b¹ = .* +\(1, 4\)", d.written(layout="numerator"))
    assert r"\frac{\partial L}{\partial W^{1}} &= " in d["W1"].latex_written(layout="numerator")


def test_numerator_layout_of_what_has_no_matrix_form() -> None:
    assert sg.derive(lookup())["E"].written(layout="numerator").startswith("∂L/∂E = (∇E)ᵀ\nwhere\n  ∇E[v,i] = Σₙ ")
    d = sg.derive(convolution())
    first = d["F1"].written(layout="numerator").splitlines()[0]
    assert first == d["F1"].written().splitlines()[0]  # four axes have no transpose
    with pytest.raises(DeriveError, match="no layout 'rows'"):
        d.written(layout="rows")


@pytest.mark.parametrize("build", (perceptron, normalised, lookup, attention, shared))
def test_numerator_layout_is_the_jacobian(build: Callable[[], nx.MultiDiGraph]) -> None:
    """Both sides of ∂L/∂W = Gᵀ = ..., read back as numbers, are the transposed central differences."""
    d = sg.derive(build())
    names = [name for name, leaf in d.forward.leaves.items() if leaf.kind != "constant"]
    values = draw(d.system, names, None, 0, {})
    found = evaluate(d.system, values)
    sizes = {str(s): k for s, k in solve_dims(d.forward.leaves.values(), shapes_of(values)).sizes.items()}
    matrices = Matrices(d.plan, found, sizes)
    at = Evaluation(d.forward, values, "loss")
    for tensor, name in d.system.gradients.items():
        (line,) = [m for m in layout_lines(d.plan, name, "numerator") if text(m.left).startswith("∂L")]
        sides = (line.right.left, line.right.right) if isinstance(line.right, n.Relation) else (line.right,)
        shape = values[tensor].shape
        entries = [central_difference(at, {tensor: unit(shape, index)}) for index in np.ndindex(*shape)]
        expected = np.reshape([float(e) for e in entries if e is not None], shape)
        for side in sides:
            made = np.asarray(matrices.value(side))
            made = made if len(shape) == 2 else made.reshape(shape)  # rows and columns are the reader's choice
            assert np.allclose(made, expected.T, atol=1e-8), text(side)


def shapes_of(values: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in values.items()}


A, B, c = n.Atom("A", "A"), n.Atom("B", "B"), n.Atom("c", "c")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (n.product([A, B]), "Bᵀ Aᵀ"),
        (n.product([n.transposed(A), B, c]), "c Bᵀ A"),
        (n.scaled(sp.Rational(1, 2), n.product([A, B])), "1/2 Bᵀ Aᵀ"),
        (n.total([A, n.negated(n.product([A, B]))]), "Aᵀ − Bᵀ Aᵀ"),
        (n.hadamard([A, n.Call("f'", "f'", (B,))]), "Aᵀ ⊙ f'(B)ᵀ"),
        (n.quotient(A, B, "⊘"), "Aᵀ ⊘ Bᵀ"),
        (n.quotient(A, c), "Aᵀ / c"),
        (n.Inverse(A), "(Aᵀ)⁻¹"),
        (n.Kronecker((A, B)), "Aᵀ ⊗ Bᵀ"),
        (n.product([n.reduced("sum", (), A), B]), "(Σ A) Bᵀ"),
        (n.reduced("sum", ("n",), A), "(Σₙ A)ᵀ"),
        (n.Power(A, n.Constant(sp.Integer(2))), "(Aᵀ)²"),
        (n.Norm(A, "2"), "‖A‖₂"),
    ],
)
def test_transposes(node: n.Node, expected: str) -> None:
    assert text(transpose_node(node, scalars=[c])) == expected
