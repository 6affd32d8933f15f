"""int8 latents: the arithmetic, and whole builds of them beside float16 ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pipeline.format.build import Build
from pipeline.format.build_settings import LatentSettings
from pipeline.format.schema import Batch, Targets
from pipeline.shards.int8 import add_errors, dequantise, float_targets, quantise, quantise_windows, relative_errors
from pipeline.streaming.reader import SampleReader

ANY_FLOAT16 = arrays.arrays(
    np.float16,
    arrays.array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=16),
)


@given(ANY_FLOAT16)
def test_a_value_is_off_by_half_a_scale_at_most(latents: NDArray[np.float16]) -> None:
    values, scale = quantise(latents)
    gap = np.abs(latents.astype(np.float64) - values * scale[..., None].astype(np.float64))
    assert (gap <= scale[..., None] * (0.5 + 1e-4)).all()  # the division is rounded to float32


@given(ANY_FLOAT16)
def test_the_largest_value_of_a_token_is_127_unless_all_are_zero(latents: NDArray[np.float16]) -> None:
    values, scale = quantise(latents)
    assert values.min() >= -127
    assert np.isfinite(scale).all()
    assert not np.signbit(scale).any()
    largest = np.abs(values.astype(int)).max(axis=-1)
    assert np.array_equal(largest, np.where(scale > 0, 127, 0))
    assert np.array_equal(scale == 0, ~latents.any(axis=-1))


NORMAL_FLOAT16 = arrays.arrays(
    np.float16,
    arrays.array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.floats(0.0625, 1000, width=16) | st.floats(-1000, -0.0625, width=16),
)


@given(NORMAL_FLOAT16)
def test_quantising_twice_changes_nothing(latents: NDArray[np.float16]) -> None:
    values, scale = quantise(latents)
    exact = values * scale[..., None]
    again, same = quantise(exact)
    assert np.array_equal(again, values)
    np.testing.assert_allclose(same, scale, rtol=2**-22)
    assert np.array_equal(quantise(dequantise(values, scale))[0], values)


@given(ANY_FLOAT16)
def test_tokens_do_not_know_of_each_other(latents: NDArray[np.float16]) -> None:
    values, scale = quantise(latents)
    alone = [quantise(token) for token in latents]
    assert np.array_equal(values, np.stack([v for v, _ in alone]))
    assert np.array_equal(scale, np.stack([s for _, s in alone]))


def test_halves_go_to_the_even_neighbour() -> None:
    values, scale = quantise(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))
    assert scale.tolist() == [1.0]
    assert values.tolist() == [[127, 0, 2, 2, 0, -2]]


def test_the_largest_float16_survives() -> None:
    values, scale = quantise(np.array([[65504, -65504, 1]], np.float16))
    assert dequantise(values, scale).tolist() == [[65504, -65504, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_int8_cannot_express_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"NaN or infinity.*check the encoder"):
        quantise(np.array([[1, value]], np.float16))


def test_errors_are_those_of_all_windows_by_step() -> None:
    latents = np.random.default_rng(0).standard_normal((5, 3, 2, 4, 16)).astype(np.float16)
    latents[3:, 2] = 0
    values, scale, _ = quantise_windows(latents)
    parts = [quantise_windows(part)[2] for part in (latents[:2], latents[2:])]
    exact = latents.astype(np.float64)
    gap = exact - dequantise(values, scale)
    wanted = np.sqrt((gap**2).sum(axis=(0, 2, 3, 4)) / (exact**2).sum(axis=(0, 2, 3, 4)))
    np.testing.assert_allclose(relative_errors(add_errors(parts)), wanted, rtol=1e-5)
    assert (wanted > 0.002).all()
    assert relative_errors(((0.0, 0.0),)) == [0.0]
    assert add_errors([]) == ()


def test_settings_name_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="dtype must be one of float16, int8, got 'int4'"):
        LatentSettings(dtype="int4")


@pytest.mark.slow
def test_a_build_is_read_as_plain_arrow_has_it(int8_build: Build) -> None:
    batch = _all(int8_build)
    shard = next(s for s in int8_build.manifest["shards"] if s["split"] == "train")
    table = pa.ipc.open_file(str(int8_build.path / shard["targets"]["file"])).read_all()
    for name, kind in (("context", np.int8), ("context_scale", np.float32), ("latents_scale", np.float32)):
        stored = np.concatenate([chunk.to_numpy_ndarray() for chunk in table.column(name).chunks])
        found = getattr(batch.targets, name)
        assert found.dtype == stored.dtype == kind
        assert np.array_equal(found[: len(stored)], stored)


def test_a_build_holds_the_float16_latents_quantised(int8_build: Build, robot_build: Build) -> None:
    stored, exact = _all(int8_build).targets, _all(robot_build).targets
    for name in ("context", "latents"):
        values, scale = quantise(getattr(exact, name))
        assert np.array_equal(getattr(stored, name), values)
        assert np.array_equal(getattr(stored, f"{name}_scale"), scale)
    assert np.array_equal(float_targets(stored).context, dequantise(stored.context, stored.context_scale))
    assert float_targets(exact) is exact


def test_a_build_says_how_far_off_it_is(int8_build: Build, robot_build: Build) -> None:
    assert robot_build.manifest["latents"] == {"dtype": "float16", "relative_error": None}
    claim = int8_build.manifest["latents"]
    assert claim["dtype"] == "int8"
    parts = [(_all(b, split).targets) for b in (robot_build, int8_build) for split in ("train", "val")]
    steps = [_steps(float_targets(part)) for part in parts]
    exact, found = np.concatenate(steps[:2]), np.concatenate(steps[2:])
    wanted = np.sqrt(((exact - found) ** 2).sum(axis=(0, 2, 3, 4)) / (exact**2).sum(axis=(0, 2, 3, 4)))
    np.testing.assert_allclose(claim["relative_error"], wanted, rtol=1e-5)


def test_half_the_bytes(int8_build: Build, robot_build: Build) -> None:
    sizes = [sum(s["targets"]["bytes"] for s in b.manifest["shards"]) for b in (int8_build, robot_build)]
    # 96 channels and a scale of 4 bytes, against 192 bytes; actions, masks and headers in both
    assert sizes[0] < 0.56 * sizes[1]
    plans = [json.loads((b.path / "plan.json").read_bytes()) for b in (int8_build, robot_build)]
    estimates = [plan["estimate"]["target_bytes"] for plan in plans]
    assert estimates[0] / estimates[1] == pytest.approx(sizes[0] / sizes[1], abs=0.02)


def _all(build: Build, split: str = "train") -> Batch[NDArray[Any]]:
    reader = SampleReader(build, split)
    return reader.read(np.arange(len(reader)))


def _steps(targets: Targets[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([targets.context[:, None], targets.latents], axis=1).astype(np.float64)
