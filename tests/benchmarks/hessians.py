"""Hessians by structure against dense ones: symgrad, jax.hessian, torch.func.hessian, and closed forms in NumPy.

    pip install jax torch
    python tests/benchmarks/hessians.py [--rounds 15] [--only logistic]

For each problem three things are timed, each from the variables' values on: the dense Hessian, the Hessian times a
vector, and the solution of a system with it. What makes the dense Hessian only multiplies and solves with NumPy. The
column `hvp` is the fair peer of a product: JAX's derivative of the gradient along the vector, compiled, which forms no
Hessian. All in float64, with the threads that each library takes by default; with OPENBLAS_NUM_THREADS=1 the times
of NumPy and symgrad do not depend on who else uses the cores. JAX's functions are compiled, torch's are run once, and
symgrad's is derived before the clock starts.

The contenders of a row take turns, in an order that changes from round to round, so that a machine with other work
slows all of them alike; who has had three seconds and three turns stops. Printed: the median in milliseconds, and in
brackets the width of the middle half.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from symgrad.calculus import hessian

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)

Arrays = Mapping[str, np.ndarray]
COLUMNS = ("symgrad", "NumPy", "jax.hessian", "jax hvp", "torch")


@dataclass(frozen=True)
class Problem:
    """One function of several arrays, of which those in `wrt` are the variables.

    Attributes:
        value: the function with a module that has exp, log and so on: jax.numpy or torch.
        closed: its dense Hessian, the variables flattened, as one writes it in NumPy.
    """

    name: str
    expression: str
    wrt: tuple[str, ...]
    arrays: Arrays
    value: Callable[..., Any]
    closed: Callable[..., np.ndarray]


def quadratic(n: int) -> Problem:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=n), "A": rng.normal(size=(n, n)) + n * np.eye(n)}
    return Problem(f"xᵀAx, n = {n}", "x.T @ A @ x", ("x",), arrays, lambda np_, x, A: x @ A @ x, lambda x, A: A + A.T)


def logistic(m: int, n: int) -> Problem:
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=n) / n**0.5, "X": rng.normal(size=(m, n)), "y": rng.choice([-1.0, 1.0], m)}

    def value(np_: Any, w: Any, X: Any, y: Any) -> Any:
        z = -y * (X @ w)
        return np_.sum(jnp.logaddexp(z, 0.0) if np_ is jnp else torch.nn.functional.softplus(z))

    def closed(w: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-(X @ w)))
        return X.T @ ((p * (1 - p))[:, None] * X)

    return Problem(f"logistic ({m}, {n})", "sum(log(1 + exp(-y * (X @ w))))", ("w",), arrays, value, closed)


def factorisation(n: int, k: int) -> Problem:
    rng = np.random.default_rng(0)
    arrays = {"U": rng.normal(size=(n, k)), "V": rng.normal(size=(n, k)), "R": rng.normal(size=(n, n))}

    def value(np_: Any, U: Any, V: Any, R: Any) -> Any:
        return np_.sum((U @ V.T - R) ** 2) + np_.sum(U**2) + np_.sum(V**2)

    def closed(U: np.ndarray, V: np.ndarray, R: np.ndarray) -> np.ndarray:
        unit, error = np.eye(n), U @ V.T - R
        mixed = np.kron(2 * error, np.eye(k)) + 2 * np.einsum("il,jk->ikjl", U, V).reshape(n * k, n * k)
        own = [np.kron(unit, 2 * W.T @ W + 2 * np.eye(k)) for W in (V, U)]
        return np.block([[own[0], mixed], [mixed.T, own[1]]])

    expression = "normfro(U @ V.T - R)**2 + normfro(U)**2 + normfro(V)**2"
    return Problem(f"factorisation n = {n}, k = {k}", expression, ("U", "V"), arrays, value, closed)


def logsumexp(n: int) -> Problem:
    rng = np.random.default_rng(0)

    def value(np_: Any, x: Any) -> Any:
        top = jax.nn.logsumexp(x) if np_ is jnp else torch.logsumexp(x, 0)
        return top + np_.sum(x**2) / 2

    def closed(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max())
        s = e / e.sum()
        return np.diag(s + 1) - np.outer(s, s)

    expression = "logsumexp(x) + norm2(x)**2 / 2"
    return Problem(f"logsumexp + ‖x‖²/2, n = {n}", expression, ("x",), {"x": rng.normal(size=n)}, value, closed)


PROBLEMS = {
    "quadratic": lambda: quadratic(2048),
    "logistic256": lambda: logistic(2048, 256),
    "logistic1000": lambda: logistic(2000, 1000),
    "factorisation": lambda: factorisation(100, 5),
    "logsumexp": lambda: logsumexp(2048),
}

Run = Callable[[], Any]

_LEAST, _MOST_SECONDS = 3, 3.0  # turns that a contender has at least, and seconds after which it has no more


def contenders(problem: Problem) -> Iterator[tuple[str, dict[str, Run]]]:
    """(what is timed, column -> how) ..., each result a flat array."""
    arrays, wrt = problem.arrays, problem.wrt
    size = sum(arrays[name].size for name in wrt)
    v = np.random.default_rng(1).normal(size=size)
    dense = {"NumPy": lambda: problem.closed(**arrays), **_dense_peers(problem)}
    ours = hessian(problem.expression, wrt[0] if len(wrt) == 1 else wrt).program.load().hessian
    pieces = v if len(wrt) == 1 else dict(zip(wrt, _split(problem, v), strict=True))

    def flat(result: Any) -> np.ndarray:
        return result if len(wrt) == 1 else np.concatenate([np.ravel(result[name]) for name in wrt])

    yield "todense", {"symgrad": lambda: ours(**arrays).todense(), **dense}
    yield "matvec", {
        "symgrad": lambda: flat(ours(**arrays).matvec(pieces)),
        **{name: lambda made=made: made() @ v for name, made in dense.items()},
        "jax hvp": _product_peer(problem, v),
    }
    yield "solve", {
        "symgrad": lambda: flat(ours(**arrays).solve(pieces)),
        **{name: lambda made=made: np.linalg.solve(made(), v) for name, made in dense.items()},
    }


def _split(problem: Problem, flat: Any) -> list[Any]:
    shapes = [problem.arrays[name].shape for name in problem.wrt]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    starts = [0, *map(int, ends[:-1])]
    return [flat[a:b].reshape(shape) for a, b, shape in zip(starts, map(int, ends), shapes, strict=True)]


def _of_flat(problem: Problem, module: Any, others: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The function of the variables as one vector."""
    return lambda flat: problem.value(module, **dict(zip(problem.wrt, _split(problem, flat), strict=True)), **others)


def _others(problem: Problem, convert: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    return {name: convert(a) for name, a in problem.arrays.items() if name not in problem.wrt}


def _point(problem: Problem) -> np.ndarray:
    return np.concatenate([problem.arrays[name].ravel() for name in problem.wrt])


def _dense_peers(problem: Problem) -> dict[str, Run]:
    point, known = jnp.asarray(_point(problem)), _others(problem, jnp.asarray)
    compiled = jax.jit(lambda flat, others: jax.hessian(_of_flat(problem, jnp, others))(flat))
    start, given = torch.tensor(_point(problem)), _others(problem, torch.tensor)
    curved = torch.func.hessian(_of_flat(problem, torch, given))
    return {
        "jax.hessian": lambda: np.asarray(compiled(point, known).block_until_ready()),
        "torch": lambda: curved(start).numpy(),
    }


def _product_peer(problem: Problem, v: np.ndarray) -> Run:
    point, known, along = jnp.asarray(_point(problem)), _others(problem, jnp.asarray), jnp.asarray(v)

    def product(flat: Any, others: Any, tangent: Any) -> Any:
        return jax.jvp(jax.grad(_of_flat(problem, jnp, others)), (flat,), (tangent,))[1]

    compiled = jax.jit(product)
    return lambda: np.asarray(compiled(point, known, along).block_until_ready())


def timed(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """column -> seconds in each round; the results agree."""
    expected = runs["NumPy"]()
    for name, run in runs.items():
        np.testing.assert_allclose(np.reshape(run(), expected.shape), expected, rtol=1e-6, atol=1e-9, err_msg=name)
    names, seconds = list(runs), {name: [] for name in runs}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if len(seconds[name]) >= _LEAST and sum(seconds[name]) > _MOST_SECONDS:
                continue
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def cell(seconds: list[float] | None) -> str:
    """Median and width of the middle half, in milliseconds."""
    if seconds is None:
        return ""
    low, middle, high = np.percentile(np.array(seconds) * 1e3, [25, 50, 75])
    return f"{middle:.3g} ({high - low:.2g})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=PROBLEMS, nargs="+", default=list(PROBLEMS))
    options = parser.parse_args()
    print("| problem | what | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for key in options.only:
        problem = PROBLEMS[key]()
        for what, runs in contenders(problem):
            seconds = timed(runs, options.rounds)
            cells = [cell(seconds.get(column)) for column in COLUMNS]
            print(f"| {problem.name} | {what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
