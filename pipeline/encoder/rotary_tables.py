"""V-JEPA 2's and 2.1's rotary positions from tables made once for all layers, in float32 whatever the rest is in.

transformers makes the angles anew in every layer, some ninety small kernels of it, and in the dtype of the queries: in
bfloat16 the frequencies themselves are rounded. In float32 the latents here are bit for bit those of transformers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BASE = 10000
"""Of the frequencies (transformers, `models/vjepa2`)."""


@dataclass(frozen=True)
class Rotary:
    """Rotary positions of an encoder.

    grid      rows, and columns, of a frame
    axis      even number of channels for each of frame, row and column; those that remain are not turned
    channels  of a head
    spacing   distance of neighbouring rows, and columns, in positions
    paired    the two channels that turn together share an angle (V-JEPA 2.1). If not, the angles of an axis occur twice
              in a row, though neighbours are turned, as V-JEPA 2 was trained
    """

    grid: int
    axis: int
    channels: int
    spacing: float = 1.0
    paired: bool = False


def use_rotary_tables(attentions: Iterable[Any]) -> None:
    """Let attention layers of transformers' V-JEPA2, called without masks, take their rotary positions from tables.

    Args:
        attentions: of class `VJEPA2RopeAttention`; two of its methods are replaced in each.

    Raises:
        ValueError: frame, row and column do not turn equally many channels.
    """
    for attention in attentions:
        grid, widths = attention.grid_size, {attention.d_dim, attention.h_dim, attention.w_dim}
        if len(widths) > 1:
            raise ValueError(f"frame, row and column turn {sorted(widths)} channels, expected equally many")
        attention.get_position_ids = _count_tokens
        rotary = Rotary(grid, widths.pop(), attention.attention_head_size)
        attention.apply_rotary_embeddings = functools.partial(_turn, rotary=rotary)


def rotary_tables(tokens: int, rotary: Rotary, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factors of a channel and of its neighbour for every token of a clip.

    Args:
        tokens: of the clip: (frame, row, column), the column running fastest.

    Returns:
        float32 [tokens, channels] twice: cosines, and sines with the sign of the neighbour.
    """
    ids, grid, axis = torch.arange(tokens, device=device), rotary.grid, rotary.axis
    frame, row, column = ids // grid**2, ids % grid**2 // grid, ids % grid
    exponents = torch.arange(axis // 2, dtype=torch.float32, device=device) / (axis / 2.0)
    frequencies = 1.0 / BASE**exponents
    places = (frame, row * rotary.spacing, column * rotary.spacing)
    found = [place[:, None] * frequencies for place in places]
    angles = torch.cat([x.repeat_interleave(2, 1) if rotary.paired else x.repeat(1, 2) for x in found], dim=1)
    signs = torch.tensor([-1.0, 1.0], device=device).repeat(angles.shape[1] // 2)
    fixed = rotary.channels - angles.shape[1]
    cosines = torch.cat([angles.cos(), torch.ones(tokens, fixed, device=device)], dim=1)
    sines = torch.cat([angles.sin() * signs, torch.zeros(tokens, fixed, device=device)], dim=1)
    return cosines, sines


def _count_tokens(hidden: Tensor, masks: None = None) -> int:
    """In place of the positions of tokens [B, tokens, width]: how many there are."""
    return hidden.shape[1]


def turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Queries or keys [B, H, tokens, C], turned in float32 by tables [tokens, C]."""
    neighbours = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cosines + neighbours * sines


def _turn(x: Tensor, tokens: int, rotary: Rotary) -> Tensor:
    return turn(x, *kept_tables(tokens, rotary, x.device))


@functools.lru_cache(maxsize=64)
def kept_tables(tokens: int, rotary: Rotary, device: torch.device) -> tuple[Tensor, Tensor]:
    """`rotary_tables`, made once. Dynamo ignores the cache: compiled code takes the tables as arguments."""
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        return rotary_tables(tokens, rotary, device)
