"""The encoder on the CPU and its packed form against transformers, and how often that is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import VJEPA2Config, VJEPA2Model

from model.attention.transformers_attention import use_attention
from pipeline.encoder.batches import cut_batches
from pipeline.encoder.encoder import TINY_CONFIG, Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.encoder.packed_forward import PackedForward
from pipeline.encoder.packs import PARTS, cut_packs
from pipeline.encoder.pixels import IMAGENET_MEAN, IMAGENET_STD
from pipeline.encoder.precision import WINDOWS, relative_error
from pipeline.encoder.rotary_tables import use_rotary_tables
from pipeline.format.enums import EncoderMode
from tests.pipeline.encoder.test_encoder import FRAMES, STEPS, TINY, make_block, moved

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
    """The encoder as on CUDA, here, with the attention of packed sequences."""
    return packed(Encoder(replace(TINY, dtype=dtype, **settings), "cpu"), backend)  # type: ignore[arg-type]


def packed(encoder: Encoder, backend: object = None) -> Encoder:
    """The same encoder in its packed form."""
    use_attention(encoder.model, "sdpa")
    encoder.packed = PackedForward(encoder.model, getattr(torch, encoder.settings.dtype), backend)  # type: ignore[arg-type]
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
    """Three sizes of packs: 3 graphs of the patches, 3 of a layer, and 3 of the last one, which keeps fewer tokens."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    encoder = fast("bfloat16", counter, batch=8)
    for windows in (5, 1):  # 50 tubelets in packs of 24 and 6; and 2 in two of 3
        block = make_block(windows)
        block.index[0, 2:] = -1
        encoder.encode(block)
    assert counter.frame_count == 9
    for windows in (2, 3, 4, 7):
        block = make_block(windows)
        block.index[0, 2:] = -1
        encoder.encode(block)
    assert counter.frame_count == 9


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
    monkeypatch.setattr("pipeline.encoder.packed_forward.GRAPHS", 1)
    with pytest.raises(Exception, match="recompile_limit"):
        fast("float32", "aot_eager", batch=8).encode(make_block(5))


@pytest.mark.parametrize("mode", list(EncoderMode))
@pytest.mark.parametrize("windows", [1, 5, 8, 11])
def test_batches_hold_every_step_of_every_clip_once(windows: int, mode: EncoderMode) -> None:
    valid = np.ones((windows, STEPS + 1), bool)
    valid[0, 1:] = False
    kept = np.zeros((windows, STEPS + 1, 2), int)
    for batch in cut_batches(valid, 2, mode, 8):
        assert len(batch.rows) <= 8
        assert batch.first == (batch.end - 1 if mode == EncoderMode.TUBELET else 0)
        for step in range(batch.end - batch.kept, batch.end):
            kept[batch.rows, step, batch.views] += 1
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
    assert plain.identity("cuda")["forward"] == eager.identity("cuda")["forward"] == "packed"
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


@pytest.mark.parametrize("mode", list(EncoderMode))
@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("windows", [1, 5, 11])
def test_packs_of_few_sizes_hold_every_step_of_every_clip_once(windows: int, size: int, mode: EncoderMode) -> None:
    """And each clip is whole: its tubelets one after the other, from the first to the kept ones."""
    valid = np.ones((windows, STEPS + 1), bool)
    valid[0, 1:] = False
    longest = 1 if mode == EncoderMode.TUBELET else STEPS + 1
    found = np.zeros((windows, STEPS + 1, 2), int)
    sizes = set()
    for pack in cut_packs(valid, 2, mode, size):
        sizes.add((len(pack.rows), len(pack.kept)))
        assert pack.lengths.sum() == len(pack.rows) == len(pack.lengths)
        assert pack.kept_lengths.sum() == len(pack.kept)
        assert pack.longest == longest
        starts = np.concatenate([[0], pack.lengths.cumsum()])
        kept_starts = np.concatenate([[0], pack.kept_lengths.cumsum()])
        for clip, (length, kept) in enumerate(zip(pack.lengths, pack.kept_lengths, strict=True)):
            own = slice(starts[clip], starts[clip] + length)
            assert len({*zip(pack.rows[own], pack.views[own], strict=True)}) == bool(length)
            assert pack.positions[own].tolist() == list(range(length))
            assert np.array_equal(np.diff(pack.steps[own]), np.ones(max(0, length - 1)))
            tubelets = pack.kept[kept_starts[clip] : kept_starts[clip] + kept]
            assert tubelets.tolist() == list(range(own.stop - kept, own.stop))
            if kept_starts[clip] < pack.count:
                first = pack.steps[own][0]
                assert first == (pack.steps[own][-1] if mode == EncoderMode.TUBELET else 0)
        wanted = pack.kept[: pack.count]
        np.add.at(found, (pack.rows[wanted], pack.steps[wanted], pack.views[wanted]), 1)
    assert np.array_equal(found, np.repeat(valid[:, :, None], 2, axis=2))
    allowed = {max(1, size // part) * longest for part in PARTS}
    assert {tubelets for tubelets, _ in sizes} <= allowed
    assert len(sizes) <= len(allowed)


def test_whole_windows_fill_packs() -> None:
    """Of K = 3, in which a window needs ten tubelets: a few hundredths are filled up."""
    for windows, size in ((64, 64), (64, 16), (128, 64)):
        packs = list(cut_packs(np.ones((windows, 4), bool), 1, EncoderMode.PREFIX, size))
        assert sum(len(pack.rows) for pack in packs) <= 1.035 * 10 * windows


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_packed_beside_a_clip_does_not_move_its_latents(dtype: str) -> None:
    """Bit for bit: the same pack with other frames in one of its windows."""
    encoder, block = fast(dtype, batch=8), make_block(4)
    frames = block.frames.copy()
    frames[:, FRAMES : 2 * FRAMES] = 255 - frames[:, FRAMES : 2 * FRAMES]
    before, after = encoder.encode(block)[0], encoder.encode(FrameBlock(frames, block.index))[0]
    assert [np.array_equal(before[w], after[w]) for w in range(4)] == [True, False, True, True]


@pytest.mark.parametrize("frame", range(FRAMES))
def test_packed_a_later_frame_moves_no_earlier_step(frame: int) -> None:
    assert moved(fast("float32"), frame) == [k >= frame // 2 for k in range(STEPS + 1)]


def test_the_modules_share_the_joined_weights() -> None:
    """So that the memory of queries, keys and values is not needed twice, and the module computes as before."""
    encoder = Encoder(TINY, "cpu")
    block = make_block(2)
    before = encoder.encode(block)[0]
    attention = packed(encoder).model.encoder.layer[1].attention
    assert attention.key.weight.untyped_storage().data_ptr() == attention.query.weight.untyped_storage().data_ptr()
    encoder.packed = None
    np.testing.assert_allclose(encoder.encode(block)[0], before, atol=1e-3)


def test_a_recorded_pass_is_given_the_same_shapes_for_other_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sizes are recorded, whatever the number of windows and where their episodes end."""
    from model import recording
    from tests.model.test_recording import graph_of

    captured: list[int] = []

    def capture(function: Callable[[], Any], pool: Any) -> Any:
        captured.append(1)
        return graph_of(function, pool)

    monkeypatch.setattr(recording, "capture", capture)
    monkeypatch.setattr(recording, "warm_up", lambda function: function())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    recorded, plain = fast("float32", batch=8), fast("float32", batch=8)
    recorded.packed = PackedForward(recorded.model, torch.float32, record=recording.Recorded)
    for windows in (5, 1, 3, 4, 7):
        block = make_block(windows, seed=windows)
        block.index[0, 2:] = -1
        assert np.array_equal(recorded.encode(block)[0], plain.encode(block)[0])
    assert len(captured) == 3
