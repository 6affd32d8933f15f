"""Pictures of sensor_msgs, by their definitions: CompressedImage, and Image with 8 bits a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.decoding.frames import decode_image

COMPRESSED, PLAIN = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"
_ORDERS: Mapping[str, list[int]] = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "mono8": [0, 0, 0]}
"""Encoding -> places of red, green and blue among the bytes of a pixel."""

_LARGEST = 128 << 20


def shown(kind: str, message: Mapping[str, Any], where: str) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3]. Raises RawError or ValueError for what is no such picture."""
    if kind == COMPRESSED:
        if "compressedDepth" in str(message["format"]):
            raise RawError(f"{where} is a depth map")
        return decode_image(message["data"], where)
    height, width, step = (int(message[name]) for name in ("height", "width", "step"))
    order, data = _ORDERS.get(message["encoding"]), message["data"]
    if order is None:
        raise RawError(f"{where} is a picture in {message['encoding']!r:.40}")
    if height * step > _LARGEST or height * width * 3 > _LARGEST:
        raise RawError(f"{where} is a picture of more than {_LARGEST} bytes")
    bytes_of_pixel = max(order) + 1
    if min(height, width) < 1 or step < width * bytes_of_pixel or len(data) != height * step:
        raise RawError(f"{where}: {len(data)} bytes are no {height} rows of {step} with {width} pixels")
    made = np.empty((height, width, 3), np.uint8)
    for row in range(height):
        line = np.frombuffer(data, np.uint8, width * bytes_of_pixel, row * step).reshape(width, bytes_of_pixel)
        made[row] = line[:, order]
    return made
