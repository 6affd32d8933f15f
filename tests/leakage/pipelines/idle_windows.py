"""Pipelines that leave out other windows than `window.skip_idle` says: by what follows, or by what they like.

Every window that is left is right in itself, and its files are in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.errors import EpisodeError
from pipeline.format.build_settings import WindowPolicy
from pipeline.format.episode import Episode
from pipeline.planning import recipe
from pipeline.samples.idle import extent, is_idle
from pipeline.sources.base import EpisodeRef
from pipeline.sources.episode.truncated import TruncatedEpisode
from pipeline.sources.lerobot.source import LeRobotSource
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

POLICY = WindowPolicy(interval=2, every=3, skip_idle=4, idle_change=0.17)
"""Of the sample robot's motion, whose gripper goes through 8 cm: slow stretches are cut."""

Judge = Callable[[Episode, int, WindowPolicy], bool]


def _leave_out(world: World, judge: Judge) -> None:
    """The episode in full is at hand wherever code wants it to be."""
    world.window = POLICY

    def leaky(past: TruncatedEpisode, policy: WindowPolicy) -> bool:
        return judge(past._episode, past.now, policy)

    world.patch.setattr(recipe, "is_idle", leaky)


def _still(episode: Episode, first: int, last: int, policy: WindowPolicy) -> bool:
    frames = range(max(0, first), min(episode.num_frames - 1, last) + 1)
    return extent(np.stack([np.asarray(episode.state(frame)) for frame in frames])) <= policy.idle_change


def idle_by_the_frames_that_follow(world: World) -> None:
    """The present is kept where the robot is about to move."""
    _leave_out(world, lambda episode, now, policy: _still(episode, now, now + policy.skip_idle, policy))


def idle_by_frames_to_both_sides(world: World) -> None:
    """A centred window, as a smoothing filter has."""
    _leave_out(
        world,
        lambda episode, now, p: now >= p.skip_idle and _still(episode, now - p.skip_idle, now + p.skip_idle // 2, p),
    )


def idle_unless_it_moves_next(world: World) -> None:
    """One frame of the future keeps what would be cut."""
    _leave_out(
        world,
        lambda episode, now, p: (
            is_idle(TruncatedEpisode(episode, now), p) and _still(episode, now - p.skip_idle, now + 1, p)
        ),
    )


def idle_by_a_range_of_the_whole_episode(world: World) -> None:
    """The limit is a share of what the episode will have moved."""

    def judge(episode: Episode, now: int, policy: WindowPolicy) -> bool:
        whole = extent(np.stack([np.asarray(episode.state(frame)) for frame in range(episode.num_frames)]))
        states = TruncatedEpisode(episode, now).states(policy.skip_idle) if now >= policy.skip_idle else None
        return states is not None and extent(states) <= 0.25 * whole

    _leave_out(world, judge)


def idle_tail_cut_by_the_end(world: World) -> None:
    """Beside the idle ones those go in which the episode is as good as over."""
    _leave_out(
        world,
        lambda episode, now, p: is_idle(TruncatedEpisode(episode, now), p) or now > 0.6 * episode.num_frames,
    )


def idle_by_actions_to_come(world: World) -> None:
    """A command of nearly nothing: the target chooses the input."""

    def judge(episode: Episode, now: int, policy: WindowPolicy) -> bool:
        actions = episode.actions(now, now + 1)
        return actions is not None and float(np.abs(actions[0, :3]).max()) < 0.5

    _leave_out(world, judge)


def idle_windows_kept(world: World) -> None:
    _leave_out(world, lambda episode, now, policy: False)


def first_frames_cut_as_idle(world: World) -> None:
    """Frames without a past of that length."""
    _leave_out(
        world,
        lambda episode, now, p: now < p.skip_idle or is_idle(TruncatedEpisode(episode, now), p),
    )


def called_idle_though_it_moves(world: World) -> None:
    """The whole episode goes to the ledger."""
    world.window = POLICY
    honest = LeRobotSource.open

    def leaky(self: LeRobotSource, ref: EpisodeRef) -> Any:
        if ref.split == "train" and ref.id.endswith("1"):
            raise EpisodeError("all-idle", "as the reader says")
        return honest(self, ref)

    world.patch.setattr(LeRobotSource, "open", leaky)


CHOSEN = "by settings.window.skip_idle and the states before them,"
BY_RULE = (
    idle_by_the_frames_that_follow,
    idle_by_frames_to_both_sides,
    idle_unless_it_moves_next,
    idle_by_a_range_of_the_whole_episode,
    idle_tail_cut_by_the_end,
    idle_by_actions_to_come,
    idle_windows_kept,
    first_frames_cut_as_idle,
)
PIPELINES = (
    *(LeakyPipeline(apply, "robot", "L7", "source", CHOSEN) for apply in BY_RULE),
    LeakyPipeline(called_idle_though_it_moves, "robot", "L7", "source", "as 'all-idle', and the raw data shows"),
)
