"""The robot half of the sample world: a gripper and two cameras, written as a LeRobot v2.1 folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.sample_world.camera import Camera, front_camera, wrist_camera
from pipeline.sample_world.folder import new_folder, require_size
from pipeline.sample_world.render import Look, make_look, render
from pipeline.sample_world.script import Rollout, Task, draw_task, make_world, play
from pipeline.sample_world.video import Codec, find_codec, write_video
from pipeline.sample_world.world import ACTION_NAMES, MAX_STEP, MAX_TURN, STATE_NAMES, World
from pipeline.sources.lerobot.info import IMAGE_PREFIX
from pipeline.sources.lerobot.writer import LeRobotWriter, Row, image_stats, spread, vector_feature, video_feature

ROBOT = "sample_world_gripper"
FPS = 12
FRAMES = (60, 80)
ACTION_UNITS = f"-1 to 1: {MAX_STEP} m and {MAX_TURN} rad a frame; gripper -1 opens, +1 closes"
STATE_UNITS = "metres and radians; the two fingers' distances from the middle"


@dataclass(frozen=True)
class _Setup:
    """Settings that all episodes of a dataset share."""

    root: Path
    seed: int
    size: int
    codec: Codec


def write_lerobot(
    root: str | Path,
    episodes: int,
    seed: int,
    size: int = 128,
    codec: str = "av1",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `episodes` episodes of 60-80 frames at 12 fps, seen by the cameras "front" and "wrist".

    Args:
        root: a new or empty folder.
        seed: equal seeds give equal bytes on the same machine.
        codec: "av1" as LeRobot writes by default, "h264" or "vp9".
        progress: called with (episodes written, episodes) after each.

    Raises:
        SettingsError: a value out of range.  RunError: the folder is not empty.
    """
    require_size(size)
    if episodes < 1:
        raise SettingsError(f"episodes must be at least 1, got {episodes}")
    setup = _Setup(Path(root), seed, size, find_codec(codec))
    new_folder(root)
    writer = LeRobotWriter(setup.root, ROBOT, FPS, _features(setup))
    for index in range(episodes):
        _write_episode(setup, index, writer)
        if progress is not None:
            progress(index + 1, episodes)
    writer.finish()


def _write_episode(setup: _Setup, index: int, writer: LeRobotWriter) -> None:
    rng = np.random.default_rng([setup.seed, 2, index])
    world = make_world(rng)
    rollout = play(rng, world, draw_task(rng, world), FRAMES)
    look = make_look(rng, "gripper")
    stats = {}
    for camera in CAMERAS:
        key = IMAGE_PREFIX + camera
        frames = np.stack(list(_frames(rng, rollout, look, camera, setup.size)))
        write_video(writer.video_path(key), frames, FPS, setup.codec)
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


def _frames(
    rng: np.random.Generator, rollout: Rollout, look: Look, camera: str, size: int
) -> Iterator[NDArray[np.uint8]]:
    for world in rollout.worlds:
        yield render(world, look, CAMERAS[camera](world), size, rng)


CAMERAS: Mapping[str, Callable[[World], Camera]] = {
    "front": lambda world: front_camera(),
    "wrist": lambda world: wrist_camera(world.state),
}


def _features(setup: _Setup) -> Mapping[str, Row]:
    cameras = {IMAGE_PREFIX + camera: video_feature(setup.size, setup.codec.name, FPS) for camera in CAMERAS}
    return {
        "observation.state": vector_feature(STATE_NAMES, STATE_UNITS),
        "action": vector_feature(ACTION_NAMES, ACTION_UNITS),
        **cameras,
    }
