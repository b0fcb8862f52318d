"""Linear regression, y = x w + b with the mean squared error, trained by gradient descent with momentum.

The part between the two markers is one network; everything below it works for any network that defines
the same names. Only NumPy and the standard library are needed.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Path = str | os.PathLike[str]
Data = Mapping[str, Any] | Path

# <network>
DTYPE: type[np.floating[Any]] = np.float32
INPUTS: dict[str, tuple[str, tuple[int | str, ...]]] = {"x": ("float", ("N", 3)), "t": ("float", ("N",))}
FORWARD_INPUTS: tuple[str, ...] = ("x",)
OUTPUTS: tuple[str, ...] = ("y",)
PARAMETERS: dict[str, tuple[int, ...]] = {"w": (3,), "b": ()}
GRADIENTS: dict[str, tuple[int | str, ...]] = {"w": (3,), "b": ()}
INITIALISERS: dict[str, tuple[Any, ...]] = {"w": ("normal", 0.1), "b": ("zeros",)}
RANGES: dict[str, tuple[int, int]] = {}
BATCH: str | None = "N"
HYPERPARAMETERS: dict[str, float] = {"lr": 0.05, "momentum": 0.9}
STATE: tuple[str, ...] = ("velocity",)
OPTIMIZER = "momentum"
NETWORK = "linear regression"
DIM_EXPRESSIONS: dict[str, Callable[[dict[str, int]], int]] = {}


def _bind(
    params: Arrays, grads: Arrays, dims: dict[str, int]
) -> tuple[Callable[[Arrays], tuple[Array, ...]], Callable[[Arrays], float], Callable[[Arrays], None]]:
    """Plan buffers for one batch size; return forward, loss and backward, which share them."""
    w, b = params["w"], params["b"]
    y, r = np.empty(dims["N"], DTYPE), np.empty(dims["N"], DTYPE)

    def forward(inputs: Arrays) -> tuple[Array, ...]:
        np.matmul(inputs["x"], w, out=y)
        np.add(y, b, out=y)
        return (y,)

    def loss(inputs: Arrays) -> float:
        np.subtract(y, inputs["t"], out=r)
        return float(np.dot(r, r)) / dims["N"]

    def backward(inputs: Arrays) -> None:
        np.multiply(r, 2 / dims["N"], out=r)  # dL/dy = 2 (y - t) / N
        np.matmul(r, inputs["x"], out=grads["w"])  # dL/dw = dL/dy x
        np.sum(r, out=grads["b"])  # dL/db = sum of dL/dy

    return forward, loss, backward


def _bind_update(theta: Array, grad: Array, state: Arrays) -> Callable[[int, dict[str, float]], None]:
    """Gradient descent with momentum on these vectors."""
    velocity = state["velocity"]

    def update(k: int, hyper: dict[str, float]) -> None:
        """Step number k, in place."""
        np.multiply(velocity, hyper["momentum"], out=velocity)
        np.add(velocity, grad, out=velocity)
        np.subtract(theta, hyper["lr"] * velocity, out=theta)

    return update


# </network>


class DataError(ValueError):
    """An input, parameter, setting or file that does not fit this network."""


class TrainingError(FloatingPointError):
    """The loss is no longer a finite number."""


# ---- Inputs --------------------------------------------------------------------------------------------

_KINDS = {  # the dtype of an input, and the kinds of dtype that are converted to it
    "float": (np.dtype(DTYPE), "biuf"),
    "int64": (np.dtype(np.int64), "biu"),
    "bool": (np.dtype(np.bool_), "b"),
}
_AXES = {axis for _, shape in INPUTS.values() for axis in shape}
_SYMBOLS = sorted(axis for axis in _AXES if isinstance(axis, str) and axis not in DIM_EXPRESSIONS)


def _check_names(what: str, given: Iterable[str], known: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse names that are not `known`, and the absence of any that is `needed`."""
    given, known = list(given), list(known)
    listing = f"{what}s: {', '.join(known) or 'none'}"
    if unknown := [name for name in given if name not in known]:
        from difflib import get_close_matches

        lower = {name.lower(): name for name in known}
        near = get_close_matches(str(unknown[0]).lower(), lower, 1, 0.4)
        hint = f"did you mean {lower[near[0]]!r}? {listing}" if near else listing
        raise DataError(f"{what} {', '.join(map(repr, unknown))}: unknown\n  hint: {hint}")
    if missing := [name for name in needed if name not in given]:
        raise DataError(f"{what} {', '.join(map(repr, missing))}: missing\n  hint: {listing}")


def _mismatch(what: str, kind: str, shape: tuple[int | str, ...], got: Array, hint: str) -> DataError:
    axes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    expected = f"expected {_KINDS[kind][0]} of shape ({axes})"
    return DataError(f"{what}: {expected}, got {got.dtype} of shape {got.shape}\n  hint: {hint}")


def _array(what: str, value: Any, kind: str, shape: tuple[int | str, ...]) -> Array:
    """`value` as an array that has the rank of `shape` and can be converted to `kind`."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths, for instance
        raise DataError(f"{what}: cannot be made an array: {error}") from None
    dtype, accepted = _KINDS[kind]
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        hint = "drop the last axis, as in a[..., 0]"
    elif array.ndim != len(shape):
        hint = f"the array has {array.ndim} axes where {len(shape)} are needed"
    elif array.dtype.kind not in "biuf":
        hint = "the array must hold real numbers"
    elif array.dtype.kind not in accepted:
        hint = f"if the values allow it, convert the array: a.astype(np.{dtype})"
    elif array.size == 0:
        hint = "the array is empty"
    else:
        return array
    raise _mismatch(what, kind, shape, array, hint)


def _dims(inputs: Arrays) -> dict[str, int]:
    """Solve the symbolic sizes from the shapes of `inputs`, and check every axis against them.

    A symbol that stands in none of `inputs` counts as 1: nothing computed from these inputs depends on it.
    """
    axes = [
        (name, number, axis, size)
        for name, array in inputs.items()
        for number, (axis, size) in enumerate(zip(INPUTS[name][1], array.shape, strict=True))
    ]
    first = {axis: (size, name) for name, _, axis, size in reversed(axes) if axis in _SYMBOLS}
    dims = {symbol: first.get(symbol, (1, ""))[0] for symbol in _SYMBOLS}
    for name, number, axis, size in axes:
        expected = _size(axis, dims)
        if size != expected:
            hint = f"axis {number} has {size} entries, expected {expected}"
            hint += f" = {axis}" * isinstance(axis, str)
            hint += f", as in input {first[axis][1]!r}" if axis in first else ""
            raise _mismatch(f"input {name!r}", *INPUTS[name], inputs[name], hint)
    return dims


def _check_inputs(given: Mapping[str, Any], needed: Collection[str]) -> tuple[Arrays, dict[str, int]]:
    """The needed inputs as C-contiguous arrays of the network's dtypes, and the sizes they imply."""
    _check_names("input", given, INPUTS, needed)
    raw = {name: _array(f"input {name!r}", given[name], *INPUTS[name]) for name in needed}
    dims = _dims(raw)
    if error := _out_of_range(raw, needed):
        raise error
    with np.errstate(over="ignore"):  # a number beyond the range of DTYPE becomes inf
        return {n: np.asarray(a, _KINDS[INPUTS[n][0]][0], order="C") for n, a in raw.items()}, dims


def _not_finite(arrays: Arrays) -> DataError | None:
    """What to say about the first NaN or infinity among the inputs; None if there is none."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            index = tuple(map(int, np.unravel_index(int(finite.argmin()), array.shape)))
            fault = f"{array[index]} at index {index} is not a finite {array.dtype}"
            return DataError(f"input {name!r}: {fault}\n  hint: np.argwhere(~np.isfinite(a)) finds them all")
    return None


def _check_data(data: Data) -> Arrays:
    """A data set, or the path of an .npz file of one, checked to the last value."""
    if isinstance(data, str | os.PathLike):
        data = _read_npz(data)
    if not isinstance(data, Mapping):
        raise DataError(f"data: expected a dict of arrays or the path of one, got {type(data).__name__}")
    arrays, _ = _check_inputs(data, INPUTS)
    if error := _not_finite(arrays):
        raise error
    return arrays


def _out_of_range(arrays: Arrays, needed: Collection[str]) -> DataError | None:
    """What to say about a label or index that does not exist: NumPy would take -1 for the last one."""
    for name, (low, high) in RANGES.items():
        if name in needed:
            least, most = int(arrays[name].min()), int(arrays[name].max())
            if least < low or most >= high:
                expected = f"expected whole numbers from {low} to {high - 1}, got values {least} to {most}"
                return DataError(f"input {name!r}: {expected}\n  hint: classes and indices count from 0")
    return None


def _check_count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DataError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


# ---- Parameters ----------------------------------------------------------------------------------------


def _aligned(shape: tuple[int, ...], dtype: Any = DTYPE) -> Array:
    """Zeros that start on a 64-byte boundary, the width of a cache line and of the widest vector load."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 63, np.uint8)
    start = -raw.ctypes.data % 64
    aligned: Array = raw[start : start + size].view(dtype)
    return aligned.reshape(shape)


def _flat(make: Allocate = _aligned) -> Array:
    return make((sum(map(math.prod, PARAMETERS.values())),), DTYPE)


def _views(flat: Array) -> Arrays:
    """One view per parameter into a vector that holds them all, in the order of PARAMETERS."""
    views, start = {}, 0
    for name, shape in PARAMETERS.items():
        stop = start + math.prod(shape)
        views[name] = flat[start:stop].reshape(shape)
        start = stop
    return views


def _gradients(flat: Array, dims: dict[str, int], make: Allocate) -> Arrays:
    """Where each gradient goes: a parameter's into `flat`, any other tensor's into an array of its own."""
    views = _views(flat)
    return {
        name: views[name] if name in views else make(tuple(_size(n, dims) for n in shape), DTYPE)
        for name, shape in GRADIENTS.items()
    }


def _size(axis: int | str, dims: dict[str, int]) -> int:
    if isinstance(axis, int):
        return axis
    return dims[axis] if axis in dims else DIM_EXPRESSIONS[axis](dims)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], scheme: str, *args: float) -> Any:
    """Initial values: `args` are the value, the standard deviation, the bounds, or (fan_in, fan_out)."""
    if scheme in ("zeros", "ones", "constant"):
        return {"zeros": 0.0, "ones": 1.0}.get(scheme, *args)
    if scheme == "normal":
        return rng.normal(0.0, args[0], shape)
    if scheme == "uniform":
        return rng.uniform(args[0], args[1], shape)
    family, law = scheme.split("_")
    fan_in, fan_out = args
    deviation = math.sqrt({"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}[family])
    if law == "normal":
        return rng.normal(0.0, deviation, shape)
    limit = math.sqrt(3) * deviation  # the uniform law of the same variance
    return rng.uniform(-limit, limit, shape)


def init_params(seed: int = 0) -> Arrays:
    """Fresh parameters by name, each a view into one flat vector; the same seed gives the same values."""
    params = _views(_flat())
    # A stream of its own for each parameter: changing one initialiser leaves the other values as they are.
    streams = np.random.default_rng(seed).spawn(len(params))
    for (name, view), rng in zip(params.items(), streams, strict=True):
        view[...] = _draw(rng, view.shape, *INITIALISERS[name])
    return params


def _check_params(params: Mapping[str, Any]) -> Arrays:
    """The parameters as C-contiguous arrays of DTYPE; those that are already are not copied."""
    _check_names("parameter", params, PARAMETERS, PARAMETERS)
    arrays = {}
    for name, shape in PARAMETERS.items():
        what = f"parameter {name!r}"
        array = _array(what, params[name], "float", shape)
        if array.shape != shape:
            raise _mismatch(what, "float", shape, array, "the parameters may be those of another network")
        arrays[name] = np.asarray(array, DTYPE, order="C")
    return arrays


def _check_hyper(given: Mapping[str, Any]) -> dict[str, float]:
    """The given hyperparameters as floats."""
    _check_names("hyperparameter", given, HYPERPARAMETERS, ())
    for name, value in given.items():
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise DataError(f"hyperparameter {name!r}: expected a finite number, got {value!r}")
    return {name: float(value) for name, value in given.items()}


# Overflow and underflow are harmless in the work; other floating-point errors are left to the caller's np.errstate.
_quiet = np.errstate(over="ignore", under="ignore")


# <execution>
# ---- The order of the work -------------------------------------------------------------------------------

Job = Callable[[Arrays], None]  # a part of the work on one batch, whose inputs it takes by name
Allocate = Callable[[tuple[int, ...], Any], Array]  # zeros of a shape and dtype
Update = Callable[[int, dict[str, float]], None]  # step number and hyperparameters


class _Crew:
    """Who does the work: the calling thread, one thing after the other."""

    def __init__(self, threads: int | None, workers: str | None) -> None:
        if threads not in (None, 1) or workers not in (None, "thread"):
            raise DataError("threads, workers: this program works on one thread\n  hint: emit it in the fast style")
        self.threads, self.workers, self.make = threads, workers, _aligned
        self.kept = 4

    def optimizer(self, theta: Array, grad: Array, state: Arrays, scale: list[float]) -> Update:
        return _bind_update(theta, grad, state)

    def bound(
        self, params: Arrays, grads: Arrays, dims: dict[str, int], inputs: Arrays, update: Update | None = None
    ) -> _Bound:
        return _Bound(*_bind(params, grads, dims))


class _Bound:
    """The network with buffers for one set of input shapes. The parts of the work follow one another."""

    def __init__(
        self, forward: Callable[[Arrays], tuple[Array, ...]], loss: Callable[[Arrays], float], backward: Job
    ) -> None:
        self._forward, self._loss, self.tasks = forward, loss, backward
        self.outputs: tuple[Array, ...] = ()
        self.loss = math.nan

    def forward(self, inputs: Arrays) -> None:
        self.outputs = self._forward(inputs)

    def whole(self, inputs: Arrays) -> None:
        """All that comes before the tasks, which complete the gradients."""
        self.forward(inputs)
        self.loss = self._loss(inputs)

    until_loss = whole

    def descend(self, inputs: Arrays, update: Update, step: int, hyper: dict[str, float]) -> None:
        """The tasks and the optimizer's update."""
        self.tasks(inputs)
        update(step, hyper)


def _state_scale(hyper: dict[str, float]) -> list[float]:
    """What each part of the state, as it is kept, has to be multiplied by."""
    return [1.0] * len(STATE)


# </execution>
# ---- Pure functions ------------------------------------------------------------------------------------


def _explain(error: Exception, inputs: Arrays) -> None:
    """Raise what says more than an error in the middle of the numbers does, if there is more to say."""
    if isinstance(error, ZeroDivisionError):
        raise TrainingError("the update divides by zero\n  hint: check the hyperparameters") from error
    whole = {name: array for name, array in inputs.items() if array.dtype.kind == "i"}
    if isinstance(error, IndexError) and whole:
        ranges = "; ".join(f"input {name!r}: values {a.min()} to {a.max()}" for name, a in whole.items())
        raise DataError(f"{ranges}: {error}\n  hint: classes and indices count from 0") from error


@_quiet
def _run(run: Job, inputs: Arrays) -> None:
    """Run a part of the work on these inputs."""
    try:
        run(inputs)
    except IndexError as error:
        _explain(error, inputs)
        raise


def _copied(outputs: Sequence[Array]) -> Any:
    copies = tuple(np.array(output) for output in outputs)
    return copies[0] if len(copies) == 1 else copies


def _bound(params: Mapping[str, Any], inputs: Arrays, dims: dict[str, int]) -> tuple[_Bound, Arrays]:
    """The network bound to these parameters, and where its gradients go."""
    grads = _gradients(_flat(), dims, _aligned)
    return _Crew(1, "thread").bound(_check_params(params), grads, dims, inputs), grads


def forward(params: Mapping[str, Any], /, **inputs: Any) -> Any:
    """The network's output, or the tuple of its outputs, as fresh arrays."""
    arrays, dims = _check_inputs(inputs, FORWARD_INPUTS)
    network, _ = _bound(params, arrays, dims)
    _run(network.forward, arrays)
    return _copied(network.outputs)


def loss_fn(params: Mapping[str, Any], /, **inputs: Any) -> float:
    """The loss of one batch."""
    arrays, dims = _check_inputs(inputs, INPUTS)
    network, _ = _bound(params, arrays, dims)
    _run(network.until_loss, arrays)
    return float(network.loss)


def loss_and_grads(params: Mapping[str, Any], /, **inputs: Any) -> tuple[float, Arrays]:
    """The loss of one batch and its gradients, by name: fresh arrays as GRADIENTS lists them."""
    arrays, dims = _check_inputs(inputs, INPUTS)
    network, grads = _bound(params, arrays, dims)
    _run(network.whole, arrays)
    loss = float(network.loss)
    _run(network.tasks, arrays)
    return loss, grads


# ---- Batches and progress --------------------------------------------------------------------------------


def _by_sample(name: str) -> bool:
    """Whether the leading axis of an input counts samples."""
    return INPUTS[name][1][:1] == (BATCH,)


def _samples(data: Arrays) -> int:
    """The number of samples; 1 for a network without a sample axis, whose data are one whole."""
    return next((len(array) for name, array in data.items() if _by_sample(name)), 1)


def _batches(data: Arrays, size: int | None, rng: np.random.Generator | None) -> Iterator[tuple[int, Arrays]]:
    """Yield (samples, batch) until every sample was used once, in random order if there is an `rng`.

    The last batch may be smaller. A batch lives until the next is asked for, which overwrites it.
    """
    total = _samples(data)
    if size is None or size >= total:  # order does not matter within a batch
        yield total, data
        return
    split = {name: array for name, array in data.items() if _by_sample(name)}
    whole = {name: array for name, array in data.items() if name not in split}
    if rng is None:
        for start in range(0, total, size):
            yield min(size, total - start), whole | {n: a[start : start + size] for n, a in split.items()}
        return
    buffers = {name: _aligned((size, *array.shape[1:]), array.dtype) for name, array in split.items()}
    order = rng.permutation(total)
    for start in range(0, total, size):
        rows = order[start : start + size]
        batch = {name: buffer[: len(rows)] for name, buffer in buffers.items()}
        for name, out in batch.items():
            np.take(split[name], rows, axis=0, out=out, mode="clip")  # any other mode would copy twice
        yield len(rows), whole | batch


def _hold_out(data: Arrays, fraction: float, seed: int) -> tuple[Arrays, Arrays | None]:
    """Split off a random fraction of the samples, at least one; the same seed gives the same split."""
    if fraction == 0:
        return data, None
    total = _samples(data)
    if not 0 < fraction < 1 or total < 2:
        raise DataError(f"holdout: cannot hold out {fraction} of {total} samples\n  hint: try 0.2")
    count = min(max(round(fraction * total), 1), total - 1)
    order = np.random.default_rng(seed).permutation(total)
    held, kept = order[:count], np.sort(order[count:])
    parts = [{n: a[rows] if _by_sample(n) else a for n, a in data.items()} for rows in (kept, held)]
    return parts[0], parts[1]


class _Progress:
    """A bar on stderr, one line per epoch, redrawn at most ten times a second."""

    def __init__(self, shown: bool | None, samples: int, last_epoch: int) -> None:
        self.shown = bool(sys.stderr and sys.stderr.isatty()) if shown is None else shown
        self.samples, self.last_epoch = samples, last_epoch
        self.due = 0.0

    def draw(self, epoch: int, seen: int, loss: float, note: str = "") -> None:
        """Redraw the line of `epoch`; a note closes it."""
        if not self.shown or (time.perf_counter() < self.due and not note):
            return
        bar = "#" * (30 * seen // self.samples)
        text = f"epoch {epoch}/{self.last_epoch} [{bar:<30}] loss {loss:.6g}{note}"
        print(f"\r{text:<78}", end="\n" if note else "", file=sys.stderr, flush=True)
        self.due = 0.0 if note else time.perf_counter() + 0.1

    def close(self) -> None:
        """Leave an unfinished line, so that a message can follow."""
        if self.due:
            print(file=sys.stderr, flush=True)


# ---- Files -----------------------------------------------------------------------------------------------

_FORMAT = 1


def _signature() -> list[str]:
    """What a saved file must have in common with this network."""
    parameters = [f"parameter {name} {shape}" for name, shape in PARAMETERS.items()]
    state = [f"optimizer {OPTIMIZER}", *(f"optimizer state {name}" for name in STATE)]
    return [f"type {np.dtype(DTYPE)}", *parameters, *state, f"network {NETWORK}"]


def _state_keys(scale: list[float]) -> list[str]:
    """The names in a file of the parts of the state, which tell whether they are to be multiplied by `scale`."""
    return [f"state/{name}" if c == 1 else f"scaled state/{name}" for name, c in zip(STATE, scale, strict=True)]


def _check_signature(path: Path, found: list[str]) -> None:
    for theirs, ours in zip([*found, "nothing more"], [*_signature(), "nothing more"], strict=False):
        if theirs != ours:
            hint = f"it has {theirs!r} where this program has {ours!r}"
            raise DataError(f"{os.fspath(path)}: saved by another network or optimizer\n  hint: {hint}")


def _read_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except OSError:
        raise
    except Exception as error:  # a damaged file makes NumPy raise any of half a dozen types
        raise DataError(f"{os.fspath(path)}: not a readable .npz file of plain arrays ({error})") from None


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write beside `path`, then rename: whatever happens, the old file or the whole new one stands there."""
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(f"{target}: not a regular file, so it cannot be replaced")
    temporary = f"{target}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


# ---- Training --------------------------------------------------------------------------------------------


_ndarray, _at_least, _UNSIGNED = np.ndarray, np.greater_equal, np.dtype(np.uint64)  # looked up in every step


class _Workspace:
    """The network bound to a trainer's vectors for one set of input shapes, and how to tell what fits it."""

    def __init__(self, network: _Bound, inputs: Arrays) -> None:
        self.network = network
        self.signature = [
            (name, a.dtype, a.shape, self._limit(name, a.shape) if name in RANGES else None)
            for name, a in inputs.items()
        ]

    @staticmethod
    def _limit(name: str, shape: tuple[int, ...]) -> tuple[Array, Array, bytearray]:
        """What the input's values must be less than, and where to note which are not: an array, and its bytes."""
        marks = bytearray(math.prod(shape))
        return np.array(RANGES[name][1], _UNSIGNED), np.frombuffer(marks, np.bool_).reshape(shape), marks

    def fits(self, given: Mapping[str, Any], needed: Collection[str], in_range: bool) -> bool:
        """Whether `given` can be used as it is: all checks would pass, and would convert nothing."""
        if not len(needed) <= len(given) == len(self.signature):
            return False
        for name, dtype, shape, limit in self.signature:
            a = given.get(name)
            if type(a) is not _ndarray or a.shape != shape or a.dtype != dtype or not a.flags.c_contiguous:
                return False
            if limit is not None and not in_range:
                high, mask, marks = limit
                _at_least(a.view(_UNSIGNED), high, mask)  # to which -1 is a very large number
                if 1 in marks:
                    return False
        return True


def _rescale(state: Arrays, scale: list[float], wanted: Sequence[float]) -> None:
    """Keep the state as multiples of `wanted`, if they are others than those in `scale`."""
    for name, before, after in zip(state, scale, wanted, strict=True):
        if before != after == 0:
            fault = f"the update divides by zero: optimizer state {name!r} would take nothing from the gradient"
            raise TrainingError(f"{fault}\n  hint: check the hyperparameters; a decay rate must be less than 1")
    for k, vector in enumerate(state.values()):
        if scale[k] != wanted[k]:
            vector *= scale[k] / wanted[k]
            scale[k] = wanted[k]


class Trainer:
    """Trains parameters; they, their gradient and each part of the optimizer's state are flat vectors.

    params: the parameters by name, views to read and to write into.     steps: updates made.
    hyper: the hyperparameters, which may be changed between steps.      epochs: epochs completed.
    threads: how many may work on a step; None means as many as are worth it. The numbers do not depend on it where
    the samples are divided among the workers; where they are not, BLAS has so many threads and its own order of sums.
    workers: "thread", or "process" for helper processes, which take less time to hand work over.
    None for either leaves it to the file's settings, if it has any.

    Buffers for the last four shapes of a batch are kept, as training, its last smaller batch, validation and prediction
    need; for sixteen where helper processes would have to be started anew. Python threads may share a trainer: a step,
    a loss or a prediction waits until one that another thread has begun is done.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        *,
        seed: int = 0,
        threads: int | None = None,
        workers: str | None = None,
        **hyper: float,
    ) -> None:
        from _thread import RLock

        self._lock = RLock()
        self._crew = _Crew(threads, workers)
        make = self._crew.make
        self._theta, self._grad = _flat(make), _flat(make)
        self.params = _views(self._theta)
        for name, value in _check_params(params).items():
            self.params[name][...] = value
        self.hyper = HYPERPARAMETERS | _check_hyper(hyper)
        self._state = {name: _flat(make) for name in STATE}
        self._scale = _state_scale(self.hyper)
        self._update = self._crew.optimizer(self._theta, self._grad, self._state, self._scale)
        self.seed = _check_count("seed", seed, 0)
        self._rng = np.random.default_rng(self.seed)
        self.steps = self.epochs = 0
        self._workspaces: dict[Any, _Workspace] = {}
        self._current: _Workspace | None = None

    def _prepare(
        self, given: dict[str, Any], needed: Collection[str], in_range: bool = False
    ) -> tuple[_Workspace, Arrays]:
        """The workspace for these inputs, and the inputs, checked.

        For equal shapes in a row only RANGES are checked, and not even those if they are known to be kept.
        """
        workspace = self._current
        if workspace is not None and workspace.fits(given, needed, in_range):
            return workspace, given
        inputs, dims = _check_inputs(given, needed)
        key = tuple((name, array.shape) for name, array in inputs.items())
        workspace = self._workspaces.pop(key, None) or self._workspace(inputs, dims)
        self._workspaces[key] = self._current = workspace  # the last one used stands last
        if len(self._workspaces) > self._crew.kept:
            del self._workspaces[next(iter(self._workspaces))]
        return workspace, inputs

    def _workspace(self, inputs: Arrays, dims: dict[str, int]) -> _Workspace:
        grads = _gradients(self._grad, dims, self._crew.make)
        return _Workspace(self._crew.bound(self.params, grads, dims, inputs, self._update), inputs)

    def step(self, /, **batch: Any) -> float:
        """One update from one batch; the loss before it. If that is not finite, nothing is updated."""
        with self._lock:
            return self._step(*self._prepare(batch, INPUTS))

    @_quiet
    def _step(self, workspace: _Workspace, inputs: Arrays) -> float:
        network = workspace.network
        try:
            network.whole(inputs)
            loss = float(network.loss)
            if not math.isfinite(loss):
                self._blame(loss, inputs)
            network.descend(inputs, self._update, self.steps + 1, self.hyper)
        except (ZeroDivisionError, IndexError) as error:
            _explain(error, inputs)
            raise
        self.steps += 1
        return loss

    def loss(self, /, **inputs: Any) -> float:
        """The loss of one batch."""
        with self._lock:
            workspace, arrays = self._prepare(inputs, INPUTS)
            network = workspace.network
            _run(network.until_loss, arrays)
            return float(network.loss)

    def predict(self, /, **inputs: Any) -> Any:
        """The network's output, or the tuple of its outputs, as fresh arrays."""
        with self._lock:
            workspace, arrays = self._prepare(inputs, FORWARD_INPUTS)
            network = workspace.network
            _run(network.forward, arrays)
            return _copied(network.outputs)

    def _blame(self, loss: float, inputs: Arrays) -> None:
        """For a loss that is not finite, blame a bad input, else parameters gone astray, else too long a step."""
        if error := _not_finite(inputs):
            raise error
        self._check_finite()
        raise TrainingError(f"loss became {loss} at step {self.steps + 1}\n  hint: lower the learning rate")

    def _check_finite(self) -> None:
        for name, value in self.params.items():
            if not np.isfinite(value).all():
                fault = f"parameter {name!r} is no longer finite after step {self.steps}"
                raise TrainingError(f"{fault}\n  hint: lower the learning rate")

    def fit(
        self,
        data: Data,
        epochs: int = 10,
        batch_size: int | None = 32,
        validation: Data | None = None,
        progress: bool | None = None,
    ) -> dict[str, list[float]]:
        """Train on every sample once per epoch, in an order shuffled anew each time.

        data, validation: a dict of arrays, or the path of an .npz file. batch_size None: all samples at once.
        progress: a bar on stderr; None shows it on a terminal only.
        Returns lists with one entry per epoch: "loss", "seconds", and "val_loss" if there is validation data.
        A loss is the mean of the batches' losses, weighted by their size. A fit that is interrupted or
        fails leaves the trainer as it was after the last completed epoch.
        """
        epochs = _check_count("epochs", epochs, 0)
        size = None if batch_size is None else _check_count("batch_size", batch_size, 1)
        arrays = _check_data(data)
        held = None if validation is None else _check_data(validation)
        bar = _Progress(progress, _samples(arrays), self.epochs + epochs)
        history: dict[str, list[float]] = {"loss": [], "seconds": []}
        if held:
            history["val_loss"] = []
        for _ in range(epochs):
            before = self.__getstate__()
            start = time.perf_counter()
            try:
                values = {"loss": self._epoch(arrays, size, bar)}
                if held:
                    values["val_loss"] = self._mean_loss(held, size)
            except BaseException:
                bar.close()
                self.__setstate__(before)
                raise
            values["seconds"] = time.perf_counter() - start
            for key, value in values.items():
                history[key].append(value)
            note = f"  held out {values['val_loss']:.6g}" if held else ""
            bar.draw(self.epochs, bar.samples, values["loss"], f"{note}  {values['seconds']:.1f} s")
        return history

    def _epoch(self, data: Arrays, size: int | None, bar: _Progress) -> float:
        total, seen = 0.0, 0
        for count, batch in _batches(data, size, self._rng):
            with self._lock:
                loss = self._step(*self._prepare(batch, INPUTS, in_range=True))  # as fit has checked
            total += count * loss
            seen += count
            bar.draw(self.epochs + 1, seen, loss)
        self._check_finite()  # the last update has no loss after it that would tell
        self.epochs += 1
        return total / seen

    def _mean_loss(self, data: Arrays, size: int | None) -> float:
        total = sum(count * self.loss(**batch) for count, batch in _batches(data, size, None))
        return total / _samples(data)

    def __getstate__(self) -> dict[str, Any]:
        """All that the next step depends on, copied."""
        with self._lock:
            return {
                "theta": self._theta.copy(),
                "state": {name: vector.copy() for name, vector in self._state.items()},
                "scale": list(self._scale),
                "hyper": dict(self.hyper),
                "steps": self.steps,
                "epochs": self.epochs,
                "seed": self.seed,
                "rng": self._rng.bit_generator.state,
            }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        with self._lock:
            self._theta[...] = saved["theta"]
            for name, vector in self._state.items():
                vector[...] = saved["state"][name]
            self._scale[:] = saved["scale"]
            self.hyper, self.steps, self.epochs = dict(saved["hyper"]), saved["steps"], saved["epochs"]
            self.seed = saved["seed"]
            self._rng.bit_generator.state = saved["rng"]
            _rescale(self._state, self._scale, _state_scale(self.hyper))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are built anew, because views and buffers must belong to their own vectors."""
        made = partial(type(self), threads=self._crew.threads, workers=self._crew.workers)
        return made, (self.params,), self.__getstate__()

    def save(self, path: Path) -> None:
        """Write all that `load` needs to go on as if never stopped: an .npz file of plain arrays."""
        import json

        saved = self.__getstate__()
        arrays = {f"parameter/{name}": view for name, view in _views(saved.pop("theta")).items()}
        keys = _state_keys(self._scale)
        arrays |= dict(zip(keys, saved.pop("state").values(), strict=True))
        saved["hyper"] = {name: float(value) for name, value in self.hyper.items()}
        about = json.dumps({"format": _FORMAT, "signature": _signature(), **saved})
        _write_npz(path, {"about": np.array(about), **arrays})

    @classmethod
    def load(cls, path: Path, *, threads: int | None = None, workers: str | None = None) -> Trainer:
        """The trainer that `save` wrote; training goes on bit for bit as it would have."""
        import json

        arrays = _read_npz(path)
        try:
            about = json.loads(str(arrays["about"]))
            if about["format"] != _FORMAT:
                raise DataError(f"{os.fspath(path)}: has format {about['format']}, not {_FORMAT}")
            _check_signature(path, about["signature"])
            given = {name: arrays[f"parameter/{name}"] for name in PARAMETERS}
            trainer = cls(given, threads=threads, workers=workers, **about["hyper"])
            keys = _state_keys(about.setdefault("scale", [1.0] * len(STATE)))
            state = {name: arrays[key] for name, key in zip(STATE, keys, strict=True)}
            trainer.__setstate__({**about, "theta": trainer._theta, "state": state, "hyper": trainer.hyper})
        except DataError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{os.fspath(path)}: not a file that Trainer.save wrote ({error!r})") from None
        return trainer


# ---- Command line ----------------------------------------------------------------------------------------


def _arguments(argv: list[str] | None) -> Any:
    from argparse import ArgumentParser

    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("data", help="an .npz file with the arrays " + ", ".join(INPUTS))
    add("--epochs", type=int, default=10, help="passes over the data (default 10)")
    add("--batch-size", type=int, default=32, help="samples per update (default 32)")
    add("--seed", type=int, help="of all random choices (default 0, or that of the resumed training)")
    add("--holdout", type=float, default=0.0, metavar="FRACTION", help="part of the data kept for validation")
    add("--save", metavar="FILE", help="write the trained parameters and the optimizer's state")
    add("--resume", metavar="FILE", help="go on from a file that --save wrote")
    add("--threads", type=int, metavar="N", help="how many may work on a step (default: as many as are worth it)")
    add("--workers", choices=("thread", "process"), help="what the helpers are (default thread, unless tuned)")
    for name, default in HYPERPARAMETERS.items():
        option = "--" + name.replace("_", "-")
        add(option, dest="hyper." + name, type=float, metavar="NUMBER", help=f"(default {default:g})")
    options = parser.parse_args(argv)
    if options.seed is not None and options.seed < 0:
        parser.error("argument --seed: must not be negative")
    return options


def _check_target(path: str, data: str) -> None:
    """Refuse a file that cannot be written, or that holds the data, before time is spent on training."""
    target = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(target)):
        raise DataError(f"--save {path}: there is no such directory")
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(f"--save {path}: is not a regular file")
    if target == os.path.realpath(data):
        raise DataError(f"--save {path}: is the file with the data\n  hint: choose another name")


def _train(options: Any) -> int:
    """Train as the options say, and print the results."""
    given = {name: getattr(options, "hyper." + name) for name in HYPERPARAMETERS}
    hyper = {name: value for name, value in given.items() if value is not None}
    if options.save:
        _check_target(options.save, options.data)
    whole = _check_data(options.data)
    if options.resume:
        trainer = Trainer.load(options.resume, threads=options.threads, workers=options.workers)
        trainer.hyper |= _check_hyper(hyper)
        if options.seed not in (None, trainer.seed):  # another seed would hold out samples trained on
            raise DataError(f"--seed: the resumed training has seed {trainer.seed}\n  hint: leave --seed out")
    else:
        settings = {"seed": options.seed or 0, "threads": options.threads, "workers": options.workers}
        trainer = Trainer(init_params(options.seed or 0), **settings, **hyper)
    data, held = _hold_out(whole, options.holdout, trainer.seed)
    status = 0
    try:
        trainer.fit(data, options.epochs, options.batch_size, held)
        print(f"loss: {trainer._mean_loss(data, options.batch_size):.6g}")
        if held:
            print(f"held-out loss: {trainer._mean_loss(held, options.batch_size):.6g}")
    except KeyboardInterrupt:
        print(f"interrupted; epochs completed: {trainer.epochs}", file=sys.stderr)
        status = 130
    if options.save:
        trainer.save(options.save)
        print(f"saved: {options.save}")
    return status


def main(argv: list[str] | None = None) -> int:
    """Train from the command line. Returns 0, 1 after an error, 2 for wrong usage, 130 when interrupted."""
    try:
        return _train(_arguments(argv))
    except SystemExit as stop:  # argparse has printed its message
        return int(stop.code or 0)
    except (DataError, TrainingError, OSError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
