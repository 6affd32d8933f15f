"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow.

Framing: length (8 bytes), its checksum (4), the record, its checksum (4), all little-endian. Messages:
tensorflow/core/example/{example,feature}.proto. Here every field is declared as repeated, which is the same on the
wire: what should be there once and is there twice must not be merged silently.
"""

from __future__ import annotations

import struct
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from pipeline.audit.raw.place import Place

Values = list[bytes] | NDArray[np.float32] | NDArray[np.int64]

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")

_BYTES, _FLOAT, _INT64 = (getattr(FieldDescriptorProto, f"TYPE_{name}") for name in ("BYTES", "FLOAT", "INT64"))
_MESSAGES: dict[str, dict[str, Any]] = {
    "Example": {"features": "Features"},
    "Features": {"feature": "Entry"},
    "Entry": {"key": _BYTES, "value": "Feature"},
    "Feature": {"bytes": "Bytes", "floats": "Floats", "integers": "Integers"},
    "Bytes": {"value": _BYTES},
    "Floats": {"value": _FLOAT},
    "Integers": {"value": _INT64},
}
"""Message -> its fields, numbered from 1, and their types."""


def read_record(path: Place, number: int) -> bytes:
    """One record of a file, without reading those before. Raises ValueError when it is not there or damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = 0
        for at in range(number + 1):
            header = file.read(_HEADER.size)
            if not header:
                raise ValueError(f"{path} has {at} records, record {number} was requested")
            length, checksum = _HEADER.unpack(header) if len(header) == _HEADER.size else (0, -1)
            if checksum != masked_checksum(header[:8]):
                raise ValueError(f"{path}: no record begins at byte {file.tell() - len(header)}")
            if file.tell() + length + _CHECKSUM.size > size:
                raise ValueError(f"{path} ends inside record {at}")
            if at < number:
                file.seek(length + _CHECKSUM.size, 1)
        record, stored = file.read(length), file.read(_CHECKSUM.size)
        if len(stored) < _CHECKSUM.size or _CHECKSUM.unpack(stored)[0] != masked_checksum(record):
            raise ValueError(f"{path}: record {number} is not what its checksum says")
        return record


def parse_example(record: bytes) -> dict[str, Values]:
    """Feature name -> its values: bytes, float32 [n] or int64 [n]. Raises ValueError when it is no Example."""
    try:
        example = _EXAMPLE.FromString(record)
    except DecodeError as error:
        raise ValueError(f"a record is no Example: {error}") from error
    found: dict[str, Values] = {}
    for entry in (entry for features in example.features for entry in features.feature):
        if len(entry.key) != 1 or len(entry.value) != 1:
            raise ValueError("an Example holds a feature without a name or a value")
        name = entry.key[0].decode()
        if name in found:
            raise ValueError(f"an Example holds {name} twice")
        found[name] = _values(entry.value[0], name)
    return found


def _values(feature: Any, name: str) -> Values:
    lists = [*feature.bytes, *feature.floats, *feature.integers]
    if len(lists) > 1 or any(len(UnknownFieldSet(message)) for message in (feature, *lists)):
        raise ValueError(f"feature {name} is not one list of bytes, float32 or int64")
    if feature.floats:
        return np.array(lists[0].value, np.float32)
    if feature.integers:
        return np.array(lists[0].value, np.int64)
    return list(lists[0].value) if lists else []


def _example_class() -> Any:
    file = FileDescriptorProto(name="example.proto", package="raw")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = message.field.add(name=field, number=number, label=FieldDescriptorProto.LABEL_REPEATED)
            if isinstance(kind, str):
                added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".raw.{kind}"
            else:
                added.type = kind
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("raw.Example"))


_EXAMPLE = _example_class()


def masked_checksum(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord stores it."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
