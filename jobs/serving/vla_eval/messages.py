"""Messages of vla-eval 0.8 (protocol 1), read from its package's behaviour.

A message is a msgpack map of type, payload (a map), seq (the answer has its question's) and timestamp (seconds).
Arrays are {"__ndarray__": true, "data", "dtype", "shape"}; uint8 images {"__image__": true, "format": "raw", "jpeg" or
"png", "data", "shape"}, with dtype where raw. What comes from a network is not trusted, see `jobs.serving.wire`.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jobs.serving.limits import LONGEST_SIDE
from jobs.serving.wire import WireError, array_of, unpack

PROTOCOL_VERSION = 1


class MessageType(StrEnum):
    """Of a message: questions of the client, and `ACTION` and `ERROR`, which answer an observation."""

    HELLO = "hello"
    OBSERVATION = "observation"
    ACTION = "action"
    EPISODE_START = "episode_start"
    EPISODE_END = "episode_end"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """A message, read. Images in its payload are `EncodedImage`."""

    type: MessageType
    payload: Mapping[str, Any]
    seq: int


@dataclass(frozen=True)
class EncodedImage:
    """An image as it came, of which the size is what its sender says. format: raw, jpeg or png."""

    format: str
    data: bytes
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Bytes when it is decoded."""
        return math.prod(self.shape)

    def decode(self) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3]. Raises WireError if it is no such image."""
        height, width, channels = self.shape
        if channels != 3:
            raise WireError(f"an image must be RGB [H, W, 3], got {list(self.shape)}")
        if self.format == "raw":
            return array_of({"data": self.data, "dtype": "|u1", "shape": list(self.shape)})
        try:
            with Image.open(io.BytesIO(self.data), formats=(self.format.upper(),)) as image:
                if image.size != (width, height) or image.mode != "RGB":
                    raise WireError(f"an image is said to be {width} x {height} RGB, and is {image.size} {image.mode}")
                return np.asarray(image)
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            if isinstance(error, WireError):
                raise
            raise WireError(f"an image cannot be read as {self.format}") from error


def read_message(data: str | bytes) -> Message:
    """A message of a client. Raises WireError if it is none, or holds more than `jobs.serving.wire` allows."""
    if isinstance(data, str):
        raise WireError("a message must be binary msgpack, got a text frame")
    content = unpack(data, _decoded)
    missing = {"type", "payload", "seq"} - content.keys()
    if missing:
        raise WireError(f"a message of vla-eval has a {sorted(missing)[0]}; this one has none")
    kind, payload, seq = content["type"], content["payload"], content["seq"]
    if not isinstance(kind, str) or kind not in list(MessageType):
        raise WireError(f"there is no message of the type {str(kind)[:40]!r}")
    if not isinstance(payload, dict) or type(seq) is not int:
        raise WireError("a message's payload must be a map and its seq a whole number")
    return Message(MessageType(kind), payload, seq)


def pack_message(kind: MessageType, payload: Mapping[str, Any], seq: int) -> bytes:
    """A message of the server; arrays in it as float32."""
    content = {"type": kind.value, "payload": payload, "seq": seq, "timestamp": time.time()}
    packed: bytes = msgpack.packb(content, default=_encoded)
    return packed


def _encoded(value: Any) -> Any:
    array = np.asarray(value, np.float32)
    return {"__ndarray__": True, "data": array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape)}


def _decoded(value: dict[Any, Any]) -> Any:
    if "__image__" in value:
        return _image(value)
    return array_of(value) if "__ndarray__" in value else value


def _image(value: Mapping[Any, Any]) -> EncodedImage:
    kind, data, shape = value.get("format"), value.get("data"), value.get("shape")
    if kind not in ("raw", "jpeg", "png") or not isinstance(data, bytes):
        raise WireError(f"an image must be raw, jpeg or png bytes, got {str(kind)[:40]!r}")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(side) is int and 0 < side <= LONGEST_SIDE for side in shape)
    ):
        raise WireError(f"an image's shape must be [H, W, 3] of at most {LONGEST_SIDE} a side, got {str(shape)[:200]}")
    return EncodedImage(kind, data, (shape[0], shape[1], shape[2]))
