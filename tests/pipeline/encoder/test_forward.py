"""The encoder's own forward pass against transformers', its fast form, and how often it is compiled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import VJEPA2Config, VJEPA2Model

from pipeline.encoder.batches import cut_batches
from pipeline.encoder.encoder import TINY_CONFIG, Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.encoder.forward import IMAGENET_MEAN, IMAGENET_STD, ForwardPass
from pipeline.encoder.precision import WINDOWS, relative_error
from pipeline.encoder.rotary_tables import use_rotary_tables
from pipeline.format.enums import EncoderMode
from tests.pipeline.encoder.test_encoder import FRAMES, STEPS, TINY, make_block

DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def by_transformers(block: FrameBlock, dtype: torch.dtype) -> NDArray[np.float16]:
    """Latents of mode prefix by transformers' own layers over float32 weights, under autocast in another type.

    All windows of all views are one batch, as `encode` has them when they are at most `batch`.
    """
    torch.manual_seed(TINY.seed)
    model = VJEPA2Model(VJEPA2Config(**TINY_CONFIG, attn_implementation="sdpa")).eval()
    use_rotary_tables(layer.attention for layer in model.encoder.layer)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    frames = block.frames[:, block.index].swapaxes(0, 1)  # [W, V, F, C, C, 3]
    clips = torch.from_numpy(frames.reshape(-1, *frames.shape[2:]).copy()).permute(0, 1, 4, 2, 3)
    found = []
    for step in range(STEPS + 1):
        pixels = (clips[:, : 2 * (step + 1)].float() / 255 - mean) / std
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            latents = model.get_vision_features(pixels)
        found.append(latents[:, -16:].float().numpy().astype(np.float16))
    return np.stack(found, axis=1).reshape(len(block.index), -1, STEPS + 1, 16, 96).swapaxes(1, 2)


def fast(dtype: str, backend: object = None, **settings: object) -> Encoder:
    """The encoder as on CUDA, here."""
    encoder = Encoder(replace(TINY, dtype=dtype, **settings), "cpu")  # type: ignore[arg-type]
    encoder.forward = ForwardPass(encoder.model, getattr(torch, dtype), exact=False, backend=backend)
    encoder._compiled = backend is not None
    return encoder


@DTYPES
def test_on_the_cpu_the_bytes_are_those_of_transformers(dtype: str) -> None:
    block = make_block(5)
    found, _ = Encoder(replace(TINY, dtype=dtype), "cpu").encode(block)
    assert found.tobytes() == by_transformers(block, getattr(torch, dtype)).tobytes()


@DTYPES
@pytest.mark.parametrize("mode", list(EncoderMode))
def test_the_fast_form_gives_the_same_latents(mode: EncoderMode, dtype: str) -> None:
    block = make_block(5)
    block.index[1, 4:] = -1
    exact, valid = Encoder(replace(TINY, mode=mode, dtype=dtype), "cpu").encode(block)
    found, fast_valid = fast(dtype, mode=mode).encode(block)
    assert np.array_equal(valid, fast_valid)
    np.testing.assert_allclose(found, exact, atol=2e-3 if dtype == "float32" else 0.05)
    assert not found[1, 2].any()


@pytest.mark.slow
def test_layers_share_one_graph_a_shape_and_nothing_is_compiled_later() -> None:
    """Prefixes of 1, 2 and 3 tubelets in two batch sizes: 6 graphs of the patches, 6 of a layer, and 4 of the last
    layer, which keeps fewer tokens unless there is one tubelet."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    encoder = fast("bfloat16", counter, batch=8)
    encoder.encode(make_block(5))  # 10 clips: a batch, and a quarter with both that remain
    assert counter.frame_count == 16
    for windows in (1, 3, 4, 7):
        block = make_block(windows)
        block.index[0, 2:] = -1
        encoder.encode(block)
    assert counter.frame_count == 16


@pytest.mark.slow
def test_compiled_in_fixed_shapes_the_latents_are_those_of_eager_layers() -> None:
    torch._dynamo.reset()
    block = make_block(5)
    eager, _ = fast("float32", batch=8).encode(block)
    compiled, _ = fast("float32", "aot_eager", batch=8).encode(block)
    np.testing.assert_allclose(compiled, eager, atol=2e-3)


def test_no_more_graphs_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit there is an error, and not slow code."""
    torch._dynamo.reset()
    monkeypatch.setattr("pipeline.encoder.forward.GRAPHS", 2)
    with pytest.raises(Exception, match="recompile_limit"):
        fast("float32", "aot_eager", batch=8).encode(make_block(5))


@pytest.mark.parametrize("mode", list(EncoderMode))
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("windows", [1, 5, 8, 11])
def test_batches_hold_every_step_of_every_clip_once(windows: int, fixed: bool, mode: EncoderMode) -> None:
    valid = np.ones((windows, STEPS + 1), bool)
    valid[0, 1:] = False
    kept = np.zeros((windows, STEPS + 1, 2), int)
    for batch in cut_batches(valid, 2, mode, 8, fixed):
        assert batch.count <= len(batch.rows) <= 8
        assert not fixed or len(batch.rows) in (2, 8)
        assert batch.first == (batch.end - 1 if mode == EncoderMode.TUBELET else 0)
        for step in range(batch.end - batch.kept, batch.end):
            kept[batch.rows[: batch.count], step, batch.views[: batch.count]] += 1
    assert np.array_equal(kept, np.repeat(valid[:, :, None], 2, axis=2))


def test_weights_of_a_reduced_type_are_kept_in_it_and_hashed_as_float32() -> None:
    reduced, full = (Encoder(replace(TINY, dtype=dtype), "cpu") for dtype in ("bfloat16", "float32"))
    layer = reduced.model.encoder.layer[0]
    assert layer.mlp.fc1.weight.dtype == layer.attention.query.bias.dtype == torch.bfloat16
    assert layer.norm1.weight.dtype == torch.float32
    assert reduced.identity()["weights_sha256"] == full.identity()["weights_sha256"]


def test_the_identity_names_what_changes_bytes_on_cuda_alone() -> None:
    plain, eager = (Encoder(replace(TINY, compile=compile), "cpu") for compile in (True, False))
    assert plain.identity() == eager.identity()
    assert {"compile", "forward"}.isdisjoint(plain.identity())
    assert plain.identity("cuda")["compile"]
    assert plain.identity("cuda")["forward"] == eager.identity("cuda")["forward"] == "fast"
    assert plain.identity("cuda") != eager.identity("cuda")


def test_the_error_of_a_reduced_type_is_measured_on_the_first_windows() -> None:
    block = make_block(WINDOWS + 1)
    settings = replace(TINY, dtype="bfloat16")
    latents, _ = Encoder(settings, "cpu").encode(block)
    error = relative_error(settings, "cpu", block, latents)
    assert 1e-3 < error < 0.02
    latents[WINDOWS:] = 0
    assert relative_error(settings, "cpu", block, latents) == error
    assert relative_error(TINY, "cpu", block, Encoder(TINY, "cpu").encode(block)[0]) == 0


def test_a_block_of_which_some_frames_are_used_gives_the_same_latents() -> None:
    """A piece of a long episode's block: its frames alone are copied to the device."""
    encoder, whole = Encoder(TINY, "cpu"), make_block(4)
    some = FrameBlock(whole.frames, whole.index[2:])
    own = FrameBlock(whole.frames[:, 2 * FRAMES :], whole.index[:2])
    assert encoder.encode(some)[0].tobytes() == encoder.encode(own)[0].tobytes()
