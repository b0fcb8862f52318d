"""`verify`: the emitted program's gradients against numeric ones of the reference evaluator.

    network -> emitted program (float64) -> loss_and_grads     the numbers under test
    network -> reference evaluator -> loss                     central differences, complex steps, 50 digits

The two ways meet only in the network's equations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

from symgrad import pipeline
from symgrad.equations import System
from symgrad.errors import VerifyError, nearest
from symgrad.evaluate.draw import draw
from symgrad.evaluate.numbers import Array
from symgrad.evaluate.numeric import (
    analytic,
    central_difference,
    complex_step,
    precise_slope,
    require_scalar,
    unit,
)
from symgrad.evaluate.reference import Evaluation
from symgrad.expand import expand
from symgrad.markup import element, html

Gradients = Callable[[dict[str, Array]], tuple[Any, Mapping[str, Array]]]

CENTRAL, COMPLEX, PRECISE = "central", "complex step", "50 digits"
TOLERANCE = {CENTRAL: 1e-6, COMPLEX: 1e-9, PRECISE: 1e-9}


@dataclass(frozen=True)
class Comparison:
    """One method's verdict on one tensor: how many entries were compared, and the largest errors.

    `relative` is the error over the tensor's largest derivative (or, for a tensor whose derivatives are all
    tiny beside those of the others, a small part of the largest of all).
    """

    entries: int
    absolute: float
    relative: float
    ok: bool


@dataclass(frozen=True)
class Row:
    """One tensor. `kinks` of its sampled entries have no derivative and are compared with nothing.

    `comparisons` has no entry for a method that is not valid here. The row "loss" compares the value itself.
    """

    name: str
    shape: tuple[int, ...]
    entries: int
    kinks: int
    comparisons: Mapping[str, Comparison]

    @property
    def checked(self) -> bool:
        """Whether any entry was compared: a tensor with kinks everywhere proves nothing."""
        return not self.entries or any(c.entries for c in self.comparisons.values())

    @property
    def ok(self) -> bool:
        return self.checked and all(c.ok for c in self.comparisons.values())

    @property
    def error(self) -> float:
        """The relative error against 50 digits."""
        return self.comparisons[PRECISE].relative


@dataclass(frozen=True)
class Report:
    """The evidence, a row for the loss and one for each tensor. `print(report)` shows it as a table."""

    rows: tuple[Row, ...]
    dims: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def max_error(self) -> float:
        """The worst relative error against 50 digits."""
        return float(np.max([row.error for row in self.rows]))

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists, dicts and numbers."""
        return {
            "ok": self.ok,
            "max_error": self.max_error,
            "seed": self.seed,
            "dims": dict(self.dims),
            "rows": [_row_dict(row) for row in self.rows],
        }

    def table(self) -> list[list[str]]:
        """The head and the rows, cell by cell."""
        return [["tensor", "shape", "entries", "kinks", *TOLERANCE, ""], *(_cells(row) for row in self.rows)]

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        table = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
        return "\n".join([*table, "", self._conclusion()])

    __repr__ = __str__

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        head, *rows = ([element("td", {}, cell) for cell in line] for line in self.table())
        lines = [element("tr", {}, *(element("th", {}, cell.text or "") for cell in head))]
        lines += [element("tr", {}, *row) for row in rows]
        shown = element("div", {}, element("table", {}, *lines), element("p", {}, self._conclusion()))
        return {"text/plain": str(self), "text/html": html(shown)}

    def _conclusion(self) -> str:
        wrong = [row.name for row in self.rows if row.checked and not row.ok]
        unchecked = [row.name for row in self.rows if not row.checked]
        count = len(self.rows) - 1
        tensors = f"{count} gradient{'s' * (count != 1)}"
        kinks = sum(row.kinks for row in self.rows)
        skipped = f"; {kinks} entries at kinks skipped" if kinks else ""
        if wrong or unchecked:
            faults = {"WRONG": wrong, "not checked": unchecked}
            said = "; ".join(f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names)
            return f"{said}; worst error {self.max_error:.1e} against {PRECISE}{skipped}"
        return f"ok: {tensors}, worst error {self.max_error:.1e} against {PRECISE}{skipped}"


def _row_dict(row: Row) -> dict[str, Any]:
    methods = {
        method: {"entries": c.entries, "max_abs": c.absolute, "max_rel": c.relative, "ok": c.ok}
        for method, c in row.comparisons.items()
    }
    common = {"name": row.name, "shape": list(row.shape), "entries": row.entries, "kinks": row.kinks}
    return common | {"ok": row.ok, "methods": methods}


def _cells(row: Row) -> list[str]:
    shape = f"({', '.join(map(str, row.shape))}{',' * (len(row.shape) == 1)})"
    found = [row.comparisons.get(method) for method in TOLERANCE]
    errors = ["-" if c is None or not c.entries else f"{c.relative:.1e}" for c in found]
    return [row.name, shape, str(row.entries), str(row.kinks), *errors, _verdict(row)]


def _verdict(row: Row) -> str:
    if not row.checked:
        return "not checked"
    return "ok" if row.ok else "WRONG"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    left = {0, 1, len(cells) - 1}
    return [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]


def verify(
    graph: nx.MultiDiGraph[Any],
    wrt: Sequence[str] | None = None,
    *,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    style: str = "fast",
    entries: int | None = 12,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Report:
    """Emit the network's program in float64, run it on random data, compare its gradients with numeric ones.

    Args:
        graph: a network with a scalar loss.
        wrt: the tensors whose gradients are verified; by default all parameters.
        dims: sizes of named dimensions; the others are small and distinct.
        seed: of the random data and of the choice of entries.
        style: which form of the program is verified.
        entries: how many entries of each tensor are compared; None is all of them.
        inputs, params: data to use in place of random ones.

    Raises:
        VerifyError: there is no loss, a name in `wrt` is unknown, given data does not fit, or the loss is not
            finite at the point.
    """
    system = expand(graph)
    names = _targets(system, wrt)
    values = draw_point(system, dims, seed, {**(inputs or {}), **(params or {})})
    module = pipeline.emit(pipeline.derive(graph, wrt=names), dtype="float64", style=style).load()

    def gradients(point: dict[str, Array]) -> tuple[Any, Mapping[str, Array]]:
        learned = {n: v for n, v in point.items() if system.leaves[n].kind == "parameter"}
        rest = {n: v for n, v in point.items() if n not in learned}
        loss, found = module.loss_and_grads(learned, **rest)
        return loss, found

    return verify_against(system, gradients, names, values, entries=entries, seed=seed)


def _targets(system: System, wrt: Sequence[str] | None) -> list[str]:
    if system.loss is None:
        raise VerifyError("the graph names no loss", hint='set graph.graph["loss"] = "NAME"')
    names = [n for n, leaf in system.leaves.items() if leaf.kind == "parameter"] if wrt is None else list(wrt)
    if not names:
        raise VerifyError("the graph has no parameters", hint='name what to differentiate by: wrt=["x"]')
    for name in names:
        if name not in system:
            hint = nearest(name, [*system.leaves, *system.equations])
            raise VerifyError(f"there is no tensor {name!r}", hint=hint)
    return names


def draw_point(system: System, dims: Mapping[str, int] | None, seed: int, given: Mapping[str, Any]) -> dict[str, Array]:
    """Data at which the loss is finite: normal numbers, or positive ones where those give none.

    Raises VerifyError if the loss is finite at neither, or a given name is no input or parameter.
    """
    assert system.loss is not None
    for name in given:
        if name not in system.leaves:
            hint = nearest(name, system.leaves)
            raise VerifyError(f"a value is given for {name!r}, which is no input", hint=hint)
    needed = set(system.leaves) | system.needed_for([system.loss])
    for positive in (False, True):
        values = draw(system, needed, dims, seed, given, positive)
        at = Evaluation(system, values, system.loss)
        if np.isfinite(at.value).all():
            return values
    require_scalar(at)
    return values


def verify_against(
    system: System,
    gradients: Gradients,
    wrt: Sequence[str],
    values: dict[str, Array],
    *,
    entries: int | None = 12,
    seed: int = 0,
) -> Report:
    """Compare `gradients(values) -> (loss, name -> gradient)` with numeric gradients of the system's loss.

    Raises VerifyError if a gradient is missing or has the wrong shape, or the loss is no finite scalar.
    """
    target = system.loss
    if target is None:
        raise VerifyError("the system has no loss")
    at = {number: Evaluation(system, values, target, number) for number in ("float64", "mp")}
    require_scalar(at["mp"])
    if analytic(system, target, wrt):
        at["complex128"] = Evaluation(system, values, target, "complex128")
    loss, found = gradients(values)
    samples = [_sample(name, at, _gradient(name, found, at["mp"]), entries, seed) for name in wrt]
    largest = max((s.largest for s in samples), default=0.0)
    rows = [_loss_row(float(loss), at["mp"], largest), *(s.row(largest, abs(float(loss))) for s in samples)]
    dims = {str(s): n for s, n in sorted(at["mp"].dims.sizes.items(), key=str)}
    return Report(tuple(rows), dims, seed)


def _gradient(name: str, found: Mapping[str, Array], at: Evaluation) -> Array:
    if name not in found:
        raise VerifyError(f"the program returned no gradient for {name!r}", hint=nearest(name, found))
    gradient = np.asarray(found[name], dtype=float)
    shape = at.values[name].shape if name in at.values else gradient.shape
    if gradient.shape != shape:
        raise VerifyError(f"the gradient of {name!r} has shape {gradient.shape}, the tensor has {shape}")
    return gradient


def _loss_row(loss: float, at: Evaluation, largest: float) -> Row:
    true = float(at.value)
    error = abs(float(at.value - at.numbers.lift(np.asarray(loss))))
    relative = error / max(abs(true), 1e-5 * largest, 1e-300)
    return Row("loss", (), 1, 0, {PRECISE: Comparison(1, error, relative, relative <= TOLERANCE[PRECISE])})


@dataclass
class _Sample:
    """The sampled entries of one tensor: the gradient under test, and what each method says of it."""

    name: str
    gradient: Array
    entries: list[tuple[int, ...]]
    kinks: int = 0
    truths: dict[str, dict[tuple[int, ...], float]] = field(default_factory=dict)
    errors: dict[str, list[float]] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        return max(map(abs, self.truths[PRECISE].values()), default=0.0)

    def compare(self, method: str, entry: tuple[int, ...], truth: float, error: float) -> None:
        self.truths[method][entry] = truth
        self.errors[method].append(error)

    def row(self, largest: float, loss: float) -> Row:
        comparisons = {method: self._comparison(method, largest, loss) for method in self.truths}
        return Row(self.name, self.gradient.shape, len(self.entries), self.kinks, comparisons)

    def _comparison(self, method: str, largest: float, loss: float) -> Comparison:
        errors = self.errors[method]
        worst = max(errors, key=lambda error: error if error == error else np.inf, default=0.0)
        scale = max(self.largest, 1e-5 * largest, 1e-18 * loss)  # where all gradients are 0, slopes are not quite
        if method == CENTRAL:
            scale = max(scale, 1e-3 * largest, 1e-3 * loss)
        relative = worst / scale if scale else worst
        return Comparison(len(errors), worst, relative, bool(relative <= TOLERANCE[method]))


def _sample(name: str, at: Mapping[str, Evaluation], gradient: Array, entries: int | None, seed: int) -> _Sample:
    chosen = _entries(gradient.shape, entries, np.random.default_rng([seed, *name.encode()]))
    sample = _Sample(name, gradient, chosen)
    methods = [CENTRAL, COMPLEX, PRECISE] if "complex128" in at else [CENTRAL, PRECISE]
    sample.truths, sample.errors = {m: {} for m in methods}, {m: [] for m in methods}
    for entry in chosen:
        _compare_entry(sample, at, entry)
    return sample


def _entries(shape: tuple[int, ...], count: int | None, random: np.random.Generator) -> list[tuple[int, ...]]:
    size = int(np.prod(shape))
    every = count is None or size <= count
    places: Iterable[Any] = range(size) if every else random.choice(size, count, replace=False)
    return [tuple(map(int, np.unravel_index(place, shape))) for place in sorted(places)]


def _compare_entry(sample: _Sample, at: Mapping[str, Evaluation], entry: tuple[int, ...]) -> None:
    """Each method's error at one entry; at a kink nothing is compared."""
    name, value = sample.name, sample.gradient[entry]
    precise = at["mp"]
    if name not in precise.values:
        sample.compare(PRECISE, entry, 0.0, abs(float(value)))
        return
    direction = {name: unit(sample.gradient.shape, entry, _length(precise, name, entry))}
    length = direction[name][entry]
    slope = precise_slope(precise, direction)
    if slope.kink:
        sample.kinks += 1
        return
    lift = precise.numbers.lift
    truth = slope.right / lift(np.asarray(length))
    sample.compare(PRECISE, entry, float(truth), abs(float(truth - lift(np.asarray(value)))))
    central = central_difference(at["float64"], direction)
    if central is not None:
        sample.compare(CENTRAL, entry, float(central) / length, abs(float(central) / length - float(value)))
    if "complex128" in at:
        stepped = float(complex_step(at["complex128"], direction)) / length
        sample.compare(COMPLEX, entry, stepped, abs(stepped - float(value)))


def _length(at: Evaluation, name: str, entry: tuple[int, ...]) -> float:
    """Steps are in proportion to the value where that is large."""
    return max(1.0, abs(float(at.values[name][entry])))
