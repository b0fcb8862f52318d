"""What a user meets before the steady state: import, first step, size on disk, memory.

    python tests/benchmarks/cold.py [--runs 3] [--only jax,torch] [--json FILE]

Every figure is from fresh processes, the median of the runs. symgrad is not timed itself: it writes programs of both
styles beforehand, and what is run is such a file alone, with NumPy. The peers are those of peers.py.

- import: of the library and NumPy, or of the emitted file.
- first step: from having the data to the first loss, compilation included; compilers' caches on disk are empty.
  "again" is the same in a later process that finds those caches.
- peak: the largest resident memory of a process that makes ten steps, by getrusage.
- disk: the installed files of the library and of all it requires, beyond NumPy's. A C++ compiler, which torch.compile
  needs, is not counted, nor are the caches.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

# This process stays small, and imports nothing more: a child's peak would begin with its parent's.

HERE = Path(__file__).resolve().parent
NETWORKS = ("W1", "W2", "W3")
FILES = {"symgrad's file": "fast", "readable file": "readable"}  # the row's name -> the style
PACKAGES = {
    **dict.fromkeys(FILES),
    "torch": "torch",
    "torch.compile": "torch",
    "jax": "jax",
    "pytensor": "pytensor",
    "autograd": "autograd",
}
COLUMNS = {
    "import": ("import", "s"),
    "W1 first": ("W1 first step", "s"),
    "W1 again": ("again", "s"),
    "W2 first": ("W2 first step", "s"),
    "W2 again": ("again", "s"),
    "W1 peak": ("W1 peak", "MB"),
    "W2 peak": ("W2 peak", "MB"),
    "W3 peak": ("W3 peak", "MB"),
    "disk": ("disk", "MB"),
}


# ---- In the children ------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Write the emitted files, the data and start values, and what the peers need to know."""
    import numpy as np
    import peers
    import workloads

    import symgrad as sg

    for name in NETWORKS:
        workload = workloads.WORKLOADS[name]
        derivation = sg.derive(workload.graph())
        for style in FILES.values():
            program = sg.emit(derivation, optimizer=workload.optimizer, dtype="float32", style=style)
            program.save(folder / f"{name}_{style}.py")
        np.savez(folder / f"{name}_batch.npz", **workloads.batch(workload, "float32"))
        np.savez(folder / f"{name}_params.npz", **workloads.parameters(workload, "float32"))
        (folder / f"{name}.json").write_text(json.dumps(vars(peers.task_of(workload))))
    (folder / "classes.json").write_text(json.dumps(peers.CLASSES))


def measure(peer: str, name: str, folder: Path) -> dict[str, float]:
    """One fresh process's seconds for import and first step, and its peak in MB after ten steps."""
    sys.path[:0] = [str(HERE), str(folder)]
    file = f"{name}_{FILES.get(peer)}"
    module, made = json.loads((folder / "classes.json").read_text()).get(peer, (file, "Trainer"))
    start = time.perf_counter()
    library = __import__(module)
    imported = time.perf_counter() - start
    import numpy as np

    batch, params = (dict(np.load(folder / f"{name}_{part}.npz")) for part in ("batch", "params"))
    task = json.loads((folder / f"{name}.json").read_text())
    start = time.perf_counter()
    step = _symgrad(library, task, params) if module == file else _peer(getattr(library, made), task, params)
    step(batch)
    first = time.perf_counter() - start
    for _ in range(9):
        step(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 * 1.024
    return {"import": imported, "first": first, "peak": peak}


def _symgrad(module: Any, task: dict[str, Any], params: Any) -> Any:
    trainer = module.Trainer(params, **task["hyper"])
    return lambda batch: trainer.step(**batch)


def _peer(made: Any, task: dict[str, Any], params: Any) -> Any:
    from peer_forwards import Task

    return made(Task(**{**task, "inputs": tuple(task["inputs"])}), params, "float32").step


# ---- In the parent ----------------------------------------------------------------------------------------------


def child(*arguments: str, caches: str | None = None) -> str:
    """The output of this file in a fresh process, the compilers' caches in the folder given."""
    places = (
        {}
        if caches is None
        else {
            "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
            "PYTENSOR_FLAGS": f"base_compiledir={caches}/pytensor",
            "NUMBA_CACHE_DIR": f"{caches}/numba",
        }
    )
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | places)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def figures(peer: str, folder: Path, runs: int) -> dict[str, float]:
    """The medians of one row of the table."""
    seen: dict[str, list[float]] = {}
    for _ in range(runs):
        for name in NETWORKS:
            with tempfile.TemporaryDirectory() as caches:
                _note(seen, name, "first", json.loads(child("--measure", peer, name, str(folder), caches=caches)))
                if name != "W3":
                    _note(seen, name, "again", json.loads(child("--measure", peer, name, str(folder), caches=caches)))
    row = {key: statistics.median(values) for key, values in seen.items()}
    return row | {"disk": disk(PACKAGES[peer])}


def _note(seen: dict[str, list[float]], name: str, which: str, run: dict[str, float]) -> None:
    seen.setdefault("import", []).append(run["import"])
    seen.setdefault(f"{name} {which}", []).append(run["first"])
    seen.setdefault(f"{name} peak", []).append(run["peak"])


def disk(package: str | None) -> float:
    """MB of a package's files and of all that it requires, without NumPy's."""
    names = set(_closure(package)) - {"numpy"} if package else set()
    return sum(_size(name) for name in names) / 1e6


def _closure(package: str) -> Iterator[str]:
    """The names of the installed distributions that a package requires, itself included; extras are left out."""
    seen, waiting = set(), [package]
    while waiting:
        name = re.sub("[-_.]+", "-", waiting.pop()).lower()
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # required on other systems only
        if name not in seen:
            seen.add(name)
            yield name
            waiting += [re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in requires if "extra ==" not in r]


def _size(name: str) -> int:
    paths = {Path(str(file.locate())).resolve() for file in metadata.files(name) or []}
    return sum(path.stat().st_size for path in paths if path.is_file())


def table(rows: dict[str, dict[str, float]]) -> str:
    heads = [f"{head} [{unit}]" for head, unit in COLUMNS.values()]
    lines = [["", *heads]]
    for peer, row in rows.items():
        lines.append([peer, *(_cell(row[key], unit) for key, (_, unit) in COLUMNS.items())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cell(value: float, unit: str) -> str:
    return f"{value:.0f}" if unit == "MB" else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(PACKAGES), help="names of the table's rows, with commas")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        prepare(args.prepare)
    elif args.measure:
        peer, name, folder = args.measure
        print(json.dumps(measure(peer, name, Path(folder))))
    else:
        report(args.only.split(","), args.runs, args.json)


def installed(peer: str) -> bool:
    try:
        return PACKAGES[peer] is None or bool(metadata.version(PACKAGES[peer]))
    except metadata.PackageNotFoundError:
        return False


def report(only: list[str], runs: int, file: Path | None) -> None:
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        child("--prepare", folder)
        for peer in only:
            if not installed(peer):
                print(f"{peer}: not installed")
                continue
            rows[peer] = figures(peer, Path(folder), runs)
    print(table(rows))
    print(f"NumPy itself: {_size('numpy') / 1e6:.0f} MB on disk")
    if file:
        file.write_text(json.dumps({"rows": rows, "numpy disk": _size("numpy") / 1e6}, indent=1) + "\n")


if __name__ == "__main__":
    main()
