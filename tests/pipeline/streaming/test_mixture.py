"""How builds share batches: exact over time, the same from any step, divisible among ranks."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.streaming.mixture import Mixture

weight_lists = st.lists(st.integers(1, 1000), min_size=1, max_size=6)


@given(weight_lists, st.integers(1, 6), st.sampled_from([1, 2, 4, 8]), st.integers(0, 300))
def test_every_step_is_full_and_divisible(weights: list[int], factor: int, unit: int, step: int) -> None:
    mixture = Mixture(weights, 8 * factor, unit)
    counts = mixture.counts(step)
    assert sum(counts) == 8 * factor
    assert all(count >= 0 and count % mixture.unit == 0 for count in counts)
    assert all(count <= mixture.largest(i) for i, count in enumerate(counts))


@given(weight_lists, st.integers(1, 4))
def test_what_was_taken_is_the_sum_of_what_was_given(weights: list[int], factor: int) -> None:
    mixture = Mixture(weights, 8 * factor, 4)
    total = [0] * len(weights)
    for step in range(40):
        assert mixture.taken(step) == tuple(total)
        total = [a + b for a, b in zip(total, mixture.counts(step), strict=True)]


@given(weight_lists, st.integers(0, 2000))
def test_shares_stay_close_to_the_weights(weights: list[int], step: int) -> None:
    mixture = Mixture(weights, 16, 1)
    for weight, taken in zip(weights, mixture.taken(step), strict=True):
        assert abs(taken - Fraction(weight, sum(weights)) * 16 * step) <= len(weights)


def by_claims(weights: list[int], units: int) -> list[int]:
    """Webster's method unit by unit: the next one to who has the largest w / (2s + 1), the first of equals."""
    had = [0] * len(weights)
    for _ in range(units):
        chosen = max(range(len(weights)), key=lambda i: (Fraction(weights[i], 2 * had[i] + 1), -i))
        had[chosen] += 1
    return had


@given(weight_lists, st.integers(0, 120))
def test_any_step_is_reached_directly(weights: list[int], units: int) -> None:
    assert list(Mixture(weights, 1, 1).taken(units)) == (by_claims(weights, units) if len(weights) > 1 else [units])


def test_only_the_ratios_of_weights_count() -> None:
    steps = range(50)
    assert [Mixture([0.1, 0.3], 8, 1).counts(s) for s in steps] == [Mixture([1, 3], 8, 1).counts(s) for s in steps]


def test_equal_weights_alternate() -> None:
    assert [Mixture([1, 1], 8, 8).counts(step) for step in range(4)] == [(8, 0), (0, 8), (8, 0), (0, 8)]
    assert [Mixture([1, 1], 8, 4).counts(step) for step in range(2)] == [(4, 4), (4, 4)]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match="global batch of 6 cannot be divided among 4 ranks"):
        Mixture([1], 6).check_ranks(4)
    with pytest.raises(SettingsError, match="in units of 8 samples, which 16 ranks cannot divide"):
        Mixture([1, 1], 64, 8).check_ranks(16)
    Mixture([1], 64, 8).check_ranks(16)  # a build alone has no units
    with pytest.raises(SettingsError, match="weights must be one number above 0"):
        Mixture([1, 0], 8)
    with pytest.raises(SettingsError, match="mixture_unit must be at least 1"):
        Mixture([1], 8, 0)
