"""Whole copies of objects on this machine's disk, for libraries that read nothing but paths, and for videos.

A video is read whole to count its frames, and films that many episodes share would be fetched once for each of them.

VLAJEPA_RAW_CACHE     the folder, on a local disk; by default ~/.cache/vlajepa/raw
VLAJEPA_RAW_CACHE_GB  how much it may hold, 32 by default

They are variables and no settings, because every machine has its own disks.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.storage.raw.bucket_object import BucketObject
from pipeline.storage.shard_cache import Advice, CachedFile, FileCache

FOLDER, LIMIT = "VLAJEPA_RAW_CACHE", "VLAJEPA_RAW_CACHE_GB"

_DEFAULT_GB = 32.0
_PATIENCE_S = 300.0
"""Seconds to wait for room: episodes that other processes have open are closed in the meantime."""

_ADVICE = Advice(
    limit=f"raise {LIMIT}",
    large=f"raise {LIMIT}",
    in_use=f"raise {LIMIT}, or lower the number of workers",
)


def fetch(source: BucketObject) -> CachedFile:
    """A copy of an object. Keep what is returned for as long as the path is used.

    Raises:
        FileNotFoundError: the object is gone.
        BuildError: it cannot be read, was replaced, or there is no room for it.
        SettingsError: VLAJEPA_RAW_CACHE_GB is no positive number.
    """
    return _cache(os.getpid(), *_configured()).open(source)


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
def _cache(process: int, folder: Path, limit: int) -> FileCache:
    """One a process: a cache is not shared over a fork."""
    return FileCache(folder, limit, patience=_PATIENCE_S, advice=_ADVICE)
