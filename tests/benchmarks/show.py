"""Results of speed.py as the table (Markdown) and the picture of docs/performance.md.

    python tests/benchmarks/show.py results.json [more.json ...] [--picture FILE] [--document docs/performance.md]

Both show the least time of a step relative to `plain`. Of a workload that is in several files the last one counts.
In a document the tables stand between <!-- float32 --> and <!-- /float32 -->.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LABELS = {"plain": "by hand, ms", "best": "best by hand", "jax": "JAX", "pytensor": "PyTensor"}
COLOURS = {"symgrad": "#1b6e3c", "processes": "#6cc18a", "readable": "#b7dec5", "best": "#222222"}
OTHERS = ("#c6502f", "#e8a13a", "#3b6fb6", "#8a63b3", "#9a9a9a")
BY_HAND = ("plain", "best")
OURS = ("symgrad", "processes", "readable")


@dataclass(frozen=True)
class Ratios:
    """Of one dtype: milliseconds of `plain` for each workload, and each contestant's time relative to them."""

    dtype: str
    plain: dict[str, float]
    times: dict[str, dict[str, float]]  # contestant -> workload -> ratio

    @property
    def workloads(self) -> list[str]:
        return list(self.plain)


def ratios(rows: Iterable[dict[str, object]]) -> list[Ratios]:
    """Of what speed.py writes; without a time of `plain` a workload is left out."""
    least = {(str(r["dtype"]), str(r["workload"]), str(r["contestant"])): float(str(r["least"])) for r in rows}
    found = []
    for dtype in dict.fromkeys(d for d, _, _ in least):
        plain = {w: t for (d, w, c), t in least.items() if d == dtype and c == "plain"}
        names = dict.fromkeys(c for d, _, c in least if d == dtype and c != "plain")
        times = {c: {w: least[dtype, w, c] / t for w, t in plain.items() if (dtype, w, c) in least} for c in names}
        found.append(Ratios(dtype, plain, times))
    return found


def markdown(shown: Ratios) -> str:
    """One row for each workload; the fastest of those that are not written by hand is bold."""
    head = ["plain", *shown.times]
    lines = ["| | " + " | ".join(LABELS.get(name, name) for name in head) + " |", "|---" * (len(head) + 1) + "|"]
    for workload, milliseconds in shown.plain.items():
        made = {name: times.get(workload) for name, times in shown.times.items()}
        best = min((t for name, t in made.items() if t is not None and name not in BY_HAND), default=None)
        cells = [f"{milliseconds:.3g}"]
        for t in made.values():
            text = "–" if t is None else f"{t:.2f}" if t < 10 else f"{t:.0f}"
            cells.append(f"**{text}**" if t is not None and t == best else text)
        lines.append(f"| {workload} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ahead(shown: Ratios) -> str:
    """Who is faster than the emitted program with threads, as a sentence."""
    own = shown.times.get("symgrad", {})
    found: dict[str, list[str]] = {"code by hand": [w for w, t in own.items() if t > 1]}
    for name, times in shown.times.items():
        if name not in (*BY_HAND, *OURS):
            found[LABELS.get(name, name)] = [w for w, t in times.items() if w in own and t < own[w]]
    parts = [f"{name} on {', '.join(where)}" for name, where in found.items() if where]
    return f"Ahead of symgrad with threads: {'; '.join(parts) or 'nobody'}."


def picture(shown: Ratios, path: str) -> None:
    """Bars on a logarithmic axis, from the line of `plain` up or down. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "symgrad", "font.family": "sans-serif"}
    names = list(shown.times)
    spare = iter(OTHERS)
    colours = {name: COLOURS.get(name) or next(spare, "#cccccc") for name in names}
    rows = [part for part in _rows(shown.workloads) if part]
    figure, grid = pyplot.subplots(len(rows), 1, figsize=(10, 2.9 * len(rows)), squeeze=False, layout="constrained")
    for axes, workloads in zip(grid[:, 0], rows, strict=True):
        width = 0.84 / len(names)
        for k, name in enumerate(names):
            bars = [(g, shown.times[name][w]) for g, w in enumerate(workloads) if w in shown.times[name]]
            places = [g + (k - (len(names) - 1) / 2) * width for g, _ in bars]
            axes.bar(places, [t - 1 for _, t in bars], 0.92 * width, bottom=1, label=name, color=colours[name])
        axes.set_yscale("log")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(len(workloads)), workloads)
        axes.set_xlim(-0.6, len(workloads) - 0.4)
        axes.yaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    grid[0, 0].set_title(f"Time of a training step; plain NumPy by hand = 1 ({shown.dtype})", loc="left", fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    labels = [LABELS.get(name, name) for name in labels]
    columns = (len(labels) + 1) // 2 if len(labels) > 5 else len(labels)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    whole = io.BytesIO()
    metadata = {"Date": None} if path.endswith(".svg") else {}
    figure.savefig(whole, format=Path(path).suffix[1:] or "svg", metadata=metadata)
    write(Path(path), whole.getvalue())


def _rows(workloads: Sequence[str]) -> list[list[str]]:
    """The yardstick's workloads, and those that are none of them."""
    return [[w for w in workloads if w.startswith("W")], [w for w in workloads if not w.startswith("W")]]


def write(path: Path, content: bytes) -> None:
    """The whole file or none of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def replace(document: Path, name: str, text: str) -> None:
    """Put the text between <!-- name --> and <!-- /name -->. Raises ValueError where the document has no such place."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        raise ValueError(f"{document} has no place for {name}")
    write(document, f"{before}{begin}{text}\n{end}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="written by speed.py --json")
    parser.add_argument("--picture", metavar="FILE", help="SVG or PNG, of the first dtype")
    parser.add_argument("--document", type=Path, metavar="FILE", help="Markdown whose tables are replaced")
    options = parser.parse_args()
    found = ratios(row for file in options.files for row in json.loads(Path(file).read_text()))
    for shown in found:
        text = f"{markdown(shown)}\n\n{ahead(shown)}"
        print(f"{shown.dtype}\n\n{text}\n")
        if options.document:
            replace(options.document, shown.dtype, text)
    if options.picture and found:
        picture(found[0], options.picture)


if __name__ == "__main__":
    main()
