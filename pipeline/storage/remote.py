"""Builds that lie elsewhere: on S3, Google Cloud Storage, HTTP(S), or wherever else fsspec opens a URL.

The small files of such a build are mirrored into a local folder, on which `load_build` and the audit's gate then work
as on any build. Its shards are fetched one by one, through `pipeline.storage.shard_cache`.

Where the store is, and who asks, comes from the environment as its own tools have it: AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_PROFILE and so on for s3://, GOOGLE_APPLICATION_CREDENTIALS for gs://. fsspec runs its
asynchronous file systems in a thread of its own and they do not survive a fork: start processes that read remote builds
with spawn, or before the first file is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from pipeline.errors import BuildError, CorruptError, RunError, SettingsError
from pipeline.format.file_names import CROISSANT, SIGNED_VERDICT, VERDICT
from pipeline.storage.atomic import TEMPORARY_PREFIX, write_atomic

_MIRRORED = ("samples.parquet", "stats.json", "ledger.jsonl")
_CHUNK = 16 * 2**20
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_SILENT_SECONDS = 60
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


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


@dataclass(frozen=True)
class Retry:
    """How often a read is tried (once or more), and the seconds before the second try; the wait doubles each time."""

    attempts: int = 6
    delay: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0:
            raise SettingsError(f"attempts must be 1 or more and delay 0 or more, got {self.attempts} and {self.delay}")


def is_remote(path: str) -> bool:
    """Whether a path is a URL. A URL that went through `pathlib.Path` has lost a slash and is none any more."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def shard_file(url: str, entry: Mapping[str, Any]) -> RemoteFile:
    """A file of the build at a URL, from its entry in build.json."""
    return RemoteFile(f"{url.rstrip('/')}/{entry['file']}", entry["bytes"], entry["sha256"])


def mirror_build(
    url: str, folder: Path, storage_options: Mapping[str, Any] | None = None, retry: Retry | None = None
) -> Path:
    """Copy the small files of a remote build into `folder`, or find the copy made before.

    build.json, samples.parquet, stats.json and ledger.jsonl, and where there the audit's verdict, its signature and
    croissant.json. The copy appears whole or not at all, under a name made of the URL and the content of build.json.
    The verdict is looked up every time: a build that was audited again, or whose verdict was withdrawn, is seen so.

    Returns:
        The folder of the copy.

    Raises:
        CorruptError: a file is missing, or not the one that build.json lists.
        BuildError: there is no build.json; or the store cannot be reached or read.
    """
    source = _Store(url.rstrip("/"), storage_options or {}, retry or Retry())
    manifest = source.read("build.json", optional=True)
    if manifest is None:
        raise BuildError(
            f"{source.url} holds no build.json: no build, or an unfinished one; finish vlajepa preprocess, and upload "
            "build.json last"
        )
    audit = {VERDICT: source.read(VERDICT, optional=True), SIGNED_VERDICT: source.read_if_allowed(SIGNED_VERDICT)}
    files = _listed(source.url, manifest)
    path = folder / hashlib.sha256(source.url.encode() + b"\n" + manifest).hexdigest()
    make_folder(folder)
    with _locked(folder / ".lock"):
        if not _is_whole(path, manifest, files):
            _copy_build(source, path, manifest, files)
        _update_audit(path, audit)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder for cached files.

    Raises:
        BuildError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{folder} cannot be made: {error}; choose another trainer.cache_folder") from error


def download(source: RemoteFile, sink: BinaryIO, storage_options: Mapping[str, Any], retry: Retry) -> None:
    """Write a remote file to `sink` from position 0, compare its size and hash, and sync it.

    What a store or the network can get wrong for a moment is tried again, from the start. A file of other content than
    listed is read once more, since a proxy or a network card may have damaged it on the way.

    Raises:
        CorruptError: the file does not exist, or is not what build.json lists.
        BuildError: it cannot be read, or `sink` cannot be written.
    """
    for _ in range(2):
        size, sha256 = attempt(source.url, retry, lambda: _copy(source, sink, storage_options))
        if (size, sha256) == (source.bytes, source.sha256):
            with writing(sink):
                os.fsync(sink.fileno())
            return
    raise CorruptError(
        f"{source.url} has SHA-256 {sha256} of {size} bytes read, build.json lists {source.sha256} of {source.bytes}; "
        "the file was changed or is damaged there: upload it again from the audited build"
    )


@dataclass(frozen=True)
class _Store:
    """A remote build's folder."""

    url: str
    options: Mapping[str, Any]
    retry: Retry

    def read(self, name: str, optional: bool = False) -> bytes | None:
        """Content of a small file; None if it is optional and does not exist."""
        url = f"{self.url}/{name}"
        try:
            return attempt(url, self.retry, lambda: _read(url, self.options))
        except CorruptError:
            if optional:
                return None
            raise

    def read_if_allowed(self, name: str) -> bytes | None:
        """Content of a small file that nothing depends on; None if it does not exist, or S3 does not say whether."""
        try:
            return self.read(name, optional=True)
        except _DeniedError:
            return None


class _DeniedError(BuildError):
    """The store says no: to this user, or, without the right to list, to a question about a missing file."""


def _read(url: str, options: Mapping[str, Any]) -> bytes:
    system, path = file_system(url, options)
    content: bytes = system.cat_file(path)
    return content


def _copy(source: RemoteFile, sink: BinaryIO, options: Mapping[str, Any]) -> tuple[int, str]:
    """Size and SHA-256 of what was written: up to the listed size, since the cache has made room for no more.

    Whatever a file holds after that is not copied, and not asked for: a range past the end is an error to some stores.
    """
    system, path = file_system(source.url, options)
    digest, size = hashlib.sha256(), 0
    sink.seek(0)
    with system.open(path, "rb", **_open_options(source)) as file:
        while size < source.bytes and (chunk := file.read(min(_CHUNK, source.bytes - size))):
            digest.update(chunk)
            size += len(chunk)
            with writing(sink):
                sink.write(chunk)
    with writing(sink):
        sink.flush()
    return size, digest.hexdigest()


def _open_options(source: RemoteFile) -> dict[str, Any]:
    """One pass from start to end: no block that is read is wanted again."""
    protocol = _protocol(source.url)
    if protocol in ("http", "https"):
        return {"block_size": 0, "size": source.bytes}  # a stream: not every server knows ranges
    return {"cache_type": "none"} if protocol in _EXTRAS else {}


def file_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Raises BuildError when a package is missing."""
    protocol = _protocol(url)
    try:
        if protocol in ("http", "https"):
            options = {**options, "client_kwargs": {"timeout": _http_timeout(), **options.get("client_kwargs", {})}}
        system, path = fsspec.url_to_fs(url, **options)
    except ImportError as error:
        extra = (
            f"install the extra: pip install '.[{_EXTRAS[protocol]}]' in the repository"
            if protocol in _EXTRAS
            else "install it"
        )
        raise BuildError(f"{url}: {protocol}:// needs a package that is missing ({error}); {extra}") from error
    except (ValueError, TypeError) as error:
        raise BuildError(f"{url} cannot be opened: {error}; check the URL and the storage options") from error
    return system, path


def _http_timeout() -> Any:
    """Ends a silent request; by default any ends after five minutes, however well it goes."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=_SILENT_SECONDS, sock_read=_SILENT_SECONDS)


def _protocol(url: str) -> str:
    return url.split("://", 1)[0].lower()


def attempt(url: str, retry: Retry, action: Callable[[], _T]) -> _T:
    """The result of `action`, tried again while it fails in a way that may pass.

    Raises:
        CorruptError: there is no such file.
        BuildError: it was tried often enough, or is not allowed.
    """
    for tried in range(retry.attempts):
        if tried:
            time.sleep(retry.delay * 2 ** (tried - 1))
        try:
            return action()
        except RunError:
            raise
        except Exception as error:  # each store has errors of its own, and not all of them are an OSError
            _raise_permanent(url, error)
            _log.debug("%s: try %d of %d: %s: %s", url, tried + 1, retry.attempts, type(error).__name__, error)
            last = error
    raise BuildError(
        f"{url} cannot be read or written, tried {retry.attempts} times: {type(last).__name__}: {last}; check the "
        "network, the credentials, and the endpoint (AWS_ENDPOINT_URL for s3://)"
    ) from last


def _raise_permanent(url: str, error: Exception) -> None:
    status = getattr(error, "status", None)  # of aiohttp
    if isinstance(error, FileNotFoundError) or status == 410:
        raise CorruptError(f"{url} does not exist ({error}); upload the build again, build.json last") from error
    if isinstance(error, PermissionError) or status in (401, 403):
        raise _DeniedError(
            f"{url}: permission denied ({error}); check the credentials, their right to read or write, and the "
            "endpoint. Without the right to list a bucket, S3 answers the same for a file that does not exist"
        ) from error


@contextlib.contextmanager
def writing(sink: BinaryIO) -> Iterator[None]:
    """Around what is done to a local file: its failure is none of the remote store, and is not tried again.

    Raises:
        BuildError: the disk is full, or cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        raise BuildError(
            f"{sink.name} cannot be written: {error}; free space there, choose another folder "
            "(trainer.cache_folder), or lower trainer.cache_gb"
        ) from error


def _listed(url: str, manifest: bytes) -> list[RemoteFile]:
    try:
        files = json.loads(manifest)["files"]
        return [shard_file(url, {"file": name, **files[name]}) for name in _MIRRORED]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{url}/build.json is not one of this version: {error!r}; build it again") from error


def _is_whole(path: Path, manifest: bytes, files: list[RemoteFile]) -> bool:
    """Whether the copy is all there: /tmp and caches lose single files to whoever tidies up."""
    try:
        sizes = [(path / name).stat().st_size for name in _MIRRORED]
        return (path / "build.json").read_bytes() == manifest and sizes == [file.bytes for file in files]
    except FileNotFoundError:
        return False


def _copy_build(source: _Store, path: Path, manifest: bytes, files: list[RemoteFile]) -> None:
    for stale in path.parent.glob(f"{TEMPORARY_PREFIX}*"):  # of a process that was killed: this one has the lock
        shutil.rmtree(stale)
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    temporary.mkdir()
    try:
        for name, file in zip(_MIRRORED, files, strict=True):
            with open(temporary / name, "wb") as sink:
                download(file, sink, source.options, source.retry)
        croissant = source.read_if_allowed(CROISSANT)
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


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; a process that dies lets go."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
