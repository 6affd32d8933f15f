"""Demonstrations as files: one an episode while they are collected, then a LeRobot v2.1 folder and LIBERO's HDF5.

Images stay lossless all the way, so that a student is trained on what the closed loop shows it: rendered, resized once,
one JPEG. They become PNGs when an episode is written, and these bytes go into the LeRobot tables as they are.

Shapes: N observations, each taken before its action; H, W of an image.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import RunError
from pipeline.sources.lerobot.info import IMAGE_PREFIX
from pipeline.sources.lerobot.writer import LeRobotWriter, image_feature, image_stats, spread, vector_feature
from pipeline.sources.video.stored_image import decode_image
from pipeline.storage.atomic import atomic_file

VIEWS = {"agentview": "agentview", "robot0_eye_in_hand": "wrist"}
"""Camera of the simulator -> name in the LeRobot folder."""

LIBERO_VIEWS = {"agentview": "agentview_rgb", "robot0_eye_in_hand": "eye_in_hand_rgb"}
"""Camera of the simulator -> dataset in LIBERO's files."""

STATE_NAMES = ("x", "y", "z", "ax", "ay", "az", "finger_left", "finger_right")
STATE_UNITS = "metres, rotation vector in radians, joints of the fingers in metres"
ACTION_NAMES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
ACTION_UNITS = "-1 to 1 of the controller OSC_POSE: 0.05 m and 0.5 rad a controller step; gripper -1 open, +1 closed"

TRUTH = "truth.jsonl"
ROBOT = "panda"
PNG_LEVEL = 1
"""Of zlib: the fastest."""

WARNING = """These files are read like LIBERO's own with one exception: each observation was recorded before the action
of its row, in LIBERO's files after it. Read them with source.action_lag=0 (attribute `action_lag` of the group data).
Images are stored top row first (attribute `macros_image_convention`: opencv).
"""


@dataclass(frozen=True)
class Recording:
    """One successful episode.

    images       N PNGs of uint8 RGB [H, W, 3], top row first, by camera of the simulator
    state        float32 [N, 8], see STATE_UNITS
    actions      float32 [N, 7], the label, see ACTION_UNITS
    executed     float32 [N, 7], what was carried out
    place        float32 [3], of the thing in the first observation, metres; NaN in recordings from before it was kept
    instruction  the text of the task;  task  name of the task;  seed  of the episode
    """

    images: Mapping[str, Sequence[bytes]]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    executed: NDArray[np.float32]
    place: NDArray[np.float32]
    instruction: str
    task: str
    seed: int

    @classmethod
    def of(cls, answer: Mapping[str, Any], instruction: str, task: str, seed: int) -> Recording:
        """From a simulator's answer to `demonstrate`. Raises RunError if a camera is missing, or an array is not as
        above."""
        count = len(answer["state"])
        wanted = {"state": (count, 8), "actions": (count, 7), "executed": (count, 7), "place": (3,)}
        for name, shape in wanted.items():
            if answer[name].shape != shape or not np.isfinite(answer[name]).all():
                raise RunError(
                    f"{task}, seed {seed}: {name} is no finite {list(shape)}, got {list(answer[name].shape)}"
                )
        for camera in VIEWS:
            frames = answer["frames"].get(camera)
            if frames is None or frames.dtype != np.uint8 or frames.shape[:1] != (count,) or frames.ndim != 4:
                raise RunError(f"{task}, seed {seed}: no {count} images uint8 of the camera {camera}")
        vectors = {name: np.asarray(answer[name], np.float32) for name in wanted}
        images = {camera: tuple(encode_png(frame) for frame in answer["frames"][camera]) for camera in VIEWS}
        return cls(images=images, instruction=instruction, task=task, seed=seed, **vectors)

    def frames(self, camera: str, indices: Iterable[int] | None = None) -> NDArray[np.uint8]:
        """uint8 RGB [len(indices), H, W, 3]; all of them without `indices`."""
        encoded = self.images[camera]
        picked = range(len(encoded)) if indices is None else indices
        return np.stack([decode_image(encoded[i], f"{self.task}, seed {self.seed}") for i in picked])


def encode_png(frame: NDArray[np.uint8]) -> bytes:
    """uint8 RGB [H, W, 3] -> PNG; equal images give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def write_recording(path: Path, recording: Recording) -> None:
    """Write one episode; under its name it is whole or absent.

    The file is NumPy's .npz: state, actions, executed, place, `about` (JSON) and, for each camera, `png.CAMERA` uint8
    (the images' bytes one after the other) and `ends.CAMERA` int64 [N].
    """
    about = {"instruction": recording.instruction, "task": recording.task, "seed": recording.seed}
    arrays: dict[str, NDArray[Any]] = {
        "about": np.array(json.dumps(about)),
        "state": recording.state,
        "actions": recording.actions,
        "executed": recording.executed,
        "place": recording.place,
    }
    for camera, encoded in recording.images.items():
        arrays[f"png.{camera}"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"ends.{camera}"] = np.cumsum([len(image) for image in encoded])
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its own keyword is none of ours


def read_recording(path: Path) -> Recording:
    """Read what `write_recording` wrote. Raises RunError if the file is damaged, or another one."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(str(arrays["about"]))
        images, place = {}, arrays.get("place", np.full(3, np.nan, np.float32))
        for camera in VIEWS:
            content, ends = arrays[f"png.{camera}"].tobytes(), arrays[f"ends.{camera}"].tolist()
            images[camera] = tuple(content[a:b] for a, b in zip([0, *ends], ends, strict=False))
        return Recording(images, arrays["state"], arrays["actions"], arrays["executed"], place, **about)
    except Exception as error:  # zip files break in many ways
        raise RunError(f"{path} cannot be read ({error}); remove it, and the same command records it again") from error


def write_lerobot_demonstrations(root: Path, paths: Sequence[Path], pixels: int, fps: int) -> None:
    """Write a LeRobot v2.1 folder, with the images in the tables, into an empty one, of episodes from
    `write_recording`; pixels: side of their images; fps: observations a second. Its truth.jsonl, which no build reads,
    has the place of the thing in each episode's first observation, for `vlajepa probe-latents`."""
    features = {
        "observation.state": vector_feature(STATE_NAMES, STATE_UNITS),
        "action": vector_feature(ACTION_NAMES, ACTION_UNITS),
        "action.executed": vector_feature(ACTION_NAMES, ACTION_UNITS),
    }
    keys = {camera: IMAGE_PREFIX + view for camera, view in VIEWS.items()}
    writer = LeRobotWriter(root, ROBOT, fps, {**features, **{key: image_feature(pixels) for key in keys.values()}})
    truth = []
    for number, path in enumerate(paths):
        one = read_recording(path)
        if np.isfinite(one.place).all():
            x, y = (round(float(value), 6) for value in one.place[:2])
            truth.append(json.dumps({"episode": f"{number:06d}", "named_x": x, "named_y": y}) + "\n")
        picked = spread(len(one.state))
        writer.add(
            one.instruction,
            {"observation.state": one.state, "action": one.actions, "action.executed": one.executed},
            {key: image_stats(one.frames(camera, picked)) for camera, key in keys.items()},
            {key: one.images[camera] for camera, key in keys.items()},
        )
    writer.finish()
    (root / TRUTH).write_text("".join(truth), encoding="utf-8")


def write_libero_demonstrations(root: Path, suite: str, paths: Sequence[Path], fps: int) -> None:
    """Write ROOT/SUITE/TASK_demo.hdf5 of each task into an empty folder, and a note on what differs from LIBERO's
    own."""
    folder = root / suite
    folder.mkdir(parents=True)
    (root / "README.txt").write_text(WARNING, encoding="utf-8")
    by_task: dict[str, list[Path]] = {}
    for path in paths:
        by_task.setdefault(path.parent.name, []).append(path)
    for task, own in by_task.items():
        with h5py.File(folder / f"{task}_demo.hdf5", "w") as file:
            data = file.create_group("data")
            data.attrs["macros_image_convention"] = "opencv"
            data.attrs["action_lag"] = 0
            data.attrs["fps"] = fps
            data.attrs["note"] = WARNING
            data.attrs["num_demos"] = len(own)
            for number, path in enumerate(own):
                one = read_recording(path)
                data.attrs["problem_info"] = json.dumps({"language_instruction": one.instruction})
                _write_demo(data.create_group(f"demo_{number}"), one)


def _write_demo(demo: h5py.Group, one: Recording) -> None:
    demo.attrs["num_samples"] = len(one.actions)
    demo.attrs["seed"] = one.seed
    demo["actions"] = one.actions
    demo["actions_executed"] = one.executed
    obs = demo.create_group("obs")
    obs["ee_states"] = one.state[:, :6]
    obs["gripper_states"] = one.state[:, 6:]
    for camera, name in LIBERO_VIEWS.items():
        frames = one.frames(camera)
        obs.create_dataset(name, data=frames, chunks=(1, *frames.shape[1:]), compression="gzip", compression_opts=1)
