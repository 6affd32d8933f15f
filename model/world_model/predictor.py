"""The latent world model: z_0..z_{S-1} and latent actions in, z_1..z_S out, causal over steps.

A V-JEPA2-AC style transformer. Each step is a group of A action tokens followed by N = grid x grid patch tokens; a
token sees all tokens of its own step and of earlier steps (rule L4). Positions are rotary over frame, row and column.

Shapes: B batch, S steps, N patch tokens a step, A action tokens a step, M = S x (A + N) tokens in the sequence,
V views, D latent width, E width of latent actions, P predictor width, H heads, C = P / H channels a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.attention.attention import StepCausal, attention
from model.attention.recompute import recomputed
from model.settings import PredictorInit, PredictorSettings

ROTARY_BASE = 10000.0
"""Base of the rotary frequencies, base ** (-i / (channels / 2)) for pair i (V-JEPA2)."""


def rotary_angles(steps: int, grid: int, action_tokens: int, head_width: int) -> Tensor:
    """Angles float32 [M, R] by which the first R channels of each token are turned.

    Channels fall into three even parts of 2 * ((C // 3) // 2) for frame, row, column, R together; the rest is not
    turned. Within a part the sequence of frequencies occurs twice in a row and is not interleaved (as V-JEPA2 was
    trained). Action tokens carry the frame alone.
    """
    part = 2 * ((head_width // 3) // 2)
    patch = torch.arange(grid * grid)
    position = torch.zeros(steps, action_tokens + grid * grid, 3)
    position[:, :, 0] = torch.arange(steps)[:, None]
    position[:, action_tokens:, 1] = patch // grid
    position[:, action_tokens:, 2] = patch % grid
    frequency = ROTARY_BASE ** (-torch.arange(part // 2) / (part / 2))
    return (position[..., None] * frequency).repeat(1, 1, 1, 2).flatten(2).flatten(0, 1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (2i, 2i+1) of x [..., C] by the angles whose cosines and sines are [..., R], R <= C."""
    turned, rest = x.split((cos.shape[-1], x.shape[-1] - cos.shape[-1]), dim=-1)
    even, odd = turned.unflatten(-1, (-1, 2)).unbind(-1)
    turned = turned * cos + torch.stack((-odd, even), dim=-1).flatten(-2) * sin
    return torch.cat((turned, rest.to(turned.dtype)), dim=-1)


class PredictorAttention(nn.Module):
    """Self-attention with rotary positions."""

    def __init__(self, dim: int, heads: int, backend: str) -> None:
        super().__init__()
        self.heads = heads
        self.backend = backend
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: StepCausal) -> Tensor:
        """x [B, M, P] -> [B, M, P]; cos, sin [M, R]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = attention(rotate(q, cos, sin), rotate(k, cos, sin), v, mask, self.backend)
        return self.proj(out.transpose(1, 2).flatten(2))


class PredictorMLP(nn.Module):
    """Two layers with an exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[..., P] -> [..., P]."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class PredictorBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, settings: PredictorSettings, backend: str) -> None:
        super().__init__()
        dim = settings.dim
        self.norm1 = nn.LayerNorm(dim, eps=settings.layer_norm_eps)
        self.attn = PredictorAttention(dim, settings.heads, backend)
        self.norm2 = nn.LayerNorm(dim, eps=settings.layer_norm_eps)
        self.mlp = PredictorMLP(dim, int(dim * settings.mlp_ratio))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: StepCausal) -> Tensor:
        """x [B, M, P] -> [B, M, P]."""
        x = x + self.attn(self.norm1(x), cos, sin, mask)
        return x + self.mlp(self.norm2(x))


class LatentPredictor(nn.Module):
    """Predicts the next step's latents from those so far and their latent actions.

    Args:
        settings: depth, heads, width, views.
        steps: S.
        tokens: N patch tokens a step, a square number.
        latent_width: D.
        action_width: E.
        action_tokens: A action tokens a step.
        backend: see `model.attention`.

    Raises:
        ValueError: `tokens` is no square number, or init is "copy" and the width cannot hold the latents.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        settings: PredictorSettings,
        steps: int,
        tokens: int,
        latent_width: int,
        action_width: int,
        action_tokens: int,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        grid = math.isqrt(tokens)
        if grid * grid != tokens:
            raise ValueError(f"tokens a step must form a square grid, got {tokens}")
        self.steps, self.tokens, self.action_tokens = steps, tokens, action_tokens
        self.recompute = settings.gradient_checkpointing
        width = settings.views * latent_width
        self.predictor_embed = nn.Linear(width, settings.dim)
        self.action_encoder = nn.Linear(action_width, settings.dim)
        self.predictor_blocks = nn.ModuleList(PredictorBlock(settings, backend) for _ in range(settings.depth))
        self.predictor_norm = nn.LayerNorm(settings.dim, eps=settings.layer_norm_eps)
        self.predictor_proj = nn.Linear(settings.dim, width)
        angles = rotary_angles(steps, grid, action_tokens, settings.dim // settings.heads)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.apply(_initialise)
        if settings.init == PredictorInit.COPY:
            self._start_as_a_copy()
        else:
            self._scale_residual_branches()

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predictions of z_1..z_S, or of the first steps alone if only their inputs are given.

        Args:
            latents: [B, S*N, V*D], z_0..z_{S-1}.
            actions: [B, S*A, E]; group k tells what happens between z_k and z_{k+1}.

        Returns:
            [B, S*N, V*D]; rows of step k depend on latents and actions of steps <= k alone.

        Raises:
            ValueError: a shape does not fit the sizes given at construction.
        """
        steps = self._check(latents, actions)
        x = self.predictor_embed(latents).unflatten(1, (steps, self.tokens))
        a = self.action_encoder(actions).unflatten(1, (steps, self.action_tokens))
        x = torch.cat([a, x], dim=2).flatten(1, 2)
        mask = StepCausal(steps, self.action_tokens + self.tokens)
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        for block in self.predictor_blocks:
            x = recomputed(block, self.recompute, x, cos, sin, mask)
        x = x.unflatten(1, (steps, -1))[:, :, self.action_tokens :].flatten(1, 2)
        return self.predictor_proj(self.predictor_norm(x))

    def rollout(self, context: Tensor, actions: Tensor, steps: int) -> Tensor:
        """Predictions of z_1..z_steps from z_0 alone, each made on the ones before (V-JEPA 2-AC, arXiv 2506.09985).

        Gradients flow back through the predictions that were fed in.

        Args:
            context: [B, N, V*D], z_0.
            actions: [B, S*A, E]; those of later steps are not read.
            steps: 1 to S.

        Returns:
            [B, steps*N, V*D].
        """
        latents = context
        for step in range(1, steps + 1):
            predicted = self(latents, actions[:, : step * self.action_tokens])[:, -self.tokens :]
            latents = torch.cat([latents, predicted.to(latents.dtype)], dim=1)
        return latents[:, self.tokens :]

    def _check(self, latents: Tensor, actions: Tensor) -> int:
        """How many steps there are, 1 to S."""
        steps = min(max(latents.shape[1] // self.tokens, 1), self.steps)
        expected = (
            (latents.shape[0], steps * self.tokens, self.predictor_embed.in_features),
            (latents.shape[0], steps * self.action_tokens, self.action_encoder.in_features),
        )
        if (tuple(latents.shape), tuple(actions.shape)) != expected:
            raise ValueError(
                f"the predictor takes latents {expected[0]} and actions {expected[1]} at up to {self.steps} steps, got "
                f"{tuple(latents.shape)} and {tuple(actions.shape)}"
            )
        return steps

    def _start_as_a_copy(self) -> None:
        """Predict what was put in: silent residual branches, identities at both ends.

        Exact for latents whose channels have mean 0 and variance 1 in each view, as the encoder's final norm leaves
        them before its learned scale; otherwise the normalised latent comes out.
        """
        dim, width = self.predictor_embed.weight.shape
        if dim < width:
            raise ValueError(
                f"model.predictor.dim={dim} is too small to start as a copy of views x latent width = {width}; "
                f"set model.predictor.dim={width} or more, or model.predictor.init=reference"
            )
        with torch.no_grad():
            nn.init.eye_(self.predictor_embed.weight)
            # The channels beyond `width` are zero, which the norm answers by enlarging the others.
            nn.init.eye_(self.predictor_proj.weight).mul_(math.sqrt(width / dim))
            for block in self._blocks():
                nn.init.zeros_(block.attn.proj.weight)
                nn.init.zeros_(block.mlp.fc2.weight)

    def _blocks(self) -> list[PredictorBlock]:
        return [block for block in self.predictor_blocks if isinstance(block, PredictorBlock)]

    def _scale_residual_branches(self) -> None:
        """Divide the last layer of each residual branch of block i (from 1) by sqrt(2 i), as V-JEPA2 does."""
        with torch.no_grad():
            for i, block in enumerate(self._blocks(), start=1):
                block.attn.proj.weight.div_(math.sqrt(2 * i))
                block.mlp.fc2.weight.div_(math.sqrt(2 * i))


def _initialise(module: nn.Module) -> None:
    """Truncated normal of standard deviation 0.02, zero biases (V-JEPA2)."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
