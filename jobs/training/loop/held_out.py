"""Held-out numbers: how well the model predicts validation episodes, and whether it uses latent actions and images.

The samples are cut into the same batches whatever the number of ranks, each with random numbers of its own, and the
ranks share the batches: so many ranks give the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.training.loop.ranks import Ranks
from model.vla_jepa import VLAJEPA
from pipeline.format.build import Build
from pipeline.format.schema import Observation, Targets
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import NumpyBatch, ordered_indices

ToDevice = Callable[[NumpyBatch], tuple[Observation[torch.Tensor], Targets[torch.Tensor]]]
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


@dataclass(frozen=True)
class _Errors:
    """Of the samples of some batches: errors float64 [guess, N, K], NaN where masked; the episode of each sample.

    action, action_shuffled  sums over the `actions` steps that are not masked
    """

    errors: NDArray[np.float64]
    episodes: tuple[str, ...]
    action: float
    action_shuffled: float
    actions: int


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
    batch_size: int,
    limit: int,
    seed: int,
) -> HeldOut:
    """Held-out numbers of one build, the same on all ranks.

    Args:
        batch_size, limit: samples at a time and in all, spread over the split.
        seed: of the exchanges and of the action loss's noise.
    """
    batches = [chosen for chosen in ordered_indices(len(reader), batch_size, limit) if len(chosen) > 1]
    found: list[tuple[int, _Errors]] = []
    for round_start in range(0, len(batches), ranks.world):
        number = round_start + ranks.rank
        # With parameters in parts every rank has to run the same passes: those without a batch run the last one.
        batch = reader.read(batches[min(number, len(batches) - 1)])
        observation, targets = to_device(batch)
        generator, noise = _generator(seed, number, "cpu"), _generator(seed, number, ranks.device)
        with autocast():
            errors = model.world_model_sample_errors(observation, targets, generator)
            losses = model(observation, targets, noise)
            other_images = _with_other_images(model, observation, targets, _generator(seed, number, ranks.device))
        if number < len(batches):
            valid = 0 if targets.action_mask is None else int(targets.action_mask.sum().item())
            both = (losses.action, other_images)
            action, shuffled = (valid * (0.0 if loss is None else loss.item()) for loss in both)
            episodes = tuple(reader.episode(int(index)) for index in batches[number])
            found.append((number, _Errors(errors.double().cpu().numpy(), episodes, action, shuffled, valid)))
    everything = sorted((pair for part in ranks.gather(found) for pair in part), key=lambda pair: pair[0])
    return _summary([errors for _, errors in everything])


def _with_other_images(
    model: VLAJEPA, observation: Observation[torch.Tensor], targets: Targets[torch.Tensor], noise: torch.Generator
) -> torch.Tensor | None:
    """Action loss of samples that see the images half a batch further on; None for human video."""
    if targets.actions is None:
        return None
    images = observation.images.roll(len(observation.images) // 2, 0)
    return model(replace(observation, images=images), targets, noise).action


def _summary(parts: Sequence[_Errors]) -> HeldOut:
    errors = np.concatenate([part.errors for part in parts], axis=1)
    episodes = np.array([episode for part in parts for episode in part.episodes])
    per_step = _mean(errors, axis=1)
    means = dict(zip(GUESSES, _mean(per_step, axis=1).tolist(), strict=True))
    actions = sum(part.actions for part in parts)
    action, other_images = (sum(getattr(part, name) for part in parts) for name in ("action", "action_shuffled"))
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
