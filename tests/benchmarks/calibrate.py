"""`MACHINE` and `WEIGHTS` of `symgrad/machine.py`, measured on this machine: printed as they stand there, to be pasted.

    python tests/benchmarks/calibrate.py [--seconds 0.3] [--only call,element]

Every figure is the least of many repetitions, on one core and with one thread of BLAS; that of a hand-over between
threads is a median. The machine should have nothing else to do. What needs two cores is left out where there is one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from mmap import mmap
from pathlib import Path

for _library in ("OPENBLAS", "MKL", "OMP", "VECLIB"):
    os.environ.setdefault(f"{_library}_{'MAXIMUM' if _library == 'VECLIB' else 'NUM'}_THREADS", "1")

import numpy as np  # noqa: E402

from symgrad.emit import special  # noqa: E402
from symgrad.machine import MACHINE, WEIGHTS, Machine  # noqa: E402

CHEAP = 8192  # elements: in the first level cache
ENOUGH = 0.8  # of the best rate
BESIDE = 1.5  # times what one thread does, from which on two are said to work beside each other
ROWS = fields(Machine)
Array = np.ndarray


def least(work: Callable[[], object], seconds: float) -> float:
    """The least time of a call of `work`, by bursts of about a millisecond."""
    work()
    start = time.perf_counter()
    work()
    count = max(1, int(1e-3 / max(time.perf_counter() - start, 1e-7)))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(count):
            work()
        best = min(best, (time.perf_counter() - start) / count)
    return best


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ---- Single calls --------------------------------------------------------------------------------------------


def call(seconds: float) -> float:
    """The mean of what a program consists of: an elementwise function, a product and a sum."""
    matrix, result, out = normal(1, 1), normal(1, 1), normal(1)
    product = least(lambda: np.dot(matrix, matrix, result), seconds / 3)
    total = least(lambda: np.add.reduce(matrix, 0, None, out), seconds / 3)
    return statistics.mean((elementwise_call(seconds / 3), product, total))


def elementwise_call(seconds: float) -> float:
    a, out = normal(1), normal(1)
    return least(lambda: np.add(a, a, out), seconds)


def element(seconds: float) -> float:
    a, out = normal(CHEAP), normal(CHEAP)
    return (least(lambda: np.add(a, a, out), seconds) - elementwise_call(seconds)) / CHEAP


def transcendental(seconds: float) -> float:
    a, out = np.abs(normal(CHEAP)) + 0.5, normal(CHEAP)
    each = [least(lambda f=f: f(a, out), seconds / 3) for f in (np.exp, np.tanh, np.log)]
    return (statistics.mean(each) - elementwise_call(seconds)) / CHEAP


def short_axis(seconds: float) -> float:
    """The longest axis along which NumPy's sum takes longer than a product with ones does four times."""
    longest = 0
    for length in (4, 8, 16, 32, 64, 128):
        a, ones, out = normal(CHEAP // length, length), np.ones(length, np.float32), normal(CHEAP // length)
        summed = least(lambda a=a, out=out: np.add.reduce(a, 1, None, out), seconds / 12)
        product = least(lambda a=a, ones=ones, out=out: np.dot(a, ones, out), seconds / 12)
        longest = length if summed > 4 * product else longest
    return longest


# ---- Products ------------------------------------------------------------------------------------------------


def product(rows: int, depth: int, columns: int, seconds: float) -> float:
    """Seconds for a multiplication and addition of a product of two matrices."""
    a, b, out = normal(rows, depth), normal(depth, columns), normal(rows, columns)
    return least(lambda: np.dot(a, b, out), seconds) / (rows * depth * columns)


def multiplication(seconds: float) -> float:
    return product(512, 512, 512, seconds)


def busy_rows(width: int, seconds: float) -> float:
    """The fewest rows from which on a product of that width has nearly its best rate."""
    counts = [8, 16, 32, 64, 128, 256, 512]
    rates = {n: 1 / product(n, width, width, seconds / len(counts)) for n in counts}
    slow = [n for n, rate in rates.items() if rate < ENOUGH * max(rates.values())]
    return 2 * max(slow, default=counts[0] // 2)


def small_product(seconds: float) -> float:
    """Where the rate of small products drops, because from there on operands are packed; 0 if it does nowhere."""
    counts = range(96, 545, 32)
    rates = {m * 64 * 64: 1 / product(m, 64, 64, seconds / len(counts)) for m in counts}
    pairs = list(zip(rates.items(), list(rates.items())[1:], strict=False))
    drop, size = max((before[1] / after[1], before[0]) for before, after in pairs)
    return size if drop > 1.08 else 0


def second_level(seconds: float) -> float:
    file = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")  # as in "1024K"
    return int(file.read_text().strip().rstrip("K")) << 10 if file.exists() else MACHINE.second_level


# ---- Threads and processes -----------------------------------------------------------------------------------


def hand_over(seconds: float) -> float:
    """Half the time of a round trip between two threads that wait for locks."""
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()
    alive = True

    def answer() -> None:
        while True:
            ping.acquire()
            if not alive:
                return
            pong.release()

    thread = threading.Thread(target=answer)
    thread.start()
    trips = list(_trips(seconds, lambda: (ping.release(), pong.acquire())))
    alive = False
    ping.release()
    thread.join()
    return statistics.median(trips) / 2


def process_hand_over(seconds: float) -> float:
    """Half the least time of a round trip between two processes that watch counters in shared memory."""
    memory = mmap(-1, 4096)
    counters = memoryview(memory).cast("q")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    helper = os.fork()
    if helper == 0:
        try:
            _keep_to({max(cores, default=0)} & cores)
            _answer(counters)
        finally:
            os._exit(0)

    def trip() -> None:
        counters[0] += 1
        while counters[8] < counters[0]:
            pass

    try:
        _keep_to(cores - {max(cores, default=0)})  # on one core each would wait for the other's turn to end
        return min(_trips(seconds, trip)) / 2
    finally:
        _keep_to(cores)
        counters[0] = -1
        os.waitpid(helper, 0)


def _keep_to(cores: set[int]) -> None:
    """Run on these processors only, where the system lets one choose."""
    if cores:
        os.sched_setaffinity(0, cores)


def _answer(counters: memoryview) -> None:
    """Repeat what the parent writes, until that is negative or the parent gone."""
    parent, seen = os.getppid(), 0
    while os.getppid() == parent and counters[0] >= 0:
        for _ in range(1000):
            if counters[0] > seen:
                seen = counters[8] = counters[0]


def _trips(seconds: float, trip: Callable[[], object]) -> Iterator[float]:
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        trip()
        yield time.perf_counter() - start


def beside(size: int, seconds: float) -> tuple[float, float]:
    """Seconds of an elementwise call on so many elements, and how much more two threads do of it than one."""
    arrays = [(normal(size), normal(size)) for _ in range(2)]
    done: list[int] = []

    def work(a: Array, out: Array) -> None:
        count, end = 0, time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            for _ in range(8):
                np.multiply(a, a, out)
            count += 8
        done.append(count)

    work(*arrays[0])
    alone = done.pop()
    threads = [threading.Thread(target=work, args=pair) for pair in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds / 2 / alone, sum(done) / alone


SIZES = [1 << k for k in range(10, 20)]


def own_call(seconds: float) -> float:
    """The time of the shortest calls that two threads make beside each other."""
    found = [beside(size, seconds / 4) for size in SIZES]
    return next((took for took, gain in found if gain > BESIDE), MACHINE.own_call)


def block(seconds: float) -> float:
    """The least size with which two threads do nearly as much as with the best."""
    found = [beside(size, seconds / 4) for size in SIZES]
    rates = [size * gain / took for size, (took, gain) in zip(SIZES, found, strict=True)]
    return next(n for n, rate in zip(SIZES, rates, strict=True) if rate >= 0.9 * max(rates))


MEASURES: dict[str, Callable[[float], float]] = {
    "call": call,
    "multiplication": multiplication,
    "element": element,
    "transcendental": transcendental,
    "hand_over": hand_over,
    "process_hand_over": process_hand_over,
    "own_call": own_call,
    "block": block,
    "second_level": second_level,
    "small_product": small_product,
    "rows": lambda seconds: busy_rows(512, seconds),
    "large_rows": lambda seconds: busy_rows(1536, seconds),
    "short_axis": short_axis,
}


def weight(name: str, seconds: float) -> float:
    """The time of an elementwise function in products of two arrays, which both stay in the cache."""
    a, b, out = np.abs(normal(CHEAP)) + 0.5, np.abs(normal(CHEAP)) + 0.5, normal(CHEAP)
    mask, zeros = a > b, np.zeros(CHEAP, np.float32)
    works: dict[str, Callable[[], object]] = {
        "power": lambda: np.power(a, b, out),
        "select": lambda: (np.copyto(out, a), np.copyto(out, b, where=mask)),
        "heaviside": lambda: np.heaviside(a, zeros, out),
    }
    function = getattr(np, name, None) or getattr(special, name, None)
    work = works.get(name) or (lambda: function(a, out))
    return least(work, seconds / 2) / least(lambda: np.multiply(a, b, out), seconds / 2)


def possible(name: str) -> bool:
    """Whether this machine has what a constant is about."""
    if name == "process_hand_over" and not hasattr(os, "fork"):
        return False
    return (os.cpu_count() or 1) > 1 or name not in ("hand_over", "process_hand_over", "own_call", "block")


def source(found: dict[str, float | int]) -> str:
    """Both records with what was found, the built-in values beside it."""
    lines = ["MACHINE = Machine("]
    lines += [_line(f"{row.name}=", row.type == "int", found, row.name, getattr(MACHINE, row.name)) for row in ROWS]
    lines += [")", "WEIGHTS = {"]
    lines += [_line(f'"{name}": ', False, found, name, built_in) for name, built_in in WEIGHTS.items()]
    return "\n".join([*lines, "}"])


def _line(label: str, whole: bool, found: dict[str, float | int], name: str, built_in: float) -> str:
    form = "_" if whole else ".2g"
    text = f"    {label}{found.get(name, built_in):{form}},"
    return f"{text:36}# {built_in:{form}}{'' if name in found else ', not measured'}"


def measured(names: Sequence[str], seconds: float) -> dict[str, float | int]:
    kinds = {row.name: row.type for row in ROWS}
    values: dict[str, float | int] = {}
    for name in filter(possible, names):
        value = MEASURES[name](seconds) if name in MEASURES else weight(name, seconds)
        values[name] = int(value) if kinds.get(name) == "int" else value
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each constant (default 0.3)")
    parser.add_argument("--only", metavar="NAMES", help="with commas between them (default: all)")
    options = parser.parse_args()
    known = [*MEASURES, *WEIGHTS]
    names = options.only.split(",") if options.only else known
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no constant {', '.join(unknown)}; there are {', '.join(known)}")
    print(source(measured(names, options.seconds)))


if __name__ == "__main__":
    main()
