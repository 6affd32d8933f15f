"""Registers our attention in transformers (Qwen3-VL text and vision, V-JEPA2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from model.attention.attention import attention
from model.attention.packed import Packed, packed_attention
from model.settings import AttentionBackend

_NAME = "vla_jepa_flash_"
"""Transformers calls a vision tower's attention once for all images, rather than once an image, if the name says
"flash"."""


def use_attention(model: PreTrainedModel, backend: str) -> None:
    """Let a model of transformers, with its text and vision parts, compute attention here.

    It must then be called with packed sequences: `packed=Packed(...)` as a keyword, no padding.

    Raises:
        ValueError: there is no such backend.
    """
    name = register_attention(backend)
    # Through the configurations: `set_attn_implementation` takes a name with "flash" for a kernel to download.
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config._attn_implementation = name


def register_attention(backend: str) -> str:
    """Make a backend known to transformers.

    Args:
        backend: "auto", "sdpa" or "xformers", see `model.attention`.

    Returns:
        The name for `attn_implementation=`.

    Raises:
        ValueError: there is no such backend.
    """
    if backend not in list(AttentionBackend):
        raise ValueError(f"attention must be one of {', '.join(AttentionBackend)}, got {backend!r}")

    def forward(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        packed: Packed | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Query [B, H, Q, C] -> [B, Q, H, C]."""
        lengths = (packed, packed) if packed else _described(module, query, attention_mask, dropout, **kwargs)
        if lengths is None:
            return attention(query, key, value, None, backend, scaling).transpose(1, 2).contiguous(), None
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        return packed_attention(q, k, v, lengths[0], backend, scaling, lengths[1])[None], None

    AttentionInterface.register(_NAME + backend, forward)
    return _NAME + backend


def _described(
    module: nn.Module,
    query: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    is_causal: bool | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int = 0,
    max_length_k: int = 0,
    **_: Any,
) -> tuple[Packed, Packed] | None:
    """The mask that transformers asks for in its own words: how queries and keys are packed.

    Raises:
        ValueError: padding or dropout, which this attention has no kernel for.
    """
    if attention_mask is not None or dropout:
        raise ValueError("this attention takes packed sequences without dropout; a padded batch needs sdpa")
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal
    if cu_seq_lens_q is not None:
        queries = Packed(cu_seq_lens_q.int(), max_length_q, causal)
        return queries, queries if cu_seq_lens_k is None else Packed(cu_seq_lens_k.int(), max_length_k)
    if not causal:
        return None
    if len(query) > 1:
        raise ValueError(f"causal attention takes packed sequences, a batch of 1; got {len(query)}")
    starts = torch.tensor((0, query.shape[2]), dtype=torch.int32, device=query.device)
    packed = Packed(starts, query.shape[2], causal=True)
    return packed, packed
