"""The world models and policies that `vlajepa demo-pretraining` trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from jobs.demos.pretraining.settings import DemoPretrainingConfig
from model.settings import HeadInput


class Start(StrEnum):
    """What a policy's training starts from.

    SCRATCH        random weights
    SHUFFLED       a world model whose predictor got the latent actions of another sample: the control
    OTHER_TARGETS  a world model that had to tell the future of another sample: likewise
    CLONED         behaviour cloning on the world model's samples: their actions, and no world model
    PRETRAINED     a world model
    """

    SCRATCH = "scratch"
    SHUFFLED = "shuffled"
    OTHER_TARGETS = "other_targets"
    CLONED = "cloned"
    PRETRAINED = "pretrained"

    def world_model(self, seed: int) -> str:
        """Name of the run that it starts from."""
        return f"{self.value}-seed-{seed}"

    @property
    def words(self) -> tuple[str, ...]:
        """Settings of that run which differ from a world model's."""
        return _WORDS.get(self, ())


_WORDS = {
    Start.SHUFFLED: ("model.predictor.steered_by=shuffled",),
    Start.OTHER_TARGETS: ("model.loss.other_targets=true",),
    Start.CLONED: ("model.loss.action=1", "model.loss.world_model_on_robot=0"),
}

STARTS = (Start.SCRATCH, Start.SHUFFLED, Start.PRETRAINED)
"""Of `vlajepa demo-pretraining`."""

WORLD_MODELS = (Start.PRETRAINED, Start.SHUFFLED)


@dataclass(frozen=True)
class Kind:
    """A row of the table: policies that differ in the seed alone."""

    start: Start
    demonstrations: int
    reads: HeadInput


@dataclass(frozen=True)
class Policy:
    """A policy that is fine-tuned and evaluated."""

    kind: Kind
    seed: int

    @property
    def name(self) -> str:
        """Of its run in runs/ and its file in results/."""
        kind = self.kind
        return f"{kind.start.value}-{kind.reads.value}-{kind.demonstrations}-seed-{self.seed}"


def kinds(settings: DemoPretrainingConfig) -> list[Kind]:
    """In the order of the table."""
    return [
        Kind(start, count, reads)
        for reads in settings.reads
        for count in sorted(settings.demonstrations)
        for start in STARTS
    ]


def policies(settings: DemoPretrainingConfig) -> Iterator[Policy]:
    """Seed by seed."""
    for seed in settings.seeds:
        yield from (Policy(kind, seed) for kind in kinds(settings))
