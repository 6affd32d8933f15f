"""A made-up robot: cameras that spell their picture's number, and numbers that say when they were measured.

Camera front has a picture each 100 ms, from START on; wrist one 30 ms before each. The pose is measured each 40 ms, the
joints 7 ms after it, commands come each 50 ms, 20 ms after the first picture. Message n of a topic holds n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.mcap_files.writer import MS, START, Sent, array, compressed, joints, pose, text, write_mcap
from tests.pipeline.spelled import spell

FRAME = 100 * MS
NAMES = ("shoulder", "elbow", "finger")
TEXT = "put the cup down"

SETTINGS: dict[str, Any] = {
    "name": "arm",
    "cameras": ["front=/front/image", "wrist=/wrist/image"],
    "state": [
        "/pose:pose.position",
        {"field": "/pose:pose.orientation", "convert": "quaternion_xyzw"},
        "/joints:position[finger, shoulder]",
    ],
    "action": [{"field": "/command:data", "take": [0, 7]}],
    "instruction": "/task",
}


def turned(angle: float) -> tuple[float, float, float, float]:
    """A turn about z as a quaternion x, y, z, w."""
    return 0.0, 0.0, float(np.sin(angle / 2)), float(np.cos(angle / 2))


def robot_messages(frames: int = 12, names: Sequence[str] = NAMES) -> list[Sent]:
    """In the order of their times; joints change their order in every second message."""
    found = [text("/task", TEXT, START - 500 * MS)]
    found += [compressed("/front/image", spell(i), START + i * FRAME) for i in range(frames)]
    found += [compressed("/wrist/image", spell(i + 100), START - 30 * MS + i * FRAME) for i in range(frames)]
    last = frames * FRAME
    for n, at in enumerate(range(-80 * MS, last, 40 * MS)):
        found.append(pose("/pose", (n, 2 * n, -n), turned(n / 50), START + at))
        order = [(name, 10 * n + i) for i, name in enumerate(names)][:: 1 if n % 2 else -1]
        found.append(joints("/joints", [a for a, _ in order], [b for _, b in order], START + at + 7 * MS))
    for n, at in enumerate(range(20 * MS, last, 50 * MS)):
        found.append(array("/command", [n, *[n / 10] * 6, 99], START + at))
    return sorted(found, key=lambda message: message.log)


def write_robot(
    root: Path, lengths: Sequence[int] = (12, 14), change: Callable[[list[Sent]], list[Sent]] = list, **how: Any
) -> Path:
    """A folder of recordings run/0.mcap, run/1.mcap, …, each of so many pictures."""
    for number, frames in enumerate(lengths):
        write_mcap(root / f"run/{number}.mcap", change(robot_messages(frames)), **how)
    return root


def of_topic(messages: Sequence[Sent], topic: str) -> Iterator[Sent]:
    """The messages of a topic."""
    return (message for message in messages if message.topic == topic)
