"""Pipelines that misuse `source.leave_out`: settings and ledger agree, and the raw data does not."""

from __future__ import annotations

from dataclasses import replace

from jobs.datasets.configured_source import configured_source
from pipeline.planning.episode_filter import EpisodeFilter, filter_bytes, filter_entry
from pipeline.sources.base import SourceIndex
from tests.jobs.runs import robot_source, ssv2_source
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World


def _filter(world: World, episode: str | None = None) -> None:
    """A filter of one episode; by default one of the train split."""
    settings = robot_source(world.raw) if world.kind == "robot" else ssv2_source(world.raw)
    refs = configured_source(settings).reader.index().refs
    episode = episode or next(ref.id for ref in refs if ref.split == "train")
    path = world.folder / "leave-out.jsonl"
    path.write_bytes(filter_bytes([filter_entry(episode, "train", "frozen-camera", "12 frames")]))
    world.source = {"leave_out": str(path)}


def filtered_and_silently_one_more(world: World) -> None:
    """Beside the named episode another one goes."""
    _filter(world)
    honest = EpisodeFilter.apply

    def leaky(self: EpisodeFilter, index: SourceIndex) -> SourceIndex:
        left = honest(self, index)
        gone = next(ref for ref in left.refs if ref.split == "train")
        return replace(left, refs=tuple(ref for ref in left.refs if ref != gone))

    world.patch.setattr(EpisodeFilter, "apply", leaky)


def _unchecked(world: World, episode: str) -> None:
    _filter(world, episode)
    world.patch.setattr(
        EpisodeFilter, "apply", lambda self, index: replace(index, left_out=(*index.left_out, *self.entries))
    )


def filter_names_no_episode(world: World) -> None:
    """A line for nothing is room for a message, and its count is a lie."""
    _unchecked(world, "robot-999999")


def filter_names_a_held_out_episode_as_train(world: World) -> None:
    """A clip of the validation split, called one of train."""
    refs = configured_source(ssv2_source(world.raw)).reader.index().refs
    gone = next(ref.id for ref in refs if ref.split == "val")
    _filter(world, gone)

    def leaky(self: EpisodeFilter, index: SourceIndex) -> SourceIndex:
        refs = tuple(ref for ref in index.refs if ref.id != gone)
        return replace(index, refs=refs, left_out=(*index.left_out, *self.entries))

    world.patch.setattr(EpisodeFilter, "apply", leaky)


PIPELINES = (
    LeakyPipeline(filtered_and_silently_one_more, "robot", "L7", "source", "is neither planned nor in the ledger"),
    LeakyPipeline(filter_names_no_episode, "robot", "L7", "source", "the raw data does not list it"),
    LeakyPipeline(filter_names_a_held_out_episode_as_train, "video", "L7", "source", "the raw data has it in val"),
)
