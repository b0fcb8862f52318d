"""Matrix calculus, grades, reports and the command line under bad input: typed errors, right numbers, no leaks.

Tests marked with `waits` name a known fault; they fail as soon as it is mended, and the mark goes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from expression_value import differences, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

import symgrad as sg
from symgrad.cli import main
from symgrad.errors import DeriveError, DtypeError, EmitError, FormulaError, GradeError, ShapeError, SymgradError

DERIVATIVES: dict[str, Callable[..., Any]] = {
    "gradient": sg.gradient,
    "jacobian": sg.jacobian,
    "hessian": sg.hessian,
    "hvp": sg.hvp,
}
LEAKS = re.compile(r"#\d|@\d|\bseed\b|_via_|\bd_t\b|\bt_\d|zoo|\bnan\b|_inverse|object at 0x|Piecewise|Dummy")
def shown(value: Any) -> str:
    """A test's name, the same in every process."""
    return type(value).__name__ if "0x" in repr(value) else repr(value)


WRONG_TYPES = [None, b"x", 3, 2.5, True, ["x"], {}, object(), np.array(1.0)]

derivatives = pytest.mark.parametrize("derive", DERIVATIVES.values(), ids=DERIVATIVES)


def waits(*values: Any, fault: str) -> Any:
    """A row of a table that waits until a fault is mended."""
    return pytest.param(*values, marks=pytest.mark.xfail(strict=True, reason=fault))


def network() -> nx.MultiDiGraph[Any]:
    x, t = sg.input("x", ("N", 3)), sg.input("t", ("N", 2))
    z = sg.add(x @ sg.parameter("W", (3, 2)), sg.parameter("b", (2,)), name="z")
    return sg.graph(sg.mse(z, t, name="loss"))


# what is no expression


@derivatives
@pytest.mark.parametrize("text", WRONG_TYPES, ids=shown)
def test_an_expression_is_text(derive: Callable[..., Any], text: Any) -> None:
    with pytest.raises(FormulaError, match="an expression is text"):
        derive(text)


MALFORMED = r"""
x @|(x|x)|sum(x|)x(|x,y|[x]|{x}|(x:=3)|x:=3|lambda: x|[x for x in y]|f'{x}'|f'{__import__("os")}'|'x'|b'x'|...|None
True|1j|x if x else x|x and x|not x|x is x|x in x|~x|x // y|x % y|x ^ y|x << 1|*x|sum(*x)|sum(**x)|yield x|await x|x!|?x
x.__class__|x.T.__dict__|().__class__|np.__class__|np.os|os.system('ls')|np.load('x')|eval('1')|open('x')|getattr(x, y)
x; y|x # y|x\y|x[x]|x['a']|x[1.5]|x[...]|eye()|eye(1.5)|norm(x, -1)
9**9**9|1/0|x/0|log(0)|log(-1)*x|sqrt(-1)|0**-1|1e400|2**99999|reshape(x, (-1, -1))|sum(x, axis=x)|sum(x, axis='a')
"""
CHARACTERS = ["x\u200by", "\u0445", "\uff58", "x\u202ey", "\ufeffx", "\ud800", "λ*x", "x\0", "x\x1b[31m"]
LONG = ["x" * 30_000, "(" * 300 + "x" + ")" * 300, "", " \n"]


@derivatives
@pytest.mark.parametrize(
    "text", [*MALFORMED.strip().replace("\n", "|").split("|"), *CHARACTERS, *LONG], ids=lambda text: f"{text[:30]!a}"
)
def test_what_is_no_expression_is_refused(derive: Callable[..., Any], text: str) -> None:
    with pytest.raises((FormulaError, ShapeError)):
        derive(text, "x")


@given(st.text("xAy()[]{}*+-/@.,:=<>'\"\\ \n\0é0123456789_TLlambdsumexpinv", max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_derived_or_refused(text: str) -> None:
    """Whatever is not refused prints, and its code compiles."""
    try:
        found = sg.jacobian(text, "x")
    except SymgradError:
        return
    compile(found.code, "code", "exec")
    assert str(found) and found.latex


def test_a_terminal_does_not_obey_an_error() -> None:
    with pytest.raises(FormulaError) as caught:
        sg.gradient("x\x1b[2J\u202e + y", "x")
    assert str(caught.value).replace("\n", "").isprintable()
    assert caught.value.details == ("x?[2J? + y", " ^")


# what is asked for


@pytest.mark.parametrize("derive", [sg.gradient, sg.jacobian, sg.hvp])
@pytest.mark.parametrize(
    "wrt", ["", "y", " x", "X", "sum", "__class__", "\0", 3, 2.5, b"x", ["x"], [], {"x": 1}], ids=shown
)
def test_there_is_no_such_variable(derive: Callable[..., Any], wrt: Any) -> None:
    with pytest.raises(DeriveError, match="there is no variable"):
        derive("sum(x*x)", wrt)


@pytest.mark.parametrize("wrt", ["", "y", ["x", "y"], [None], 3, object(), []], ids=shown)
def test_there_is_no_such_hessian(wrt: Any) -> None:
    with pytest.raises(DeriveError):
        sg.hessian("sum(x*x)", wrt)


@derivatives
@pytest.mark.parametrize("text", ["1", "pi", "sum(eye(3))"])
def test_nothing_varies(derive: Callable[..., Any], text: str) -> None:
    with pytest.raises(DeriveError):
        derive(text)


VECTORS = ["x", "", "1", "a b", "lambda", "__x__", "é", "np", 3, None, ["v"]]


@pytest.mark.parametrize("vector", VECTORS, ids=shown)
def test_the_vector_needs_a_name(vector: Any) -> None:
    with pytest.raises((DeriveError, EmitError)):
        assert sg.hvp("sum(x*x*x)", "x", vector=vector).source


@derivatives
@pytest.mark.parametrize("kind", WRONG_TYPES, ids=shown)
def test_a_declaration_is_text(derive: Callable[..., Any], kind: Any) -> None:
    with pytest.raises(FormulaError, match="x: a declaration is text"):
        derive("sum(x*x)", "x", {"x": kind})


@pytest.mark.parametrize("given_", [b"x", 3, True, ["x"], ("x",), "x: vector(n)", object()], ids=shown)
def test_declarations_are_a_dict(given_: Any) -> None:
    with pytest.raises(FormulaError, match="declarations are a dict"):
        sg.gradient("sum(x*x)", "x", given_)


@pytest.mark.parametrize("name", [None, 3, b"x", "", "for", "a b", "x\0", "__x__"], ids=shown)
def test_a_declared_name_is_a_name(name: Any) -> None:
    with pytest.raises(FormulaError):
        sg.gradient("sum(x*x)", "x", {name: "vector(n)"})


@pytest.mark.parametrize(
    ("text", "declare"),
    [
        ("x @ y", {"x": "vector(2)", "y": "vector(3)"}),
        ("trace(A)", {"A": "matrix(2, 3)"}),
        ("sum(A @ x)", {"A": "matrix(m, 2)", "x": "vector(3)"}),
        ("x[5]", {"x": "vector(3)"}),
    ],
)
def test_sizes_that_contradict(text: str, declare: dict[str, str]) -> None:
    with pytest.raises(ShapeError):
        sg.gradient(text, next(iter(declare)), declare)


# numbers that are none


@pytest.mark.parametrize("text", ["sum(0**x)", "0**sum(x)", "sum(x)/log(1)", "sum(x)/sum(x - x)", "tan(pi/2)*sum(x)"])
def test_no_finite_derivative(text: str) -> None:
    with pytest.raises(SymgradError, match="finite"):
        sg.gradient(text, "x").source  # noqa: B018


@pytest.mark.parametrize("text", ["sum(1e308*x*10)", "exp(exp(exp(10)))*sum(x)", "sum(x*1e300)*1e300"])
def test_numbers_beyond_double_precision(text: str) -> None:
    with pytest.raises(SymgradError, match="no finite number in double precision"):
        sg.gradient(text, "x").source  # noqa: B018


CORNERS: list[Any] = [
    ("x[0]**2", "x", {"x": "vector(1)"}),
    ("norm2(x)", "x", {"x": "vector(1)"}),
    ("trace(A @ A)", "A", {"A": "matrix(1, 1)"}),
    ("logdet(A)", "A", {"A": "matrix(1, 1)"}),
    ("normfro(X @ X.T)**2", "X", {"X": "matrix(n, 1)"}),
    ("sum(X @ Y)", "X", {"X": "matrix(n, 1)", "Y": "matrix(1, n)"}),
    ("c", "c", {"c": "scalar"}),
    ("c/c", "c", {"c": "scalar"}),
    ("3*c + 2", "c", {"c": "scalar"}),
    ("maximum(c, d)", "c", {"c": "scalar", "d": "scalar"}),
    ("sum(x)", "x", {"x": "vector(n)"}),
    ("sum(x - x)", "x", {"x": "vector(n)"}),
    ("sum(0*x)", "x", {"x": "vector(n)"}),
    ("sum(y) + 0*sum(x)", "x", {"x": "vector(n)", "y": "vector(n)"}),
    ("sum(x**0)", "x", {"x": "vector(n)"}),
    ("n*sum(x)", "x", {"x": "vector(n)"}),
    ("2**sum(x)", "x", {"x": "vector(n)"}),
    ("x[-1]*x[0]", "x", {"x": "vector(3)"}),
    ("sum(x[::-1]*x)", "x", {"x": "vector(n)"}),
    ("sum(T*T*T)", "T", {"T": "tensor(2, n, 3)"}),
    ("sum(sum(x)*x[1:])", "x", {"x": "vector(n)"}),
    ("f @ f * e", "f", {"f": "vector(n)", "e": "scalar"}),
    ("y @ I @ y", "I", {"I": "matrix(n, n)", "y": "vector(n)"}),
]


@pytest.mark.parametrize(("text", "wrt", "declare"), CORNERS, ids=lambda v: v if isinstance(v, str) else "")
def test_corners(text: str, wrt: str, declare: dict[str, str]) -> None:
    """Sizes of 1, scalars, zeros, variables that vanish: differences agree, to second order, and nothing leaks."""
    slope, product, second = (derive(text, wrt, declare) for derive in (sg.gradient, sg.hvp, sg.hessian))
    arrays = drawn(slope.problem, np.random.default_rng(0), {"n": 3})
    expected = differences(text.replace("n*sum", "3*sum"), wrt, arrays)
    np.testing.assert_allclose(slope(**arrays), expected, rtol=1e-6, atol=1e-7)
    shown = "\n".join(map(str, (slope, slope.latex, slope.steps(), product, second)))
    assert not LEAKS.search(shown), shown
    along = np.random.default_rng(1).normal(size=arrays[wrt].shape)
    ahead, behind = (slope(**{**arrays, wrt: arrays[wrt] + h * along}) for h in (1e-4, -1e-4))
    found = product(**arrays, v=along)
    np.testing.assert_allclose(found, (np.asarray(ahead) - behind) / 2e-4, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second(**arrays).matvec(along), found, rtol=1e-9, atol=1e-12)


LEAKING = [
    ("sum(where(x > 0, x, 0))", "x", {"x": "vector(n)"}),
    waits("sum(reshape(x, (2, 3)) @ b)", "x", {"x": "vector(6)"}, fault="steps show reads through a reshape"),
    ("exp(1)*sum(x)", "x", {"x": "vector(n)"}),
]


@pytest.mark.parametrize(("text", "wrt", "declare"), LEAKING)
def test_internal_names_stay_inside(text: str, wrt: str, declare: dict[str, str]) -> None:
    found = sg.gradient(text, wrt, declare)
    assert not re.search(LEAKS.pattern + r"|\bE\b|d_t|via", f"{found}\n{found.latex}\n{found.steps()}")


def test_a_hessian_that_only_an_equation_defines_is_refused() -> None:
    with pytest.raises(DeriveError, match="no closed form"):
        sg.hessian("nuclear(A)", "A")
    A = np.diag([1.0, 2.0]) + 0.1
    assert np.isfinite(sg.hvp("nuclear(A)", "A")(A=A, v=np.eye(2))).all()


NAMES = """
f v e I T K J H E sum exp exp1 n m i pi_ d_x x_1 value gradient shape axis args check numpy array main
list range print type ValueError one ones out result loss
"""


@pytest.mark.parametrize("name", [*NAMES.split(), "self"])
def test_any_name_serves(name: str) -> None:
    """A variable may be called like a function, a dimension, a symbol of ours or a word of the emitted file."""
    text = f"sum(log(1 + exp({name} * y))) + norm2(A @ {name})**2"
    declare = {name: "vector(k)", "y": "vector(k)", "A": "matrix(r, k)"}
    slope = sg.gradient(text, name, declare)
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=3), "y": rng.normal(size=3), "A": rng.normal(size=(2, 3))}
    plain = {"u": arrays[name], "y": arrays["y"], "A": arrays["A"]}
    expected = differences("sum(log(1 + exp(u * y))) + norm2(A @ u)**2", "u", plain)
    np.testing.assert_allclose(slope(**arrays), expected, rtol=1e-6)
    compile(slope.code, "code", "exec")


@pytest.mark.parametrize("name", ["np", "max", "len", "float", "math"])
def test_a_word_of_the_emitted_file_is_refused(name: str) -> None:
    with pytest.raises(EmitError, match="it is a name that the function needs"):
        sg.gradient(f"sum({name} * {name})", name, {name: "vector(n)"}).source  # noqa: B018


# arrays


SLOPE = sg.gradient("norm2(A @ x - b)**2 + c*x[0]", "x", {"c": "scalar"})
A, X, B = np.arange(12.0).reshape(4, 3), np.array([1.0, -2.0, 0.5]), np.arange(4.0)


def slope_at(**changed: Any) -> Any:
    return SLOPE(**({"A": A, "x": X, "b": B, "c": 2.0} | changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.ones(4)},
        {"x": np.ones((3, 1))},
        {"x": 1.0},
        {"A": [[1, 2, 3], [1]]},
        {"A": np.ones((4, 0))},
        {"c": np.ones(1)},
        {"c": [2]},
        {"b": np.ones(3)},
    ],
    ids=str,
)
def test_arrays_of_other_shapes(changed: dict[str, Any]) -> None:
    with pytest.raises(ShapeError):
        slope_at(**changed)


@pytest.mark.parametrize(
    "x",
    [
        np.array([1, 2, 3], object),
        ["1", "2", "3"],
        np.ones(3) * 1j,
        None,
        {},
        {1, 2, 3},
        b"abc",
        len,
        np.zeros(3, "M8[D]"),
        np.zeros(3, [("a", float)]),
        sg.input("x", (3,)),
        10**400,
    ],
    ids=lambda x: f"{x!r:.30}",
)
def test_arrays_of_other_types(x: Any) -> None:
    with pytest.raises((DtypeError, ShapeError)):
        slope_at(x=x)


def test_arrays_that_are_missing_or_unknown() -> None:
    with pytest.raises(SymgradError, match="needs the argument 'c'"):
        SLOPE(A=A, x=X, b=B)
    with pytest.raises(SymgradError, match="has no argument 'z'"):
        slope_at(z=1.0)


def test_arrays_of_any_layout() -> None:
    """Strided, transposed, read-only, swapped, of integers, or lists: one number, and nothing is written to."""
    frozen = X.copy()
    frozen.flags.writeable = False
    strided = np.repeat(X, 2)[::2]
    expected = 2 * A.T @ (A @ X - B) + [2, 0, 0]
    for x in (X, list(X), tuple(X), frozen, strided, X.astype(">f8"), X.astype(np.float32), memoryview(X)):
        np.testing.assert_allclose(slope_at(x=x, A=np.asfortranarray(A), b=B[::-1][::-1]), expected)
    np.testing.assert_array_equal(X, [1.0, -2.0, 0.5])
    assert slope_at(x=np.zeros(0), A=np.zeros((4, 0))).shape == (0,)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("x", [np.nan, np.inf])
def test_what_is_not_finite_shows(x: float) -> None:
    assert not np.isfinite(slope_at(x=[x, 1, 2])).any()


def test_a_hessian_takes_no_complex_vector() -> None:
    with pytest.raises(TypeError):
        sg.hessian("sum(x*x*x)", "x")(x=X).matvec(np.ones(3) * 1j)


# expressions built to explode


EXPLOSIVE = [
    "+".join(["x @ x"] * 400),
    "*".join(["sum(x)"] * 200),
    "sum((x + 1)**50)",
    "sum(" + "+".join(f"x**{k}" for k in range(1, 60)) + ")",
    "sum(" + "sum(" * 60 + "x" + ")" * 61,
    "sum(x" + " + x" * 900 + ")",
    "sum(x**10000)",
    "+".join(f"(x{k} @ x)" for k in range(60)),
]


@pytest.mark.parametrize("text", EXPLOSIVE, ids=lambda text: text[:20])
def test_what_is_built_to_explode_is_done_within_seconds(text: str) -> None:
    derived_within(20, text)


def derived_within(seconds: float, text: str) -> None:
    script = f"import symgrad as sg; d = sg.gradient({text!r}, 'x'); print(len(str(d)) + len(d.code))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=seconds, capture_output=True)


def test_what_is_nested_deeply_is_done_within_seconds() -> None:
    derived_within(8, "sum(" + "tanh(" * 12 + "x" + ")" * 13)


# grades


@pytest.mark.parametrize(
    "answer", [None, 3, b"x", [], (), {}, "", "(", "x.T @", "W\0", "zz", "d_W", "W.__class__", "9**9*W/0"]
)
def test_answers_that_cannot_be_graded(answer: Any) -> None:
    with pytest.raises((GradeError, FormulaError)):
        sg.grade(network(), "W", answer=answer)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("answer", ["0", "W", "x", "sum(W)", "W**W", "log(W - W)", "x.T @ (z - t)", "W*1e308*10"])
def test_answers_that_are_wrong(answer: str) -> None:
    assert not sg.grade(network(), "W", answer=answer)


@pytest.mark.parametrize(
    ("wrt", "answer"),
    [
        ("zz", "W"),
        ("", "W"),
        ("N", "W"),
        (None, {"zz": "W"}),
        waits(3, "W", fault="names of a wrong type are not refused by type"),
        waits(None, {3: "W"}, fault="names of a wrong type are not refused by type"),
    ],
)
def test_there_is_no_such_tensor_to_grade(wrt: Any, answer: Any) -> None:
    with pytest.raises(DeriveError, match="there is no tensor"):
        sg.grade(network(), wrt, answer=answer)


def right(x: Any, z: Any, t: Any) -> Any:
    return x.T @ (z - t) / len(x)


class _Stubborn:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no")


def _endless(x: Any) -> Any:
    return _endless(x)


UNGRADED: dict[str, Any] = {
    "raises": lambda x: 1 / 0,
    "never ends": _endless,
    "no dict": lambda x: object(),
    "nothing": lambda x: None,
    "a generator": lambda x: (n for n in x),
    "text": lambda x: {"W": np.array("a")},
    "ragged": lambda x: {"W": [[1], [1, 2]]},
    "asks for what is not there": lambda foo: {},
    "built in": len,
    "no gradient": lambda x: {},
    "complex": lambda x, z, t: {"W": right(x, z, t) + 1j},
    "no array": waits(lambda x: {"W": _Stubborn()}, fault="an error of __array__ comes through as it is"),
}


@pytest.mark.parametrize("function", UNGRADED.values(), ids=UNGRADED)
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_functions_that_cannot_be_graded(function: Callable[..., Any]) -> None:
    with pytest.raises(GradeError):
        sg.grade(network(), answer=function)


def test_a_function_that_spoils_what_it_is_given_is_graded_by_what_it_returns() -> None:
    def spoils(x: Any, z: Any, t: Any, W: Any) -> Any:
        made = right(x, z, t)
        for array in (x, z, t, W):
            array *= 0
        return {"W": made}

    assert sg.grade(network(), answer=spoils)
    assert not sg.grade(network(), answer=lambda x, z, t: {"W": right(x, z, t) + 1e-3})
    assert not sg.grade(network(), "W", answer=lambda W: W.T)


# reports


@pytest.mark.parametrize(
    "title", ["</title><script>alert(1)</script>", "]]>", "&lt;", "\"'`", "--><!--", "<img src=x>", "☃\\"]
)
def test_titles_are_text(title: str) -> None:
    page = sg.report(network(), title=title, verify=False).html
    page.encode()
    if "<" in title or "]]>" in title:
        assert title not in page


@pytest.mark.parametrize(
    "name", ["<script>", 'a"b', "x]]>", "&", "a\nb", '"""', "\\", "é", "import", "__x__", "", 5, None]
)
def test_names_of_a_graph_are_names(name: Any) -> None:
    graph = nx.MultiDiGraph(loss="loss")
    graph.add_node("x" if name is None else name, op="parameter", shape=(name, 2) if name is None else (3,))
    graph.add_node("loss", op="sum")
    graph.add_edge("x" if name is None else name, "loss", arg=0)
    with pytest.raises(SymgradError):
        sg.report(graph)


def test_a_network_without_parameters() -> None:
    graph = sg.graph(sg.sum(sg.input("x", ("N", 3)), name="loss"))
    with pytest.raises(DeriveError, match="no parameters"):
        sg.report(graph)
    assert "x" in sg.report(graph, ["x"]).html


@pytest.mark.parametrize("use", [sg.report, sg.derive, sg.emit, sg.verify, sg.costs])
@pytest.mark.parametrize(
    "graph", [None, 3, "x", {}, nx.DiGraph(), nx.MultiDiGraph(), nx.MultiDiGraph([(1, 2)])], ids=shown
)
def test_what_is_no_network(use: Callable[..., Any], graph: Any) -> None:
    with pytest.raises(SymgradError):
        use(graph)


def test_names_to_differentiate_by_are_names() -> None:
    with pytest.raises(DeriveError, match="wrt is int, not names"):
        sg.derive(network(), 3)  # type: ignore[arg-type]


# the command line


def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **settings.pop("env", {})}
    command = [sys.executable, "-m", "symgrad", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, **settings)


USAGE = [
    (["-x @ x", "--wrt", "x"], 0),
    (["-x@x", "--wrt", "x"], 0),
    (["x @ y", "--wrt", "y", "x"], 0),
    (["--declare", "x: vector(n)"], 2),
    (["x @ x", "--wrt"], 2),
    (["x @ x", "extra"], 2),
    (["x @ x", "--hessian", "--hvp"], 2),
    (["nocommand"], 2),
    (["inspect"], 2),
    ([""], 1),
    (["/etc/passwd"], 1),
    (["foo.py:loss"], 1),
    (["x @"], 1),
    (["x @ y"], 1),
    (["x @ x", "--wrt", "z"], 1),
    (["A @ x", "--wrt", "x"], 1),
    (["x @ x", "--declare", "x"], 1),
    (["x @ x", "--declare", "x: vector(n)", "x: matrix(n, n)"], 1),
    (["x @ x", "--code", "/nowhere/x.py"], 1),
    (["x @ x", "--code", "."], 1),
    (["x @ y", "--wrt", "x", "y", "--code", "x.py"], 1),
]


@pytest.mark.parametrize(("arguments", "status"), USAGE, ids=str)
def test_exit_codes(
    arguments: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert ("error: " in err) == (status != 0)
    assert bool(out) == (status == 0) or "--code" in arguments
    assert not list(tmp_path.iterdir())


def test_the_order_of_wrt_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    main(["x @ y", "--wrt", "y", "x"])
    out = capsys.readouterr().out
    assert out.index("∂f/∂y") < out.index("∂f/∂x")


def test_two_declarations_of_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x @ x", "--declare", "x: vector(n)", "x: vector(3)"]) == 1
    assert "'x' is declared twice" in capsys.readouterr().err
    assert main(["x @ x", "--declare", "x: vector(n)", "x: vector(n)"]) == 0


def test_files_of_others_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("mine\n")
    assert main(["x @ x", "--code", str(path)]) == 1
    assert path.read_text() == "mine\n" and "--force" in capsys.readouterr().err
    assert main(["x @ x", "--code", str(path), "--force"]) == 0
    assert main(["3 * x @ x", "--code", str(path)]) == 0  # what symgrad wrote may be replaced
    path.write_text(path.read_text() + "# changed\n")
    assert main(["x @ x", "--code", str(path)]) == 1
    assert path.read_text().endswith("# changed\n")


def test_a_terminal_without_the_letters_of_mathematics(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    path = tmp_path / "code.py"
    found = run("softmax(x)", "--jacobian", "--code", str(path), env=plain)
    assert found.returncode == 0 and found.stdout.isascii() and b"\\u2202f" in found.stdout
    checked = subprocess.run([sys.executable, str(path)], env={**os.environ, **plain}, capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert run("λ*x", env=plain).returncode == 1


def test_a_reader_that_leaves() -> None:
    script = f"{sys.executable} -m symgrad 'norm2(A @ x)**2' --wrt x | head -c 1; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60)
    assert found.returncode in (0, 1) and b"Traceback" not in found.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "symgrad", "x @ x"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert found.returncode == 1 and b"symgrad: error" in found.stderr and b"Traceback" not in found.stderr


def test_the_same_bytes_under_any_hash_seed() -> None:
    runs = {
        run("sum(softmax(A @ x) * y) + norm2(U @ x)", "--wrt", "x", "y", "--hessian", env={"PYTHONHASHSEED": s}).stdout
        for s in ("0", "1", "7")
    }
    assert len(runs) == 1 and b"structure" in runs.pop()
