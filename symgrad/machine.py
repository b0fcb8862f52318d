"""What a processor needs for what: the constants that every choice of the compiler rests on.

`python tests/benchmarks/calibrate.py` measures what is in `Machine` and `WEIGHTS` on the machine that it runs on and
prints it as it stands here; `Limits` rest on timings of whole steps. An emitted file has a copy of those that it needs.
All choices are between ways that compute the same: another machine makes a program slower at worst.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer


@dataclass(frozen=True)
class Machine:
    """Times in seconds, sizes in bytes or elements; of one core, for float32 unless said.

    Attributes:
        call: of a NumPy function, apart from what it computes.
        multiplication: a multiplication and an addition in a large matrix product.
        element: one element of a cheap elementwise function in the cache; transcendental: of exp, tanh or log.
        hand_over: until another thread goes on; process_hand_over: until another process, which waits busily, does.
        own_call: the least time of a call beside which another thread gets its turn.
        block: elements that a call should have where several threads make such calls.
        second_level: size of the second level cache.
        small_product: multiplications up to which BLAS multiplies without packing.
        rows: of a matrix product that keep a core busy; large_rows: where the other operand leaves the cache.
        short_axis: elements of an axis up to which NumPy's reductions along it are slow.
    """

    call: float = 5e-7
    multiplication: float = 1.9e-11
    element: float = 1.2e-10
    transcendental: float = 4.5e-10
    hand_over: float = 1.3e-5
    process_hand_over: float = 1e-6
    own_call: float = 9e-6
    block: int = 1 << 17
    second_level: int = 1 << 20
    small_product: int = 1_000_000
    rows: int = 64
    large_rows: int = 128
    short_axis: int = 32


@dataclass(frozen=True)
class Limits:
    """Where one way of computing overtakes another; found by timing both, on W1 to W8 of `tests/benchmarks`."""

    # Tasks and phases
    update: int = 90  # multiplications that the update of a parameter takes as long as
    task: int = 8_000_000  # multiplications that are worth a hand-over to another worker
    phases: int = 12  # of a step, at most: each is a hand-over
    parts: int = 8  # of the samples, at most, in a network of matrix products
    # Sums over samples in parts: elements of the result
    small_sum: int = 4096  # whatever is summed
    large_sum: int = 1 << 17  # of a product in which each sample has ...
    long_sum: int = 8  # ... so many terms
    # Products in blocks
    large_product: int = 2_000_000  # multiplications, with `UNKNOWN` samples, from which on a product has blocks
    product_columns: int = 64  # of a block
    product_panel: int = 450_000  # bytes of the right operand that a block reads, at most
    block_terms: int = 512  # of a sum in blocks, at least
    block_columns: int = 16  # of a convolution's product in blocks, at least
    # Sums before products
    saved: int = 1 << 20  # multiplications that leaving out a product has to save, at least ...
    left: float = 0.9  # ... and the share of those there were that may be left
    # Windows
    filters: int = 11  # computed for all places of a pooling window at once; with more a plain product is as fast
    border: float = 0.5  # rows of zeros around what windows slide over, for each row there is, at most
    transposed_result: int = 1200  # elements of a small product up to which a transposed right operand is not packed
    neighbours: int = 16  # elements of a window that is written out as single views
    written_parts: int = 64  # assignments that take the place of one scatter, at most
    # Copies and calls
    spread: int = 1 << 14  # elements of a result into which an operand that is repeated is copied first, at most
    reads_apart: int = 2  # reads of elements that lie apart that cost less than a copy
    maps: int = 4  # equal elementwise calls that are worth another array to be one
    stacked: int = 4  # parts of an input that are worth a copy of it to be one product
    # Elementwise: passes over an array, one for each call
    shared: float = 1.5  # that a part has to cost for an array to be kept for it ...
    held: float = 0.9  # ... and where an equation holds its value anyway
    refit_gain: float = 0.9  # that splitting a body elsewhere has to save
    pull_gain: float = 0.5  # that pulling a factor out of a sum has to save
    # Optimizer: bytes of each vector in a block
    optimizer_block: int = 1 << 17  # of one worker: all vectors stay in the cache
    optimizer_thread: int = 1 << 20  # beside other threads, which get their turn only during long calls


MACHINE = Machine()
LIMITS = Limits()
UNKNOWN = 64  # what a dimension counts as that is known only when the program runs
WEIGHTS = {  # of elementwise functions, in products of two arrays that stay in the cache
    "exp": 3.5,
    "tanh": 3.0,
    "log": 3.0,
    "log1p": 5.0,
    "expm1": 8.0,
    "sqrt": 2.5,
    "sin": 8.0,
    "cos": 8.0,
    "tan": 12.0,
    "sinh": 12.0,
    "cosh": 12.0,
    "arctan": 12.0,
    "power": 30.0,
    "_erf": 40.0,
    "_erfc": 40.0,
    "select": 6.0,
    "heaviside": 4.0,
}


def estimate(size: Expr) -> int:
    """A size to reckon with: every dimension that is not known yet counts as `UNKNOWN`."""
    return int(size.xreplace(dict.fromkeys(size.free_symbols, Integer(UNKNOWN))))
