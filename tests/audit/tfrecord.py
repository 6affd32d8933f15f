"""TFRecord files read without TensorFlow: tf.train.Example messages as {feature: list of bytes}.

Framing: length (8 bytes), its checksum (4), the record, its checksum (4). An Example is field 1 (features) of a map
(field 1) from name (1) to Feature (2); a Feature's field 1 is a BytesList, whose field 1 holds the values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path


def read_bytes_features(path: Path) -> Iterator[dict[str, list[bytes]]]:
    """The bytes features of every record of a file."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield _example(data[at + 12 : at + 12 + length])
        at += 16 + length


def _example(record: bytes) -> dict[str, list[bytes]]:
    found = {}
    for _, features in _fields(record):
        for _, entry in _fields(features):
            name, feature = (value for _, value in _fields(entry))
            found[name.decode()] = [
                value for kind, values in _fields(feature) if kind == 1 for _, value in _fields(values)
            ]
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, payload) of every length-delimited field; numbers are skipped."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            length, at = _varint(message, at)
            yield tag >> 3, message[at : at + length]
            at += length
        elif tag & 7 == 0:
            _, at = _varint(message, at)
        else:
            at += 8 if tag & 7 == 1 else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
