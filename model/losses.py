"""Losses of the world model and what they are compared with.

Shapes: B batch, K future steps, V views, N tokens a step and view, D latent width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Losses:
    """float32 scalars; `total` is the weighted sum.

    world_model      by teacher forcing
    rollout          on the predictor's own predictions; None if it has no weight
    action           None for human video
    per_step         float32 [K], the world-model loss of each future step, without gradient; NaN where all are masked
    nothing_changes  float32 [K], the same when the true latent of the step before is the prediction
    """

    total: Tensor
    world_model: Tensor
    rollout: Tensor | None
    action: Tensor | None
    per_step: Tensor
    nothing_changes: Tensor


def merge_views(latents: Tensor) -> Tensor:
    """Put the views of each token side by side, [B, K, V, N, D] -> float32 [B, K*N, V*D].

    Column v*D + d of row k*N + n is channel d of token n of view v. Samples never mix (rule L7).
    """
    b, k, v, n, d = latents.shape
    return latents.float().permute(0, 1, 3, 2, 4).reshape(b, k * n, v * d)


def step_errors(predicted: Tensor, target: Tensor, steps: int) -> Tensor:
    """Mean absolute difference of each sample and step, [B, K*N, V*D] twice -> float32 [B, K]."""
    return (predicted.float() - target.float()).abs().unflatten(1, (steps, -1)).mean(dim=(2, 3))


def view_errors(predicted: Tensor, target: Tensor, steps: int, views: int) -> Tensor:
    """As `step_errors`, of each view: float32 [B, K, V]."""
    errors = (predicted.float() - target.float()).abs().unflatten(1, (steps, -1)).unflatten(-1, (views, -1))
    return errors.mean(dim=(2, 4))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values [...] where mask (bool, same shape) holds; 0 where nothing does. float32 scalar."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_step_mean(errors: Tensor, mask: Tensor) -> Tensor:
    """Mean over samples of errors [B, K] where mask [B, K] holds -> [K]; NaN where no sample has the step."""
    return errors.masked_fill(~mask, 0.0).sum(dim=0) / mask.sum(dim=0)
