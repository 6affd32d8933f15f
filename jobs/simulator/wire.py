"""Messages between two processes over a pair of pipes: a JSON object, some of whose values are NumPy arrays.

    8 bytes   length of the JSON text, little endian
    JSON      {"__array__": [dtype, shape]} in place of an array
    bytes     of the arrays, in the order of the text

Not pickle: the two sides run different versions of NumPy.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO

import numpy as np

_LENGTH = struct.Struct("<Q")
_MARK = "__array__"
KINDS = "biuf"
"""Kinds of dtype that can be sent: booleans and numbers."""

MOST_BYTES = 2**30
"""Of the text of a message, and of an array."""


def send(file: BinaryIO, message: dict[str, Any]) -> None:
    """Write one message and flush. Raises TypeError for a value that is neither JSON nor an array of numbers."""
    arrays: list[np.ndarray] = []

    def replaced(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in KINDS:
            raise TypeError(f"{type(value).__name__} cannot be sent: {value!r}")
        arrays.append(np.ascontiguousarray(value))
        return {_MARK: [value.dtype.str, list(value.shape)]}

    text = json.dumps(message, default=replaced).encode()
    file.write(_LENGTH.pack(len(text)))
    file.write(text)
    for array in arrays:
        file.write(array.tobytes())
    file.flush()


def receive(file: BinaryIO) -> dict[str, Any]:
    """Read one message.

    Raises:
        EOFError: the other process has ended, maybe in the middle of it.
        ValueError: it sent something else.
    """
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))

    def restored(value: dict[str, Any]) -> Any:
        """Objects end in the order of the text, so the next bytes are those of this array."""
        if _MARK not in value:
            return value
        dtype, shape = _described(value[_MARK])
        return np.frombuffer(bytearray(_exactly(file, dtype.itemsize * math.prod(shape))), dtype).reshape(shape)

    try:
        message = json.loads(_exactly(file, length), object_hook=restored)
    except RecursionError as error:
        raise ValueError("a message is nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("a message must be an object")
    return message


def _described(mark: object) -> tuple[np.dtype[Any], list[int]]:
    """Dtype and shape of an array that follows. Raises ValueError for others than `send` writes."""
    if not isinstance(mark, list) or len(mark) != 2 or not isinstance(mark[0], str) or not isinstance(mark[1], list):
        raise ValueError(f"{_MARK} must be a dtype and a shape")
    if not all(type(size) is int and size >= 0 for size in mark[1]) or mark[0][1:2] not in tuple(KINDS):
        raise ValueError(f"an array must be of numbers, and its shape of sizes, found {mark!r:.80}")
    try:
        return np.dtype(mark[0]), mark[1]
    except (TypeError, ValueError) as error:
        raise ValueError(f"there is no dtype {mark[0]!r:.40}") from error


def _exactly(file: BinaryIO, count: int) -> bytes:
    if count > MOST_BYTES:
        raise ValueError(f"a part of a message has {count} bytes, {MOST_BYTES} at most")
    data = file.read(count)
    if data is None or len(data) < count:
        raise EOFError("the other process has ended")
    return data
