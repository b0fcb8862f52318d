"""A gated recurrent network (G1) and a mixture of experts (M1) by hand in plain NumPy.

Their calls are too short for two Python threads: one thread, and BLAS's own two for the products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from plain import Action, Adam, aligned, cross_entropy, scalar, set_blas_threads
from plain_tools import Flat, view
from workloads import Array, Arrays, Contestant, Workload

add, subtract, multiply, divide, maximum = np.add, np.subtract, np.multiply, np.divide, np.maximum
dot, matmul, vecdot, exp, tanh, copyto, greater = np.dot, np.matmul, np.vecdot, np.exp, np.tanh, np.copyto, np.greater


# ---- G1: a gated recurrent unit ---------------------------------------------------------------------------------

GATES = "zrn"


class GRU:
    """Time first; the gates side by side, so that a step has one product and the first two one sigmoid.

    What the backward step multiplies by is computed for all times at once. The sigmoid's tanh takes half of its
    argument: the weights of the first two gates are halved beforehand.
    """

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        self.times, self.count, _ = workload.data(np.random.default_rng(0), dtype)["x"].shape
        self.width = width = params["Uz"].shape[0]
        stacked = {k: np.concatenate([params[k + gate] for gate in GATES], -1) for k in "WUb"}
        stacked |= {k: params[k] for k in ("Wy", "by")}
        self.flat = flat = Flat(stacked, stacked, dtype, aligned)
        self.adam = Adam(flat.vector, workload.hyper, 1 << 15)
        self.updates = self.adam.blocks(0, flat.gradient)
        new = partial(aligned, dtype=dtype)
        shape = (self.times, self.count)
        self.halved = {k: new(flat.values[k].shape) for k in "WUb"}
        self.factors = np.repeat(np.array([0.5, 0.5, 1], dtype), width)
        self.projected, self.mixed = new((*shape, 3 * width)), new((*shape, 3 * width))
        self.states, self.slopes = new((self.times + 1, self.count, width)), new((*shape, 4, width))
        self.gates, self.news, self.scratch = new((*shape, 2, width)), new((*shape, width)), new((*shape, width))
        self.deltas = new((*shape, 4, width))  # by z, r, the state's part of the last gate, all of the last gate
        self.dh, self.a, self.b = (new((self.count, width)) for _ in range(3))
        self.turned, self.logits = new((3 * width, width)), new((params["by"].size, self.count))
        self.cost, self.ones = cross_entropy(self.logits, self.count), np.ones(self.times * self.count, dtype)
        self.half, self.one = scalar(0.5, dtype), scalar(1, dtype)
        self.steps = [self._step(k) for k in range(self.times)]
        self.steps_back = [self._step_back(k) for k in reversed(range(self.times))]

    def _step(self, k: int) -> Action:
        """From h = 0, so that the first one has no product."""
        width, half, U = self.width, self.half, self.halved["U"]
        h, following, p, z, n = self.states[k], self.states[k + 1], self.projected[k], self.mixed[k], self.news[k]
        gates = self.gates[k].reshape(self.count, -1)
        inputs, new_input = p[:, : 2 * width], p[:, 2 * width :]
        states, m = z[:, : 2 * width], z[:, 2 * width :]
        update, reset = gates[:, :width], gates[:, width:]

        def run() -> None:
            if k:
                dot(h, U, z)
            add(states, inputs, gates)
            tanh(gates, gates)
            multiply(gates, half, gates)
            add(gates, half, gates)
            multiply(reset, m, n)
            add(n, new_input, n)
            tanh(n, n)
            subtract(h, n, following)
            multiply(following, update, following)
            add(following, n, following)

        return run

    def _step_back(self, k: int) -> Action:
        dh, a, b, turned = self.dh, self.a, self.b, self.turned
        update, d = self.gates[k][:, 0], self.deltas[k]
        dz, others, slope, slopes = d[:, 0], d[:, 1:], self.slopes[k][:, 0], self.slopes[k][:, 1:]
        a3, rows = a[:, None], d.reshape(self.count, -1)[:, : 3 * self.width]

        def run() -> None:
            multiply(dh, update, b)
            subtract(dh, b, a)
            multiply(slope, b, dz)
            multiply(slopes, a3, others)
            if k:
                dot(rows, turned, dh)
                add(dh, b, dh)

        return run

    def project(self, x: Array) -> None:
        v, rows = self.flat.values, self.projected.reshape(-1, 3 * self.width)
        for name, halved in self.halved.items():
            multiply(v[name], self.factors, halved)
        dot(x, self.halved["W"], rows)
        add(rows, self.halved["b"], rows)

    def prepare(self) -> None:
        """What the deltas are multiplied by: (h - n)(1 - z), and (1 - n²) times r (1 - r) m, r, 1."""
        one, n, m = self.one, self.news, self.mixed[:, :, 2 * self.width :]
        update, reset = self.gates[:, :, 0], self.gates[:, :, 1]
        by_z, by_r, by_m, by_n = (self.slopes[:, :, j] for j in range(4))
        subtract(self.states[:-1], n, self.scratch)
        subtract(one, update, by_z)
        multiply(by_z, self.scratch, by_z)
        multiply(n, n, by_n)
        subtract(one, by_n, by_n)
        multiply(by_n, reset, by_m)
        subtract(one, reset, by_r)
        multiply(by_r, m, by_r)
        multiply(by_r, by_m, by_r)

    def head(self, t: Array) -> float:
        v, g, last = self.flat.values, self.flat.grads, self.states[-1]
        dot(v["Wy"].T, last.T, self.logits)
        add(self.logits, v["by"][:, None], self.logits)
        loss = self.cost(t)
        dot(last.T, self.logits.T, g["Wy"])
        add.reduce(self.logits, 1, None, g["by"])
        dot(self.logits.T, v["Wy"].T, self.dh)
        return loss

    def finish(self, x: Array) -> None:
        """The gradients by W, b and U."""
        width, g = self.width, self.flat.grads
        rows = self.deltas.reshape(-1, 4 * width)
        for start, end, skipped in ((0, 2 * width, 0), (2 * width, 3 * width, width)):
            part = rows[:, start + skipped : end + skipped]
            matmul(x.T, part, g["W"][:, start:end])
            matmul(self.ones, part, g["b"][start:end])
        matmul(self.states[1:-1].reshape(-1, width).T, rows[self.count :, : 3 * width], g["U"])

    def step(self, batch: Mapping[str, Array]) -> float:
        x = batch["x"].reshape(self.times * self.count, -1)
        self.project(x)
        for step in self.steps:
            step()
        loss = self.head(batch["t"])
        self.prepare()
        copyto(self.turned, self.flat.values["U"].T)
        for step in self.steps_back:
            step()
        self.finish(x)
        self.adam.begin()
        for update in self.updates:
            update()
        return loss

    def parameters(self) -> Arrays:
        made = self.flat.copies()
        parts = {k: np.split(made.pop(k), 3, -1) for k in "WUb"}
        return made | {k + gate: part for k, split in parts.items() for gate, part in zip(GATES, split, strict=True)}


# ---- M1: a mixture of experts -------------------------------------------------------------------------------------


class Experts:
    """All experts and the gate in one product; hidden units times their gates, and the gates, in another.

    The gates stand beside the units because the last layers' biases are multiplied by them too.
    """

    def __init__(self, workload: Workload, params: Arrays, dtype: str) -> None:
        batch = len(workload.data(np.random.default_rng(0), dtype)["x"])
        self.inputs, self.hidden = params["Wh0"].shape
        self.experts, classes = params["bg"].size, params["bo0"].size
        wide = self.experts * self.hidden
        new = partial(aligned, dtype=dtype)
        names = [*(f"h{k}" for k in range(self.experts)), "g"]
        first = np.concatenate([np.vstack([params["W" + k], params["b" + k]]) for k in names], 1)
        last = np.vstack([params[f"{kind}o{k}"] for kind in "Wb" for k in range(self.experts)])
        self.flat = flat = Flat({"first": first, "last": last}, ("first", "last"), dtype, aligned)
        self.adam = Adam(flat.vector, workload.hyper, 1 << 17)
        self.X, self.D = new((batch, self.inputs + 1)), new((batch, wide + self.experts))
        self.H, self.mixed = new((batch, wide)), new((batch, wide + self.experts))
        self.X[:, -1] = 1
        self.delta = new((batch, classes))
        self.updates = self.adam.blocks(0, flat.gradient)
        self.samples = self._samples()

    def _samples(self) -> Callable[[Mapping[str, Array]], float]:
        """Forward, loss and deltas."""
        wide, v, dtype = self.experts * self.hidden, self.flat.values, self.flat.vector.dtype
        X, D, H, mixed, delta = self.X, self.D, self.H, self.mixed, self.delta
        count, x, gates = len(X), X[:, :-1], mixed[:, wide:]
        split, strides = (count, self.experts, self.hidden), (self.hidden, 1)
        units, deltas, weighed = (view(a, split, (a.shape[1], *strides)) for a in (H, D, mixed))
        logits, top = aligned((delta.shape[1], count), dtype), aligned(count, dtype)
        g, s, b = (aligned((self.experts, count), dtype) for _ in range(3))
        mask, zeros = np.zeros((count, wide), bool), np.zeros((count, wide), dtype)
        cost, hidden_deltas, gate_deltas = cross_entropy(logits, count), D[:, :wide], D[:, wide:]

        def run(data: Mapping[str, Array]) -> float:
            copyto(x, data["x"])
            dot(X, v["first"], D)
            maximum(hidden_deltas, zeros, out=H)
            copyto(g, gate_deltas.T)
            maximum.reduce(g, 0, None, top)
            subtract(g, top, g)
            exp(g, g)
            add.reduce(g, 0, None, top)
            divide(g, top, g)
            copyto(gates, g.T)
            multiply(units, gates[:, :, None], weighed)
            dot(v["last"].T, mixed.T, logits)
            loss = cost(data["t"])
            copyto(delta, logits.T)
            dot(delta, v["last"].T, D)
            vecdot(deltas, units, out=s.T)
            add(s, gate_deltas.T, s)
            multiply(s, g, s)
            add.reduce(s, 0, None, top)
            multiply(g, top, b)
            subtract(s, b, s)
            multiply(deltas, gates[:, :, None], deltas)
            greater(H, zeros, mask)
            multiply(hidden_deltas, mask, hidden_deltas)
            copyto(gate_deltas, s.T)
            return loss

        return run

    def step(self, batch: Mapping[str, Array]) -> float:
        loss, g = self.samples(batch), self.flat.grads
        dot(self.X.T, self.D, g["first"])
        dot(self.mixed.T, self.delta, g["last"])
        self.adam.begin()
        for update in self.updates:
            update()
        return loss

    def parameters(self) -> Arrays:
        made = self.flat.copies()
        first = np.split(made["first"], [(k + 1) * self.hidden for k in range(self.experts)], 1)
        names = [*(f"h{k}" for k in range(self.experts)), "g"]
        found = {"W" + name: a[:-1] for name, a in zip(names, first, strict=True)}
        found |= {"b" + name: a[-1] for name, a in zip(names, first, strict=True)}
        wide = self.experts * self.hidden
        for k, weights in enumerate(np.split(made["last"][:wide], self.experts)):
            found |= {f"Wo{k}": weights, f"bo{k}": made["last"][wide + k]}
        return found


def _gru(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(threads)
    return GRU(workload, params, dtype)


def _experts(workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    set_blas_threads(threads)
    return Experts(workload, params, dtype)


MAKERS: dict[str, Callable[[Workload, Arrays, str, int], Contestant]] = {"G1": _gru, "M1": _experts}
