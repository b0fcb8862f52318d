"""C1 by hand in plain NumPy: two 3 x 3 convolutions, the second with stride 2, average pooling, batch last.

As in `plain_blocks`' LeNet only columns are copied for a convolution, and the taps of one output row are adjacent
rows. The calls are long enough for a lane of half the batch on each thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from plain import Adam, aligned, cross_entropy, set_blas_threads
from plain_blocks import Lanes, Threads
from plain_tools import Flat, part_threads, view
from workloads import Array, Arrays, Contestant, Workload

add, multiply, maximum, greater = np.add, np.multiply, np.maximum, np.greater
dot, matmul, copyto = np.dot, np.matmul, np.copyto

NAMES = ("K1", "c1", "K2", "c2", "W1", "b1", "W2", "b2")


class Images:
    """A lane of n images. rows1[h, q, c, w, n] and rows2[h, q, c, w, n] hold columns w + q and 2w + q of padded row h.

    The pool adds up; its quarter is part of the second kernels. `wide` has what the gradients of dense layers need of
    both lanes, one sample a row for deltas and one a column for values.
    """

    def __init__(self, n: int, index: int, total: int, values: Arrays, wide: Arrays, dtype: Any) -> None:
        new = partial(aligned, dtype=dtype)
        self.n, self.v = n, values
        one, two = 32 * n, 8 * n
        self.image, self.rows1 = new((34, 3, 34, n)), new((34, 3, 3, 32, n))
        self.columns1 = view(self.image, (34, 3, 3, 32, n), (102 * n, n, 34 * n, n, 1))
        self.taps1 = view(self.rows1, (32, 27, one), (9 * one, one, 1))
        self.y1, self.sums, self.mask = new((32, 16, one)), new((32, 16, 1)), np.zeros((32, 16, one), bool)
        self.pairs, self.padded = new((16, 16, 16, 2, n)), new((18, 16, 18, n))
        self.pooled = self.padded[1:17, :, 1:17]
        self.rows2 = new((18, 3, 16, 8, n))
        self.columns2 = view(self.padded, (18, 3, 16, 8, n), (288 * n, n, 18 * n, 2 * n, 1))
        self.taps2 = view(self.rows2, (8, 144, two), (2 * 48 * two, two, 1))
        self.y2, self.turned = new((8, 32, two)), new((8, two, 32))
        self.dtaps, self.dpadded = new((8, 3, 3, 16, 8, n)), new((18, 16, 18, n))
        self.kernel1, self.kernel2 = new((16, 27)), new((32, 144))
        self.parts1, self.parts2 = new((32, 16, 27)), new((8, 144, 32))
        self.ones = np.ones((one, 1), dtype)
        mine = slice(index * n, (index + 1) * n)
        self.f, self.g1 = wide["f"][:, mine], wide["g1"][:, mine]
        self.e1, self.e2 = wide["e1"][mine], wide["e2"][mine]
        self.z1, self.z2, self.df = new((64, n)), new((10, n)), new((2048, n))
        self.over, self.positive = np.zeros((64, n), bool), np.zeros((2048, n), bool)
        self.loss = cross_entropy(self.z2, total)
        self.zero = np.zeros((1, 1, one), dtype)
        self.bias = {name: values[name].reshape(-1, 1) for name in ("c1", "c2", "b1", "b2")}

    def run(self, x: Array, t: Array, grads: Arrays) -> float:
        self.forward(x)
        loss = self.dense(t)
        self.backward(grads)
        return loss

    def forward(self, x: Array) -> None:
        v, y1, zero = self.v, self.y1, self.zero
        copyto(self.kernel1.reshape(16, 3, 3, 3), v["K1"].transpose(0, 2, 3, 1))
        multiply(v["K2"].transpose(0, 2, 3, 1), 0.25, self.kernel2.reshape(32, 3, 3, 16))
        copyto(self.image[1:33, :, 1:33], x.transpose(2, 1, 3, 0))
        copyto(self.rows1, self.columns1)
        matmul(self.kernel1, self.taps1, y1)
        add(y1, self.bias["c1"], y1)
        maximum(y1, zero, out=y1)
        greater(y1, zero, self.mask)
        y = y1.reshape(16, 2, 16, 16, 2, self.n)
        add(y[:, 0], y[:, 1], self.pairs)
        add(self.pairs[:, :, :, 0], self.pairs[:, :, :, 1], self.pooled)
        copyto(self.rows2, self.columns2)
        matmul(self.kernel2, self.taps2, self.y2)
        add(self.y2, self.bias["c2"], self.y2)
        values, n = self.f.reshape(32, 8, 8, self.n), self.n
        maximum(self.y2.reshape(8, 32, 8, n).transpose(1, 0, 2, 3), self.zero[0, 0, :n], out=values)

    def dense(self, t: Array) -> float:
        v, bias, z1, z2, zero = self.v, self.bias, self.z1, self.z2, self.zero[0, :, : self.n]
        matmul(v["W1"].T, self.f, z1)
        add(z1, bias["b1"], z1)
        maximum(z1, zero, out=self.g1)
        matmul(v["W2"].T, self.g1, z2)
        add(z2, bias["b2"], z2)
        loss = self.loss(t)
        copyto(self.e2, z2.T)
        dot(v["W2"], z2, z1)
        greater(self.g1, zero, self.over)
        multiply(z1, self.over, z1)
        copyto(self.e1, z1.T)
        dot(v["W1"], z1, self.df)
        return loss

    def backward(self, g: Arrays) -> None:
        n, y2 = self.n, self.y2.reshape(8, 32, 8, self.n)
        greater(self.f, self.zero[0, 0, : self.n], self.positive)
        multiply(self.df, self.positive, self.df)
        copyto(y2, self.df.reshape(32, 8, 8, n).transpose(1, 0, 2, 3))
        copyto(self.turned, self.y2.transpose(0, 2, 1))
        add.reduce(y2, (0, 2, 3), None, g["c2"].reshape(-1))
        matmul(self.taps2, self.turned, self.parts2)
        total = add.reduce(self.parts2, 0).reshape(3, 3, 16, 32)
        multiply(total.transpose(3, 2, 0, 1), 0.25, g["K2"])
        matmul(self.kernel2.T, self.y2, self.dtaps.reshape(8, 144, 8 * n))
        self._add_taps()
        dy1 = self.y1.reshape(16, 2, 16, 16, 2, n)
        dp = self.dpadded[1:17, :, 1:17]
        multiply(dp[:, None, :, :, None], self.mask.reshape(dy1.shape), dy1)
        matmul(self.y1, self.ones, self.sums)
        add.reduce(self.sums, (0, 2), None, g["c1"].reshape(-1))
        matmul(self.y1, self.taps1.transpose(0, 2, 1), self.parts1)
        copyto(g["K1"], add.reduce(self.parts1, 0).reshape(16, 3, 3, 3).transpose(0, 3, 1, 2))

    def _add_taps(self) -> None:
        """The second convolution's adjoint: rows first, then columns, even and odd ones each from their taps."""
        d, out = self.dtaps, self.dpadded
        rows = self.rows2  # their values are not needed any more
        copyto(rows[0:16:2], d[:, 0])
        copyto(rows[1:17:2], d[:, 1])
        rows[16] = 0
        add(rows[2:18:2], d[:, 2], rows[2:18:2])
        left, middle, right = (rows[:, q] for q in range(3))
        copyto(out[:, :, 0:16:2], left)
        copyto(out[:, :, 1:17:2], middle)
        out[:, :, 16] = 0
        add(out[:, :, 2:18:2], right, out[:, :, 2:18:2])


class ConvNet(Lanes):
    """Two lanes with kernels' gradients of their own; each thread makes half of the dense layer's and its update."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        batch, self.data = 48, {}
        self.losses = aligned(2, "float64")
        self.flat = flat = Flat(params, NAMES, dtype, aligned)
        self.adam = Adam(flat.vector, workload.hyper, 1 << 16)
        shapes = {"f": (2048, batch), "g1": (64, batch), "e1": (batch, 64), "e2": (batch, 10)}
        self.wide = wide = {name: aligned(shape, dtype) for name, shape in shapes.items()}
        self.ones = np.ones(batch, dtype)
        self.lanes = [Images(batch // 2, k, batch, flat.values, wide, dtype) for k in range(2)]
        kernels = slice(0, flat.starts["W1"])
        others = aligned(flat.vector.size, dtype)
        self.grads = (flat.grads, flat.views(others))
        self.kernels = (flat.gradient[kernels], others[kernels])
        start, middle = flat.starts["W1"], flat.starts["W1"] + 1024 * 64
        parts = ((0, start), (start, middle)), ((middle, flat.vector.size),)
        self.updates = [[u for a, b in part for u in self.adam.blocks(a, flat.gradient[a:b])] for part in parts]
        self.phases = [(partial(f, 0), partial(f, 1)) for f in (self.run, self.update)]

    def run(self, index: int) -> None:
        x, t = (self.data[name][24 * index : 24 * index + 24] for name in "xt")
        self.losses[index] = self.lanes[index].run(x, t, self.grads[index])

    def update(self, index: int) -> None:
        wide, g, (mine, other) = self.wide, self.flat.grads, self.kernels
        half = slice(1024 * index, 1024 * index + 1024)
        dot(wide["f"][half], wide["e1"], g["W1"][half])
        if index:
            dot(wide["g1"], wide["e2"], g["W2"])
            dot(self.ones, wide["e1"], g["b1"])
            dot(self.ones, wide["e2"], g["b2"])
        else:
            add(mine, other, mine)
        for block in self.updates[index]:
            block()


def _convnet(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    part_threads()
    return Threads(ConvNet(workload, params, dtype))


MAKERS: dict[str, Callable[[Workload, Arrays, str, int], Contestant]] = {"C1": _convnet}
