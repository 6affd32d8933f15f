"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow.

Framing: length (8 bytes), its checksum (4), the record, its checksum (4), all little-endian. An Example is field 1
(features) of a map (field 1) from name (1) to Feature (2); a Feature is one of BytesList (1), FloatList (2) and
Int64List (3), whose field 1 holds the values, numbers packed or one by one.
tensorflow/core/example/{example,feature}.proto, protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Values = list[bytes] | NDArray[np.float32] | NDArray[np.int64]

_HEADER = struct.Struct("<QI")
_CHECKSUM_BYTES = 4
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def read_records(path: Path) -> Iterator[bytes]:
    """Every record of a file. Raises ValueError when it ends early or a length is damaged."""
    with path.open("rb") as file:
        while (length := _length(file, path)) is not None:
            yield _payload(file, length, path)


def read_record(path: Path, number: int) -> bytes:
    """One record of a file, without reading those before. Raises ValueError when there is none."""
    with path.open("rb") as file:
        for at in range(number + 1):
            length = _length(file, path)
            if length is None:
                raise ValueError(f"{path} has {at} records, record {number} was asked for")
            if at < number:
                file.seek(length + _CHECKSUM_BYTES, 1)
        return _payload(file, length or 0, path)


def parse_example(record: bytes) -> dict[str, Values]:
    """Feature name -> its values: bytes, float32 [n] or int64 [n]. Raises ValueError when it is no Example."""
    found: dict[str, Values] = {}
    for features in _messages(memoryview(record), 1):
        for entry in _messages(features, 1):
            names, values = list(_messages(entry, 1)), list(_messages(entry, 2))
            if len(names) != 1 or len(values) != 1:
                raise ValueError("an Example holds a feature without a name or a value")
            name = bytes(names[0]).decode()
            if name in found:
                raise ValueError(f"an Example holds {name} twice")
            found[name] = _feature(values[0], name)
    return found


def _length(file: BinaryIO, path: Path) -> int | None:
    """Length of the record that begins here; None at the end of the file."""
    header = file.read(_HEADER.size)
    if not header:
        return None
    if len(header) == _HEADER.size:
        length, checksum = _HEADER.unpack(header)
        if checksum == masked_checksum(header[:8]):
            return int(length)
    raise ValueError(f"{path}: no record begins at byte {file.tell() - len(header)}")


def _payload(file: BinaryIO, length: int, path: Path) -> bytes:
    record = file.read(length)
    if len(record) < length or len(file.read(_CHECKSUM_BYTES)) < _CHECKSUM_BYTES:
        raise ValueError(f"{path} ends inside a record")
    return record


def masked_checksum(data: bytes) -> int:
    """CRC-32C of a few bytes, rotated and shifted as TFRecord stores it.

    Of a record only the length is checked by it: the content is compared with the build, value by value.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _feature(message: memoryview, name: str) -> Values:
    kinds = list(_fields(message))
    if not kinds:
        return []
    kind, _, content = kinds[0]
    if len(kinds) > 1 or isinstance(content, int):
        raise ValueError(f"feature {name} is no list")
    if kind == 1:
        return [bytes(value) for value in _messages(content, 1)]
    if kind == 2:
        parts = [bytes(value) for _, value in _numbers(content, _FIXED32, name) if not isinstance(value, int)]
        return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)
    if kind == 3:
        return np.array(list(_integers(content, name)), np.uint64).view(np.int64)
    raise ValueError(f"feature {name} is of no known kind")


def _integers(message: memoryview, name: str) -> Iterator[int]:
    for _, value in _numbers(message, _VARINT, name):
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield number


def _numbers(message: memoryview, alone: int, name: str) -> Iterator[tuple[int, memoryview | int]]:
    """Values of a list of numbers: packed ones as one piece, or each of wire type `alone`."""
    for number, wire, value in _fields(message):
        if number != 1 or wire not in (alone, _DELIMITED):
            raise ValueError(f"feature {name} holds wire type {wire} under {number}")
        if wire == _DELIMITED and alone == _FIXED32 and not isinstance(value, int) and len(value) % 4:
            raise ValueError(f"feature {name} ends inside a number")
        yield wire, value


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Content of every delimited field of one number."""
    for number, wire, value in _fields(message):
        if number == wanted and wire == _DELIMITED and not isinstance(value, int):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """(field number, wire type, content) of every field; the content of a varint is its value."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, wire, value
            continue
        if wire == _DELIMITED:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"a message holds wire type {wire}")
        if at + size > len(message):
            raise ValueError("a message ends inside a field")
        yield tag >> 3, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a message ends inside a number")
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a message holds a number of more than 64 bits")
