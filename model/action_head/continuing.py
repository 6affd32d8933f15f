"""Chunks that go on from the one before: real-time chunking (Black, Galliker, Levine 2025, arXiv 2506.07339).

While a chunk is carried out, the next one is inferred. Its first d actions are those that are carried out meanwhile,
and its further ones shall go on from them: the flow is led to the earlier chunk Y where the two overlap, by
pseudoinverse guidance (eq. 2-4 there). With A the noisy actions at time t, v the velocity, A1 = A + (1 - t) v:

    v' = v + min(beta, (1 - t) / (t r2)) (Y - A1)^T diag(W) dA1/dA,    r2 = (1 - t)^2 / (t^2 + (1 - t)^2)

and the soft mask (eq. 5 there) over the n actions that Y has:

    W_i = 1 for i < d;    c (e^c - 1) / (e - 1) with c = (n - i) / (n - d + 1) for d <= i < n;    0 beyond

Shapes: B batch, T actions in a chunk, A action width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

GUIDANCE = 5.0
"""beta: the paper's clip, chosen for few steps of integration."""


def soft_mask(delay: int, known: int, chunk: int) -> Tensor:
    """W, float32 [T]; delay: d above, known: n above."""
    place = torch.arange(chunk, dtype=torch.float64)
    c = ((known - place) / (known - delay + 1)).clamp(min=0.0)
    soft = c * torch.expm1(c) / math.expm1(1.0)
    return torch.where(place < delay, 1.0, torch.where(place < known, soft, 0.0)).float()


def guidance_weight(time: float) -> float:
    """The factor of the guidance at a time 0 <= t < 1."""
    if time == 0:
        return GUIDANCE
    spread = (1 - time) ** 2 / (time**2 + (1 - time) ** 2)
    return min(GUIDANCE, (1 - time) / (time * spread))


def continued(
    velocity: Callable[[Tensor, float], Tensor], start: Tensor, earlier: Tensor, weights: Tensor, steps: int
) -> Tensor:
    """Actions float32 [B, T, A] by Euler integration from `start` (noise) at t = 0 to t = 1, led to `earlier`.

    Args:
        velocity: of actions [B, T, A] at a time; differentiable.
        earlier: Y, [B, T, A]; what has no weight may hold anything finite.
        weights: W, [B, T]; 0 everywhere: the row is as without guidance.
    """
    actions = start
    for i in range(steps):
        time = i / steps
        with torch.enable_grad():
            noisy = actions.detach().requires_grad_()
            speed = velocity(noisy, time).float()
            ahead = noisy + (1 - time) * speed
            error = ((earlier - ahead) * weights[..., None]).detach()
            (pull,) = torch.autograd.grad(ahead, noisy, error)
        actions = actions + (speed.detach() + guidance_weight(time) * pull) / steps
    return actions.detach()
