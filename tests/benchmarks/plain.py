"""The yardstick: training steps for W1 to W4 and W8 as one writes them by hand in plain NumPy, for speed.

One process, no settings in the environment. Everything is allocated beforehand; parameters, gradients and
moments are flat vectors; outputs are positional; numbers are 0-d arrays of the right dtype. W2 to W4 run on two
Python threads with OpenBLAS at one, W8 on OpenBLAS's own two, W1 on one. Each class is made for the sizes in its
batch, and returns parameters in symgrad's shapes.
"""

from __future__ import annotations

import _thread
import ctypes
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Array, Arrays, Contestant, Workload

Action = Callable[[], None]

add, subtract, multiply, divide = np.add, np.subtract, np.multiply, np.divide
sqrt, exp, log, tanh, maximum, absolute, greater = (
    np.sqrt, np.exp, np.log, np.tanh, np.maximum, np.absolute, np.greater,
)  # fmt: skip
dot, matmul, copyto, einsum = np.dot, np.matmul, np.copyto, np.einsum

PAD = 16  # elements


# ---- Memory, BLAS and threads -------------------------------------------------------------------------------


def aligned(shape: tuple[int, ...] | int, dtype: Any) -> Array:
    """Zeros that start on a cache line."""
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def scalar(value: float, dtype: Any) -> Array:
    """A 0-d array: half the price of a Python number as a ufunc's operand."""
    return np.array(value, dtype)


def set_blas_threads(count: int) -> None:
    """Tell the OpenBLAS that NumPy's wheels carry; without it, nothing."""
    for file in Path(np.__file__).parents[1].glob("numpy.libs/*openblas*"):
        ctypes.CDLL(str(file)).scipy_openblas_set_num_threads64_(count)


class Pair:
    """A second thread that waits on a raw lock: handing over costs a quarter of a thread pool's future."""

    def __init__(self) -> None:
        self._start, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._start.acquire()
        self._done.acquire()
        self._task: Action = lambda: None
        _thread.start_new_thread(self._loop, ())

    def _loop(self) -> None:
        while True:
            self._start.acquire()
            try:
                self._task()
            finally:
                self._done.release()

    def run(self, mine: Action, other: Action) -> None:
        """Both at the same time."""
        self._task = other
        self._start.release()
        mine()
        self._done.acquire()


SMALL = 1_000_000  # multiplications: up to here OpenBLAS has kernels that copy nothing
PANEL = 450_000  # bytes: the columns of b that a block reads should stay in the second-level cache


def product(a: Array, b: Array, c: Array) -> Action:
    """c = a b, for a or its transpose in C order. In small blocks, all in one call, it takes 0.8 to 0.9 of the time."""
    (rows, depth), columns = a.shape, b.shape[1]
    width = 64
    most = min(rows, SMALL // (width * depth))
    if columns % width or most < 4 or depth * width * b.itemsize > PANEL:
        return partial(dot, a, b, c)
    height = next((m for m in range(most, most // 2, -1) if rows % m == 0), 1 << most.bit_length() - 1)
    count = rows // height
    whole = count * height
    left = a[:whole].reshape(count, 1, height, depth)
    right = b.reshape(depth, -1, width).swapaxes(0, 1)
    into = c[:whole].reshape(count, height, -1, width).swapaxes(1, 2)
    blocks = partial(matmul, left, right, into)
    if whole == rows:
        return blocks
    rest = partial(dot, a[whole:], b, c[whole:])

    def run() -> None:
        blocks()
        rest()

    return run


@cache
def pair() -> Pair:
    return Pair()


# ---- Adam ---------------------------------------------------------------------------------------------------


class Adam:
    """Ten passes in place over blocks that stay in cache.

    The moments are kept as m/(1 - beta1) and v/(1 - beta2), so that a gradient is added as it is; both bias
    corrections and those factors make one number for the step and one for eps.
    """

    def __init__(self, theta: Array, hyper: Mapping[str, float], block: int) -> None:
        dtype = theta.dtype
        self.theta, self.block = theta, block
        self.m, self.v = aligned(theta.size, dtype), aligned(theta.size, dtype)
        self.beta1, self.beta2 = scalar(hyper["beta1"], dtype), scalar(hyper["beta2"], dtype)
        self.rate, self.eps = scalar(0, dtype), scalar(0, dtype)
        self.hyper, self.steps = hyper, 0

    def begin(self) -> None:
        """The numbers of the next step."""
        h = self.hyper
        self.steps += 1
        first = (1 - h["beta1"]) / (1 - h["beta1"] ** self.steps)
        second = math.sqrt((1 - h["beta2"]) / (1 - h["beta2"] ** self.steps))
        self.rate[()] = h["lr"] * first / second
        self.eps[()] = h["eps"] / second

    def blocks(self, start: int, grad: Array) -> list[Action]:
        """The updates of the parameters from `start` on, from the flat view `grad` of their gradient."""
        made = []
        scratch = aligned(min(self.block, grad.size), grad.dtype)
        for first in range(0, grad.size, self.block):
            g = grad[first : first + self.block]
            place = slice(start + first, start + first + g.size)
            made.append(self._block(self.theta[place], self.m[place], self.v[place], g, scratch[: g.size]))
        return made

    def _block(self, theta: Array, m: Array, v: Array, g: Array, t: Array) -> Action:
        beta1, beta2, rate, eps = self.beta1, self.beta2, self.rate, self.eps

        def update() -> None:
            multiply(m, beta1, m)
            add(m, g, m)
            multiply(g, g, t)
            multiply(v, beta2, v)
            add(v, t, v)
            sqrt(v, t)
            add(t, eps, t)
            divide(m, t, t)
            multiply(t, rate, t)
            subtract(theta, t, theta)

        return update


# ---- Softmax cross-entropy ------------------------------------------------------------------------------------


def cross_entropy(z: Array, total: int) -> Callable[[Array], float]:
    """The loss of the logits z (classes, samples), which become its gradient; `total` samples share the mean."""
    dtype, (count, samples) = z.dtype, z.shape
    targets, flat_targets = _flat_pair((count, samples), dtype)
    share = (np.eye(count) / total).astype(dtype)
    top, logs, sums = (aligned(samples, dtype) for _ in range(3))
    weights = np.full(samples, 1 / total, dtype)
    ones, size = np.ones(count, dtype), scalar(total, dtype)
    flat, maxima = z.reshape(-1), maximum.reduce
    take = share.take

    def loss(t: Array) -> float:
        take(t, 1, targets, "clip")
        maxima(z, 0, None, top)
        subtract(z, top, z)
        hit = dot(flat_targets, flat)
        exp(z, z)
        dot(ones, z, sums)
        log(sums, logs)
        multiply(sums, size, sums)
        divide(z, sums, z)
        subtract(z, targets, z)
        return float(dot(logs, weights) - hit)

    return loss


def _flat_pair(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    array = aligned(shape, dtype)
    return array, array.reshape(-1)


# ---- W1: everything feature-major, biases as the last column of the weights, one thread -----------------------------


class Tiny:
    """W1: 64-32-10, tanh. The calls are so short that their number is all that counts."""

    def __init__(self, params: Arrays, dtype: str, hyper: Mapping[str, float], batch: int) -> None:
        inputs, hidden = params["W1"].shape
        count = params["W2"].shape[1]
        sizes = hidden * (inputs + 1), count * (hidden + 1)
        theta, grad = aligned(sum(sizes), dtype), aligned(sum(sizes), dtype)
        self.W1, self.W2 = theta[: sizes[0]].reshape(hidden, -1), theta[sizes[0] :].reshape(count, -1)
        for W, k in ((self.W1, 1), (self.W2, 2)):
            W[:, :-1], W[:, -1] = params[f"W{k}"].T, params[f"b{k}"]
        self.step = self._bound(grad, Adam(theta, hyper, theta.size), batch)

    def _bound(self, grad: Array, adam: Adam, batch: int) -> Callable[[Mapping[str, Array]], float]:
        W1, W2, dtype = self.W1, self.W2, grad.dtype
        hidden, inputs, count = W1.shape[0], W1.shape[1] - 1, W2.shape[0]
        dW1, dW2 = grad[: W1.size].reshape(W1.shape), grad[W1.size :].reshape(W2.shape)
        X, H = aligned((batch, inputs + 1), dtype), aligned((hidden + 1, batch), dtype)
        X[:, -1], H[-1] = 1, 1
        x, XT, h, HT = X[:, :-1], X.T, H[:-1], H.T
        z, dh, W2T = aligned((count, batch), dtype), aligned((hidden, batch), dtype), W2[:, :-1].T
        one, begin, [update] = scalar(1, dtype), adam.begin, adam.blocks(0, grad)
        cost = cross_entropy(z, batch)

        def step(data: Mapping[str, Array]) -> float:
            x[...] = data["x"]
            dot(W1, XT, h)
            tanh(h, h)
            dot(W2, H, z)
            loss = cost(data["t"])
            dot(z, HT, dW2)
            dot(W2T, z, dh)
            multiply(h, h, h)
            subtract(one, h, h)
            multiply(dh, h, dh)
            dot(dh, X, dW1)
            begin()
            update()
            return loss

        return step

    def parameters(self) -> Arrays:
        return {
            "W1": self.W1[:, :-1].T.copy(),
            "b1": self.W1[:, -1].copy(),
            "W2": self.W2[:, :-1].T.copy(),
            "b2": self.W2[:, -1].copy(),
        }


# ---- W2 and W3: two threads, first by batch rows, then by parameter rows ---------------------------------------------


def relu(z: Array, h: Array, slope: Array) -> Action:
    """h = max(z, 0) and its derivative, 0 or 1."""
    zero = aligned((), z.dtype)
    zeros, mask = np.broadcast_to(zero, z.shape).copy(), np.empty(z.shape, bool)

    def run() -> None:
        maximum(z, zeros, out=h)  # positional is deprecated
        greater(z, zeros, mask)
        copyto(slope, mask)

    return run


def gelu(z: Array, h: Array, slope: Array) -> Action:
    """h = z s for s = (1 + tanh(c z + c a z³))/2, and h' = s + (1 - s) h (6 q - 4 c) with q = c + c a z²."""
    c, dtype = math.sqrt(2 / math.pi), z.dtype
    ca, c1, c4 = scalar(c * 0.044715, dtype), scalar(c, dtype), scalar(4 * c, dtype)
    six, half, one = scalar(6, dtype), scalar(0.5, dtype), scalar(1, dtype)
    s, q = aligned(z.shape, dtype), slope

    def run() -> None:
        multiply(z, z, q)
        multiply(q, ca, q)
        add(q, c1, q)
        multiply(q, z, s)
        tanh(s, s)
        multiply(s, half, s)
        add(s, half, s)
        multiply(z, s, h)
        multiply(q, six, q)
        subtract(q, c4, q)
        multiply(q, h, q)
        subtract(one, s, z)
        multiply(q, z, q)
        add(q, s, q)

    return run


class Perceptron:
    """W2 and W3: two threads, with a hand-over between the phases.

    Forward, loss and the last deltas by batch rows; then each layer's parameter rows: a block of their gradient,
    and Adam on it while it is hot. Small layers pass their deltas down within the first phase; large ones have a
    phase for each, by columns, where each thread's BLAS packs half of W only. The inputs of a layer and ones are one
    array [H 1], so that one product has the bias and another its gradient.
    """

    def __init__(
        self,
        params: Arrays,
        dtype: str,
        hyper: Mapping[str, float],
        batch: int,
        activation: Callable[[Array, Array, Array], Action],
        large: bool,
        rows: int,
        block: int,
        memory: Callable[..., Array] = aligned,
        multiplied: Callable[[Array, Array, Array], Action] = product,
        optimizer: Callable[[Array, Mapping[str, float], int], Any] = Adam,
        lanes: int = 2,
    ) -> None:
        depth = len(params) // 2
        self.shapes = [(w.shape[0] + 1, w.shape[1]) for w in (params[f"W{k + 1}"] for k in range(depth))]
        self.ends = np.cumsum([0, *map(math.prod, self.shapes)]).tolist()
        self.theta = memory(self.ends[-1], dtype)
        self.W = [self.theta[a:b].reshape(s) for a, b, s in zip(self.ends, self.ends[1:], self.shapes, strict=False)]
        for k, W in enumerate(self.W, 1):
            W[:-1], W[-1] = params[f"W{k}"], params[f"b{k}"]
        self.adam, self.large, self.multiplied = optimizer(self.theta, hyper, block), large, multiplied
        # rows whose length is no power of two: the products with H.T read columns
        self.H = [memory((batch, n + PAD - 1), dtype)[:, :n] for n, _ in self.shapes]
        self.Z = [memory((batch, n), dtype) for _, n in self.shapes]  # later the deltas
        self.slope = [memory((batch, n), dtype) for _, n in self.shapes[:-1]]
        for h in self.H:
            h[:, -1] = 1
        self.losses, self.data = memory(2, np.float64), {}
        if lanes == 1:
            self.phases = [[self._samples(slice(0, batch), 0, activation)], [self._parameters(0, rows, 1)]]
            return
        half = batch // 2
        self.phases = [[self._samples(slice(0, half), 0, activation), self._samples(slice(half, batch), 1, activation)]]
        if large:
            self.phases += [self._down(k) for k in reversed(range(1, depth - 1))]
        self.phases.append([self._parameters(0, rows), self._parameters(1, rows)])

    def _samples(self, part: slice, which: int, activation: Callable[[Array, Array, Array], Action]) -> Action:
        H, Z, W = [h[part] for h in self.H], [z[part] for z in self.Z], self.W
        slopes, batch = [s[part] for s in self.slope], self.Z[0].shape[0]
        last = aligned((W[-1].shape[1], H[-1].shape[0]), self.theta.dtype)
        cost, losses, x = cross_entropy(last, batch), self.losses, H[0][:, :-1]
        layers = [
            (self.multiplied(h, w, z), activation(z, following[:, :-1], s))
            for h, w, z, following, s in zip(H, W[:-1], Z, H[1:], slopes, strict=False)
        ]
        top, WT_last, HT_last, delta_last = Z[-1], W[-1].T, H[-1].T, last.T
        back = [(Z[k + 1], W[k + 1][:-1].T, Z[k], slopes[k]) for k in reversed(range(len(W) - 1))]
        back = back[:1] if self.large else back

        def run() -> None:
            copyto(x, self.data["x"][part])
            for multiply_weights, activate in layers:
                multiply_weights()
                activate()
            dot(WT_last, HT_last, last)
            losses[which] = cost(self.data["t"][part])
            copyto(top, delta_last)
            for delta, WT, below, slope in back:
                dot(delta, WT, below)
                multiply(below, slope, below)

        return run

    def _down(self, k: int) -> list[Action]:
        """Layer k's deltas to the layer below, half of that one's columns each."""
        width = self.shapes[k][0] - 1

        def half(columns: slice) -> Action:
            delta, WT = self.Z[k], self.W[k][columns].T
            below, slope = self.Z[k - 1][:, columns], self.slope[k - 1][:, columns]

            def run() -> None:
                matmul(delta, WT, below)
                multiply(below, slope, below)

            return run

        return [half(slice(0, width // 2)), half(slice(width // 2, width))]

    def _parameters(self, which: int, rows: int, lanes: int = 2) -> Action:
        todo: list[Action] = []
        scratch = aligned(max(min(rows, n) * m for n, m in self.shapes), self.theta.dtype)
        for (n, m), start, H, delta in zip(self.shapes, self.ends, self.H, self.Z, strict=False):
            for row, end in _ranges(n * which // lanes, n * (which + 1) // lanes, rows):
                grad = scratch[: (end - row) * m]
                todo.append(self.multiplied(H.T[row:end], delta, grad.reshape(-1, m)))
                todo += self.adam.blocks(start + row * m, grad)

        def run() -> None:
            for action in todo:
                action()

        return run

    def step(self, batch: Mapping[str, Array]) -> float:
        self.data = batch
        self.adam.begin()
        for phase in self.phases:
            if len(phase) == 1:
                phase[0]()
            else:
                pair().run(*phase)
        return float(self.losses[0] + self.losses[1])

    def parameters(self) -> Arrays:
        made = {f"W{k}": W[:-1].copy() for k, W in enumerate(self.W, 1)}
        return made | {f"b{k}": W[-1].copy() for k, W in enumerate(self.W, 1)}


def _ranges(low: int, high: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, high)) for start in range(low, high, size)]


# ---- W4: row blocks, two threads ---------------------------------------------------------------------------------


class Elementwise:
    """W4: r = u v + x, u = tanh(a x + b), v = sigmoid(c u + d); the mean of f tanh(e r)²."""

    SUMS = ("f", "e", "d", "c", "b", "a")

    def __init__(
        self, params: Arrays, dtype: str, hyper: Mapping[str, float], shape: tuple[int, int], rows: int
    ) -> None:
        count, width = shape
        self.theta = {k: params[k].copy() for k in "abcdef"}
        self.dx = aligned(shape, dtype)
        self.rate = scalar(hyper["lr"], dtype)
        # what the sums and products below leave out: factors that are the same in each row
        self.factor = {k: np.empty(width, dtype) for k in ("c/2", "d/2", "fe", *self.SUMS)}
        self.size = count * width
        self.sums = {k: aligned((2, width), dtype) for k in self.SUMS}
        self.x = self.dx
        half = count // 2
        self.parts = [self._rows(0, 0, half, rows), self._rows(1, half, count, rows)]

    def _rows(self, which: int, start: int, stop: int, rows: int) -> Action:
        dtype, width = self.dx.dtype, self.dx.shape[1]
        a, b, c, e = (self.theta[k] for k in "abce")
        c2, d2, fe = (self.factor[k] for k in ("c/2", "d/2", "fe"))
        total = {k: self.sums[k][which] for k in self.SUMS}
        sf, se, sd, sc, sb, sa = (total[k] for k in self.SUMS)
        part = aligned(width, dtype)
        u, v, w, r, s, k = (aligned((rows, width), dtype) for _ in range(6))
        ones, one, half = np.ones(rows, dtype), scalar(1, dtype), scalar(0.5, dtype)

        def run() -> None:
            for sums in total.values():
                sums.fill(0)
            for row in range(start, stop, rows):
                x, dx = self.x[row : row + rows], self.dx[row : row + rows]
                multiply(x, a, u)
                add(u, b, u)
                tanh(u, u)
                multiply(u, c2, v)
                add(v, d2, v)
                tanh(v, v)
                multiply(v, half, v)
                add(v, half, v)
                multiply(u, v, w)
                add(w, x, r)
                multiply(r, e, s)
                tanh(s, s)
                multiply(s, s, k)
                dot(ones, k, part)
                add(sf, part, sf)
                subtract(one, k, k)
                multiply(k, s, s)
                einsum("ij,ij->j", s, r, out=part)
                add(se, part, se)
                multiply(s, fe, s)  # the gradient by r
                subtract(one, v, k)
                multiply(k, w, k)
                multiply(k, s, k)
                dot(ones, k, part)
                add(sd, part, sd)
                einsum("ij,ij->j", k, u, out=part)
                add(sc, part, sc)
                multiply(k, c, k)
                multiply(v, s, v)
                add(v, k, v)  # by u
                multiply(u, u, u)
                subtract(one, u, u)
                multiply(u, v, u)
                dot(ones, u, part)
                add(sb, part, sb)
                einsum("ij,ij->j", u, x, out=part)
                add(sa, part, sa)
                multiply(u, a, u)
                add(u, s, dx)

        return run

    def step(self, batch: Mapping[str, Array]) -> float:
        self.x = batch["x"]
        theta, factor = self.theta, self.factor
        multiply(theta["c"], 0.5, factor["c/2"])
        multiply(theta["d"], 0.5, factor["d/2"])
        by_e = theta["f"] * (2 / self.size)
        multiply(by_e, theta["e"], factor["fe"])
        pair().run(*self.parts)
        grads = {k: sums[0] + sums[1] for k, sums in self.sums.items()}
        grads["f"] /= self.size
        loss = float(dot(theta["f"], grads["f"]))
        grads["e"] *= by_e
        for name, grad in grads.items():
            multiply(grad, self.rate, grad)
            subtract(theta[name], grad, theta[name])
        return loss

    def parameters(self) -> Arrays:
        return {k: v.copy() for k, v in self.theta.items()} | {"x": self.dx.copy()}


# ---- W8: whole vectors, OpenBLAS's own threads ---------------------------------------------------------------------


class Logistic:
    """W8. With r = tanh(z/2), softplus(z) is (z + |z|)/2 + log 2 - log(1 + |r|), and sigmoid(z) is (1 + r)/2."""

    GROUP = 16  # (1 + |r|) is at most 2: the product of so many has a logarithm as good as the sum of theirs

    def __init__(self, params: Arrays, dtype: str, hyper: Mapping[str, float], count: int) -> None:
        width = params["w"].size
        self.theta = np.append(params["w"], params["b"]).astype(dtype)
        self.step = self._bound(self.theta[:width], self.theta[width:], hyper["lr"], count, np.dtype(dtype))

    def _bound(self, w: Array, b: Array, lr: float, count: int, dtype: Any) -> Callable[[Mapping[str, Array]], float]:
        z, h, r = (aligned(count, dtype) for _ in range(3))
        groups = r.reshape(self.GROUP, -1) if count % self.GROUP == 0 else r.reshape(1, -1)
        products, ones, dw = aligned(groups.shape[1], dtype), np.ones(count, dtype), aligned(w.size, dtype)
        half, one, rate, some = (
            scalar(0.5, dtype),
            scalar(1, dtype),
            scalar(lr / count, dtype),
            np.ones(products.size, dtype),
        )
        bias, constant, product = b.reshape(()), math.log(2), multiply.reduce

        def step(data: Mapping[str, Array]) -> float:
            x = data["x"]
            dot(x, w, z)
            add(z, bias, z)
            subtract(half, data["t"], h)
            linear = dot(h, z)
            multiply(z, half, z)
            absolute(z, r)
            linear += dot(ones, r)
            tanh(z, z)
            absolute(z, r)
            add(r, one, r)
            product(groups, 0, None, products)
            log(products, products)
            loss = (linear - dot(some, products)) / count + constant
            multiply(z, half, z)
            add(z, h, z)
            dot(z, x, dw)
            multiply(dw, rate, dw)
            subtract(w, dw, w)
            subtract(bias, dot(ones, z) * rate, bias)
            return float(loss)

        return step

    def parameters(self) -> Arrays:
        return {"w": self.theta[:-1].copy(), "b": self.theta[-1].reshape(()).copy()}


# ---- Making them -----------------------------------------------------------------------------------------------


def make(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    """The step written by hand for a workload. Raises LookupError where there is none."""
    for makers in (MAKERS, *(import_module(name).MAKERS for name in OTHERS)):
        if workload.name in makers:
            return makers[workload.name](workload, params, dtype, threads)
    raise LookupError(f"nobody wrote one for {workload.name}")


def _tiny(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Tiny(params, dtype, workload.hyper, 32)


def _w2(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Perceptron(params, dtype, workload.hyper, 128, relu, False, 1024, 131072)


def _w3(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Perceptron(params, dtype, workload.hyper, 256, gelu, True, 1024, 262144)


def _w4(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Elementwise(params, dtype, workload.hyper, (4096, 512), 256)


def _w8(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(threads)
    return Logistic(params, dtype, workload.hyper, 10000)


OTHERS = ("plain_blocks", "plain_perceptrons", "plain_convnet", "plain_gates")  # modules with makers
MAKERS: dict[str, Callable[[Workload, Arrays, str, int], Contestant]] = {
    "W1": _tiny,
    "W2": _w2,
    "W3": _w3,
    "W4": _w4,
    "W8": _w8,
}
