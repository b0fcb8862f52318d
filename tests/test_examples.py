"""Every example runs in a folder of its own, and what it prints holds what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, folder: Path) -> str:
    """The example's output."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(text: str, label: str) -> float:
    """The number that follows a label."""
    found = re.search(re.escape(label) + r"\s*([-+.\de]+)", text)
    assert found, f"{label!r} is not in the output:\n{text}"
    return float(found[1])


def test_digits_classifier(tmp_path: Path) -> None:
    text = run("digits_classifier.py", tmp_path)
    assert "∇W¹ = xᵀ δ¹" in text
    assert "\nok: 4 gradients" in text
    assert number(text, "held-out accuracy:") >= 97
    assert os.listdir(tmp_path) == ["digits_mlp.py"]


def test_plain_networkx(tmp_path: Path) -> None:
    text = run("plain_networkx.py", tmp_path)
    assert "∇W¹ = xᵀ δ" in text
    for bits, value in (("0 xor 0", 0), ("0 xor 1", 1), ("1 xor 0", 1), ("1 xor 1", 0)):
        assert number(text, f"{bits}:") == pytest.approx(value, abs=0.1)


def test_custom_op(tmp_path: Path) -> None:
    text = run("custom_op.py", tmp_path)
    assert number(text, "\n  a:") < 1e-14 and number(text, "\n  x:") < 1e-14
    assert 'op="define" gives the same numbers: True' in text
    assert "\nok: 2 gradients" in text


def test_logistic_regression(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    text = run("logistic_regression.py", tmp_path)
    assert "\nok: 2 gradients" in text
    ours, theirs = re.findall(r"^loss\s+(\S+)\s+(\S+)$", text, re.MULTILINE)[0]
    assert float(ours) == pytest.approx(float(theirs), abs=1e-7)
    assert number(text, "held-out accuracy") > 0.95
    assert number(text, "largest difference of the coefficients:") < 1e-4


def test_second_derivative(tmp_path: Path) -> None:
    text = run("second_derivative.py", tmp_path)
    assert number(text, "largest asymmetry:") < 1e-14
    assert number(text, "largest difference from central differences:") < 1e-8


def test_matrix_calculus(tmp_path: Path) -> None:
    text = run("matrix_calculus.py", tmp_path)
    assert "structure: diagonal + low rank" in text
    assert number(text, "iteration 11: largest entry of the gradient") < 1e-12
    assert number(text, "largest difference from solving with the dense Hessian:") < 1e-10


def test_every_example_is_tested() -> None:
    tested = re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text(encoding="utf-8"))
    assert sorted(tested) == sorted(path.name for path in EXAMPLES.glob("*.py"))
