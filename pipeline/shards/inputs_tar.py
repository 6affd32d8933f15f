"""The inputs shard: a WebDataset tar of the student's inputs."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Self

from pipeline.format.file_names import member_names
from pipeline.format.input_sample import InputSample
from pipeline.shards.arrow_writer import HashingWriter


@dataclass(frozen=True)
class InputPlacement:
    """The members of a sample in the tar: offset of the payload and size, in bytes, and their joint SHA-256."""

    image_offset: tuple[int, ...]
    image_size: tuple[int, ...]
    json_offset: int
    json_size: int
    inputs_sha256: bytes


class InputsWriter(HashingWriter):
    """Writes an inputs shard.

    Args:
        place: as for `HashingWriter`.
        views: camera names in order.
    """

    def __init__(self, place: AbstractContextManager[IO[bytes]], views: Sequence[str]) -> None:
        super().__init__(place)
        self._views = tuple(views)

    def __enter__(self) -> Self:
        super().__enter__()
        self._stack.push(self._finish)
        return self

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            end = 2 * tarfile.BLOCKSIZE
            self._sink.write(bytes(end + -(self._sink.size + end) % tarfile.RECORDSIZE))

    def add(self, sample: InputSample) -> InputPlacement:
        """Append the members of one sample."""
        payloads = (*sample.images, sample.json)
        names = member_names(sample.key, self._views)
        offsets = [self._add_member(name, data) for name, data in zip(names, payloads, strict=True)]
        sizes = [len(data) for data in payloads]
        digest = hashlib.sha256(b"".join(payloads)).digest()
        return InputPlacement(tuple(offsets[:-1]), tuple(sizes[:-1]), offsets[-1], sizes[-1], digest)

    def _add_member(self, name: str, data: bytes) -> int:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = 0o444
        self._sink.write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self._sink.size
        self._sink.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset
