"""The diffusion transformer of the action head: blocks conditioned on the time by adaptive norms.

Cross-attention to the student's tokens in even blocks, self-attention in odd ones (GR00T N1 style). Parameter names
are those of the released checkpoints.

Shapes: B batch, M tokens, W transformer width, L context tokens, E context width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.attention.attention import attention
from model.attention.recompute import recomputed
from model.settings import ActionHeadSettings

TIME_CHANNELS = 256
"""Channels of the sinusoid the time embedding starts from."""

BLOCK_NORM_EPS = 1e-5
OUTPUT_NORM_EPS = 1e-6


def cos_sin_embedding(time: Tensor, channels: int) -> Tensor:
    """Cosines then sines of time [B] -> float32 [B, channels]; slowest frequency 1e-4 (reached by the last one)."""
    half = channels // 2
    exponent = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=time.device) / (half - 1)
    angle = time.float()[:, None] * exponent.exp()
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Two layers on a sinusoid. Names follow the checkpoints."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TIME_CHANNELS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, sinusoid: Tensor) -> Tensor:
        """[B, TIME_CHANNELS] -> [B, W]."""
        return self.linear_2(functional.silu(self.linear_1(sinusoid)))


class TimestepEncoder(nn.Module):
    """Time bucket -> condition of the adaptive norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedder(width)

    def forward(self, bucket: Tensor) -> Tensor:
        """int64 [B] -> [B, W]."""
        return self.timestep_embedder(cos_sin_embedding(bucket, TIME_CHANNELS))


class AdaptiveNorm(nn.Module):
    """LayerNorm whose scale and shift come from the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, M, W], condition [B, W] -> [B, M, W]."""
        scale, shift = self.linear(functional.silu(condition))[:, None].chunk(2, dim=-1)
        return functional.layer_norm(x, x.shape[-1:], eps=BLOCK_NORM_EPS) * (1 + scale) + shift


class HeadAttention(nn.Module):
    """Attention to itself, or to a context of another width."""

    def __init__(self, settings: ActionHeadSettings, context_width: int, backend: str) -> None:
        super().__init__()
        width = settings.heads * settings.head_width
        self.heads = settings.heads
        self.backend = backend
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(context_width, width)
        self.to_v = nn.Linear(context_width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(settings.dropout)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, M, W], context [B, L, E or W] -> [B, M, W]."""
        q, k, v = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        out = attention(q, k, v, backend=self.backend).transpose(1, 2).flatten(2)
        return self.to_out[1](self.to_out[0](out))


class GELUProjection(nn.Module):
    """Linear, then GELU in its tanh form."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return functional.gelu(self.proj(x), approximate="tanh")


class HeadMLP(nn.Module):
    """MLP x4 with dropout after each layer. Indices of `net` follow the checkpoints."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GELUProjection(width, 4 * width), nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] -> [..., W]."""
        return self.net(x)


class HeadBlock(nn.Module):
    """Adaptive norm, attention, plain norm, MLP."""

    def __init__(self, settings: ActionHeadSettings, context_width: int, backend: str) -> None:
        super().__init__()
        width = settings.heads * settings.head_width
        self.norm1 = AdaptiveNorm(width)
        self.attn1 = HeadAttention(settings, context_width, backend)
        self.ff = HeadMLP(width, settings.dropout)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, context: Tensor | None, condition: Tensor) -> Tensor:
        """x [B, M, W] -> [B, M, W]; context None: attention to itself."""
        normed = self.norm1(x, condition)
        x = x + self.dropout(self.attn1(normed, normed if context is None else context))
        return x + self.ff(functional.layer_norm(x, x.shape[-1:], eps=BLOCK_NORM_EPS))


class DiffusionTransformer(nn.Module):
    """Blocks of cross-attention (even) and self-attention (odd), then an adaptive output layer."""

    def __init__(self, settings: ActionHeadSettings, context_width: int, backend: str) -> None:
        super().__init__()
        width = settings.heads * settings.head_width
        self.recompute = settings.gradient_checkpointing
        self.timestep_encoder = TimestepEncoder(width)
        self.transformer_blocks = nn.ModuleList(
            HeadBlock(settings, width if i % 2 else context_width, backend) for i in range(settings.layers)
        )
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, settings.hidden_size)

    def forward(self, x: Tensor, context: Tensor, bucket: Tensor) -> Tensor:
        """x [B, M, W], context [B, L, E], bucket int64 [B] -> [B, M, hidden_size]."""
        condition = self.timestep_encoder(bucket)
        for i, block in enumerate(self.transformer_blocks):
            x = recomputed(block, self.recompute, x, None if i % 2 else context, condition)
        shift, scale = self.proj_out_1(functional.silu(condition))[:, None].chunk(2, dim=-1)
        x = functional.layer_norm(x, x.shape[-1:], eps=OUTPUT_NORM_EPS) * (1 + scale) + shift
        return self.proj_out_2(x)
