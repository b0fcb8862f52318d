"""What a training step allocates once all is set up, and the memory that a whole process needs.

    python tests/benchmarks/allocations.py [W1 W2 ...] [--steps 50] [--lines] [--peers torch,jax|none] [--json FILE]

Of the emitted programs, each in a fresh process with one worker, which has made a few steps before:
- left: the blocks and bytes that are still there after the steps and were not before them, by tracemalloc;
- transient: the most bytes that a step needs beyond what was there before it.
--lines names the lines that need more than 200 bytes meanwhile, apart from those that only call others: NumPy's
buffers for operands that are repeated along an axis or converted, its iterators, and copies of operands.
The peak of the resident memory after ten steps, as cold.py has it, stands beside that of other libraries.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import cold

# This process stays small, and imports nothing more: a child's peak would begin with its parent's.

HERE = Path(__file__).resolve().parent
WARM = 5  # steps
WORTH_NAMING = 200  # bytes; the Python objects of a step need less


# ---- In the children -------------------------------------------------------------------------------------------


def emit(name: str, file: Path) -> tuple[Any, Any]:
    """The trainer of a workload's emitted program, which is written to the file, and a batch."""
    import workloads

    import symgrad as sg
    from symgrad.tune.child import loaded

    workload = workloads.WORKLOADS[name]
    program = sg.emit(sg.derive(workload.graph(), wrt=workload.wrt), workload.optimizer, "float32")
    program.save(file)
    module = loaded(str(file))
    trainer = module.Trainer(module.init_params(0), threads=1, **workload.hyper)
    batch = {n: _aligned(module, a) for n, a in workloads.batch(workload, "float32").items()}
    for _ in range(WARM):
        trainer.step(**batch)
    return trainer, batch


def _aligned(module: Any, array: Any) -> Any:
    copy = module._aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def trace(name: str, steps: int, lines: bool) -> dict[str, Any]:
    """The figures of one workload."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program.py")
        trainer, batch = emit(name, file)
        figures: dict[str, Any] = _left(trainer, batch, steps)
        if lines:
            figures["lines"] = _lines(trainer, batch, str(file))
    return figures


def _left(trainer: Any, batch: Any, steps: int) -> dict[str, Any]:
    tracemalloc.start()
    trainer.step(**batch)
    before = tracemalloc.take_snapshot()
    transient = 0
    for _ in range(steps):
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        trainer.step(**batch)
        transient = max(transient, tracemalloc.get_traced_memory()[1] - start)
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    # NumPy's arrays live in a domain of their own, which is counted; tracemalloc itself is not.
    rows = [row for row in after.compare_to(before, "filename") if _counts(row.traceback[0].filename)]
    left = {"blocks": sum(row.count_diff for row in rows), "bytes": sum(row.size_diff for row in rows)}
    return {**left, "transient": transient}


def _counts(filename: str) -> bool:
    return filename not in (tracemalloc.__file__, __file__)


def _lines(trainer: Any, batch: Any, file: str) -> list[tuple[int, str]]:
    """(bytes, line) of the emitted file's lines that need most, the most first."""
    found: dict[int, int] = {}
    running: list[tuple[int, int]] = []  # of each frame, the line that it has begun and the memory then

    def tracer(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != file:
            return None
        now, peak = tracemalloc.get_traced_memory()
        if event == "call":
            running.append((0, now))
        else:
            line, before = running[-1]
            found[line] = max(found.get(line, 0), peak - before)
            running[-1] = frame.f_lineno, now
            if event == "return":
                running.pop()
        tracemalloc.reset_peak()
        return tracer

    tracemalloc.start()
    for _ in range(3):
        found.clear()
        sys.settrace(tracer)
        trainer.step(**batch)
        sys.settrace(None)
    tracemalloc.stop()
    text = Path(file).read_text(encoding="utf-8").splitlines()
    rows = [(size, f"{line}: {text[line - 1].strip()}") for line, size in found.items() if line and size > WORTH_NAMING]
    return sorted((row for row in rows if not _waits(row[1])), reverse=True)


def _waits(text: str) -> bool:
    """Whether a line only calls others of the file, whose need is known by their own lines."""
    return any(word in text for word in ("job(inputs)", "stage(inputs)", "block()", "run(inputs)", "whole({"))


# ---- In the parent -----------------------------------------------------------------------------------------------


def child(*arguments: str) -> str:
    """The last line that this file prints in a fresh process."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def peaks(peers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Peer -> network -> MB of resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        cold.child("--prepare", folder)
        found: dict[str, dict[str, float]] = {}
        for peer in [*cold.FILES, *peers]:
            if not cold.installed(peer):
                print(f"{peer}: not installed")
                continue
            runs = {name: json.loads(cold.child("--measure", peer, name, folder)) for name in cold.NETWORKS}
            found[peer] = {name: run["peak"] for name, run in runs.items()}
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="(default: W1 to W8)")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--lines", action="store_true", help="also name the lines that need memory meanwhile")
    parser.add_argument("--peers", metavar="NAMES", default="torch,jax", help="with commas between them, or 'none'")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    names = options.workloads or [f"W{k}" for k in range(1, 9)]
    if options.trace:
        print(json.dumps(trace(names[0], options.steps, options.lines)))
    else:
        report(names, options)


def report(names: Sequence[str], options: argparse.Namespace) -> None:
    found: dict[str, Any] = {}
    print(f"{'':10}{'blocks left':>12}{'bytes left':>12}{'transient bytes':>17}", flush=True)
    for name in names:
        extra = ["--lines"] * options.lines
        found[name] = figures = json.loads(child(name, "--trace", "--steps", str(options.steps), *extra))
        print(f"{name:10}{figures['blocks']:12}{figures['bytes']:12}{figures['transient']:17}", flush=True)
        for size, line in figures.get("lines", ()):
            print(f"  {size:>12}  {line}")
    if options.peers != "none":
        found["peaks"] = peaks(options.peers.split(","))
        print(f"{'peak MB':16}" + "".join(f"{name:>8}" for name in cold.NETWORKS))
        for peer, row in found["peaks"].items():
            print(f"{peer:16}" + "".join(f"{row[name]:8.0f}" for name in cold.NETWORKS))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
