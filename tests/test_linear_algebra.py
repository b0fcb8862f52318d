"""Tensors that equations define: the equations, their Newton steps, and the derivatives that follow from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import mpmath
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import symgrad as sg
from symgrad.builder import op_function
from symgrad.derive import derive_system
from symgrad.derive.implicit import newton_system
from symgrad.equations import Equation, Leaf, System
from symgrad.errors import DeriveError, FormulaError, ShapeError, VerifyError
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand
from symgrad.index.parser import parse_dimension, target_names
from symgrad.index.solution import KERNELS, Kernel, register_kernel, solution
from symgrad.pipeline import simplify

RANDOM = np.random.default_rng(0)
MATRIX = np.eye(3) + 0.4 * RANDOM.normal(size=(3, 3))
SYMMETRIC = np.array([[2.0, 0.5, -0.3], [0.5, 1.5, 0.2], [-0.3, 0.2, 1.0]])
TALL = RANDOM.normal(size=(4, 3))
OPERANDS: dict[str, tuple[np.ndarray, ...]] = {
    "inv": (MATRIX,),
    "det": (MATRIX,),
    "logdet": (MATRIX,),
    "cholesky": (SYMMETRIC,),
    "eigenvalues": (SYMMETRIC,),
    "lyapunov": (SYMMETRIC, MATRIX),
    "polar": (TALL,),
    "nuclear": (TALL,),
}
SYMMETRIC_ONLY = {"cholesky": "A", "eigenvalues": "A", "lyapunov": "H"}  # kernels, and what has to be symmetric
STEP = "1e-20"

Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def fifty_digits() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


def kernels() -> dict[str, Kernel]:
    """Every kernel once, under its first call; solve for matrices and for vectors."""
    found = {}
    for (call, ranks), (kernel, number) in KERNELS.items():
        if number == 0:
            found[call if call != "solve" else f"solve_{ranks[1]}"] = kernel
    return found


def operands(name: str) -> tuple[np.ndarray, ...]:
    if name.startswith("solve"):
        return MATRIX, TALL[:3] if name == "solve_2" else TALL[0]
    return OPERANDS[name]


def precise(x: Any) -> np.ndarray:
    return np.vectorize(mpmath.mpf, otypes=[object])(x)


# the data of the kernels


def unknowns(kernel: Kernel, values: Sequence[np.ndarray]) -> Arrays:
    """The solution of a kernel's equations, in 50 digits."""
    names = [t.name for t in kernel.operands]
    shapes = [tuple(map(int, v.shape)) for v in values]
    system = System({n: Leaf(n, "input", sizes(s)) for n, s in zip(names, shapes, strict=True)})
    for unknown in kernel.unknowns:
        made = solution(unknown.call, [sizes(s) for s in shapes], [False] * len(shapes))
        system.add(Equation(unknown.name, made, tuple(names)))
    return evaluate(system, dict(zip(names, values, strict=True)), "mp")


def sizes(shape: Sequence[int]) -> tuple[Any, ...]:
    return tuple(map(parse_dimension, shape))


def check_kernel(name: str, kernel: Kernel) -> None:
    """The equations hold at the solution; the step of the moved equations is the change of the solution.

    The latter is what `derive.implicit` differentiates, so it is all that derivatives rest on.
    """
    names = [t.name for t in kernel.operands]
    at = dict(zip(names, map(precise, operands(name)), strict=True))
    system = newton_system(kernel, [sizes(v.shape) for v in at.values()])
    here = unknowns(kernel, list(at.values()))
    values = at | {f"{n}_held": at[n] for n in names} | {u.name: here[u.name] for u in kernel.unknowns}
    zero = evaluate(system, values, "mp")
    for target in target_names(kernel.residual):
        assert np.max(np.abs(zero[target])) < 1e-45, target
    for direction in directions(name, at):
        moved = {n: at[n] + direction[n] * mpmath.mpf(STEP) for n in names}
        there = unknowns(kernel, list(moved.values()))
        found = evaluate(system, values | moved, "mp")
        for unknown in kernel.unknowns:
            true = (there[unknown.name] - here[unknown.name]) / mpmath.mpf(STEP)
            step = found["d" + unknown.name] / mpmath.mpf(STEP)
            assert np.max(np.abs(true - step)) < 1e-15 * (1 + np.max(np.abs(true))), unknown
        if not kernel.fixed:
            check_linearisation(kernel, system, values, direction, found)


def check_linearisation(kernel: Kernel, system: System, values: Arrays, direction: Arrays, found: Arrays) -> None:
    """The derivatives of R that the ordinary routine derives say that the change of R is 0 along the step."""
    moving = [*(t.name for t in kernel.operands), *(u.name for u in kernel.unknowns)]
    derived = derive_system(system, of="R", wrt=moving, seed="s", zeros=True)
    weights = precise(np.random.default_rng(3).normal(size=np.shape(found["R"])))
    gradients = evaluate(derived, values | {"s": weights}, "mp")
    changes = direction | {u.name: found["d" + u.name] / mpmath.mpf(STEP) for u in kernel.unknowns}
    total = sum(np.sum(gradients[derived.gradients[n]] * changes[n]) for n in moving)
    assert abs(total) < 1e-15


def directions(name: str, at: Arrays) -> Iterator[Arrays]:
    random = np.random.default_rng(1)
    for _ in range(2):
        drawn = {n: random.normal(size=v.shape) for n, v in at.items()}
        kept = SYMMETRIC_ONLY.get(name)
        yield {n: precise(u + u.T if n == kept else u) for n, u in drawn.items()}


@pytest.mark.parametrize("name", kernels())
def test_equations_and_newton_step_of_a_kernel(name: str) -> None:
    check_kernel(name, kernels()[name])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("inv", {"step": "dY[i, j] = sum(k, Y[k, i]*R[k, j])"}),
        ("inv", {"residual": "R[i, j] = where(i == j, 1, 0) - sum(k, A[k, i]*Y[k, j])"}),
        ("cholesky", {"step": "S = solve(L, R)\nM = solve(L, S.T)\ndL[i, j] = sum(k, L[i, k]*M[k, j])"}),
        ("det", {"fixed": "K = inv(A)\nC[i, j] = Y[()]*K[i, j]"}),
        ("nuclear", {"fixed": "Q[i, j] = A[i, j]"}),
    ],
)
def test_a_wrong_kernel_is_found(name: str, change: dict[str, str]) -> None:
    with pytest.raises(AssertionError):
        check_kernel(name, replace(kernels()[name], **change))


def test_a_linear_kernel_that_is_no_transpose_of_itself_is_refused() -> None:
    """(i + 1) weighs the rows of the equation: its transpose has them on the other side."""
    lyapunov = kernels()["lyapunov"]
    register_kernel(
        replace(
            lyapunov,
            unknowns=(replace(lyapunov.unknowns[0], call="lopsided"),),
            residual="R[i, j] = B[i, j] + sum(k, -(i + 1)*H[i, k]*Y[k, j])",
            step="dY = lopsided(H, R)",
        )
    )
    try:
        system = System({n: Leaf(n, "input", sizes((2, 2))) for n in "HB"})
        made = solution("lopsided", [sizes((2, 2))] * 2, [False] * 2)
        system.add(Equation("Y", made, ("H", "B")))
        with pytest.raises(DeriveError, match="transpose"):
            derive_system(system, of="Y", wrt=["B"], seed="v")
    finally:
        del KERNELS["lopsided", (2, 2)]


# closed forms


def network(formula: Callable[..., sg.Tensor], **shapes: Any) -> nx.MultiDiGraph:
    return sg.graph(formula(**{name: sg.parameter(name, shape) for name, shape in shapes.items()}))


def gradient(graph: nx.MultiDiGraph, values: Arrays, wrt: str) -> np.ndarray:
    derived = derive_system(expand(graph), wrt=[wrt])
    return evaluate(derived, values)[derived.gradients[wrt]]


def test_textbook_gradients() -> None:
    a, inverse = MATRIX, np.linalg.inv(MATRIX)
    u, _, vt = np.linalg.svd(TALL, full_matrices=False)
    square = {"A": (3, 3)}
    cases: list[tuple[Callable[..., sg.Tensor], np.ndarray, np.ndarray]] = [
        (lambda A: sg.logdet(A), a, inverse.T),
        (lambda A: sg.det(A), a, np.linalg.det(a) * inverse.T),
        (lambda A: sg.trace(sg.inv(A)), a, -(inverse @ inverse).T),
        (lambda A: sg.trace(sg.matrix_power(A, 3)), a, 3 * (a @ a).T),
        (lambda A: sg.trace(sg.matrix_power(A, -2)), a, -2 * np.linalg.matrix_power(inverse, 3).T),
        (lambda A: sg.sum(sg.eigvalsh(A)), a, np.eye(3)),
        (lambda A: sg.sum(sg.eigvalsh(A) ** 2), SYMMETRIC, 2 * SYMMETRIC),
        (lambda A: sg.sum(sg.log(sg.diag(sg.cholesky(A)))), SYMMETRIC, np.linalg.inv(SYMMETRIC) / 2),
    ]
    for formula, value, expected in cases:
        np.testing.assert_allclose(gradient(network(formula, **square), {"A": value}, "A"), expected, atol=1e-13)
    nuclear = network(lambda A: sg.nuclear(A), A=(4, 3))
    np.testing.assert_allclose(gradient(nuclear, {"A": TALL}, "A"), u @ vt, atol=1e-13)


def hessian(graph: nx.MultiDiGraph, value: np.ndarray) -> np.ndarray:
    """The Hessian by A, one product with a unit matrix after the other."""
    first = derive_system(expand(graph), wrt=["A"])
    second = derive_system(first, of=first.gradients["A"], wrt=["A"], seed="v")
    rows = []
    for place in np.ndindex(value.shape):
        v = np.zeros(value.shape)
        v[place] = 1
        rows.append(evaluate(second, {"A": value, "v": v})[second.gradients["A"]].ravel())
    return np.array(rows)


def test_hessian_of_logdet_is_minus_the_kronecker_product_of_inverses() -> None:
    inverse = np.linalg.inv(MATRIX)
    expected = -np.einsum("li,jk->ijkl", inverse, inverse).reshape(9, 9)
    np.testing.assert_allclose(hessian(network(lambda A: sg.logdet(A), A=(3, 3)), MATRIX), expected, atol=1e-12)


def test_the_hessian_of_the_nuclear_norm_stands_equal_singular_values() -> None:
    """At an orthonormal matrix: half the projection onto what turns it, and all of what leaves its columns."""
    q, _ = np.linalg.qr(TALL)
    found = hessian(network(lambda A: sg.nuclear(A), A=(4, 3)), q)
    v = np.random.default_rng(5).normal(size=(4, 3))
    inner = q.T @ v
    expected = q @ (inner - inner.T) / 2 + v - q @ inner
    np.testing.assert_allclose(found @ v.ravel(), expected.ravel(), atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "value"),
    [
        ("inv", lambda la, x: la.inv(x), MATRIX),
        ("det", lambda la, x: la.det(x), MATRIX),
        ("logdet", lambda la, x: la.slogdet(x)[1], MATRIX),
        ("cholesky", lambda la, x: la.cholesky((x + x.T) / 2), SYMMETRIC),
        ("eigvalsh", lambda la, x: la.eigvalsh((x + x.T) / 2), SYMMETRIC),
        ("pinv", lambda la, x: la.pinv(x), TALL),
        ("nuclear", lambda la, x: la.matrix_norm(x, "nuc"), TALL),
    ],
)
def test_derivatives_to_second_order_are_those_of_torch(
    ours: str, theirs: Callable[..., Any], value: np.ndarray
) -> None:
    torch = pytest.importorskip("torch")
    weights = np.random.default_rng(2).normal(size=np.shape(theirs(torch.linalg, torch.tensor(value))))
    graph = network(lambda A: sg.sum(op_function(ours)(A) * sg.constant(weights)), A=value.shape)
    x = torch.tensor(value, requires_grad=True)
    (slope,) = torch.autograd.grad((theirs(torch.linalg, x) * torch.tensor(weights)).sum(), x, create_graph=True)
    np.testing.assert_allclose(gradient(graph, {"A": value}, "A"), slope.detach().numpy(), atol=1e-11)
    v = np.random.default_rng(4).normal(size=value.shape)
    (curve,) = torch.autograd.grad((slope * torch.tensor(v)).sum(), x)
    np.testing.assert_allclose(hessian(graph, value) @ v.ravel(), curve.numpy().ravel(), rtol=1e-9, atol=1e-9)


# properties

MATRICES = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(3, 3)) + 3 * np.eye(3))


@given(a=MATRICES, b=MATRICES)
@settings(max_examples=25, deadline=None)
def test_identities_hold_in_value_and_gradient(a: np.ndarray, b: np.ndarray) -> None:
    values = {"A": a, "B": b}
    shapes = {"A": (3, 3), "B": (3, 3)}
    pairs: list[tuple[Callable[..., sg.Tensor], Callable[..., sg.Tensor]]] = [
        (lambda A, B: sg.logdet(A @ B), lambda A, B: sg.logdet(A) + sg.logdet(B)),
        (lambda A, B: sg.det(A @ B), lambda A, B: sg.det(A) * sg.det(B)),
        (lambda A, B: sg.sum(sg.solve(A, B)), lambda A, B: sg.sum(sg.inv(A) @ B)),
        (lambda A, B: sg.sum(sg.solve(A, A @ B)), lambda A, B: sg.sum(B) + 0 * sg.sum(A)),
        (lambda A, B: sg.trace(sg.inv(sg.inv(A)) @ B), lambda A, B: sg.trace(A @ B)),
        (lambda A, B: sg.sum(sg.pinv(A) * B), lambda A, B: sg.sum(sg.inv(A) * B)),
    ]
    for left, right in pairs:
        one, other = network(left, **shapes), network(right, **shapes)
        values_of = [evaluate(expand(g), values)[g.graph["loss"]] for g in (one, other)]
        np.testing.assert_allclose(*values_of, rtol=1e-7, atol=1e-7)
        for wrt in values:
            if wrt in needed(other):
                np.testing.assert_allclose(
                    gradient(one, values, wrt), gradient(other, values, wrt), rtol=1e-6, atol=1e-6
                )


def needed(graph: nx.MultiDiGraph) -> set[str]:
    system = expand(graph)
    return system.needed_for([system.loss or ""])


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-5, 9))
@settings(max_examples=30, deadline=None)
def test_matrix_powers(seed: int, exponent: int) -> None:
    a = np.random.default_rng(seed).normal(size=(3, 3)) + 3 * np.eye(3)
    graph = network(lambda A: sg.sum(sg.matrix_power(A, exponent) + 0 * A), A=(3, 3))
    found = evaluate(expand(graph), {"A": a})[graph.graph["loss"]]
    np.testing.assert_allclose(found, np.linalg.matrix_power(a, exponent).sum(), rtol=1e-10)
    products = sum(len(e.definition.reduced) == 1 for e in expand(graph))
    assert products <= 2 * abs(exponent).bit_length()


# the system and the program


def test_equal_solutions_are_computed_once() -> None:
    graph = network(lambda A, B: sg.logdet(A) + sg.det(A) + sg.sum(sg.inv(A) @ B), A=(3, 3), B=(3, 2))
    system = simplify(derive_system(expand(graph)))
    assert [e.solution.call for e in system if e.solution].count("inv") == 1


def test_the_gradient_of_solve_forms_no_inverse_and_no_copy_of_the_transpose() -> None:
    graph = network(lambda A, b: sg.sum(sg.solve(A, b) ** 2), A=(3, 3), b=(3,))
    for style in ("fast", "readable"):
        source = sg.emit(sg.derive(graph), style=style).source
        assert "linalg.inv" not in source
        assert len(re.findall(r"np\.linalg\.solve\(A(\.T|_T)?, ", source)) == 2
        assert re.search(r"np\.linalg\.solve\(A(\.T|_T), ", source)


def test_logdet_does_not_overflow_where_the_determinant_does() -> None:
    a = 1e3 * (MATRIX_OF_200 + 20 * np.eye(200))
    graph = network(lambda A: sg.logdet(A), A=(200, 200))
    module = sg.emit(sg.derive(graph), dtype="float64", optimizer="sgd").load()
    with np.errstate(over="ignore"):
        assert np.isinf(np.linalg.det(a))
    value, grads = module.loss_and_grads({"A": a})
    assert value == pytest.approx(np.linalg.slogdet(a)[1])
    np.testing.assert_allclose(grads["A"], np.linalg.inv(a).T, rtol=1e-9, atol=1e-12)


MATRIX_OF_200 = np.random.default_rng(6).normal(size=(200, 200))


def test_a_trained_covariance_finds_that_of_the_data() -> None:
    """Maximum likelihood of a Gaussian: the gradient is 0 where the parameter is the sample covariance."""
    x, s = sg.input("x", ("N", 3)), sg.parameter("S", (3, 3))
    data = np.random.default_rng(8).normal(size=(50, 3)) @ np.diag([1.0, 2.0, 0.5])
    loss = sg.logdet(s) + sg.sum(x.T * sg.solve(s, x.T)) / 50
    covariance = data.T @ data / 50
    found = gradient(sg.graph(loss), {"x": data, "S": covariance}, "S")
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_symbolic_sizes_and_which_side_is_independent() -> None:
    x = sg.input("x", ("m", "n"))
    for op, rank, wide in (("pinv", "rows", True), ("pinv", "columns", False), ("pinv", "auto", False)):
        graph = sg.graph(outputs=[op_function(op)(x, rank=rank, name="y")])
        value = RANDOM.normal(size=(2, 4) if wide else (4, 2))
        np.testing.assert_allclose(evaluate(expand(graph), {"x": value})["y"], np.linalg.pinv(value), atol=1e-12)


def test_verification_goes_through_solutions() -> None:
    graph = network(lambda A, B: sg.sum(sg.solve(A, B) ** 2) + sg.logdet(A), A=(3, 3), B=(3, 2))
    report = sg.verify(graph, params={"A": MATRIX})
    assert report.ok
    eigen = network(lambda A: sg.sum(sg.eigvalsh(A) ** 3), A=(3, 3))
    assert sg.verify(eigen, params={"A": MATRIX}).ok


def test_the_reference_refuses_what_has_no_value() -> None:
    singular, indefinite = np.ones((2, 2)), -np.eye(2)
    for op, value in (("inv", singular), ("cholesky", indefinite)):
        graph = network(lambda A, op=op: sg.sum(op_function(op)(A)), A=(2, 2))
        with pytest.raises(VerifyError):
            evaluate(expand(graph), {"A": value})


def test_identity_matrix() -> None:
    x = sg.input("x", ("N", "N"))
    y = sg.add(x, sg.eye("N"), name="y")
    found = evaluate(expand(sg.graph(outputs=[y])), {"x": np.zeros((3, 3))})["y"]
    assert found.tolist() == np.eye(3).tolist()
    zeroth = sg.graph(outputs=[sg.matrix_power(sg.input("a", (2, 2)), 0, name="p")])
    assert evaluate(expand(zeroth), {"a": np.ones((2, 2))})["p"].tolist() == np.eye(2).tolist()


# formula text


def test_formula_text_may_call_kernels() -> None:
    a, b = sg.input("a", ("n", "n")), sg.input("b", ("n",))
    y = sg.define("S[i, j] = A[i, j] + A[j, i]\nZ = solve(S.T, b)\nY[i] = 2*Z[i]", A=a, b=b, name="y")
    value = {"a": MATRIX, "b": TALL[0]}
    found = evaluate(expand(sg.graph(outputs=[y])), value)["y"]
    np.testing.assert_allclose(found, 2 * np.linalg.solve(MATRIX + MATRIX.T, TALL[0]))


@pytest.mark.parametrize(
    ("formula", "shape", "error", "says"),
    [
        ("Y = inv(A)", (2, 3), ShapeError, "the size n is 2 and 3"),
        ("Y = inv(A)", (3,), ShapeError, "cannot take operands of shape (3,)"),
        ("Y = solve(A)", (3, 3), ShapeError, "solve(A[n, n], B[n, m])"),
        ("Y = inv(Z)", (3, 3), FormulaError, "'Z' is not an operand"),
        ("Y = inv(A[i, j])", (3, 3), FormulaError, "whole operands"),
        ("Y = inv(A.H)", (3, 3), FormulaError, "whole operands"),
        ("Y = inv(A + A)", (3, 3), FormulaError, "whole operands"),
        ("Y = inv(A, out=A)", (3, 3), FormulaError, "operands only"),
        ("Y[i, j] = inv(A)", (3, 3), FormulaError, "without indices"),
        ("Y[i, j] = inv(A)[i, j]", (3, 3), FormulaError, "only operands have elements"),
        ("Y = 1 + det(A)", (3, 3), FormulaError, "function of whole matrices"),
    ],
)
def test_refusals(formula: str, shape: tuple[int, ...], error: type[Exception], says: str) -> None:
    graph = nx.MultiDiGraph(outputs=["y"])
    graph.add_node("a", op="input", shape=shape)
    graph.add_node("y", op="define", formula=formula, operands=["A"])
    graph.add_edge("a", "y", arg=0)
    with pytest.raises(error) as caught:
        expand(graph)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        ("inv", [(2, 3)]),
        ("solve", [(3, 3), (2, 2)]),
        ("cholesky", [(2, 3)]),
        ("matrix_power", [(2, 3)]),
        ("pinv", [(3,)]),
        ("nuclear", [(3,)]),
        ("trace", [(2, 3)]),
        ("norm2", [(2, 3)]),
        ("normfro", [(3,)]),
        ("kron", [(3,), (3, 3)]),
        ("diag", [(2, 2, 2)]),
        ("diag", [(2, 3)]),
        ("triu", [(3,)]),
        ("vec", [(3,)]),
    ],
)
def test_wrong_shapes_are_refused(op: str, shapes: Sequence[tuple[int, ...]]) -> None:
    attributes = {"exponent": 2} if op == "matrix_power" else {}
    tensors = [sg.input(f"x{k}", shape) for k, shape in enumerate(shapes)]
    with pytest.raises(ShapeError):
        expand(sg.graph(outputs=[op_function(op)(*tensors, **attributes)]))


def test_a_norm_of_order_below_one_is_refused() -> None:
    with pytest.raises(ShapeError, match="1 or more"):
        sg.graph(sg.pnorm(sg.input("x", (3,)), 0.5))
