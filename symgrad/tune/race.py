"""Programs that are measured against each other: each in a fresh process, taking turns."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHILD = Path(__file__).with_name("child.py")
BURST = 0.02  # seconds
SETTLE = 0.03  # seconds for the threads of BLAS to fall asleep, which wait for work busily at first
LEAST_ROUNDS = 5
SAME_LOSS = 1e-3  # relative difference; some kernels of a BLAS library are wrong on some processors


@dataclass(frozen=True)
class Times:
    """Seconds of a step of one program: the least, the median, and the median of the ratios to the first program.

    A program that could not be measured has infinite times, and says why.
    """

    least: float
    median: float
    relative: float
    fault: str = ""


class Runner:
    """One program in its process."""

    def __init__(self, program: Path, data: Path) -> None:
        command = [sys.executable, str(CHILD), str(program), str(data)]
        pipe = subprocess.PIPE
        # In a session of its own: an interruption is for the parent, which ends all of them in order.
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", start_new_session=True
        )
        self.times: list[float] = []
        self.fault = ""

    def start(self, loss: float | None) -> float:
        """Wait until the program is ready; its loss, which must be the one given."""
        found = self._answer()
        if loss is not None and not self.fault and not math.isclose(found, loss, rel_tol=SAME_LOSS):
            self.fault = f"its loss is {found:.6g} where others have {loss:.6g}"
        return found

    def measure(self) -> None:
        """One burst."""
        if not self.fault:
            try:
                _open(self._process.stdin).write(f"{BURST}\n")
                _open(self._process.stdin).flush()
            except OSError:  # the answer will be missing
                pass
            self.times.append(self._answer())

    def _answer(self) -> float:
        """The number that the process prints; infinity if it has ended, and a fault."""
        try:
            return float(_open(self._process.stdout).readline())
        except ValueError:
            _, errors = self._process.communicate()
            lines = errors.strip().splitlines()
            self.fault = lines[-1] if lines else f"its process ended with status {self._process.returncode}"
            return math.inf

    def close(self) -> None:
        """End the process, which ends its own helpers."""
        try:
            self._process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, ValueError):  # it hangs; it has ended before
            self._process.kill()
            self._process.wait()


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def race(programs: Sequence[Path], data: Path, seconds: float) -> list[Times]:
    """The times of each program, measured for so many seconds: in rounds, whose order rotates."""
    runners: list[Runner] = []
    try:
        for program in programs:
            runners.append(Runner(program, data))
        loss = runners[0].start(None)
        for runner in runners[1:]:
            runner.start(loss)
        _take_turns(runners, seconds)
    finally:
        for runner in runners:
            runner.close()
    return [summary(runner.times, runners[0].times, runner.fault) for runner in runners]


def _take_turns(runners: Sequence[Runner], seconds: float) -> None:
    measured, turn = 0.0, 0
    while not runners[0].fault and (measured < seconds * len(runners) or turn < LEAST_ROUNDS):
        for k in range(len(runners)):
            before = time.perf_counter()
            runners[(turn + k) % len(runners)].measure()
            measured += time.perf_counter() - before
            time.sleep(SETTLE)
        turn += 1


def summary(times: Sequence[float], first: Sequence[float], fault: str = "") -> Times:
    """Of a program's bursts, beside those of the first program in the same rounds."""
    if fault:
        return Times(math.inf, math.inf, math.inf, fault)
    relative = statistics.median(a / b for a, b in zip(times, first, strict=True))
    return Times(min(times), statistics.median(times), relative)
