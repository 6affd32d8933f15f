"""Numbers of one held-out batch: errors with own and exchanged latent actions, with own and exchanged images.

Letters: B batch, K future steps, V views, P kinds of pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jobs.training.held_out.pairs import PairKind
from model.vla_jepa import VLAJEPA, TrainingBatch
from model.world_model.prediction_error import prediction_errors, rollout_distances


@dataclass(frozen=True)
class BatchNumbers:
    """NaN where masked, or where a sample has no partner; all NaN for a kind without one.

    errors   float64 [2 + P, B, K, V]: prediction, "nothing changes", prediction with the steering of each kind
    futures  float64 [2, B]: distance of the rollout from the own future and from the twin's
    action   float64 [1 + P, B]: action loss with the own images and with those of each kind; NaN for human video
    steps    float64 [B], action steps that are not masked
    """

    errors: Tensor
    futures: Tensor
    action: Tensor
    steps: Tensor


def measure(
    model: VLAJEPA, batch: TrainingBatch, partners: Mapping[PairKind, tuple[TrainingBatch, Tensor]], seed: int
) -> BatchNumbers:
    """Numbers of a batch.

    Args:
        partners: by kind, the partners in the batch's order, and which samples have one, bool [B].
        seed: of the action loss's noise, the same for all images.
    """
    observation, targets = batch
    count = len(targets.context)
    own = model.steering(observation, targets)
    steerings = {kind: model.steering(*other) for kind, (other, _) in partners.items()}
    copied, errors, *exchanged = model.gathered(prediction_errors, targets, own, *steerings.values()).double()
    nothing = torch.full_like(errors, torch.nan)
    by_kind = dict(zip(steerings, exchanged, strict=True))
    rows = [errors, copied, *(by_kind.get(kind, nothing) for kind in PairKind)]
    futures = torch.full((2, count), torch.nan, dtype=torch.float64, device=errors.device)
    if PairKind.SAME_SCENE in partners:
        futures = model.gathered(rollout_distances, own, targets, partners[PairKind.SAME_SCENE][0][1]).double()
    action, steps = _action(model, batch, partners, seed)
    for i, kind in enumerate(PairKind):
        alone = ~partners[kind][1] if kind in partners else torch.ones(count, dtype=torch.bool, device=errors.device)
        rows[2 + i] = rows[2 + i].masked_fill(alone[:, None, None], torch.nan)
        action[1 + i] = action[1 + i].masked_fill(alone, torch.nan)
        if kind is PairKind.SAME_SCENE:
            futures = futures.masked_fill(alone, torch.nan)
    return BatchNumbers(torch.stack(rows), futures, action, steps)


def _action(
    model: VLAJEPA, batch: TrainingBatch, partners: Mapping[PairKind, tuple[TrainingBatch, Tensor]], seed: int
) -> tuple[Tensor, Tensor]:
    """Action losses [1 + P, B] of each sample, and its action steps [B]. The scene's twin has the same images."""
    observation, targets = batch
    device, count = targets.context.device, len(targets.context)
    losses = torch.full((1 + len(PairKind), count), torch.nan, dtype=torch.float64, device=device)
    if targets.actions is None or targets.action_mask is None or not model.student_counts:
        return losses, torch.zeros(count, dtype=torch.float64, device=device)
    images = {0: observation.images}
    for i, kind in enumerate(PairKind):
        if kind in partners and kind is not PairKind.SAME_SCENE:
            images[1 + i] = partners[kind][0][0].images
    for row, shown in images.items():
        generator = seeded(seed, device)
        losses[row] = model.action_losses((replace(observation, images=shown), targets), generator).double()
    return losses, targets.action_mask.sum(dim=1).double()


def seeded(seed: int, device: Any) -> torch.Generator:
    """A generator of its own for each purpose."""
    digest = hashlib.sha256(f"held-out:{seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
