"""The frozen encoder on the device: targets as the CPU makes them, the same bytes each time, no later frame in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.encoder.encoder import Encoder
from pipeline.format.build_settings import EncoderSettings
from tests.pipeline.encoder.test_encoder import FRAMES, TINY, make_block, with_noise


@pytest.mark.parametrize(("dtype", "error"), [("float32", 5e-3), ("bfloat16", 0.1)])
def test_targets_are_those_of_the_cpu(dtype: str, error: float) -> None:
    block = make_block(5)
    expected, valid = Encoder(TINY, "cpu").encode(block)
    found, found_valid = Encoder(replace(TINY, dtype=dtype), "cuda").encode(block)
    assert np.array_equal(found_valid, valid)
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() < error * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["prefix", "tubelet"])
def test_the_same_frames_give_the_same_bytes(mode: str, dtype: str) -> None:
    settings: EncoderSettings = replace(TINY, mode=mode, dtype=dtype)
    first, second = (Encoder(settings, "cuda").encode(make_block(7))[0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("frame", range(FRAMES))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_later_frame_moves_no_earlier_step(dtype: str, frame: int) -> None:
    encoder = Encoder(replace(TINY, dtype=dtype), "cuda")
    block = make_block()
    before, after = encoder.encode(block)[0], encoder.encode(with_noise(block, frame))[0]
    assert [not np.array_equal(before[0, k], after[0, k]) for k in range(3)] == [k >= frame // 2 for k in range(3)]
