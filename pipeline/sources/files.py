"""Sizes and hashes of raw files. A hash detects a file that changed after the plan and kept its size."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex
from pipeline.sources.known_hashes import HERE, Identity
from pipeline.storage.atomic import hash_file
from pipeline.storage.raw.bucket_path import RawStat
from pipeline.storage.raw.places import raw_path

THREADS = 8
"""Files read at the same time. Hashing releases the interpreter lock, and remote storage is faster with several."""


def hash_files(
    root: str, index: SourceIndex, splits: Collection[str], progress: Callable[[int], None] | None = None
) -> SourceIndex:
    """The index with the SHA-256 of every file of the episodes of some splits. A shared file is read once.

    Args:
        root: the source's root.
        progress: called with the bytes of each hashed file.

    Returns:
        An index in which episodes with an unreadable file are in `left_out` ("missing-file").
    """
    wanted = {path: size for ref in index.refs if ref.split in splits for path, size in ref.files}
    with ThreadPoolExecutor(THREADS) as pool:
        hashed: dict[str, tuple[str, str]] = {}
        for path, found in zip(wanted, pool.map(lambda p: _hash(root, p), wanted), strict=True):
            hashed[path] = found
            if progress is not None:
                progress(wanted[path])
    refs: list[EpisodeRef] = []
    left_out = list(index.left_out)
    for ref in index.refs:
        found_files = [hashed.get(path, ("", "")) for path, _ in ref.files]
        problems = [problem for _, problem in found_files if problem]
        if problems:
            left_out.append(LedgerEntry(ref.id, ref.split, "index", "missing-file", problems[0]))
        elif ref.split in splits:
            refs.append(ref.hashed(tuple(digest for digest, _ in found_files)))
        else:
            refs.append(ref)
    return replace(index, refs=tuple(refs), left_out=tuple(left_out))


def _hash(root: str, path: str) -> tuple[str, str]:
    """SHA-256 in hex, and the problem or ""."""
    full = os.path.join(root, path)
    try:
        return _sha256(full, raw_path(full).stat()), ""
    except OSError as error:
        return "", f"{full}: {error.strerror}"


def check_files(root: str, ref: EpisodeRef) -> None:
    """Raise EpisodeError if a file of the episode is missing or differs from the plan in size, or in hash if recorded.

    A shared file is hashed once a run, as long as its size and times stay the same: see `known_hashes`.
    """
    for i, (path, size) in enumerate(ref.files):
        full = os.path.join(root, path)
        try:
            found = raw_path(full).stat()
            digest = _sha256(full, found) if ref.sha256 else ""
        except OSError as error:
            raise EpisodeError("missing-file", f"{full}: {error.strerror}") from error
        if found.st_size != size:
            raise EpisodeError("changed-file", f"{full} has {found.st_size} bytes, the plan recorded {size}")
        if ref.sha256 and digest != ref.sha256[i]:
            raise EpisodeError("changed-file", f"{full} has SHA-256 {digest}, the plan recorded {ref.sha256[i]}")


def file_identities(root: str, ref: EpisodeRef) -> tuple[Identity, ...]:
    """Of each file of the episode; empty if it is missing."""
    found: list[Identity] = []
    for path, _ in ref.files:
        try:
            found.append(_identity(raw_path(os.path.join(root, path)).stat()))
        except OSError:
            found.append(())
    return tuple(found)


def file_identity(path: str) -> Identity:
    """Of one file. Raises OSError."""
    return _identity(raw_path(path).stat())


def hash_raw_file(path: str) -> str:
    """SHA-256 in hex. Raises OSError."""
    place = raw_path(path)
    return hash_file(place) if isinstance(place, Path) else place.sha256()


def _sha256(path: str, found: os.stat_result | RawStat) -> str:
    """Made once for each version of a file."""
    return HERE.sha256((path, _identity(found)), partial(hash_raw_file, path))


def _identity(found: os.stat_result | RawStat) -> Identity:
    """Its time of change tells a file too that was given back its old times."""
    if isinstance(found, RawStat):
        return (found.tag, found.st_size)
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def find_files(root: str, pattern: str) -> list[str]:
    """Full paths below a root that match a pattern of `glob`, sorted."""
    place = raw_path(root)
    if isinstance(place, Path):
        return sorted(glob.glob(os.path.join(glob.escape(root), pattern), recursive=True))
    return sorted(map(str, place.glob(pattern)))


def folder_sizes(folder: str) -> dict[str, int]:
    """Size in bytes of every file of a folder, by name; empty if the folder does not exist.

    The folder is listed once. A plan over 220,000 clips must not look up each path.
    """
    place = raw_path(folder)
    if not isinstance(place, Path):
        return {name: found.bytes for name, found in place.files().items()}
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return {}


class FileSizes:
    """Sizes of the files below a root, from one listing of each folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[str, dict[str, int]] = {}

    def size(self, path: str) -> int | None:
        """Size in bytes of ROOT/path; None if the file does not exist."""
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = folder_sizes(os.path.join(self.root, folder))
        return self._folders[folder].get(name)
