"""Functions: every op against the reference, what they look like, what they refuse, and the file that checks itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import strategies
from hypothesis import Phase, assume, given, settings
from test_emit_ops import WEIGHTED, Row, assert_close, rows

import symgrad as sg
from symgrad.derive import derive_system
from symgrad.emit import function_runtime
from symgrad.emit.function import Check, FunctionProgram, emit_function
from symgrad.emit.function_inline import split_long, write_into_users
from symgrad.emit.function_steps import LONGEST_LINE, read_steps
from symgrad.emit.program import is_untouched
from symgrad.equations import System
from symgrad.errors import DtypeError, EmitError, ShapeError, VerifyError
from symgrad.evaluate.reference import evaluate
from symgrad.expand import expand
from symgrad.pipeline import simplify
from symgrad.simplify import fold_constants, stabilise

GOLDEN = Path(__file__).parent / "golden"


def derived(graph: nx.MultiDiGraph, wrt: list[str]) -> System:
    return simplify(derive_system(stabilise(fold_constants(expand(graph))), wrt=wrt, zeros=True))


def gradient(loss: sg.Tensor, wrt: str, title: str = "", **check: Any) -> FunctionProgram:
    """The function of one gradient, with its check."""
    system = derived(sg.graph(loss), [wrt])
    assert system.loss
    results = {"gradient": system.gradients[wrt]}
    return emit_function(system, "gradient", results, title, check=Check(system.loss, {"gradient": wrt}, **check))


def pasted(program: FunctionProgram) -> Callable[..., Any]:
    """The function of `source` alone."""
    names: dict[str, Any] = {}
    exec(compile(program.source, "<pasted>", "exec"), names)
    return names[program.name]  # type: ignore[no-any-return]


def run(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(path), *options], capture_output=True, text=True, cwd=path.parent)


# values


def check_against_reference(system: System, results: Mapping[str, str], values: dict[str, Any], expected: Any) -> None:
    program = emit_function(system, "everything", results)
    given_values = {name: np.array(values[name]) for name in program.arguments}
    with np.errstate(all="ignore"):
        found = pasted(program)(**given_values)
        again = program(**given_values)
    found, again = (x if len(results) > 1 else (x,) for x in (found, again))
    for label, one, other in zip(results, found, again, strict=True):
        assert_close(one, expected[label], "float64", f"{label}\n{program.source}")
        np.testing.assert_array_equal(one, other)
        assert isinstance(one, np.ndarray if np.ndim(expected[label]) else float | int | bool), label
        assert not any(np.shares_memory(one, array) for array in given_values.values() if array.size), label
    for name, array in given_values.items():
        np.testing.assert_array_equal(array, values[name], err_msg="an argument was written to")


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)
def test_functions_of_every_op_compute_the_reference(row: Row) -> None:
    values = row.values()
    with np.errstate(all="ignore"):
        y = np.asarray(row.case.reference(*values.values()), float)
    graph = row.graph(values, y.shape, WEIGHTED)
    given_values = {**values, "v": np.random.default_rng(7).normal(size=y.shape)}
    wrt = [name for name, value in values.items() if value.dtype.kind == "f"]
    reference = derive_system(expand(graph), wrt=wrt, zeros=True)
    expected = evaluate(reference, given_values)
    system = derived(graph, wrt)
    results = {"y": "y", "loss": "loss", **{f"d_{n}": system.gradients[n] for n in wrt}}
    wanted = {"y": y, "loss": expected["loss"], **{f"d_{n}": expected[reference.gradients[n]] for n in wrt}}
    check_against_reference(system, results, given_values, wanted)
    for label, tensor in results.items():  # alone, more is written into the return statement
        check_against_reference(system, {label: tensor}, given_values, wanted)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(strategies.networks(most=9))
def test_functions_of_random_networks_compute_the_reference(network: strategies.Network) -> None:
    wrt = network.parameters
    assume(wrt)
    reference = derive_system(expand(network.graph), wrt=wrt)
    expected = evaluate(reference, network.values)
    system = derived(network.graph, wrt)
    program = emit_function(system, "f", {"loss": "loss", **{f"g{k}": system.gradients[n] for k, n in enumerate(wrt)}})
    loss, *gradients = program(**{name: network.values[name] for name in program.arguments})
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-9, atol=1e-12)
    for name, found in zip(wrt, gradients, strict=True):
        np.testing.assert_allclose(found, expected[reference.gradients[name]], rtol=1e-8, atol=1e-10)


def test_an_intermediate_that_is_filled_is_no_view_of_an_argument() -> None:
    x, z = sg.parameter("x", (3, 4)), sg.input("z", (4, 3))
    y = sg.define("Y[i,j] = X[j,i] + Z[i-1,j]", X=x, Z=z, name="y")
    graph = sg.graph(sg.sum(sg.tanh(y) * y, name="loss"), outputs=[y])
    values = {"x": np.ones((3, 4)), "z": np.ones((4, 3))}
    expected = evaluate(expand(graph), values)
    check_against_reference(derived(graph, ["x"]), {"loss": "loss", "y": "y"}, values, expected)
    module = sg.emit(sg.derive(graph), style="readable", dtype="float64").load()
    module.forward({"x": values["x"]}, z=values["z"])
    np.testing.assert_array_equal(values["x"], np.ones((3, 4)))


def test_a_product_of_parts_of_flattened_matrices() -> None:
    M, N = sg.input("M", (2, 3)), sg.input("N", (2, 3))
    y = sg.define("Y[()] = sum((i, 3), A.reshape(6)[i+2]*B.reshape(6)[i])", A=M, B=N, name="y")
    values = {name: np.random.default_rng(k).normal(size=(2, 3)) for k, name in enumerate("MN")}
    system = expand(sg.graph(y))
    check_against_reference(system, {"y": "y"}, values, evaluate(system, values))


def test_a_plain_number_may_stand_for_a_tensor_without_axes() -> None:
    outer = sg.define("Y[i,j] = C.reshape(1, 1)[i,j] * D[i]", C=c, D=sg.input("d", (1,)), name="y")
    program = gradient(sg.sum(outer**2), "d")
    assert "c = np.asarray(c)" in program.source
    np.testing.assert_array_equal(pasted(program)(c=3.0, d=np.array([2.0])), [36.0])


def test_a_second_derivative_and_a_size_as_a_value() -> None:
    x = sg.input("x", ("n",))
    first = sg.derive(sg.graph(sg.mean(sg.exp(x), name="loss")), wrt=["x"])
    system = expand(first.graph)
    program = emit_function(system, "slope", {"slope": system.gradients["x"]})
    np.testing.assert_allclose(program(x=[0.0, 1.0]), np.exp([0, 1]) / 2)
    assert "n = len(x)" in program.source


# what functions look like

X, w, y = sg.input("X", ("m", "n")), sg.input("w", ("n",)), sg.input("y", ("m",))
A, x, b = sg.input("A", ("m", "n")), sg.input("x", ("n",)), sg.input("b", ("m",))
Q, B, c = sg.input("Q", ("n", "n")), sg.input("B", ("m", "n")), sg.input("c", ())
WRITTEN = {
    "logistic": (sg.sum(sg.log(1 + sg.exp(-y * (X @ w)))), "w", ["return X.T @ (-y * _sigmoid(-(X @ w) * y))"]),
    "least squares": (sg.sum((A @ x - b) ** 2), "x", ["return A.T @ (2 * (A @ x - b))"]),
    "quadratic": (x @ (Q @ x), "x", ["return Q.T @ x + Q @ x"]),
    "matrix product": (sg.sum(A * B), "A", ["return B.copy()"]),
    "mean": (sg.mean(b * b), "b", ["m = len(b)", "return 2 * b / m"]),
    "mean of a matrix": (sg.mean(A * A), "A", ["m, n = A.shape", "return 2 * A / (m * n)"]),
    "one size of two": (sg.sum(A * A) / sg.sum(A[0] * 0 + 1), "A", ["n = A.shape[1]", "return 2 * A / n"]),
    "scalar": (sg.sum(c * b), "c", ["return float(b.sum())"]),
    "a sum": (sg.sum(A), "A", ["m, n = A.shape", "return np.ones((m, n))"]),
    "numbers": (sg.sum(3 * b), "b", ["m = len(b)", "return np.full(m, 3.0)"]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_simple_gradients_are_written_as_by_hand(name: str) -> None:
    loss, wrt, expected = WRITTEN[name]
    lines = gradient(loss, wrt).source.split("def gradient(")[1].splitlines()[1:]
    assert [line.strip() for line in lines] == expected


def test_comments_stand_above_the_statement_of_their_equation() -> None:
    r = sg.tanh(A @ x - b, name="r")
    system = derived(sg.graph(sg.sum(r * r, name="loss")), ["x", "b"])
    results = {"by_x": system.gradients["x"], "by_b": system.gradients["b"]}
    program = emit_function(system, "f", results, comments={"r": "the residual"})
    lines = [line.strip() for line in program.source.splitlines()]
    assert lines[lines.index("# the residual") + 1].startswith("r = np.tanh(")
    assert lines[-1] == "return by_x, by_b"


def statements(text: str) -> list[str]:
    return [step.text for step in write_into_users(read_steps(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u = a - b\nv = c - u", "v = c - (a - b)"),
        ("u = -a\nv = u ** 2", "v = (-a) ** 2"),
        ("u = a @ b\nv = c @ u", "v = c @ (a @ b)"),
        ("u = a + b\nv = u.T @ c", "v = (a + b).T @ c"),
        ("u = a + b\nv = u * u", None),
        ("u = a + b\nv = c\nw = u * v", "w = (a + b) * c"),
        ("u = a + b\na = c\nw = u * a", "u = a + b\nw = u * c"),
        ("u = np.zeros(3)\nu[1:] += a\nv = u + 1", None),
        ("u = a[1:]\na[0] += 1\nv = u + 1", None),
        ("u = a + b\nnp.add.at(c, (i,), u)\nreturn c", "np.add.at(c, (i,), a + b)\nreturn c"),
        ("u = a + b\nfor i in np.ndindex(2):\n    c[i] += u", None),
        ("u = 2 * a\nu = u + 1\nreturn u", "return 2 * a + 1"),
        ("u = a + b\nreturn u, c", None),
        ("u = f(" + "a + " * 20 + "a)\nv = u * 2", None),
        ("u = f(" + "a + " * 20 + "a)\nreturn u", "return f(" + "a + " * 20 + "a)"),
    ],
)
def test_what_is_written_into_its_user(text: str, expected: str | None) -> None:
    assert "\n".join(statements(text)) == (text if expected is None else expected)


def test_long_statements_get_names_for_their_parts() -> None:
    text = "u = " + " + ".join(f"np.exp(a{k} * b{k})" for k in range(20))
    steps = split_long(read_steps(text), set())
    assert all(len(step.text) <= LONGEST_LINE for step in steps)
    values: dict[str, Any] = {f"{n}{k}": 0.1 * k for n in "ab" for k in range(20)} | {"np": np}
    one, other = dict(values), dict(values)
    exec(text, one)
    exec("\n".join(step.text for step in steps), other)
    assert one["u"] == pytest.approx(other["u"], rel=1e-14)


def test_what_a_loop_does_not_change_is_computed_before_it() -> None:
    long = " + ".join(f"np.exp(a{k})" for k in range(12))
    steps = split_long(read_steps(f"for i in np.ndindex(2):\n    u[i] += v[i] * ({long})"), set())
    *before, loop = steps
    assert isinstance(loop.node, ast.For) and len(loop.node.body) == 1
    assert before and all(isinstance(step.node, ast.Assign) for step in before)


def test_long_sums_are_written_on_several_lines() -> None:
    v = sg.input("v", ("n",))
    terms = " + ".join(f"{k}*sin({k}*V[i])" for k in range(1, 80))
    program = gradient(sg.sum(sg.define(f"Y[i] = {terms}", V=v)), "v")
    assert max(map(len, program.source.splitlines())) <= LONGEST_LINE + 4
    point = np.array([0.3, -1.2])
    slope = sum(k * k * np.cos(k * point) for k in range(1, 80))
    np.testing.assert_allclose(program(v=point), slope, rtol=1e-11)


def test_a_formula_beyond_what_python_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(*_: object) -> None:  # as ast.parse does from some 2,500 terms on, which take SymPy long to make
        raise RecursionError

    monkeypatch.setattr(sys.modules["symgrad.emit.function_body"], "read_steps", too_deep)
    with pytest.raises(EmitError, match="too many terms"):
        gradient(sg.sum(b * b), "b")


def test_sources_are_the_same_whatever_the_hash_seed() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_emit_function as t;"
        "print(t.gradient(t.sg.mean(t.sg.tanh(t.A @ t.x - t.b) * t.c * t.b), 'x').standalone)"
    )
    texts = set()
    for seed in ("0", "1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=GOLDEN.parent.parent, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        texts.add(done.stdout)
    assert len(texts) == 1


# calling, and what is refused

LOGISTIC = WRITTEN["logistic"]


def logistic() -> FunctionProgram:
    system = derived(sg.graph(LOGISTIC[0]), ["w"])
    leaves = {name: system.leaves[name] for name in ("X", "w", "y")}
    assert system.loss
    title = "Logistic loss, sum(log(1 + exp(-y ⊙ X w)))\n\n∇w = −Xᵀ (y ⊙ σ(−y ⊙ X w))"
    results, check = {"gradient": system.gradients["w"]}, Check(system.loss, {"gradient": "w"})
    return emit_function(replace(system, leaves=leaves), "gradient", results, title, check=check)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": None}, VerifyError, "needs the argument 'y'"),
        ({"z": [1.0]}, VerifyError, "has no argument 'z'"),
        ({"y": [1.0, 2.0]}, ShapeError, r"y must be \(m,\) = \(3,\), got \(2,\); X is \(3, 2\)"),
        ({"w": [[1.0]]}, ShapeError, r"w must be \(n,\), got \(1, 1\)"),
        ({"w": [1j, 0]}, DtypeError, "w must hold float64, got complex128"),
        ({"w": ["a", "b"]}, DtypeError, "w must hold float64"),
        ({"X": [[1.0], [1.0, 2.0]]}, ShapeError, "X cannot be made an array"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, Any], error: type[Exception], message: str) -> None:
    program = logistic()
    arrays: dict[str, Any] = {"X": np.ones((3, 2)), "w": [0, 1], "y": [True, False, True]}
    assert program(**arrays).shape == (2,)
    with pytest.raises(error, match=message):
        program(**{k: v for k, v in {**arrays, **change}.items() if v is not None})


def test_many_arguments_results_and_numbers_stand_on_several_lines() -> None:
    table = np.random.default_rng(0).normal(size=(9, 5))
    leaves = [sg.input(f"argument{k}", ("n", 5)) for k in range(12)]
    shared = sg.constant(table, name="U")  # a letter that temporaries would like
    products = [sg.sum(sg.tanh(leaf @ shared.T)) for leaf in leaves]
    loss = products[0]
    for product in products[1:]:
        loss = loss * product
    names = [str(leaf.name) for leaf in leaves]
    graph = sg.graph(loss)
    system = derived(graph, names)
    assert system.loss
    results = {f"by_{n}": system.gradients[n] for n in names}
    program = emit_function(system, "f", results, check=Check(system.loss, {f"by_{n}": n for n in names}))
    assert max(map(len, program.standalone.splitlines())) <= 120
    values = {n: np.random.default_rng(k).normal(size=(2, 5)) for k, n in enumerate(names)}
    reference = derive_system(expand(graph), wrt=names)
    expected = evaluate(reference, values)
    for name, found in zip(names, program(**values), strict=True):
        np.testing.assert_allclose(found, expected[reference.gradients[name]], rtol=1e-11)
    np.testing.assert_array_equal(pasted(program)(**values), program(**values))


def test_labels_that_are_names_already() -> None:
    system = derived(sg.graph(sg.mean(sg.exp(x) * b[0], name="loss")), ["x"])
    results = {"x": system.gradients["x"], "n": "loss", "class": "loss", "two words": "x"}
    program = emit_function(system, "f", results)
    point, other = np.array([0.5, 1.0]), np.array([2.0, 3.0])
    slope, loss, again, copy = program(x=point, b=other)
    np.testing.assert_allclose(slope, np.exp(point))
    assert loss == again == pytest.approx(2 * np.exp(point).mean())
    np.testing.assert_array_equal(copy, point)
    assert copy is not point


def test_labels_out_of_range() -> None:
    z, t = sg.input("z", ("N", 4)), sg.input("t", ("N",), dtype="int64")
    program = gradient(sg.cross_entropy(z, t), "z")
    assert program(z=np.zeros((2, 4)), t=[0, 3]).shape == (2, 4)
    with pytest.raises(VerifyError, match="t must hold whole numbers from 0 to 3"):
        program(z=np.zeros((2, 4)), t=[0, -1])


def bad(**change: Any) -> Callable[[], FunctionProgram]:
    system = derived(sg.graph(sg.sum(A @ x * b, name="loss")), ["x"])
    settings: dict[str, Any] = {"name": "f", "results": {"gradient": system.gradients["x"]}, **change}
    return lambda: emit_function(system, **settings)


def of(leaf: sg.Tensor) -> Callable[[], FunctionProgram]:
    return lambda: gradient(sg.sum(leaf * leaf), str(leaf.name))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad(name="class"), "keyword"),
        (bad(name="main"), "needs the name for itself"),
        (bad(results={}), "needs a result"),
        (bad(results={"g": "d_y"}), "no tensor 'd_y'"),
        (bad(check=Check("losss", {})), "no tensor 'losss'"),
        (bad(check=Check("loss", {"slope": "x"})), "no result 'slope'"),
        (bad(check=Check("loss", {"gradient": "b"})), "is no derivative by 'b'"),
        (bad(check=Check("loss", {"gradient": "q"})), "no argument"),
        (bad(check=Check("loss", {"gradient": "x"}, name="f")), "both functions"),
        (bad(check=Check("loss", {"gradient": "x"}, properties={"x": {"odd"}})), "cannot be odd"),
        (of(sg.input("np", ("n",))), "cannot be called 'np'"),
        (of(sg.input("n", ("n",))), "cannot be called 'n': it is a dimension too"),
        (of(sg.input("v", ("2*n",))), "nothing tells the size n"),
    ],
)
def test_what_cannot_be_a_function(make: Callable[[], FunctionProgram], message: str) -> None:
    with pytest.raises(EmitError, match=message):
        make()


# the file

POSITIVE = sg.input("p", ("k",))
FILES: dict[str, Callable[[], FunctionProgram]] = {
    "logistic": logistic,
    "scalar": lambda: gradient(sg.sum(sg.sin(c * b)), "c"),
    "labels": lambda: gradient(sg.cross_entropy(sg.input("z", ("N", 4)), sg.input("t", ("N",), "int64")), "z"),
    "domain": lambda: gradient(sg.sum(sg.log(POSITIVE) * sg.sqrt(POSITIVE)), "p"),
    "unit interval": lambda: gradient(sg.sum(sg.log(1 - Q) * sg.sqrt(Q)), "Q"),
    "kinks": lambda: gradient(sg.sum(sg.relu(A @ x) * sg.abs(b)), "A"),
    "mask": lambda: gradient(sg.sum(sg.where(sg.input("on", ("m",), "bool"), b**3, b)), "b"),
    "halves": lambda: gradient(sg.sum(sg.input("h", ("2*k",)) ** 2) + sg.sum(POSITIVE), "h"),
    "symmetric": lambda: gradient(x @ (Q @ x), "x", properties={"Q": {"symmetric"}}),
    "by symmetric": lambda: gradient(sg.sum((Q @ Q) * Q), "Q", properties={"Q": {"positive definite"}}),
    "erf": lambda: gradient(sg.mean(sg.gelu(A) @ x), "A"),
    "sizes": lambda: gradient(sg.logsumexp(A @ x) / 7, "x"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_checks_itself(name: str, tmp_path: Path) -> None:
    program, path = FILES[name](), tmp_path / "function.py"
    program.save(path)
    done = run(path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1].startswith("gradient") and done.stdout.rstrip().endswith("ok")


@pytest.mark.parametrize("name", FILES)
def test_a_file_notices_that_it_is_wrong(name: str, tmp_path: Path) -> None:
    source, path = FILES[name]().standalone, tmp_path / "function.py"
    head, function = source.split("def gradient(")
    broken = function.replace("return ", "return 1.001 * ", 1)
    path.write_text(f"{head}def gradient({broken}", encoding="utf-8")
    done = run(path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG" in done.stdout


def test_a_jacobian_and_a_hessian_check_themselves(tmp_path: Path) -> None:
    v = sg.input("v", ("n",))
    rows = sg.define("J[i,j] = A[i,j] * (1 - H[i]**2)", A=A, H=sg.tanh(A @ x), name="jacobian")
    hessian = sg.define("H[i,j:n] = where(i == j, exp(V[i]), 0)", V=v, name="hessian")
    for tensor, value, wrt in ((rows, sg.tanh(A @ x, name="value"), "x"), (hessian, sg.exp(v, name="value"), "v")):
        system = expand(sg.graph(sg.sum(tensor) + sg.sum(value), outputs=[tensor, value]))
        name = str(tensor.name)
        program = emit_function(system, name, {name: name}, check=Check("value", {name: wrt}, name="gradient"))
        program.save(tmp_path / "function.py")
        done = run(tmp_path / "function.py", "--seed", "3", "--dims", "n=5")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "5 of 5" in done.stdout


@pytest.mark.parametrize(("properties", "status"), [({}, 1), ({"Q": {"symmetric"}}, 0)])
def test_a_derivative_by_a_symmetric_matrix_may_be_the_transposed_one(
    properties: dict[str, set[str]], status: int, tmp_path: Path
) -> None:
    value = sg.sum((Q @ x) * sg.exp(x), name="value")
    transposed = sg.define("G[i,j] = V[i] * exp(V[j])", V=x, name="gradient")
    system = expand(sg.graph(value, outputs=[transposed]))
    check = Check("value", {"gradient": "Q"}, properties=properties)
    emit_function(system, "gradient", {"gradient": "gradient"}, check=check).save(tmp_path / "function.py")
    assert run(tmp_path / "function.py").returncode == status


def test_a_file_reads_arguments_and_leaves_out_kinks(tmp_path: Path) -> None:
    path, data = tmp_path / "function.py", tmp_path / "data.npz"
    gradient(sg.sum(sg.relu(b)), "b").save(path)
    np.savez(data, b=[-1.0, 0.0, 2.0])
    done = run(path, str(data))
    assert done.returncode == 0 and "2 of 3" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--dims", "q=3"], 1, "there is no size q; there are: m, n"),
        (["--dims", "q"], 2, "invalid"),
        (["missing.npz"], 1, "missing.npz"),
    ],
)
def test_wrong_usage_of_a_file(options: list[str], status: int, message: str, tmp_path: Path) -> None:
    logistic().save(tmp_path / "function.py")
    done = run(tmp_path / "function.py", *options)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr


def test_a_file_says_which_shape_is_wrong() -> None:
    module = logistic().load()
    with pytest.raises(ValueError, match=r"y must be \(m,\) = \(3,\), got \(4,\); X is \(3, 2\), \(m, n\)"):
        module.gradient(np.ones((3, 2)), np.ones(2), np.ones(4))
    assert module.value([[1, 0]], [0, 0], [1]) == pytest.approx(np.log(2))


def test_a_file_is_sealed() -> None:
    source = logistic().standalone
    assert is_untouched(source)
    assert not is_untouched(source.replace("return X.T", "return 2*X.T"))


def test_titles_are_text_whatever_is_in_them() -> None:
    title = 'a "quoted" \\N{DIGIT ONE} """\nimport os\n"'
    program = gradient(sg.sum(b * b), "b", title=title)
    for source in (program.source, program.standalone):
        assert "os" not in {alias.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import)
                            for alias in n.names}  # fmt: skip
    assert "\\N{DIGIT ONE}" in str(program.load().__doc__)
    np.testing.assert_array_equal(pasted(program)(b=np.ones(2)), [2.0, 2.0])


@pytest.mark.parametrize("name", FILES)
def test_sources_pass_the_linter_and_need_numpy_only(name: str, tmp_path: Path) -> None:
    program = FILES[name]()
    system = derived(sg.graph(sg.sum(sg.sqrt(A) @ x)), ["x"])
    unchecked = emit_function(system, "gradient", {"gradient": system.gradients["x"]})
    sources = [program.source, program.standalone, unchecked.standalone]
    for k, source in enumerate(sources):
        tree = ast.parse(source)
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert modules - set(sys.stdlib_module_names) <= {"numpy"}
        (tmp_path / f"function{k}.py").write_text(source, encoding="utf-8")
    rules = ["--isolated", "--line-length", "120", "--select", "E,F,W,B,UP,I"]
    found = subprocess.run([sys.executable, "-m", "ruff", "check", *rules, tmp_path], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_golden_function(update: bool) -> None:
    path = GOLDEN / "function_logistic.py"
    text = logistic().standalone
    if update:
        path.write_text(text, encoding="utf-8")
    assert path.exists(), "run pytest --update, read the new file, and commit it"
    assert text == path.read_text(encoding="utf-8"), "run pytest --update, and read the difference"


def test_the_fixed_part_is_the_module_itself() -> None:
    marker = "# </function>\n"
    written = Path(str(function_runtime.__file__)).read_text(encoding="utf-8").split(marker)[1]
    emitted = logistic().standalone.split(marker)[1]
    unmarked = [line for line in written.splitlines() if line not in ("# <check>", "# </check>") and line]
    assert [line for line in emitted.splitlines() if line][:-1] == unmarked
    assert function_runtime.main(["--dims", "m=4"]) == 0


def test_a_value_that_is_added_to_keeps_its_start() -> None:
    """t = a; t += b is no single use of a."""
    g = sg.gradient("sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)", "x")
    x = np.arange(4.0) / 3
    expected = np.zeros(4)
    expected[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    expected[1:] += 200 * (x[1:] - x[:-1] ** 2)
    np.testing.assert_allclose(g(x=x), expected)
    h = sg.hessian("sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)", "x")(x=x).todense()
    np.testing.assert_allclose(np.diag(h)[:-1], 1200 * x[:-1] ** 2 - 400 * x[1:] + 2 + 200 * (np.arange(3) >= 1))
