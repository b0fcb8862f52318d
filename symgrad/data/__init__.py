"""The data that come with symgrad: 1,797 images of handwritten digits.

They are the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI
Machine Learning Repository, https://doi.org/10.24432/C50P49, under the licence CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/). `digits.txt` beside this file says what was changed.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


def load_digits() -> Arrays:
    """The images and their labels, in the order of the original.

    Returns a dict: "x", float32 (1797, 64), the rows of each 8 x 8 image one after the other, from 0 (paper)
    to 1 (ink); "t", int64 (1797,), the digits 0 to 9.
    """
    path = resources.files(__name__).joinpath("digits.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {"x": stored["x"].astype(np.float32) / np.float32(16), "t": stored["t"].astype(np.int64)}


def split_digits() -> tuple[Arrays, Arrays]:
    """The digits in two parts: 1,438 to train on, and the 359 held out that accuracies are measured on.

    The parts never change: the images are put in the order of `np.random.RandomState(0).permutation(1797)`,
    whose numbers are the same in every version of NumPy, and the last fifth of them is held out.
    """
    digits = load_digits()
    total = len(digits["t"])
    order = np.random.RandomState(0).permutation(total)
    kept = total - total // 5
    train, held_out = ({name: a[rows] for name, a in digits.items()} for rows in (order[:kept], order[kept:]))
    return train, held_out
