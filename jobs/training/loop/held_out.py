"""Held-out numbers: how well the model predicts validation episodes, and whether it uses latent actions and images.

The samples are cut into the same batches whatever the number of ranks, each with random numbers of its own, and the
ranks share the batches: so many ranks give the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import TrainerSettings
from model.vla_jepa import VLAJEPA
from pipeline.format.build import Build
from pipeline.format.schema import Observation, Targets
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import NumpyBatch, ordered_indices

ToDevice = Callable[[NumpyBatch], tuple[Observation[Tensor], Targets[Tensor]]]
GUESSES = ("model", "nothing_changes", "shuffled")


@dataclass(frozen=True)
class EpisodeErrors:
    """Mean L1 of the world model over an episode's samples and their future steps."""

    model: float
    nothing_changes: float
    shuffled: float
    samples: int


@dataclass(frozen=True)
class HeldOut:
    """Held-out numbers of one build: mean L1 of the world model over future steps, and the action loss.

    nothing_changes  the last true latent repeated;  shuffled  with the latent actions of another sample
    latent_action_reliance  shuffled / model: 1 where latent actions are not used
    per_step, per_step_nothing_changes  by future step; None where no sample has that step
    action_shuffled  the action loss with the images of another sample; None for human video
    image_reliance   action_shuffled / action: 1 where actions do not depend on the images
    by_episode       the same by episode
    """

    model: float
    nothing_changes: float
    shuffled: float
    latent_action_reliance: float
    per_step: tuple[float | None, ...]
    per_step_nothing_changes: tuple[float | None, ...]
    action: float | None
    action_shuffled: float | None
    image_reliance: float | None
    samples: int
    episodes: int
    by_episode: Mapping[str, EpisodeErrors] = field(default_factory=dict)


def has_pair(build: Build) -> bool:
    """Whether held-out numbers can be had: exchanging latent actions takes two samples."""
    return bool(build.manifest["counts"].get("val", {"samples": 0})["samples"] > 1)


@torch.no_grad()
def evaluate(
    model: VLAJEPA,
    reader: SampleReader,
    ranks: Ranks,
    to_device: ToDevice,
    autocast: Callable[[], torch.autocast],
    settings: TrainerSettings,
) -> HeldOut:
    """Held-out numbers of one build, the same on all ranks; by `eval_batch`, `eval_samples` and `seed` of settings."""
    size = settings.eval_batch
    batches = [chosen for chosen in ordered_indices(len(reader), size, settings.eval_samples) if len(chosen) > 1]
    like: Any = {"dtype": torch.float64, "device": ranks.device}
    errors = torch.zeros(len(GUESSES), sum(map(len, batches)), model.sizes.steps, **like)
    action = torch.zeros(3, len(batches), **like)
    for first in range(0, len(batches), ranks.world):
        number = first + ranks.rank
        # With sharded parameters every rank has to run the same passes: those without a batch run the last one.
        observation, targets = to_device(reader.read(batches[min(number, len(batches) - 1)]))
        with autocast():
            found, sums = _measure(model, observation, targets, settings.seed, number)
        if number < len(batches):
            errors[:, number * size :][:, : found.shape[1]], action[:, number] = found, sums
    # Every rank has filled in its own batches; the rest of its numbers are zeros.
    everything = ranks.sum(torch.cat([errors.flatten(), action.flatten()])).cpu()
    episodes = [reader.episode(int(index)) for chosen in batches for index in chosen]
    totals = [sum(row) for row in everything[errors.numel() :].view(action.shape).tolist()]
    return _summary(everything[: errors.numel()].view(errors.shape).numpy(), np.array(episodes), *totals)


def _measure(
    model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor], seed: int, number: int
) -> tuple[Tensor, Tensor]:
    """Numbers of one batch.

    Returns:
        Errors float32 [guess, B, K]. The action steps that are not masked, and the action loss times their number,
        with the samples' own images and with those half a batch further on: float64 [3], zeros for human video.
    """
    device = targets.latents.device
    errors = model.world_model_sample_errors(observation, targets, _generator(seed, number, "cpu"))
    own = model((observation, targets), generator=_generator(seed, number, device))[0].action
    if own is None or targets.action_mask is None:
        return errors, torch.zeros(3)
    images = observation.images.roll(len(observation.images) // 2, 0)
    swapped = replace(observation, images=images)
    other = model((swapped, targets), generator=_generator(seed, number, device))[0].action
    steps = targets.action_mask.sum().double()
    return errors, torch.stack([steps, steps * own.double(), steps * other.double()])


def _summary(
    errors: NDArray[np.float64], episodes: NDArray[np.str_], actions: float, action: float, other_images: float
) -> HeldOut:
    """Numbers of a build.

    Args:
        errors: float64 [guess, N, K], NaN where masked.
        episodes: [N], of each sample.
        actions: action steps that are not masked.
        action, other_images: sums of the action loss over them, with the samples' own images and with others.
    """
    per_step = _mean(errors, axis=1)
    means = dict(zip(GUESSES, _mean(per_step, axis=1).tolist(), strict=True))
    return HeldOut(
        **means,
        latent_action_reliance=means["shuffled"] / means["model"],
        per_step=_numbers(per_step[0]),
        per_step_nothing_changes=_numbers(per_step[1]),
        action=action / actions if actions else None,
        action_shuffled=other_images / actions if actions else None,
        image_reliance=other_images / action if action else None,
        samples=len(episodes),
        episodes=len(set(episodes.tolist())),
        by_episode={str(name): _episode(errors[:, episodes == name]) for name in np.unique(episodes)},
    )


def _episode(errors: NDArray[np.float64]) -> EpisodeErrors:
    means = _mean(errors.reshape(len(GUESSES), -1), axis=1).tolist()
    return EpisodeErrors(**dict(zip(GUESSES, means, strict=True)), samples=errors.shape[1])


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is not NaN; NaN where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(there, values, 0).sum(axis=axis) / there.sum(axis=axis)
    return mean


def _numbers(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(value) else float(value) for value in values)


def _generator(seed: int, number: int, device: Any) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:held-out:{number}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
