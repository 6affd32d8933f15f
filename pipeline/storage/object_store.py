"""A build folder on S3, Google Cloud Storage, or wherever else fsspec writes.

Object stores have no rename, and need none here: an object appears whole when its upload ends, one that was cut off is
never seen, and one that is there counts only once a record lists it. What is written passes through a local temporary
file (TMPDIR); what a moment's trouble of the network or the store spoils is tried again.

What arrived is compared with what was sent: S3 checks the CRC32 that botocore sends with every request, and after the
upload the object's size and MD5 (of S3's ETag, of its parts for one sent in parts; md5Hash of Google) are compared. An
object whose store tells no MD5 (SSE-KMS) is read back and its SHA-256 compared.

S3's silent requests end after 60 seconds. FSSPEC_S3='{"config_kwargs": {"read_timeout": 300}}' changes that.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from pipeline.errors import BuildError, CorruptError
from pipeline.storage.full_disk import naming_full_disk
from pipeline.storage.remote import Retry, attempt, file_system

_THREADS = 16
_S3 = ("s3", "s3a")
_PART = 16 * 2**20
"""Bytes of one part of a large object on S3; two parts or more are sent as parts, four at a time."""

_CHUNK = 4 * 2**20
_S3_LIMITS: Mapping[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "max_pool_connections": 2 * _THREADS,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
"""Of one request, so that one bad answer does not undo a large file. `Retry` tries the whole operation again."""

_systems: dict[tuple[Any, ...], Any] = {}
_T = TypeVar("_T")


def place_options(url: str) -> dict[str, Any]:
    """What a worker elsewhere has to know of the place, from the environment here: endpoint and region, no secret."""
    if url.split("://")[0] not in _S3:
        return {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options: dict[str, Any] = {"endpoint_url": endpoint} if endpoint else {}
    return options | ({"client_kwargs": {"region_name": region}} if region else {})


@dataclass(frozen=True)
class RemoteStore:
    """See `store.Store`. Who asks comes from the environment of the process that does: see `remote.py`.

    options  of the fsspec file system: see `place_options`
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    retry: Retry = field(default_factory=lambda: Retry(attempts=6, delay=1.0))

    @property
    def where(self) -> str:
        return self.url

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with _scratch() as folder:
            path = folder / Path(name).name
            yield path
            self._put(name, path)

    def write(self, name: str, data: bytes) -> None:
        self._put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """A conditional write (If-None-Match). A store that ignores the condition would let everybody win: refused."""
        if not self._create(name, data):
            return False
        system, path = self._system(name)
        if self._try(name, lambda: _put_new(system, path, data)):
            self.remove(name)
            raise BuildError(
                f"{self.url}: the store ignores the condition of a conditional write (If-None-Match: *), so nothing "
                "keeps a second driver out; use a store that honours it, or build into a folder and upload that"
            )
        return True

    def read(self, name: str) -> bytes:
        system, path = self._system(name)
        with _missing_is_missing():
            content: bytes = self._try(name, lambda: system.cat_file(path))
        return content

    def read_part(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file, fewer where it ends before. Raises FileNotFoundError."""
        system, path = self._system(name)
        with _missing_is_missing():
            size = int(self._try(name, lambda: system.info(path)["size"]))
            if min(stop, size) <= start:  # asking for nothing is an error to some stores
                return b""
            content: bytes = self._try(name, lambda: system.cat_file(path, start=start, end=min(stop, size)))
        return content

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with _scratch() as folder:
            path = folder / Path(name).name
            self.download(name, path)
            yield path

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        names = [other for other in self.sizes() if other.startswith(f"{name}/") and not other.endswith("/")]
        with _scratch() as folder, ThreadPoolExecutor(_THREADS) as pool:
            targets = [folder / other.removeprefix(f"{name}/") for other in names]
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            list(pool.map(self._download_if_there, names, targets))
            yield folder

    def sizes(self) -> dict[str, int]:
        """A name that ends in `/` is the mark of an empty folder, as the consoles of stores make them."""
        system, root = self._system("")
        prefix = root.rstrip("/") + "/"
        found = self._try("", lambda: _find(system, prefix))
        return {path.removeprefix(prefix): size for path, size in found.items() if path != prefix or size}

    def remove(self, name: str) -> None:
        system, path = self._system(name)

        def remove(one: str) -> None:
            self._try(name, lambda: _remove(system, one))

        remove(path)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(remove, self._try(name, lambda: _find(system, f"{path}/"))))

    def tidy(self) -> None:
        """Nothing to do: an upload that was cut off leaves no object (a bucket's lifecycle rule drops its parts)."""

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a local path. Raises FileNotFoundError."""
        system, path = self._system(name)

        def get() -> None:
            expected = int(system.info(path)["size"])
            with _naming_full_disk(target.parent):
                system.get_file(path, str(target))
            if target.stat().st_size != expected:
                raise OSError(f"{target.stat().st_size} bytes arrived, it has {expected}")

        with _missing_is_missing():
            self._try(name, get)

    def _download_if_there(self, name: str, target: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed, as from a local folder
            self.download(name, target)

    def digest(self, name: str) -> tuple[int, str]:
        """Size and SHA-256 of a file, read in one pass and kept nowhere. Raises FileNotFoundError."""
        system, path = self._system(name)
        with _missing_is_missing():
            return self._try(name, lambda: _digest(system, path))

    def _put(self, name: str, source: Path | bytes) -> None:
        system, path = self._system(name)

        def put() -> None:
            # Of parts whose answer "complete" was lost, S3 says afterwards that there is no such upload.
            with self._nothing_missing():
                if isinstance(source, bytes):
                    system.pipe_file(path, source)
                else:
                    parts = {"chunksize": _PART, "max_concurrency": 4} if self._is_s3 else {}
                    system.put_file(str(source), path, **parts)
                _require_arrived(system, path, source)

        self._try(name, put)

    def _create(self, name: str, data: bytes) -> bool:
        system, path = self._system(name)

        def create() -> bool:
            with self._nothing_missing():
                # What is there may be of an earlier attempt whose answer was lost.
                return _put_new(system, path, data) or bool(system.cat_file(path) == data)

        return self._try(name, create)

    @contextlib.contextmanager
    def _nothing_missing(self) -> Iterator[None]:
        """While something is written, "does not exist" is no answer to end with; but a bucket is not made here."""
        try:
            yield
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise BuildError(f"{self.url}: there is no such bucket; make it, or choose another out=") from error
            raise OSError(f"not found, perhaps there is no such bucket: {error}") from error

    @property
    def _is_s3(self) -> bool:
        return self.url.split("://")[0] in _S3

    def _system(self, name: str) -> tuple[Any, str]:
        options: dict[str, Any] = {"use_listings_cache": False, **self.options}
        if self._is_s3:
            own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            options["config_kwargs"] = _S3_LIMITS | own
        url = f"{self.url}/{name}" if name else self.url
        return _shared_system(url, options), fsspec.core.strip_protocol(url)

    def _try(self, name: str, action: Callable[[], _T]) -> _T:
        return attempt(f"{self.url}/{name}", self.retry, action)


def _shared_system(url: str, options: Mapping[str, Any]) -> Any:
    """One client a process. fsspec by itself makes one for each thread, and each costs a tenth of a second."""
    key = (os.getpid(), url.split("://")[0], json.dumps(options, sort_keys=True, default=str))
    if key not in _systems:
        system = file_system(url, options)[0]
        if url.split("://")[0] in _S3:
            system.retries = 1  # botocore and `attempt` try again: a third layer would multiply the time to an error
        _systems.setdefault(key, system)
    return _systems[key]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vlajepa-") as folder, _naming_full_disk(tempfile.gettempdir()):
        yield Path(folder)


def _naming_full_disk(folder: Path | str) -> contextlib.AbstractContextManager[None]:
    return naming_full_disk(folder, "free space there, or name another folder in TMPDIR")


@contextlib.contextmanager
def _missing_is_missing() -> Iterator[None]:
    try:
        yield
    except CorruptError as error:
        raise FileNotFoundError(str(error)) from error


def _put_new(system: Any, path: str, data: bytes) -> bool:
    """Write an object unless one is there; False then."""
    try:
        system.pipe_file(path, data, mode="create")
    except Exception as error:  # s3fs knows AWS's answer alone as FileExistsError
        if isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412"):
            return False
        raise
    return True


def _find(system: Any, prefix: str) -> dict[str, int]:
    """Path and size of every object below `prefix`, which ends in a slash."""
    try:
        found = system.find(prefix.rstrip("/"), detail=True)
    except FileNotFoundError:
        return {}
    return {path: int(info["size"]) for path, info in found.items() if path.startswith(prefix)}


def _remove(system: Any, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        system.rm_file(path)


def _require_arrived(system: Any, path: str, source: Path | bytes) -> None:
    """Raises OSError when the object is not what was sent."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    info = system.info(path)
    if int(info["size"]) != size:
        raise OSError(f"{info['size']} bytes arrived, {size} were sent")
    told = _told_md5(info)
    if told and told == _md5(source, _PART if "-" in told else size + 1):
        return
    sent = hashlib.sha256(b"".join(_chunks(source))).hexdigest() if isinstance(source, bytes) else _file_sha256(source)
    arrived = _digest(system, path)[1]
    if arrived != sent:
        raise OSError(f"what arrived has SHA-256 {arrived}, {sent} was sent")


def _told_md5(info: Mapping[str, Any]) -> str:
    """The MD5 that a store tells of an object, in hex; "" where it tells none. An ETag need not be one."""
    if "md5Hash" in info:
        return base64.b64decode(info["md5Hash"]).hex()
    return str(info.get("ETag", "")).strip('"')


def _md5(source: Path | bytes, part: int) -> str:
    """MD5 in hex; of more than one part the MD5 of their MD5s and their number, as S3 makes its ETag."""
    digests: list[bytes] = []
    digest, room = hashlib.md5(usedforsecurity=False), part
    for chunk in _chunks(source):
        view = memoryview(chunk)
        while len(view) >= room:
            digest.update(view[:room])
            digests.append(digest.digest())
            view, digest, room = view[room:], hashlib.md5(usedforsecurity=False), part
        digest.update(view)
        room -= len(view)
    if not digests:
        return digest.hexdigest()
    if room < part:
        digests.append(digest.digest())
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(system: Any, path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with system.open(path, "rb", block_size=_PART, cache_type="readahead") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _code(error: BaseException | None) -> str:
    """The store's own code of an error, from wherever in the chain of causes it is."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__ or error.__context__
    return ""
