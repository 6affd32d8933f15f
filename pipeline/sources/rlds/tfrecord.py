"""Random access to the records of a TFRecord file by number.

A record is its length (8 bytes, little-endian), the masked CRC-32C of these (4), the payload, and its masked CRC-32C
(4): tensorflow.org/tutorials/load_data/tfrecord. A damaged record is an error; it is never confused with another one.
"""

from __future__ import annotations

import functools
import struct

import google_crc32c

from pipeline.errors import EpisodeError
from pipeline.sources.files import file_identity
from pipeline.sources.known_hashes import Identity
from pipeline.storage.raw.places import raw_path

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_GZIP = b"\x1f\x8b"


def read_record(path: str, number: int) -> bytes:
    """The payload of one record.

    Raises:
        EpisodeError: "missing-file", "undecodable" (a checksum is wrong, the file ends too early) or "out-of-range".
    """
    try:
        place = raw_path(path)
        starts, damage = _places(path)
        if not 0 <= number < len(starts):
            if damage:
                raise EpisodeError("undecodable", damage)
            raise EpisodeError("out-of-range", f"{path} has records 0..{len(starts) - 1}; {number} was requested")
        with place.open("rb") as file:
            file.seek(starts[number])
            length = _length(file.read(_HEADER.size), path, number)
            payload = file.read(length)
            footer = file.read(_FOOTER.size)
    except OSError as error:
        raise EpisodeError("missing-file", f"{path}: {error.strerror}") from error
    if len(payload) < length or len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[0] != _masked_crc(payload):
        raise EpisodeError("undecodable", f"{path}: record {number} is damaged (its checksum differs)")
    return payload


def count_records(path: str) -> int:
    """Whole records of a file, up to the first damaged header. Raises OSError."""
    return len(_places(path)[0])


def _places(path: str) -> tuple[tuple[int, ...], str]:
    return _starts(path, raw_path(path).stat().st_size, file_identity(path))


@functools.lru_cache(maxsize=8)
def _starts(path: str, size: int, identity: Identity) -> tuple[tuple[int, ...], str]:
    """Byte offset of each record, up to the first damaged header, and what is wrong with it; "" if none is damaged.

    It reads the headers alone. Cached per version of the file.
    """
    starts: list[int] = []
    at = 0
    with raw_path(path).open("rb") as file:
        while at < size:
            file.seek(at)
            try:
                length = _length(file.read(_HEADER.size), path, len(starts))
            except EpisodeError as error:
                return tuple(starts), error.detail
            starts.append(at)
            at += _HEADER.size + length + _FOOTER.size
    if at > size:
        starts.pop()  # the file ends inside it
    return tuple(starts), ""


def _length(header: bytes, path: str, number: int) -> int:
    if len(header) == _HEADER.size:
        length, crc = _HEADER.unpack(header)
        if crc == _masked_crc(header[:8]):
            return int(length)
    if number == 0 and header.startswith(_GZIP):
        detail = f"{path} is compressed with gzip: unpack it (gunzip), since records are read by their place"
        raise EpisodeError("undecodable", detail)
    raise EpisodeError("undecodable", f"{path}: the header of record {number} is damaged (its checksum differs)")


def _masked_crc(content: bytes) -> int:
    crc = int(google_crc32c.value(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
