"""The command line: what each command prints and where, its exit codes, and that nothing is ever lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import symgrad as sg
from symgrad import cli
from symgrad.cli import main, replace_file
from symgrad.demo import digits_network
from symgrad.errors import FileError

Captured = pytest.CaptureFixture[str]

NETWORK = """
import sys
import symgrad as sg

print("this file is running")
x, t, w = sg.input("x", ("N", 3)), sg.input("t", ("N",)), sg.parameter("w", (3,))
loss = sg.mse(x @ w, t, name="loss")
graph = sg.graph(loss)
number = 3

def make():
    print("this function is running")
    return graph

def make_tensor():
    return loss

def broken():
    return 1 / 0

def leaves():
    sys.exit("enough")

def interrupted():
    raise KeyboardInterrupt

def wrong_shape():
    return sg.graph(sg.mse(x @ w, sg.input("u", (4, 4))))

def wrong_tensor():
    return sg.mse(x @ w, sg.input("u", (4, 4)))

def undirected():
    import networkx
    return networkx.Graph(graph)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a network as Python and as JSON, and data for it."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    x, t, w = sg.input("x", ("N", 3)), sg.input("t", ("N",)), sg.parameter("w", (3,))
    sg.save_graph(sg.graph(sg.mse(x @ w, t, name="loss")), "net.json")
    np.savez("data.npz", **arrays())
    return tmp_path


def arrays() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(40, 3))
    return {"x": x, "t": x @ [1.0, -2.0, 3.0]}


def load(text: str) -> ModuleType:
    module = ModuleType("emitted")
    exec(compile(text, "emitted", "exec"), module.__dict__)
    return module


def fails(capsys: Captured, *argv: str) -> str:
    """The message of a command that fails: one, on stderr, without a traceback."""
    assert main(argv) == 1
    captured = capsys.readouterr()
    error = captured.err.replace("this file is running\n", "").replace("this function is running\n", "")
    assert captured.out == ""
    assert error.startswith("symgrad: error: ") and error.count("error: ") == 1
    assert "Traceback" not in error
    return error


# networks


@pytest.mark.parametrize("source", ["net.json", "net.py:graph", "net.py:loss", "net.py:make", "net.py:make_tensor"])
def test_a_network_comes_from_a_file_or_from_python(here: Path, capsys: Captured, source: str) -> None:
    assert main(["inspect", source]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("forward\n")
    assert "∇w = xᵀ δ¹" in captured.out
    assert "running" not in captured.out  # what the user's own code prints is no result


def test_what_the_users_code_prints_goes_to_stderr(here: Path, capsys: Captured) -> None:
    main(["inspect", "net.py:make"])
    assert capsys.readouterr().err == "this file is running\nthis function is running\n"


def test_modules_beside_the_file_are_found(here: Path, capsys: Captured) -> None:
    Path("beside_net.py").write_text("size = 3\n")
    Path("uses.py").write_text(NETWORK.replace("import sys\n", "import sys, beside_net\n"))
    assert main(["inspect", "uses.py:loss"]) == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none.json", "none.json: cannot be read: No such file or directory"),
        ("none.py:loss", "No such file or directory: 'none.py'"),
        (".", ".: this is not a file"),
        ("net.json:loss", "net.json:loss: there is no such file\n  hint: :NAME is for .py files"),
        ("none.json:loss", ":NAME is for .py files"),
        ("none:loss", "none:loss: cannot be read: No such file or directory"),
        ("net.py:los", "net.py defines no 'los'\n  hint: did you mean 'loss'?"),
        ("net.py:number", "net.py:number is of type int\n  hint: expected a networkx.MultiDiGraph"),
        ("net.py:broken", "net.py, line 19: ZeroDivisionError: division by zero"),
        ("net.py:leaves", "net.py, line 22: SystemExit: enough"),
        ("net.py:wrong_shape", "net.py, line 28: ShapeError: node "),
        ("net.py:wrong_tensor", "node "),
        ("net.py:undirected", "MultiDiGraph"),
    ],
)
def test_no_network(here: Path, capsys: Captured, source: str, words: str) -> None:
    assert words in fails(capsys, "inspect", source)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"no", "a.json: this is not JSON: Expecting value in line 1, column 1"),
        ("a.json", b"\xff\xfe", "a.json: the file is not UTF-8 text"),
        ("a.json", b"[]", "a.json: the file holds a JSON list"),
        ("a.json", b'{"nodes": [], "edges": []}', "a.json: the format is None"),
        ("a.py:g", b"g = ", "a.py: SyntaxError: invalid syntax (a.py, line 1)"),
        ("a.py:g", b"\n\nraise ValueError('no\\nluck')", "a.py, line 3: ValueError: no\nluck"),
        ("a.py:g", b"import none_of_that", "a.py, line 1: ModuleNotFoundError: No module named"),
        ("a.py:g", b"\x00", "a.py: "),
    ],
)
def test_a_malformed_file(here: Path, capsys: Captured, name: str, content: bytes, words: str) -> None:
    Path(name.split(":")[0]).write_bytes(content)
    assert words in fails(capsys, "inspect", name)
    assert words in fails(capsys, "emit", name, "-o", "out.py")
    assert not Path("out.py").exists()


def test_a_fault_of_the_network_is_one_error(here: Path, capsys: Captured) -> None:
    text = Path("net.json").read_text().replace('"op": "matmul"', '"op": "matmull"')
    Path("typo.json").write_text(text)
    assert "did you mean 'matmul'?" in fails(capsys, "inspect", "typo.json")


# inspect


def test_inspect_some_tensors_in_each_notation(here: Path, capsys: Captured) -> None:
    assert main(["inspect", "net.json", "--wrt", "x", "w", "--indexed"]) == 0
    indexed = capsys.readouterr().out
    assert "∇w[i] = Σₙ x[n,i] δ¹[n]" in indexed and "∇x[n,i] =" in indexed
    assert main(["inspect", "net.json", "--latex"]) == 0
    assert r"\nabla w &= x^{\top} \delta^{1}" in capsys.readouterr().out
    assert "'q'" in fails(capsys, "inspect", "net.json", "--wrt", "q")


def test_inspect_writes_a_page(here: Path, capsys: Captured) -> None:
    argv = ["inspect", "net.json", "--html", "page.html"]
    assert main(argv) == 0
    assert capsys.readouterr().out == "wrote: page.html\n"
    text = Path("page.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "∇w" in text
    assert main(argv) == 0, "its own page may be replaced"
    Path("page.html").write_text(text.replace("∇w", "∇v"), encoding="utf-8")
    capsys.readouterr()
    fails(capsys, *argv)
    assert main([*argv, "--force"]) == 0
    assert Path("page.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("other", ["--latex", "--indexed"])
def test_a_page_is_no_notation(here: Path, capsys: Captured, other: str) -> None:
    assert main(["inspect", "net.json", "--html", "page.html", other]) == 2
    assert not Path("page.html").exists()


# derivatives of expressions


LEAST_SQUARES = "norm2(A @ x - b)**2"


def test_an_expression_is_differentiated(here: Path, capsys: Captured) -> None:
    assert main([LEAST_SQUARES, "--wrt", "x"]) == 0
    captured = capsys.readouterr()
    formula, shapes = "∂f/∂x = 2 Aᵀ (A x − b)", "A (m, n), x (n,), b (m,)"
    parts = (formula, shapes, "\nsteps\n", r"2 A^{\top} (A x - b)", "def gradient(A, x, b):")
    assert all(part in captured.out for part in parts)
    assert captured.err == ""
    assert main(["differentiate", LEAST_SQUARES, "--wrt", "x"]) == 0
    assert capsys.readouterr().out == captured.out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((LEAST_SQUARES, "--wrt", "x", "A"), ("∂f/∂x = 2 Aᵀ (A x − b)", "∂f/∂A = 2 (A x − b) xᵀ")),
        (("softmax(x)", "--jacobian"), ("∂f/∂x = diag(s) − s sᵀ", "def jacobian(x):")),
        ((LEAST_SQUARES, "--hessian", "--wrt", "x"), ("∂²f/∂x² = 2 Aᵀ A", "structure: low rank", "def hessian(")),
        (("sum(exp(A @ x))", "--hvp", "--wrt", "x"), ("∂²f/∂x² v = Aᵀ diag(exp(A x)) A v", "def hvp(")),
        (("x @ A @ x", "--wrt", "x", "--declare", "A: symmetric(n)"), ("∂f/∂x = 2 A x",)),
    ],
    ids=["several variables", "jacobian", "hessian", "hvp", "declare"],
)
def test_kinds_of_derivatives(here: Path, capsys: Captured, argv: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert [word for word in words if word not in out] == []


def test_latex_of_an_expression_alone(here: Path, capsys: Captured) -> None:
    assert main([LEAST_SQUARES, "--wrt", "x", "--latex"]) == 0
    assert capsys.readouterr().out == r"\frac{\partial f}{\partial x} = 2 A^{\top} (A x - b)" + "\n"


@pytest.mark.parametrize("kind", ["--gradient", "--hessian"])
def test_the_code_of_an_expression_is_a_file_that_checks_itself(here: Path, capsys: Captured, kind: str) -> None:
    argv = ["sum(log(1 + exp(-y * (X @ w))))", "--wrt", "w", kind, "--code", "own.py"]
    assert main(argv) == 0
    assert capsys.readouterr().out.endswith("wrote: own.py\n")
    text = Path("own.py").read_text(encoding="utf-8")
    assert "import symgrad" not in text
    assert subprocess.run([sys.executable, "-I", "own.py"], capture_output=True).returncode == 0
    assert main(argv) == 0, "its own file may be replaced"
    capsys.readouterr()
    Path("own.py").write_text(text + "# mine\n", encoding="utf-8")
    assert main(argv) == 1
    assert "was changed since" in capsys.readouterr().err
    assert main([*argv, "--force"]) == 0
    assert Path("own.py").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("norm2(A @ x",), ("malformed", "^")),
        (("fooo(x)",), ("no function", "^")),
        (("A @ x", "--wrt", "x"), ("no scalar", "Jacobian")),
        ((LEAST_SQUARES,), ("name the variable", "A, x, b")),
        ((LEAST_SQUARES, "--wrt", "y"), ("no variable 'y'",)),
        ((LEAST_SQUARES, "--wrt", "x", "--declare", "A matrix"), ("declares nothing",)),
        ((LEAST_SQUARES, "--wrt", "x", "A", "--code", "f.py"), ("one derivative",)),
    ],
)
def test_a_faulty_expression(here: Path, capsys: Captured, argv: tuple[str, ...], words: tuple[str, ...]) -> None:
    error = fails(capsys, *argv)
    assert [word for word in words if word not in error] == []
    assert not Path("f.py").exists()


# emit


def test_emit_prints_a_program(here: Path, capsys: Captured) -> None:
    assert main(["emit", "net.json", "--dtype", "float64", "--optimizer", "momentum"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    program = load(captured.out)
    assert program.STATE and program.DTYPE is np.float64
    loss, grads = program.loss_and_grads({"w": np.zeros(3)}, **arrays())
    assert np.isfinite(loss) and grads["w"].shape == (3,)


def test_emit_writes_the_same_program_to_a_file(here: Path, capsys: Captured) -> None:
    assert main(["emit", "net.json", "--style", "readable", "-o", "made.py"]) == 0
    assert capsys.readouterr().out == "wrote: made.py\n"
    assert main(["emit", "net.json", "--style", "readable"]) == 0
    assert capsys.readouterr().out == Path("made.py").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, "made.py", "data.npz"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("loss: ")


def test_emit_replaces_only_what_symgrad_emitted(here: Path, capsys: Captured) -> None:
    emit = ["emit", "net.json", "-o", "made.py"]
    assert main(emit) == 0
    assert main([*emit, "--style", "readable"]) == 0
    capsys.readouterr()

    changed = Path("made.py").read_text(encoding="utf-8").replace("def main", "def  main")
    Path("made.py").write_text(changed, encoding="utf-8")
    error = fails(capsys, *emit)
    assert "made.py: exists, and is no file that symgrad emitted or was changed since" in error
    assert "--force" in error
    assert Path("made.py").read_text(encoding="utf-8") == changed

    assert main([*emit, "--force"]) == 0
    assert "def  main" not in Path("made.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"x = 1\n", b"\xff", b"# Emitted by symgrad; SHA-256 of the lines above: 0"])
def test_emit_keeps_a_file_of_the_user(here: Path, capsys: Captured, content: bytes) -> None:
    Path("mine.py").write_bytes(content)
    before = sorted(os.listdir())
    fails(capsys, "emit", "net.json", "-o", "mine.py")
    assert Path("mine.py").read_bytes() == content
    assert sorted(os.listdir()) == before


def test_emit_refuses_what_is_no_file(here: Path, capsys: Captured) -> None:
    Path("folder").mkdir()
    for force in ([], ["--force"]):
        assert "is no regular file" in fails(capsys, "emit", "net.json", "-o", "folder", *force)
    assert "folder/none/made.py: cannot be written" in fails(capsys, "emit", "net.json", "-o", "folder/none/made.py")
    assert os.listdir("folder") == []


def test_a_checkout_that_changes_line_ends_is_no_change(tmp_path: Path) -> None:
    program = sg.emit(sg.derive(sg.graph(sg.sum(sg.parameter("w", (2,)) * sg.input("x", (2,))))))
    text = program.source
    path = tmp_path / "made.py"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    replace_file(path, text.encode())
    assert path.read_bytes() == text.encode()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileError):
        replace_file(tmp_path / "link", b"new")
    replace_file(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"new"


# verify


def test_verify_prints_a_table(here: Path, capsys: Captured) -> None:
    assert main(["verify", "net.json", "--dims", "N=4", "--seed", "3", "--wrt", "x", "w"]) == 0
    out = capsys.readouterr().out
    assert "\nok: 2 gradients" in out and "(4, 3)" in out
    assert main(["verify", "net.json", "--entries", "2", "--style", "readable"]) == 0
    assert "w       (3,)         2 " in capsys.readouterr().out


def test_verify_says_no(here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        ok = False

    monkeypatch.setattr(cli, "verify", lambda *_, **__: Wrong())
    assert main(["verify", "net.json"]) == 1
    captured = capsys.readouterr()
    assert "Wrong" in captured.out and captured.err == ""


def test_verify_of_unknown_names(here: Path, capsys: Captured) -> None:
    assert "'Q'" in fails(capsys, "verify", "net.json", "--dims", "Q=2")
    assert "'q'" in fails(capsys, "verify", "net.json", "--wrt", "q")


# train


def test_train_runs_the_program(here: Path, capsys: Captured) -> None:
    options = ["--epochs", "30", "--batch-size", "8", "--lr", "0.1", "--save", "out.npz"]
    assert main(["train", "net.json", "--optimizer", "sgd", "--dtype", "float64", "data.npz", *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("loss: ") and "saved: out.npz" in out
    with np.load("out.npz") as saved:
        np.testing.assert_allclose(saved["parameter/w"], [1, -2, 3], atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, "input 'x': missing"),
        ({"x": np.zeros((40, 4))}, "input 'x': expected float32 of shape (N, 3)"),
        ({"t": np.zeros(39)}, "input 't': expected float32 of shape (N,)"),
        ({"t": np.array(["a"] * 40)}, "input 't': expected float32"),
        ({"x": np.full((40, 3), np.nan)}, "input 'x': nan at index (0, 0)"),
        ({"more": np.zeros(3)}, "input 'more': unknown"),
    ],
)
def test_train_on_unfit_data(here: Path, capsys: Captured, change: dict[str, np.ndarray | None], words: str) -> None:
    np.savez("bad.npz", **{n: a for n, a in {**arrays(), **change}.items() if a is not None})
    unfit(capsys, "bad.npz", words)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_train_on_what_is_no_archive(here: Path, capsys: Captured, content: bytes) -> None:
    Path("bad.npz").write_bytes(content)
    unfit(capsys, "bad.npz", "bad.npz")


def test_train_on_a_missing_file(here: Path, capsys: Captured) -> None:
    unfit(capsys, "none.npz", "No such file or directory: 'none.npz'")


def unfit(capsys: Captured, data: str, words: str) -> None:
    """Training on `data` fails with one message, and writes nothing."""
    before = sorted(os.listdir())
    assert main(["train", "net.json", data, "--save", "out.npz"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err and "Traceback" not in captured.err
    assert sorted(os.listdir()) == before


def test_help_of_train_lists_the_options_of_the_program(here: Path, capsys: Captured) -> None:
    assert main(["train", "--help"]) == 0
    without = capsys.readouterr().out
    assert "--optimizer" in without and "--beta1" not in without
    assert main(["train", "net.json", "--optimizer", "momentum", "--help"]) == 0
    with_graph = capsys.readouterr().out
    assert "--momentum" in with_graph and "usage: symgrad train GRAPH [-h]" in with_graph


# usage


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nothing"],
        ["inspect"],
        ["inspect", "net.py"],
        ["inspect", "net.json", "more"],
        ["inspect", "net.json", "--latex", "--indexed"],
        ["emit", "net.json", "--optimizer", "none"],
        ["emit", "net.json", "--dtype", "float16"],
        ["verify", "net.json", "--dims", "N"],
        ["verify", "net.json", "--dims", "N=x"],
        ["verify", "net.json", "--dims", "N=0"],
        ["inspect", "--wrt", "x", "w", "net.json"],
        ["verify", "net.json", "--seed", "-1"],
        ["verify", "net.json", "--entries", "0"],
        ["train", "net.json"],
        ["train", "--epochs", "3", "net.json", "data.npz"],
        ["train", "net.json", "data.npz", "--momentum", "0.1"],
        ["demo", "more"],
    ],
)
def test_wrong_usage(here: Path, capsys: Captured, argv: list[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("usage: symgrad")
    assert "error: " in captured.err


def test_a_dimension_of_size_zero_is_refused(here: Path, capsys: Captured) -> None:
    assert main(["verify", "net.json", "--dims", "N=0"]) == 2
    assert "there is nothing to verify in 'N=0'; a size is 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "emit", "verify"])
def test_usage_shows_the_graph_first(here: Path, capsys: Captured, command: str) -> None:
    assert main([command, "--wrt", "x", "w", "net.json"]) == 2
    assert capsys.readouterr().err.startswith(f"usage: symgrad {command} GRAPH [options]\n")
    assert main([command, "net.json", "--wrt", "x", "w"]) == 0


@pytest.mark.parametrize(
    ("command", "word"), [("inspect", "deriving"), ("emit", "deriving"), ("verify", "verifying"), ("train", "deriving")]
)
def test_somebody_at_a_terminal_sees_what_takes_long(
    here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, command: str, word: str
) -> None:
    data = ["data.npz", "--epochs", "1"] if command == "train" else []
    main([command, "net.json", *data])
    assert word not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main([command, "net.json", *data])
    captured = capsys.readouterr()
    assert captured.err.startswith(word) and " ...\n" in captured.err and word not in captured.out


@pytest.mark.parametrize("command", ["inspect", "emit", "verify", "train"])
def test_help_says_that_python_files_are_executed(command: str, capsys: Captured) -> None:
    assert main([command, "--help"]) == 0
    assert "is executed" in " ".join(capsys.readouterr().out.split())


def test_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"symgrad {sg.__version__}\n"


def test_an_interruption(here: Path, capsys: Captured) -> None:
    assert main(["inspect", "net.py:interrupted"]) == 130
    assert capsys.readouterr().err.endswith("symgrad: interrupted\n")


def test_an_unexpected_error_keeps_its_traceback(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "derive", broken)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "net.json"])


# as a process


def symgrad(*argv: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "symgrad", *argv]
    return subprocess.run(command, stderr=subprocess.PIPE, **settings)  # type: ignore[call-overload, no-any-return]


def test_results_go_to_stdout_and_errors_to_stderr(here: Path) -> None:
    done = symgrad("emit", "net.py:make", stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout.startswith(b'"""') and b"is running" not in done.stdout
    assert done.stderr.split() == b"this file is running this function is running".split()
    done = symgrad("emit", "none.json", stdout=subprocess.PIPE)
    assert done.returncode == 1 and done.stdout == b"" and done.stderr.startswith(b"symgrad: error: none.json")


def test_output_that_is_no_unicode(here: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = symgrad("inspect", "net.json", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0 and rb"\u2207w" in done.stdout
    done = symgrad("emit", "net.json", stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0 and "∇w".encode() in done.stdout  # a Python file is UTF-8


def test_a_reader_that_goes_away(here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = symgrad("inspect", "net.json", stdout=write)
    finally:
        os.close(write)
    assert done.returncode == 1 and done.stderr == b""


GRAPHS = """
import symgrad as sg

def conv():
    x, t = sg.input("x", ("N", 1, 8, 8)), sg.input("t", ("N",), dtype="int64")
    F, b = sg.parameter("F", (4, 1, 3, 3)), sg.parameter("b", (4, 1, 1))
    h = sg.max_pool(sg.relu(sg.conv2d(x, F, padding=1) + b), 2)
    W = sg.parameter("W", (64, 10))
    return sg.cross_entropy(sg.reshape(h, ("N", 64)) @ W, t)

def lstm():
    x, t = sg.input("x", ("N", 2, 3)), sg.input("t", ("N", 5))
    W, U, b = sg.parameter("W", (3, 20)), sg.parameter("U", (5, 20)), sg.parameter("b", (20,))
    h = c = sg.constant([[0.0] * 5])
    for step in range(2):
        z = x[:, step] @ W + h @ U + b
        c = sg.sigmoid(z[:, 5:10]) * c + sg.sigmoid(z[:, :5]) * sg.tanh(z[:, 15:])
        h = sg.sigmoid(z[:, 10:15]) * sg.tanh(c)
    return sg.mse(h, t)

def letters():
    x, t = sg.input("x", ("N", 6)), sg.input("t", ("N",), dtype="int64")
    z = x @ sg.parameter("W", (6, 6)) + sg.parameter("b", (6,))
    spread = sg.mean(sg.where(z > x, sg.maximum(z, x) * sg.var(z, axis=1, keepdims=True), sg.minimum(z, x)))
    return sg.cross_entropy(sg.softmax(z), t) + spread + sg.sum(sg.logsumexp(z, axis=1))
"""
PRINT_ALL = """
import sys
from symgrad.cli import main
commands = [["inspect"], ["emit"], ["emit", "--style", "readable", "--optimizer", "adamw"]]
sys.exit(max(main([*command, graph]) for graph in sys.argv[1:] for command in commands))
"""


def test_the_same_bytes_in_every_run(here: Path) -> None:
    sg.save_graph(digits_network(), "digits.json")
    Path("graphs.py").write_text(GRAPHS)
    graphs = ["digits.json", *(f"graphs.py:{name}" for name in ("conv", "lstm", "letters"))]
    command = [sys.executable, "-c", PRINT_ALL, *graphs]
    outputs = []
    for seed in "012":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(command, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        outputs.append(done.stdout.decode().splitlines())
    assert "\n".join(outputs[0]).count("# Emitted by symgrad") == 2 * len(graphs)
    for other in outputs[1:]:
        different = [pair for pair in zip(outputs[0], other, strict=False) if pair[0] != pair[1]]
        assert not different and len(other) == len(outputs[0]), different[:3]
