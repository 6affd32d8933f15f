"""Numbers of one held-out batch: errors with own and exchanged latent actions, with own and exchanged images.

Letters: B batch, K future steps, V views, P kinds of pairs, R partners of a sample and kind, S samples that are held
out, A action tokens a step, E width of latent actions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jobs.training.held_out.pairs import PairKind
from model.vla_jepa import VLAJEPA, TrainingBatch
from model.world_model.prediction_error import prediction_errors, rollout_distances


@dataclass(frozen=True)
class Partner:
    """One partner of each sample of a batch.

    read      reads them, in the batch's order; a sample without a partner stands for itself
    steering  float32 [B, K*A, E], what steers the partners
    there     bool [B], which samples have one
    """

    read: Callable[[], TrainingBatch]
    steering: Tensor
    there: Tensor


Partners = Mapping[PairKind, Sequence[Partner]]
"""Up to R by kind."""


@dataclass(frozen=True)
class BatchNumbers:
    """NaN where masked, or where a sample has no (further) partner of a kind.

    errors     float64 [B, 2, K, V]: prediction, "nothing changes"
    exchanged  float64 [B, P, R, K, V]: prediction with the partners' steering
    futures    float64 [B, 1 + R]: distance of the rollout from the own future and from the twins'
    action     float64 [B]: action loss; NaN for human video
    images     float64 [B, P, R]: action loss with the partners' images; a twin's are the same and left out
    steps      float64 [B], action steps that are not masked
    """

    errors: Tensor
    exchanged: Tensor
    futures: Tensor
    action: Tensor
    images: Tensor
    steps: Tensor

    @classmethod
    def filled(cls, value: float, count: int, partners: int, model: VLAJEPA, device: Any) -> BatchNumbers:
        """Of B=count samples and R=partners, all of one value."""
        kinds, last = len(PairKind), (model.sizes.steps, model.settings.predictor.views)
        shapes = ((2, *last), (kinds, partners, *last), (1 + partners,), (), (kinds, partners), ())
        return cls(*(torch.full((count, *each), value, dtype=torch.float64, device=device) for each in shapes))


def measure(
    model: VLAJEPA, batch: TrainingBatch, steering: Tensor, partners: Partners, most: int, seed: int
) -> BatchNumbers:
    """Numbers of a batch.

    Args:
        steering: float32 [B, K*A, E], the batch's own.
        most: R, at least the partners of any kind.
        seed: of the action loss's noise, the same for all images.
    """
    targets = batch[1]
    found = BatchNumbers.filled(torch.nan, len(targets.context), most, model, targets.context.device)
    places = [(kind, rank, partner) for kind, of in partners.items() for rank, partner in enumerate(of)]
    others = (partner.steering for _, _, partner in places)
    copied, errors, *exchanged = model.gathered(prediction_errors, targets, steering, *others).double()
    found.errors[:, 0], found.errors[:, 1] = errors, copied
    for (kind, rank, partner), values in zip(places, exchanged, strict=True):
        found.exchanged[:, _row(kind), rank] = values.masked_fill(~partner.there[:, None, None], torch.nan)
    if twins := partners.get(PairKind.SAME_SCENE):
        _measure_futures(model, batch, steering, twins, found.futures)
    _measure_actions(model, batch, partners, seed, found)
    return found


def _row(kind: PairKind) -> int:
    return list(PairKind).index(kind)


def _measure_futures(
    model: VLAJEPA, batch: TrainingBatch, steering: Tensor, twins: Sequence[Partner], found: Tensor
) -> None:
    futures = [batch[1], *(twin.read()[1] for twin in twins)]
    distances = model.gathered(rollout_distances, steering, *futures).double()
    for rank, twin in enumerate(twins, 1):
        found[:, rank] = distances[rank].masked_fill(~twin.there, torch.nan)
    found[:, 0] = distances[0].masked_fill(~twins[0].there, torch.nan)


def _measure_actions(model: VLAJEPA, batch: TrainingBatch, partners: Partners, seed: int, found: BatchNumbers) -> None:
    """Action losses with own and with the partners' images. The scene's twin has the same images."""
    observation, targets = batch
    if targets.actions is None or targets.action_mask is None or not model.student_counts:
        found.steps.zero_()
        return
    device = targets.context.device

    def losses(images: Tensor) -> Tensor:
        return model.action_losses((replace(observation, images=images), targets), seeded(seed, device)).double()

    found.action.copy_(losses(observation.images))
    found.steps.copy_(targets.action_mask.sum(dim=1))
    for kind in (PairKind.OTHER_EPISODE, PairKind.SAME_EPISODE):
        for rank, partner in enumerate(partners.get(kind, ())):
            values = losses(partner.read()[0].images)
            found.images[:, _row(kind), rank] = values.masked_fill(~partner.there, torch.nan)


def seeded(seed: int, device: Any) -> torch.Generator:
    """A generator of its own for each purpose."""
    digest = hashlib.sha256(f"held-out:{seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
