"""`symgrad tune`: what is measured, what is chosen, and what of it the file says."""

from __future__ import annotations

import importlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad import cli
from symgrad.cli import main
from symgrad.emit import is_untouched
from symgrad.emit.settings import Settings, settings_head, with_settings
from symgrad.tune import candidates, race
from symgrad.tune.race import Times

search = importlib.import_module("symgrad.tune.search")
ADJUSTED = Settings(1, "process", "Haswell", {"thread": (4, 2), "process": (2, 4)}, "a machine, for N = 8")


def network(name: str = "N") -> Any:
    x, t = sg.input("x", (name, 4)), sg.input("t", (name,), dtype="int64")
    h = sg.tanh(x @ sg.parameter("W", (4, 6)) + sg.parameter("b", (6,)))
    return sg.graph(sg.cross_entropy(h @ sg.parameter("V", (6, 3)), t, name="loss"))


@pytest.fixture
def derivation() -> sg.Derivation:
    return sg.derive(network())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a network, and none but it for temporary files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    sg.save_graph(network(), "net.json")
    return tmp_path


def leftovers(here: Path) -> list[Path]:
    return list((here / "temporary").iterdir())


# ---- Settings in the file ------------------------------------------------------------------------------------


def test_settings_survive_into_the_file(derivation: sg.Derivation) -> None:
    program = sg.emit(derivation)
    adjusted = with_settings(program, ADJUSTED)
    module = adjusted.load()
    assert (module.THREADS, module.WORKERS, module.BLAS_CORE) == (1, "process", "Haswell")
    assert dict(ADJUSTED.parts) == module.PARTS
    assert "Measured on a machine, for N = 8.\n" in adjusted.source
    assert is_untouched(adjusted.source)
    assert max(map(len, adjusted.source.splitlines())) <= 120


def test_lines_keep_their_numbers(derivation: sg.Derivation) -> None:
    program = sg.emit(derivation)
    before, after = program.source.splitlines(), with_settings(program, ADJUSTED).source.splitlines()
    assert len(before) == len(after)
    different = [line for line, other in zip(before, after, strict=True) if line != other]
    assert len(different) == 6  # where, three constants, PARTS and the seal
    assert with_settings(program, ADJUSTED).source_map == program.source_map


def test_without_settings_nothing_changes(derivation: sg.Derivation) -> None:
    program = sg.emit(derivation)
    assert with_settings(program, Settings()) == program
    assert settings_head(Settings()) in program.source


def test_the_readable_style_has_none(derivation: sg.Derivation) -> None:
    with pytest.raises(sg.EmitError, match="readable style has no settings"):
        with_settings(sg.emit(derivation, style="readable"), ADJUSTED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_settings_hold_where_the_caller_says_nothing(derivation: sg.Derivation) -> None:
    module = with_settings(sg.emit(derivation), ADJUSTED).load()
    params = module.init_params(0)
    assert (module.Trainer(params)._crew.threads, module.Trainer(params)._crew.workers) == (1, "process")
    other = module.Trainer(params, threads=3, workers="thread")._crew
    assert (other.threads, other.workers) == (3, "thread")
    assert module._arguments(["data.npz"]).workers is None


def test_settings_of_processes_where_there_are_none(
    derivation: sg.Derivation, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = with_settings(sg.emit(derivation), ADJUSTED).load()
    monkeypatch.delattr(os, "fork", raising=False)
    assert module.Trainer(module.init_params(0))._crew.workers == "thread"


def test_parts_are_those_that_were_measured(derivation: sg.Derivation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "processors", lambda: 4)
    program = sg.emit(derivation)
    module = program.load()
    for size in (1, 2, 10, 128, 1000):
        found = candidates.divisions(module, {"N": size})
        for words, settings in list(found.items())[1:]:
            tuned = with_settings(program, settings).load()
            assert words.split()[0] == str(tuned._parts({"N": size}, settings.workers))


def test_the_kernels_that_blas_chooses_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for core in candidates.KERNELS:
        monkeypatch.setattr(candidates, "_blas_kernels", lambda core=core: core)
        found = [one.blas_core for one in candidates.kernels(Settings()).values()]
        assert found[0] is None and core not in found


# ---- The choice ----------------------------------------------------------------------------------------------


def times(*relative: float) -> list[Times]:
    return [Times(r, r, r) for r in relative]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (times(1.0, 1.0, 1.0), 0),
        (times(1.0, 0.98, 0.99), 0),
        (times(1.0, 0.9, 0.5, 0.5), 2),
        (times(1.0, 0.5, 0.49), 1),
        ([*times(1.0), Times(2.0, 0.5, 0.5)], 0),
        ([*times(1.0), Times(0.5, 2.0, 2.0)], 0),
        ([*times(1.0), Times(math.inf, math.inf, math.inf, "illegal instruction"), *times(0.5)], 2),
    ],
)
def test_of_equals_the_simplest_is_chosen(given: Sequence[Times], expected: int) -> None:
    assert search.choose(given) == expected


def test_times_are_compared_within_rounds() -> None:
    found = race.summary([2.0, 20.0, 4.0], [1.0, 10.0, 4.0])
    assert (found.least, found.median, found.relative) == (2.0, 4.0, 2.0)


# ---- Measuring -----------------------------------------------------------------------------------------------


def test_a_tiny_network_is_tuned(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "net.json", "--size", "N=8", "--seconds", "0.2", "-o", "tuned.py", "--optimizer", "sgd"]) == 0
    printed = capsys.readouterr().out
    groups = printed.split("relative\n")[1:]
    assert all(sum(line.startswith("*") for line in group.splitlines()) == 1 for group in groups)
    assert "as estimated: 1 part" in printed and "2 parts on threads" in printed
    text = Path("tuned.py").read_text(encoding="utf-8")
    assert "for N = 8.\n" in text and is_untouched(text)
    rng = np.random.default_rng(0)
    np.savez("data.npz", x=rng.normal(size=(32, 4)), t=rng.integers(0, 3, 32))
    command = [sys.executable, "tuned.py", "data.npz", "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("loss: ")
    assert not leftovers(here)


def test_the_program_goes_to_stdout_and_the_table_to_stderr(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "net.json", "--size", "N=1", "--seconds", "0.01"]) == 0
    printed = capsys.readouterr()
    assert is_untouched(printed.out) and "relative" in printed.err


def test_a_program_that_fails_is_named(
    derivation: sg.Derivation, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    odd = {"as it is": Settings(), "refused": Settings(workers="nobody")}
    monkeypatch.setattr(search, "divisions", lambda *_: odd)
    monkeypatch.setattr(search, "thread_counts", lambda so_far: {"": so_far})
    monkeypatch.setattr(search, "kernels", lambda so_far: {"": so_far})
    program = sg.tune(derivation, {"N": 8}, seconds=0.01, show=lines.append)
    assert "DataError: workers: expected 'thread' or 'process', got 'nobody'" in lines[2]
    assert program.load().WORKERS == "thread"
    monkeypatch.setattr(search, "divisions", lambda *_: dict(reversed(odd.items())))
    with pytest.raises(sg.EmitError, match=r"the program cannot be measured: .*nobody"):
        sg.tune(derivation, {"N": 8}, seconds=0.01)
    assert not leftovers(here)


def test_another_loss_disqualifies(derivation: sg.Derivation, tmp_path: Path) -> None:
    program = sg.emit(derivation)
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    paths[0].write_text(program.source, encoding="utf-8")
    wrong = program.source.replace('"glorot_uniform"', '"normal"')
    assert wrong != program.source
    paths[1].write_text(wrong, encoding="utf-8")
    rng = np.random.default_rng(0)
    data = tmp_path / "data.npz"
    np.savez(data, x=rng.normal(size=(8, 4)).astype(np.float32), t=rng.integers(0, 3, 8))
    first, second = race.race(paths, data, 0.01)
    assert not first.fault and math.isfinite(first.least)
    assert second.fault.startswith("its loss is") and second.least == math.inf


@pytest.mark.parametrize(
    ("sizes", "seconds", "message"),
    [
        ({}, 1, "what size N is to be measured with is not said"),
        ({"n": 8}, 1, "no dimension 'n'"),
        ({"N": 0}, 1, "the size of N: expected a whole number of 1 or more, got 0"),
        ({"N": 8}, 0, "seconds: expected a positive number"),
    ],
)
def test_what_cannot_be_measured(
    derivation: sg.Derivation, sizes: dict[str, int], seconds: float, message: str
) -> None:
    with pytest.raises(sg.EmitError, match=message):
        sg.tune(derivation, sizes, seconds=seconds)


def test_a_loss_that_is_defined_for_positive_numbers_only() -> None:
    x = sg.input("x", ("N", 3))
    loss = sg.sum(sg.log(x) * sg.parameter("w", (3,), init=1.0), name="loss")
    program = sg.tune(sg.derive(sg.graph(loss)), {"N": 2}, seconds=0.01)
    assert "for N = 2." in program.source


def test_no_number_at_all() -> None:
    x = sg.input("x", ("N",))
    loss = sg.sum(sg.log(-sg.square(x) - 1.0) * sg.parameter("w", (), init=1.0), name="loss")
    with pytest.raises(sg.EmitError, match="nothing can be measured"):
        sg.tune(sg.derive(sg.graph(loss)), {"N": 2}, seconds=0.01)


def test_a_place_that_is_taken_is_refused_before_anything_is_measured(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text("x = 1\n")
    assert main(["tune", "net.json", "--size", "N=8", "-o", "mine.py"]) == 1
    assert "was changed since" in capsys.readouterr().err
    assert Path("mine.py").read_text() == "x = 1\n"


def test_a_place_that_is_not_there_is_refused_before_anything_is_measured(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "tune", lambda *_, **__: pytest.fail("measured"))
    assert main(["tune", "net.json", "--size", "N=8", "-o", "nowhere/tuned.py"]) == 1
    assert "tuned.py: cannot be written: there is no such directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["tune", "net.json", "--size", "N=4", "--size", "N=5"], ["verify", "net.json", "--dims", "N=4", "N=5"]],
)
def test_two_sizes_of_a_dimension_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    assert "the size of N is given as 4 and as 5" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interruption_leaves_nothing_behind(here: Path) -> None:
    command = [sys.executable, "-m", "symgrad", "tune", "net.json", "--size", "N=8", "--seconds", "30", "-o", "t.py"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not leftovers(here) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors == "symgrad: interrupted\n"
    assert not leftovers(here) and not Path("t.py").exists()
