"""Honest pipelines on raw data whose state holds later frames as averages, ways or distances, or at changing lags.

Some of it hides behind a field that one episode has and the others have not.
"""

from __future__ import annotations

from itertools import count

import numpy as np

from tests.leakage.pipelines.lookahead import Demo, Values, _columns, ahead, write_libero
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

_USED = -2
"""The last frame that is used of a demonstration: the action after the last one is in no file."""


def _following(values: Values, frames: int) -> Values:
    """The mean of each frame and those that follow; the last one repeats."""
    steps = [ahead(values, lag) for lag in range(frames)]
    return np.mean(steps, axis=0, dtype=np.float64).astype(np.float32)


def _backwards(values: Values, share: float) -> Values:
    made = values.astype(np.float64)
    for n in range(len(made) - 2, -1, -1):
        made[n] = share * made[n] + (1 - share) * made[n + 1]
    return made.astype(np.float32)


def mean_of_the_frames_that_follow(world: World) -> None:
    """What `np.convolve(x, ones(12) / 12, "valid")` gives: the filter that was meant looks back."""
    _columns(
        world,
        lambda state, action: {"observation.smooth": _following(state[:, :6], 12)},
        ("observation.smooth",),
    )


def way_of_the_next_frames(world: World) -> None:
    """A goal ten frames ahead, as a difference from the pose."""
    _columns(
        world,
        lambda state, action: {"observation.goal": ahead(state[:, :3], 10) - state[:, :3]},
        ("observation.state", "observation.goal"),
    )


def smoothing_that_runs_backwards(world: World) -> None:
    """An exponential filter of a file that is read from its end, beside the pose."""
    _columns(
        world,
        lambda state, action: {"observation.slow": _backwards(state[:, :3], 0.1)},
        ("observation.state", "observation.slow"),
    )


def last_pose_beside_a_field_of_one_episode(world: World) -> None:
    """The first demonstration alone has a dataset that nobody needs."""
    numbers = count()

    def change(demo: Demo) -> Demo:
        poses = demo["obs/ee_states"].copy()
        poses[:, 5] = poses[_USED, 0]
        stray = {"obs/tactile": np.sin(np.arange(len(poses), dtype=float))[:, None]} if next(numbers) == 0 else {}
        return {**demo, "obs/ee_states": poses, **stray}

    write_libero(world, change, pieces=2)


def way_to_the_last_pose_beside_fields_of_their_own(world: World) -> None:
    """Every demonstration has a dataset with another name."""
    numbers = count()

    def change(demo: Demo) -> Demo:
        poses = demo["obs/ee_states"].copy()
        poses[:, 5] = poses[_USED, 1] - poses[:, 1]
        return {**demo, "obs/ee_states": poses, f"obs/run_{next(numbers)}": poses[:, :2] ** 2}

    write_libero(world, change, pieces=2)


PIPELINES = (
    LeakyPipeline(mean_of_the_frames_that_follow, "robot", "L8", "source", "averaged over the frames n+0 to n+11"),
    LeakyPipeline(way_of_the_next_frames, "robot", "L8", "source", "as the way between the frames n+0 to n+10"),
    LeakyPipeline(smoothing_that_runs_backwards, "robot", "L8", "source", "smoothed by a filter that runs backwards"),
    LeakyPipeline(
        last_pose_beside_a_field_of_one_episode,
        "robot",
        "L8",
        "source",
        "gives state channel 0 of the last (8 episodes)",
    ),
    LeakyPipeline(
        way_to_the_last_pose_beside_fields_of_their_own,
        "robot",
        "L8",
        "source",
        "gives state channel 1 of the last, less that of the first (8 episodes)",
    ),
)
