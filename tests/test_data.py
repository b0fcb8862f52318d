"""The digits: their values, their split, and what is said about where they are from."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from symgrad.data import load_digits, split_digits

FIRST_HELD_OUT = [9, 4, 7, 0, 2, 6, 1, 3, 1, 3, 7, 3]


def test_digits_are_the_images_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    theirs, ours = datasets.load_digits(), load_digits()
    np.testing.assert_array_equal(ours["x"] * 16, theirs.data)
    np.testing.assert_array_equal(ours["t"], theirs.target)


def test_form_of_the_digits() -> None:
    digits = load_digits()
    assert list(digits) == ["x", "t"]
    assert digits["x"].shape == (1797, 64) and digits["x"].dtype == np.float32
    assert digits["t"].shape == (1797,) and digits["t"].dtype == np.int64
    assert digits["x"].min() == 0 and digits["x"].max() == 1
    assert set(digits["t"]) == set(range(10))


def test_the_split_is_one_of_all_images_and_never_changes() -> None:
    digits, (train, held_out) = load_digits(), split_digits()
    assert len(train["t"]) == 1438 and len(held_out["t"]) == 359

    def rows(part: dict[str, np.ndarray]) -> list[bytes]:
        return [x.tobytes() + bytes([t]) for x, t in zip(part["x"], part["t"], strict=True)]

    assert sorted(rows(train) + rows(held_out)) == sorted(rows(digits))
    assert held_out["t"][:12].tolist() == FIRST_HELD_OUT
    assert np.bincount(held_out["t"]).min() >= 25  # every digit is among them


def test_source_and_licence_stand_beside_the_data() -> None:
    folder = resources.files("symgrad.data")
    text = folder.joinpath("digits.txt").read_text(encoding="utf-8")
    for words in ("UCI Machine Learning Repository", "10.24432/C50P49", "CC BY 4.0", "Alpaydin", "Kaynak"):
        assert words in text
    assert len(folder.joinpath("digits.npz").read_bytes()) < 100_000
