"""A rank's part of a step as forward and backward passes, each with the weight its loss has in the step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from jobs.training.loop.data import BuildPart
from jobs.training.loop.weighted_mean import Means
from model.losses import Losses
from pipeline.format.schema import Batch, Observation, Targets
from pipeline.streaming.stream import NumpyBatch


@dataclass(frozen=True)
class Pass:
    """What passes through the model at once.

    name    of the build
    weight  its samples over this rank's samples of the kind
    """

    name: str
    batch: NumpyBatch
    weight: float


def cut_into_passes(parts: Sequence[BuildPart], pieces: int) -> list[Pass]:
    """The parts of one kind of builds, each cut into at most `pieces`."""
    total = sum(len(part.batch.keys) for part in parts)
    return [
        Pass(part.build.name, piece, len(piece.keys) / total) for part in parts for piece in _cut(part.batch, pieces)
    ]


def record(means: Means, current: Pass, losses: Losses, targets: Targets[Tensor]) -> None:
    """Add what a pass measured."""
    name, count = current.name, len(current.batch.keys)
    means.add(f"{name}/world_model", losses.world_model, targets.latent_mask.sum())
    if losses.rollout is not None:
        means.add(f"{name}/rollout", losses.rollout, count)
    if losses.action is not None and targets.action_mask is not None:
        means.add(f"{name}/action", losses.action, targets.action_mask.sum())
    steps = targets.latent_mask.sum(dim=0)
    for k, (error, copied, samples) in enumerate(zip(losses.per_step, losses.nothing_changes, steps, strict=True), 1):
        means.add(f"{name}/step_{k}", error, samples)
        means.add(f"{name}/nothing_changes_{k}", copied, samples)


def _cut(batch: NumpyBatch, pieces: int) -> list[NumpyBatch]:
    if pieces == 1:
        return [batch]
    chunks = np.array_split(np.arange(len(batch.keys)), min(pieces, len(batch.keys)))
    return [_rows(batch, slice(int(chunk[0]), int(chunk[-1]) + 1)) for chunk in chunks]


def _rows(batch: NumpyBatch, rows: slice) -> NumpyBatch:
    o, t = batch.observation, batch.targets
    observation = Observation(o.images[rows], o.instruction[rows], _some(o.state, rows))
    fields = {field.name: _some(getattr(t, field.name), rows) for field in dataclasses.fields(t)}
    return Batch(batch.keys[rows], observation, Targets(**fields))


def _some(array: Any, rows: slice) -> Any:
    return None if array is None else array[rows]
