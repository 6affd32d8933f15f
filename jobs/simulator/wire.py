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
    """Read one message. Raises EOFError if the other process has ended, maybe in the middle of it."""
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))

    def restored(value: dict[str, Any]) -> Any:
        """Objects end in the order of the text, so the next bytes are those of this array."""
        if _MARK not in value:
            return value
        dtype, shape = np.dtype(value[_MARK][0]), value[_MARK][1]
        return np.frombuffer(bytearray(_exactly(file, dtype.itemsize * math.prod(shape))), dtype).reshape(shape)

    message: dict[str, Any] = json.loads(_exactly(file, length), object_hook=restored)
    return message


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if data is None or len(data) < count:
        raise EOFError("the other process has ended")
    return data
