"""Latents by V-JEPA 2.1: the forward pass against the module, what each part does, what a later frame can move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.encoder.pixels import IMAGENET_MEAN, IMAGENET_STD
from pipeline.encoder.rotary_tables import Rotary, rotary_tables
from pipeline.encoder.vjepa2_1 import VJEPA21Config, VJEPA21Model
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import EncoderMode
from tests.pipeline.encoder.test_encoder import FRAMES, STEPS, make_block, moved
from tests.pipeline.encoder.test_packed_forward import packed
from tests.pipeline.encoder.tiny_vjepa2_1 import save_tiny_vjepa2_1, tiny_vjepa2_1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_vjepa2_1(tmp_path_factory.mktemp("vjepa2_1"))


def encoder_of(folder: str, **settings: object) -> Encoder:
    return Encoder(EncoderSettings(name_or_path=folder, resize="squash", **settings), "cpu")  # type: ignore[arg-type]


def by_module(block: FrameBlock, model: VJEPA21Model) -> NDArray[np.float16]:
    """Latents of mode prefix by the module's own forward."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    frames = block.frames[:, block.index].swapaxes(0, 1)  # [W, V, F, C, C, 3]
    clips = torch.from_numpy(frames.reshape(-1, *frames.shape[2:]).copy()).permute(0, 1, 4, 2, 3)
    found = []
    for step in range(STEPS + 1):
        with torch.inference_mode():
            latents = model.get_vision_features((clips[:, : 2 * (step + 1)].float() / 255 - mean) / std)
        found.append(latents[:, -16:].numpy().astype(np.float16))
    return np.stack(found, axis=1).reshape(len(block.index), -1, STEPS + 1, 16, 96).swapaxes(1, 2)


def test_the_forward_pass_computes_what_the_module_does(folder: str) -> None:
    block = make_block(5)
    found, _ = encoder_of(folder).encode(block)
    np.testing.assert_allclose(found, by_module(block, tiny_vjepa2_1()), atol=2e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", list(EncoderMode))
def test_the_fast_form_gives_the_same_latents(folder: str, mode: EncoderMode, dtype: str) -> None:
    block = make_block(5)
    block.index[1, 4:] = -1
    encoder = encoder_of(folder, mode=mode, dtype=dtype)
    exact, valid = encoder.encode(block)
    found, fast_valid = packed(encoder).encode(block)
    assert np.array_equal(valid, fast_valid)
    np.testing.assert_allclose(found, exact, atol=2e-3 if dtype == "float32" else 0.1)


@pytest.mark.slow
def test_compiled_the_latents_are_those_of_eager_layers(folder: str) -> None:
    torch._dynamo.reset()
    block = make_block(5)
    encoder = encoder_of(folder, batch=8)
    eager, _ = encoder.encode(block)
    np.testing.assert_allclose(packed(encoder, "aot_eager").encode(block)[0], eager, atol=2e-3)


@pytest.mark.parametrize("frame", range(FRAMES))
def test_a_frame_moves_no_earlier_step(folder: str, frame: int) -> None:
    own = [k == frame // 2 for k in range(STEPS + 1)]
    assert moved(encoder_of(folder), frame) == [k >= frame // 2 for k in range(STEPS + 1)]
    assert moved(encoder_of(folder, mode="tubelet"), frame) == own


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("video_mod_embed", True),
        ("norms_block.3.weight", True),
        ("patch_embed.proj.bias", True),
        ("img_mod_embed", False),
        ("patch_embed_img.proj.weight", False),
        ("norms_block.0.weight", False),
        ("norms_block.2.bias", False),
    ],
)
def test_what_serves_images_and_other_levels_does_not_move_the_latents(name: str, moves: bool) -> None:
    model, block = tiny_vjepa2_1(), make_block()
    before = by_module(block, model)
    model.encoder.get_parameter(name).data += torch.randn(96).view(-1, *(1,) * (name.count("proj.weight") * 4))
    assert np.array_equal(by_module(block, model), before) != moves


def test_every_tensor_is_in_the_identity(folder: str, tmp_path: Path) -> None:
    """Also those that latents do not need: the hash is that of the released weights."""
    expected = encoder_of(folder).identity()
    assert (expected["class"], expected["tokens"], expected["width"]) == ("VJEPA21Model", 16, 96)
    for number, name in enumerate(("img_mod_embed", "norms_block.0.weight", "blocks.1.mlp.fc2.bias")):
        model = tiny_vjepa2_1()
        model.encoder.get_parameter(name).data += 1e-3
        model.save_pretrained(tmp_path / str(number))
        found = encoder_of(str(tmp_path / str(number))).identity()
        assert {key for key in found if found[key] != expected[key]} == {"weights_sha256"}


@pytest.mark.parametrize("grid", [2, 4, 16, 24])
def test_rows_and_columns_are_spread_over_sixteen_positions(grid: int) -> None:
    rotary = Rotary(grid, axis=8, channels=24, spacing=15 / (grid - 1), paired=True)
    cosines, _ = rotary_tables(2 * grid**2, rotary, torch.device("cpu"))
    last = cosines[-1]  # frame 1, the last row and column; the first pair of each axis turns by its position
    expected = torch.tensor([1.0, 15.0, 15.0]).cos().repeat_interleave(2)
    torch.testing.assert_close(last[[0, 1, 8, 9, 16, 17]], expected, atol=1e-4, rtol=0)


def test_the_input_needs_two_rows() -> None:
    with pytest.raises(ValueError, match="2 x 2 patches, got 1"):
        VJEPA21Model(VJEPA21Config(crop_size=16, hidden_size=96, num_hidden_layers=1, num_attention_heads=4))
