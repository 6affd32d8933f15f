"""A rank's part of a step as micro batches, each with the weight its loss has, and how they pass through the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.training.loop.step.weighted_mean import WeightedMeans
from model.losses import Losses
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.format.schema import Batch, Observation, Targets
from pipeline.streaming.stream import BuildBatch, NumpyBatch, Stream


@dataclass(frozen=True)
class MicroBatch:
    """Samples of one build, or a piece of them.

    weight  its samples over this rank's samples of the same kind (robot or human video) in the step
    """

    build: Build
    batch: NumpyBatch
    weight: float


def micro_batches(streams: Sequence[Stream], start: int, stop: int, pieces: int) -> Iterator[list[list[MicroBatch]]]:
    """The micro batches of every stream for steps start..stop-1; each build's part is cut into at most `pieces`."""
    for step in zip(*(stream.batches(start, stop) for stream in streams), strict=True):
        yield [_micro_batches(stream, parts, pieces) for stream, parts in zip(streams, step, strict=True)]


def passes(batches: Sequence[MicroBatch]) -> list[list[MicroBatch]]:
    """What goes through the model together: a micro batch of every build that has one left.

    Counted from the end, so that the last pass, in which ranks reduce their gradients, has all builds.
    """
    by_build: dict[str, list[MicroBatch]] = {}
    for micro in batches:
        by_build.setdefault(micro.build.name, []).append(micro)
    backwards = zip_longest(*(reversed(pieces) for pieces in by_build.values()))
    return [[micro for micro in together if micro is not None] for together in backwards][::-1]


def weighted_total(found: Sequence[Losses], weights: Sequence[float], names: Sequence[str]) -> Tensor:
    """The loss of a pass, of which each build must train something.

    Raises:
        SettingsError: a build reaches frozen weights alone.
    """
    for losses, name in zip(found, names, strict=True):
        if not losses.total.requires_grad:
            raise SettingsError(f"{name} trains nothing: model.freeze holds all its losses reach")
    return torch.stack([losses.total * weight for losses, weight in zip(found, weights, strict=True)]).sum()


def record(means: WeightedMeans, micro: MicroBatch, losses: Losses, targets: Targets[Tensor]) -> None:
    """Add what a micro batch measured."""
    name, count = micro.build.name, len(micro.batch.keys)
    means.add(f"{name}/world_model", losses.world_model, targets.latent_mask.sum())
    if losses.rollout is not None:
        means.add(f"{name}/rollout", losses.rollout, count)
    if losses.action is not None and targets.action_mask is not None:
        means.add(f"{name}/action", losses.action, targets.action_mask.sum())
    steps = targets.latent_mask.sum(dim=0)
    for k, (error, copied, samples) in enumerate(zip(losses.per_step, losses.nothing_changes, steps, strict=True), 1):
        means.add(f"{name}/step_{k}", error, samples)
        means.add(f"{name}/nothing_changes_{k}", copied, samples)


def _micro_batches(stream: Stream, parts: Sequence[BuildBatch], pieces: int) -> list[MicroBatch]:
    total = sum(len(part.batch.keys) for part in parts)
    return [
        MicroBatch(stream.readers[part.build].build, piece, len(piece.keys) / total)
        for part in parts
        for piece in _cut(part.batch, pieces)
    ]


def _cut(batch: NumpyBatch, pieces: int) -> list[NumpyBatch]:
    """Rows of a batch in pieces, in order; `skipped` stays with the first."""
    if pieces == 1:
        return [batch]
    chunks = np.array_split(np.arange(len(batch.keys)), min(pieces, len(batch.keys)))
    return [_rows(batch, slice(int(chunk[0]), int(chunk[-1]) + 1)) for chunk in chunks]


def _rows(batch: NumpyBatch, rows: slice) -> NumpyBatch:
    o, t = batch.observation, batch.targets
    observation = Observation(o.images[rows], o.instruction[rows], _some(o.state, rows))
    fields = {field.name: _some(getattr(t, field.name), rows) for field in dataclasses.fields(t)}
    return Batch(batch.keys[rows], observation, Targets(**fields), () if rows.start else batch.skipped)


def _some(array: Any, rows: slice) -> Any:
    return None if array is None else array[rows]
