"""Matrix calculus on random expressions: values, printed text, second derivatives, and the normal form."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sympy as sp
from expression_value import computed, differences, drawn
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from printed import value
from sympy import Expr, Symbol

from symgrad.algebra.contractions import system_of
from symgrad.algebra.delta import Delta
from symgrad.algebra.inverses import Facts
from symgrad.algebra.naming import heads, opened
from symgrad.algebra.normal import expanded, normal
from symgrad.calculus import gradient, hessian, hvp, jacobian
from symgrad.equations import Leaf, System
from symgrad.evaluate.reference import evaluate
from symgrad.formula.indexed import Element, Reduction

KINDS = {
    **dict.fromkeys("xyz", "vector(n)"),
    **dict.fromkeys("ABX", "matrix(n, n)"),
    "S": "symmetric(n)",
    "c": "scalar",
}
MARKS = ("#", "@", "_via_", "reshape(", "{0}", "Dummy")


def relaxed(examples: int) -> settings:
    """So many examples, the same on each run, however long one takes."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


# random expressions: all dimensions are n, so that printed vectors of ones have a size


def joined(parts: st.SearchStrategy[str], *forms: str) -> st.SearchStrategy[str]:
    """A form with every {} filled by one of the parts."""

    def filled(form: str) -> st.SearchStrategy[str]:
        return st.tuples(*[parts] * form.count("{}")).map(lambda found: form.format(*found))

    return st.sampled_from(forms).flatmap(filled)


def vectors(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(("x", "y", "z"))
    if depth == 0:
        return leaves
    same = joined(
        vectors(depth - 1), "tanh({})", "sin({})", "exp(tanh({}))", "({} + {})", "({} * {})", "({} - y)", "softmax({})"
    )
    mixed = st.tuples(matrices(depth - 1), vectors(depth - 1)).flatmap(
        lambda p: st.sampled_from(
            (f"({p[0]} @ {p[1]})", f"({p[0]}.T @ {p[1]})", f"(inv(S) @ {p[1]})", f"solve(S, {p[1]})")
        )
    )
    return st.one_of(leaves, same, mixed, joined(matrices(depth - 1), "diag({})"))


def matrices(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(("A", "B", "X", "S"))
    if depth == 0:
        return leaves
    same = joined(
        matrices(depth - 1),
        "({} @ {})",
        "({} + {})",
        "({} * {})",
        "{}.T",
        "sin({})",
        "inv(S + 0.1*{} @ {}.T)",
        "(2*{} - {})",
    )
    return st.one_of(leaves, same, joined(vectors(depth - 1), "outer({}, {})", "diag({})"))


def scalars(depth: int = 2) -> st.SearchStrategy[str]:
    of_vectors = joined(
        vectors(depth), "sum({})", "({} @ {})", "norm2({})**2", "logsumexp({})", "mean({})", "norm2({} + 3)"
    )
    of_matrices = joined(
        matrices(depth), "sum({})", "trace({})", "normfro({})**2", "trace({} @ {})", "logdet(S + 0.1*{} @ {}.T)"
    )
    plain = st.one_of(of_vectors, of_matrices)
    return st.one_of(plain, joined(plain, "({} * {})", "({} + c*{})", "sin({})", "({} / (2 + cos({})))"))


def declared(expression: str) -> dict[str, str]:
    """The kinds of the variables that occur."""
    names = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
    return {name: kind for name, kind in KINDS.items() if name in names}


@st.composite
def cases(draw: st.DrawFn, expressions: st.SearchStrategy[str], wrt: str = "xyzABXc") -> tuple[str, str, int]:
    """(expression, one of its variables, seed for the data)."""
    expression = draw(expressions)
    free = [name for name in declared(expression) if name in wrt]
    assume(free)
    return expression, draw(st.sampled_from(free)), draw(st.integers(0, 9))


def data(formula: Any, seed: int) -> dict[str, np.ndarray]:
    """Data on which the expression is tame enough for differences."""
    arrays = drawn(formula.problem, np.random.default_rng(seed), 3)
    size = np.abs(computed(formula.problem.text, arrays)).max()
    assume(np.isfinite(size) and size < 1e4)
    return arrays


def close(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


# values


@relaxed(40)
@given(cases(scalars()))
def test_gradient(case: tuple[str, str, int]) -> None:
    """The emitted function equals differences of the expression, and so does the printed text, read back."""
    expression, wrt, seed = case
    formula = gradient(expression, wrt, declared(expression))
    arrays = data(formula, seed)
    expected = differences(expression, wrt, arrays)
    assume(np.abs(expected).max() < 100)
    close(formula(**arrays), expected)
    assert not any(mark in formula.text + formula.latex for mark in MARKS)
    close(value(formula.text, arrays, expected.shape), formula(**arrays), 1e-9)


@relaxed(25)
@given(cases(scalars()))
def test_gradient_against_torch(case: tuple[str, str, int]) -> None:
    """Another way of differentiating, to machine precision."""
    torch = pytest.importorskip("torch")
    expression, wrt, seed = case
    formula = gradient(expression, wrt, declared(expression))
    arrays = data(formula, seed)
    tensors = {name: torch.tensor(a, dtype=torch.float64, requires_grad=name == wrt) for name, a in arrays.items()}
    close(formula(**arrays), torch_gradient(torch, expression, tensors, wrt), 1e-9)


def torch_gradient(torch: Any, expression: str, tensors: dict[str, Any], wrt: str) -> np.ndarray:
    names = {
        name: getattr(torch, name) for name in ("tanh", "sin", "cos", "exp", "outer", "trace", "diag", "sum", "mean")
    }
    names |= {
        "inv": torch.linalg.inv,
        "solve": torch.linalg.solve,
        "logdet": lambda a: torch.linalg.slogdet(a)[1],
        "norm2": torch.linalg.vector_norm,
        "normfro": torch.linalg.vector_norm,
        "logsumexp": lambda a: torch.logsumexp(a, 0),
        "softmax": lambda a: torch.softmax(a, 0),
    }
    found = eval(expression, {"__builtins__": {}}, names | tensors)
    found.backward()
    slope = tensors[wrt].grad
    return np.zeros(tensors[wrt].shape) if slope is None else slope.numpy()


@relaxed(25)
@given(cases(st.one_of(vectors(2), vectors(1), matrices(1))))
def test_jacobian(case: tuple[str, str, int]) -> None:
    """Its columns are differences of the expression; the text, of whichever notation, says the same."""
    expression, wrt, seed = case
    formula = jacobian(expression, wrt, declared(expression))
    arrays = data(formula, seed)
    expected = differences(expression, wrt, arrays)
    assume(np.abs(expected).max() < 100)
    close(formula(**arrays), expected)
    assert not any(mark in formula.text + formula.latex for mark in MARKS)
    close(value(formula.text, arrays, expected.shape), formula(**arrays), 1e-9)


@relaxed(15)
@given(cases(scalars(1), "xyzABX"))
def test_second_derivatives(case: tuple[str, str, int]) -> None:
    """The Hessian times a vector is the gradient's change along it; the whole Hessian is symmetric and agrees."""
    expression, wrt, seed = case
    kinds = declared(expression)
    slope, product = gradient(expression, wrt, kinds), hvp(expression, wrt, kinds)
    arrays = data(slope, seed)
    along = np.random.default_rng(seed + 100).normal(size=arrays[wrt].shape)

    def ahead(step: float) -> Any:
        return slope(**{**arrays, wrt: arrays[wrt] + step * along})

    h = 1e-3
    expected = (8 * (ahead(h) - ahead(-h)) - (ahead(2 * h) - ahead(-2 * h))) / (12 * h)
    found = product(**arrays, v=along)
    close(found, expected)
    close(value(product.text, {**arrays, "v": along}, expected.shape), found, 1e-9)
    full = np.asarray(hessian(expression, wrt, kinds)(**arrays).todense()).reshape(along.size, along.size)
    close(full, full.T, 1e-12)
    close((full @ along.ravel()).reshape(along.shape), found, 1e-10)


# the same bytes


def test_the_same_bytes_under_any_hash_seed() -> None:
    """Text, LaTeX and code do not depend on the order of sets."""
    script = (
        "from symgrad.calculus import gradient, hessian, jacobian\n"
        "for e, w in [('trace(inv(X.T @ C @ X) @ (X.T @ B @ X))', 'X'), ('sum(softmax(A @ x) * y)', 'x'),\n"
        "             ('x @ A @ x * logdet(A) + norm2(B @ x)**2', 'x'), ('a @ matrix_power(X, 4) @ b', 'X')]:\n"
        "    g = gradient(e, w)\n"
        "    print(g, g.latex, g.mathml, g.source, g.code)\n"
        "for d in (jacobian('X.T @ B @ X', 'X'), hessian('sum(log(1 + exp(X @ w)))', 'w')):\n"
        "    print(d, d.latex, d.source)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("0", "1", "12345")
    ]
    assert runs[0].stdout and runs[0].stdout == runs[1].stdout == runs[2].stdout


# the normal form


LEAVES = {"A": 2, "B": 2, "S": 2, "x": 1, "y": 1, "c": 0}
N = Symbol("n", integer=True, positive=True)
FACTS = Facts(symmetric=frozenset({"S"}))


@st.composite
def tensor_expressions(draw: st.DrawFn) -> tuple[Expr, int]:
    """(an expression over head(0), ..., its rank): sums of sums of products, functions of them, and deltas."""
    rank = draw(st.integers(0, 2))
    free = list(heads(rank))
    terms = [draw(_terms(free, 2)) for _ in range(draw(st.integers(1, 2)))]
    return sp.Add(*terms), rank


@st.composite
def _terms(draw: st.DrawFn, free: Sequence[Symbol], depth: int) -> Expr:
    loops = [sp.Dummy("k", integer=True, nonnegative=True) for _ in range(draw(st.integers(0, 3)))]
    index = [*free, *loops]
    factors: list[Expr] = [sp.Rational(draw(st.sampled_from((1, 2, -3))), draw(st.sampled_from((1, 2))))]
    for _ in range(draw(st.integers(1, 4))):
        factors.append(draw(_factors(index, depth)))
    return Reduction("sum", sp.Mul(*factors), [(k, N) for k in loops]) if loops else sp.Mul(*factors)


@st.composite
def _factors(draw: st.DrawFn, index: Sequence[Symbol], depth: int) -> Expr:
    kind = draw(st.sampled_from(("element", "element", "element", "delta", "sum", "function", "inner", "power")))
    if kind == "delta" and len(index) > 1:
        return Delta(draw(st.sampled_from(index)), draw(st.sampled_from(index)))
    if kind == "function":
        return draw(st.sampled_from((sp.sin, sp.tanh)))(draw(_elements(index)))
    if kind == "sum":
        return draw(_elements(index)) + draw(_elements(index))
    if kind == "power":
        return (draw(_elements(index)) + 3) ** draw(st.sampled_from((2, -1)))
    if kind == "inner" and depth:
        return draw(_terms(index, depth - 1))
    return draw(_elements(index))


@st.composite
def _elements(draw: st.DrawFn, index: Sequence[Symbol]) -> Expr:
    names = [name for name, rank in LEAVES.items() if rank == 0 or index]
    name = draw(st.sampled_from(names))
    return Element(name, [draw(st.sampled_from(index)) for _ in range(LEAVES[name])])


def leaves() -> System:
    found = System()
    for name, rank in LEAVES.items():
        found.leaves[name] = Leaf(name, "input", (sp.Integer(3),) * rank)
    return found


def numbers(expr: Expr, rank: int) -> np.ndarray:
    """The expression's value at fixed data, by way of the equations it is compiled to."""
    sized = expr.xreplace({N: sp.Integer(3)})
    system, names = system_of({"value": (sized, (sp.Integer(3),) * rank)}, leaves(), {})
    return np.asarray(evaluate(system, fixed_data(), needed=[names["value"]])[names["value"]])


def fixed_data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(-1, 1, (3,) * rank) for name, rank in LEAVES.items()}
    return values | {"S": values["S"] + values["S"].T}


def direct(expr: Expr, rank: int) -> np.ndarray:
    """The expression's value at the same data, entry by entry."""
    values = fixed_data()
    found = np.zeros((3,) * rank)
    for place in np.ndindex(*found.shape):
        found[place] = _entry(expr, values, dict(zip(heads(rank), place, strict=True)))
    return found


def _entry(expr: Expr, values: dict[str, np.ndarray], place: dict[Symbol, int]) -> float:
    if isinstance(expr, Element):
        return float(values[expr.name][tuple(place[i] for i in expr.index)])
    if isinstance(expr, Delta):
        return float(place[expr.args[0]] == place[expr.args[1]])
    if isinstance(expr, Reduction):
        symbols = [i for i, _ in expr.loops]
        points = np.ndindex(*(3,) * len(symbols))
        return float(sum(_entry(expr.body, values, place | dict(zip(symbols, p, strict=True))) for p in points))
    if expr == N:
        return 3.0
    parts = [_entry(part, values, place) for part in expr.args]
    return float(expr.func(*map(sp.Float, parts))) if parts else float(expr)


def scrambled(expr: Expr, names: dict[str, str], rng: np.random.Generator) -> Expr:
    """The same with leaves renamed, bound indices renamed, and loops in another order."""
    if isinstance(expr, Element):
        return Element(names[expr.name], expr.index)
    if isinstance(expr, Reduction):
        body, loops = opened(expr)
        order = list(loops)
        rng.shuffle(order)  # type: ignore[arg-type]
        fresh = {i: Symbol(f"q{rng.integers(10**6)}", integer=True, nonnegative=True) for i in order}
        inner = scrambled(body, names, rng).xreplace(fresh)
        return Reduction("sum", inner, [(fresh[i], loops[i]) for i in order])
    if not expr.args or isinstance(expr, Delta):
        return expr
    return expr.func(*(scrambled(part, names, rng) for part in expr.args))


@relaxed(40)
@given(tensor_expressions())
def test_normal_forms_keep_the_value(case: tuple[Expr, int]) -> None:
    """Both forms, and what they are compiled to, equal the expression entry by entry."""
    expr, rank = case
    expected = direct(expr, rank)
    for form in (normal(expr, FACTS), expanded(expr, FACTS)):
        close(direct(form, rank), expected, 1e-11)
        close(numbers(form, rank), expected, 1e-11)


@relaxed(120)
@given(tensor_expressions())
def test_normal_forms_are_idempotent(case: tuple[Expr, int]) -> None:
    """A normal form is its own."""
    expr, _ = case
    assert normal(normal(expr, FACTS), FACTS) == normal(expr, FACTS)
    assert expanded(expanded(expr, FACTS), FACTS) == expanded(expr, FACTS)


@relaxed(120)
@given(tensor_expressions(), st.integers(0, 99))
def test_normal_form_does_not_depend_on_order(case: tuple[Expr, int], seed: int) -> None:
    """However bound indices are named and ordered, one form comes out."""
    expr, _ = case
    same = scrambled(expr, {name: name for name in LEAVES}, np.random.default_rng(seed))
    assert normal(same, FACTS) == normal(expr, FACTS)
    assert expanded(same, FACTS) == expanded(expr, FACTS)


@relaxed(40)
@given(tensor_expressions(), st.integers(0, 99))
def test_normal_form_does_not_depend_on_names(case: tuple[Expr, int], seed: int) -> None:
    """Renamed before or after, the form is the same."""
    expr, _ = case
    renaming = dict(zip(LEAVES, ("B", "P", "R", "z", "a", "k"), strict=True))
    facts = Facts(symmetric=frozenset({"R"}))
    rng = np.random.default_rng(seed)
    for form in (normal, expanded):
        before = form(scrambled(expr, renaming, rng), facts)
        after = form(scrambled(form(expr, FACTS), renaming, rng), facts)
        assert before == after


@pytest.mark.parametrize("length", [3, 4, 5, 6])
def test_cycles_have_one_form(length: int) -> None:
    """tr(A^n), whose bound indices nothing tells apart, wherever the circle is cut and however it is named."""
    rng = np.random.default_rng(0)
    index = [sp.Dummy("k", integer=True, nonnegative=True) for _ in range(length)]
    circle = sp.Mul(*(Element("A", (index[k], index[(k + 1) % length])) for k in range(length)))
    trace = Reduction("sum", circle, [(k, N) for k in index])
    forms = {normal(scrambled(trace, {"A": "A"}, rng)) for _ in range(12)}
    assert len(forms) == 1
