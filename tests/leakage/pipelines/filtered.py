"""Honest pipelines on raw data whose state was filtered with later frames, or whose camera is ahead of one left out."""

from __future__ import annotations

import numpy as np

from tests.leakage.pipelines.lookahead import Values, _columns, _wrist, ahead, write_libero
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World


def _smoothed(values: Values, reach: int) -> Values:
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1).astype(np.float32)


def velocity_of_the_frames_around(world: World) -> None:
    """NumPy's gradient: half the way from the frame before to the frame after."""
    _columns(
        world,
        lambda state, action: {"observation.velocity": np.gradient(state[:, :3], axis=0).astype(np.float32)},
        ("observation.state", "observation.velocity"),
    )


def pose_smoothed_over_the_frames_around(world: World) -> None:
    """The measured pose is in the data, and the build takes the smooth one."""
    _columns(world, lambda state, action: {"observation.smooth": _smoothed(state[:, :6], 3)}, ("observation.smooth",))


def pose_interpolated_to_a_later_clock(world: World) -> None:
    """A clock that is half a frame ahead: each value is the mean of its frame's and the next one's."""
    _columns(
        world,
        lambda state, action: {"observation.resampled": (state[:, :6] + ahead(state[:, :6], 1)) / np.float32(2)},
        ("observation.resampled",),
    )


def camera_ahead_of_one_that_is_left_out(world: World) -> None:
    """The only camera of the build runs ahead of one that is in the raw data alone."""
    _wrist(world, lambda front, wrist: ahead(front, 6))
    world.source = {"cameras": ["observation.images.wrist"]}


def demonstration_camera_ahead_of_one_that_is_left_out(world: World) -> None:
    write_libero(world, lambda demo: {**demo, "obs/eye_in_hand_rgb": ahead(demo["obs/agentview_rgb"], 6)})
    world.source = {**(world.source or {}), "cameras": ["eye_in_hand_rgb"]}


PIPELINES = (
    LeakyPipeline(velocity_of_the_frames_around, "robot", "L8", "source", "differentiated over the frames around n"),
    LeakyPipeline(pose_smoothed_over_the_frames_around, "robot", "L8", "source", "averaged over the frames n-3 to n+3"),
    LeakyPipeline(pose_interpolated_to_a_later_clock, "robot", "L8", "source", "averaged over the frames n+0 to n+1"),
    LeakyPipeline(camera_ahead_of_one_that_is_left_out, "robot", "L1", "source", "shows later frames of camera front"),
    LeakyPipeline(
        demonstration_camera_ahead_of_one_that_is_left_out,
        "robot",
        "L1",
        "source",
        "shows later frames of camera agentview_rgb",
    ),
)
