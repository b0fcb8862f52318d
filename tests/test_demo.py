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
from symgrad.data import split_digits
from symgrad.files import load_graph
from symgrad.pipeline import derive, emit

FILES = ["digits.json", "digits.npz", "digits_held_out.npz", "digits_params.npz", "digits_train.py"]


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
    for words in ("∇W¹ = xᵀ δ¹", "\nok: 6 gradients", "loss: ", f"in {folder.resolve()}:", "digits_held_out.npz"):
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
    with np.load(folder / "digits_held_out.npz") as data:
        assert data["x"].shape == (359, 64) and data["t"].shape == (359,)


def test_the_commands_it_names_next_work(shown: Shown) -> None:
    folder, done = shown
    lines = done.stdout.split("next, in that directory:\n")[1].splitlines()
    commands = dict(zip((line.strip(" :") for line in lines[::2]), lines[1::2], strict=True))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath}
    results = {}
    for what, command in commands.items():
        again = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
        assert again.returncode == 0, (command, again.stderr)
        results[what] = again.stdout
    (folder / "more.npz").unlink()
    assert len(commands) == 5 and "saved: more.npz" in results["train on"]
    accuracy = re.search(r"([\d.]+)% held-out accuracy", done.stdout)
    assert accuracy and f"{float(results['the accuracy again']):.2%}" == f"{accuracy[1]}%"


def test_the_interpreter_is_named_as_seen_from_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / ".venv" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(below))
    monkeypatch.chdir(tmp_path)
    assert demo._python(Path()) == str(below.relative_to(tmp_path))
    assert demo._python(Path("elsewhere")) == str(below)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a b" / "python"))
    assert demo._python(Path()) in ("'a b/python'", '"a b\\python"')


def test_it_can_be_run_again(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = shown
    before = {name: (folder / name).read_bytes() for name in FILES}
    monkeypatch.setattr(demo, "_verify", lambda network: True)
    assert main(["demo", "--directory", str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_user_are_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["demo", "--directory", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "", "the refusal comes first"
    assert captured.err.startswith(f"symgrad: error: {tmp_path / name}: exists") and "--force" in captured.err
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(("epochs", "seed", "first"), [(2, 0, True), (1, 1, False)])
def test_parameters_of_the_user_are_kept(
    epochs: int,
    seed: int,
    first: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "SETTINGS", ["--epochs", "1"])
    monkeypatch.setattr(demo, "_verify", lambda network: True)
    module = emit(derive(demo.digits_network()), demo.OPTIMIZER).load()
    trainer = module.Trainer(module.init_params(seed=seed))
    trainer.fit(split_digits()[0], epochs=epochs, progress=False)
    trainer.save(tmp_path / "digits_params.npz")
    before = (tmp_path / "digits_params.npz").read_bytes()
    assert main(["demo", "--directory", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "digits_params.npz: exists" in captured.err
    assert (captured.out == "") is first, "before anything else, where that can be told"
    assert (tmp_path / "digits_params.npz").read_bytes() == before


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
