"""Helper processes, which share memory with their parent. A fixed part of a file in the fast style."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgrad.emit.blas import _blas_threads
from symgrad.emit.plans import Arrays, Job
from symgrad.emit.runtime import Array, DataError, TrainingError, _quiet

# <part>
# ---- Processes -------------------------------------------------------------------------------------------

_SPIN = 0.002  # seconds that a process waits busily before it sleeps
_LOOK = 0.2  # seconds after which one that sleeps looks whether the other side is still there
_ROUND, _BEGUN, _ASLEEP, _DONE, _FAULT = range(0, 40, 8)  # counters of a board, each in a cache line of its own
_OWN = 32  # from a worker's _ASLEEP, _DONE and _FAULT to those of the next one
_FAULT_BYTES = 4096

Round = list[list[Job]]  # each worker's jobs


def _shared(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros that helper processes made later share."""
    from mmap import mmap

    size = math.prod(shape)
    memory = mmap(-1, max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


class _Board:
    """What the workers tell each other: counters in shared memory, and a pipe for each to be woken by.

    A counter is written by one side only, so that an interruption leaves it before or after, never in between.
    """

    def __init__(self, count: int, busy: bool) -> None:
        self.spin = _SPIN if busy else 0.0
        self.counters = _shared((_OWN * (count + 1),), np.int64).data
        self.faults = [_shared((_FAULT_BYTES,), np.uint8).data for _ in range(count)]
        self.pipes: list[tuple[int, int]] = []
        try:
            for _ in range(count):
                self.pipes.append(os.pipe())
        except OSError:
            self.close()
            raise
        for end in (end for pipe in self.pipes for end in pipe):
            os.set_blocking(end, False)
        from _thread import allocate_lock

        self.lock = allocate_lock()

    def close(self) -> None:
        for end in (end for pipe in self.pipes for end in pipe):
            os.close(end)

    def order(self) -> None:
        """Make all processors see what was written before ahead of what is written next."""
        with self.lock:
            pass
        with self.lock:
            pass

    def tell(self, place: int, value: int, workers: Sequence[int]) -> None:
        """Set a counter, and wake those of the workers who sleep."""
        from contextlib import suppress

        self.order()
        self.counters[place] = value
        self.order()
        for worker in workers:
            if self.counters[_ASLEEP + _OWN * worker]:
                with suppress(BlockingIOError):  # a pipe that is full will wake it
                    os.write(self.pipes[worker][1], b".")

    def wait(self, place: int, value: int, worker: int, check: Callable[[], None]) -> None:
        """As `worker`, wait until a counter has reached a value; `check` raises if it never will."""
        counters = self.counters
        if counters[place] < value:
            end = time.perf_counter() + self.spin
            while counters[place] < value:
                if time.perf_counter() > end:
                    self._sleep(place, value, worker, check)
        self.order()

    def _sleep(self, place: int, value: int, worker: int, check: Callable[[], None]) -> None:
        from select import POLLIN, poll

        asleep, bell = _ASLEEP + _OWN * worker, self.pipes[worker][0]
        bells = poll()  # unlike `select` it takes any number of open files
        bells.register(bell, POLLIN)
        self.counters[asleep] = 1
        self.order()
        try:
            while self.counters[place] < value:
                if bells.poll(1000 * _LOOK):
                    os.read(bell, 4096)
                else:
                    check()
        finally:
            self.counters[asleep] = 0


class _Processes:
    """Processes that carry out their shares of numbered rounds of jobs. They are copies of this one as it is now."""

    def __init__(self, rounds: Sequence[Round], count: int, busy: bool, inputs: Arrays, others: set[int]) -> None:
        self.owner, self.count = os.getpid(), count
        self.helpers: dict[int, int] = {}  # process -> its number as a worker
        try:
            self._start(rounds, busy, inputs, others)
        except OSError as error:
            fault = f"workers: the system starts no helper process ({error})"
            raise TrainingError(f"{fault}\n  hint: workers='thread'") from error

    def _start(self, rounds: Sequence[Round], busy: bool, inputs: Arrays, others: set[int]) -> None:
        import signal
        from weakref import finalize

        self.board = _Board(self.count, busy)
        self.close = finalize(self, _dismiss, self.owner, self.helpers, self.board)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # helpers leave it to their parent
        try:
            for worker in range(1, self.count):
                if (helper := _fork()) == 0:
                    _help(self.board, worker, self.owner, [shares[worker] for shares in rounds], inputs, others)
                self.helpers[helper] = worker
        except OSError:
            self.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self, number: int, shares: Round, inputs: Arrays) -> None:
        """One round: this process has the first share. The first error of any worker is raised when all are done."""
        board = self.board
        if os.getpid() != self.owner:
            fault = "workers: the helpers belong to the process that made the trainer"
            raise DataError(f"{fault}\n  hint: use a copy of it")
        if not self.close.alive:
            raise ChildProcessError("a helper process has ended\n  hint: go on with a copy of the trainer")
        if any(board.counters[_DONE + _OWN * w] != board.counters[_BEGUN] for w in range(1, self.count)):
            self._finish()  # which was interrupted before it began
        begun = board.counters[_BEGUN] + 1
        board.counters[_ROUND] = number
        try:
            board.tell(_BEGUN, begun, range(1, self.count))
            for job in shares[0]:
                job(inputs)
        finally:
            self._finish()
        for worker in range(1, self.count):
            if board.counters[_FAULT + _OWN * worker] == begun:
                raise _read_fault(board.faults[worker])

    def _finish(self) -> None:
        """Wait for all, also if interrupted meanwhile; then be interrupted."""
        board = self.board
        begun = board.counters[_BEGUN]
        interrupt: KeyboardInterrupt | None = None
        worker = 1
        while worker < self.count:
            try:
                board.wait(_DONE + _OWN * worker, begun, 0, self._check)
                worker += 1
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _check(self) -> None:
        for helper in self.helpers:
            if _has_ended(helper):
                self.close()
                raise ChildProcessError(f"the helper process {helper} has ended")


def _fork() -> int:
    """os.fork; BLAS stops its threads for it, so Python's warning about threads does not apply."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _affinity() -> set[int]:
    """The cores that this thread may use; empty where the system does not tell."""
    try:
        return os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return set()


def _home(cores: set[int]) -> set[int]:
    """The core of the main thread, where that hands work out; programs side by side have different ones."""
    return {sorted(cores)[os.getpid() % len(cores)]} if cores else set()


def _keep_to(cores: set[int]) -> None:
    """Linux tends to wake a worker on the core of the one who wakes it, where it has to wait: each gets its own.

    This is a hint only: nothing is lost but time where the system refuses it.
    """
    if cores:
        from contextlib import suppress

        with suppress(AttributeError, OSError):
            os.sched_setaffinity(0, cores)


def _help(
    board: _Board, worker: int, parent: int, shares: list[list[Job]], inputs: Arrays, cores: set[int]
) -> None:
    """What a helper does until it is dismissed or its parent is gone; never returns."""
    import gc
    import signal

    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.freeze()
        _keep_to(cores)
        if blas := _blas_threads():
            blas[1](1)
        _serve(board, worker, parent, shares, inputs)
    finally:
        os._exit(0)


@_quiet
def _serve(board: _Board, worker: int, parent: int, shares: list[list[Job]], inputs: Arrays) -> None:
    def check() -> None:
        if os.getppid() != parent:
            os._exit(0)

    begun = 0
    while True:
        begun += 1
        board.wait(_BEGUN, begun, worker, check)
        number = board.counters[_ROUND]
        if number < 0:
            return
        try:
            for job in shares[number]:
                job(inputs)
        except BaseException as error:
            _write_fault(board.faults[worker], error)
            board.counters[_FAULT + _OWN * worker] = begun
        board.tell(_DONE + _OWN * worker, begun, [0])


def _write_fault(memory: memoryview, error: BaseException) -> None:
    import pickle

    try:
        text = pickle.dumps(error)
        pickle.loads(text)
    except Exception:  # of a class that cannot be copied
        text = pickle.dumps(RuntimeError(repr(error)))
    if len(text) > _FAULT_BYTES:
        text = pickle.dumps(RuntimeError(repr(error)[: _FAULT_BYTES // 8]))
    memory[: len(text)] = text


def _read_fault(memory: memoryview) -> BaseException:
    import pickle

    error: BaseException = pickle.loads(memory)
    return error


def _has_ended(helper: int) -> bool:
    try:
        return os.waitpid(helper, os.WNOHANG)[0] == helper
    except ChildProcessError:  # somebody else has asked before
        return True


def _dismiss(owner: int, helpers: dict[int, int], board: _Board) -> None:
    """End the helpers, as the process that has made them: those that do not end by themselves are killed."""
    if os.getpid() != owner:
        return
    import signal

    board.counters[_ROUND] = -1
    board.tell(_BEGUN, board.counters[_BEGUN] + 1, list(helpers.values()))
    end = time.perf_counter() + 1
    left = [helper for helper in helpers if not _has_ended(helper)]
    while left and time.perf_counter() < end:
        time.sleep(0.001)
        left = [helper for helper in left if not _has_ended(helper)]
    for helper in left:
        os.kill(helper, signal.SIGKILL)
        os.waitpid(helper, 0)
    board.close()


# </part>
