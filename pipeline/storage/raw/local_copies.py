"""Whole copies of objects on this machine's disk, for libraries that read nothing but paths, and for videos.

A video is read whole to count its frames, and films that many episodes share would be fetched once for each of them.

VLAJEPA_RAW_CACHE     the folder, on a local disk; by default ~/.cache/vlajepa/raw
VLAJEPA_RAW_CACHE_GB  how much it may hold, 32 by default

They are variables and no settings, because every machine has its own disks.
"""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import BuildError, SettingsError
from pipeline.storage.raw.bucket_object import BucketObject
from pipeline.storage.raw.verified_copy import CopiedObject
from pipeline.storage.shard_cache import Advice, CachedFile, FileCache

_log = logging.getLogger(__name__)

FOLDER, LIMIT = "VLAJEPA_RAW_CACHE", "VLAJEPA_RAW_CACHE_GB"

_DEFAULT_GB = 32.0
_PATIENCE_S = 300.0
"""Seconds to wait for room: episodes that other processes have open are closed in the meantime."""

_TIMES = 3
"""Attempts at a copy that is whole."""

_ADVICE = Advice(
    limit=f"raise {LIMIT}",
    large=f"raise {LIMIT}",
    in_use=f"raise {LIMIT}, or lower the number of workers",
)


def fetch(source: BucketObject) -> CachedFile:
    """A copy of an object. Keep what is returned for as long as the path is used.

    A copy that was there before is hashed when this process first opens it; one that a disk or a crash has damaged is
    fetched again.

    Raises:
        FileNotFoundError: the object is gone.
        BuildError: it cannot be read, was replaced, or there is no room for it; or no copy on this disk is whole.
        SettingsError: VLAJEPA_RAW_CACHE_GB is no positive number.
    """
    copies = _copies(os.getpid(), *_configured())
    for _ in range(_TIMES):
        found = copies.cache.open(CopiedObject(source, copies.cache.digests))
        if copies.is_whole(source, found):
            return found
        _log.warning("%s, a copy of %s, is damaged: fetched again", found.path, source.url)
        copies.cache.discard(found)
    raise BuildError(
        f"copies of {source.url} in {copies.cache.folder} are damaged each time they are made; check that disk, or "
        f"name another folder in {FOLDER}"
    )


@dataclass(frozen=True)
class _Copies:
    """The cache of a process, and which of its files this process has hashed: key and inode."""

    cache: FileCache
    hashed: set[tuple[str, int]] = field(default_factory=set)

    def is_whole(self, source: BucketObject, copy: CachedFile) -> bool:
        known = (source.key, os.fstat(copy.descriptor).st_ino)
        if known not in self.hashed and CopiedObject(source, self.cache.digests).is_whole(copy.path):
            self.hashed.add(known)
        return known in self.hashed


def _configured() -> tuple[Path, int]:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(FOLDER) or Path(base) / "vlajepa" / "raw").expanduser()
    text = os.environ.get(LIMIT) or str(_DEFAULT_GB)
    try:
        limit = int(float(text) * 1e9)
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"{LIMIT} must be a number of gigabytes, got {text!r}") from error
    if limit < 1:
        raise SettingsError(f"{LIMIT} must be above 0, got {text!r}")
    return folder, limit


@functools.lru_cache(maxsize=4)
def _copies(process: int, folder: Path, limit: int) -> _Copies:
    """One a process: a cache is not shared over a fork."""
    return _Copies(FileCache(folder, limit, patience=_PATIENCE_S, advice=_ADVICE))
