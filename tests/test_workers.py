"""Threads and processes that share a step: the same numbers for any number of them, errors, interruptions, endings."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from symgrad.emit import blas
from symgrad.emit.module import fixed_part
from symgrad.emit.program import load_module
from symgrad.emit.update import update_lines
from symgrad.optimizers import OPTIMIZERS

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Logistic regression in rows: each part of the samples by itself, then the parts' gradients added up in order.
NETWORK = """
DTYPE = np.float64
INPUTS = {"x": ("float", ("N", 6)), "t": ("int64", ("N",))}
FORWARD_INPUTS = ("x",)
OUTPUTS = ("z",)
PARAMETERS = {"w": (6,), "frozen": (3,), "b": ()}
GRADIENTS = {"w": (6,), "b": ()}
INITIALISERS = {"w": ("normal", 0.3), "frozen": ("ones",), "b": ("zeros",)}
RANGES = {"t": (0, 2)}
BATCH = "N"
HYPERPARAMETERS = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
STATE = ("m", "v")
OPTIMIZER = "adamw"
NETWORK = "logistic"
DIM_EXPRESSIONS = {}
SAMPLES = "N"
DIVIDED = {"x": 0, "t": 0}
PARTS = {"thread": (8, 4), "process": (4, 8)}
EVIL = []

def _bind(params, grads, dims, parts, workers, make):
    n = dims["N"]
    z, d, loss = make((n,), DTYPE), make((n,), DTYPE), make((), DTYPE)
    losses, dw, db = make((parts,), DTYPE), make((parts, 6), DTYPE), make((parts,), DTYPE)

    def rows(part, start, stop, own):
        def forward(inputs):
            for evil in EVIL:
                evil(part, workers)
            np.dot(inputs["x"], params["w"], z[start:stop])
            np.add(z[start:stop], params["b"], z[start:stop])

        def until_loss(inputs):
            losses[part] = np.logaddexp(0, np.where(inputs["t"], -1, 1) * z[start:stop]).sum()

        def backward(inputs):
            np.subtract(1 / (1 + np.exp(-z[start:stop])), inputs["t"], d[start:stop])
            np.dot(d[start:stop], inputs["x"], dw[part])
            db[part] = d[start:stop].sum()

        return forward, until_loss, backward

    def total(inputs):
        loss[...] = losses.sum() / n

    def weights(inputs):
        np.divide(np.add.reduce(dw), n, grads["w"])

    def bias(inputs):
        grads["b"][...] = db.sum() / n

    phases = [rows, (_nothing, total, _nothing)]
    return _plan(n, parts, workers, make, phases, [(bias, 9, 10, 1.0), (weights, 0, 6, 6.0)], (z,), loss)

"""


@pytest.fixture(scope="module")
def program() -> ModuleType:
    update = "\n".join(update_lines(OPTIMIZERS["adamw"], "fast"))
    before, rest = fixed_part(True).split("# <network>\n")
    return load_module(before + NETWORK + update + "\n\n" + rest.split("# </network>\n")[1], "workers")


@pytest.fixture(autouse=True)
def harmless(program: ModuleType) -> Iterator[None]:
    yield
    program.EVIL.clear()
    gc.collect()


def batch(size: int = 50, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(size, 6)), "t": rng.integers(0, 2, size)}


def made(program: ModuleType, **settings: Any) -> Any:
    return program.Trainer(program.init_params(3), **settings)


def children() -> set[int]:
    """The processes that this one has forked and not yet reaped."""
    found = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {int(line.split()[0]) for line in found.stdout.splitlines() if "ps" not in line.split()[1:]}


KINDS = ["thread", pytest.param("process", marks=posix)]


# ---- Numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", KINDS)
def test_the_numbers_do_not_depend_on_the_number_of_workers(program: ModuleType, workers: str) -> None:
    states = []
    for threads in (1, 2, 3, 5, None):
        own = made(program, threads=threads, workers=workers)
        losses = [own.step(**batch(size, size)) for size in (50, 31, 50, 3, 50)]
        losses += own.fit(batch(70), epochs=2, batch_size=32, validation=batch(9))["val_loss"]
        states.append((losses, own.loss(**batch(40)), own.predict(x=batch(40)["x"]).tolist(), own._theta.tolist()))
    assert states[1:] == states[:-1]
    assert states[0][0][0] != states[0][0][-1]


def test_a_plan_is_what_the_closed_form_is(program: ModuleType) -> None:
    data, params = batch(), program.init_params(3)
    z = data["x"] @ params["w"] + params["b"]
    loss, grads = program.loss_and_grads(params, **data)
    assert loss == pytest.approx(np.logaddexp(0, np.where(data["t"], -1, 1) * z).mean(), rel=1e-12)
    residual = (1 / (1 + np.exp(-z)) - data["t"]) / 50
    np.testing.assert_allclose(grads["w"], residual @ data["x"], rtol=1e-12)
    assert float(grads["b"]) == pytest.approx(residual.sum(), rel=1e-12)
    assert program.loss_fn(params, **data) == loss
    np.testing.assert_allclose(program.forward(params, **data), z, rtol=1e-12)


@pytest.mark.parametrize("workers", KINDS)
def test_parameters_without_a_gradient_decay_as_in_the_readable_style(program: ModuleType, workers: str) -> None:
    own = made(program, threads=2, workers=workers, lr=0.5, weight_decay=0.5)
    for _ in range(2):
        own.step(**batch())
    np.testing.assert_allclose(own.params["frozen"], 0.75**2, rtol=1e-14)


@pytest.mark.parametrize("workers", KINDS)
def test_copies_go_on_by_themselves(program: ModuleType, workers: str) -> None:
    own = made(program, threads=2, workers=workers)
    own.step(**batch())
    twin = copy.deepcopy(own)
    assert (twin._crew.threads, twin._crew.workers) == (2, workers)
    assert pickle.dumps(own.__getstate__()) == pickle.dumps(twin.__getstate__())
    assert own.step(**batch()) == twin.step(**batch())
    own.step(**batch())
    assert not np.array_equal(own._theta, twin._theta)


# ---- State that is kept scaled -------------------------------------------------------------------------------


def test_hyperparameters_may_change_between_steps(program: ModuleType) -> None:
    """The state goes on as the table says, whatever it is multiplied by as it is kept."""
    own = made(program)
    m, v = np.zeros(10), np.zeros(10)
    for k, (beta1, beta2) in enumerate([(0.9, 0.999), (0.5, 0.999), (0.5, 0.9), (0.9, 0.99)], 1):
        own.hyper |= {"beta1": beta1, "beta2": beta2}
        before, data = own._theta.copy(), batch(20, k)
        own.step(**data)
        m, v = beta1 * m + (1 - beta1) * own._grad, beta2 * v + (1 - beta2) * own._grad**2
        step = 0.01 * (m / (1 - beta1**k)) / (np.sqrt(v / (1 - beta2**k)) + 1e-8)
        np.testing.assert_allclose(own._theta, before - 0.01 * 0.01 * before - step, rtol=1e-12, atol=1e-14)


def test_resume_is_exact_and_a_file_says_that_the_state_is_scaled(program: ModuleType, tmp_path: Path) -> None:
    straight = made(program, seed=2)
    straight.fit(batch(), epochs=2, batch_size=8)
    straight.save(tmp_path / "half")
    resumed = program.Trainer.load(tmp_path / "half", threads=2)
    for own in (straight, resumed):
        own.fit(batch(), epochs=2, batch_size=8)
    assert pickle.dumps(straight.__getstate__()) == pickle.dumps(resumed.__getstate__())
    with np.load(tmp_path / "half") as file:
        assert {"scaled state/m", "scaled state/v"} < set(file)


def test_a_file_may_be_read_in_the_other_style(program: ModuleType, tmp_path: Path) -> None:
    tables = NETWORK.split("SAMPLES")[0]
    bind = """
def _bind(params, grads, dims):
    def forward(inputs):
        return (inputs["x"] @ params["w"] + params["b"],)
    def loss(inputs):
        return np.logaddexp(0, np.where(inputs["t"], -1, 1) * forward(inputs)[0]).mean()
    def backward(inputs):
        d = (1 / (1 + np.exp(-forward(inputs)[0])) - inputs["t"]) / dims["N"]
        grads["w"][...], grads["b"][...] = d @ inputs["x"], d.sum()
    return forward, loss, backward
"""
    update = "\n".join(update_lines(OPTIMIZERS["adamw"], "readable"))
    before, rest = fixed_part(False).split("# <network>\n")
    plain = load_module(before + tables + bind + update + "\n\n" + rest.split("# </network>\n")[1], "plain")
    for source, target in ((program, plain), (plain, program)):
        first = source.Trainer(source.init_params(1))
        first.fit(batch(), epochs=2)
        first.save(tmp_path / "file")
        second = target.Trainer.load(tmp_path / "file")
        for _ in range(3):
            assert second.step(**batch()) == pytest.approx(first.step(**batch()), rel=1e-12)
        np.testing.assert_allclose(second._theta, first._theta, rtol=1e-12)


def test_a_state_that_would_take_nothing_is_named_and_stays(program: ModuleType) -> None:
    own, other = made(program), made(program)
    for one in (own, other):
        one.step(**batch())
    own.hyper["beta2"] = 1.0
    for act in (lambda: own.step(**batch()), lambda: copy.copy(own)):
        with pytest.raises(program.TrainingError, match="state 'v' would take nothing from the gradient"):
            act()
    own.hyper["beta2"] = other.hyper["beta2"]
    assert [own.step(**batch()) for _ in range(3)] == [other.step(**batch()) for _ in range(3)]


def test_hyperparameters_that_give_no_numbers_are_named(program: ModuleType) -> None:
    own = made(program)
    own.step(**batch())
    before = own._theta.copy()
    for change in ({"beta1": 1.0}, {"beta1": 0.9, "beta2": -3.0}):
        own.hyper |= change
        with pytest.raises(program.TrainingError, match="check the hyperparameters"):
            own.step(**batch())
        assert np.array_equal(own._theta, before)
    own.hyper |= {"beta2": 0.999}
    own.step(**batch())
    assert own.steps == 2


# ---- Errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("part", [0, 1])
def test_an_error_of_any_worker_is_raised_and_the_next_step_works(
    program: ModuleType, workers: str, part: int, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()

    def evil(at: int, _: int) -> None:
        if at == part and flag.exists():
            raise MemoryError("no room", part)

    program.EVIL.append(evil)
    own, other = made(program, threads=2, workers=workers), made(program, threads=1, workers=workers)
    with pytest.raises(MemoryError, match="no room") as caught:
        own.step(**batch())
    assert caught.value.args == ("no room", part)
    flag.unlink()
    assert [own.step(**batch()) for _ in range(3)] == [other.step(**batch()) for _ in range(3)]


@posix
def test_an_error_that_cannot_be_copied_is_told(program: ModuleType) -> None:
    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("x" * 9999)

    def evil(part: int, _: int) -> None:
        if part == 1:
            raise Odd(1, 2)

    program.EVIL.append(evil)
    with pytest.raises(RuntimeError, match="Odd"):
        made(program, threads=2, workers="process").step(**batch())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads: expected a whole number of at least 1, got 0"),
        ({"threads": 1.5}, "threads: expected a whole number of at least 1, got 1.5"),
        ({"threads": True}, "threads: expected a whole number of at least 1, got True"),
        ({"seed": "a"}, "seed: expected a whole number of at least 0, got 'a'"),
        ({"workers": "fibre"}, "workers: expected 'thread' or 'process', got 'fibre'"),
    ],
)
def test_settings_are_checked(program: ModuleType, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(program.DataError, match=message):
        made(program, **settings)


def test_processes_need_a_system_that_forks(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork", raising=False)
    with pytest.raises(program.DataError, match="cannot fork processes\n  hint: workers='thread'"):
        made(program, workers="process")


@pytest.mark.parametrize("workers", KINDS)
def test_an_interrupt_waits_for_all_and_the_next_step_works(program: ModuleType, workers: str) -> None:
    def slow(part: int, _: int) -> None:
        time.sleep(0.03)

    program.EVIL.append(slow)
    own = made(program, threads=2, workers=workers)
    own.step(**batch())
    for delay in (0.001, 0.01, 0.035, 0.05):
        signal.setitimer(signal.ITIMER_REAL, delay)
        previous = signal.signal(signal.SIGALRM, lambda *_: signal.default_int_handler(signal.SIGINT, None))
        try:
            with pytest.raises(KeyboardInterrupt):
                for _ in range(100):
                    own.loss(**batch())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    assert own.loss(**batch()) == program.loss_fn(own.params, **batch()) or workers == "process"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be kept to cores here")
@pytest.mark.parametrize("workers", KINDS)
def test_an_interrupt_while_pinning_leaves_the_cores_as_they_were(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    own, before, pin = made(program, threads=2, workers=workers), os.sched_getaffinity(0), program._keep_to
    own.step(**batch())

    def interrupted(cores: set[int]) -> None:
        pin(cores)
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_keep_to", interrupted)
    with pytest.raises(KeyboardInterrupt):
        own.step(**batch())
    assert os.sched_getaffinity(0) == before


def test_a_thread_beside_the_main_one_is_not_pinned(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    own, pinned = made(program, threads=2), list[set[int]]()
    own.step(**batch())
    monkeypatch.setattr(program, "_keep_to", pinned.append)
    thread = threading.Thread(target=own.step, kwargs=batch())
    thread.start()
    thread.join(20)
    assert own.steps == 2 and not any(pinned)


def _refused(*_: Any) -> Any:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("name", ["sched_setaffinity", "sched_getaffinity"])
@pytest.mark.parametrize("how", ["refused", "absent"])
def test_cores_are_a_hint_only(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, workers: str, name: str, how: str
) -> None:
    expected = made(program, threads=1, workers=workers).step(**batch())
    if how == "absent":
        monkeypatch.delattr(os, name, raising=False)
    else:
        monkeypatch.setattr(os, name, _refused, raising=False)
    assert made(program, threads=2, workers=workers).step(**batch()) == expected


def test_an_error_before_the_first_job_of_a_helper_is_raised(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(cores: set[int]) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("no room")

    monkeypatch.setattr(program, "_keep_to", fails)
    with pytest.raises(MemoryError, match="no room"):
        made(program, threads=2).step(**batch())


@posix
@pytest.mark.parametrize(("name", "error"), [("fork", BlockingIOError), ("pipe", OSError)])
def test_helpers_that_the_system_does_not_start(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, error: type[OSError]
) -> None:
    def fails() -> Any:
        raise error(24, "too many")

    own = made(program, threads=2, workers="process")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(program.TrainingError, match=r"starts no helper process .*\n  hint: workers='thread'"):
            own.step(**batch())
    assert np.isfinite(own.step(**batch()))


@posix
def test_helpers_do_not_mind_many_open_files(program: ModuleType) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 1200:
        pytest.skip("so many files cannot be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1200), limits[1]))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        own = made(program, threads=2, workers="process")
        own.step(**batch())
        time.sleep(0.05)  # the helper falls asleep
        assert np.isfinite(own.step(**batch()))
    finally:
        for file in held:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("workers", KINDS)
def test_threads_that_share_a_trainer_take_turns(program: ModuleType, workers: str) -> None:
    own, alone = made(program, threads=2, workers=workers), made(program, threads=1, workers=workers)
    expected = [alone.step(**batch()) for _ in range(60)]
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda: found.extend([own.step(**batch()) for _ in range(20)]), daemon=True)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == sorted(expected) and own.steps == 60


@posix
def test_helpers_for_many_shapes_are_kept(program: ModuleType) -> None:
    own = made(program, threads=2, workers="process")
    for size in range(30, 40):
        own.step(**batch(size))
    before = children()
    for size in range(30, 40):
        own.step(**batch(size))
    assert children() == before


# ---- Endings ---------------------------------------------------------------------------------------------------


@posix
def test_helpers_end_with_their_trainer(program: ModuleType) -> None:
    before = children()
    own = made(program, threads=3, workers="process")
    for size in (40, 50):
        own.step(**batch(size))
    helpers = children() - before
    assert len(helpers) == 4
    del own
    gc.collect()
    assert not helpers & children()


@posix
def test_few_helpers_are_kept(program: ModuleType) -> None:
    before = children()
    own = made(program, threads=2, workers="process")
    for size in range(30, 50):
        own.step(**batch(size))
    gc.collect()
    assert len(children() - before) <= own._crew.kept


@posix
def test_a_helper_that_is_gone_is_told(program: ModuleType) -> None:
    before = children()
    own = made(program, threads=2, workers="process")
    own.step(**batch())
    (helper,) = children() - before
    os.kill(helper, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="has ended"):
        own.step(**batch())
    with pytest.raises(ChildProcessError, match="go on with a copy"):
        own.step(**batch())
    twin = copy.copy(own)
    assert np.isfinite(twin.step(**batch()))


@posix
@pytest.mark.parametrize("how", ["kill", "exit", "interrupt"])
def test_no_helper_outlives_its_parent(program: ModuleType, tmp_path: Path, how: str) -> None:
    update = "\n".join(update_lines(OPTIMIZERS["adamw"], "fast"))
    before, rest = fixed_part(True).split("# <network>\n")
    text = before + NETWORK + update + "\n\n" + rest.split("# </network>\n")[1]
    (tmp_path / "logistic.py").write_text(text, encoding="utf-8")
    script = (
        "import logistic, numpy as np, sys, time\n"
        "own = logistic.Trainer(logistic.init_params(0), threads=2, workers='process')\n"
        "data = {'x': np.ones((50, 6)), 't': np.zeros(50, int)}\n"
        "own.step(**data)\n"
        "(team,) = [c for c in __import__('gc').get_objects() if type(c).__name__ == '_Processes']\n"
        "print(*team.helpers, flush=True)\n"
        + ("" if how == "exit" else "while True:\n    own.step(**data)\n")
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    helper = int(process.stdout.readline())
    if how != "exit":
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    process.wait(timeout=20)
    end = time.monotonic() + 10
    while Path(f"/proc/{helper}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{helper}").exists()


@posix
def test_a_forked_process_has_threads_of_its_own(program: ModuleType) -> None:
    own = made(program, threads=2)
    expected = own.loss(**batch())
    if (child := os.fork()) == 0:
        os._exit(0 if own.loss(**batch()) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


# ---- BLAS and memory -------------------------------------------------------------------------------------------


def test_blas_has_one_thread_beside_workers_and_gets_its_own_back(program: ModuleType) -> None:
    found = blas._find_blas()
    if found is None:
        pytest.skip("the BLAS library has no setter that is known")
    read, write, _ = found
    seen: list[int] = []
    program.EVIL.append(lambda part, workers: seen.append(read()))
    before = read()
    write(2)
    try:
        made(program, threads=2).step(**batch(50))
        assert set(seen) == {1}
        assert read() == 2
        seen.clear()
        made(program).step(**batch(3))  # one part: BLAS is left alone
        assert set(seen) == {2}
        seen.clear()
        made(program, threads=1).step(**batch(3))
        assert set(seen) == {1}
        assert read() == 2
    finally:
        write(before)


def test_without_a_known_blas_it_just_runs(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = made(program, threads=2).step(**batch())
    monkeypatch.setattr(program, "_BLAS", [None])
    assert made(program, threads=2).step(**batch()) == expected


def test_without_ctypes_it_just_runs(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = made(program, threads=2).step(**batch())
    monkeypatch.setattr(program, "_BLAS", [])
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert made(program, threads=2).step(**batch()) == expected


def test_an_interrupt_while_blas_is_set_leaves_its_threads(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, threads = made(program, threads=1), [7]

    def write(count: int) -> None:
        threads[0] = count
        if count == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(program, "_BLAS", [program._Blas(lambda: threads[0], write, None)])
    with pytest.raises(KeyboardInterrupt):
        own.step(**batch())
    assert threads == [7]


def test_steps_keep_nothing(program: ModuleType) -> None:
    own, data = made(program, threads=1), batch()
    for _ in range(5):
        own.step(**data)
    tracemalloc.start()
    try:
        own.step(**data)
        gc.collect()  # it also empties Python's lists of free objects
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            own.step(**data)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 2048
    finally:
        tracemalloc.stop()
