"""Latents by the real V-JEPA2 class: what a later frame can and cannot move (rule L2)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock, merge_blocks
from pipeline.errors import SettingsError
from pipeline.format.build_settings import EncoderIdentity, EncoderSettings
from pipeline.format.enums import EncoderMode, FloatDtype, Resize

TINY = EncoderSettings(kind="tiny", resize="squash")
STEPS, FRAMES = 2, 6


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(TINY, "cpu")


def make_block(windows: int = 1, seed: int = 0) -> FrameBlock:
    """Two views, windows that each use six frames of their own."""
    frames = np.random.default_rng(seed).integers(0, 256, (2, windows * FRAMES, 64, 64, 3), dtype=np.uint8)
    return FrameBlock(frames, np.arange(windows * FRAMES, dtype=np.int32).reshape(windows, FRAMES))


def with_noise(block: FrameBlock, frame: int) -> FrameBlock:
    frames = block.frames.copy()
    frames[:, frame] = 255 - frames[:, frame]
    return FrameBlock(frames, block.index)


def moved(encoder: Encoder, frame: int) -> list[bool]:
    """Which of z_0..z_K change when one frame does."""
    block = make_block()
    before, after = encoder.encode(block)[0], encoder.encode(with_noise(block, frame))[0]
    return [not np.array_equal(before[0, k], after[0, k]) for k in range(STEPS + 1)]


@pytest.mark.parametrize("frame", range(FRAMES))
def test_a_frame_moves_its_own_step_and_later_ones_alone(encoder: Encoder, frame: int) -> None:
    assert moved(encoder, frame) == [k >= frame // 2 for k in range(STEPS + 1)]


@pytest.mark.parametrize("frame", range(FRAMES))
def test_in_mode_tubelet_a_frame_moves_its_own_step_alone(frame: int) -> None:
    assert moved(Encoder(replace(TINY, mode="tubelet"), "cpu"), frame) == [k == frame // 2 for k in range(STEPS + 1)]


def test_mode_clip_lets_the_future_move_the_context() -> None:
    assert moved(Encoder(replace(TINY, mode="clip"), "cpu"), FRAMES - 1) == [True, True, True]


def test_masked_steps_are_zero_and_flagged(encoder: Encoder) -> None:
    block = make_block(2)
    block.index[1, 4:] = -1
    latents, valid = encoder.encode(block)
    assert valid.tolist() == [[True, True, True], [True, True, False]]
    assert not latents[1, 2].any()
    assert latents[1, 1].any()


def test_views_and_windows_do_not_mix(encoder: Encoder) -> None:
    block = make_block(3)
    frames = block.frames.copy()
    frames[1, FRAMES : 2 * FRAMES] = 0  # the second view of the second window
    before, after = encoder.encode(block)[0], encoder.encode(FrameBlock(frames, block.index))[0]
    changed = [[not np.array_equal(before[w, :, v], after[w, :, v]) for v in range(2)] for w in range(3)]
    assert changed == [[False, False], [False, True], [False, False]]


def test_the_same_block_gives_the_same_bytes() -> None:
    block = make_block(5)
    first, second = (Encoder(TINY, "cpu").encode(block)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_merged_blocks_keep_their_windows(encoder: Encoder) -> None:
    a, b = make_block(1, seed=1), make_block(2, seed=2)
    b.index[1, 2:] = -1
    merged = merge_blocks([a, b])

    def gather(block: FrameBlock) -> list[NDArray[np.uint8]]:
        return [block.frames[:, row[row >= 0]] for row in block.index]

    for left, right in zip(gather(merged), gather(a) + gather(b), strict=True):
        assert np.array_equal(left, right)


def test_identity_names_what_changes_bytes(encoder: Encoder, tmp_path: Path) -> None:
    base = encoder.identity()
    for change in (
        {"seed": 1},
        {"mode": "clip"},
        {"resize": "crop"},
        {"batch": 3},
        {"dtype": "bfloat16"},
        {"attention": "xformers"},
    ):
        assert Encoder(replace(TINY, **change), "cpu").identity() != base, change  # type: ignore[arg-type]
    assert Encoder(TINY, "cpu").identity() == base


def test_another_attention_gives_the_same_latents(encoder: Encoder) -> None:
    """V-JEPA2 on the project's attention function, as `encoder.attention=xformers` sets it on a GPU."""
    from model.attention.attention import attention
    from model.attention.transformers_attention import use_attention

    used: list[int] = []

    def count(*arguments: Any, **keywords: Any) -> Any:
        used.append(1)
        return attention(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.attention.transformers_attention.attention", count)
        other = Encoder(TINY, "cpu", partial(use_attention, backend="sdpa"))
        block = make_block(3)
        latents, _ = other.encode(block)
    assert len(used) == 2 * (STEPS + 1)  # two layers, one encoding a step
    np.testing.assert_allclose(latents, encoder.encode(block)[0], atol=2e-3)


def test_pretrained_weights_load_from_a_folder(encoder: Encoder, tmp_path: Path) -> None:
    encoder.model.save_pretrained(tmp_path / "vjepa2")
    loaded = Encoder(EncoderSettings(kind="pretrained", name_or_path=str(tmp_path / "vjepa2"), resize="squash"), "cpu")
    assert loaded.identity()["weights_sha256"] == encoder.identity()["weights_sha256"]
    block = make_block()
    assert np.array_equal(loaded.encode(block)[0], encoder.encode(block)[0])
    (tmp_path / "moved").mkdir()
    (tmp_path / "vjepa2").rename(tmp_path / "moved" / "elsewhere")
    settings = EncoderSettings(name_or_path=str(tmp_path / "moved" / "elsewhere"), resize="squash")
    assert Encoder(settings, "cpu").identity() == loaded.identity()


def test_weights_in_several_files_are_loaded_whole_or_not_at_all(encoder: Encoder, tmp_path: Path) -> None:
    encoder.model.save_pretrained(tmp_path, max_shard_size="200KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    settings = EncoderSettings(name_or_path=str(tmp_path), resize="squash")
    assert Encoder(settings, "cpu").identity()["weights_sha256"] == encoder.identity()["weights_sha256"]
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SettingsError, match="holds no weights that can be read"):
        Encoder(settings, "cpu")
    shards[1].unlink()
    with pytest.raises(SettingsError, match=rf"No such file .*{shards[1].name}"):
        Encoder(settings, "cpu")


@pytest.mark.parametrize("place", [0, 7, -1])
def test_a_folder_that_lacks_one_tensor_is_refused(encoder: Encoder, tmp_path: Path, place: int) -> None:
    """It would be filled with random numbers. The predictor of V-JEPA2 is not used and may be missing."""
    encoder.model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    gone = sorted(name for name in tensors if name.startswith("encoder."))[place]
    kept = {name: tensor for name, tensor in tensors.items() if name != gone}
    save_file(kept, file, {"format": "pt"})
    settings = EncoderSettings(name_or_path=str(tmp_path), resize="squash")
    with pytest.raises(SettingsError, match=rf"lacks {gone.removeprefix('encoder.')} "):
        Encoder(settings, "cpu")
    save_file({name: t for name, t in tensors.items() if name.startswith("encoder.")}, file, {"format": "pt"})
    assert Encoder(settings, "cpu").identity()["weights_sha256"] == encoder.identity()["weights_sha256"]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        Encoder(EncoderSettings(name_or_path=str(tmp_path / "nowhere")), "cpu")


def test_flops_count_the_prefixes() -> None:
    prefix = EncoderIdentity(
        mode=EncoderMode.PREFIX,
        resize=Resize.CROP,
        dtype=FloatDtype.FLOAT32,
        device="cpu",
        crop_size=32,
        tokens=2,
        width=8,
        layers=1,
        mlp_ratio=4.0,
    )
    per_token = 24 * 8**2 + 2 * 8 * 1536
    assert prefix.flops(3) == 20 * per_token + 4 * 8 * (4 + 16 + 36 + 64)
    assert replace(prefix, mode=EncoderMode.CLIP).flops(3) == 8 * per_token + 4 * 8 * 64
    assert replace(prefix, mode=EncoderMode.TUBELET).flops(3) == 2 * per_token + 4 * 8 * 4  # one tubelet
