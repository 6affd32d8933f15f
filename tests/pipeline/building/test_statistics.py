"""Streamed statistics equal those of all values at once, however the values are cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.building.statistics import ordered_bits, summarise
from tests.pipeline.audit.tiny_build import summary

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def cut(values: np.ndarray, places: list[int]) -> list[np.ndarray]:
    return np.split(values, sorted(place % (len(values) + 1) for place in places))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_equal_to_exact_fractions_however_cut(rows: list[tuple[float, float]], places: list[int]) -> None:
    values = np.array(rows, np.float32)
    assert summarise(lambda: cut(values, places)) == summary(values)


def test_the_order_of_the_values_does_not_matter() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 7)).astype(np.float32)
    shuffled = np.random.default_rng(1).permutation(values)
    assert summarise(lambda: np.split(values, 10)) == summarise(lambda: [shuffled])


def test_quantiles_are_exact_order_statistics() -> None:
    values = np.random.default_rng(1).permutation(np.arange(-5000, 5001)).astype(np.float32)[:, None]
    found = summarise(lambda: np.array_split(values, 7))
    assert found is not None
    assert (found["q01"], found["q99"]) == ([-4900.0], [4900.0])


def test_no_values() -> None:
    assert summarise(list) is None
    assert summarise(lambda: [np.zeros((0, 3), np.float32)]) is None


@pytest.mark.parametrize("special", [0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38])
def test_bits_sort_as_values(special: float) -> None:
    values = np.array([special, *np.random.default_rng(2).normal(size=200)], np.float32)
    np.testing.assert_array_equal(values[np.argsort(ordered_bits(values), kind="stable")], np.sort(values))
