"""Everything that the documents show is run, and compared with what they say comes out.

    ```python     runs; the blocks of a file share one namespace and a temporary working directory
    ```text       directly after a python block (nothing but a line of prose between): what it prints
    ```console    lines `$ symgrad ...` are run as commands; what follows each is what it prints
    other blocks  are left alone

In expected output a line `...` stands for any lines, and numbers below 1e-5 written with an exponent, which
are rounding errors, for one another. `pytest tests/test_docs.py --update` writes the real output into the files.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from symgrad import simplify
from symgrad.expression.functions import FILLED, is_function
from symgrad.grade import KINDS
from symgrad.index.functions import FUNCTIONS
from symgrad.index.solution import KERNELS
from symgrad.ops import OPS
from symgrad.optimizers import OPTIMIZERS

BUILT_IN = frozenset(OPS)  # before any document or test adds its own
ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
ANYTHING = "..."

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


@dataclass(frozen=True)
class Block:
    """A fenced block. `first` is the number of its first line, counted from 0; `prose` the lines before it."""

    language: str
    lines: tuple[str, ...]
    first: int
    prose: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    prose: list[str] = []
    inside: tuple[str, list[str], int] | None = None
    for number, line in enumerate(text.splitlines()):
        if inside is None and line.startswith("```"):
            inside = (line[3:].strip(), [], number + 1)
        elif inside is not None and line == "```":
            found.append(Block(inside[0], tuple(inside[1]), inside[2], tuple(filter(None, prose))))
            inside, prose = None, []
        elif inside is not None:
            inside[1].append(line)
        else:
            prose.append(line)
    assert inside is None, f"the block that starts at line {inside[2]} has no end"
    return found


# expected output


def matches(expected: str, found: str) -> bool:
    """Whether `found` is what `expected` says; see the module's docstring."""
    parts = [re.escape(_comparable(part)) for part in re.split(rf"(?m)^[ ]*{re.escape(ANYTHING)}$\n?", expected + "\n")]
    return re.fullmatch("(?:.*\n)*?".join(parts), _comparable(found.rstrip("\n") + "\n")) is not None


def _comparable(text: str) -> str:
    """Without what differs between machines: trailing blanks, and the digits of rounding errors."""
    text = re.sub(r"(?m)[ ]+$", "", text)
    return re.sub(r"[ ]*\b\d(\.\d+)?e-(0[6-9]|[1-9]\d)\b", " #", text)


def updated(expected: str, found: str) -> str:
    """The real output in the place of the expected one, cut where that one is cut."""
    if matches(expected, found):
        return expected
    parts = re.split(rf"(?m)^([ ]*{re.escape(ANYTHING)})$\n?", expected)
    lines, place = found.rstrip("\n").split("\n"), 0
    result: list[str] = []
    for part in parts:
        wanted = part.rstrip("\n").split("\n") if part else []
        if part.strip() == ANYTHING:
            result.append(part)
            continue
        starts = [k for k in range(place, len(lines)) if wanted and lines[k] == wanted[0]]
        if len(parts) == 1:
            wanted, starts = lines, [0]
        assert starts or not wanted, f"cannot find the line {wanted[0]!r} in the output; cut it by hand:\n{found}"
        if wanted:
            place = starts[0] + len(wanted)
            result += lines[starts[0] : place]
    return "\n".join(result)


# running


def outputs(path: Path) -> Iterator[tuple[Block, str, str]]:
    """(block, expected, found) for every block of expected output, having run everything on the way."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language == "python":
            printed = _printed(block, path, namespace)
        elif block.language == "text" and printed is not None and len(block.prose) <= 1:
            yield block, block.text, printed
            printed = None
        elif block.language == "console":
            for command, expected in _commands(block):
                found = _command_output(command)
                yield block, f"$ {command}\n{expected}".rstrip("\n"), f"$ {command}\n{found}"
        else:
            printed = None


def _printed(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    """What the block prints; a traceback shows the document's own lines."""
    out = StringIO()
    code = compile("\n" * block.first + block.text, str(path), "exec")
    with redirect_stdout(out):
        exec(code, namespace)
    return out.getvalue()


def _commands(block: Block) -> Iterator[tuple[str, str]]:
    parts = re.split(r"(?m)^\$ (.*)$\n?", block.text)
    for command, expected in zip(parts[1::2], parts[2::2], strict=True):
        if command.startswith("symgrad "):
            yield command, expected


def _command_output(command: str) -> str:
    from symgrad.cli import main

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(shlex.split(command)[1:])
    assert status == 0, f"`{command}` ended with {status}:\n{err.getvalue()}"
    return out.getvalue()


@every_document
def test_what_is_shown_is_what_comes_out(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for block, expected, found in reversed(list(outputs(path))):
        if update and block.language == "text":
            lines[block.first : block.first + len(block.lines)] = updated(expected, found).splitlines()
        elif not matches(expected, found):
            pytest.fail(f"{path.name}, line {block.first + 1} shows\n\n{expected}\n\nbut what comes out is\n\n{found}")
    if update:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# links and commands


def anchors(text: str) -> set[str]:
    """The names under which the headings can be linked to."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", text)
    headings = re.findall(r"(?m)^#+ (.+)$", prose)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", path.read_text(encoding="utf-8"))
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (path.parent / file).resolve() if file else path
        assert goal.exists(), f"{path.name} links to {target}, which does not exist"
        assert goal.is_relative_to(ROOT), f"{path.name} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(goal.read_text(encoding="utf-8")), f"{path.name}: no heading for {target}"


def readme_commands() -> list[str]:
    """The two lines of the README that make their own virtual environment."""
    return re.findall(r"(?m)^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_readme_has_two_commands_that_fit_the_project() -> None:
    demo, tests = readme_commands()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert demo.endswith(" && .venv/bin/symgrad demo") and "symgrad" in project["scripts"]
    (extra,) = re.findall(r"'\.\[(\w+)\]'", tests)
    installed = {re.split(r"[^\w-]", needed)[0] for needed in project["optional-dependencies"][extra]}
    assert {"pytest", "pytest-xdist", "hypothesis", "ruff", "mypy"} <= installed
    assert ".venv/bin/pytest" in tests


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, f"{script} is not executable"
    shown = subprocess.run([script, "--commands"], capture_output=True, text=True, check=True, cwd="/").stdout
    assert shown.splitlines() == readme_commands()


def test_readme_names_every_op_and_optimizer() -> None:
    table = re.findall(r"(?m)^\| .*$", (ROOT / "README.md").read_text(encoding="utf-8"))
    named = {word for row in table for span in re.findall(r"`([^`]+)`", row) for word in span.split()}
    operators = {"add", "subtract", "multiply", "divide", "power", "negative"}
    comparisons = {"equal", "not_equal", "greater", "greater_equal", "less", "less_equal"}
    assert {*BUILT_IN, *OPTIMIZERS} - operators - comparisons <= named


def test_matrix_calculus_names_every_function() -> None:
    text = (ROOT / "docs" / "matrix-calculus.md").read_text(encoding="utf-8")
    table = text.split("<!-- expression functions: begin -->")[1].split("<!-- expression functions: end -->")[0]
    named = set(re.findall(r"[a-z]\w+", " ".join(re.findall(r"`([^`]+)`", table)))) - {"axis", "keepdims", "shape"}
    operators = {"add", "subtract", "multiply", "divide", "power", "negative"}
    comparisons = {"equal", "not_equal", "greater", "greater_equal", "less", "less_equal"}
    known = {name for name in (*BUILT_IN, *FUNCTIONS, *FILLED, "len", "norm") if is_function(name)}
    assert {name for name in named if not is_function(name)} == set()
    assert known - operators - comparisons <= named


def test_graph_format_names_every_kernel() -> None:
    text = (ROOT / "docs" / "graph-format.md").read_text(encoding="utf-8")
    named = {(call, operands.count(",") + 1) for call, operands in re.findall(r"`(\w+)\(([\w, ]+)\)`", text)}
    assert {(call, len(ranks)) for call, ranks in KERNELS} <= named


def test_grading_names_every_kind_of_fault() -> None:
    rows = re.findall(r"(?m)^\| (`.*?) \|", (ROOT / "docs" / "grading.md").read_text(encoding="utf-8"))
    assert sorted(kind for row in rows for kind in re.findall(r"`([^`]+)`", row)) == sorted(KINDS)


def test_architecture_names_every_pass() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    passes = {*simplify.__all__, *simplify.JOINT_PASSES} - {"JOINT_PASSES"}
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", text)) >= passes


# the tutorial


def test_tutorial_stays_short() -> None:
    code = [block for block in blocks(TUTORIAL.read_text(encoding="utf-8")) if block.language == "python"]
    lines = [line for block in code for line in block.lines if line.strip() and not line.strip().startswith('"""')]
    assert len(lines) <= 220, f"the tutorial has {len(lines)} lines of code"


def test_tutorial_needs_no_symgrad() -> None:
    code = [block.text for block in blocks(TUTORIAL.read_text(encoding="utf-8")) if block.language == "python"]
    imported = {name for text in code for name in re.findall(r"(?m)^(?:import|from) (\w+)", text)}
    assert imported <= {"networkx", "numpy", "sympy", *sys.stdlib_module_names}
    assert "symgrad" not in imported


def test_tutorial_has_ten_steps() -> None:
    steps = re.findall(r"(?m)^## (\d+)\. ", TUTORIAL.read_text(encoding="utf-8"))
    assert steps == [str(k) for k in range(1, 11)]


# the rules of this file


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nc\n", False),
        ("a", "a\nb\n", False),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...\nd", "a\nd\n", True),
        ("a\n...\nd", "a\nb\n", False),
        ("a\n...", "a\nb\n", True),
        ("error 3.1e-11 ok", "error 2e-12 ok", True),
        ("error 3.1e-11 ok", "error 2e-03 ok", False),
        ("lr 1e-3", "lr 1e-4", False),
        ("a.c", "abc", False),
    ],
)
def test_matching(expected: str, found: str, same: bool) -> None:
    assert matches(expected, found) is same


def test_updating_keeps_the_cuts() -> None:
    assert updated("a\nold\n...\nd", "a\nb\nc\nd\n") == "a\nb\n...\nd"
    assert updated("old", "a\nb\n") == "a\nb"


def test_a_broken_snippet_fails(tmp_path: Path) -> None:
    path = tmp_path / "broken.md"
    path.write_text("```python\nprint(1)\n```\n\n```text\n2\n```\n", encoding="utf-8")
    ((_, expected, found),) = outputs(path)
    assert not matches(expected, found)
    path.write_text("text\n\n```python\nraise ValueError\n```\n", encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        list(outputs(path))
    assert caught.traceback[-1].lineno == 3, "the traceback shows the document's line, counted from 0"
