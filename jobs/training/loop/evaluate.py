"""Held-out numbers: how well the model predicts validation episodes, and whether it uses latent actions and images.

The samples are cut into the same batches whatever the number of ranks, each with random numbers of its own, and the
ranks share the batches: so many ranks give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.training.held_out.measure import BatchNumbers, Partner, Partners, measure
from jobs.training.held_out.pairs import Pairs, find_pairs, picture_name
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
    def choose(
        cls, reader: SampleReader, settings: TrainerSettings, mark: Callable[[str], None] = lambda _: None
    ) -> HeldOutSamples:
        """By `eval_batch`, `eval_samples`, `eval_partners` and `seed`. Reads all: their pictures and instructions."""
        batches = ordered_indices(len(reader), settings.eval_batch, settings.eval_samples)
        episodes, pictures, instructions = [], [], list[str]()
        for number, chosen in enumerate(batches):
            mark(f"held-out samples, batch {number}")
            observation = reader.read(chosen).observation
            episodes += [reader.episode(int(index)) for index in chosen]
            pictures += [picture_name(images) for images in observation.images]
            instructions += observation.instruction
        return cls(reader, batches, find_pairs(episodes, pictures, instructions, settings.eval_partners, settings.seed))

    @property
    def count(self) -> int:
        """N."""
        return sum(map(len, self.batches))

    @property
    def most_partners(self) -> int:
        """R, of any kind."""
        return max((of.shape[1] for of in self.pairs.partners.values()), default=0)

    def rows(self, number: int) -> slice:
        """Where the samples of a batch stand among all that are measured."""
        first = sum(map(len, self.batches[:number]))
        return slice(first, first + len(self.batches[number]))

    def partners(self, number: int, steering: Tensor, to_device: ToDevice) -> Partners:
        """Of a batch's samples. Those without one stand for themselves.

        Args:
            steering: float32 [N, K*A, E], what steers all samples.
        """
        every, rows = np.concatenate(self.batches), self.rows(number)
        own = np.arange(rows.start, rows.stop)

        def partner(of: NDArray[np.int64]) -> Partner:
            places = np.where(of >= 0, of, own)
            chosen, there = (torch.from_numpy(each).to(steering.device) for each in (places, of >= 0))
            return Partner(lambda: to_device(self.reader.read(every[places])), steering[chosen], there)

        return {kind: [partner(column) for column in of[rows].T] for kind, of in self.pairs.partners.items()}


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
    steering = _steer(model, samples, ranks, to_device, autocast)
    total = BatchNumbers.filled(0.0, samples.count, samples.most_partners, model, ranks.device)
    for number, shown in _shares(samples, ranks):
        ranks.position.mark(f"held-out losses, batch {number - ranks.rank}")
        batch, rows = to_device(samples.reader.read(samples.batches[shown])), samples.rows(shown)
        partners = samples.partners(shown, steering, to_device)
        with autocast():
            found = measure(model, batch, steering[rows], partners, samples.most_partners, seed + number)
        if number == shown:
            for name, values in vars(total).items():
                values[rows] = getattr(found, name)
    # Every rank has filled in its own batches; the rest of its numbers are zeros.
    summed = {name: ranks.sum(values).cpu().numpy() for name, values in vars(total).items()}
    return summarise(**summed, pairs=samples.pairs)


def _steer(
    model: VLAJEPA,
    samples: HeldOutSamples,
    ranks: Ranks,
    to_device: ToDevice,
    autocast: Callable[[], torch.autocast],
) -> Tensor:
    """What steers each of the samples, float32 [N, K*A, E], the same on all ranks: a sample is a partner of many."""
    tokens = model.sizes.steps * model.settings.prompt.action_tokens_per_step
    found = torch.zeros((samples.count, tokens, model.student.width), device=ranks.device)
    for number, shown in _shares(samples, ranks):
        ranks.position.mark(f"held-out latent actions, batch {number - ranks.rank}")
        with autocast():
            steering = model.steering(*to_device(samples.reader.read(samples.batches[shown])))
        if number == shown:
            found[samples.rows(shown)] = steering.float()
    return ranks.sum(found)


def _shares(samples: HeldOutSamples, ranks: Ranks) -> Iterator[tuple[int, int]]:
    """Numbers of this rank's batches, and of the batch to run: with sharded parameters every rank has to run the same
    passes, so those without a batch run the last one."""
    for first in range(0, len(samples.batches), ranks.world):
        number = first + ranks.rank
        yield number, min(number, len(samples.batches) - 1)
