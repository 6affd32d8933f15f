"""The robot half of the sample world: a gripper and two cameras, written as a LeRobot v2.1 folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.sample_world.camera import Camera, front_camera, wrist_camera
from pipeline.sample_world.folder import new_folder, require_size
from pipeline.sample_world.render import Look, make_look, render
from pipeline.sample_world.script import Rollout, Task, draw_task, make_world, play
from pipeline.sample_world.video import Codec, find_codec, write_video
from pipeline.sample_world.world import ACTION_DIM, ACTION_NAMES, MAX_STEP, MAX_TURN, STATE_DIM, STATE_NAMES, World
from pipeline.sources.lerobot_info import IMAGE_PREFIX, INFO_FILE
from pipeline.sources.lerobot_layout import DATA_PATH, EPISODES_FILE, TASKS_FILE, VIDEO_PATH

FPS = 12
FRAMES = (60, 80)
CHUNK = 1000
BOOKKEEPING = ("frame_index", "episode_index", "index", "task_index")
STATS_FILE = "meta/episodes_stats.jsonl"
STATS_FRAMES = 16
"""Frames an episode that image statistics are taken from."""
ACTION_UNITS = f"-1 to 1: {MAX_STEP} m and {MAX_TURN} rad a frame; gripper -1 opens, +1 closes"
STATE_UNITS = "metres and radians; the two fingers' distances from the middle"

Row = dict[str, Any]


@dataclass(frozen=True)
class _Setup:
    """What all episodes of a set share."""

    root: Path
    seed: int
    size: int
    codec: Codec


@dataclass(frozen=True)
class _Episode:
    """One written episode: what the metadata needs of it."""

    index: int
    length: int
    task: str
    stats: Mapping[str, Row]


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
    tasks: dict[str, int] = {}
    written: list[_Episode] = []
    for index in range(episodes):
        written.append(_write_episode(setup, index, tasks, sum(episode.length for episode in written)))
        if progress is not None:
            progress(index + 1, episodes)
    _write_meta(setup, written, tasks)


def _write_episode(setup: _Setup, index: int, tasks: dict[str, int], before: int) -> _Episode:
    """`tasks` grows by the episode's text if it is new; `before` counts the frames of earlier episodes."""
    rng = np.random.default_rng([setup.seed, 2, index])
    world = make_world(rng)
    rollout = play(rng, world, draw_task(rng, world), FRAMES)
    look = make_look(rng, "gripper")
    text = sentence(rollout.task, world)
    table = _table(rollout, index, tasks.setdefault(text, len(tasks)), before)
    path = setup.root / DATA_PATH.format(episode_chunk=index // CHUNK, episode_index=index)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    stats = {name: _stats(np.array(table[name].to_pylist())) for name in table.column_names}
    for camera in CAMERAS:
        key = IMAGE_PREFIX + camera
        frames = np.stack(list(_frames(rng, rollout, look, camera, setup.size)))
        values = {"episode_chunk": index // CHUNK, "episode_index": index, "video_key": key}
        video = setup.root / VIDEO_PATH.format(**values)
        video.parent.mkdir(parents=True, exist_ok=True)
        write_video(video, frames, FPS, setup.codec)
        stats[key] = _image_stats(frames)
    return _Episode(index, len(rollout.worlds), text, stats)


def sentence(task: Task, world: World) -> str:
    """The instruction a person would give for a task."""
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


def _front(world: World) -> Camera:
    return front_camera()


def _wrist(world: World) -> Camera:
    return wrist_camera(world.state)


CAMERAS: Mapping[str, Callable[[World], Camera]] = {"front": _front, "wrist": _wrist}


def _table(rollout: Rollout, episode: int, task: int, before: int) -> pa.Table:
    """The columns LeRobot v2.1 writes, in its types."""
    count = len(rollout.worlds)
    frames = np.arange(count)
    return pa.table(
        {
            "observation.state": _vectors(np.stack([world.state for world in rollout.worlds])),
            "action": _vectors(rollout.actions),
            "timestamp": pa.array((frames / FPS).astype(np.float32)),
            "frame_index": pa.array(frames, pa.int64()),
            "episode_index": pa.array(np.full(count, episode), pa.int64()),
            "index": pa.array(before + frames, pa.int64()),
            "task_index": pa.array(np.full(count, task), pa.int64()),
        }
    )


def _vectors(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])


def _stats(values: NDArray[Any]) -> Row:
    """Statistics over the frames of one column, in LeRobot's form."""
    values = values.reshape(len(values), -1)
    return {
        "min": values.min(0).tolist(),
        "max": values.max(0).tolist(),
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "count": [len(values)],
    }


def _image_stats(frames: NDArray[np.uint8]) -> Row:
    """Statistics a channel over evenly spread frames, values 0..1, shaped [3, 1, 1] as LeRobot has them."""
    picked = frames[np.linspace(0, len(frames) - 1, min(STATS_FRAMES, len(frames))).astype(int)]
    stats = _stats(picked.reshape(-1, 3) / 255)
    shaped: Row = {name: [[[value]] for value in values] for name, values in stats.items() if name != "count"}
    return {**shaped, "count": [len(picked)]}


def _write_meta(setup: _Setup, episodes: Sequence[_Episode], tasks: Mapping[str, int]) -> None:
    meta = setup.root / INFO_FILE
    meta.parent.mkdir(parents=True, exist_ok=True)
    meta.write_text(json.dumps(_info(setup, episodes, tasks), indent=4) + "\n", encoding="utf-8")
    _write_lines(setup.root / TASKS_FILE, [{"task_index": n, "task": text} for text, n in tasks.items()])
    _write_lines(
        setup.root / EPISODES_FILE,
        [{"episode_index": e.index, "tasks": [e.task], "length": e.length} for e in episodes],
    )
    _write_lines(setup.root / STATS_FILE, [{"episode_index": e.index, "stats": e.stats} for e in episodes])


def _info(setup: _Setup, episodes: Sequence[_Episode], tasks: Mapping[str, int]) -> Row:
    return {
        "codebase_version": "v2.1",
        "robot_type": "sample_world_gripper",
        "total_episodes": len(episodes),
        "total_frames": sum(episode.length for episode in episodes),
        "total_tasks": len(tasks),
        "total_videos": len(episodes) * len(CAMERAS),
        "total_chunks": (len(episodes) - 1) // CHUNK + 1,
        "chunks_size": CHUNK,
        "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": _features(setup),
    }


def _features(setup: _Setup) -> Row:
    state = {"dtype": "float32", "shape": [STATE_DIM], "names": list(STATE_NAMES), "units": STATE_UNITS}
    action = {"dtype": "float32", "shape": [ACTION_DIM], "names": list(ACTION_NAMES), "units": ACTION_UNITS}
    features: Row = {"observation.state": state, "action": action}
    for camera in CAMERAS:
        features[IMAGE_PREFIX + camera] = {
            "dtype": "video",
            "shape": [setup.size, setup.size, 3],
            "names": ["height", "width", "channel"],
            "info": {
                "video.height": setup.size,
                "video.width": setup.size,
                "video.codec": setup.codec.name,
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": FPS,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    for name, dtype in (("timestamp", "float32"), *((n, "int64") for n in BOOKKEEPING)):
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
