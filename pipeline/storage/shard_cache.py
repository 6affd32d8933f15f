"""A local cache of remote files, bounded in bytes and shared by all processes of a machine.

    folder/lock                       held while files are counted, deleted, or get their name
    folder/downloads/KEY.lock      held by the one process that downloads this file
    folder/downloads/KEY.part      the file being downloaded, from the start as large as it will be
    folder/KE/KEY                  a whole file. Whoever uses it holds a shared lock on it
    folder/digests/KEY             of raw data: SHA-256 of the file (see `raw/verified_copy.py`)

KEY names the content: the SHA-256 of a build's file, the version of a raw one.

All locks are flocks. They belong to an open file, so two threads exclude each other as two processes do, and they end
with their process. A file that cannot be locked is in use; a download whose lock is free was abandoned. Locks are taken
in the order download, cache; no process waits for a file's lock while it holds another. A file may be deleted while its
lock is awaited, so after locking its name is checked.

A file gets its name when its size and SHA-256 were compared and its bytes are on disk. A build's file is not hashed
again when it is opened: readers compare each sample with the manifest. A copy of raw data is, once a process.

The folder is on a local disk, not on NFS, and belongs to one user. Files lose the permission to be written when they
are first opened: one that still has it was fetched ahead and not used yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import stat
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from pipeline.errors import BuildError, SettingsError
from pipeline.storage.download import make_folder, writing
from pipeline.storage.retry import Retry

_POLL_SECONDS = 0.02
_log = logging.getLogger(__name__)


class Fetched(Protocol):
    """What a cache can hold: a file of a build, or an object of raw data.

    url    for people
    bytes  size
    key    64 lower-case hex digits that no other content has
    """

    @property
    def url(self) -> str: ...

    @property
    def bytes(self) -> int: ...

    @property
    def key(self) -> str: ...

    def download(self, sink: BinaryIO, retry: Retry | None = None) -> None:
        """Write it to `sink` from position 0. Raises BuildError."""
        ...


@dataclass(frozen=True)
class Advice:
    """Ends of messages: what to do about a limit that is too low, a file that is too large, or too many in use."""

    limit: str = "raise trainer.cache_gb"
    large: str = "raise trainer.cache_gb, or build smaller shards"
    in_use: str = "raise trainer.cache_gb, or lower trainer.streams or trainer.block_shards"


class CachedFile:
    """A file of the cache. While this object lives and is not closed, no process deletes the file.

    A process that is forked meanwhile holds the file too, until it closes it or ends.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def close(self) -> None:
        """Let go of the file. Closing twice is allowed."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FileCache:
    """Opens remote files; each is downloaded once a machine and kept until its room is needed.

    Threads may share one. Processes make one each, after they were forked.

    Args:
        limit: bytes of all files together, those being downloaded included.
        patience: seconds to wait for room that other users of the cache hold, before giving up.
        threads: how many files `prefetch` downloads at a time.

    Raises:
        SettingsError: the limit is not positive, or the folder is not this user's alone.
        BuildError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        limit: int,
        *,
        retry: Retry | None = None,
        patience: float = 10.0,
        threads: int = 4,
        advice: Advice | None = None,
    ) -> None:
        self.advice = advice or Advice()
        if limit < 1:
            raise SettingsError(f"a cache of {limit} bytes holds no file; {self.advice.limit}")
        self.folder, self.limit = folder, limit
        self._downloads, self.digests = folder / "downloads", folder / "digests"
        for made in (folder, self._downloads, self.digests):
            make_folder(made)
        self._retry, self._patience = retry, patience
        self._ahead = _Background(self, threads)

    def open(self, source: Fetched) -> CachedFile:
        """The file, downloaded if need be. Keep what is returned for as long as the file is used.

        Raises:
            CorruptError: it does not exist, or is not what build.json lists.
            BuildError: it cannot be read, or there is no room for it.
        """
        while True:
            found = self._open_whole(source) or self._fetch(source)
            if found is not None:
                os.chmod(found.path, stat.S_IMODE(found.path.stat().st_mode) & ~0o222)
                os.utime(found.path, ns=(time.time_ns(),) * 2)  # the system's own clock is too coarse to order by
                return found

    def discard(self, damaged: CachedFile) -> None:
        """Delete a file that is not what it was, and let go of it: whoever opens it next fetches it again."""
        with self._locked():
            if _has_name(damaged.descriptor, damaged.path):
                damaged.path.unlink()
        damaged.close()

    def prefetch(self, sources: Iterable[Fetched]) -> None:
        """Download files in the background; returns at once and never raises for a file.

        For a prefetch only such files are deleted as were used before and are in use no longer: not files that were
        fetched ahead themselves. Without room for it that way, or if it fails, nothing happens: opening the file
        downloads it, or says what is wrong.
        """
        self._ahead.add(sources)

    def fetch_ahead(self, source: Fetched) -> None:
        """What `prefetch` does for each file, in this thread."""
        try:
            if not self._path(source.key).exists():
                found = self._fetch(source, ahead=True)
                if found is not None:
                    found.close()
        except Exception as error:
            _log.info("not fetched ahead: %s", error)

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _open_whole(self, source: Fetched) -> CachedFile | None:
        """The file, if it is there."""
        path = self._path(source.key)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        found = CachedFile(path, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not _has_name(descriptor, path):  # deleted before it was locked
            found.close()
            return None
        if os.fstat(descriptor).st_size != source.bytes:  # truncated by another program, or by a disk that failed
            path.unlink(missing_ok=True)
            found.close()
            return None
        return found

    def _fetch(self, source: Fetched, ahead: bool = False) -> CachedFile | None:
        """Download the file. None: another one has done so; or, ahead, is doing so, or there is no room."""
        with contextlib.ExitStack() as stack:
            # `_downloading` takes every download's lock for a moment. To a fetch ahead, which does not wait, this must
            # not look like a download in progress.
            with self._locked() if ahead else contextlib.nullcontext():
                lock = self._downloads / f"{source.key}.lock"
                held = stack.enter_context(_held(lock, wait=not ahead, delete=True))
            if not held or self._path(source.key).exists():
                return None
            part = self._downloads / f"{source.key}.part"
            try:
                return self._download(source, part) if self._reserve(source, part, ahead) else None
            finally:
                part.unlink(missing_ok=True)

    def _download(self, source: Fetched, part: Path) -> CachedFile:
        with open(part, "r+b") as sink:
            source.download(sink, self._retry)
        path, descriptor = self._path(source.key), os.open(part, os.O_RDONLY)
        found = CachedFile(path, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        path.parent.mkdir(exist_ok=True)
        with self._locked():  # so that `_make_room` finds it under one name
            os.rename(part, path)
        return found

    def _reserve(self, source: Fetched, part: Path, ahead: bool) -> bool:
        """Make room and take it, by a file of the size to come."""
        if source.bytes > self.limit:
            raise BuildError(
                f"{source.url} has {source.bytes:,} bytes, {self.folder} may hold {self.limit:,}; {self.advice.large}"
            )
        deadline = time.monotonic() + self._patience
        while True:
            with self._locked():
                part.unlink(missing_ok=True)  # of a process that died here
                usage = self._make_room(source.bytes, ahead)
                if usage.total + source.bytes <= self.limit:
                    with open(part, "xb") as file, writing(file):
                        file.truncate(source.bytes)
                    return True
            if ahead:
                return False
            if usage.whole + source.bytes <= self.limit:  # downloads end by themselves, then there is more to delete
                deadline = time.monotonic() + self._patience
            elif time.monotonic() > deadline:
                raise BuildError(_no_room(self, source, usage))
            time.sleep(_POLL_SECONDS)

    def _make_room(self, needed: int, ahead: bool) -> _Usage:
        """Delete the least recently used files that are not open until `needed` bytes fit or none is left.

        Returns:
            What the cache holds then.
        """
        usage = _Usage(0, 0, self._downloading())
        files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns)
        usage.whole, usage.files = sum(found.st_size for _, found in files), len(files)
        for path, found in files:
            if usage.total + needed <= self.limit:
                break
            unused = found.st_mode & stat.S_IWUSR
            if not (ahead and unused) and _delete_unless_open(path):
                (self.digests / path.name).unlink(missing_ok=True)
                usage.whole -= found.st_size
                usage.files -= 1
        return usage

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(FileNotFoundError):  # of a wrong size, and deleted for that
                yield path, path.stat()

    def _downloading(self) -> int:
        """Bytes of downloads in progress, after what is left of dead ones is deleted."""
        total = 0
        for name in {path.stem for path in self._downloads.iterdir()}:
            part = self._downloads / f"{name}.part"
            with _held(self._downloads / f"{name}.lock", wait=False, delete=True) as dead:
                if dead:
                    part.unlink(missing_ok=True)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        total += part.stat().st_size
        return total

    def _locked(self) -> AbstractContextManager[bool]:
        return _held(self.folder / "lock", wait=True, delete=False)


class _Background:
    """Threads that download ahead. Daemons: a process ends without waiting for them, as it may at any moment."""

    def __init__(self, cache: FileCache, threads: int) -> None:
        self._queue: queue.SimpleQueue[Fetched | None] = queue.SimpleQueue()
        self._cache, self._threads = weakref.ref(cache), threads
        self._lock = threading.Lock()
        self._started = False
        weakref.finalize(cache, _stop, self._queue, threads)

    def add(self, sources: Iterable[Fetched]) -> None:
        for source in sources:
            self._queue.put(source)
        with self._lock:
            if not self._started:
                self._started = True
                for _ in range(self._threads):
                    threading.Thread(target=_work, args=(self._queue, self._cache), daemon=True).start()


def _work(sources: queue.SimpleQueue[Fetched | None], cache: weakref.ref[FileCache]) -> None:
    while (source := sources.get()) is not None:
        owner = cache()
        if owner is None:
            return
        owner.fetch_ahead(source)
        del owner  # a thread that waits keeps no cache alive


def _stop(sources: queue.SimpleQueue[Fetched | None], threads: int) -> None:
    for _ in range(threads):
        sources.put(None)


@dataclass
class _Usage:
    """What the cache holds: bytes and number of whole files, bytes of downloads in progress."""

    whole: int
    files: int
    downloading: int

    @property
    def total(self) -> int:
        return self.whole + self.downloading


def _no_room(cache: FileCache, source: Fetched, usage: _Usage) -> str:
    return (
        f"{cache.folder} has no room for the {source.bytes:,} bytes of {source.url}: it may hold {cache.limit:,}, "
        f"{usage.files} files in use take {usage.whole:,} and downloads {usage.downloading:,}; "
        f"{cache.advice.in_use}"
    )


@contextlib.contextmanager
def _held(path: Path, wait: bool, delete: bool) -> Iterator[bool]:
    """Hold a lock file's lock. Yields False if it is not held: another one has it, or it was deleted meanwhile.

    Args:
        delete: remove the file while it is still locked, so that a process that waits for it looks again.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        held = _try_lock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)) and _has_name(descriptor, path)
        try:
            yield held
        finally:
            if held and delete:
                path.unlink(missing_ok=True)
            if held:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has the file open too
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    return True


def _has_name(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _delete_unless_open(path: Path) -> bool:
    """Delete a file; False if it is open."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)
