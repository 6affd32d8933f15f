"""Where the audit finds raw data: a folder of this machine, or one elsewhere that it was handed.

The audit shares no code with what made the build, so it cannot open a bucket by itself. Whoever starts it hands in a
place with the methods below. What is read there decides nothing by itself: every value is derived here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import BinaryIO, Protocol, Self

from pipeline.audit.files import file_sha256


class FileStat(Protocol):
    """Size of a file in bytes."""

    @property
    def st_size(self) -> int: ...


class DistantPlace(Protocol):
    """A file or folder elsewhere, with the part of `pathlib.Path` that readers of raw data use.

    Raises OSError as a path does, and RunError where the store cannot be reached.
    """

    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str: ...

    @property
    def stem(self) -> str: ...

    @property
    def parent(self) -> Self: ...

    def __truediv__(self, name: str | PurePath) -> Self: ...

    def __hash__(self) -> int: ...

    def exists(self) -> bool: ...

    def is_file(self) -> bool: ...

    def is_dir(self) -> bool: ...

    def stat(self) -> FileStat: ...

    def read_bytes(self) -> bytes: ...

    def open(self, mode: str) -> BinaryIO: ...

    def glob(self, pattern: str) -> Iterator[Self]: ...

    def fetched(self) -> AbstractContextManager[Path]:
        """A copy on this machine, which is there until the block ends."""
        ...


Place = Path | DistantPlace


def handle(place: Place) -> Path | BinaryIO:
    """What a library opens: a path, or an open file that it reads parts of."""
    return place if isinstance(place, Path) else place.open("rb")


def find(root: Place, pattern: str) -> list[Place]:
    """What matches a pattern below a folder, sorted by its address.

    A hidden file, as other programs leave it beside the data (copies, halves of downloads), is no data.
    """
    depth = len(str(root).rstrip("/")) + 1
    return sorted((place for place in root.glob(pattern) if "/." not in f"/{str(place)[depth:]}"), key=str)


def on_disk(place: Place) -> AbstractContextManager[Path]:
    """A path of this machine, for what reads a file from its beginning to its end."""
    return contextlib.nullcontext(place) if isinstance(place, Path) else place.fetched()


def sha256_of(place: Place) -> str:
    """SHA-256 in hex. Raises OSError."""
    if isinstance(place, Path):
        return file_sha256(place, follow=True)
    with place.fetched() as copy:
        return file_sha256(copy)
