"""The frozen encoder on the device: targets as the CPU makes them, the same bytes each time, no later frame in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo.utils

from model.encoder_kernels import encoder_kernels
from pipeline.encoder.encoder import Encoder
from pipeline.format.build_settings import EncoderSettings
from tests.pipeline.encoder.test_encoder import FRAMES, TINY, make_block, with_noise
from tests.pipeline.encoder.tiny_vjepa2_1 import save_tiny_vjepa2_1


def on_cuda(settings: EncoderSettings) -> Encoder:
    return Encoder(settings, "cuda", *encoder_kernels(settings.attention, "cuda"))


COMPILE = pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])


@COMPILE
@pytest.mark.parametrize("mode", ["prefix", "tubelet", "clip"])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 5e-3), ("bfloat16", 0.1)])
def test_targets_are_those_of_the_cpu(dtype: str, error: float, mode: str, compile: bool) -> None:
    block = make_block(5)
    block.index[1, 4:] = -1
    expected, valid = Encoder(replace(TINY, mode=mode), "cpu").encode(block)
    settings = replace(TINY, mode=mode, dtype=dtype, compile=compile, batch=8)
    found, found_valid = on_cuda(settings).encode(block)
    assert np.array_equal(found_valid, valid)
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() < error * np.abs(expected).max()


@COMPILE
@pytest.mark.parametrize(("dtype", "error"), [("float32", 5e-3), ("bfloat16", 0.1)])
def test_targets_of_vjepa2_1_are_those_of_the_cpu(tmp_path: Path, dtype: str, error: float, compile: bool) -> None:
    settings = EncoderSettings(name_or_path=save_tiny_vjepa2_1(tmp_path), resize="squash", batch=8)
    expected, _ = Encoder(settings, "cpu").encode(make_block(5))
    found, _ = on_cuda(replace(settings, dtype=dtype, compile=compile)).encode(make_block(5))
    assert np.abs(found.astype(np.float32) - expected.astype(np.float32)).max() < error * np.abs(expected).max()


@COMPILE
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["prefix", "tubelet"])
def test_the_same_frames_give_the_same_bytes(mode: str, dtype: str, compile: bool) -> None:
    settings: EncoderSettings = replace(TINY, mode=mode, dtype=dtype, compile=compile)
    first, second = (on_cuda(settings).encode(make_block(7))[0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("frame", range(FRAMES))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_later_frame_moves_no_earlier_step(dtype: str, frame: int) -> None:
    encoder = on_cuda(replace(TINY, dtype=dtype))
    block = make_block()
    before, after = encoder.encode(block)[0], encoder.encode(with_noise(block, frame))[0]
    assert [not np.array_equal(before[0, k], after[0, k]) for k in range(3)] == [k >= frame // 2 for k in range(3)]


def test_blocks_one_after_the_other_keep_their_own_latents() -> None:
    """Copies run beside the encoder: no later block may write over what an earlier one returned or still needs."""
    encoder, blocks = on_cuda(replace(TINY, dtype="bfloat16", batch=4)), [make_block(9, seed=i) for i in range(4)]
    together = [encoder.encode(block)[0] for block in blocks]
    for block, found in zip(blocks, together, strict=True):
        assert np.array_equal(encoder.encode(block)[0], found)


def test_nothing_is_compiled_after_the_first_blocks() -> None:
    torch._dynamo.reset()
    encoder = on_cuda(replace(TINY, dtype="bfloat16", batch=8))
    encoder.encode(make_block(5))
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for windows in (1, 3, 4, 7):
        encoder.encode(make_block(windows))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled > 0
