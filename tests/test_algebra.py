"""What the algebra of closed forms has to find without being told, and that each of its rules keeps the value."""

from __future__ import annotations

import re
from typing import Any

import networkx as nx
import numpy as np
import pytest
import sympy as sp
from expression_value import differences, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from printed import value as printed

import symgrad as sg
from symgrad.algebra.closed import Closed, jacobian_of
from symgrad.algebra.contractions import system_of
from symgrad.algebra.delta import Delta
from symgrad.algebra.inverses import NOTHING, Facts
from symgrad.algebra.naming import head
from symgrad.algebra.normal import expanded, normal
from symgrad.algebra.tidy import cancelled, finished, tidied
from symgrad.derive import derive_system
from symgrad.equations import Leaf, System
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand
from symgrad.formula.indexed import Element, Reduction
from symgrad.index.definition import dimension, index_symbol
from symgrad.pipeline import tidied as tidied_system

N, D = dimension("N"), dimension("D")
I0, I1, K, L = head(0), head(1), index_symbol("k"), index_symbol("l")


def element(name: str, *index: sp.Expr) -> Element:
    return Element(name, index)


def total(body: sp.Expr, **loops: sp.Expr) -> Reduction:
    return Reduction("sum", body, [(index_symbol(name), n) for name, n in loops.items()])


# what it finds


def test_softmax_and_cross_entropy_cancel() -> None:
    z, t = sg.input("z", ("N", "C")), sg.input("t", ("N",), dtype="int64")
    derivation = sg.derive(sg.graph(sg.cross_entropy(z, t, name="L")), wrt=["z"])
    assert "e[n,i] / (N s[n]) − 1/N [i = t[n]]" in str(derivation["z"])


def test_softmax_and_cross_entropy_of_one_hot_targets() -> None:
    g = sg.gradient("-sum(t*log(softmax(z)))", "z")
    assert g.text.splitlines()[0] == "∂f/∂z = (1ᵀ t) s − t"


@pytest.mark.parametrize("expression", ["logsumexp(z)", "sum(t*log_softmax(z))", "sum(t*softmax(z))"])
def test_shift_by_the_maximum_has_no_gradient(expression: str) -> None:
    """The network's own derivative, with the maximum in it, closes to a form without one."""
    system, name = _derived(expression, "z")
    _, short = tidied(Closed(system)[name], NOTHING)
    assert not [r for r in short.atoms(Reduction) if r.kind == "max"]
    assert not short.has(sp.Piecewise)


def _derived(expression: str, wrt: str) -> tuple[System, str]:
    from symgrad.expression import read_expression

    problem = read_expression(expression, {"z": "vector(n)"})
    system = derive_system(expand(problem.graph), of=problem.output, wrt=[wrt])
    return system, system.gradients[wrt]


def test_derivative_of_softmax_is_structured() -> None:
    j = sg.jacobian("softmax(x)")
    assert j.text.splitlines()[0] == "∂f/∂x = diag(s) − s sᵀ"
    assert "diagonal" in j.structure and "low rank" in j.structure


def test_hessian_of_cross_entropy_does_not_read_the_labels() -> None:
    z, t = sg.input("z", ("N", "C")), sg.input("t", ("N",), dtype="int64")
    forward = expand(sg.graph(sg.cross_entropy(z, t, name="L")))
    first = derive_system(forward, wrt=["z"])
    second = derive_system(first, of=first.gradients["z"], wrt=["z"], seed="v")
    _, short = tidied(Closed(second, whole="v")[second.gradients["z"]], NOTHING)
    assert {e.name for e in short.atoms(Element)} == {"z", "v"}


def test_hessian_of_logistic_regression() -> None:
    h = sg.hessian("sum(log(1 + exp(X @ w)) - y*(X @ w))", "w")
    assert "∂²f/∂w² = Xᵀ diag(σ(−X w) ⊙ σ(X w)) X" in str(h)


def test_input_gradient_of_layer_norm_has_three_terms() -> None:
    x, dy = sg.input("x", ("N", "D")), sg.input("dy", ("N", "D"))
    g, b = sg.parameter("g", ("D",)), sg.parameter("b", ("D",))
    derivation = sg.derive(sg.graph(sg.sum(dy * sg.layer_norm(x, g, b, name="y"), name="L")), wrt=["x"])
    first = str(derivation["x"]).splitlines()[0]
    assert first == (
        "∇x[n,i] = dy[n,i] r[n] g[i] − 1/D d[n,i] r[n]³ Σⱼ dy[n,j] d[n,j] g[j] − 1/D r[n] Σⱼ dy[n,j] g[j]"
    )


def test_formulas_do_not_depend_on_names_or_order() -> None:
    one = sg.gradient("sum(log(1 + exp(-y * (X @ w))))", "w").text
    other = sg.gradient("sum(log(exp(-(Q @ c) * u) + 1))", "c").text
    assert other.replace("Q", "X").replace("c", "w").replace("u", "y") == one


# the rules, each alone

a, b, x = (lambda i, n=n: element(n, i) for n in "abx")
A, B = (lambda i, j, n=n: element(n, i, j) for n in "AB")
RULES = {
    "split": (total(a(K) + b(K), k=N), total(a(K), k=N) + total(b(K), k=N)),
    "contract": (total(Delta(I0, K) * a(K), k=N), a(I0)),
    "merge": (total(a(K) * total(A(K, L) * b(L), l=D), k=N), total(a(K) * A(K, L) * b(L), k=N, l=D)),
    "hoist": (total(b(I0) * a(K), k=N), b(I0) * total(a(K), k=N)),
    "count": (total(b(I0), k=N), N * b(I0)),
    "rename": (total(A(I0, L) * b(L), l=N), total(A(I0, K) * b(K), k=N)),
    "recognised": (total(sp.exp(A(I0, K)) / total(sp.exp(A(I0, L)), l=D), k=D), sp.Integer(1)),
    "exponents": (total(sp.exp(a(K) - b(I0)), k=N), sp.exp(-b(I0)) * total(sp.exp(a(K)), k=N)),
    "logarithm": (sp.log(total(sp.exp(a(K) - b(I0)), k=N)), sp.log(total(sp.exp(a(K)), k=N)) - b(I0)),
    "sign": (a(I0) * sp.sign(a(I0)), sp.Abs(a(I0))),
    "sign below": (sp.sign(a(I0)) / sp.Abs(a(I0)), 1 / a(I0)),
    "bracket": (sp.Piecewise((1, sp.Lt(I0, 2)), (0, True)) ** 2, sp.Piecewise((1, sp.Lt(I0, 2)), (0, True))),
    "moved": (total(Delta(I0, K + 1) * a(K), k=N), sp.Piecewise((a(I0 - 1), (I0 >= 1) & (I0 - 1 < N)), (0, True))),
    "components": (total(a(K) * b(L), k=N, l=N), total(a(K), k=N) * total(b(K), k=N)),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    before, after = RULES[rule]
    assert normal(before) == normal(after)


def test_inverse_cancels_the_matrix_and_products() -> None:
    gram = total(B(K, I0) * B(K, I1), k=N)
    facts = Facts(inverses=frozenset({("A1", A(I0, I1), D), ("G1", gram, D)}), symmetric=frozenset({"G1"}))
    assert normal(total(element("A1", I0, K) * A(K, I1), k=D), facts) == Delta(I0, I1)
    assert normal(total(A(I0, K) * element("A1", K, I1), k=D), facts) == Delta(I0, I1)
    assert normal(total(element("A1", I0, K) * A(I1, K), k=D), facts) != Delta(I0, I1)
    assert normal(total(element("A1", I0, K) * A(K, I1), k=N), facts) != Delta(I0, I1), "a part of the axis"
    product = total(element("G1", I0, K) * B(L, K) * B(L, I1), k=D, l=N)
    assert normal(product, facts) == Delta(I0, I1)


def test_symmetric_matrices_have_one_form() -> None:
    facts = Facts(symmetric=frozenset({"S"}))
    left = total(A(K, I0) * element("S", K, L) * A(L, I1), k=N, l=N)
    right = total(A(K, I0) * element("S", L, K) * A(L, I1), k=N, l=N)
    turned = left.xreplace({I0: I1, I1: I0})
    assert normal(left, facts) == normal(right, facts) == normal(turned, facts)
    assert normal(left) != normal(right)


def test_circles_have_one_form_wherever_they_are_cut() -> None:
    m = index_symbol("m")
    names = [K, L, m]
    forms = {
        normal(Reduction("sum", sp.Mul(*(A(p[i], p[(i + 1) % 3]) for i in range(3))), [(i, N) for i in names]))
        for p in ([K, L, m], [L, m, K], [m, K, L], [K, m, L])
    }
    assert len(forms) == 1


# a loop over a part of an axis is none over the whole

FOUR = {"x": "vector(4)", "y": "vector(4)", "A": "matrix(4,4)"}
PARTS = [
    ("gradient", "sum(x[:2])", "x"),
    ("gradient", "sum(x[:2] * y[:2])", "x"),
    ("gradient", "sum(exp(x[1:]) * x[:3])", "x"),
    ("gradient", "sum((x[1:] - x[:3])**2)", "x"),
    ("gradient", "sum(softmax(x)[:2])", "x"),
    ("gradient", "sum(softmax(x)[:2]**2)", "x"),
    ("gradient", "sum(softmax(x[:2]) * y[:2])", "x"),
    ("gradient", "sum(softmax(x[1:]) * y[1:])", "x"),
    ("gradient", "norm2(A[:2] @ x)**2", "A"),
    ("gradient", "norm2(A[:2] @ x)**2", "x"),
    ("gradient", "sum(inv(A)[:,:2] @ A[:2,:])", "A"),
    ("gradient", "trace(A[:2,:2]) * sum(A[1:3])", "A"),
    ("jacobian", "x[:2]", "x"),
    ("jacobian", "x[1:] * x[:3]", "x"),
    ("jacobian", "A[:2] @ x", "x"),
    ("jacobian", "A[:2] @ x", "A"),
]


@pytest.mark.parametrize(("kind", "expression", "wrt"), PARTS)
def test_parts_of_axes(kind: str, expression: str, wrt: str) -> None:
    _holds(kind, expression, wrt, FOUR)


def _holds(kind: str, expression: str, wrt: str, declare: dict[str, str]) -> None:
    """The emitted function, and the printed text, are the expression's central differences."""
    used = {name: shape for name, shape in declare.items() if re.search(rf"\b{name}\b", expression)}
    derived = {"gradient": sg.gradient, "jacobian": sg.jacobian}[kind](expression, wrt, used)
    arrays = drawn(derived.problem, np.random.default_rng(3))
    expected = differences(expression, wrt, arrays)
    np.testing.assert_allclose(derived(**arrays), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(printed(derived.text, arrays, expected.shape), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("expression", ["logdet(A[:2,:2])", "sum(inv(A[:2,:2]))"])
def test_matrix_functions_of_a_part(expression: str) -> None:
    found = sg.gradient(expression, "A", {"A": "matrix(4,4)"})
    arrays = drawn(found.problem, np.random.default_rng(3))
    np.testing.assert_allclose(found(**arrays), differences(expression, "A", arrays), rtol=1e-6, atol=1e-7)


SQUARE = {"x": "vector(3)", "y": "vector(3)", "A": "matrix(3,3)", "B": "matrix(3,3)"}


@pytest.mark.parametrize(
    ("expression", "wrt"),
    [
        ("logsumexp(sum(B.T, axis=1))", "B"),  # the softmax's own index, not that of the sum inside
        ("(A @ x + tanh(x)) @ (A[0,1]*y - B @ x)", "A"),  # sums in two terms share no letter with those around them
        ("abs(normfro(B))", "B"),  # √ and log are real: no arg, no atan2
        ("abs(y @ x / (2 + logsumexp(x)**2))", "x"),
        ("sum(abs(sqrt(exp(x) + 1) - 2))", "x"),
        ("sign(logsumexp(x)) * x[0]", "x"),
        ("sum(B @ x) * norm2(x)**2", "B"),  # 1 xᵀ with a scalar in front, which is not turned
    ],
)
def test_what_random_expressions_found(expression: str, wrt: str) -> None:
    _holds("gradient", expression, wrt, SQUARE)


def test_root_of_an_absolute_value_has_a_slope_at_zero() -> None:
    np.testing.assert_array_equal(sg.gradient("sum(abs(x)**1.5)")(x=np.array([0.0, 4.0, -4.0])), [0, 3, -3])


def test_what_a_part_of_an_axis_does_not_tell() -> None:
    facts = Facts(normalised=frozenset({("a", 0, N)}), orthogonal=frozenset({("A", N)}))
    assert normal(total(a(K), k=N), facts) == 1 != normal(total(a(K), k=D), facts)
    product = A(I0, K) * A(I1, K)
    assert normal(total(product, k=N), facts) == Delta(I0, I1) != normal(total(product, k=D), facts)


def test_condition_of_a_greatest_entry_is_renamed_with_it() -> None:
    greatest = normal(Reduction("max", a(K), [(K, N)], sp.Eq(K, I0, evaluate=False)))
    ((loop, _),) = greatest.loops
    assert greatest.condition == sp.Eq(loop, I0, evaluate=False)


def test_swap_of_identities_is_the_commutation_matrix() -> None:
    assert sg.jacobian("A.T").text == "∂vec(f)/∂vec(A)ᵀ = K"


# values


LEAVES = {"a": (N,), "b": (N,), "A": (N, D), "B": (N, D), "c": ()}
RNG = np.random.default_rng(5)
DATA = {"a": RNG.normal(size=3), "b": RNG.normal(size=3), "A": RNG.normal(size=(3, 4)), "B": RNG.normal(size=(3, 4))}
DATA["c"] = np.asarray(1.7)


def value(expr: sp.Expr) -> Any:
    """The expression over head(0), of size N, evaluated from its equations."""
    given = System(leaves={name: Leaf(name, "input", shape) for name, shape in LEAVES.items()})
    system, names = system_of({"y": (expr, (N,))}, given, {})
    return evaluate(system, DATA, needed=[names["y"], *DATA])[names["y"]]


def expressions(depth: int = 3) -> st.SearchStrategy[sp.Expr]:
    leaves = st.sampled_from(
        [a(I0), b(I0), element("c"), total(A(I0, K), k=D), total(A(I0, K) * B(I0, K), k=D), total(a(K) * b(K), k=N),
         total(A(L, K) * B(I0, K) * a(L), k=D, l=N), sp.Rational(1, 2), sp.Integer(2)]
    )  # fmt: skip
    if not depth:
        return leaves
    inner = expressions(depth - 1)
    summed = inner.map(lambda e: Reduction("sum", e.xreplace({I0: L}), [(L, N)]) if not e.has(L) else e)
    return st.one_of(
        leaves,
        st.builds(lambda p, q: p + q, inner, inner),
        st.builds(lambda p, q: p * q, inner, inner),
        inner.map(lambda e: 1 / (1 + e**2)),
        inner.map(sp.tanh),
        inner.map(lambda e: sp.exp(e / 8)),
        summed,
    )


@settings(max_examples=60, deadline=None, phases=[p for p in __import__("hypothesis").Phase if p.name != "shrink"])
@given(expressions())
def test_every_form_keeps_the_value(expr: sp.Expr) -> None:
    expected = value(normal(expr))
    for form in (expanded(expr), cancelled(normal(expr)), finished(normal(expr)), tidied(expr, NOTHING)[1]):
        np.testing.assert_allclose(value(form), expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(expressions(2))
def test_normal_form_is_one(expr: sp.Expr) -> None:
    once = normal(expr)
    assert normal(once) == once


def test_jacobian_is_read_off_a_product_with_a_seed() -> None:
    x, y = sg.input("x", ("n",)), sg.input("y", ("n",))
    graph: nx.MultiDiGraph[Any] = sg.graph(sg.sum(sg.multiply(sg.tanh(x), y, name="f")))
    system = derive_system(expand(graph), of="f", wrt=["x"], seed="v")
    closed = Closed(system)
    found = jacobian_of(closed, system.gradients["x"], "v")
    assert found == normal(Delta(I0, I1) * (1 - sp.tanh(element("x", I0)) ** 2) * element("y", I0))


def test_shorter_adjoints_keep_their_values() -> None:
    x, g, b = sg.input("x", ("N", "D")), sg.parameter("g", ("D",)), sg.parameter("b", ("D",))
    forward = expand(sg.graph(sg.sum(sg.tanh(sg.layer_norm(sg.tanh(x), g, b, name="y")), name="L")))
    raw = derive_system(forward, wrt=["x", "g"])
    short = tidied_system(raw, forward)
    data = {"x": RNG.normal(size=(3, 4)), "g": RNG.normal(size=4), "b": RNG.normal(size=4)}
    before, after = evaluate(raw, data), evaluate(short, data)
    for name in ("x", "g"):
        np.testing.assert_allclose(after[short.gradients[name]], before[raw.gradients[name]], rtol=1e-10)


@pytest.mark.parametrize("expression", ["sum(logsumexp(X @ W, axis=1))", "-sum(Y*log_softmax(X @ W, axis=1))"])
def test_softmax_inside_other_sums_is_computed_right(expression: str) -> None:
    """The shift by the maximum is a sum inside the sum; its index must not meet those around it."""
    g = sg.gradient(expression, "W", {"Y": "matrix(m, p)"} if "Y" in expression else None)
    assert g.steps()[-1].check() < 1e-10
