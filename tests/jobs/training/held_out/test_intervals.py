"""Intervals of held-out numbers: as wide as groups differ, sound for few, none for fewer."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.training.held_out.intervals import Interval, ratio_interval, share_interval
from jobs.training.held_out.text import interval_text, percent_text


def bounds(found: Interval | None) -> tuple[float, float]:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def width(found: Interval | None) -> float:
    low, high = bounds(found)
    return high - low


def test_an_interval_is_as_wide_as_episodes_differ_not_samples() -> None:
    rng = np.random.default_rng(0)
    episodes = np.repeat(np.arange(10), 50).astype(str)
    values = np.repeat(rng.lognormal(0, 0.5, 10), 50)
    wide = ratio_interval(values, np.ones(500), episodes)
    narrow = ratio_interval(values, np.ones(500), np.arange(500).astype(str))
    assert wide is not None
    assert narrow is not None
    assert wide.value == pytest.approx(narrow.value) == pytest.approx(values.mean())
    assert wide.low < wide.value < wide.high
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)
    assert (wide.pairs, wide.groups) == (500, 10)


def test_a_ratio_is_of_sums_and_leaves_out_what_is_missing() -> None:
    found = ratio_interval(np.array([3.0, np.nan, 5.0]), np.array([1.0, 1.0, 3.0]), np.array(["a", "b", "c"]))
    assert found is not None
    assert (found.value, found.pairs, found.groups) == (2.0, 2, 2)
    assert ratio_interval(np.array([np.nan]), np.array([1.0]), np.array(["a"])) is None


def test_the_draw_of_partners_widens_an_interval_and_more_partners_narrow_it() -> None:
    """Every sample has the same distribution of partners, so that all there is to know is the luck of the draw."""
    rng = np.random.default_rng(1)
    drawn = rng.lognormal(0, 0.5, (400, 8))
    episodes = np.arange(400).astype(str)
    widths = []
    for partners in (2, 8):
        found = ratio_interval(drawn[:, :partners], np.ones(400), episodes)
        assert found is not None
        assert (found.pairs, found.groups) == (400 * partners, 400)
        assert found.value == pytest.approx(drawn[:, :partners].mean())
        # Of a bootstrap over samples alone the width is that of the means: the partners are drawn again on top
        alone = ratio_interval(drawn[:, :partners].mean(axis=1), np.ones(400), episodes)
        assert alone is not None
        assert found.high - found.low > 1.1 * (alone.high - alone.low)
        widths.append(found.high - found.low)
    assert widths[1] < 0.7 * widths[0]


def test_samples_with_fewer_partners_count_as_much() -> None:
    values = np.array([[1.0, 3.0], [5.0, np.nan], [np.nan, np.nan]])
    found = ratio_interval(values, np.array([1.0, 1.0, 1.0]), np.array(["a", "b", "c"]))
    assert found is not None
    assert (found.value, found.pairs, found.groups) == (3.5, 3, 2)


def test_few_groups_have_no_interval_and_say_so() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 4):
        episodes = np.repeat(np.arange(count), 40 // count).astype(str)
        found = ratio_interval(rng.normal(1.5, 0.3, 40), np.ones(40), episodes)
        assert found is not None
        assert (found.low, found.high, found.groups) == (None, None, count)
        assert interval_text(found, "episodes").endswith(f"(fewer than 5: no interval) over 40 pairs, {count} episodes")
    found = share_interval(np.ones(4), np.array(["a", "a", "b", "b"]))
    assert found is not None
    assert percent_text(found) == "100.0 % (fewer than 5: no interval) of 4, 2 scenes"


@pytest.mark.parametrize(("right", "low", "high"), [(1.0, 0.3933, 1.0), (0.0, 0.0, 0.6067), (0.5, 0.1106, 0.8894)])
def test_samples_that_are_all_alike_do_not_make_a_share_certain(right: float, low: float, high: float) -> None:
    """Ten samples of five scenes: as of 5 independent ones, or fewer for the sake of t."""
    found = share_interval(np.full(10, right), np.repeat(np.arange(5), 2).astype(str))
    assert bounds(found) == pytest.approx((low, high), abs=5e-4)
    assert width(share_interval(np.ones(200), np.repeat(np.arange(100), 2).astype(str))) < 0.04


def test_all_ratios_alike_are_one_ratio() -> None:
    assert bounds(ratio_interval(np.full(6, 2.0), np.full(6, 2.0), np.arange(6).astype(str))) == (1, 1)


def test_what_tells_nothing_is_no_group() -> None:
    found = ratio_interval(np.array([2.0, 4.0, 0.0]), np.array([1.0, 1.0, 0.0]), np.array(["a", "b", "c"]))
    assert found is not None
    assert (found.value, found.pairs, found.groups) == (3.0, 2, 2)


def test_a_bound_stays_finite_where_one_group_is_all() -> None:
    low, high = bounds(ratio_interval(np.array([1e9, *[1e-9] * 5]), np.full(6, 1e-12), np.arange(6).astype(str)))
    assert 0 < low < high < np.inf


@pytest.mark.parametrize("groups", [5, 10, 100])
@pytest.mark.parametrize("alike", [True, False])
def test_a_share_lies_in_as_many_intervals_as_are_promised(groups: int, alike: bool) -> None:
    """True share 0.9; the samples of a scene are both right or wrong, or each by itself."""
    rng, hits, names = np.random.default_rng(groups), 0, np.repeat(np.arange(groups), 2).astype(str)
    for _ in range(200):
        right = rng.random(2 * groups) < 0.9
        values = right[:groups].repeat(2) if alike else right
        low, high = bounds(share_interval(values.astype(float), names))
        hits += low <= 0.9 <= high
    assert hits >= 0.92 * 200


@pytest.mark.parametrize("groups", [5, 20])
def test_a_ratio_lies_in_as_many_intervals_as_are_promised(groups: int) -> None:
    rng, hits, names = np.random.default_rng(groups), 0, np.repeat(np.arange(groups), 8)
    for _ in range(200):
        ratio = 1.5 * np.exp(rng.normal(0, 0.2, groups) - 0.02)[names] * np.exp(rng.normal(0, 0.2, len(names)) - 0.02)
        loss = rng.lognormal(0, 0.5, groups)[names]
        low, high = bounds(ratio_interval(loss * ratio, loss, names.astype(str)))
        hits += low <= 1.5 <= high
    assert hits >= 0.9 * 200
