"""DROID, Fractal and LIBERO as their publishers' builders declare them (see the manifests for what that rests on)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.rlds.writer import Recorded, image_feature, real_frames, smooth, steps_feature, with_flags, write_rlds

LENGTH = 16


def _vector(tfds: Any, width: int, dtype: Any = np.float64) -> Any:
    return tfds.features.Tensor(shape=(width,), dtype=dtype)


def write_droid(root: Path, shared_data: Path) -> Path:
    """Three successes (one without any text) and a failure; the second text of the first episode is its only one."""

    def features(tfds: Any) -> Any:
        views = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
        texts = ("language_instruction", "language_instruction_2", "language_instruction_3")
        observation = {view: image_feature(tfds, 180, 320) for view in views}
        poses = {"cartesian_position": _vector(tfds, 6), "gripper_position": _vector(tfds, 1)}
        joints = {"joint_position": _vector(tfds, 7)}
        more = {"cartesian_velocity": _vector(tfds, 6), "gripper_velocity": _vector(tfds, 1)}
        step = {
            "observation": tfds.features.FeaturesDict({**observation, **poses, **joints}),
            "action_dict": tfds.features.FeaturesDict({**poses, **joints, **more, "joint_velocity": _vector(tfds, 7)}),
            "action": _vector(tfds, 7),
            **{text: tfds.features.Text() for text in texts},
        }
        metadata = {"file_path": tfds.features.Text(), "recording_folderpath": tfds.features.Text()}
        return {"steps": steps_feature(tfds, step), "episode_metadata": metadata}

    texts = (("", "put the cup in the sink", "place cup"), ("wipe the table", "", ""), ("", "", ""), ("stack", "", ""))
    outcomes = ("success", "success", "success", "failure")
    episodes = [_droid_episode(shared_data, i, texts[i], outcomes[i]) for i in range(4)]
    return write_rlds(root, "droid_101", "1.0.1", features, {"train": episodes})


def _droid_episode(shared_data: Path, number: int, texts: tuple[str, str, str], outcome: str) -> Recorded:
    rng = np.random.default_rng([7, number])
    views = [real_frames(shared_data, 3 * number + view, LENGTH, 180, 320) for view in range(3)]
    pose = np.concatenate([smooth(rng, LENGTH, 3, 0.3), smooth(rng, LENGTH, 3, 1.0)], 1)
    target = pose + rng.normal(scale=0.02, size=pose.shape)
    commanded = rng.uniform(0, 1, (LENGTH + 1, 1))
    gripper, wanted = commanded[:-1], commanded[1:]  # it is where it was told to be a frame before
    joints = smooth(rng, LENGTH, 7, 1.0)
    steps = [
        {
            "observation": {
                "exterior_image_1_left": views[0][i],
                "exterior_image_2_left": views[1][i],
                "wrist_image_left": views[2][i],
                "cartesian_position": pose[i],
                "gripper_position": gripper[i],
                "joint_position": joints[i],
            },
            "action_dict": {
                "cartesian_position": target[i],
                "gripper_position": wanted[i],
                "joint_position": joints[i],
                "cartesian_velocity": np.zeros(6),
                "gripper_velocity": np.zeros(1),
                "joint_velocity": np.zeros(7),
            },
            "action": np.append(target[i], wanted[i]),
            **dict(
                zip(("language_instruction", "language_instruction_2", "language_instruction_3"), texts, strict=True)
            ),
        }
        for i in range(LENGTH)
    ]
    path = f"gs://xembodiment_data/r2d2/r2d2-data-full/LAB/{outcome}/2023-04-07/{number}/trajectory.h5"
    return Recorded(with_flags(steps), {"episode_metadata": {"file_path": path, "recording_folderpath": path}})


def write_fractal(root: Path, shared_data: Path, episodes: int = 3) -> Path:
    """Episodes of the Google robot; the gripper command is relative and mostly 0."""

    def features(tfds: Any) -> Any:
        def f32(width: int) -> Any:
            return _vector(tfds, width, np.float32)

        observation = {
            "image": image_feature(tfds, 256, 320),
            "natural_language_instruction": tfds.features.Text(),
            "natural_language_embedding": f32(512),
            "base_pose_tool_reached": f32(7),
            "gripper_closed": f32(1),
            "gripper_closedness_commanded": f32(1),
            "height_to_bottom": f32(1),
            "workspace_bounds": tfds.features.Tensor(shape=(3, 3), dtype=np.float32),
        }
        action = {
            "world_vector": f32(3),
            "rotation_delta": f32(3),
            "gripper_closedness_action": f32(1),
            "base_displacement_vector": f32(2),
            "base_displacement_vertical_rotation": f32(1),
            "terminate_episode": _vector(tfds, 3, np.int32),
        }
        step = {name: tfds.features.FeaturesDict(d) for name, d in (("observation", observation), ("action", action))}
        return {"steps": steps_feature(tfds, step), "aspects": {"success": np.bool_, "undesirable": np.bool_}}

    made = [_fractal_episode(shared_data, number) for number in range(episodes)]
    return write_rlds(root, "fractal20220817_data", "0.1.0", features, {"train": made}, shards=2)


def _fractal_episode(shared_data: Path, number: int) -> Recorded:
    rng = np.random.default_rng([8, number])
    frames = real_frames(shared_data, number, LENGTH, 256, 320)
    quaternion = rng.normal(size=4) + smooth(rng, LENGTH, 4, 0.05)
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    pose = np.concatenate([smooth(rng, LENGTH, 3, 0.5), quaternion], 1).astype(np.float32)
    gripper = np.zeros((LENGTH, 1), np.float32)
    gripper[5], gripper[11] = 1, -1
    moved, turned = (smooth(rng, LENGTH, 3, scale).astype(np.float32) for scale in (0.02, 0.3))
    steps = [
        {
            "observation": {
                "image": frames[i],
                "natural_language_instruction": "pick coke can",
                "natural_language_embedding": np.zeros(512, np.float32),
                "base_pose_tool_reached": pose[i],
                "gripper_closed": gripper[i],
                "gripper_closedness_commanded": gripper[i],
                "height_to_bottom": np.zeros(1, np.float32),
                "workspace_bounds": np.zeros((3, 3), np.float32),
            },
            "action": {
                "world_vector": moved[i],
                "rotation_delta": turned[i],
                "gripper_closedness_action": gripper[i],
                "base_displacement_vector": np.zeros(2, np.float32),
                "base_displacement_vertical_rotation": np.zeros(1, np.float32),
                "terminate_episode": np.array([0, 1, 0], np.int32),
            },
        }
        for i in range(LENGTH)
    ]
    return Recorded(with_flags(steps), {"aspects": {"success": True, "undesirable": False}})


def write_libero(root: Path, shared_data: Path, episodes: int = 3) -> Path:
    """Episodes in the layout of `libero_spatial_no_noops`."""

    def features(tfds: Any) -> Any:
        def f32(width: int) -> Any:
            return _vector(tfds, width, np.float32)

        observation = {
            "image": image_feature(tfds, 256, 256),
            "wrist_image": image_feature(tfds, 256, 256),
            "state": f32(8),
            "joint_state": f32(7),
        }
        step = {
            "observation": tfds.features.FeaturesDict(observation),
            "action": f32(7),
            "language_instruction": tfds.features.Text(),
        }
        return {"steps": steps_feature(tfds, step), "episode_metadata": {"file_path": tfds.features.Text()}}

    made = [_libero_episode(shared_data, number) for number in range(episodes)]
    return write_rlds(root, "libero_spatial", "1.0.0", features, {"train": made})


def _libero_episode(shared_data: Path, number: int) -> Recorded:
    rng = np.random.default_rng([9, number])
    views = [real_frames(shared_data, 2 * number + view, LENGTH, 256, 256) for view in range(2)]
    state = smooth(rng, LENGTH, 8, 0.5).astype(np.float32)
    action = np.clip(smooth(rng, LENGTH, 7, 0.8), -0.9, 0.9).astype(np.float32)
    action[:, 6] = np.where(np.arange(LENGTH) < 8, -1, 1)
    steps = [
        {
            "observation": {
                "image": views[0][i],
                "wrist_image": views[1][i],
                "state": state[i],
                "joint_state": np.zeros(7, np.float32),
            },
            "action": action[i],
            "language_instruction": "pick up the black bowl",
        }
        for i in range(LENGTH)
    ]
    return Recorded(with_flags(steps), {"episode_metadata": {"file_path": f"task_{number}_demo.hdf5"}})
