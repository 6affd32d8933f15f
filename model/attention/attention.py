"""Scaled dot-product attention of a batch, by a choice of kernels; of packed sequences, see `model.attention.packed`.

Shapes: B batch, H heads, Q queries, L keys, C channels a head.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.attention.backend import resolve_backend
from model.attention.packed import Packed, attend_within
from model.settings import AttentionBackend


@dataclass(frozen=True)
class StepCausal:
    """Steps of equally many tokens: full attention within a step and to all earlier ones (rule L4)."""

    steps: int
    tokens: int


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: StepCausal | None = None, backend: str = "auto", scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T) v over the pairs a mask allows.

    Args:
        q: [B, H, Q, C].
        k: [B, H, L, C], or with fewer heads, each shared by H / (its heads) neighbouring query heads.
        v: as k.
        mask: which keys a query sees; None: all. A mask wants Q = L.
        backend: see `model.attention.backend`.
        scale: None: 1 / sqrt(C).

    Returns:
        [B, H, Q, C], dtype of `v`.

    Raises:
        SettingsError: the backend has no such name, or cannot run here.
        ValueError: the mask does not describe the tensors.
    """
    if mask is not None and not q.shape[2] == k.shape[2] == mask.steps * mask.tokens:
        raise ValueError(
            f"the mask describes {mask.steps * mask.tokens} tokens, got queries {tuple(q.shape)} and keys "
            f"{tuple(k.shape)}"
        )
    chosen = resolve_backend(backend, v.device, v.dtype, v.shape[-1])
    run = _xformers if chosen == AttentionBackend.XFORMERS else _sdpa
    return run(q.to(v.dtype), k.to(v.dtype), v, mask, scale)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: StepCausal | None, scale: float | None) -> Tensor:
    shared = q.shape[1] != k.shape[1]
    attend = functools.partial(functional.scaled_dot_product_attention, scale=scale, enable_gqa=shared)
    if mask is None:
        return attend(q, k, v)
    # The queries of a step see all keys up to its end: slices of the keys, and no mask.
    ends = [mask.tokens * (step + 1) for step in range(mask.steps)]
    steps = [attend(q[:, :, end - mask.tokens : end], k[:, :, :end], v[:, :, :end]) for end in ends]
    return torch.cat(steps, dim=2)


def _xformers(q: Tensor, k: Tensor, v: Tensor, mask: StepCausal | None, scale: float | None) -> Tensor:
    """As packed sequences: those of the batch, or each step of each sample with its own copy of the keys it sees.

    The copies are (steps + 1) / 2 times the keys; in return no bias is read, which would exclude the flash kernels.
    """
    q_, k_, v_ = (x.transpose(1, 2) for x in (q, k, v))
    if mask is None:
        q_lengths, k_lengths = [q.shape[2]], [k.shape[2]]
    else:
        q_lengths = [mask.tokens] * mask.steps
        k_lengths = [mask.tokens * (step + 1) for step in range(mask.steps)]
        k_, v_ = (torch.cat([x[:, :length] for length in k_lengths], dim=1) for x in (k_, v_))
    queries, keys = (_packed(lengths, len(q), q.device) for lengths in (q_lengths, k_lengths))
    q_, k_, v_ = (x.flatten(0, 1) for x in (q_, k_, v_))
    out = attend_within(q_, k_, v_, queries, keys, AttentionBackend.XFORMERS, scale)
    return out.unflatten(0, (len(q), -1)).transpose(1, 2)


def _packed(lengths: list[int], batch: int, device: torch.device) -> Packed:
    """So many sequences for each sample of a batch, without a copy to the device."""
    total, ends, end = sum(lengths), [], 0
    for length in lengths:
        end += length
        ends.append(end)
    within = torch.stack([torch.full((batch,), end, device=device, dtype=torch.int32) for end in ends], dim=1)
    starts = within + total * torch.arange(batch, device=device, dtype=torch.int32)[:, None]
    return Packed(functional.pad(starts.flatten(), (1, 0)), max(lengths))
