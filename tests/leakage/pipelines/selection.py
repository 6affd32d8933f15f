"""Pipelines that choose: episodes left out silently or for a reason that does not hold, or an order of their own.

Every sample that is left is what the raw data says, in files that are in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipeline.errors import EpisodeError
from pipeline.planning import plan
from pipeline.planning.packing import pack
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.libero.source import LiberoSource
from pipeline.sources.ssv2 import SSv2Source
from tests.leakage.pipelines.lookahead import write_libero
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World


def _reader(world: World) -> type[Any]:
    if world.source is not None:
        return LiberoSource
    return LeRobotSource if world.kind == "robot" else SSv2Source


def _index(world: World, change: Callable[[SourceIndex], SourceIndex]) -> None:
    reader = _reader(world)
    honest = reader.index
    world.patch.setattr(reader, "index", lambda self: change(honest(self)))


def _train(index: SourceIndex, number: int) -> EpisodeRef:
    return [ref for ref in index.refs if ref.split == "train"][number]


def _without(index: SourceIndex, gone: EpisodeRef, *entries: LedgerEntry) -> SourceIndex:
    refs = tuple(ref for ref in index.refs if ref != gone)
    return replace(index, refs=refs, left_out=(*index.left_out, *entries))


def _leave_out(world: World, reason: str, number: int = 1) -> None:
    """An episode goes to the ledger before anything was read."""

    def change(index: SourceIndex) -> SourceIndex:
        gone = _train(index, number)
        return _without(index, gone, LedgerEntry(gone.id, gone.split, "index", reason, "as the index says"))

    _index(world, change)


def _fail(world: World, reason: str) -> None:
    """Both jobs of a shard are told that the first episode cannot be read."""
    reader = _reader(world)
    honest, failing = reader.open, _train(reader(root=str(world.raw), name="x").index(), 0).files

    def leaky(self: Any, ref: EpisodeRef) -> Any:
        if ref.files == failing:
            raise EpisodeError(reason, "as the reader says")
        return honest(self, ref)

    world.patch.setattr(reader, "open", leaky)


def episode_left_out_silently(world: World) -> None:
    _index(world, lambda index: _without(index, _train(index, 1)))


def last_episode_left_out_silently(world: World) -> None:
    _index(world, lambda index: _without(index, _train(index, -1)))


def validation_left_out_silently(world: World) -> None:
    _index(world, lambda index: _without(index, next(ref for ref in index.refs if ref.split == "val")))


def message_in_the_estimate(world: World) -> None:
    """Nothing reads how many windows a plan expected of films whose length it does not know."""
    honest = plan.estimate_of

    def leaky(counts: Any, *others: Any) -> Any:
        return honest(replace(counts, windows=counts.windows * 10**6 + 1011, tubelets=1101), *others)

    world.patch.setattr(plan, "estimate_of", leaky)


def undecodable_though_it_decodes(world: World) -> None:
    _fail(world, "undecodable")


def length_mismatch_of_equal_lengths(world: World) -> None:
    _leave_out(world, "length-mismatch")


def no_text_though_it_has_one(world: World) -> None:
    _leave_out(world, "no-instruction", 2)


def too_short_though_it_gives_windows(world: World) -> None:
    _leave_out(world, "too-short")


def blank_though_it_shows_something(world: World) -> None:
    _fail(world, "blank-camera")


def not_wanted_though_nothing_is_asked_for(world: World) -> None:
    _leave_out(world, "not-wanted")


def duplicate_that_is_listed_once(world: World) -> None:
    _leave_out(world, "duplicate-id")


def missing_though_it_is_there(world: World) -> None:
    _leave_out(world, "missing-file", 0)


def reason_of_its_own(world: World) -> None:
    _leave_out(world, "low-quality")


def not_finite_demonstration(world: World) -> None:
    write_libero(world, lambda demo: demo)
    _leave_out(world, "not-finite", 0)


def demonstration_left_out_silently(world: World) -> None:
    write_libero(world, lambda demo: demo)
    _index(world, lambda index: _without(index, _train(index, 0)))


def _order(world: World, key: Callable[[EpisodeRef], Any]) -> None:
    _index(world, lambda index: replace(index, refs=tuple(sorted(index.refs, key=lambda ref: (ref.split, key(ref))))))


def episodes_in_an_order_of_their_own(world: World) -> None:
    _order(world, lambda ref: hashlib.sha256(ref.id.encode()).digest())


def last_episodes_first(world: World) -> None:
    _order(world, lambda ref: -ref.data["episode_index"])


def _pack(world: World, **changes: int) -> None:
    world.patch.setattr(plan, "pack", lambda s, refs, n, settings: pack(s, refs, n, replace(settings, **changes)))


def shards_of_another_size(world: World) -> None:
    _pack(world, samples=2)


def groups_of_another_size(world: World) -> None:
    """What is encoded together is not what the settings say."""
    _pack(world, group_samples=2)


USABLE = "and the raw data shows"
SILENT = "is neither planned nor in the ledger"
PIPELINES = (
    LeakyPipeline(message_in_the_estimate, "video", "L10", "source", "estimate.windows is"),
    LeakyPipeline(episode_left_out_silently, "video", "L7", "source", SILENT),
    LeakyPipeline(last_episode_left_out_silently, "robot", "L7", "source", SILENT),
    LeakyPipeline(validation_left_out_silently, "video", "L7", "source", SILENT),
    LeakyPipeline(demonstration_left_out_silently, "robot", "L7", "source", SILENT),
    LeakyPipeline(undecodable_though_it_decodes, "video", "L7", "source", "as 'undecodable', and the raw data shows"),
    LeakyPipeline(length_mismatch_of_equal_lengths, "robot", "L7", "source", USABLE),
    LeakyPipeline(no_text_though_it_has_one, "video", "L7", "source", USABLE),
    LeakyPipeline(too_short_though_it_gives_windows, "robot", "L7", "source", USABLE),
    LeakyPipeline(
        blank_though_it_shows_something, "robot", "L7", "source", "as 'blank-camera', and the raw data shows"
    ),
    LeakyPipeline(not_wanted_though_nothing_is_asked_for, "robot", "L7", "source", USABLE),
    LeakyPipeline(duplicate_that_is_listed_once, "video", "L7", "source", USABLE),
    LeakyPipeline(missing_though_it_is_there, "tubelet", "L7", "source", USABLE),
    LeakyPipeline(not_finite_demonstration, "robot", "L7", "source", USABLE),
    LeakyPipeline(reason_of_its_own, "video", "L7", "source", "no known reason"),
    LeakyPipeline(episodes_in_an_order_of_their_own, "video", "L7", "source", "not by its id"),
    LeakyPipeline(last_episodes_first, "robot", "L7", "source", "not by its id"),
    LeakyPipeline(shards_of_another_size, "robot", "L7", "source", "by settings.shards and the lengths it is"),
    LeakyPipeline(groups_of_another_size, "video", "L7", "source", "by settings.shards and the lengths it is"),
)
