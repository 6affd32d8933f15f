"""The world models and policies that `vlajepa demo-pretraining` trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.demos.pretraining.settings import DemoPretrainingConfig
from jobs.demos.pretraining.start import Start
from model.settings import HeadInput


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
        for start in Start
        if start in settings.starts
    ]


def policies(settings: DemoPretrainingConfig) -> Iterator[Policy]:
    """Seed by seed."""
    for seed in settings.seeds:
        yield from (Policy(kind, seed) for kind in kinds(settings))


def world_models(settings: DemoPretrainingConfig) -> list[Start]:
    """Starts that are trained first: the world model, then its controls."""
    controls = (start for start in Start if start not in (Start.PRETRAINED, Start.SCRATCH))
    return [start for start in (Start.PRETRAINED, *controls) if start in settings.starts]
