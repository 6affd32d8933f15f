"""Open files of a build's shards: in its folder, or remote behind a local cache."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError, CorruptError
from pipeline.format.build import Build
from pipeline.format.file_names import SHARD_FILES
from pipeline.shards.latents_arrow import TubeletTargetsReader
from pipeline.shards.targets_arrow import TargetsReader
from pipeline.storage.download import shard_file
from pipeline.storage.shard_cache import CachedFile, FileCache


class ShardFiles:
    """Local paths of the files of a build's shards, which are in its folder or remote behind a cache.

    Args:
        cache: needed for a remote build.
    """

    def __init__(self, build: Build, cache: FileCache | None) -> None:
        if build.remote is not None and cache is None:
            raise BuildError(f"{build.remote} is remote: reading it needs a local cache (trainer.cache_gb)")
        self.build = build
        self._cache = cache

    @property
    def remote(self) -> bool:
        return self.build.remote is not None

    def open(self, entry: Mapping[str, Any]) -> tuple[Path, CachedFile | None]:
        """Local path of a file of build.json, and the handle that keeps it in the cache while it is used.

        Raises:
            CorruptError: the file is missing, or has another size or (if remote) other content than listed.
        """
        if self.build.remote is None:
            _check_size(self.build, entry)
            return self.build.path / entry["file"], None
        assert self._cache is not None
        found = self._cache.open(shard_file(self.build.remote, entry))
        return found.path, found

    def prefetch(self, shard: Mapping[str, Any]) -> None:
        """Request the files of a shard."""
        if self.build.remote is not None and self._cache is not None:
            self._cache.prefetch([shard_file(self.build.remote, shard[kind]) for kind in SHARD_FILES if kind in shard])


class OpenShard:
    """The open files of a shard."""

    def __init__(self, files: ShardFiles, shard: Mapping[str, Any]) -> None:
        self.sha256 = shard["inputs"]["sha256"]
        self.path, self._held_inputs = files.open(shard["inputs"])
        targets, self._held_targets = files.open(shard["targets"])
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        build = files.build
        self.targets: TargetsReader | TubeletTargetsReader
        if build.shares_latents:
            latents, self._held_latents = files.open(shard["latents"])
            self.targets = TubeletTargetsReader(targets, latents, build.sizes, build.latents)
        else:
            self.targets = TargetsReader(targets, build.sizes, build.latents)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise OSError(f"the file ends inside the {size} bytes at {offset}")
        return data


class OpenShards:
    """Open shards; the least recently used one is closed first. A corrupt shard is not opened again."""

    def __init__(self, files: ShardFiles, limit: int) -> None:
        self.files = files
        self._limit = limit
        self._open: OrderedDict[str, OpenShard] = OrderedDict()
        self._broken: dict[str, str] = {}
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def shard(self, entry: Mapping[str, Any]) -> OpenShard:
        name = entry["inputs"]["file"]
        with self._lock:
            if name in self._open:
                self._open.move_to_end(name)
                return self._open[name]
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:  # one thread opens a shard, maybe by a download, while others read theirs
            with self._lock:
                if name in self._open:
                    return self._open[name]
            return self._add(name, entry)

    def prefetch(self, entry: Mapping[str, Any]) -> None:
        name = entry["inputs"]["file"]
        with self._lock:
            if name in self._open or name in self._asked:
                return
            self._asked.add(name)
        self.files.prefetch(entry)

    def _add(self, name: str, entry: Mapping[str, Any]) -> OpenShard:
        if name in self._broken:
            raise CorruptError(self._broken[name])
        with self._lock:  # before the new one: an open shard cannot be evicted from a cache to make room
            while len(self._open) >= self._limit:
                self._open.popitem(last=False)
        try:
            opened = OpenShard(self.files, entry)
        except CorruptError as error:
            self._broken[name] = str(error)
            raise
        with self._lock:
            self._asked.discard(name)
            self._open[name] = opened
        return opened


def _check_size(build: Build, entry: Mapping[str, Any]) -> None:
    path = build.path / entry["file"]
    try:
        found = path.stat().st_size
    except OSError as error:
        raise CorruptError(f"{path} of the build is missing ({error.strerror}); copy the build again") from error
    if found != entry["bytes"]:
        raise CorruptError(f"{path} has {found} bytes, the manifest lists {entry['bytes']}; copy the build again")
