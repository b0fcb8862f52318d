"""The other libraries that train these networks, as an expert of each would write the step.

PEERS: name -> make(workload, params, dtype, threads), as workloads.py has it. A peer's library is imported
when its contestant is made. Each contestant is meant for a process of its own: the number of threads is a setting
of the whole process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from peer_forwards import Task
from workloads import ACTIVATIONS, Arrays, Contestant, Workload

Make = Callable[[Workload, Arrays, str, int], Contestant]

CLASSES = {
    "torch": ("peer_torch", "Eager"),
    "torch.compile": ("peer_torch", "Compiled"),
    "jax": ("peer_jax", "Jax"),
    "pytensor": ("peer_pytensor", "PyTensor"),
    "autograd": ("peer_autograd", "Autograd"),
}


class Unsupported(Exception):
    """A peer has no form of this workload that its users would run."""


UNSUPPORTED = {
    ("pytensor", "W6"): "no convolution of batches of images since Theano's was removed",
    ("pytensor", "C1"): "no convolution of batches of images since Theano's was removed",
}


def task_of(workload: Workload) -> Task:
    """The workload as plain data; a perceptron's activation and depth are read off its graph."""
    nodes = dict(workload.graph().nodes(data=True))
    ops = [node["op"] for node in nodes.values()]
    inputs = tuple(name for name in workload.wrt or () if nodes[name]["op"] == "input")
    activation = next((op for op in ops if op in ACTIVATIONS), "")
    return Task(workload.name, workload.optimizer, workload.hyper, activation, ops.count("matmul"), inputs)


def _make(peer: str, workload: Workload, params: Arrays, dtype: str, threads: int) -> Contestant:
    if (peer, workload.name) in UNSUPPORTED:
        raise Unsupported(f"{peer}: {UNSUPPORTED[peer, workload.name]}")
    _set_threads(peer, threads)
    module, name = CLASSES[peer]
    return getattr(import_module(module), name)(task_of(workload), params, dtype)


def _set_threads(peer: str, threads: int) -> None:
    """Before the library starts its threads. JAX takes either one or as many as there are cores."""
    if peer.startswith("torch"):
        import_module("torch").set_num_threads(threads)
    elif peer == "jax" and threads == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    elif peer != "jax":
        _set_blas_threads("scipy" if peer == "pytensor" else "numpy", threads)


def _set_blas_threads(package: str, threads: int) -> None:
    """Tell the OpenBLAS inside NumPy's or SciPy's wheel."""
    libraries = Path(import_module(package).__path__[0]).parent / f"{package}.libs"
    for file in libraries.glob("libscipy_openblas*"):
        library = ctypes.CDLL(str(file))
        for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(threads)


PEERS: dict[str, Make] = {peer: partial(_make, peer) for peer in CLASSES}
