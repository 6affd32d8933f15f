"""The inputs shard: a WebDataset tar of the student's inputs."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tarfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.format.file_names import member_names
from pipeline.format.input_sample import InputSample
from pipeline.storage.atomic import FileRecord


@dataclass(frozen=True)
class InputPlacement:
    """The members of a sample in the tar: offset of the payload and size, in bytes, and their joint SHA-256."""

    image_offset: tuple[int, ...]
    image_size: tuple[int, ...]
    json_offset: int
    json_size: int
    inputs_sha256: str


class InputsWriter:
    """Writes an inputs shard. A context manager: without an error, the file gets its name at the end of the block.

    Args:
        place: gives a temporary path and renames the file at the end: `atomic_file`, or `Store.writing`.
        views: camera names in order.
    """

    def __init__(self, place: AbstractContextManager[Path], views: Sequence[str]) -> None:
        self._stack = contextlib.ExitStack()
        self._place = place
        self._views = tuple(views)
        self._digest = hashlib.sha256()
        self._offset = 0

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(self._place)
        self._file = self._stack.enter_context(open(temporary, "wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                end = 2 * tarfile.BLOCKSIZE
                self._write(bytes(end + -(self._offset + end) % tarfile.RECORDSIZE))
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(kind, error, trace)

    def add(self, sample: InputSample) -> InputPlacement:
        """Append the members of one sample."""
        payloads = (*sample.images, sample.json)
        names = member_names(sample.key, self._views)
        offsets = [self._add_member(name, data) for name, data in zip(names, payloads, strict=True)]
        sizes = [len(data) for data in payloads]
        digest = hashlib.sha256(b"".join(payloads)).hexdigest()
        return InputPlacement(tuple(offsets[:-1]), tuple(sizes[:-1]), offsets[-1], sizes[-1], digest)

    def record(self, file: str) -> FileRecord:
        """Size and hash of the finished file."""
        return FileRecord(file, self._offset, self._digest.hexdigest())

    def _add_member(self, name: str, data: bytes) -> int:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = 0o444
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self._offset
        self._write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._offset += len(data)
