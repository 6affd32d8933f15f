"""Files of a build at a URL: its small files are mirrored into a local folder, its shards fetched one by one.

`load_build` and the audit's gate work on a mirror as on any build. Shards go through `pipeline.storage.shard_cache`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import BuildError, CorruptError
from pipeline.format.file_names import CROISSANT, SIGNED_VERDICT, VERDICT
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import reason
from pipeline.storage.atomic import TEMPORARY_PREFIX, hash_file, write_atomic
from pipeline.storage.full_disk import naming_folder
from pipeline.storage.object_store import ObjectStore, open_object_store, size_and_sha256
from pipeline.storage.own_folder import make_own_folder
from pipeline.storage.retry import DeniedError, Retry

_MIRRORED = ("samples.parquet", "stats.json", "ledger.jsonl", "tasks.jsonl")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote build: its URL, and what it must hold.

    bytes   size
    sha256  64 lower-case hex digits

    Raises:
        BuildError: the size or the hash is not one.
    """

    url: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        # The hash names the file in the cache: one with a slash in it would name a file outside.
        if not isinstance(self.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise BuildError(f"{self.url}: its build.json lists the SHA-256 {self.sha256!r}; copy the build again")
        if not isinstance(self.bytes, int) or self.bytes < 0:
            raise BuildError(f"{self.url}: its build.json lists {self.bytes!r} bytes; copy the build again")

    @property
    def key(self) -> str:
        """Its name in a cache."""
        return self.sha256

    def download(self, sink: BinaryIO, retry: Retry | None = None) -> None:
        """See `download`."""
        download(self, sink, retry)


def shard_file(url: str, entry: Mapping[str, Any]) -> RemoteFile:
    """A file of the build at a URL, from its entry in build.json."""
    return RemoteFile(f"{url.rstrip('/')}/{entry['file']}", entry["bytes"], entry["sha256"])


def mirror_build(url: str, folder: Path, retry: Retry | None = None) -> Path:
    """Copy the small files of a remote build into `folder`, or find the copy made before.

    build.json, samples.parquet, stats.json, ledger.jsonl and tasks.jsonl, and where there the audit's verdict, its
    signature and croissant.json. The copy appears whole or not at all, under a name made of the URL and the content of
    build.json; one that is damaged is made again. The verdict is looked up every time: a build that was audited again,
    or whose verdict was withdrawn, is seen so.

    Returns:
        The folder of the copy.

    Raises:
        CorruptError: a file is missing, or not the one that build.json lists.
        BuildError: there is no build.json; or the store cannot be reached or read.
    """
    source = open_object_store(url, retry)
    manifest = _read_if_there(source, "build.json")
    if manifest is None:
        raise BuildError(
            f"{source.url} holds no build.json: no build, or an unfinished one; finish vlajepa preprocess, and upload "
            "build.json last"
        )
    audit = {
        VERDICT: _read_if_there(source, VERDICT),
        SIGNED_VERDICT: _read_if_there(source, SIGNED_VERDICT, optional=True),
    }
    files = _listed(source.url, manifest)
    path = folder / hashlib.sha256(source.url.encode() + b"\n" + manifest).hexdigest()
    make_folder(folder)
    with open(folder / ".lock", "a") as lock:  # one process at a time; a process that dies lets go
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(path, manifest, files):
            _copy_build(source, path, manifest, files)
        _update_audit(path, audit)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder for cached files, of this user alone: a remote build's verdict lies there.

    Raises:
        SettingsError: it is another user's, or others may write to it.
        BuildError: it cannot be made.
    """
    try:
        make_own_folder(folder)
    except OSError as error:
        raise BuildError(f"{folder} cannot be made: {error}; choose another trainer.cache_folder") from error


def download(source: RemoteFile, sink: BinaryIO, retry: Retry | None = None) -> None:
    """Write a remote file to `sink` from position 0, compare its size and hash, and sync it.

    Passing errors of the store or the network are retried from the start. A file of other content than listed is read
    once more, since it may have been damaged in transit.

    Raises:
        CorruptError: the file does not exist, or is not what build.json lists.
        BuildError: it cannot be read, or `sink` cannot be written.
    """
    store = open_object_store(source.url, retry)
    for _ in range(2):
        try:
            size, sha256 = store.attempt("", lambda: size_and_sha256(_limited(store.chunks(""), source.bytes, sink)))
        except FileNotFoundError as error:
            raise CorruptError(f"{error}; upload the build again, build.json last") from error
        if (size, sha256) == (source.bytes, source.sha256):
            with writing(sink):
                os.fsync(sink.fileno())
            return
    raise CorruptError(
        f"{source.url} has SHA-256 {sha256} of {size} bytes read, build.json lists {source.sha256} of {source.bytes}; "
        "the file was changed or is damaged there: upload it again from the audited build"
    )


def writing(sink: BinaryIO) -> AbstractContextManager[None]:
    """Around writing to a local file: a failure is not the remote store's, and is final. Raises BuildError."""
    fix = "free space there, choose another folder (trainer.cache_folder), or lower trainer.cache_gb"
    return naming_folder(sink.name, fix, errors=None)


def _limited(chunks: Iterator[bytes], limit: int, sink: BinaryIO) -> Iterator[bytes]:
    """The first `limit` bytes, as they are written to `sink`: the cache has made room for no more."""
    sink.seek(0)
    for chunk in chunks:
        chunk = chunk[:limit]
        limit -= len(chunk)
        with writing(sink):
            sink.write(chunk)
        yield chunk
        if not limit:
            break
    with writing(sink):
        sink.flush()


def _read_if_there(source: ObjectStore, name: str, optional: bool = False) -> bytes | None:
    """Content of a file, None if it does not exist.

    Args:
        optional: nothing depends on it: None too if S3 does not say whether it exists.
    """
    try:
        return source.read(name)
    except FileNotFoundError:
        return None
    except DeniedError:
        if optional:
            return None
        raise


def _listed(url: str, manifest: bytes) -> list[RemoteFile]:
    try:
        files = parse(manifest)["files"]
        return [shard_file(url, {"file": name, **files[name]}) for name in _MIRRORED]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{url}/build.json is not one of this version: {reason(error)}; build it again") from error


def _is_whole(path: Path, manifest: bytes, files: list[RemoteFile]) -> bool:
    """Whether the copy is complete and undamaged: cleaners delete single files, and disks change bytes."""
    try:
        hashes = [hash_file(path / name) for name in _MIRRORED]
        return (path / "build.json").read_bytes() == manifest and hashes == [file.sha256 for file in files]
    except OSError:
        return False


def _copy_build(source: ObjectStore, path: Path, manifest: bytes, files: list[RemoteFile]) -> None:
    for stale in path.parent.glob(f"{TEMPORARY_PREFIX}*"):  # of a process that was killed: this one has the lock
        shutil.rmtree(stale)
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    temporary.mkdir()
    try:
        for name, file in zip(_MIRRORED, files, strict=True):
            with open(temporary / name, "wb") as sink:
                download(file, sink, source.retry)
        croissant = _read_if_there(source, CROISSANT, optional=True)
        if croissant is not None:
            write_atomic(temporary / CROISSANT, croissant)
        write_atomic(temporary / "build.json", manifest)  # syncs the folder
        if path.exists():
            shutil.rmtree(path)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _update_audit(path: Path, audit: Mapping[str, bytes | None]) -> None:
    """Make the audit's files those of the remote build. A signature goes before its verdict changes."""
    if all(_content(path / name) == content for name, content in audit.items()):
        return
    (path / SIGNED_VERDICT).unlink(missing_ok=True)
    for name in (VERDICT, SIGNED_VERDICT):
        content = audit[name]
        if content is not None:
            write_atomic(path / name, content)
        else:
            (path / name).unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
