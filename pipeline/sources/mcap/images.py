"""Pictures of messages: sensor_msgs CompressedImage (JPEG, PNG) and Image (rgb8, bgr8, mono8)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.metadata import undecodable
from pipeline.sources.video.stored_image import decode_image

COMPRESSED, RAW = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"
IMAGES = (COMPRESSED, RAW)

LARGEST_PICTURE = 2**27
"""Bytes of one picture that is stored as it is."""

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}
"""Encoding of a picture that is stored as it is -> bytes of a pixel."""


def picture(kind: str, message: Any, where: str) -> NDArray[np.uint8]:
    """A message as RGB uint8 [H, W, 3].

    Raises:
        EpisodeError: "undecodable": another encoding, damaged, or more than `LARGEST_PICTURE` bytes; a depth map.
    """
    if kind == COMPRESSED:
        if "compressedDepth" in message.format:
            raise undecodable(where, "is a depth map, which is no view; take the camera out of source.cameras")
        return decode_image(bytes(message.data), where)
    return _plain(message, where)


def _plain(message: Any, where: str) -> NDArray[np.uint8]:
    height, width, step, encoding = message.height, message.width, message.step, message.encoding
    channels = CHANNELS.get(encoding)
    if channels is None:
        known = ", ".join(CHANNELS)
        raise undecodable(where, f"a picture in {encoding!r:.40}, read are {known} and CompressedImage; convert it")
    if height * max(step, 3 * width) > LARGEST_PICTURE:
        detail = f"a picture of {width} x {height} pixels, {step:,} bytes a row, read are {LARGEST_PICTURE:,} bytes"
        raise undecodable(where, detail)
    if not height or not width or step < width * channels or len(message.data) != height * step:
        detail = f"{len(message.data):,} bytes for {height} rows of {step} bytes, {width} pixels in {encoding}"
        raise EpisodeError("undecodable", f"{where}: {detail}")
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    rgb = {"rgb8": pixels, "bgr8": pixels[..., ::-1], "mono8": np.repeat(pixels, 3, axis=2)}[encoding]
    return np.ascontiguousarray(rgb)
