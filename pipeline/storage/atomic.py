"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TEMPORARY_PREFIX = ".tmp-"

_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(.+-)?[0-9a-f]{32}", re.DOTALL)
"""Names that are given here and to checkpoints: a random part ends each."""


@dataclass(frozen=True)
class FileRecord:
    """A finished file: path relative to the build, size in bytes, SHA-256 in hex."""

    file: str
    bytes: int
    sha256: str


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it into place, on failure remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}"
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_stream(path: Path) -> Iterator[IO[bytes]]:
    """`atomic_file`, open for writing."""
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        yield file


def write_atomic(path: Path, data: bytes) -> FileRecord:
    """Write a small file atomically. The record's `file` is the bare name."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return FileRecord(path.name, len(data), hashlib.sha256(data).hexdigest())


def remove_temporary_files(folder: Path, inside: Iterable[str] = ()) -> None:
    """Delete what writers killed in mid-write left behind: files, and folders of locks.

    Args:
        folder: where they are looked for, and in `inside` of its own folders: what else lies below it is not ours.
    """
    places = (folder, *(folder / name for name in inside))
    found = (path for place in places if not place.is_symlink() for path in place.glob(f"{TEMPORARY_PREFIX}*"))
    for path in [path for path in found if _TEMPORARY.fullmatch(path.name)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)  # its writer may live and be removing it too
        else:
            path.unlink(missing_ok=True)


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file in hex, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
