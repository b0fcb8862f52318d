"""The derivative section of the Matrix Cookbook as a table.

K. B. Petersen and M. S. Pedersen, The Matrix Cookbook, version of November 15, 2012, section 2, equations (33) to
(132). A row is one identity: an expression in symgrad's syntax, the variable, and the cookbook's right-hand side,
written as a function of arrays. Differentials ∂X are taken along a scalar t, X = A + t*B with ∂X = B.

Two of the cookbook's equations are misprinted, and stand here as they must be: in (92), the first summand is
transposed; in (95), xᵀ B B x is xᵀ Bᵀ B x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import cos, diag, exp, eye, ones, outer, sin, trace
from numpy.linalg import det, eigh, inv, matrix_power, norm, pinv

NOT_COVERED = {
    45: "complex: the Hermitian transpose; for real matrices it is (44)",
    68: "there is no expression for eigenvectors",
    96: "states no derivative; it names the function of (97) and (98)",
}


@dataclass(frozen=True)
class Row:
    """One identity.

    Attributes:
        number: of the equation.
        expression, wrt, declare, kind: what is derived: a gradient, jacobian, hessian or hvp.
        book: the cookbook's right-hand side, of the variables that its arguments name.
        then: where the cookbook states more than the derivative, what it does with it: (derivative, arrays) -> array.
    """

    number: int
    expression: str
    wrt: str
    book: Callable[..., Any]
    declare: Mapping[str, str] = field(default_factory=dict)
    kind: str = "gradient"
    then: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray] | None = None

    @property
    def label(self) -> str:
        return f"({self.number}) {self.kind} of {self.expression} by {self.wrt}"


def declared(**kinds: str) -> dict[str, str]:
    """Declarations by kind: matrix_mn="A B" says that A and B are m by n."""
    found = {}
    for kind, names in kinds.items():
        word, _, sizes = kind.partition("_")
        for name in names.split():
            found[name] = f"{word}({', '.join(sizes)})" if sizes else word
    return found


def adjugate(x: np.ndarray) -> np.ndarray:
    """By its minors."""
    minors = [[det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(len(x))] for i in range(len(x))]
    return np.array([[(-1) ** (i + j) * m for j, m in enumerate(row)] for i, row in enumerate(minors)]).T


def single(i: int, j: int, rows: int, columns: int) -> np.ndarray:
    """The single-entry matrix J of the cookbook's section 9.7."""
    return outer(eye(rows)[i], eye(columns)[j])


def by_entries(x: np.ndarray, part: Callable[[int, int, np.ndarray], np.ndarray]) -> np.ndarray:
    """The array with part(i, j, J) at [..., i, j]."""
    rows, columns = x.shape
    parts = [[part(i, j, single(i, j, rows, columns)) for j in range(columns)] for i in range(rows)]
    return np.moveaxis(np.array(parts), (0, 1), (-2, -1))


def second_determinant(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """∂² det(Y) from Y, ∂Y and ∂²Y, as (48) says."""
    inverse = inv(y)
    step = inverse @ first
    return float(det(y) * (trace(inverse @ second) + trace(step) ** 2 - trace(step @ step)))


def powers(x: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(X^r, X^(n-1-r)) for r = 0 ... n-1."""
    return [(matrix_power(x, r), matrix_power(x, count - 1 - r)) for r in range(count)]


MN = declared(matrix_mn="X")
NN = declared(matrix_nn="X")
LINE = declared(matrix_mn="A B", scalar="t")
LINES = declared(matrix_mn="A B C D", scalar="t")
SQUARE = declared(matrix_nn="A B", scalar="t")
CURVE = declared(matrix_nn="A B", scalar="x")
WEIGHTED = declared(matrix_mn="A", symmetric_m="W")
FORMS = declared(matrix_mn="X", symmetric_m="B C")

RULES = [
    Row(33, "A + 0*t", "t", lambda A: 0 * A, declared(matrix_mn="A", scalar="t"), "jacobian"),
    Row(34, "c*(A + t*B)", "t", lambda c, B: c * B, LINE | declared(scalar="c t"), "jacobian"),
    Row(35, "(A + t*B) + (C + t*D)", "t", lambda B, D: B + D, LINES, "jacobian"),
    Row(36, "trace(A + t*B)", "t", lambda B: trace(B), SQUARE),
    Row(
        37,
        "(A + t*B) @ (C + t*D)",
        "t",
        lambda A, B, C, D, t: B @ (C + t * D) + (A + t * B) @ D,
        LINE | declared(matrix_np="C D"),
        "jacobian",
    ),
    Row(
        38,
        "(A + t*B) * (C + t*D)",
        "t",
        lambda A, B, C, D, t: B * (C + t * D) + (A + t * B) * D,
        LINES,
        "jacobian",
    ),
    Row(
        39,
        "kron(A + t*B, C + t*D)",
        "t",
        lambda A, B, C, D, t: np.kron(B, C + t * D) + np.kron(A + t * B, D),
        LINE | declared(matrix_pq="C D"),
        "jacobian",
    ),
    Row(40, "inv(A + t*B)", "t", lambda A, B, t: -inv(A + t * B) @ B @ inv(A + t * B), SQUARE, "jacobian"),
    Row(41, "det(A + t*B)", "t", lambda A, B, t: trace(adjugate(A + t * B) @ B), SQUARE),
    Row(42, "det(A + t*B)", "t", lambda A, B, t: det(A + t * B) * trace(inv(A + t * B) @ B), SQUARE),
    Row(43, "log(det(A + t*B))", "t", lambda A, B, t: trace(inv(A + t * B) @ B), SQUARE),
    Row(44, "(A + t*B).T", "t", lambda B: B.T, LINE, "jacobian"),
]

DETERMINANTS = [
    Row(
        46,
        "det(A + sin(x)*B)",
        "x",
        lambda A, B, x: det(A + sin(x) * B) * trace(inv(A + sin(x) * B) @ (cos(x) * B)),
        CURVE,
    ),
    Row(47, "det(X)", "X", lambda X: eye(len(X)) * det(X), then=lambda g, a: g @ a["X"].T),
    Row(
        48,
        "det(A + x*B + x**2*C)",
        "x",
        lambda A, B, C, x: second_determinant(A + x * B + x**2 * C, B + 2 * x * C, 2 * C),
        CURVE | declared(matrix_nn="C"),
        "hessian",
    ),
    Row(49, "det(X)", "X", lambda X: det(X) * inv(X).T),
    Row(50, "det(X)", "X", lambda X: eye(len(X)) * det(X), then=lambda g, a: g @ a["X"].T),
    Row(51, "det(A @ X @ B)", "X", lambda A, X, B: det(A @ X @ B) * inv(X).T, declared(matrix_nn="A B X")),
    Row(52, "det(X.T @ A @ X)", "X", lambda A, X: 2 * det(X.T @ A @ X) * inv(X).T, declared(matrix_nn="A X")),
    Row(
        53,
        "det(X.T @ A @ X)",
        "X",
        lambda A, X: 2 * det(X.T @ A @ X) * A @ X @ inv(X.T @ A @ X),
        MN | declared(symmetric_m="A"),
    ),
    Row(
        54,
        "det(X.T @ A @ X)",
        "X",
        lambda A, X: det(X.T @ A @ X) * (A @ X @ inv(X.T @ A @ X) + A.T @ X @ inv(X.T @ A.T @ X)),
        MN,
    ),
    Row(55, "log(det(X.T @ X))", "X", lambda X: 2 * pinv(X).T, MN),
    Row(56, "logdet(pinv(Y).T @ pinv(Y))", "Y", lambda Y: -2 * pinv(Y).T, declared(matrix_23="Y")),
    Row(57, "log(abs(det(X)))", "X", lambda X: inv(X).T),
    Row(57, "logdet(X)", "X", lambda X: inv(X.T)),
    Row(58, "det(matrix_power(X, 3))", "X", lambda X: 3 * det(matrix_power(X, 3)) * inv(X).T),
]

INVERSES = [
    Row(
        59,
        "inv(A + sin(x)*B)",
        "x",
        lambda A, B, x: -inv(A + sin(x) * B) @ (cos(x) * B) @ inv(A + sin(x) * B),
        CURVE,
        "jacobian",
    ),
    Row(60, "inv(X)", "X", lambda X: -np.einsum("ki,jl->klij", inv(X), inv(X)), kind="jacobian"),
    Row(61, "a @ inv(X) @ b", "X", lambda a, b, X: -inv(X).T @ outer(a, b) @ inv(X).T),
    Row(62, "det(inv(X))", "X", lambda X: -det(inv(X)) * inv(X).T),
    Row(
        63,
        "trace(A @ inv(X) @ B)",
        "X",
        lambda A, B, X: -(inv(X) @ B @ A @ inv(X)).T,
        declared(matrix_mn="A", matrix_nm="B"),
    ),
    Row(64, "trace(inv(X + A))", "X", lambda A, X: -(inv(X + A) @ inv(X + A)).T),
]

EIGENVALUES = [
    Row(65, "sum(eigvalsh(X))", "X", lambda X: eye(len(X)), declared(symmetric_n="X")),
    Row(66, "prod(eigvalsh(X))", "X", lambda X: det(X) * inv(X).T, declared(symmetric_n="X")),
    Row(
        67,
        "eigvalsh(A + t*B)",
        "t",
        lambda A, B, t: np.array([v @ B @ v for v in eigh(A + t * B)[1].T]),
        declared(symmetric_n="A B", scalar="t"),
        "jacobian",
    ),
]

FIRST_ORDER = [
    Row(69, "x @ a", "x", lambda a: a, declared(vector_n="a")),
    Row(69, "a @ x", "x", lambda a: a, declared(vector_n="a")),
    Row(70, "a @ X @ b", "X", lambda a, b: outer(a, b), MN),
    Row(71, "a @ X.T @ b", "X", lambda a, b: outer(b, a), MN),
    Row(72, "a @ X @ a", "X", lambda a: outer(a, a)),
    Row(72, "a @ X.T @ a", "X", lambda a: outer(a, a)),
    Row(73, "X", "X", lambda X: by_entries(X, lambda i, j, J: J), MN, "jacobian"),
    Row(74, "X @ A", "X", lambda X, A: by_entries(X, lambda m, n, J: J @ A), MN, "jacobian"),
    Row(75, "X.T @ A", "X", lambda X, A: by_entries(X, lambda m, n, J: J.T @ A), MN, "jacobian"),
]

SECOND_ORDER = [
    Row(76, "sum(outer(vec(X), vec(X)))", "X", lambda X: 2 * X.sum() * ones(X.shape), MN),
    Row(77, "b @ X.T @ X @ c", "X", lambda X, b, c: X @ (outer(b, c) + outer(c, b)), MN),
    Row(
        78,
        "(B @ x + b) @ C @ (D @ x + d)",
        "x",
        lambda B, b, C, D, d, x: B.T @ C @ (D @ x + d) + D.T @ C.T @ (B @ x + b),
        declared(vector_m="b", vector_p="d", vector_n="x"),
    ),
    Row(
        79,
        "X.T @ B @ X",
        "X",
        lambda X, B: (
            np.einsum("lj,ki->klij", eye(X.shape[1]), X.T @ B) + np.einsum("kj,il->klij", eye(X.shape[1]), B @ X)
        ),
        MN,
        "jacobian",
    ),
    Row(
        80,
        "X.T @ B @ X",
        "X",
        lambda X, B: by_entries(X, lambda i, j, J: X.T @ B @ J + J.T @ B @ X),
        MN,
        "jacobian",
    ),
    Row(81, "x @ B @ x", "x", lambda B, x: (B + B.T) @ x),
    Row(82, "b @ X.T @ D @ X @ c", "X", lambda b, c, D, X: D.T @ X @ outer(b, c) + D @ X @ outer(c, b), MN),
    Row(83, "(X @ b + c) @ D @ (X @ b + c)", "X", lambda X, b, c, D: outer((D + D.T) @ (X @ b + c), b), MN),
    Row(84, "(x - A @ s) @ W @ (x - A @ s)", "s", lambda x, A, s, W: -2 * A.T @ W @ (x - A @ s), WEIGHTED),
    Row(85, "(x - s) @ W @ (x - s)", "x", lambda x, s, W: 2 * W @ (x - s), declared(symmetric_m="W")),
    Row(86, "(x - s) @ W @ (x - s)", "s", lambda x, s, W: -2 * W @ (x - s), declared(symmetric_m="W")),
    Row(87, "(x - A @ s) @ W @ (x - A @ s)", "x", lambda x, A, s, W: 2 * W @ (x - A @ s), WEIGHTED),
    Row(88, "(x - A @ s) @ W @ (x - A @ s)", "A", lambda x, A, s, W: -2 * outer(W @ (x - A @ s), s), WEIGHTED),
    Row(89, "(a - x @ b)**2", "x", lambda a, b, x: -2 * b * (a - x @ b), declared(scalar="a", vector_n="b")),
]

HIGHER_ORDER = [
    Row(
        90,
        "matrix_power(X, 3)",
        "X",
        lambda X: by_entries(X, lambda i, j, J: sum(p @ J @ q for p, q in powers(X, 3))),
        kind="jacobian",
    ),
    Row(
        91,
        "a @ matrix_power(X, 3) @ b",
        "X",
        lambda a, b, X: sum(p.T @ outer(a, b) @ q.T for p, q in powers(X, 3)),
    ),
    Row(
        92,
        "a @ matrix_power(X, 3).T @ matrix_power(X, 3) @ b",
        "X",
        lambda a, b, X: sum(
            (q @ outer(a, b) @ matrix_power(X, 3).T @ p).T + p.T @ matrix_power(X, 3) @ outer(a, b) @ q.T
            for p, q in powers(X, 3)
        ),
    ),
    Row(
        93,
        "sin(x) @ A @ exp(x)",
        "x",
        lambda A, x: diag(cos(x)).T @ A @ exp(x) + diag(exp(x)).T @ A.T @ sin(x),
    ),
    Row(
        94,
        "((A @ x) @ (A @ x)) / ((B @ x) @ (B @ x))",
        "x",
        lambda A, B, x: 2 * A.T @ A @ x / norm(B @ x) ** 2 - 2 * norm(A @ x) ** 2 * B.T @ B @ x / norm(B @ x) ** 4,
        declared(matrix_mn="A", matrix_pn="B"),
    ),
    Row(
        95,
        "(x @ A.T @ A @ x) / (x @ B.T @ B @ x)",
        "x",
        lambda A, B, x: (
            2 * A.T @ A @ x / (x @ B.T @ B @ x) - 2 * (x @ A.T @ A @ x) * (B.T @ B @ x) / (x @ B.T @ B @ x) ** 2
        ),
        declared(matrix_mn="A", matrix_pn="B"),
    ),
    Row(97, "x @ A @ x + b @ x", "x", lambda A, b, x: (A + A.T) @ x + b),
    Row(98, "x @ A @ x + b @ x", "x", lambda A: A + A.T, kind="hessian"),
]

TRACES = [
    Row(99, "trace(X)", "X", lambda X: eye(len(X))),
    Row(100, "trace(X @ A)", "X", lambda A: A.T, MN),
    Row(101, "trace(A @ X @ B)", "X", lambda A, B: A.T @ B.T, MN),
    Row(102, "trace(A @ X.T @ B)", "X", lambda A, B: B @ A, MN),
    Row(103, "trace(X.T @ A)", "X", lambda A: A, MN),
    Row(104, "trace(A @ X.T)", "X", lambda A: A, MN),
    Row(
        105,
        "trace(kron(A, X))",
        "X",
        lambda A, X: trace(A) * eye(len(X)),
        declared(matrix_22="A", matrix_33="X"),
    ),
    Row(106, "trace(X @ X)", "X", lambda X: 2 * X.T),
    Row(107, "trace(X @ X @ B)", "X", lambda X, B: (X @ B + B @ X).T),
    Row(108, "trace(X.T @ B @ X)", "X", lambda X, B: B @ X + B.T @ X, MN),
    Row(109, "trace(B @ X @ X.T)", "X", lambda X, B: B @ X + B.T @ X, MN),
    Row(110, "trace(X @ X.T @ B)", "X", lambda X, B: B @ X + B.T @ X, MN),
    Row(111, "trace(X @ B @ X.T)", "X", lambda X, B: X @ B.T + X @ B, MN),
    Row(112, "trace(B @ X.T @ X)", "X", lambda X, B: X @ B.T + X @ B, MN),
    Row(113, "trace(X.T @ X @ B)", "X", lambda X, B: X @ B.T + X @ B, MN),
    Row(114, "trace(A @ X @ B @ X)", "X", lambda A, X, B: A.T @ X.T @ B.T + B.T @ X.T @ A.T, MN),
    Row(115, "trace(X.T @ X)", "X", lambda X: 2 * X, MN),
    Row(115, "trace(X @ X.T)", "X", lambda X: 2 * X, MN),
    Row(
        116,
        "trace(B.T @ X.T @ C @ X @ B)",
        "X",
        lambda B, C, X: C.T @ X @ B @ B.T + C @ X @ B @ B.T,
        MN | declared(matrix_np="B"),
    ),
    Row(117, "trace(X.T @ B @ X @ C)", "X", lambda B, C, X: B @ X @ C + B.T @ X @ C.T, MN),
    Row(
        118,
        "trace(A @ X @ B @ X.T @ C)",
        "X",
        lambda A, B, C, X: A.T @ C.T @ X @ B.T + C @ A @ X @ B,
        MN | declared(matrix_pm="A"),
    ),
    Row(
        119,
        "trace((A @ X @ B + C) @ (A @ X @ B + C).T)",
        "X",
        lambda A, B, C, X: 2 * A.T @ (A @ X @ B + C) @ B.T,
        MN | declared(matrix_pm="A", matrix_nq="B"),
    ),
    Row(120, "trace(kron(X, X))", "X", lambda X: 2 * trace(X) * eye(len(X)), declared(matrix_33="X")),
    Row(120, "trace(X) * trace(X)", "X", lambda X: 2 * trace(X) * eye(len(X))),
    Row(121, "trace(matrix_power(X, 4))", "X", lambda X: 4 * matrix_power(X, 3).T),
    Row(122, "trace(A @ matrix_power(X, 3))", "X", lambda A, X: sum(p @ A @ q for p, q in powers(X, 3)).T),
    Row(
        123,
        "trace(B.T @ X.T @ C @ X @ X.T @ C @ X @ B)",
        "X",
        lambda B, C, X: (
            C @ X @ X.T @ C @ X @ B @ B.T
            + C.T @ X @ B @ B.T @ X.T @ C.T @ X
            + C @ X @ B @ B.T @ X.T @ C @ X
            + C.T @ X @ X.T @ C.T @ X @ B @ B.T
        ),
        MN | declared(matrix_np="B"),
    ),
    Row(
        124,
        "trace(A @ inv(X) @ B)",
        "X",
        lambda A, B, X: -inv(X).T @ A.T @ B.T @ inv(X).T,
        declared(matrix_mn="A", matrix_nm="B"),
    ),
    Row(
        125,
        "trace(inv(X.T @ C @ X) @ A)",
        "X",
        lambda A, C, X: -C @ X @ inv(X.T @ C @ X) @ (A + A.T) @ inv(X.T @ C @ X),
        MN | declared(symmetric_m="C"),
    ),
    Row(
        126,
        "trace(inv(X.T @ C @ X) @ (X.T @ B @ X))",
        "X",
        lambda B, C, X: -2 * C @ X @ inv(X.T @ C @ X) @ X.T @ B @ X @ inv(X.T @ C @ X) + 2 * B @ X @ inv(X.T @ C @ X),
        FORMS,
    ),
    Row(
        127,
        "trace(inv(A + X.T @ C @ X) @ (X.T @ B @ X))",
        "X",
        lambda A, B, C, X: (
            -2 * C @ X @ inv(A + X.T @ C @ X) @ X.T @ B @ X @ inv(A + X.T @ C @ X) + 2 * B @ X @ inv(A + X.T @ C @ X)
        ),
        FORMS | declared(symmetric_n="A"),
    ),
]

BEYOND = [
    Row(129, "norm2(x - a)", "x", lambda a, x: (x - a) / norm(x - a), declared(vector_n="a")),
    Row(
        130,
        "(x - a) / norm2(x - a)",
        "x",
        lambda a, x: eye(len(x)) / norm(x - a) - outer(x - a, x - a) / norm(x - a) ** 3,
        declared(vector_n="a"),
        "jacobian",
    ),
    Row(131, "norm2(x)**2", "x", lambda x: 2 * x),
    Row(132, "normfro(X)**2", "X", lambda X: 2 * X),
    Row(132, "trace(X @ X.T)", "X", lambda X: 2 * X, MN),
]

ROWS = [
    *RULES,
    *DETERMINANTS,
    *INVERSES,
    *EIGENVALUES,
    *FIRST_ORDER,
    *SECOND_ORDER,
    *HIGHER_ORDER,
    *TRACES,
    *BEYOND,
]
COVERED = sorted({row.number for row in ROWS})
