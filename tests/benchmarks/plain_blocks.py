"""The yardstick's larger networks, by hand in plain NumPy: W5 (transformer block), W6 (LeNet) and W7 (RNN).

As in `plain`: one process, two threads, OpenBLAS at one; here each thread has a core of its own. Products up to a
million multiplications have OpenBLAS kernels that copy nothing, for A B and Aᵀ B, so that larger ones are cut into
such tiles, all in one batched matmul, and weights that stand transposed are kept as transposed copies.

W5 has a lane of half the batch for each thread. W6 and W7 have too many short calls for that (each would fight for the
interpreter lock): there one thread makes all short calls, and the other one only long products beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from plain import Action, Adam, aligned, cross_entropy, pair, scalar, set_blas_threads
from plain_tools import Allocate, Flat, Momentum, Signal, part_threads, tiles, view
from workloads import Array, Arrays, Contestant, Workload

add, subtract, multiply, divide, sqrt = np.add, np.subtract, np.multiply, np.divide, np.sqrt
exp, tanh, maximum, greater, greater_equal = np.exp, np.tanh, np.maximum, np.greater, np.greater_equal
dot, matmul, vecdot, vdot, copyto, einsum = np.dot, np.matmul, np.vecdot, np.vdot, np.copyto, np.einsum


class Lanes:
    """A model of two halves that run in phases, at the same time; `phases` has their actions in pairs."""

    phases: list[tuple[Action, Action]]
    losses: Array
    data: Arrays
    adam: Any
    flat: Flat

    def parameters(self) -> Arrays:
        return self.flat.copies()


class Threads:
    """Runs the lanes on two threads."""

    def __init__(self, model: Lanes) -> None:
        self.model, self.parameters = model, model.parameters

    def step(self, batch: Mapping[str, Array]) -> float:
        model, run = self.model, pair().run
        model.data = dict(batch)
        model.adam.begin()
        for phase in model.phases:
            run(*phase)
        return float(model.losses[0] + model.losses[1])


# ---- W5: a transformer block ------------------------------------------------------------------------------------

TOKENS, WIDTH, HEADS, HEAD, HIDDEN = 64, 128, 4, 32, 512
BLOCK_NAMES = ("g1", "s1", "Wqkv", "bqkv", "Wo", "bo", "g2", "s2", "W1", "b1", "W2", "b2")
SLOPE, CUBE = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715  # of gelu's tanh form


class Sequences:
    """Forward and backward of a lane's sequences; its share of all gradients goes to `grads`.

    x needs no gradient. So the first layer norm's scale and shift get theirs from x̂ᵀ dqkv, which stands in Wqkv's place
    until `Transformer.update`, and the product with Wqkvᵀ is saved.
    """

    def __init__(self, count: int, total: int, values: Arrays, grads: Arrays, turned: Arrays, dtype: Any) -> None:
        v, g, rows = values, grads, count * TOKENS
        new = partial(aligned, dtype=dtype)
        self.values, self.grads, self.total = v, g, total
        self.xhat, self.a, self.rhat, self.b, self.t, self.r = (new((rows, WIDTH)) for _ in range(6))
        self.inverse1, self.inverse2, self.column = new(rows), new(rows), new(rows)
        self.joined, self.djoined, self.error, self.dr, self.db = (new((rows, WIDTH)) for _ in range(5))
        self.z, self.h, self.slope, self.dz = (new((rows, HIDDEN)) for _ in range(4))
        self.qkv, self.dqkv = new((rows, 3 * WIDTH)), new((rows, 3 * WIDTH))
        self.heads, self.dheads = self._heads(self.qkv, 3), self._heads(self.dqkv, 3)
        (self.out,), (self.dout,) = self._heads(self.joined, 1), self._heads(self.djoined, 1)
        self.p, self.dp = new((count, HEADS, TOKENS, TOKENS)), new((count, HEADS, TOKENS, TOKENS))
        self.turned_q, self.turned_dout = (new((count, HEADS, HEAD, TOKENS)) for _ in range(2))
        self.top, self.along = new((count, HEADS, 1, TOKENS)), new((count, HEADS, TOKENS))
        self.ones, self.mean = np.ones(rows, dtype), np.full(WIDTH, 1 / WIDTH, dtype)
        numbers = (1, 0.5, 1 / WIDTH, 1e-5, HEAD**-0.5, 2 / total, SLOPE, CUBE, 2 * SLOPE, 6 * CUBE)
        self.numbers = [scalar(n, dtype) for n in numbers]
        cut = [slice(k * rows // 4, (k + 1) * rows // 4) for k in range(4)]
        self.cuts = [(self.z[s], self.dz[s], self.h[s], self.slope[s]) for s in cut]
        self.project, self.unite = tiles(self.a, v["Wqkv"], self.qkv), tiles(self.joined, v["Wo"], self.r)
        self.up, self.down = tiles(self.b, v["W1"], self.z), tiles(self.h, v["W2"], self.error)
        self.back_down, self.back_up = tiles(self.error, turned["W2"], self.dz), tiles(self.dz, turned["W1"], self.db)
        self.back_unite = tiles(self.dr, turned["Wo"], self.djoined)
        self.grad_down, self.grad_up = tiles(self.h.T, self.error, g["W2"]), tiles(self.b.T, self.dz, g["W1"])
        self.grad_unite = tiles(self.joined.T, self.dr, g["Wo"])
        self.grad_project = tiles(self.xhat.T, self.dqkv, g["Wqkv"])

    @staticmethod
    def _heads(a: Array, parts: int) -> list[Array]:
        split = a.reshape(-1, TOKENS, parts, HEADS, HEAD)
        return [split[:, :, k].transpose(0, 2, 1, 3) for k in range(parts)]

    def _norm(self, x: Array, hat: Array, inverse: Array, y: Array, g: Array, s: Array) -> None:
        one, _, share, eps, *_ = self.numbers
        column = self.column
        dot(x, self.mean, column)
        subtract(x, column[:, None], hat)
        vecdot(hat, hat, inverse)
        multiply(inverse, share, inverse)
        add(inverse, eps, inverse)
        sqrt(inverse, inverse)
        divide(one, inverse, inverse)
        multiply(hat, inverse[:, None], hat)
        multiply(hat, g, y)
        add(y, s, y)

    def _attention(self) -> None:
        """Keys stand before queries in p: the softmax runs over rows. The scale goes into the queries."""
        q, k, v = self.heads
        p, top, turned = self.p, self.top, self.turned_q
        queries, scale = self.qkv[:, :WIDTH], self.numbers[4]
        multiply(queries, scale, queries)
        copyto(turned, q.transpose(0, 1, 3, 2))
        matmul(k, turned, p)
        maximum.reduce(p, 2, None, top, True)
        subtract(p, top, p)
        exp(p, p)
        add.reduce(p, 2, None, top, True)
        divide(p, top, p)
        matmul(p.transpose(0, 1, 3, 2), v, self.out)

    def _gelu(self, bias: Array) -> None:
        """h = z w with w = (1 + tanh(z (a + c z²)))/2, and its slope w + h (1 - w)(2a + 6c z²)."""
        one, half, *_, a, c, a2, c6 = self.numbers
        for z, w, h, slope in self.cuts:
            add(z, bias, z)
            multiply(z, z, slope)
            multiply(slope, c, w)
            add(w, a, w)
            multiply(w, z, w)
            tanh(w, w)
            add(w, one, w)
            multiply(w, half, w)
            multiply(w, z, h)
            multiply(slope, c6, slope)
            add(slope, a2, slope)
            multiply(slope, h, slope)
            subtract(one, w, z)
            multiply(slope, z, slope)
            add(slope, w, slope)

    def run(self, x: Array, y: Array) -> float:
        v, g, ones = self.values, self.grads, self.ones
        self._norm(x, self.xhat, self.inverse1, self.a, v["g1"], v["s1"])
        self.project()
        add(self.qkv, v["bqkv"], self.qkv)
        self._attention()
        self.unite()
        r, error = self.r, self.error
        add(r, v["bo"], r)
        add(r, x, r)
        self._norm(r, self.rhat, self.inverse2, self.b, v["g2"], v["s2"])
        self.up()
        self._gelu(v["b1"])
        self.down()
        add(error, r, error)
        add(error, v["b2"], error)
        subtract(error, y, error)
        loss = float(vdot(error, error)) / self.total
        multiply(error, self.numbers[5], error)
        self.grad_down()
        dot(ones, error, g["b2"])
        self.back_down()
        for _, dz, _, slope in self.cuts:
            multiply(dz, slope, dz)
        self.grad_up()
        dot(ones, self.dz, g["b1"])
        self.back_up()
        self._back_norm()
        self.grad_unite()
        dot(ones, self.dr, g["bo"])
        self.back_unite()
        self._back_attention()
        self.grad_project()
        dot(ones, self.dqkv, g["bqkv"])
        return loss

    def _back_norm(self) -> None:
        db, hat, t, column, v, g = self.db, self.rhat, self.t, self.column, self.values, self.grads
        einsum("ij,ij->j", db, hat, out=g["g2"])
        dot(self.ones, db, g["s2"])
        multiply(db, v["g2"], db)
        dot(db, self.mean, column)
        subtract(db, column[:, None], t)
        vecdot(db, hat, column)
        multiply(column, self.numbers[2], column)
        multiply(hat, column[:, None], db)
        subtract(t, db, t)
        multiply(t, self.inverse2[:, None], t)
        add(t, self.error, self.dr)

    def _back_attention(self) -> None:
        """The softmax's inner products are those of the outputs with their adjoints: half as long."""
        (q, k, v), (dq, dk, dv) = self.heads, self.dheads
        p, dp, dout, queries = self.p, self.dp, self.dout, self.dqkv[:, :WIDTH]
        matmul(p, dout, dv)
        copyto(self.turned_dout, dout.transpose(0, 1, 3, 2))
        matmul(v, self.turned_dout, dp)
        vecdot(dout, self.out, self.along)
        subtract(dp, self.along[:, :, None], dp)
        multiply(dp, p, dp)
        matmul(dp, q, dk)
        matmul(dp.transpose(0, 1, 3, 2), k, dq)
        multiply(queries, self.numbers[4], queries)


class Transformer(Lanes):
    """Two lanes with gradients of their own, which Adam adds: each thread updates half of the parameters."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str, allocate: Allocate = aligned) -> None:
        batch, self.data = 8, {}
        self.losses = allocate(2, "float64")
        self.flat = flat = Flat(params, BLOCK_NAMES, dtype, allocate)
        self.adam = Adam(flat.vector, workload.hyper, 65536)
        others = allocate(flat.vector.size, dtype)
        v, total = flat.values, batch * TOKENS * WIDTH
        self.turned = {name: allocate(v[name].shape[::-1], dtype) for name in ("Wo", "W1", "W2")}
        for name, array in self.turned.items():
            copyto(array, v[name].T)
        grads = (flat.grads, flat.views(others))
        self.lanes = [Sequences(batch // 2, total, v, g, self.turned, dtype) for g in grads]
        cut, end = flat.starts["W1"] + 64 * HIDDEN, flat.vector.size
        halves = (slice(0, cut), slice(cut, end))
        self.sums = [(flat.gradient[s], others[s]) for s in halves]
        self.updates = [self.adam.blocks(s.start, flat.gradient[s]) for s in halves]
        turned = self.turned
        self.refreshed = [
            [(turned["Wo"], v["Wo"].T), (turned["W1"][:, :64], v["W1"][:64].T)],
            [(turned["W2"], v["W2"].T), (turned["W1"][:, 64:], v["W1"][64:].T)],
        ]
        self.phases = [(partial(f, 0), partial(f, 1)) for f in (self.run, self.update)]

    def run(self, index: int) -> None:
        x, y = (self.data[name][4 * index : 4 * index + 4].reshape(-1, WIDTH) for name in "xy")
        self.losses[index] = self.lanes[index].run(x, y)

    def update(self, index: int) -> None:
        mine, other = self.sums[index]
        add(mine, other, mine)
        if index == 0:
            self._first_norm()
        for block in self.updates[index]:
            block()
        for turned, weights in self.refreshed[index]:
            copyto(turned, weights)

    def _first_norm(self) -> None:
        v, g = self.flat.values, self.flat.grads
        vecdot(v["Wqkv"], g["Wqkv"], g["g1"])
        dot(v["Wqkv"], g["bqkv"], g["s1"])
        multiply(g["Wqkv"], v["g1"][:, None], g["Wqkv"])
        add(g["Wqkv"], multiply.outer(v["s1"], g["bqkv"]), g["Wqkv"])


# ---- W6: LeNet ----------------------------------------------------------------------------------------------------

LENET_NAMES = ("K1", "c1", "K2", "c2", "W1", "b1", "W2", "b2", "W3", "b3")
TAPS = ((0, 0), (0, 1), (1, 0), (1, 1))


class Images:
    """A lane of n images, batch last; each method is one part of the step.

    Only columns are copied for a convolution: rows1[h, q, w, n] and rows2[h, c, q, w, n]. The taps of one output row
    are then adjacent rows, a matrix that needs no copy. The first pool's four taps are merged into a 6 x 6 kernel of
    stride 2. The second convolution's adjoint is one with the reversed kernel over zero-padded rows. Pools come before
    bias and relu; where two of a pool's inputs are exactly equal and positive, the gradient goes to the first.
    """

    def __init__(self, n: int, index: int, total: int, values: Arrays, wide: Arrays, dtype: Any) -> None:
        new = partial(aligned, dtype=dtype)
        self.n, self.v = n, values
        one, two = 14 * n, 10 * n
        self.image = new((32, 32, n))
        self.rows1, self.rows2 = new((32, 6, 14, n)), new((14, 6, 5, 10, n))
        self.columns1 = view(self.image, (32, 6, 14, n), (32 * n, n, 2 * n, 1))
        self.taps1 = view(self.rows1, (14, 36, one), (12 * one, one, 1))
        self.y1, self.h1 = new((14, 24, one)), new((14, 6, one))
        self.pool1 = [self.y1[:, 6 * k : 6 * k + 6] for k in range(4)]
        self.columns2 = view(self.h1, (14, 6, 5, 10, n), (6 * one, one, n, n, 1))
        self.taps2 = view(self.rows2, (10, 150, two), (30 * two, two, 1))
        padded = new((18, 16, two))
        self.y2 = padded[4:14]
        quarters = self.y2.reshape(5, 2, 16, 5, 2, n)
        self.pool2 = [quarters[:, i, :, :, j] for i, j in TAPS]
        self.adjoint_taps = view(padded, (14, 80, two), (16 * two, two, 1))
        self.drows2, self.dh1, self.turned_y2 = new((14, 6, 5, 10, n)), new((14, 6, 14, n)), new((10, two, 16))
        self.merged, self.kernel2, self.reversed2 = new((24, 36)), new((16, 150)), new((30, 80))
        self.parts1, self.dmerged, self.parts2, self.dkernel2 = (
            new(shape) for shape in ((14, 24, 36), (24, 36), (10, 150, 16), (150, 16))
        )
        self.scratch1 = [new((14, 6, one)) for _ in range(2)]
        self.scratch2 = [new((5, 16, 5, n)) for _ in range(4)]
        self.masks1 = [np.zeros((14, 6, one), bool) for _ in range(3)]
        self.masks2 = [np.zeros((5, 16, 5, n), bool) for _ in range(3)]
        self.zero, self.ones = np.zeros((1, 1, one), dtype), np.ones((one, 1), dtype)
        self.sums1, self.dc1, self.dc2 = new((14, 6, 1)), new(6), new(16)
        mine = slice(index * n, (index + 1) * n)
        self.f, self.g1, self.g2 = (wide[name][:, mine] for name in ("f", "g1", "g2"))
        self.e1, self.e2, self.e3 = (wide[name][mine] for name in ("e1", "e2", "e3"))
        wide_n = wide["f"].shape[1]
        self.pooled = view(self.f, (5, 16, 5, n), (5 * wide_n, 25 * wide_n, wide_n, 1))
        self.z1, self.z2, self.z3, self.df = new((120, n)), new((84, n)), new((10, n)), new((400, n))
        self.dpooled = self.df.reshape(16, 5, 5, n).transpose(1, 0, 2, 3)
        self.over1, self.over2 = np.zeros((120, n), bool), np.zeros((84, n), bool)
        self.dense1, self.back1 = tiles_of_weights(values["W1"], self.f, self.z1, self.df)
        self.loss = cross_entropy(self.z3, total)
        self.bias = {name: values[name].reshape(-1, 1) for name in ("c1", "b1", "b2", "b3")}
        self.bias2 = values["c2"].reshape(16, 1, 1)

    def kernels(self) -> None:
        """The kernels as matrices."""
        k1, k2 = self.v["K1"].reshape(6, 5, 5), self.v["K2"]
        for part, (i, j) in zip(self.merged.reshape(4, 6, 6, 6), TAPS, strict=True):
            part[:, i : i + 5, j : j + 5] = k1
        copyto(self.kernel2.reshape(16, 5, 6, 5), k2.transpose(0, 2, 1, 3))
        copyto(self.reversed2.reshape(6, 5, 5, 16), k2.transpose(1, 3, 2, 0)[:, :, ::-1])

    def start(self, x: Array) -> None:
        copyto(self.image[2:30, 2:30], x[:, 0].transpose(1, 2, 0))
        copyto(self.rows1, self.columns1)

    def conv1(self, merged: Array) -> None:
        matmul(merged, self.taps1, self.y1)

    def middle(self) -> None:
        """From the first convolution to the second one's rows."""
        (a, b, c, d), (u, v), h = self.pool1, self.scratch1, self.h1
        maximum(a, b, out=u)
        maximum(c, d, out=v)
        maximum(u, v, out=h)
        add(h, self.bias["c1"], h)
        maximum(h, self.zero, out=h)
        copyto(self.rows2, self.columns2)

    def conv2(self, kernel: Array, first: int, last: int) -> None:
        matmul(kernel, self.taps2[first:last], self.y2[first:last])

    def end(self, t: Array) -> float:
        """From the second convolution to its adjoint; the loss."""
        (a, b, c, d), (u, v, g, _), zero = self.pool2, self.scratch2, self.zero[..., : self.n]
        maximum(a, b, out=u)
        maximum(c, d, out=v)
        maximum(u, v, out=g)
        add(g, self.bias2, g)
        maximum(g, zero, out=self.pooled)
        loss = self._dense(t)
        greater(self.pooled, zero, self.masks2[0])
        multiply(self.dpooled, self.masks2[0], g)
        add.reduce(g, (0, 2, 3), None, self.dc2)
        self._unpool(g, self.pool2, u, v, self.masks2, self.scratch2[3])
        return loss

    def _dense(self, t: Array) -> float:
        v, bias, zero = self.v, self.bias, self.zero[0, :, : self.n]
        z1, z2, z3, g1, g2 = self.z1, self.z2, self.z3, self.g1, self.g2
        self.dense1()
        add(z1, bias["b1"], z1)
        maximum(z1, zero, out=g1)
        matmul(v["W2"].T, g1, z2)
        add(z2, bias["b2"], z2)
        maximum(z2, zero, out=g2)
        matmul(v["W3"].T, g2, z3)
        add(z3, bias["b3"], z3)
        loss = self.loss(t)
        copyto(self.e3, z3.T)
        matmul(v["W3"], z3, z2)
        greater(g2, zero, self.over2)
        multiply(z2, self.over2, z2)
        copyto(self.e2, z2.T)
        matmul(v["W2"], z2, z1)
        greater(g1, zero, self.over1)
        multiply(z1, self.over1, z1)
        copyto(self.e1, z1.T)
        self.back1()
        return loss

    @staticmethod
    def _unpool(g: Array, taps: list[Array], u: Array, v: Array, masks: list[Array], half: Array) -> None:
        """The pool's adjoint in its inputs' place, as the pairs played: a against b, c against d, the winners."""
        (a, b, c, d), (first, second, final) = taps, masks
        greater_equal(u, v, final)
        greater_equal(a, b, first)
        greater_equal(c, d, second)
        multiply(g, final, half)
        subtract(g, half, g)
        multiply(half, first, a)
        subtract(half, a, b)
        multiply(g, second, c)
        subtract(g, c, d)

    def adjoint2(self, kernel: Array, first: int, last: int) -> None:
        matmul(kernel, self.adjoint_taps[first:last], self.drows2.reshape(14, 30, -1)[first:last])

    def gradient2(self) -> None:
        copyto(self.turned_y2, self.y2.transpose(0, 2, 1))
        matmul(self.taps2, self.turned_y2, self.parts2)
        add.reduce(self.parts2, 0, None, self.dkernel2)

    def back(self) -> None:
        """From the second convolution's rows to the first convolution."""
        dh, rows, g, mask = self.dh1, self.drows2, self.dh1.reshape(14, 6, -1), self.masks1[0]
        dh[:, :, :10] = rows[:, :, 0]
        dh[:, :, 10:] = 0
        for q in range(1, 5):
            part = dh[:, :, q : q + 10]
            add(part, rows[:, :, q], part)
        greater(self.h1, self.zero, mask)
        multiply(g, mask, g)
        matmul(g, self.ones, self.sums1)
        add.reduce(self.sums1, (0, 2), None, self.dc1)
        self._unpool(g, self.pool1, *self.scratch1, self.masks1, self.h1)

    def gradient1(self) -> None:
        matmul(self.y1, self.taps1.transpose(0, 2, 1), self.parts1)
        add.reduce(self.parts1, 0, None, self.dmerged)


def tiles_of_weights(weights: Array, x: Array, y: Array, dx: Array) -> tuple[Action, Action]:
    """y = weightsᵀ x and dx = weights y, each in two tiles."""
    (inputs, outputs), n = weights.shape, x.shape[1]
    half = outputs // 2
    turned = view(weights, (2, half, inputs), (half, 1, outputs))
    back = weights.reshape(2, inputs // 2, outputs)
    return partial(matmul, turned, x, y.reshape(2, half, n)), partial(matmul, back, y, dx.reshape(2, -1, n))


class LeNet(Lanes):
    """What both ways of running two lanes of images have in common."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str, allocate: Allocate = aligned) -> None:
        batch, self.data = 64, {}
        self.losses = allocate(2, "float64")
        self.flat = flat = Flat(params, LENET_NAMES, dtype, allocate)
        self.adam = Momentum(flat, workload.hyper)
        shapes = {"f": (400, batch), "g1": (120, batch), "g2": (84, batch)}
        shapes |= {"e1": (batch, 120), "e2": (batch, 84), "e3": (batch, 10)}
        self.wide = {name: allocate(shape, dtype) for name, shape in shapes.items()}
        self.lanes = [Images(batch // 2, k, batch, flat.values, self.wide, dtype) for k in range(2)]
        self.ones = np.ones(batch, dtype)

    def dense(self, tiles: slice) -> None:
        """The given quarters of W1's gradient."""
        f, g = self.wide["f"].reshape(4, 100, -1), self.flat.grads["W1"].reshape(4, 100, 120)
        matmul(f[tiles], self.wide["e1"], g[tiles])

    def smaller(self) -> None:
        wide, g = self.wide, self.flat.grads
        dot(wide["g1"], wide["e2"], g["W2"])
        dot(wide["g2"], wide["e3"], g["W3"])
        for k in "123":
            dot(self.ones, wide["e" + k], g["b" + k])

    def finish(self, other: list[Array]) -> None:
        """The kernels' and their biases' gradients, from the first lane's and the given parts of the other one."""
        lane, g = self.lanes[0], self.flat.grads
        mine = [lane.dmerged, lane.dkernel2, lane.dc1, lane.dc2]
        for a, b in zip(mine, other, strict=True):
            add(a, b, a)
        k1 = g["K1"].reshape(6, 5, 5)
        parts = [part[:, i : i + 5, j : j + 5] for part, (i, j) in zip(mine[0].reshape(4, 6, 6, 6), TAPS, strict=True)]
        copyto(k1, parts[0])
        for part in parts[1:]:
            add(k1, part, k1)
        copyto(g["K2"].transpose(2, 1, 3, 0), mine[1].reshape(5, 6, 5, 16))
        copyto(g["c1"].reshape(-1), mine[2])
        copyto(g["c2"].reshape(-1), mine[3])


class PipelinedLeNet(LeNet):
    """The other thread makes the first lane's long products while this one works on the second lane, and so on."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        super().__init__(workload, params, dtype)
        self.up, self.down = [[Signal() for _ in range(6)] for _ in range(2)]

    def beside(self) -> None:
        (a, b), up, down = self.lanes, self.up, self.down
        up[0].wait()
        a.conv1(a.merged)
        down[0].send()
        up[1].wait()
        a.conv2(a.kernel2, 0, 10)
        down[1].send()
        up[2].wait()
        b.conv2(a.kernel2, 5, 10)
        down[2].send()
        up[3].wait()
        a.adjoint2(a.reversed2, 0, 14)
        down[3].send()
        a.gradient2()
        up[4].wait()
        b.adjoint2(a.reversed2, 8, 14)
        down[4].send()
        b.gradient2()
        self.dense(slice(0, 4))
        self.smaller()
        up[5].wait()
        a.gradient1()

    def main(self) -> None:
        (a, b), up, down = self.lanes, self.up, self.down
        x, t = self.data["x"], self.data["t"]
        n = a.n
        a.kernels()
        a.start(x[:n])
        up[0].send()
        b.start(x[n:])
        b.conv1(a.merged)
        down[0].wait()
        a.middle()
        up[1].send()
        b.middle()
        up[2].send()
        b.conv2(a.kernel2, 0, 5)
        down[1].wait()
        self.losses[0] = a.end(t[:n])
        up[3].send()
        down[2].wait()
        self.losses[1] = b.end(t[n:])
        up[4].send()
        down[3].wait()
        a.back()
        up[5].send()
        b.adjoint2(a.reversed2, 0, 8)
        down[4].wait()
        b.back()
        b.gradient1()

    def step(self, batch: Mapping[str, Array]) -> float:
        self.data = dict(batch)
        pair().run(self.main, self.beside)
        b = self.lanes[1]
        self.finish([b.dmerged, b.dkernel2, b.dc1, b.dc2])
        self.adam.run()
        return float(self.losses[0] + self.losses[1])


# ---- W7: a recurrent network ---------------------------------------------------------------------------------------

RNN_NAMES = ("Wx", "Wh", "bh", "Wy", "by")


class Recurrence:
    """`count` sequences, time first: states, input parts, slopes and deltas, with a view of each step's."""

    def __init__(self, steps: int, count: int, width: int, total: int, dtype: Any, allocate: Allocate) -> None:
        shape = (steps, count, width)
        self.states, self.deltas = allocate((steps + 1, count, width), dtype), allocate(shape, dtype)
        self.inputs, self.slopes, self.z = aligned(shape, dtype), aligned(shape, dtype), aligned(shape[1:], dtype)
        self.logits = aligned((10, count), dtype)
        self.loss, self.one = cross_entropy(self.logits, total), scalar(1, dtype)
        self.h, self.p, self.e, self.g = (list(a) for a in (self.states, self.inputs, self.slopes, self.deltas))
        self.last = self.states[steps]

    def project(self, x: Array, first: int, last: int, v: Arrays) -> None:
        """The input parts of some steps, from their inputs in rows."""
        p = self.inputs[first:last].reshape(len(x), -1)
        dot(x, v["Wx"], p)
        add(p, v["bh"], p)

    def forward(self, first: int, last: int, weights: Array) -> None:
        h, p, z = self.h, self.p, self.z
        if first == 0:
            tanh(p[0], h[1])
        for t in range(max(first, 1), last):
            dot(h[t], weights, z)
            add(z, p[t], z)
            tanh(z, h[t + 1])

    def slope(self, first: int, last: int) -> None:
        h, e = self.states[first + 1 : last + 1], self.slopes[first:last]
        multiply(h, h, e)
        subtract(self.one, e, e)

    def head(self, v: Arrays, t: Array) -> float:
        """The loss; the logits become its gradient."""
        dot(v["Wy"].T, self.last.T, self.logits)
        add(self.logits, v["by"][:, None], self.logits)
        return self.loss(t)

    def backward(self, last: int, first: int, v: Arrays, turned: Array) -> None:
        """The deltas from step `last` - 1 down to `first`; `turned` is Wh transposed, in C order: 1.9 times faster."""
        e, g, z = self.e, self.g, self.z
        if last == len(g):
            last -= 1
            dot(self.logits.T, v["Wy"].T, z)
            multiply(z, e[last], g[last])
        for t in range(last - 1, first - 1, -1):
            dot(g[t + 1], turned, z)
            multiply(z, e[t], g[t])


class PipelinedRNN:
    """This thread does the recurrence; the other one projects inputs ahead of it and makes gradients behind it."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        steps, count, width = 32, 32, 128
        self.flat = flat = Flat(params, RNN_NAMES, dtype, aligned)
        self.adam = Adam(flat.vector, workload.hyper, 32768)
        self.updates = self.adam.blocks(0, flat.gradient)
        self.cell = Recurrence(steps, count, width, count, dtype, aligned)
        self.turned, self.ones = aligned((width, width), dtype), np.ones(steps * count, dtype)
        self.x, self.t, self.loss = self.turned, self.ones, 0.0
        self.partials = [flat.views(aligned(flat.vector.size, dtype)) for _ in range(2)]
        self.ahead = [Signal() for _ in range(3)]
        self.behind = [Signal() for _ in range(3)]
        self.parameters = flat.copies

    def weights(self, first: int, last: int, g: Arrays) -> None:
        """The gradients' parts from some steps."""
        rows = slice(first * 32, last * 32)
        deltas = self.cell.deltas.reshape(-1, 128)[rows]
        dot(self.cell.states.reshape(-1, 128)[rows].T, deltas, g["Wh"])
        dot(self.x[rows].T, deltas, g["Wx"])
        dot(self.ones[rows], deltas, g["bh"])

    def beside(self) -> None:
        cell, v, g, ahead, behind = self.cell, self.flat.values, self.flat.grads, self.ahead, self.behind
        for signal, first, last in ((ahead[0], 4, 12), (ahead[1], 12, 32)):
            cell.project(self.x[first * 32 : last * 32], first, last, v)
            signal.send()
        copyto(self.turned, v["Wh"].T)
        behind[0].wait()
        cell.slope(0, 24)
        ahead[2].send()
        behind[1].wait()
        dot(cell.last.T, cell.logits.T, g["Wy"])
        add.reduce(cell.logits, 1, None, g["by"])
        self.weights(22, 32, g)
        behind[2].wait()
        self.weights(10, 22, self.partials[0])

    def main(self) -> None:
        cell, v, ahead, behind = self.cell, self.flat.values, self.ahead, self.behind
        Wh = v["Wh"]
        cell.project(self.x[: 4 * 32], 0, 4, v)
        cell.forward(0, 4, Wh)
        ahead[0].wait()
        cell.forward(4, 12, Wh)
        ahead[1].wait()
        cell.forward(12, 24, Wh)
        behind[0].send()
        cell.forward(24, 32, Wh)
        self.loss = cell.head(v, self.t)
        cell.slope(24, 32)
        ahead[2].wait()
        cell.backward(32, 22, v, self.turned)
        behind[1].send()
        cell.backward(22, 10, v, self.turned)
        behind[2].send()
        cell.backward(10, 0, v, self.turned)
        self.weights(0, 10, self.partials[1])

    def step(self, batch: Mapping[str, Array]) -> float:
        self.x, self.t = batch["x"].reshape(32 * 32, -1), batch["t"]
        pair().run(self.main, self.beside)
        g = self.flat.grads
        for name in ("Wx", "Wh", "bh"):
            for part in self.partials:
                add(g[name], part[name], g[name])
        self.adam.begin()
        for block in self.updates:
            block()
        return self.loss


def _block(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    part_threads()
    return Threads(Transformer(workload, params, dtype))


def _lenet(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    part_threads()
    return PipelinedLeNet(workload, params, dtype)


def _rnn(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    part_threads()
    return PipelinedRNN(workload, params, dtype)


MAKERS: dict[str, Callable[[Workload, Arrays, str, int], Contestant]] = {"W5": _block, "W6": _lenet, "W7": _rnn}
