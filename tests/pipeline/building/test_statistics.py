"""Streamed statistics equal those of all values at once, however the values are cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.building.statistics import ordered_bits, summarise

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def cut(values: np.ndarray, places: list[int]) -> list[np.ndarray]:
    return np.split(values, sorted(place % (len(values) + 1) for place in places))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_equal_to_numpy_however_cut(rows: list[tuple[float, float]], places: list[int]) -> None:
    values = np.array(rows, np.float32)
    found = summarise(lambda: cut(values, places))
    assert found is not None
    wide = values.astype(np.float64)
    scale = np.abs(wide).max(axis=0) + 1e-300
    expected = {"min": wide.min(axis=0), "max": wide.max(axis=0), "mean": wide.mean(axis=0), "std": wide.std(axis=0)}
    expected |= {"q01": np.quantile(wide, 0.01, axis=0), "q99": np.quantile(wide, 0.99, axis=0)}
    assert found["count"] == len(values)
    for name, value in expected.items():
        assert (np.abs(np.array(found[name]) - value) <= 1e-12 * scale).all(), name


def test_same_chunks_same_bits() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 7)).astype(np.float32)
    assert summarise(lambda: np.split(values, 10)) == summarise(lambda: iter(np.split(values, 10)))


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
