"""The robot half of the sample world: a gripper and its cameras, written as a LeRobot v2.1 folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import SettingsError
from pipeline.sample_world.camera import Camera, front_camera, wrist_camera
from pipeline.sample_world.folder import new_folder
from pipeline.sample_world.render import render
from pipeline.sample_world.scene import Film, Scene
from pipeline.sample_world.script import Task
from pipeline.sample_world.truth import truth_row, write_truth
from pipeline.sample_world.variety import FULL, Variety
from pipeline.sample_world.video import CODECS, Codec, write_video
from pipeline.sample_world.world import ACTION_NAMES, MAX_STEP, MAX_TURN, STATE_NAMES, World
from pipeline.sources.lerobot.info import IMAGE_PREFIX
from pipeline.sources.lerobot.writer import LeRobotWriter, Row, image_stats, spread, vector_feature, video_feature

ROBOT = "sample_world_gripper"
FRAMES = (60, 80)
CODEC, TWINS_CODEC = CODECS["av1"], CODECS["av1_low_delay"]  # the first as LeRobot writes by default
STATE_UNITS = "metres and radians; the two fingers' distances from the middle"


def write_lerobot(
    root: str | Path,
    episodes: int,
    seed: int,
    size: int = 128,
    progress: Callable[[int, int], None] | None = None,
    variety: Variety = FULL,
    twins: int = 0,
) -> None:
    """Write `episodes` episodes, of 60-80 frames at 12 fps and seen by the cameras "front" and "wrist" unless
    `variety` says otherwise.

    Args:
        root: a new or empty folder.
        seed: equal seeds give equal bytes on the same machine.
        progress: called with (episodes written, all) after each.
        twins: scenes of a validation split, each in two episodes that begin with the same picture and have different
            instructions; info.json then declares the splits, and truth.jsonl says where the named things stand.

    Raises:
        SettingsError: a value out of range.  RunError: the folder is not empty.
    """
    if episodes < 1:
        raise SettingsError(f"episodes must be at least 1, got {episodes}")
    base = new_folder(root, size)
    writer = LeRobotWriter(base, ROBOT, variety.fps, _features(size, variety))
    film = robot_film(seed, variety)
    total, truth = episodes + 2 * twins, []
    for done, scene in enumerate(film.episodes(episodes, twins), 1):
        _write_episode(scene, size, writer, variety, TWINS_CODEC if twins else CODEC)
        truth.append(truth_row(f"{done - 1:06d}", scene))
        if progress is not None:
            progress(done, total)
    if twins:
        write_truth(base, truth)
    writer.finish({"train": episodes, "val": 2 * twins} if twins else {})


def robot_film(seed: int, variety: Variety) -> Film:
    """The episodes that `write_lerobot` writes."""
    return Film(seed, 2, "gripper", FRAMES, variety)


def _write_episode(scene: Scene, size: int, writer: LeRobotWriter, variety: Variety, codec: Codec) -> None:
    rollout, stats = scene.rollout, {}
    for name, camera in _cameras(variety).items():
        key = IMAGE_PREFIX + name
        frames = np.stack([render(world, scene.look, camera(world), size, scene.rng) for world in rollout.worlds])
        write_video(writer.video_path(key), frames, variety.fps, codec)
        stats[key] = image_stats(frames[spread(len(frames))])
    states = np.stack([world.state for world in rollout.worlds])
    writer.add(sentence(rollout.task, scene.first), {"observation.state": states, "action": rollout.actions}, stats)


def sentence(task: Task, world: World) -> str:
    """The instruction for a task."""
    name = world.things[task.thing].name
    if task.kind == "push":
        return f"push the {name} to the {task.direction}"
    if task.kind == "lift":
        return f"lift the {name}"
    if task.kind == "carry":
        return f"lift the {name} up" if task.direction == "up" else f"move the {name} to the {task.direction}"
    return f"move the {name} closer to the {world.things[task.other].name}"


CAMERAS: Mapping[str, Callable[[World], Camera]] = {
    "front": lambda world: front_camera(),
    "wrist": lambda world: wrist_camera(world.state),
}


def _cameras(variety: Variety) -> Mapping[str, Callable[[World], Camera]]:
    return CAMERAS if variety.moving_cameras else {"front": CAMERAS["front"]}


def _features(size: int, variety: Variety) -> Mapping[str, Row]:
    step, turn = (round(limit * variety.stride, 3) for limit in (MAX_STEP, MAX_TURN))
    units = f"-1 to 1: {step} m and {turn} rad a frame; gripper -1 opens, +1 closes"
    return {
        "observation.state": vector_feature(STATE_NAMES, STATE_UNITS),
        "action": vector_feature(ACTION_NAMES, units),
        **{IMAGE_PREFIX + camera: video_feature(size, CODEC.name, variety.fps) for camera in _cameras(variety)},
    }
