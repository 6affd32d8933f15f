"""Gradient checkpointing of a block: its activations are computed again in the backward pass rather than kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, enabled: bool, *arguments: Any, **keywords: Any) -> Tensor:
    """What a block gives for its arguments; with `enabled`, and where there will be a backward pass, recomputed there.

    Random numbers (dropout) are the same in both passes.
    """
    if not (enabled and torch.is_grad_enabled()):
        return block(*arguments, **keywords)
    out: Tensor = checkpoint(block, *arguments, use_reentrant=False, **keywords)
    return out
