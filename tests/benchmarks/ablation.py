"""What each pass is worth: the time of a training step without it, relative to that with all of them.

    python tests/benchmarks/ablation.py [W1 W2 ...] [--dtype float32] [--seconds 1] [--passes NAMES]
                                        [--json FILE] [--document docs/performance.md]

A pass that does not change a workload's program is not timed there. All programs of one workload take turns, each in a
process of its own, as in speed.py. Prints a table in Markdown, which in a document stands between <!-- ablation --> and
<!-- /ablation -->: the ratio of the least times; 1.10 says that the step takes 10% longer without the pass. On standard
error it says what it is at.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import show
import speed
from workloads import WORKLOADS, Workload

import symgrad as sg
from symgrad.passes import PASSES

WHOLE = "whole"
Row = dict[str, float]  # pass -> time without it, relative to that with all


def programs(workload: Workload, dtype: str, passes: list[str], folder: Path) -> dict[str, Path]:
    """The program with all passes, and those that are another one without a pass, each written to a file."""
    derivation = sg.derive(workload.graph(), wrt=workload.wrt)
    found: dict[str, Path] = {}
    whole = ""
    for name in (WHOLE, *passes):
        without = () if name == WHOLE else (name,)
        program = sg.emit(derivation, optimizer=workload.optimizer, dtype=dtype, without=without)
        if program.source == whole:
            continue
        whole = whole or program.source
        found[name] = folder / f"{workload.name}_{name}.py"
        program.save(found[name])
    return found


def worth(workload: Workload, dtype: str, passes: list[str], seconds: float) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        made = programs(workload, dtype, passes, Path(folder))
        print(f"{workload.name}: {len(made)} programs", file=sys.stderr, flush=True)
        names = {f"{speed.PROGRAM}{path}": name for name, path in made.items()}
        found = {names[r.contestant]: r.least for r in speed.compete(workload, names, dtype, 2, seconds)}
    return {name: least / found[WHOLE] for name, least in found.items() if name != WHOLE}


def table(rows: dict[str, Row], passes: list[str]) -> str:
    lines = ["| without | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name in passes:
        cells = [f"{row[name]:.2f}" if name in row else "" for row in rows.values()]
        if any(cells):
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="default: W1 to W8")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--seconds", type=float, default=1, help="for each program (default 1)")
    parser.add_argument("--passes", metavar="NAMES", help="with commas between them (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--document", type=Path, metavar="FILE", help="Markdown whose table is replaced")
    options = parser.parse_args()
    passes = options.passes.split(",") if options.passes else list(PASSES)
    if unknown := [name for name in passes if name not in PASSES]:
        parser.error(f"no pass {', '.join(unknown)}")
    names = options.workloads or [name for name in WORKLOADS if name.startswith("W")]
    rows = {name: worth(WORKLOADS[name], options.dtype, passes, options.seconds) for name in names}
    print(table(rows, passes))
    if options.document:
        show.replace(options.document, "ablation", table(rows, passes))
    if options.json:
        show.write(options.json, (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
