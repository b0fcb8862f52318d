"""The scripts that measure run, and print what they say that they do. What they measure is not tested."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from symgrad.emit import plans, products, workers
from symgrad.machine import LIMITS, MACHINE, WEIGHTS, Machine

FOLDER = Path(__file__).parent / "benchmarks"
WORKLOADS = ["W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "P1", "P2", "P3", "P4", "C1", "G1", "M1"]


def slow(value: str) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", ["ablation", "allocations", "calibrate", "cold", "show", "speed"])
def test_help(script: str) -> None:
    assert "usage:" in run(script, "--help")


def test_speed_compares_with_numpy_by_hand() -> None:
    printed = run("speed", "W1", "--contestants", "plain,symgrad", "--seconds", "0.05")
    assert "not timed" not in printed
    assert re.search(r"^  plain .* 1\.00 +1\.00 ", printed, re.MULTILINE) and "\n  symgrad" in printed


@pytest.mark.parametrize("workload", [w if w in ("P3", "M1") else slow(w) for w in WORKLOADS])
@pytest.mark.parametrize("dtype", ["float32", slow("float64")])
def test_the_yardsticks_compute_what_the_emitted_programs_do(workload: str, dtype: str) -> None:
    names = "plain,best" if workload[0] == "W" else "plain"
    printed = run("speed", workload, "--contestants", names, "--seconds", "0.01", "--dtype", dtype)
    assert "not timed" not in printed
    assert re.findall(r"^  (plain|best) ", printed, re.MULTILINE) == names.split(",")


def test_results_are_shown_relative_to_numpy_by_hand(tmp_path: Path) -> None:
    times = {"plain": 2.0, "symgrad": 2.5, "torch": 5.0}
    rows = [{"workload": "W1", "contestant": c, "dtype": "float32", "least": t} for c, t in times.items()]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- float32 -->\nold\n<!-- /float32 -->\nafter\n")
    printed = run("show", str(tmp_path / "found.json"), "--document", str(document)).splitlines()
    assert printed[2:5:2] == ["| | by hand, ms | symgrad | torch |", "| W1 | 2 | **1.25** | 2.50 |"]
    written = document.read_text().splitlines()
    assert written == ["before", "<!-- float32 -->", *printed[2:7], "<!-- /float32 -->", "after"]
    assert printed[6] == "Ahead of symgrad with threads: code by hand on W1."


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    options = ("--contestants", "plain,symgrad", "--seconds", "0.01", "--picture", str(tmp_path / "a.svg"))
    printed = run("speed", "W1", *options)
    assert "not drawn" not in printed and [file.name for file in tmp_path.iterdir()] == ["a.svg"]
    assert (tmp_path / "a.svg").read_text().rstrip().endswith("</svg>")


def test_calibrate_prints_the_records_of_the_machine() -> None:
    scope: dict[str, Any] = {"Machine": Machine}
    exec(run("calibrate", "--seconds", "0.01"), scope)
    assert all(value >= 0 for value in vars(scope["MACHINE"]).values())
    assert list(scope["WEIGHTS"]) == list(WEIGHTS) and min(scope["WEIGHTS"].values()) > 0


def test_an_emitted_file_copies_the_machines_constants() -> None:
    limits = (plans._TASK, workers._BLOCK_BYTES, workers._THREAD_BYTES, products._WIDTH, products._PANEL)
    assert limits == (
        LIMITS.task,
        LIMITS.optimizer_block,
        LIMITS.optimizer_thread,
        LIMITS.product_columns,
        LIMITS.product_panel,
    )
    assert MACHINE.small_product == products._SMALL_PRODUCT


def test_calibrate_measures_what_is_asked_for() -> None:
    printed = run("calibrate", "--seconds", "0.01", "--only", "call,exp")
    assert printed.count("not measured") == len(dataclasses.fields(Machine)) + len(WEIGHTS) - 2


def test_ablation_is_a_table_of_ratios() -> None:
    lines = run("ablation", "W1", "--passes", "accumulate_scatters,merge_taps", "--seconds", "0.05").splitlines()
    assert lines[:2] == ["| without | W1 |", "|---|---|"]
    assert [re.sub(r"\d+\.\d\d", "1.23", line) for line in lines[2:]] == ["| `accumulate_scatters` | 1.23 |"]


def test_a_steady_step_leaves_nothing_allocated(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    printed = run("allocations", "W1", "--steps", "10", "--lines", "--peers", "none", "--json", str(file))
    found = json.loads(file.read_text())["W1"]
    assert found["blocks"] <= 0 and found["bytes"] <= 0
    assert 0 < found["transient"] < 20_000
    assert re.search(r"(?m)^ +\d+ +\w.*\(", printed)  # NumPy's buffers, with the lines that need them
