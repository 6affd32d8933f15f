"""The robot half of the sample world: a gripper and two cameras, written as a LeRobot v2.1 folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import SettingsError
from pipeline.sample_world.camera import Camera, front_camera, wrist_camera
from pipeline.sample_world.folder import new_folder
from pipeline.sample_world.render import make_look, render
from pipeline.sample_world.script import Task, draw_task, make_world, play
from pipeline.sample_world.video import CODECS, write_video
from pipeline.sample_world.world import ACTION_NAMES, MAX_STEP, MAX_TURN, STATE_NAMES, World
from pipeline.sources.lerobot.info import IMAGE_PREFIX
from pipeline.sources.lerobot.writer import LeRobotWriter, Row, image_stats, spread, vector_feature, video_feature

ROBOT = "sample_world_gripper"
FPS = 12
FRAMES = (60, 80)
CODEC = CODECS["av1"]  # as LeRobot writes by default
ACTION_UNITS = f"-1 to 1: {MAX_STEP} m and {MAX_TURN} rad a frame; gripper -1 opens, +1 closes"
STATE_UNITS = "metres and radians; the two fingers' distances from the middle"


def write_lerobot(
    root: str | Path,
    episodes: int,
    seed: int,
    size: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `episodes` episodes of 60-80 frames at 12 fps, seen by the cameras "front" and "wrist".

    Args:
        root: a new or empty folder.
        seed: equal seeds give equal bytes on the same machine.
        progress: called with (episodes written, episodes) after each.

    Raises:
        SettingsError: a value out of range.  RunError: the folder is not empty.
    """
    if episodes < 1:
        raise SettingsError(f"episodes must be at least 1, got {episodes}")
    writer = LeRobotWriter(new_folder(root, size), ROBOT, FPS, _features(size))
    for index in range(episodes):
        _write_episode(np.random.default_rng([seed, 2, index]), size, writer)
        if progress is not None:
            progress(index + 1, episodes)
    writer.finish()


def _write_episode(rng: np.random.Generator, size: int, writer: LeRobotWriter) -> None:
    world = make_world(rng)
    rollout = play(rng, world, draw_task(rng, world), FRAMES)
    look = make_look(rng, "gripper")
    stats = {}
    for camera in CAMERAS:
        key = IMAGE_PREFIX + camera
        frames = np.stack([render(world, look, CAMERAS[camera](world), size, rng) for world in rollout.worlds])
        write_video(writer.video_path(key), frames, FPS, CODEC)
        stats[key] = image_stats(frames[spread(len(frames))])
    states = np.stack([world.state for world in rollout.worlds])
    writer.add(sentence(rollout.task, world), {"observation.state": states, "action": rollout.actions}, stats)


def sentence(task: Task, world: World) -> str:
    """The instruction for a task."""
    name = world.things[task.thing].name
    if task.kind == "push":
        return f"push the {name} to the {task.direction}"
    if task.kind == "lift":
        return f"lift the {name}"
    return f"move the {name} closer to the {world.things[task.other].name}"


CAMERAS: Mapping[str, Callable[[World], Camera]] = {
    "front": lambda world: front_camera(),
    "wrist": lambda world: wrist_camera(world.state),
}


def _features(size: int) -> Mapping[str, Row]:
    return {
        "observation.state": vector_feature(STATE_NAMES, STATE_UNITS),
        "action": vector_feature(ACTION_NAMES, ACTION_UNITS),
        **{IMAGE_PREFIX + camera: video_feature(size, CODEC.name, FPS) for camera in CAMERAS},
    }
