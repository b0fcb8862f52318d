"""The larger networks with a helper process: W5, W6 and W7, half of the batch in each process.

No interpreter lock is shared, so that short calls cost what they cost on one thread, and W6 and W7 can be split by
images and sequences as W5 is. `ENVIRONMENT` is empty: OpenBLAS's other kernels have none for small products.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from best import Helper, shared
from plain import Adam, aligned, set_blas_threads
from plain_blocks import RNN_NAMES, Lanes, LeNet, Recurrence, Transformer
from plain_tools import Flat
from workloads import Array, Arrays, Contestant, Workload

ENVIRONMENT: dict[str, dict[str, str]] = {}


class Processes:
    """Runs the lanes in two processes; the batch is copied to where both see it."""

    def __init__(self, model: Lanes, dtype: str, **shapes: tuple[int, ...]) -> None:
        model.data = {name: shared(shape, np.int64 if name == "t" else dtype) for name, shape in shapes.items()}
        self.model, self.helper, self.parameters = model, Helper(model), model.parameters

    def step(self, batch: Mapping[str, Array]) -> float:
        model, run = self.model, self.helper.run
        for name, array in model.data.items():
            np.copyto(array, batch[name])
        model.adam.begin()
        for mine, _ in model.phases:
            run(mine)
        return float(model.losses[0] + model.losses[1])


class SplitLeNet(LeNet):
    """A process for each lane of images; the first one makes the update."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        super().__init__(workload, params, dtype, shared)
        lane = self.lanes[1]
        self.parts = [lane.dmerged, lane.dkernel2, lane.dc1, lane.dc2]
        self.sent = [shared(part.shape, dtype) for part in self.parts]
        self.phases = [(partial(self.run, 0), partial(self.run, 1)), (self.first, self.second)]

    def run(self, index: int) -> None:
        lane = self.lanes[index]
        mine = slice(index * lane.n, (index + 1) * lane.n)
        lane.kernels()
        lane.start(self.data["x"][mine])
        lane.conv1(lane.merged)
        lane.middle()
        lane.conv2(lane.kernel2, 0, 10)
        self.losses[index] = lane.end(self.data["t"][mine])
        lane.adjoint2(lane.reversed2, 0, 14)
        lane.gradient2()
        lane.back()
        lane.gradient1()
        if index:
            for part, place in zip(self.parts, self.sent, strict=True):
                np.copyto(place, part)

    def first(self) -> None:
        self.finish(self.sent)
        self.dense(slice(0, 2))

    def second(self) -> None:
        self.dense(slice(2, 4))
        self.smaller()


class UpdatedLeNet(Processes):
    """After the phases, momentum."""

    def step(self, batch: Mapping[str, Array]) -> float:
        loss = super().step(batch)
        self.model.adam.run()
        return loss


class SplitRNN(Lanes):
    """A process for half of the sequences, with a gradient of its own; each updates half of the parameters."""

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        self.losses = shared(2, "float64")
        self.flat = flat = Flat(params, RNN_NAMES, dtype, shared)
        self.adam = Adam(flat.vector, workload.hyper, 32768)
        self.cells = [Recurrence(32, 16, 128, 32, dtype, aligned) for _ in range(2)]
        self.turned, self.ones = aligned((128, 128), dtype), np.ones(32 * 16, dtype)
        others = shared(flat.vector.size, dtype)
        self.grads = (flat.grads, flat.views(others))
        cut, end = flat.vector.size // 32 * 16, flat.vector.size
        halves = (slice(0, cut), slice(cut, end))
        self.sums = [(flat.gradient[s], others[s]) for s in halves]
        self.updates = [self.adam.blocks(s.start, flat.gradient[s]) for s in halves]
        self.phases = [(partial(f, 0), partial(f, 1)) for f in (self.run, self.update)]

    def run(self, index: int) -> None:
        cell, v, g = self.cells[index], self.flat.values, self.grads[index]
        x, t = self.data["x"][:, index], self.data["t"][index * 16 : (index + 1) * 16]
        rows = self.rows = np.ascontiguousarray(x).reshape(32 * 16, -1)
        np.copyto(self.turned, v["Wh"].T)
        cell.project(rows, 0, 32, v)
        cell.forward(0, 32, v["Wh"])
        self.losses[index] = cell.head(v, t)
        np.dot(cell.last.T, cell.logits.T, g["Wy"])
        np.add.reduce(cell.logits, 1, None, g["by"])
        cell.slope(0, 32)
        cell.backward(32, 0, v, self.turned)
        deltas = cell.deltas.reshape(-1, 128)
        np.dot(cell.states.reshape(-1, 128)[: 32 * 16].T, deltas, g["Wh"])
        np.dot(rows.T, deltas, g["Wx"])
        np.dot(self.ones, deltas, g["bh"])

    def update(self, index: int) -> None:
        mine, other = self.sums[index]
        np.add(mine, other, mine)
        for block in self.updates[index]:
            block()


class HalvedRNN(Processes):
    """Takes the sequences as two halves."""

    def step(self, batch: Mapping[str, Array]) -> float:
        return super().step({"x": batch["x"].reshape(32, 2, 16, 64), "t": batch["t"]})


def _block(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return Processes(Transformer(workload, params, dtype, shared), dtype, x=(8, 64, 128), y=(8, 64, 128))


def _lenet(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return UpdatedLeNet(SplitLeNet(workload, params, dtype), dtype, x=(64, 1, 28, 28), t=(64,))


def _rnn(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(1)
    return HalvedRNN(SplitRNN(workload, params, dtype), dtype, x=(32, 2, 16, 64), t=(32,))


MAKERS = {"W5": _block, "W6": _lenet, "W7": _rnn}
