"""What a processor needs for what: the constants that every choice of the compiler rests on.

They are measured by `python tests/benchmarks/calibrate.py`, which prints this table for the machine that it runs on.
The choices are between ways that compute the same, so another machine makes a program slower at worst.
"""

from __future__ import annotations

from dataclasses import dataclass


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


MACHINE = Machine()
UNKNOWN = 64  # what a dimension counts as that is known only when the program runs
