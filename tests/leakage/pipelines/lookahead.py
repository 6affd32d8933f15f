"""Honest pipelines on raw data whose state or cameras look ahead: the build is what the raw data says, and leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.video import CODECS, write_video
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.robot_sets import ahead
from tests.leakage.world import World

Values = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Columns = Callable[[Values, Values], dict[str, Values]]
"""State and actions of an episode -> the columns of the table that replace or join them."""


def _columns(world: World, change: Columns, state: tuple[str, ...] = ("observation.state",)) -> None:
    """The raw data has other columns, and the build's state is made from `state`."""
    world.raw_copy = world.copy_raw()
    made: dict[str, Values] = {}
    for path in sorted(world.raw_copy.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        old = [np.array(table[name].to_pylist(), np.float32) for name in ("observation.state", "action")]
        made = change(*old)
        for name, values in made.items():
            column = pa.array(values.tolist(), pa.list_(pa.float32()))
            at = table.schema.get_field_index(name)
            table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
        pq.write_table(table, path)
    info = world.raw_copy / "meta/info.json"
    content = json.loads(info.read_bytes())
    features = {name: {"dtype": "float32", "shape": [values.shape[1]], "names": None} for name, values in made.items()}
    info.write_text(json.dumps({**content, "features": {**content["features"], **features}}))
    world.source = {"state": list(state)}


def _last(state: Values, values: Values) -> dict[str, Values]:
    return {"observation.state": np.concatenate([state[:, :-1], values.reshape(-1, 1)], axis=1)}


def turn_that_is_commanded_later(world: World) -> None:
    _columns(world, lambda state, action: _last(state, ahead(action[:, 5], 2)))


def command_under_another_name(world: World) -> None:
    """A second column holds the actions in other units; the user takes it for the pose that is tracked."""
    _columns(
        world,
        lambda state, action: {"target_pose": action[:, :6] * 0.05 + 1},
        ("observation.state", "target_pose"),
    )


def joint_of_the_next_frame(world: World) -> None:
    _columns(world, lambda state, action: _last(state, ahead(state[:, 0], 1)))


def filtered_pose_that_is_ahead(world: World) -> None:
    """The build takes a smoothed pose, filtered forwards in time; the measured one is there and is not used."""
    _columns(
        world,
        lambda state, action: {"observation.filtered": ahead(state, 3)},
        ("observation.filtered",),
    )


def half_precision_pose_of_a_second_later(world: World) -> None:
    _columns(
        world,
        lambda state, action: {"observation.pose": ahead(state[:, :3], 12).astype(np.float16).astype(np.float32)},
        ("observation.state", "observation.pose"),
    )


def _wrist(world: World, change: Callable[[Pixels, Pixels], Pixels]) -> None:
    """The film of the wrist camera is made from those of the front camera and its own."""
    world.raw_copy = world.copy_raw()
    for path in sorted(world.raw_copy.glob("videos/*/observation.images.wrist/*.mp4")):
        front = Path(str(path).replace("images.wrist", "images.front"))
        films = [np.stack([frame for _, frame in read_video(file)]) for file in (front, path)]
        write_video(path, change(*films), 12, CODECS["av1"])


def camera_ahead_of_the_other(world: World) -> None:
    _wrist(world, lambda front, wrist: ahead(front, 4))


def camera_that_stands_at_the_end(world: World) -> None:
    _wrist(world, lambda front, wrist: np.repeat(front[-1:], len(front), axis=0))


def camera_played_backwards(world: World) -> None:
    _wrist(world, lambda front, wrist: np.ascontiguousarray(front[::-1]))


def mirrored_camera_ahead(world: World) -> None:
    _wrist(world, lambda front, wrist: np.ascontiguousarray(ahead(front, 2)[:, :, ::-1]))


def preview_of_the_end(world: World) -> None:
    _wrist(world, lambda front, wrist: np.concatenate([wrist[-1:], wrist[-1:], wrist[2:]]))


Demo = dict[str, NDArray[np.generic]]


def write_libero(world: World, change: Callable[[Demo], Demo], pieces: int = 1) -> None:
    """The raw data as LIBERO's HDF5 files: row n holds the action before observation n. Each episode is cut into
    `pieces` demonstrations."""
    root, made = world.folder / "libero", world.folder / "libero/put_the_bowl_away_demo.hdf5"
    root.mkdir()
    with h5py.File(made, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "put the bowl away"})
        data.attrs["macros_image_convention"] = "opencv"
        for number, path in enumerate(sorted(world.data.lerobot.glob("data/*/*.parquet"))):
            table = pq.read_table(path)
            state, action = (np.array(table[name].to_pylist()) for name in ("observation.state", "action"))
            datasets = {"obs/ee_states": state[:, :6], "obs/gripper_states": state[:, 6:]}
            datasets["actions"] = np.concatenate([action[:1], action[:-1]])
            for name, camera in (("agentview_rgb", "front"), ("eye_in_hand_rgb", "wrist")):
                film = next(world.data.lerobot.glob(f"videos/*/observation.images.{camera}/{path.stem}.mp4"))
                datasets[f"obs/{name}"] = np.stack([frame for _, frame in read_video(film)])
            frames = len(state) // pieces
            for piece in range(pieces):
                cut = {name: values[piece * frames :][:frames] for name, values in datasets.items()}
                for name, values in change(cut).items():
                    data[f"demo_{pieces * number + piece}/{name}"] = values
    world.raw_copy = root
    world.source = {"type": "libero", "name": "libero"}


def simulator_state_of_the_command(world: World) -> None:
    write_libero(world, lambda demo: {**demo, "obs/gripper_states": ahead(demo["actions"][:, 5:], 1)})


def hand_camera_shows_later_rows(world: World) -> None:
    write_libero(world, lambda demo: {**demo, "obs/eye_in_hand_rgb": ahead(demo["obs/agentview_rgb"], 6)})


PIPELINES = (
    LeakyPipeline(turn_that_is_commanded_later, "robot", "L8", "source", "action channel 5 of frame n+2"),
    LeakyPipeline(command_under_another_name, "robot", "L3", "source", "of frame n, a target"),
    LeakyPipeline(joint_of_the_next_frame, "robot", "L8", "source", "state channel 0 of frame n+1"),
    LeakyPipeline(filtered_pose_that_is_ahead, "robot", "L8", "source", "observation.state channel 0 of frame n+3"),
    LeakyPipeline(half_precision_pose_of_a_second_later, "robot", "L8", "source", "of frame n+12"),
    LeakyPipeline(camera_ahead_of_the_other, "robot", "L1", "source", "wrist shows later frames of camera front"),
    LeakyPipeline(camera_that_stands_at_the_end, "robot", "L1", "source", "wrist shows later frames of camera front"),
    LeakyPipeline(camera_played_backwards, "robot", "L1", "source", "wrist shows later frames of camera front"),
    LeakyPipeline(mirrored_camera_ahead, "robot", "L1", "source", "of camera front mirrored"),
    LeakyPipeline(preview_of_the_end, "robot", "L1", "source", "camera wrist begins with the end"),
    LeakyPipeline(simulator_state_of_the_command, "robot", "L3", "source", "of frame n, a target"),
    LeakyPipeline(hand_camera_shows_later_rows, "robot", "L1", "source", "eye_in_hand_rgb shows later frames"),
)
