"""Messages between two processes over a pair of pipes: a JSON object, some of whose values are NumPy arrays.

    8 bytes   length of the JSON text, little endian
    JSON      {"__array__": [dtype, shape]} in place of an array
    bytes     of the arrays, in the order of the text

Not pickle: the two sides run different versions of NumPy.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import numpy as np

_LENGTH = struct.Struct("<Q")
_MARK = "__array__"
KINDS = "biuf"
"""Kinds of dtype that can be sent: booleans and numbers."""


def send(file: BinaryIO, message: dict[str, Any]) -> None:
    """Write one message and flush.

    Raises:
        TypeError: a value is neither JSON nor an array of numbers.
        BrokenPipeError: the other process has ended.
    """
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
        EOFError: the other process has ended, maybe in the middle of a message.
    """
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))

    def restored(value: dict[str, Any]) -> Any:
        if _MARK not in value:
            return value
        dtype, shape = value[_MARK]
        kind = np.dtype(dtype)
        pending.append((kind, tuple(shape)))
        return _Place(len(pending) - 1)

    pending: list[tuple[np.dtype, tuple[int, ...]]] = []
    message = json.loads(_exactly(file, length), object_hook=restored)
    arrays = []
    for kind, shape in pending:
        data = _exactly(file, kind.itemsize * int(np.prod(shape, dtype=np.int64)))
        arrays.append(np.frombuffer(bytearray(data), kind).reshape(shape))
    filled = _fill(message, arrays)
    assert isinstance(filled, dict)
    return filled


class _Place:
    def __init__(self, index: int) -> None:
        self.index = index


def _fill(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, _Place):
        return arrays[value.index]
    if isinstance(value, dict):
        return {key: _fill(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, arrays) for inner in value]
    return value


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if data is None or len(data) < count:
        raise EOFError("the other process has ended")
    return data
