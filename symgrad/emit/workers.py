"""Who carries out a plan: threads or processes, each its own share. A fixed part of a file in the fast style."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad.emit.blas import _with_blas
from symgrad.emit.plans import Allocate, Arrays, Job, Task, _nothing, _Plan
from symgrad.emit.processes import Round, _affinity, _home, _keep_to, _Processes, _shared
from symgrad.emit.runtime import DTYPE, Array, DataError, TrainingError, _aligned, _check_count, _quiet, _rescale

if TYPE_CHECKING:  # what the network's part of a file defines
    SAMPLES: str | None = None
    PARTS: dict[str, tuple[int, int]] = {}
    SCALARS = SCRATCH = 0
    THREADS: int | None = None
    WORKERS = "thread"

    def _bind(
        params: Arrays, grads: Arrays, dims: dict[str, int], parts: int, workers: int, make: Allocate
    ) -> _Plan: ...

    def _bind_update(
        theta: Array, grad: Array, state: Arrays, scalars: Array, scratch: Array
    ) -> Callable[[], None]: ...

    def _scalars(k: int, hyper: dict[str, float]) -> tuple[float, ...]: ...

    def _state_scale(hyper: dict[str, float]) -> list[float]: ...


# <part>
# ---- Workers ---------------------------------------------------------------------------------------------

_BLOCK_BYTES = 1 << 17  # of each vector that the optimizer works on at a time: all of them stay in cache ...
_THREAD_BYTES = 1 << 20  # ... but beside another thread a call must be long enough for that one to get its turn


class _Post:
    """Where a helper thread is given work. Numbers tell what is done, the locks only wake: interruptions do no harm."""

    def __init__(self, cores: set[int]) -> None:
        from _thread import allocate_lock

        self.cores = cores
        self.share: list[Job] | None = []
        self.inputs: Arrays = {}
        self.error: BaseException | None = None
        self.given = self.finished = 0
        self.work, self.rest = allocate_lock(), allocate_lock()
        self.work.acquire()
        self.rest.acquire()

    def give(self, share: list[Job] | None, inputs: Arrays) -> None:
        self.share, self.inputs, self.error = share, inputs, None
        self.given += 1
        _ring(self.work)

    def wait(self) -> None:
        _ring(self.work)  # `give` may have been interrupted
        while self.finished != self.given:
            self.rest.acquire()

    @_quiet
    def serve(self) -> None:
        """What the helper does until it is given None."""
        while True:
            while self.finished == self.given:
                self.work.acquire()
            share, inputs = self.share, self.inputs
            if share is None:
                return
            try:
                _keep_to(self.cores)
                self.cores = set()  # once is enough
                for job in share:
                    job(inputs)
            except BaseException as error:
                self.error = error
            share, inputs, self.share, self.inputs = [], {}, [], {}
            self.finished = self.given
            _ring(self.rest)


def _ring(lock: Any) -> None:
    """Wake the one who waits for a lock. Only this side ever releases it."""
    if lock.locked():
        lock.release()


class _Threads:
    """Threads that carry out their shares of a round of jobs."""

    def __init__(self, others: set[int]) -> None:
        self.posts: list[_Post] = []
        self.owner = os.getpid()
        self.others = others

    def run(self, number: int, shares: Round, inputs: Arrays) -> None:
        """One round: the calling thread has the first share. The first error of any is raised when all are done."""
        if os.getpid() != self.owner or len(self.posts) < len(shares) - 1:
            self._start(len(shares) - 1)
        posts = [post for post, share in zip(self.posts, shares[1:], strict=False) if share]
        for post in posts:
            if post.finished != post.given:  # `_wait` was interrupted before it began
                post.wait()
        try:
            for post, share in zip(self.posts, shares[1:], strict=False):
                if share:
                    post.give(share, inputs)
            for job in shares[0]:
                job(inputs)
        finally:
            _wait(posts)
        for post in posts:
            if post.error is not None:
                raise post.error

    def _start(self, count: int) -> None:
        """Have so many helpers. In a process forked from the one that started them they are missing."""
        from _thread import start_new_thread
        from weakref import finalize

        if os.getpid() != self.owner:
            self.posts, self.owner = [], os.getpid()
        while len(self.posts) < count:
            post = _Post(self.others)
            try:
                start_new_thread(post.serve, ())
            except RuntimeError as error:
                raise TrainingError(f"the system starts no thread ({error})\n  hint: threads=1") from error
            self.posts.append(post)
            finalize(self, post.give, None, {}).atexit = False


def _wait(posts: Sequence[_Post]) -> None:
    """Wait for all, also if interrupted meanwhile; then be interrupted."""
    interrupt: KeyboardInterrupt | None = None
    done = 0
    while done < len(posts):
        try:
            posts[done].wait()
            done += 1
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


class _Optimizer:
    """The update bound to a trainer's vectors. Called with the step's number it computes what the blocks work with."""

    def __init__(self, theta: Array, grad: Array, state: Arrays, scale: list[float], make: Allocate) -> None:
        from struct import Struct

        self.theta, self.grad, self.state, self.scale = theta, grad, state, scale
        self.scalars = make((SCALARS,), DTYPE)
        self.pack = partial(Struct(f"{SCALARS}{np.dtype(DTYPE).char}").pack_into, self.scalars.data, 0)

    def __call__(self, step: int, hyper: dict[str, float]) -> None:
        wanted = _state_scale(hyper)
        if self.scale != wanted:
            _rescale(self.state, self.scale, wanted)
        try:
            self.pack(*_scalars(step, hyper))
        except (OverflowError, ValueError) as error:
            fault = f"the update's numbers are out of range ({error})"
            raise TrainingError(f"{fault}\n  hint: check the hyperparameters") from error

    def blocks(self, first: int, last: int, scratch: Array) -> list[Callable[[], None]]:
        """The update of the elements first to last, in blocks."""
        size = scratch.shape[1]
        return [self._block(start, min(start + size, last), scratch) for start in range(first, last, size)]

    def _block(self, start: int, stop: int, scratch: Array) -> Callable[[], None]:
        state = {name: vector[start:stop] for name, vector in self.state.items()}
        own = scratch[:, : stop - start]
        return _bind_update(self.theta[start:stop], self.grad[start:stop], state, self.scalars, own)


Update = _Optimizer


class _Crew:
    """Who does the work: the calling thread, and threads or processes beside it."""

    def __init__(self, threads: int | None, workers: str | None) -> None:
        threads = THREADS if threads is None else threads
        if workers is None:
            workers = WORKERS if hasattr(os, "fork") else "thread"
        if workers not in ("thread", "process"):
            raise DataError(f"workers: expected 'thread' or 'process', got {workers!r}")
        if workers == "process" and not hasattr(os, "fork"):
            raise DataError("workers: this system cannot fork processes\n  hint: workers='thread'")
        self.threads = None if threads is None else _check_count("threads", threads, 1)
        self.workers = workers
        self.kept = 16 if workers == "process" else 4
        self.make: Allocate = _shared if workers == "process" else _aligned
        cores = _affinity()
        self.others = cores - _home(cores)
        self.helpers = _Threads(self.others)

    def optimizer(self, theta: Array, grad: Array, state: Arrays, scale: list[float]) -> _Optimizer:
        return _Optimizer(theta, grad, state, scale, self.make)

    def bound(
        self, params: Arrays, grads: Arrays, dims: dict[str, int], inputs: Arrays, update: _Optimizer | None = None
    ) -> _Bound:
        """The network with buffers for these inputs, its work divided."""
        parts = _parts(dims, self.workers)
        # The order of summation in BLAS depends on its threads: it has one, however many workers there are. Only where
        # nobody said how many, and the samples are not divided, are BLAS's own threads all that there is to be had.
        blas = None if parts == 1 and self.threads is None else 1
        most = (self.threads or _cores()) if blas else 0
        plan = _bind(params, grads, dims, parts, most, self.make)
        count = min(max(1, most), max(len(plan.tasks), *map(len, plan.whole)))
        return _Bound(plan, count, self, inputs, update, blas)


class _Bound:
    """A plan whose jobs are given to workers."""

    def __init__(
        self, plan: _Plan, count: int, crew: _Crew, inputs: Arrays, update: _Optimizer | None, blas: int | None
    ) -> None:
        self.outputs, self.loss = plan.outputs, plan.loss
        tasks = plan.tasks if update is None else _gapless(plan.tasks, update.theta.size)
        work = [_rounds(phases, count) for phases in (plan.forward, plan.until_loss, plan.whole)]
        threaded = count > 1 and crew.workers == "thread"
        work.append([_assigned(tasks, count, update, _THREAD_BYTES if threaded else _BLOCK_BYTES)])
        copies: Arrays = {}
        team: _Threads | _Processes = crew.helpers
        if crew.workers == "process" and count > 1:
            copies = {name: _shared(array.shape, array.dtype) for name, array in inputs.items()}
            rounds = [one for rounds in work for one in rounds]
            team = _Processes(rounds, count, count <= _cores(), copies, crew.others)
        numbers = iter(range(sum(map(len, work))))
        runs = [_run_of([(next(numbers), one) for one in rounds], team) for rounds in work]
        if copies:  # the tasks find what `whole` has copied
            runs = [_with_copies(copies, run, run is not runs[-1]) for run in runs]
        self.forward, self.until_loss, self.whole, self.tasks = (_with_blas(blas, run) for run in runs)

    def descend(self, inputs: Arrays, update: _Optimizer, step: int, hyper: dict[str, float]) -> None:
        """The tasks, each with the update of what it has completed."""
        update(step, hyper)
        self.tasks(inputs)


def _with_copies(copies: Arrays, run: Job, renewed: bool) -> Job:
    """`run` on copies of the inputs that all workers can read, which are made here if they are to be renewed."""

    def run_copied(inputs: Arrays) -> None:
        if renewed:
            for name, copy in copies.items():
                np.copyto(copy, inputs[name])
        run(copies)

    return run_copied


def _parts(dims: dict[str, int], workers: str) -> int:
    """Into how many parts the samples are divided: the same for any number of workers."""
    least, most = PARTS[workers]
    return 1 if SAMPLES is None else max(1, min(most, dims[SAMPLES] // least))


def _cores() -> int:
    """The processors that this process may use."""
    return len(_affinity()) or os.cpu_count() or 1


def _rounds(phases: list[list[Job]], count: int) -> list[Round]:
    """Phases with job number i given to worker i % count; what one worker does alone is joined."""
    rounds: list[Round] = []
    for phase in phases:
        shares = [[job for job in phase[worker::count] if job is not _nothing] for worker in range(count)]
        if rounds and not any(shares[1:]) and not any(rounds[-1][1:]):
            rounds[-1][0].extend(shares[0])
        else:
            rounds.append(shares)
    return rounds


def _assigned(tasks: list[Task], count: int, update: _Optimizer | None, block: int) -> Round:
    """Each task to the worker that has least to do so far, the longest first; with the update of what it completes.

    block: the bytes of each vector that the optimizer works on at a time.
    """
    shares: Round = [[] for _ in range(count)]
    costs = [0.0] * count
    longest = max((last - first for _, first, last, _ in tasks), default=0)
    size = min(longest, block // np.dtype(DTYPE).itemsize)
    scratch = [_aligned((SCRATCH, size)) for _ in range(count if update else 0)]
    for job, first, last, cost in sorted(tasks, key=lambda task: -task[3]):
        worker = costs.index(min(costs))
        costs[worker] += cost
        blocks = update.blocks(first, last, scratch[worker]) if update else []
        shares[worker].append(_with_updates(job, blocks))
    return shares


def _with_updates(job: Job, blocks: list[Callable[[], None]]) -> Job:
    def run(inputs: Arrays) -> None:
        job(inputs)
        for block in blocks:
            block()

    def update(inputs: Arrays) -> None:
        for block in blocks:
            block()

    return job if not blocks else update if job is _nothing else run


def _gapless(tasks: list[Task], size: int) -> list[Task]:
    """The tasks, and one for each range of the flat vector that none completes: its gradient stays zero."""
    ends = sorted([(first, last) for _, first, last, _ in tasks] + [(size, size)])
    reached, gaps = 0, list[Task]()
    for first, last in ends:
        if first > reached:
            gaps.append((_nothing, reached, first, 0.0))
        reached = max(reached, last)
    return [*tasks, *gaps]


def _run_of(rounds: list[tuple[int, Round]], team: _Threads | _Processes) -> Job:
    """Rounds one after another, those that are for one worker without the others."""
    alone = [job for _, shares in rounds for job in shares[0]]
    if len(alone) == 1 and not any(share for _, shares in rounds for share in shares[1:]):
        return alone[0]

    def run(inputs: Arrays) -> None:
        for number, shares in rounds:
            if any(shares[1:]):
                team.run(number, shares, inputs)
            else:
                for job in shares[0]:
                    job(inputs)

    return _at_home(run) if any(share for _, shares in rounds for share in shares[1:]) else run


def _at_home(run: Job) -> Job:
    """`run` on the home core, unless in another thread than the main one: such threads may run side by side."""
    from _thread import get_native_id

    def run_at_home(inputs: Arrays) -> None:
        cores = _affinity() if get_native_id() == os.getpid() else set()
        try:
            _keep_to(_home(cores))
            run(inputs)
        finally:
            if cores:  # `suppress` and `_keep_to` could be interrupted before they begin
                try:  # noqa: SIM105
                    os.sched_setaffinity(0, cores)
                except (AttributeError, OSError):
                    pass

    return run_at_home


# </part>
