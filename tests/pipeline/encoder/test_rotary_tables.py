"""The encoder's rotary positions from tables against those of transformers."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import VJEPA2Config, VJEPA2Model
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

from pipeline.encoder.rotary_tables import Rotary, rotary_tables, use_rotary_tables

GRID, TUBELETS = 4, 4
TOKENS = GRID**2 * TUBELETS


def both_models(width: int = 96, heads: int = 4) -> tuple[VJEPA2Model, VJEPA2Model]:
    """As transformers makes it, and with tables; the same weights."""
    torch.manual_seed(0)
    config = VJEPA2Config(
        crop_size=16 * GRID,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        pred_hidden_size=32,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    theirs = VJEPA2Model(config).eval()
    ours = deepcopy(theirs)
    use_rotary_tables(layer.attention for layer in ours.encoder.layer)
    return theirs, ours


def latents(model: VJEPA2Model, tubelets: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return latents_of(model, torch.randn(2, 2 * tubelets, 3, 16 * GRID, 16 * GRID, generator=generator))


@torch.inference_mode()
def latents_of(model: VJEPA2Model, pixels: Tensor) -> Tensor:
    found: Tensor = model.get_vision_features(pixels)
    return found


@pytest.mark.parametrize("tubelets", [1, 2, TUBELETS])
@pytest.mark.parametrize(("width", "heads"), [(96, 4), (128, 2)], ids=["24-channels", "64-channels"])
def test_in_float32_the_latents_are_those_of_transformers(width: int, heads: int, tubelets: int) -> None:
    theirs, ours = both_models(width, heads)
    assert torch.equal(latents(ours, tubelets), latents(theirs, tubelets))


def test_clips_of_another_length_do_not_get_the_last_ones_tables() -> None:
    theirs, ours = both_models()
    for tubelets in (3, 1, 3):
        assert torch.equal(latents(ours, tubelets), latents(theirs, tubelets))


def test_positions_move_the_latents() -> None:
    _, ours = both_models()
    pixels = torch.randn(1, 2, 3, 16 * GRID, 16 * GRID)
    mirrored = latents_of(ours, pixels.flip(-1)).unflatten(1, (GRID, GRID)).flip(2).flatten(1, 2)
    assert not torch.allclose(mirrored, latents_of(ours, pixels), atol=1e-3)


def test_under_autocast_queries_are_turned_as_in_float32() -> None:
    theirs, ours = both_models(128, 2)
    queries = torch.randn(1, 2, TOKENS, 64).bfloat16()
    exact = turned(theirs.encoder.layer[0].attention, queries.float())
    with torch.autocast("cpu", torch.bfloat16):
        with_tables = turned(ours.encoder.layer[0].attention, queries)
        without = turned(theirs.encoder.layer[0].attention, queries)
    assert torch.equal(with_tables, exact)
    assert (without.float() - exact).abs().max() > 1e-3


def turned(attention: VJEPA2RopeAttention, queries: Tensor) -> Tensor:
    positions = attention.get_position_ids(torch.empty(1, TOKENS, 1))
    found: Tensor = attention.apply_rotary_embeddings(queries, positions)
    return found


def test_channels_that_remain_are_not_turned() -> None:
    cosines, sines = rotary_tables(TOKENS, Rotary(GRID, axis=20, channels=64), torch.device("cpu"))
    assert cosines.shape == sines.shape == (TOKENS, 64)
    assert cosines[:, 60:].eq(1).all()
    assert sines[:, 60:].eq(0).all()
    assert sines[1:, :60].abs().sum(dim=1).gt(0).all()


def test_a_layer_takes_less_than_half_the_operations() -> None:
    theirs, ours = both_models()
    counts = []
    for model in (theirs, ours):
        latents(model, TUBELETS)  # the tables are made
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            latents(model, TUBELETS)
        counts.append(len(recorded.events()))
    assert counts[1] < counts[0] / 2


def test_axes_of_unequal_width_are_refused() -> None:
    _, model = both_models()
    attention = model.encoder.layer[0].attention
    attention.h_dim = 10
    with pytest.raises(ValueError, match="turn \\[8, 10\\] channels"):
        use_rotary_tables([attention])
