"""Structured Hessians: which structure is found, and that products, solutions and dense arrays are those of NumPy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expression_value import differences, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from symgrad.calculus import gradient, hessian, jacobian
from symgrad.calculus.operators import (
    BlockMap,
    Blocks,
    Dense,
    Diagonal,
    Kronecker,
    LinearMap,
    LowRank,
    Swapped,
    structured_solver,
)
from symgrad.emit.program import is_untouched
from symgrad.errors import DeriveError, EmitError, ShapeError, VerifyError


@dataclass(frozen=True)
class Row:
    """An expression, what its Hessian is printed as, the structure, and whether it can be solved."""

    expression: str
    wrt: str
    text: str
    structure: str
    declare: dict[str, str] = field(default_factory=dict)
    singular: bool = False

    def __str__(self) -> str:
        return f"{self.expression} by {self.wrt}"


MN = {"X": "matrix(m, n)"}
TIMES_B = {"X": "matrix(m, n)", "B": "matrix(n, q)"}
SS = {"A": "symmetric(m, m)", "B": "symmetric(n, n)", "X": "matrix(m, n)"}
ROWS = [
    Row("sum(x**4)", "x", "∂²f/∂x² = 12 diag(x ⊙ x)", "diagonal", {"x": "vector(n)"}),
    Row("norm2(x)**2", "x", "∂²f/∂x² = 2 I", "diagonal"),
    Row("sum(x**4) + lam * norm2(x)**2", "x", "∂²f/∂x² = 2 λ I + 12 diag(x ⊙ x)", "diagonal", {"lam": "scalar"}),
    Row("sum(exp(x) * y)", "x", "∂²f/∂x² = diag(y ⊙ exp(x))", "diagonal", {"x": "vector(n)"}),
    Row("sum(X**4)", "X", "∂²f/∂vec(X)² = diag(12 vec(X ⊙ X))", "diagonal", MN),
    Row("exp(x)", "x", "∂²f/∂x² = exp(x)", "diagonal", {"x": "scalar"}),
    Row("a @ x", "x", "∂²f/∂x² = 0", "zero", singular=True),
    Row("x @ A @ x", "x", "∂²f/∂x² = A + Aᵀ", "dense"),
    Row("x @ S @ x", "x", "∂²f/∂x² = 2 S", "dense", {"S": "symmetric(n, n)"}),
    Row("norm2(A @ x - b)**2", "x", "∂²f/∂x² = 2 Aᵀ A", "low rank"),
    Row(
        "sum(log(1 + exp(-y * (X @ w))))",
        "w",
        "∂²f/∂w² = Xᵀ diag(σ(−y ⊙ (X w)) ⊙ σ(y ⊙ (X w)) ⊙ y ⊙ y) X",
        "low rank",
    ),
    Row(
        "sum(log(1 + exp(X @ w))) - y @ (X @ w)",
        "w",
        "∂²f/∂w² = Xᵀ diag(σ(−X w) ⊙ σ(X w)) X",
        "low rank",
    ),
    Row("logsumexp(x)", "x", "∂²f/∂x² = diag(s) − s sᵀ", "diagonal + low rank", {"x": "vector(n)"}, True),
    Row("logsumexp(z) - t @ z", "z", "∂²f/∂z² = diag(s) − s sᵀ", "diagonal + low rank", singular=True),
    Row("logsumexp(x) + norm2(x)**2", "x", "∂²f/∂x² = 2 I + diag(s) − s sᵀ", "diagonal + low rank"),
    Row("logsumexp(A @ x)", "x", "∂²f/∂x² = Aᵀ (diag(s) − s sᵀ) A", "low rank"),
    Row("sum(exp(x)) + sum(x)**2", "x", "∂²f/∂x² = 2 · 1 1ᵀ + diag(exp(x))", "low rank + diagonal", {"x": "vector(n)"}),
    Row("(a @ x) * sum(x) + norm2(x)**2", "x", "", "diagonal + low rank"),
    Row("norm2(A @ x - b)", "x", "", "low rank"),
    Row("normfro(X @ B)**2", "X", "∂²f/∂vec(X)² = 2 (B Bᵀ) ⊗ I", "Kronecker", TIMES_B),
    Row("normfro(X @ B)**2 + normfro(X)**2", "X", "", "diagonal + Kronecker", TIMES_B),
    Row("trace(X.T @ A @ X @ B)", "X", "∂²f/∂vec(X)² = 2 B ⊗ A", "Kronecker", SS),
    Row("trace(X.T @ A @ X @ B)", "X", "∂²f/∂vec(X)² = Bᵀ ⊗ A + B ⊗ Aᵀ", "Kronecker", MN),
    Row("trace(X.T @ A @ X) + trace(X @ B @ X.T)", "X", "", "Kronecker", SS),
    Row("sum(tanh(W @ x))", "W", "", "Kronecker", singular=True),
    Row("logdet(X)", "X", "∂²f/∂vec(X)² = −(X⁻¹ ⊗ X⁻ᵀ) K", "swapped Kronecker"),
    Row("trace(X)**2 + normfro(X)**2", "X", "", "low rank + diagonal"),
    Row("sum(logsumexp(Z, 1)) + normfro(Z)**2", "Z", "", "diagonal + blocks", {"Z": "matrix(m, n)"}),
    Row("-sum(T * log_softmax(Z, 1))", "Z", "", "diagonal + blocks", {"Z": "matrix(m, n)", "T": "matrix(m, n)"}, True),
    Row("sum(tanh(W @ X))", "W", "", "blocks", {"W": "matrix(p, n)", "X": "matrix(n, q)"}),
    Row("sum(x)**4 + norm2(x)**2", "x", "", "diagonal + low rank", {"x": "vector(n)"}),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_structure_text_and_numbers(row: Row) -> None:
    """The structure and its text; products, the dense array and solutions, against differences of the gradient."""
    formula = hessian(row.expression, row.wrt, row.declare)
    assert formula.structure == row.structure
    assert formula.lines[0].text == row.text or not row.text
    arrays = drawn(formula.problem, np.random.default_rng(3))
    found = formula(**arrays)
    expected = slopes(row.expression, row.wrt, row.declare, arrays)
    dense = found.todense()
    np.testing.assert_allclose(dense, expected, atol=1e-6 * max(1, np.abs(expected).max()))
    v = np.random.default_rng(4).normal(size=arrays[row.wrt].shape)
    np.testing.assert_allclose(found.matvec(v), np.tensordot(dense, v, v.ndim), rtol=1e-12, atol=1e-12)
    if row.singular:
        with pytest.raises(np.linalg.LinAlgError, match=r"[Ss]ingular"):
            found.solve(v)
    else:
        solved = np.linalg.solve(dense.reshape(v.size, v.size), v.ravel()).reshape(v.shape)
        np.testing.assert_allclose(found.solve(v), solved, rtol=1e-8, atol=1e-10)


def slopes(expression: str, wrt: str, declare: dict[str, str], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The derivative of the gradient by central differences of the fourth order."""
    slope, h = gradient(expression, wrt, declare), 1e-3
    point = arrays[wrt]
    columns = []
    for place in np.ndindex(*point.shape):
        move = np.zeros_like(point)
        move[place] = h
        at = {k: np.asarray(slope(**{**arrays, wrt: point + k * move})) for k in (-2, -1, 1, 2)}
        columns.append((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h))
    return np.moveaxis(np.array(columns), 0, -1).reshape(point.shape * 2)


def test_torch_finds_the_same() -> None:
    torch = pytest.importorskip("torch")
    arrays = {k: np.random.default_rng(0).normal(size=s) for k, s in {"X": (6, 4), "w": (4,), "y": (6,)}.items()}
    X, y = torch.tensor(arrays["X"]), torch.tensor(arrays["y"])
    expected = torch.func.hessian(lambda w: torch.log(1 + torch.exp(-y * (X @ w))).sum())(torch.tensor(arrays["w"]))
    found = hessian("sum(log(1 + exp(-y * (X @ w))))", "w")(**arrays)
    np.testing.assert_allclose(found.todense(), expected.numpy(), rtol=1e-10)


def test_the_hessian_of_cross_entropy_does_not_read_the_target() -> None:
    """Of logits z and a target t with sum 1, log Σ exp(z) - t·z; with any target, its sum is all that is read."""
    assert "entries1, left2 = _parts(z)" in hessian("logsumexp(z) - t @ z", "z").program.listing
    labels = hessian("-sum(t * log_softmax(z))", "z", {"z": "vector(n)", "t": "vector(n)"})
    z = np.array([0.3, -1.0, 2.0])
    first, second = (labels(z=z, t=np.array(t)).todense() for t in ([1.0, 0, 0], [0.2, 0.5, 0.3]))
    np.testing.assert_allclose(first, second, rtol=1e-13)


def test_what_is_an_argument_is_not_copied_and_no_identity_is_formed() -> None:
    logistic = hessian("sum(log(1 + exp(-y * (X @ w))))", "w").program.listing
    assert "left = X.T\n" in logistic and ".copy()" not in logistic
    factors = hessian("normfro(X @ B)**2", "X", {"X": "matrix(m, n)", "B": "matrix(n, q)"}).program.listing
    assert "Kronecker(None, right)" in factors and "np.eye" not in factors and "np.kron" not in factors
    diagonal = hessian("sum(tanh(W @ x))", "W").program.listing
    assert "np.eye" not in diagonal and "np.arange" not in diagonal


def test_no_result_shares_memory_with_an_argument() -> None:
    A, x = np.arange(9.0).reshape(3, 3), np.ones(3)
    S = A + A.T
    for found in (hessian("x @ A @ x", "x")(A=A, x=x), jacobian("A @ x", "x").operator(A=S, x=x)):
        assert not np.shares_memory(found.todense(), A) and not np.shares_memory(found.todense(), S)


# several variables

FACTORISATION = "normfro(U @ V.T - R)**2 + normfro(U)**2 + normfro(V)**2"


def test_blocks_of_several_variables() -> None:
    formula = hessian(FACTORISATION, ["U", "V"])
    assert formula.blocks["U", "V"].structure[0].kind in ("Kronecker", "Swapped")
    arrays = drawn(formula.problem, np.random.default_rng(0), {"m": 4, "n": 3, "p": 2})
    found = formula(**arrays)
    dense = found.todense()
    np.testing.assert_array_equal(dense, dense.T)
    v = {name: np.random.default_rng(1).normal(size=arrays[name].shape) for name in ("U", "V")}
    flat = np.concatenate([v["U"].ravel(), v["V"].ravel()])
    for solved, expected in ((found.matvec(v), dense @ flat), (found.solve(v), np.linalg.solve(dense, flat))):
        np.testing.assert_allclose(np.concatenate([solved["U"].ravel(), solved["V"].ravel()]), expected, rtol=1e-9)
    for name, size in (("U", v["U"].size), ("V", v["V"].size)):
        own = slopes(FACTORISATION, name, {}, arrays).reshape(size, size)
        place = slice(0, size) if name == "U" else slice(-size, None)
        np.testing.assert_allclose(dense[place, place], own, atol=1e-6)


def test_a_number_beside_a_vector() -> None:
    formula = hessian("sum(log(1 + exp(-y * (X @ w + b))))", ["w", "b"], {"b": "scalar"})
    rng = np.random.default_rng(0)
    arrays = {"X": rng.normal(size=(9, 3)), "w": rng.normal(size=3), "y": rng.choice([-1.0, 1], 9), "b": 0.3}
    wide = np.column_stack([arrays["X"], np.ones(9)])
    p = 1 / (1 + np.exp(-wide @ [*arrays["w"], arrays["b"]]))
    np.testing.assert_allclose(formula(**arrays).todense(), wide.T @ ((p * (1 - p))[:, None] * wide), rtol=1e-12)


# Jacobians

JACOBIANS = [
    ("softmax(x)", "x", {"x": "vector(n)"}, "diagonal + low rank"),
    ("exp(x)", "x", {"x": "vector(n)"}, "diagonal"),
    ("x / norm2(x)", "x", {}, "diagonal + low rank"),
    ("A @ X @ B", "X", {}, "Kronecker"),
    ("A @ X.T @ B", "X", {}, "swapped Kronecker"),
    ("X.T", "X", MN, "swapped Kronecker"),
    ("A @ X + X @ B", "X", {}, "Kronecker"),
    ("softmax(Z, 1)", "Z", {"Z": "matrix(m, n)"}, "diagonal + blocks"),
    ("inv(X)", "X", {}, "Kronecker"),
]


@pytest.mark.parametrize(("expression", "wrt", "declare", "structure"), JACOBIANS, ids=[row[0] for row in JACOBIANS])
def test_jacobians(expression: str, wrt: str, declare: dict[str, str], structure: str) -> None:
    formula = jacobian(expression, wrt, declare)
    assert formula.structure == structure
    arrays = drawn(formula.problem, np.random.default_rng(0))
    found = formula.operator(**arrays)
    dense = np.asarray(formula(**arrays))
    np.testing.assert_allclose(found.todense(), dense, rtol=1e-12, atol=1e-15)
    if "(Z, 1)" not in expression and not expression.startswith("softmax"):
        np.testing.assert_allclose(dense, differences(expression, wrt, arrays), atol=1e-7)
    v = np.random.default_rng(1).normal(size=arrays[wrt].shape)
    np.testing.assert_allclose(found.matvec(v), np.tensordot(dense, v, v.ndim), rtol=1e-11, atol=1e-13)
    u = np.random.default_rng(2).normal(size=found.rows)
    np.testing.assert_allclose(np.vdot(u, found.matvec(v)), np.vdot(found.T.matvec(u), v), rtol=1e-11)


def test_a_gradient_has_no_structure() -> None:
    with pytest.raises(DeriveError, match="has no structure"):
        _ = gradient("norm2(x)**2", "x").structure


# the emitted file

SAVED: list[Callable[[], Any]] = [
    lambda: hessian("sum(log(1 + exp(-y * (X @ w))))", "w"),
    lambda: hessian(FACTORISATION, ["U", "V"]),
    lambda: hessian("x @ S @ x", "x", {"S": "symmetric(n, n)"}),
    lambda: hessian("logdet(S)", "S", {"S": "spd(n, n)"}),
    lambda: jacobian("softmax(x)", "x", {"x": "vector(n)"}).operator,
    lambda: jacobian("X.T", "X", MN).operator,
]


@pytest.mark.parametrize("made", SAVED)
def test_the_file_checks_itself_alone(made: Callable[[], Any], tmp_path: Path) -> None:
    """Without symgrad and outside its folder; with a wrong sign it fails."""
    file = tmp_path / "derivative.py"
    made().save(file)
    text = file.read_text(encoding="utf-8")
    assert is_untouched(text) and "import symgrad" not in text
    done = run(file)
    assert done.returncode == 0 and "ok" in done.stdout and "WRONG" not in done.stdout, done.stdout + done.stderr
    file.write_text(text.replace("total += part.times(v)", "total -= part.times(v)"), encoding="utf-8")
    assert run(file).returncode == 1


def run(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(file)], cwd=file.parent, capture_output=True, text=True)


def test_the_file_checks_shapes() -> None:
    formula = hessian("sum(log(1 + exp(-y * (X @ w))))", "w")
    arrays = {"X": np.ones((4, 3)), "w": np.ones(2), "y": np.ones(4)}
    with pytest.raises(ShapeError, match="w must be"):
        formula(**arrays)
    with pytest.raises(ValueError, match="w must be"):
        formula.program.load().hessian(**arrays)
    with pytest.raises(VerifyError, match="needs the argument"):
        formula(X=arrays["X"])
    with pytest.raises(ValueError, match="expected an array of shape"):
        formula(**arrays | {"w": np.ones(3)}).matvec(np.ones(4))


def test_names_of_the_file_are_taken() -> None:
    with pytest.raises(EmitError, match="needs the name for itself"):
        hessian("norm2(LowRank)**2", "LowRank", {"LowRank": "vector"}).save("unwritten.py")
    left = hessian("norm2(left @ x)**2", "x", {"left": "matrix(n, n)"})
    np.testing.assert_allclose(left(left=2 * np.eye(3), x=np.ones(3)).todense(), 8 * np.eye(3))


# the operators: random sums of parts

SHAPE = (3, 4)
SIZE = 12


def part(kind: str, rng: np.random.Generator) -> Any:
    """A symmetric part over tensors of shape (3, 4); positive definite for most kinds, so that sums are regular."""
    if kind == "Diagonal":
        return Diagonal(rng.uniform(1, 2, SHAPE))
    if kind == "number":
        return Diagonal(1.5)
    if kind == "LowRank":
        factor = rng.normal(size=(SIZE, 2))
        return LowRank(factor, rng.normal(size=2), factor)
    if kind == "Swapped":
        left = rng.normal(size=SHAPE)
        return Swapped(left, left.T)
    if kind in ("Blocks0", "Blocks1"):
        axis = int(kind[-1])
        return Blocks(np.array([definite(SHAPE[1 - axis], rng) for _ in range(SHAPE[axis])]), axis)
    if kind == "Dense":
        return Dense(definite(SIZE, rng).reshape(SHAPE * 2), 2)
    left, right = {
        "Kronecker": (definite(3, rng), definite(4, rng)),
        "left": (definite(3, rng), None),
        "right": (None, definite(4, rng)),
        "diagonal left": (rng.uniform(1, 2, 3), definite(4, rng)),
        "diagonal right": (definite(3, rng), rng.uniform(1, 2, 4)),
        "diagonals": (rng.uniform(1, 2, 3), rng.uniform(1, 2, 4)),
    }[kind]
    return Kronecker(left, right)


def definite(n: int, rng: np.random.Generator) -> np.ndarray:
    root = rng.normal(size=(n, n))
    return root @ root.T / n + np.eye(n)


PRODUCTS = ("Kronecker", "left", "right", "diagonal left", "diagonal right", "diagonals")
KINDS = ("Diagonal", "number", "LowRank", "Swapped", "Blocks0", "Blocks1", "Dense", *PRODUCTS)


def dense_of(found: Any) -> np.ndarray:
    """A part as a matrix, said with einsum."""
    eye = np.eye
    if isinstance(found, Diagonal):
        return np.diag(np.broadcast_to(found.entries, SHAPE).ravel())
    if isinstance(found, LowRank):
        return np.einsum("ik,k,jk->ij", found.left, np.broadcast_to(found.weights, found.left.shape[1]), found.right)
    if isinstance(found, Dense):
        return found.values.reshape(SIZE, SIZE)
    if isinstance(found, Swapped):
        return np.einsum("il,jk->ijkl", found.left, found.right).reshape(SIZE, SIZE)
    if isinstance(found, Blocks):
        form = "aik,ab->aibk" if found.axis == 0 else "aik,ab->iakb"
        return np.einsum(form, found.matrices, eye(len(found.matrices))).reshape(SIZE, SIZE)
    sides = [np.diag(f) if np.ndim(f) == 1 else f for f in (found.left, found.right)]
    return np.kron(*(eye(n) if f is None else f for f, n in zip(sides, SHAPE, strict=True)))


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_random_sums_of_parts(kinds: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = tuple(part(kind, rng) for kind in kinds)
    found = LinearMap(SHAPE, SHAPE, parts)
    dense = sum(dense_of(p) for p in parts)
    np.testing.assert_allclose(found.tomatrix(), dense, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.T.tomatrix(), dense.T, rtol=1e-12, atol=1e-12)
    v = rng.normal(size=SHAPE)
    np.testing.assert_allclose(found.matvec(v).ravel(), dense @ v.ravel(), rtol=1e-11, atol=1e-11)
    if np.linalg.cond(dense) < 1e8:
        x = found.solve(v)
        np.testing.assert_allclose(dense @ x.ravel(), v.ravel(), atol=1e-5)
        solver = structured_solver(found)
        if solver:  # the structured way itself, before any fall back
            np.testing.assert_allclose(dense @ solver(v[..., None]).ravel(), v.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    "kinds",
    [
        ["Diagonal"],
        ["Diagonal", "LowRank"],
        ["LowRank", "Kronecker"],
        ["Kronecker"],
        ["left", "right"],
        ["left", "right", "number", "LowRank"],
        ["right", "number"],
        ["diagonals"],
        ["Blocks0", "Diagonal"],
        ["Blocks1", "LowRank"],
    ],
    ids=" + ".join,
)
def test_these_are_solved_without_forming_the_matrix(kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    found = LinearMap(SHAPE, SHAPE, tuple(part(kind, rng) for kind in kinds))
    dense, b = found.tomatrix(), rng.normal(size=SHAPE)
    monkeypatch.setattr(LinearMap, "todense", lambda self: pytest.fail("formed"))
    np.testing.assert_allclose(found.solve(b).ravel(), np.linalg.solve(dense, b.ravel()), rtol=1e-9)


def test_a_singular_block_is_no_hindrance() -> None:
    """[[0, M], [Mᵀ, D]]: the block that would be eliminated is zero, the whole is regular."""
    rng = np.random.default_rng(0)
    mixed, own = rng.normal(size=(3, 3)), np.diag(rng.uniform(1, 2, 3))
    blocks = {
        ("x", "x"): LinearMap((3,), (3,), (Diagonal(np.zeros(3)),)),
        ("x", "y"): LinearMap((3,), (3,), (Dense(mixed, 1),)),
        ("y", "x"): LinearMap((3,), (3,), (Dense(mixed.T, 1),)),
        ("y", "y"): LinearMap((3,), (3,), (Dense(own, 1),)),
    }
    found = BlockMap({"x": (3,), "y": (3,)}, blocks)
    b = {"x": rng.normal(size=3), "y": rng.normal(size=3)}
    whole = np.linalg.solve(np.block([[np.zeros((3, 3)), mixed], [mixed.T, own]]), np.concatenate([b["x"], b["y"]]))
    solved = found.solve(b)
    np.testing.assert_allclose(np.concatenate([solved["x"], solved["y"]]), whole, rtol=1e-10)


def test_a_rank_that_is_too_low_is_told() -> None:
    found = LinearMap((4,), (4,), (LowRank(np.ones((4, 1)), 2, np.ones((4, 1))),))
    with pytest.raises(np.linalg.LinAlgError, match="rank is at most 1"):
        found.solve(np.arange(4.0))
