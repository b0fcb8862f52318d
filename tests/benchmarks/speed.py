"""Training steps timed against each other: symgrad's emitted program, NumPy by hand, and other libraries.

    pip install -e '.[bench]'
    python tests/benchmarks/speed.py [W1 W2 ...] [--dtype float32] [--contestants plain,symgrad,torch,jax]
                                     [--seconds 5] [--json FILE] [--picture FILE]

Each contestant lives in a process of its own, so that no thread pool or BLAS setting disturbs another. First all do
the same five steps on five batches; whose losses or updates disagree with the emitted program's is named and not
timed. Then they take turns, in an order that changes from round to round: a burst of steps for about 20 ms, after
one step that is not timed. Printed for each: minimum and median of the time of a step, the quartiles, and minimum
and median relative to `plain`. On Linux a burst counts as disturbed where its threads waited for a core, as they do
when the machine has other work; the median is that of the other bursts if there are enough of them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import show
import workloads
from plain import aligned
from workloads import WORKLOADS, Arrays, Contestant, Workload

from symgrad.tune.child import loaded

STEPS = 5  # compared before anything is timed
# relative: of each loss, and of the norm of each parameter's change over all steps
TOLERANCES = {"float64": (1e-9, 1e-6), "float32": (1e-4, 1e-2)}
BURST = 0.02  # seconds
SETTLE = 0.03  # seconds for the last contestant's threads to fall asleep; OpenBLAS's wait for up to 26 ms
DISTURBED = 0.03  # part of a burst spent waiting for a core
ENOUGH = 5  # undisturbed bursts for a median of them alone
PROGRAM = "program "  # and the path of an emitted file
MINE = ("plain", "best", "symgrad", "processes", "readable")


# ---- Contestants, each in its own process --------------------------------------------------------------------


class Symgrad:
    """The emitted program, as it is, with helper processes, in the other style, or from a file."""

    def __init__(
        self,
        workload: Workload,
        params: Arrays,
        dtype: str,
        threads: int,
        workers: str = "thread",
        style: str = "fast",
        file: str = "",
    ) -> None:
        self.module = loaded(file) if file else workloads.emitted(workload.name, dtype, style)
        means = {} if style == "readable" else {"workers": workers}
        self.trainer = self.module.Trainer(params, **means, **workload.hyper)
        self.inputs = [name for name in workload.wrt or () if name not in params]
        self.before: Arrays = {}
        self.batch: Arrays = {}

    def step(self, batch: Arrays) -> float:
        if self.inputs:
            self.before = {name: value.copy() for name, value in self.trainer.params.items()}
            self.batch = batch
        return self.trainer.step(**batch)

    def parameters(self) -> Arrays:
        made = {name: value.copy() for name, value in self.trainer.params.items()}
        if self.inputs and self.before:
            grads = self.module.loss_and_grads(self.before, **self.batch)[1]
            made |= {name: grads[name] for name in self.inputs}
        return made


def maker(name: str) -> Callable[..., Any]:
    """The function that makes a contestant. Raises ImportError or KeyError where there is none."""
    if name == "symgrad":
        return Symgrad
    if name == "processes":
        return partial(Symgrad, workers="process")
    if name == "readable":
        return partial(Symgrad, style="readable")
    if name.startswith(PROGRAM):
        return partial(Symgrad, file=name.removeprefix(PROGRAM))
    return import_module(name).make if name in MINE else import_module("peers").PEERS[name]


def waited() -> float:
    """Seconds that the threads of this process have waited for a core; 0 where that is not known."""
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            total += int(Path(f"/proc/self/task/{task}/schedstat").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return total * 1e-9


def serve(name: str, workload: str, dtype: str, threads: int) -> None:
    """Answer (command, argument) pairs from standard input until it ends; prints of others go to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    contestant: Any = None
    batch: Arrays = {}
    while True:
        try:
            command, argument = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any = None
        try:
            if command == "make":
                contestant = maker(name)(WORKLOADS[workload], argument, dtype, threads)
            elif command == "steps":
                answer = [float(contestant.step(b)) for b in argument], contestant.parameters()
            elif command == "batch":
                batch = {name: lined_up(value) for name, value in argument.items()}
                contestant.step(batch)
            else:
                answer = burst(contestant, batch, argument)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        pickle.dump(answer, answers)
        answers.flush()


def lined_up(array: np.ndarray) -> np.ndarray:
    """A copy that starts on a cache line: some libraries read such arrays without copying them."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def burst(contestant: Contestant, batch: Arrays, count: int) -> tuple[float, bool]:
    """Seconds for a step, and whether the burst was disturbed."""
    step = contestant.step
    step(batch)
    before, start = waited(), time.perf_counter()
    for _ in range(count):
        step(batch)
    took = time.perf_counter() - start
    return took / count, waited() - before > DISTURBED * took


class Worker:
    """A contestant in its process."""

    def __init__(self, name: str, workload: Workload, dtype: str, threads: int) -> None:
        self.name = name
        self.times: list[tuple[float, bool]] = []
        command = [sys.executable, __file__, "--serve", name, workload.name, dtype, str(threads)]
        environment = os.environ | settings(name, workload.name)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def ask(self, command: str, argument: Any) -> Any:
        """The answer; a text if it failed."""
        try:
            pickle.dump((command, argument), self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, OSError):
            return f"its process ended with status {self._process.wait()}"

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


def settings(name: str, workload: str) -> dict[str, str]:
    """What a contestant wants in its environment before NumPy is imported."""
    if name != "best":
        return {}
    found: dict[str, str] = {}
    for module in ("best", "best_blocks"):
        try:
            found |= getattr(import_module(module), "ENVIRONMENT", {}).get(workload, {})
        except ImportError:
            continue
    return found


# ---- Comparing and timing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """A contestant's times for a step, in milliseconds."""

    workload: str
    contestant: str
    dtype: str
    least: float
    median: float
    quartiles: tuple[float, float]
    bursts: int
    undisturbed: int


def disagreement(start: Arrays, found: Any, expected: Any, dtype: str) -> str | None:
    """Why a contestant's losses and parameters are not the expected ones, or None."""
    if isinstance(found, str):
        return found
    of_loss, of_change = TOLERANCES[dtype]
    for k, (a, b) in enumerate(zip(found[0], expected[0], strict=True), 1):
        if not abs(a - b) <= of_loss * abs(b):
            return f"the loss of step {k} is {a!r}, not {b!r}"
    for name, value in expected[1].items():
        if name not in found[1]:
            return f"it has no {name}"
        origin = start.get(name, 0)
        scale = float(np.linalg.norm(np.asarray(value - origin, np.float64)))
        error = float(np.linalg.norm(np.asarray(found[1][name], np.float64) - value))
        if not error <= of_change * scale:
            return f"{name} changed by another amount: relative difference {error / scale:.1e}"
    return None


def race(workers: Sequence[Worker], seconds: float) -> None:
    """Bursts in turn until each has had `seconds`. Raises RuntimeError if a contestant fails."""
    counts = {worker: max(1, round(BURST / timed(worker, 1)[0])) for worker in workers}
    turn, end = 0, time.perf_counter() + (seconds + seconds / BURST * SETTLE) * len(workers)
    while time.perf_counter() < end:
        turn += 1
        for k in range(len(workers)):
            worker = workers[(turn + k) % len(workers)]
            worker.times.append(timed(worker, counts[worker]))


def timed(worker: Worker, count: int) -> tuple[float, bool]:
    found = worker.ask("burst", count)
    if isinstance(found, str):
        raise RuntimeError(f"{worker.name}: {found}")
    time.sleep(SETTLE)
    return found


def summary(worker: Worker, workload: str, dtype: str) -> Result:
    quiet = [t for t, disturbed in worker.times if not disturbed]
    everything = [t for t, _ in worker.times]
    used = quiet if len(quiet) >= ENOUGH else everything
    first, _, third = statistics.quantiles(used, n=4) if len(used) > 1 else (used[0],) * 3
    times = (1e3 * t for t in (min(everything), statistics.median(used), first, third))
    least, median, first, third = times
    return Result(workload, worker.name, dtype, least, median, (first, third), len(everything), len(quiet))


def compete(workload: Workload, names: Iterable[str], dtype: str, threads: int, seconds: float) -> list[Result]:
    """Make, compare and time the contestants of one workload; print what is left out."""
    start = {name: value.copy() for name, value in workloads.parameters(workload, dtype).items()}
    batches = [workloads.batch(workload, dtype, seed) for seed in range(STEPS)]
    reference = Symgrad(workload, start, dtype, threads)
    expected = [reference.step(b) for b in batches], reference.parameters()
    made: list[Worker] = []
    try:
        for name in names:
            worker = Worker(name, workload, dtype, threads)
            made.append(worker)
            fault = worker.ask("make", start)
            fault = fault or disagreement(start, worker.ask("steps", batches), expected, dtype)
            fault = fault or worker.ask("batch", batches[0])
            if fault:
                print(f"  {name}: not timed: {fault}", flush=True)
                made.pop().close()
        if made:
            race(made, seconds)
        return [summary(worker, workload.name, dtype) for worker in made]
    finally:
        for worker in made:
            worker.close()


# ---- Showing -------------------------------------------------------------------------------------------------


def table(results: Sequence[Result]) -> str:
    base = next((r for r in results if r.contestant == "plain"), None)
    lines = [f"  {'ms':16}{'min':>10}{'median':>10}{'quartiles':>20}{'min':>8}{'median':>8}  undisturbed"]
    for r in results:
        ratios = f"{r.least / base.least:8.2f}{r.median / base.median:8.2f}" if base else " " * 16
        middle = f"{r.quartiles[0]:.4g} to {r.quartiles[1]:.4g}"
        counts = f"{r.undisturbed}/{r.bursts}"
        lines.append(f"  {r.contestant:16}{r.least:10.4g}{r.median:10.4g}{middle:>20}{ratios}  {counts}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--contestants", metavar="NAMES", help="with commas between them (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5, help="for each contestant of each workload (default 5)")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--picture", metavar="FILE")
    options = parser.parse_args()
    if unknown := [name for name in options.workloads if name not in WORKLOADS]:
        parser.error(f"no workload {', '.join(unknown)}")
    return options


def main() -> None:
    options = arguments()
    names = options.contestants.split(",") if options.contestants else [*MINE, *import_module("peers").PEERS]
    results: list[Result] = []
    for workload in (WORKLOADS[name] for name in options.workloads or WORKLOADS):
        print(f"{workload.name}  {workload.title}; {options.dtype}", flush=True)
        found = compete(workload, names, options.dtype, options.threads, options.seconds)
        print(table(found), flush=True)
        results += found
    rows = [asdict(r) for r in results]
    if options.json:
        show.write(Path(options.json), (json.dumps(rows, indent=1) + "\n").encode())
    if options.picture:
        draw(rows, options.picture)


def draw(rows: Sequence[dict[str, Any]], path: str) -> None:
    found = show.ratios(rows)
    if not found or not found[0].times:
        print(f"{path} is not drawn: it shows times relative to plain, and there are none")
        return
    try:
        show.picture(found[0], path)
    except ImportError:
        print(f"{path} is not drawn: matplotlib is not installed")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5], int(sys.argv[5]))
    else:
        main()
