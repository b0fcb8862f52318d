"""What each pass is worth: the time of a training step without it, relative to that with all of them.

    python tests/benchmarks/ablation.py [W1 W2 ...] [--dtype float32] [--seconds 1] [--passes NAMES]

A pass that does not change a workload's program is not timed there. All programs of one workload take turns, each in a
process of its own, as in speed.py. Prints a table in Markdown: the ratio of the medians; 1.10 says that the step takes
10% longer without the pass.
"""

from __future__ import annotations

import argparse

import speed
from workloads import WORKLOADS, Workload

import symgrad as sg
from symgrad.passes import PASSES


def changing(workload: Workload, dtype: str, passes: list[str]) -> list[str]:
    """The passes without which the program is another one."""
    derivation = sg.derive(workload.graph(), wrt=workload.wrt)

    def source(without: tuple[str, ...]) -> str:
        return sg.emit(derivation, optimizer=workload.optimizer, dtype=dtype, without=without).source

    whole = source(())
    return [name for name in passes if source((name,)) != whole]


def worth(workload: Workload, dtype: str, passes: list[str], seconds: float) -> dict[str, float]:
    """Pass -> median time of the step without it, relative to that with all."""
    names = ["symgrad", *(f"without {name}" for name in changing(workload, dtype, passes))]
    found = {r.contestant: r.median for r in speed.compete(workload, names, dtype, 2, seconds)}
    return {name.removeprefix("without "): time / found["symgrad"] for name, time in found.items() if name != "symgrad"}


def table(rows: dict[str, dict[str, float]], passes: list[str]) -> str:
    lines = ["| without | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name in passes:
        cells = [f"{row[name]:.2f}" if name in row else "" for row in rows.values()]
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="default: W1 to W8")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--seconds", type=float, default=1, help="for each program (default 1)")
    parser.add_argument("--passes", metavar="NAMES", help="with commas between them (default: all)")
    options = parser.parse_args()
    passes = options.passes.split(",") if options.passes else list(PASSES)
    names = options.workloads or [name for name in WORKLOADS if name.startswith("W")]
    print(table({n: worth(WORKLOADS[n], options.dtype, passes, options.seconds) for n in names}, passes))


if __name__ == "__main__":
    main()
