"""Pipelines that split by something else than the episode's own id and the recorded seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pipeline.sources.base import HashedSplitSettings
from pipeline.sources.naming import hashed_split
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

Split = Callable[[HashedSplitSettings, str], str]


def _split(world: World, rule: Split) -> None:
    world.patch.setattr(HashedSplitSettings, "split_of", rule)


def _own(source: HashedSplitSettings, episode: str) -> str:
    return episode.removeprefix(f"{source.name}-")


def split_by_the_name_of_the_source(world: World) -> None:
    """Another name, another split: two builds of one dataset hold different episodes out."""

    def split(source: HashedSplitSettings, episode: str) -> str:
        value = int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big") / 2**64
        return "val" if value < source.val_share else "train"

    _split(world, split)


def split_by_another_seed_than_recorded(world: World) -> None:
    _split(world, lambda source, episode: hashed_split(_own(source, episode), 7, source.val_share))


def split_by_the_last_digit(world: World) -> None:
    _split(world, lambda source, episode: "val" if int(episode[-1]) == 1 else "train")


def splits_exchanged_for_one_episode(world: World) -> None:
    """The one that is easiest to predict goes to validation."""
    honest = HashedSplitSettings.split_of

    def split(source: HashedSplitSettings, episode: str) -> str:
        other = {"train": "val", "val": "train"} if episode.endswith("0") else {}
        return other.get(honest(source, episode), honest(source, episode))

    _split(world, split)


PIPELINES = tuple(
    LeakyPipeline(apply, "robot", "L6", "source", "the raw data marks it")
    for apply in (
        split_by_the_name_of_the_source,
        split_by_another_seed_than_recorded,
        split_by_the_last_digit,
        splits_exchanged_for_one_episode,
    )
)
