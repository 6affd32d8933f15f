"""Differences of successes: their value, and what their interval is of."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.demos.pretraining.differences import difference


def test_a_difference_is_of_shares() -> None:
    one, other = np.zeros((2, 8), bool), np.zeros((2, 8), bool)
    one[:, :6], other[:, 4:6] = True, True
    found = difference(one, other)
    assert found.value == pytest.approx(4 / 8)
    assert -1 <= found.low < found.value < found.high <= 1
    back = difference(other, one)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert found.text.startswith("+50.0 (+")


def test_what_is_always_so_has_no_interval() -> None:
    same = difference(np.ones((3, 8), bool), np.zeros((3, 8), bool))
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))
    assert same.text == "+100.0 (the same in all cases: no interval)"


def test_seeds_that_disagree_make_it_wide() -> None:
    rng = np.random.default_rng(0)
    scenes = 100
    other = rng.random((2, 2 * scenes)) < 0.3
    alike = np.where(rng.random(other.shape) < 0.3, True, other)
    disagreeing = alike.copy()
    disagreeing[0], disagreeing[1] = True, other[1]
    widths = [found.high - found.low for found in (difference(alike, other), difference(disagreeing, other))]
    assert widths[1] > 3 * widths[0]


def test_the_two_cases_of_a_scene_count_as_one_draw() -> None:
    rng = np.random.default_rng(1)
    scene = rng.random((1, 50)) < 0.5
    tied, free = scene.repeat(2, axis=1), rng.random((1, 100)) < 0.5
    widths = [found.high - found.low for found in (difference(each, np.zeros_like(each)) for each in (tied, free))]
    assert widths[0] > 1.2 * widths[1]


@pytest.mark.parametrize("shape", [(2, 8), (1, 6)])
def test_other_seeds_or_cases_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="same seeds and whole scenes"):
        difference(np.zeros((1, 8), bool), np.zeros(shape, bool))
