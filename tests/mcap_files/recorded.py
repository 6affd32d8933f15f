"""Episodes of the sample world as a ROS 2 robot would record them: cameras, joints and commands, each at its own times.

A frame of the film comes each 1/12 s. The wrist camera is 11 ms earlier, the joints 9 ms earlier, their order changes;
the command of a frame is sent 4 ms after it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.audit.raw.decoding.video import read_video
from tests.mcap_files.writer import MS, START, Sent, array, compressed, joints, raw_image, text, write_mcap

NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper", "finger")
Change = Callable[[list[Sent]], list[Sent]]


def recorded_source(root: Path, **settings: Any) -> dict[str, Any]:
    """Settings of a build of `write_recordings`."""
    cameras = ["front=/front/image", "wrist=/wrist/image"]
    return {
        "type": "mcap",
        "name": "robot",
        "root": str(root),
        "cameras": cameras,
        "state": [f"/joint_states:position[{', '.join(NAMES)}]"],
        "action": [{"field": "/command:data", "take": [0, 7]}],
        "instruction": "/task",
        "val_share": 0.3,
        **settings,
    }


def write_recordings(lerobot: Path, root: Path, change: Change = list) -> Path:
    """Write an episode of the sample world (`tests.conftest.SampleData.lerobot`) a file."""
    for path in sorted(lerobot.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        state, action = (np.array(table[name].to_pylist(), np.float64) for name in ("observation.state", "action"))
        films = {}
        for camera in ("front", "wrist"):
            film = next(lerobot.glob(f"videos/*/observation.images.{camera}/{path.stem}.mp4"))
            films[camera] = [frame for _, frame in read_video(film)]
        write_mcap(root / f"{path.stem}.mcap", change(_messages(films, state, action)))
    return root


def _messages(films: dict[str, Any], state: Any, action: Any) -> list[Sent]:
    found = [text("/task", "put the cup on the plate", START - 300 * MS)]
    for i in range(len(state)):
        at = START + i * 10**9 // 12
        found.append(compressed("/front/image", films["front"][i], at, kind="JPEG"))
        found.append(raw_image("/wrist/image", films["wrist"][i], at - 11 * MS, "bgr8", padding=3))
        order = np.roll(np.arange(len(NAMES)), i)
        found.append(joints("/joint_states", [NAMES[k] for k in order], state[i][order], at - 9 * MS))
        found.append(array("/command", action[i], at + 4 * MS))
    return sorted(found, key=lambda message: message.log)
