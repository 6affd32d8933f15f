"""The vision tower over images of one size, layer by layer: what depends on the size alone is made once.

Equal to `Qwen3VLVisionModel.forward` of transformers, which asks for each image's size on the host.

Shapes: M images, P = grid x grid patches of an image, E width of the tower, I = M * P / 4 image tokens, W width of the
decoder.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from model.attention.packed import Packed
from model.attention.recompute import recomputed
from model.student.images import MERGE


def image_tokens(visual: PreTrainedModel, patches: Tensor, count: int, recompute: bool) -> tuple[Tensor, list[Tensor]]:
    """Read images.

    Args:
        visual: a `Qwen3VLVisionModel`.
        patches: of all images, see `model.student.images`.
        count: M.
        recompute: a block's activations in the backward pass.

    Returns:
        [I, W], what the prompt's image tokens become, and features [I, W] that the first layers of the decoder add.
    """
    per_image = len(patches) // count
    grid = math.isqrt(per_image)
    neighbours, weights, places = _tables(grid, math.isqrt(visual.pos_embed.num_embeddings), patches.device)
    learned = (visual.pos_embed(neighbours) * weights[..., None]).sum(1)
    x = visual.patch_embed(patches)
    x = (x.unflatten(0, (count, per_image)) + learned.to(x.dtype)).flatten(0, 1)
    cos, sin = (table.repeat(count, 1) for table in visual.rotary_pos_emb(x, places.T))
    starts = per_image * torch.arange(count + 1, device=x.device, dtype=torch.int32)
    images = Packed(starts, per_image)
    features: list[Tensor] = []
    for i, block in enumerate(visual.blocks):
        keywords = {"position_embeddings": (cos, sin), "max_seqlen": per_image, "packed": images}
        x = recomputed(block, recompute, x, starts, **keywords)
        if i in visual.deepstack_visual_indexes:
            features.append(visual.deepstack_merger_list[len(features)](x))
    return visual.merger(x), features


@functools.lru_cache(maxsize=16)
def _tables(grid: int, learned: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of an image's patches, groups of 2 x 2 neighbours together: where their positions lie in the learned table.

    Returns:
        The four nearest entries int64 [P, 4] of a table of `learned` x `learned` positions, their bilinear weights
        float32 [P, 4], and row and column int64 [2, P].
    """
    group = grid // MERGE
    cells = torch.arange(grid * grid).view(group, MERGE, group, MERGE).permute(0, 2, 1, 3).flatten()
    places = torch.stack([cells // grid, cells % grid])
    # From the first to the last learned position, both included.
    spread = torch.linspace(0, learned - 1, grid)[places]
    low = spread.long()
    high = (low + 1).clamp(max=learned - 1)
    share = spread - low
    (row, column), (next_row, next_column), (down, right) = low, high, share
    entries = [r * learned + c for r in (row, next_row) for c in (column, next_column)]
    weights = [a * b for a in (1 - down, down) for b in (1 - right, right)]
    tables = torch.stack(entries, dim=1), torch.stack(weights, dim=1), places
    neighbours, shares, where = (table.to(device) for table in tables)
    return neighbours, shares, where
