"""MCAP files, read from the specification: mcap.dev/spec. Neither the mcap library nor the index of a file is used.

Everything is little endian. A record is an opcode (1 byte), the length of its content (8) and the content.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.audit.raw.base import RawError
from pipeline.errors import BuildError

_MAGIC = bytes((0x89, *b"MCAP0", 0x0D, 0x0A))
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_LARGEST = 256 << 20
"""Bytes of a record, and of what a chunk holds."""


@dataclass(frozen=True)
class Schema:
    """Definition of the messages of a channel."""

    name: str
    encoding: str
    text: bytes


@dataclass(frozen=True)
class Message:
    """log_time: nanoseconds. schema: None where the channel names none."""

    topic: str
    encoding: str
    schema: Schema | None
    log_time: int
    content: bytes


class _Bytes:
    """Content that is read from its beginning. Raises RawError beyond its end."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.content):
            raise RawError(f"{count} bytes are wanted, {len(self.content) - self.at} are left of a record")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        return self.take(self.number(4)).decode()


class Recording:
    """The messages of one open file, in its order.

    Raises:
        RawError: it is damaged or cut off, too large a record is in it, or it is no MCAP file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, tuple[int, str, str, bytes]] = {}

    def messages(self) -> Iterator[Message]:
        """All of the data section."""
        self._file.seek(0)
        if self._file.read(8) != _MAGIC:
            raise RawError("it does not begin as an MCAP file")
        data = True
        while True:
            opcode, length = self._head()
            if opcode == _FOOTER:
                self._file.seek(length, 1)
                if self._file.read(8) != _MAGIC:
                    raise RawError("its footer is not followed by its end")
                return
            if data and opcode in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK):
                yield from self._content(opcode, length)
            else:
                self._file.seek(length, 1)
            data = data and opcode != _DATA_END

    def _head(self) -> tuple[int, int]:
        head = self._file.read(9)
        opcode, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, self._size)
        if self._file.tell() + length > self._size:
            raise RawError("it ends within a record, without a footer")
        return opcode, length

    def _content(self, opcode: int, length: int) -> Iterator[Message]:
        if length > _LARGEST:
            raise RawError(f"a record of {length} bytes is too large")
        content = self._file.read(length)
        if opcode != _CHUNK:
            yield from self._inside(opcode, content)
            return
        held, at = _uncompressed(_Bytes(content)), 0
        while at < len(held):
            if at + 9 > len(held):
                raise RawError("a chunk ends within a record")
            inner, size = struct.unpack_from("<BQ", held, at)
            if at + 9 + size > len(held):
                raise RawError("a chunk ends within a record")
            yield from self._inside(inner, held[at + 9 : at + 9 + size])
            at += 9 + size

    def _inside(self, opcode: int, content: bytes) -> Iterator[Message]:
        read = _Bytes(content)
        if opcode == _SCHEMA:
            number, schema = read.number(2), Schema(read.text(), read.text(), read.take(read.number(4)))
            if self._schemas.setdefault(number, schema) != schema:
                raise RawError(f"schema {number} is declared twice")
        elif opcode == _CHANNEL:
            number, schema_number = read.number(2), read.number(2)
            channel = (schema_number, read.text(), read.text(), read.take(read.number(4)))
            if self._channels.setdefault(number, channel) != channel:
                raise RawError(f"channel {number} is declared twice")
        elif opcode == _MESSAGE:
            number, _, log_time, _ = read.number(2), read.number(4), read.number(8), read.number(8)
            if number not in self._channels:
                raise RawError(f"a message is of the unknown channel {number}")
            schema_number, topic, encoding, _ = self._channels[number]
            yield Message(topic, encoding, self._schemas.get(schema_number), log_time, content[read.at :])


def _uncompressed(chunk: _Bytes) -> bytes:
    chunk.take(16)  # times of its first and last message
    size, checksum, compression = chunk.number(8), chunk.number(4), chunk.text()
    data = chunk.take(chunk.number(8))
    if size > _LARGEST:
        raise RawError(f"a chunk of {size} bytes is too large")
    held = _decompressed(compression, data, size)
    if len(held) != size or (checksum and zlib.crc32(held) != checksum):
        raise RawError("the content of a chunk has not the size or the checksum that it names")
    return held


def _decompressed(compression: str, data: bytes, size: int) -> bytes:
    """No more than one byte above `size`."""
    try:
        from lz4.frame import LZ4FrameDecompressor
        from zstandard import ZstdDecompressor, ZstdError
    except ImportError as error:
        raise BuildError(
            f"to read MCAP files lz4 and zstandard are needed ({error}): pip install 'vlajepa[mcap]'"
        ) from error
    if compression == "":
        return data
    try:
        if compression == "zstd":
            return bytes(ZstdDecompressor().stream_reader(data).read(size + 1))
        if compression == "lz4":
            return bytes(LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    except (ZstdError, RuntimeError, MemoryError) as error:
        raise RawError(f"a chunk cannot be decompressed: {error}") from error
    raise RawError(f"chunks are compressed by {compression!r:.40}")
