"""`symgrad demo`, from an empty directory to its accuracy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from symgrad import demo
from symgrad.cli import main
from symgrad.files import load_graph

FILES = ["digits.json", "digits.npz", "digits_params.npz", "digits_train.py"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "symgrad", "demo", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    start = time.perf_counter()
    done = run(folder)
    print(f"the demo took {time.perf_counter() - start:.1f} s")
    return folder, done


Shown = tuple[Path, subprocess.CompletedProcess[str]]


def test_it_shows_derivation_evidence_and_accuracy(shown: Shown) -> None:
    folder, done = shown
    assert done.returncode == 0, done.stderr
    for words in ("∇W¹ = xᵀ δ¹", "\nok: 6 gradients", "loss: ", f"in {folder.resolve()}:", "symgrad inspect"):
        assert words in done.stdout
    accuracy = re.search(r"([\d.]+)% held-out accuracy", done.stdout)
    assert accuracy and float(accuracy[1]) >= 97
    assert "training ..." in done.stderr and "error" not in done.stderr


def test_it_leaves_its_files_and_no_others(shown: Shown) -> None:
    folder, _ = shown
    assert sorted(os.listdir(folder)) == FILES
    assert list(load_graph(folder / "digits.json")) == list(demo.digits_network())
    with np.load(folder / "digits.npz") as data:
        assert data["x"].shape == (1438, 64) and data["t"].shape == (1438,)


def test_the_commands_it_names_next_work(shown: Shown) -> None:
    folder, done = shown
    command = next(line.split("  train on")[0] for line in done.stdout.splitlines() if "  train on" in line)
    words = [sys.executable, *command.split()[1:]]
    again = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    (folder / "more.npz").unlink()
    assert again.returncode == 0 and "saved: more.npz" in again.stdout


def test_it_can_be_run_again(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = shown
    before = {name: (folder / name).read_bytes() for name in FILES}
    monkeypatch.setattr(demo, "_verify", lambda network: True)
    assert main(["demo", "--directory", str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize("name", FILES[:2] + FILES[3:])
def test_files_of_the_user_are_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "verify", lambda *_, **__: pytest.fail("the refusal comes first"))
    (tmp_path / name).write_text("mine")
    assert main(["demo", "--directory", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"symgrad: error: {tmp_path / name}: exists") and "--force" in error
    assert (tmp_path / name).read_text() == "mine"


def test_parameters_of_the_user_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SETTINGS", ["--epochs", "1"])
    monkeypatch.setattr(demo, "_verify", lambda network: True)
    (tmp_path / "digits_params.npz").write_text("mine")
    assert main(["demo", "--directory", str(tmp_path)]) == 1
    assert "digits_params.npz: exists" in capsys.readouterr().err
    assert (tmp_path / "digits_params.npz").read_text() == "mine"


def test_a_poor_accuracy_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SETTINGS", ["--epochs", "0"])
    monkeypatch.setattr(demo, "_verify", lambda network: True)
    assert main(["demo", "--directory", str(tmp_path / "new" / "folder")]) == 1
    captured = capsys.readouterr()
    assert "held-out accuracy" in captured.out
    assert "expected 97% or more" in captured.err


def test_wrong_gradients_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo._verdict(verified=False, accuracy=0.99) == 1
    assert "gradients differ" in capsys.readouterr().err
    assert demo._verdict(verified=True, accuracy=0.97) == 0


def test_a_failing_training_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SETTINGS", ["--epochs", "-1"])
    monkeypatch.setattr(demo, "_verify", lambda network: True)
    assert main(["demo", "--directory", str(tmp_path)]) == 1
    assert "DataError: epochs" in capfd.readouterr().err
    assert not (tmp_path / "digits_params.npz").exists()
