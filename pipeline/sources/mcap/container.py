"""An MCAP file as a stream of messages, in the order of the file and in bounded memory.

    magic, records (opcode, length, body) …, footer, magic

Messages lie in chunks, mostly compressed, or beside them. One chunk is in memory at a time. The summary at the end is
not used: it repeats what the data section says. A file without its footer was cut off and is refused, because nobody
knows what it has lost.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

from pipeline.errors import RunError
from pipeline.sources.metadata import undecodable

LARGEST = 2**28
"""Bytes of one record, and of what one chunk holds."""

MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CUT_OFF = "the recording was cut off; write it anew with `mcap recover`"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a message lie: record of the file (start and bytes of its body), and of what that holds."""

    start: int
    length: int
    begin: int
    end: int


@dataclass(frozen=True)
class StoredMessage:
    """A message as it is stored.

    channel, schema  records of the mcap library; schema is None where the channel has none
    log_time         nanoseconds, when it was recorded
    """

    channel: Any
    schema: Any
    log_time: int
    data: bytes
    place: Place


class McapFile:
    """An open file.

    Raises:
        RunError: the mcap package is not installed.
        EpisodeError: "undecodable": it is no MCAP file. `messages` and `payload` raise it for damage as well.
    """

    def __init__(self, path: str, where: str) -> None:
        require_package()
        self.where = where
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  closed by `close`
        self._bytes = os.fstat(self._file.fileno()).st_size
        self._held: tuple[int, bytes] | None = None
        if self._file.read(len(MAGIC)) != MAGIC:
            self._file.close()
            raise undecodable(where, "no MCAP file: it does not begin as one")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self) -> Iterator[StoredMessage]:
        """Every message of the data section."""
        from mcap.opcode import Opcode

        known = _Known()
        for opcode, start, length in self._records():
            if opcode == Opcode.CHUNK:
                yield from self._of_chunk(start, length, known)
            elif opcode == Opcode.MESSAGE:
                yield self._message(known, self._body(start, length), start, length, 0, length)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._learn(known, opcode, self._body(start, length))

    def payload(self, place: Place) -> bytes:
        """The bytes of a message that `messages` gave. The last chunk is kept: neighbours lie in it."""
        if self._held is None or self._held[0] != place.start:
            self._held = None
            whole = place.begin == _MESSAGE.size and place.end == place.length
            content = self._body(place.start, place.length) if whole else self._content(place.start, place.length)
            self._held = (place.start, content)
        return self._held[1][place.begin : place.end]

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """Opcode, start and bytes of the body of each record of the data section; the footer must follow."""
        from mcap.opcode import Opcode

        at, ended = len(MAGIC), False
        while at + _HEAD.size <= self._bytes:
            opcode, length = _HEAD.unpack(self._read(at, _HEAD.size))
            at += _HEAD.size
            if at + length > self._bytes:
                raise undecodable(self.where, f"a record of {length:,} bytes goes beyond its end: {_CUT_OFF}")
            if opcode == Opcode.FOOTER:
                if at + length + len(MAGIC) <= self._bytes and self._read(at + length, len(MAGIC)) == MAGIC:
                    return
                break
            if not ended:
                yield opcode, at, length
            ended |= opcode == Opcode.DATA_END
            at += length
        raise undecodable(self.where, f"it ends without a footer: {_CUT_OFF}")

    def _body(self, start: int, length: int) -> bytes:
        if length > LARGEST:
            raise undecodable(self.where, f"a record has {length:,} bytes, read are at most {LARGEST:,}")
        return self._read(start, length)

    def _read(self, start: int, length: int) -> bytes:
        """Bytes that were there when the file was opened."""
        with damage(self.where):
            self._file.seek(start)
            found = self._file.read(length)
            if len(found) < length:
                raise undecodable(self.where, "it became shorter while it was read")
        return found

    def _content(self, start: int, length: int) -> bytes:
        """What a chunk holds, decompressed."""
        from mcap.data_stream import ReadDataStream
        from mcap.records import Chunk

        with damage(self.where):
            chunk = Chunk.read(ReadDataStream(BytesIO(self._body(start, length))))
            if chunk.uncompressed_size > LARGEST:
                detail = f"a chunk holds {chunk.uncompressed_size:,} bytes, read are at most {LARGEST:,}"
                raise undecodable(self.where, f"{detail}; record with smaller chunks")
            content = _decompress(chunk.compression, chunk.data, chunk.uncompressed_size)
            if len(content) != chunk.uncompressed_size:
                raise undecodable(self.where, f"a chunk holds other than the {chunk.uncompressed_size:,} bytes it says")
            if chunk.uncompressed_crc and zlib.crc32(content) != chunk.uncompressed_crc:
                raise undecodable(self.where, "the checksum of a chunk is wrong")
        return content

    def _of_chunk(self, start: int, length: int, known: _Known) -> Iterator[StoredMessage]:
        from mcap.opcode import Opcode

        content, at = self._content(start, length), 0
        while at < len(content):
            if at + _HEAD.size > len(content):
                raise undecodable(self.where, "a chunk ends within a record")
            opcode, size = _HEAD.unpack_from(content, at)
            at += _HEAD.size
            if at + size > len(content):
                raise undecodable(self.where, "a chunk ends within a record")
            if opcode == Opcode.MESSAGE:
                yield self._message(known, content, start, length, at, at + size)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._learn(known, opcode, content[at : at + size])
            at += size

    def _message(self, known: _Known, content: bytes, start: int, length: int, begin: int, end: int) -> StoredMessage:
        if end - begin < _MESSAGE.size:
            raise undecodable(self.where, "a message is shorter than its head")
        number, _, log_time, _ = _MESSAGE.unpack_from(content, begin)
        if number not in known.channels:
            raise undecodable(self.where, f"a message is of channel {number}, which was not declared before")
        channel = known.channels[number]
        begin += _MESSAGE.size
        place = Place(start, length, begin, end)
        return StoredMessage(channel, known.schemas.get(channel.schema_id), log_time, content[begin:end], place)

    def _learn(self, known: _Known, opcode: int, body: bytes) -> None:
        """A schema or channel. One that says something else of a number that is in use is refused."""
        from mcap.data_stream import ReadDataStream
        from mcap.opcode import Opcode
        from mcap.records import Channel, Schema

        with damage(self.where):
            is_schema = opcode == Opcode.SCHEMA
            made: Any = (Schema if is_schema else Channel).read(ReadDataStream(BytesIO(body)))
            kept: dict[int, Any] = known.schemas if is_schema else known.channels
            if kept.setdefault(made.id, made) != made:
                what = f"{'schema' if is_schema else 'channel'} {made.id}"
                raise undecodable(self.where, f"{what} is declared twice and differs")


class _Known:
    """Schemas and channels that were declared so far, by number."""

    def __init__(self) -> None:
        self.schemas: dict[int, Any] = {}
        self.channels: dict[int, Any] = {}


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Whatever the libraries raise on damaged data becomes an EpisodeError("undecodable") that names the file."""
    from mcap.exceptions import McapError
    from zstandard import ZstdError

    try:
        yield
    except (McapError, ZstdError, OSError, MemoryError, RuntimeError, ArithmeticError) as error:
        raise undecodable(where, error) from error
    except (ValueError, LookupError, TypeError, AttributeError, struct.error, NotImplementedError) as error:
        raise undecodable(where, error) from error


def _decompress(compression: str, data: bytes, size: int) -> bytes:
    """At most `size` + 1 bytes, whatever the data says of itself."""
    import lz4.frame
    import zstandard

    if compression == "":
        return data
    if compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return bytes(reader.read(size + 1))
    if compression == "lz4":
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    raise ValueError(f"its chunks are compressed by {compression!r:.40}, read are zstd, lz4 and none")


def require_package() -> None:
    """Raise RunError where the packages that read MCAP are not installed."""
    try:
        import mcap_ros2.decoder  # noqa: F401
    except ImportError as error:
        raise RunError(
            f"MCAP files need the packages of the extra mcap ({error}): pip install 'vlajepa[mcap]'"
        ) from error


def describe_topics(topics: Mapping[str, str]) -> str:
    """Topics and their types, for messages; at most 40."""
    listed = [f"{topic} ({kind})" for topic, kind in sorted(topics.items())]
    return ", ".join(listed[:40]) + (f" and {len(listed) - 40} more" if len(listed) > 40 else "") or "none"
