"""The Matrix Cookbook's derivatives, and the examples of matrixcalculus.org: derived, printed, read back, checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cookbook import COVERED, NOT_COVERED, ROWS, Row
from expression_value import computed, differences, drawn
from printed import value

from symgrad.calculus import gradient, hessian, hvp, jacobian

GOLDEN = Path(__file__).parent / "golden" / "cookbook.txt"
DERIVED = {"gradient": gradient, "jacobian": jacobian, "hessian": hessian, "hvp": hvp}
WEBSITE = [
    # the examples of www.matrixcalculus.org/documentation: ' is .T, .* is *, and by default a ... g are scalars,
    # h ... z vectors and A ... Z matrices. The site's tr is trace, its vector(1) the number 1 beside a vector
    Row(1, "0.5*x.T @ A @ x", "x", lambda A, x: (A @ x + A.T @ x) / 2),
    Row(1, "0.5*x.T @ A @ x", "x", lambda A: (A + A.T) / 2, kind="hessian"),
    Row(2, "A @ exp(x)", "x", lambda A, x: A @ np.diag(np.exp(x)), kind="jacobian"),
    Row(3, "(y * v).T @ x", "x", lambda y, v: y * v, {"x": "vector(n)"}),
    Row(3, "(y * v).T @ x", "y", lambda v, x: v * x, {"x": "vector(n)"}),
    Row(4, "a**b", "a", lambda a, b: b * a ** (b - 1), {"a": "scalar", "b": "scalar"}),
    Row(4, "a**b", "b", lambda a, b: np.log(a) * a**b, {"a": "scalar", "b": "scalar"}),
    Row(5, "norm1(A @ x - y)", "x", lambda A, x, y: A.T @ np.sign(A @ x - y)),
    Row(6, "norm2(A @ x - y)**2", "x", lambda A, x, y: 2 * A.T @ (A @ x - y)),
    Row(6, "norm2(A @ x - y)**2", "x", lambda A: 2 * A.T @ A, kind="hessian"),
    Row(
        7,
        "sum(log(exp(-y * (X @ w)) + 1))",
        "w",
        lambda X, w, y: -X.T @ (y * np.exp(-y * (X @ w)) / (1 + np.exp(-y * (X @ w)))),
    ),
    Row(
        7,
        "sum(log(exp(-y * (X @ w)) + 1))",
        "w",
        lambda X, w, y: X.T @ np.diag(y**2 / (2 + 2 * np.cosh(y * (X @ w)))) @ X,
        kind="hessian",
    ),
    Row(
        8,
        "trace(A @ X.T @ B @ X @ C)",
        "X",
        lambda A, B, C, X: B @ X @ C @ A + B.T @ X @ A.T @ C.T,
        {"A": "matrix(p, n)", "X": "matrix(m, n)"},
    ),
    Row(9, "log(det(inv(X)))", "X", lambda X: -np.linalg.inv(X).T),
]
TABLE = [*ROWS, *WEBSITE]


def derived(row: Row) -> Any:
    return DERIVED[row.kind](row.expression, wrt=row.wrt, declare=dict(row.declare) or None)


def evaluated(row: Row, formula: Any, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The emitted function's value; what is below the diagonal of a Hessian included."""
    found = formula(**arrays)
    return np.asarray(found.todense() if row.kind == "hessian" else found)


def identity(row: Row) -> str:
    return f"{'site' if row in WEBSITE else 'cookbook'} {row.label}"


def points(row: Row, formula: Any, *sizes: Any) -> dict[str, np.ndarray]:
    arrays = drawn(formula.problem, np.random.default_rng(row.number), *sizes)
    return arrays | ({"a": np.array(1.3)} if row.expression == "a**b" else {})


@pytest.mark.parametrize("row", TABLE, ids=identity)
def test_value(row: Row) -> None:
    """The emitted function gives what the cookbook's right-hand side does, and the expression's differences."""
    formula = derived(row)
    arrays = points(row, formula)
    found = evaluated(row, formula, arrays)
    says = row.book(**{name: arrays[name] for name in inspect.signature(row.book).parameters})
    stated = found if row.then is None else row.then(found, arrays)
    np.testing.assert_allclose(stated, says, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found, numeric(row, arrays), rtol=1e-6, atol=1e-7)


def numeric(row: Row, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Differences of the expression; for a Hessian, differences of those, so less exact ones."""
    if row.kind != "hessian":
        return differences(row.expression, row.wrt, arrays)
    point, step = np.asarray(arrays[row.wrt], float), 1e-3
    columns = []
    for place in np.ndindex(*point.shape):
        move = np.zeros_like(point)
        move[place] = step
        ahead, behind = ({**arrays, row.wrt: p} for p in (point + move, point - move))
        ahead2, behind2 = ({**arrays, row.wrt: p} for p in (point + 2 * move, point - 2 * move))
        near = differences(row.expression, row.wrt, ahead, step) - differences(row.expression, row.wrt, behind, step)
        far = differences(row.expression, row.wrt, ahead2, step) - differences(row.expression, row.wrt, behind2, step)
        columns.append((8 * near - far) / (12 * step))
    return np.moveaxis(np.array(columns), 0, -1).reshape(point.shape * 2)


@pytest.mark.parametrize("row", TABLE, ids=identity)
def test_printed_text_reads_back(row: Row) -> None:
    """Computed by a reader of its own, the printed text is the derivative."""
    formula = derived(row)
    arrays = points(row, formula, 3)
    found = evaluated(row, formula, arrays)
    if len({n for a in arrays.values() for n in a.shape}) > 1:
        pytest.skip("dimensions of several sizes: the text does not say those of 1 and I")
    np.testing.assert_allclose(value(formula.text, arrays, found.shape), found, rtol=1e-10, atol=1e-12)


def test_golden_text(update: bool) -> None:
    """Every row's printed text is the pinned one."""
    written = "".join(f"{identity(row)}\n{_indented(derived(row).text)}\n\n" for row in TABLE)
    if update:
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8"), "run with --update, and read what changed"


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def test_latex_and_text_of_every_row_name_only_what_the_expression_names() -> None:
    """No internal tensor and no index placeholder is printed."""
    for row in TABLE:
        formula = derived(row)
        for written in (formula.text, formula.latex):
            assert not any(mark in written for mark in ("#", "@", "_via_", "reshape")), f"{identity(row)}: {written}"


def test_coverage_is_pinned() -> None:
    """Every equation from 33 to 127 is covered, or said not to be, with the reason."""
    inside = {n for n in COVERED if n <= 127}
    assert inside | NOT_COVERED.keys() == set(range(33, 128))
    assert not inside & NOT_COVERED.keys()
    assert all(NOT_COVERED.values())
    assert sorted(NOT_COVERED) == [45, 68, 96]
    assert {row.number for row in WEBSITE} == set(range(1, 10))


def test_logarithm_of_a_negative_determinant() -> None:
    """Equation 57 holds on both sides: log |det X| where det X < 0."""
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    for expression in ("logdet(X)", "log(abs(det(X)))"):
        np.testing.assert_allclose(gradient(expression)(X=x), np.linalg.inv(x).T, rtol=1e-12)
        np.testing.assert_allclose(differences(expression, "X", {"X": x}), np.linalg.inv(x).T, rtol=1e-8)


def test_the_misprints_of_the_cookbook() -> None:
    """Equation 92 with its first summand as printed is no gradient; the table's right-hand side is."""
    (row,) = (row for row in ROWS if row.number == 92)
    arrays = points(row, derived(row))
    x, ab = arrays["X"], np.outer(arrays["a"], arrays["b"])
    p = [np.linalg.matrix_power(x, k) for k in range(4)]
    printed = sum(p[2 - r] @ ab @ p[3].T @ p[r] + p[r].T @ p[3] @ ab @ p[2 - r].T for r in range(3))
    assert not np.allclose(printed, differences(row.expression, "X", arrays), rtol=1e-3)
    assert computed(row.expression, arrays).shape == ()
