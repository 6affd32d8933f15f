"""Held-out numbers: how well the model predicts validation episodes, and whether it uses latent actions and images.

The samples are cut into the same batches whatever the number of ranks, each with random numbers of its own, and the
ranks share the batches: so many ranks give the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.training.held_out.measure import BatchNumbers, measure
from jobs.training.held_out.pairs import PairKind, Pairs, find_pairs
from jobs.training.held_out.result import HeldOut
from jobs.training.held_out.summary import summarise
from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import TrainerSettings
from model.vla_jepa import VLAJEPA, TrainingBatch
from pipeline.format.build import Build
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import NumpyBatch, ordered_indices

ToDevice = Callable[[NumpyBatch], TrainingBatch]


@dataclass(frozen=True)
class HeldOutSamples:
    """The samples of a build's validation split that are measured, in batches, and their partners.

    batches  indices in the split, int64 [B] each
    """

    reader: SampleReader
    batches: Sequence[NDArray[np.int64]]
    pairs: Pairs

    @classmethod
    def choose(cls, reader: SampleReader, settings: TrainerSettings) -> HeldOutSamples:
        """By `eval_batch`, `eval_samples` and `seed`. Reads all of them, for their pictures and instructions."""
        batches = ordered_indices(len(reader), settings.eval_batch, settings.eval_samples)
        episodes, scenes, instructions = [], [], list[str]()
        for chosen in batches:
            observation = reader.read(chosen).observation
            episodes += [reader.episode(int(index)) for index in chosen]
            scenes += [hashlib.sha256(images.tobytes()).hexdigest() for images in observation.images]
            instructions += observation.instruction
        return cls(reader, batches, find_pairs(episodes, scenes, instructions, settings.seed))

    def partners(self, number: int) -> Mapping[PairKind, tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """By kind: indices in the split of the partners of a batch's samples, and which have one. Those without stand
        for themselves."""
        every = np.concatenate(self.batches)
        first = sum(map(len, self.batches[:number]))
        own = np.arange(first, first + len(self.batches[number]))
        found = {kind: of[own] for kind, of in self.pairs.partners.items()}
        return {kind: (every[np.where(of >= 0, of, own)], of >= 0) for kind, of in found.items()}


def has_pair(build: Build) -> bool:
    """Whether held-out numbers can be had: exchanging latent actions takes two samples."""
    return bool(build.manifest["counts"].get("val", {"samples": 0})["samples"] > 1)


@torch.no_grad()
def evaluate(
    model: VLAJEPA,
    samples: HeldOutSamples,
    ranks: Ranks,
    to_device: ToDevice,
    autocast: Callable[[], torch.autocast],
    seed: int,
) -> HeldOut:
    """Held-out numbers of one build, the same on all ranks."""
    total = _nothing(sum(map(len, samples.batches)), model, ranks.device)
    size = len(samples.batches[0])
    for first in range(0, len(samples.batches), ranks.world):
        number = first + ranks.rank
        ranks.position.mark(f"held-out losses, batch {first}")
        # With sharded parameters every rank has to run the same passes: those without a batch run the last one.
        shown = min(number, len(samples.batches) - 1)
        batch = to_device(samples.reader.read(samples.batches[shown]))
        partners = {
            kind: (to_device(samples.reader.read(indices)), torch.from_numpy(there).to(ranks.device))
            for kind, (indices, there) in samples.partners(shown).items()
        }
        with autocast():
            found = measure(model, batch, partners, seed + number)
        if number < len(samples.batches):
            for name, values in vars(total).items():
                _rows(name, values, number * size, len(samples.batches[number])).copy_(getattr(found, name))
    # Every rank has filled in its own batches; the rest of its numbers are zeros.
    summed = {name: ranks.sum(values).cpu().numpy() for name, values in vars(total).items()}
    return summarise(**summed, pairs=samples.pairs)


def _nothing(count: int, model: VLAJEPA, device: torch.device) -> BatchNumbers:
    """Zeros for all samples."""
    kinds = len(PairKind)
    like = {"dtype": torch.float64, "device": device}
    shape = (2 + kinds, count, model.sizes.steps, model.settings.predictor.views)
    return BatchNumbers(
        torch.zeros(shape, **like),  # type: ignore[call-overload]
        torch.zeros((2, count), **like),  # type: ignore[call-overload]
        torch.zeros((1 + kinds, count), **like),  # type: ignore[call-overload]
        torch.zeros(count, **like),  # type: ignore[call-overload]
    )


def _rows(name: str, values: Tensor, first: int, count: int) -> Tensor:
    """The samples of a batch: the second axis, of `steps` the only one."""
    return values.narrow(0 if name == "steps" else 1, first, count)
