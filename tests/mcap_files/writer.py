"""Writes recordings: messages as dictionaries, in the order they are given."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType
from mcap_ros2.writer import Writer
from numpy.typing import NDArray
from PIL import Image

from tests.mcap_files.definitions import definition

START = 1_700_000_000_000_000_000
"""Nanoseconds at which recordings begin."""

MS = 1_000_000


@dataclass(frozen=True)
class Sent:
    """One message. log: nanoseconds when it is recorded. The header's stamp is in the content."""

    topic: str
    kind: str
    log: int
    content: Mapping[str, Any]


def header(stamp: int) -> dict[str, Any]:
    """A header with a stamp of so many nanoseconds."""
    return {"stamp": {"sec": stamp // 10**9, "nanosec": stamp % 10**9}, "frame_id": "base"}


def compressed(topic: str, pixels: NDArray[np.uint8], stamp: int, log: int | None = None, kind: str = "PNG") -> Sent:
    """A picture as JPEG or PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    content = {"header": header(stamp), "format": f"rgb8; {kind.lower()} compressed", "data": buffer.getvalue()}
    return Sent(topic, "sensor_msgs/msg/CompressedImage", stamp if log is None else log, content)


def raw_image(topic: str, pixels: NDArray[np.uint8], stamp: int, encoding: str = "rgb8", padding: int = 0) -> Sent:
    """A picture as it is, with bytes at the end of each row that are none of it."""
    stored = {"rgb8": pixels, "bgr8": pixels[..., ::-1], "mono8": pixels[..., :1]}.get(encoding, pixels)
    rows = stored.reshape(len(stored), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    height, width = stored.shape[:2]
    content = {"header": header(stamp), "height": height, "width": width, "encoding": encoding, "is_bigendian": 0}
    content |= {"step": padded.shape[1], "data": padded.tobytes()}
    return Sent(topic, "sensor_msgs/msg/Image", stamp, content)


def joints(topic: str, names: Sequence[str], position: Sequence[float], stamp: int) -> Sent:
    """A JointState."""
    content = {"header": header(stamp), "name": list(names), "position": [float(value) for value in position]}
    return Sent(topic, "sensor_msgs/msg/JointState", stamp, content | {"velocity": [], "effort": []})


def pose(topic: str, position: Sequence[float], quaternion: Sequence[float], stamp: int) -> Sent:
    """A PoseStamped; the quaternion is x, y, z, w."""
    placed = dict(zip("xyz", map(float, position), strict=True))
    turned = dict(zip("xyzw", map(float, quaternion), strict=True))
    content = {"header": header(stamp), "pose": {"position": placed, "orientation": turned}}
    return Sent(topic, "geometry_msgs/msg/PoseStamped", stamp, content)


def array(topic: str, values: Sequence[float], log: int) -> Sent:
    """A Float64MultiArray, which has no header."""
    content = {"layout": {"dim": [], "data_offset": 0}, "data": [float(value) for value in values]}
    return Sent(topic, "std_msgs/msg/Float64MultiArray", log, content)


def text(topic: str, value: str, log: int) -> Sent:
    """A String."""
    return Sent(topic, "std_msgs/msg/String", log, {"data": value})


def write_mcap(
    path: Path,
    messages: Iterable[Sent],
    compression: CompressionType = CompressionType.ZSTD,
    chunk_size: int = 64 * 1024,
    schemas: Mapping[str, str] | None = None,
) -> Path:
    """Write a recording.

    Args:
        schemas: type -> definition, in place of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {}
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=chunk_size, compression=compression)
        for number, message in enumerate(messages):
            if message.kind not in known:
                text = (schemas or {}).get(message.kind) or definition(message.kind)
                known[message.kind] = writer.register_msgdef(message.kind, text)
            writer.write_message(message.topic, known[message.kind], message.content, message.log, sequence=number)
        writer.finish()
    return path
