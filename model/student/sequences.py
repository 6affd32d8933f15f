"""Prompts of a batch as the language model takes them: packed one after the other, or padded to the longest.

Shapes: B prompts, L longest of them, T tokens of all together; R x M rows and tokens a row: 1 x T packed, B x L padded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.attention.attention import Packed
from model.student.prompt import PromptBatch


@dataclass(frozen=True)
class Sequences:
    """What the language model is called with, and where to read its output.

    input_ids       int64 [R, M]
    position_ids    int64 [3, R, M], rotary positions in time, row and column
    attention_mask  int64 [B, L], 0 on padding; None if packed
    packed          the sequences' lengths; None if padded
    action_index    int64 [B, K * action_tokens_per_step], into the R * M rows of the flattened output
    embodied_index  int64 [B, embodied_tokens], likewise; None in video prompts
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    packed: Packed | None
    action_index: Tensor
    embodied_index: Tensor | None

    def to(self, device: torch.device) -> Sequences:
        """The same on a device."""
        names = ("input_ids", "position_ids", "attention_mask", "action_index", "embodied_index")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: x.to(device, non_blocking=True) for name, x in tensors.items() if x is not None})


def lay_out(prompts: PromptBatch, positions: Tensor, packed: bool) -> Sequences:
    """Prompts padded on the left, with rotary positions int64 [3, B, L] -> packed or padded sequences."""
    mask, length = prompts.attention_mask, prompts.input_ids.shape[1]
    lengths = mask.sum(dim=1)
    ends = (lengths.cumsum(0) if packed else length * torch.arange(1, len(mask) + 1))[:, None]
    # Every prompt ends at its row's last column, so a distance from the end is the same in both layouts.
    action = ends - length + prompts.action_positions
    embodied = None if prompts.embodied_positions is None else ends - length + prompts.embodied_positions
    if not packed:
        return Sequences(prompts.input_ids, positions, mask, None, action, embodied)
    keep = mask.bool()
    return Sequences(
        input_ids=prompts.input_ids[keep][None],
        position_ids=positions[:, keep][:, None],
        attention_mask=None,
        packed=Packed(tuple(lengths.tolist()), causal=True),
        action_index=action,
        embodied_index=embodied,
    )
