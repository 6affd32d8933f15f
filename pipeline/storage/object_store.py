"""A build folder on S3 or Google Cloud Storage, or, to be read from, on an HTTP(S) server or under file://.

An object appears whole when its upload ends, so no rename is needed. Shards are sent in parts while they are written
(`upload.py`); other files pass through a local temporary one (TMPDIR). Passing errors are retried.

After an upload the object's size and MD5 (its ETag) are compared with what was sent. An object whose store gives no MD5
(SSE-KMS; on Google one sent in parts) is read back and its MD5 compared.

obstore's threads do not survive a fork: start processes that read remote builds with spawn, or before the first file
is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import obstore
from obstore.exceptions import AlreadyExistsError

from pipeline.errors import BuildError
from pipeline.storage.clients import client_of, client_of_mark, is_s3, key_of, s3_place
from pipeline.storage.credentials import refuse_credentials
from pipeline.storage.full_disk import naming_folder
from pipeline.storage.retry import Retry, attempt, cause
from pipeline.storage.upload import IN_FLIGHT, PART, Sent, Upload

_THREADS = 16
_CHUNK = 4 * 2**20
LARGEST = 4 * 2**30
"""Bytes of an object that is read at once. Shards are not."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class ObjectStore:
    """See `store.Store`. Credentials come from the environment of the process that uses it.

    endpoint, region  of S3 (None: AWS's), sent along to workers on other machines: see `open_object_store`
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    retry: Retry = field(default_factory=lambda: Retry())

    @property
    def where(self) -> str:
        return self.url

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with _scratch() as folder:
            path = folder / Path(name).name
            yield path
            self._put(name, path)

    @contextlib.contextmanager
    def streaming(self, name: str) -> Iterator[IO[bytes]]:
        upload = Upload(partial(self._put_parts, name))
        try:
            yield cast(IO[bytes], upload)
        except BaseException:
            upload.abort()
            raise
        try:
            whole = upload.finish()
        except BuildError:
            if not self._arrived(name, upload.sent):  # the answer to the last request may be what was lost
                raise
        else:
            if whole is not None:
                self._put(name, whole)
            else:
                self.attempt(name, lambda: self._require_arrived(name, upload.sent))

    def write(self, name: str, data: bytes) -> None:
        self._put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """A conditional write (If-None-Match). A store that ignores the condition would let everybody win: refused."""

        def create() -> bool:
            with self._nothing_missing():
                # What is there may be of an earlier attempt whose answer was lost.
                return self._put_new(name, data) or self._get(name).bytes() == data

        if not self.attempt(name, create):
            return False
        if self.attempt(name, lambda: self._put_new(name, data)):
            self.remove(name)
            raise BuildError(
                f"{self.url}: the store ignores the condition of a conditional write (If-None-Match: *), so nothing "
                "keeps a second driver out; use a store that honours it, or build into a folder and upload that"
            )
        return True

    def read(self, name: str) -> bytes:
        return self.attempt(name, lambda: self._whole(name))

    def read_part(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file, fewer where it ends before. Raises FileNotFoundError."""
        stop = min(stop, int(self.attempt(name, lambda: self._head(name)["size"])))
        if stop <= start:  # asking for nothing is an error to some stores
            return b""
        return self.attempt(
            name, lambda: bytes(obstore.get_range(self.client(), self.key(name), start=start, end=stop))
        )

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with _scratch() as folder:
            path = folder / Path(name).name
            self.download(name, path)
            yield path

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        names = [other for other in self._below(name) if not other.endswith("/")]
        with _scratch() as folder, ThreadPoolExecutor(_THREADS) as pool:
            targets = [folder / other.removeprefix(f"{name}/") for other in names]
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            list(pool.map(self._download_if_there, names, targets))
            yield folder

    def sizes(self) -> dict[str, int]:
        """A name that ends in `/` is the mark of an empty folder, as the consoles of stores make them."""
        return self._below("")

    def names(self, name: str) -> list[str]:
        below = (other.removeprefix(f"{name}/").split("/")[0] for other in self._below(name))
        return [other for other in dict.fromkeys(below) if other]

    def remove(self, name: str) -> None:
        """Of marks of empty folders those on S3 alone: obstore has no names that end in `/`."""
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._remove, [name, *self._below(name)]))

    def tidy(self) -> None:
        """Nothing to do: an upload that was cut off leaves no object (a bucket's lifecycle rule drops its parts)."""

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a local path. Raises FileNotFoundError."""

        def get() -> None:
            with _naming_full_disk(target.parent), open(target, "wb") as file:
                file.writelines(self.chunks(name))

        self.attempt(name, get)

    def digest(self, name: str) -> tuple[int, str]:
        """Size and SHA-256 of a file, read in one pass and kept nowhere. Raises FileNotFoundError."""
        return self.attempt(name, lambda: size_and_sha256(self.chunks(name)))

    def holds(self, name: str, content: Iterable[bytes]) -> bool:
        """Whether an object is there and is this: by the MD5 that the store reports; without one it is read back."""
        return self._arrived(name, _sent(content))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Content of a file, in one request: to be retried as a whole, with `attempt`."""
        yield from self._get(name).stream(min_chunk_size=_CHUNK)

    def attempt(self, name: str, action: Callable[[], _T]) -> _T:
        """See `retry.attempt`."""
        return attempt(f"{self.url}/{name}" if name else self.url, self.retry, action)

    def _once(self, name: str, action: Callable[[], _T]) -> _T:
        return attempt(f"{self.url}/{name}", replace(self.retry, attempts=1), action)

    def _download_if_there(self, name: str, target: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed, as from a local folder
            self.download(name, target)

    def _put(self, name: str, source: Path | bytes) -> None:
        sent = _sent([source]) if isinstance(source, bytes) else _sent_of_file(source)

        def put() -> None:
            # Of parts whose answer "complete" was lost, S3 says afterwards that there is no such upload.
            with self._nothing_missing():
                obstore.put(self.client(), self.key(name), source, chunk_size=PART, max_concurrency=IN_FLIGHT)
            self._require_arrived(name, sent)

        self.attempt(name, put)

    def _put_parts(self, name: str, parts: Iterator[bytes]) -> None:
        """Of one attempt: parts are gone once they are sent. obstore aborts the upload when they raise, or it fails."""

        def put() -> None:
            client = client_of(self.url, self.endpoint, self.region, self.retry)
            with self._nothing_missing():
                obstore.put(
                    client, self.key(name), parts, use_multipart=True, chunk_size=PART, max_concurrency=IN_FLIGHT
                )

        self._once(name, put)

    def _put_new(self, name: str, data: bytes) -> bool:
        """Write an object unless one is there; False then."""
        try:
            obstore.put(self.client(), self.key(name), data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def _arrived(self, name: str, sent: Sent) -> bool:
        """Whether the object is there and is what was sent, as far as can be asked."""
        try:
            self._once(name, lambda: self._require_arrived(name, sent))
        except BuildError:
            return False
        return True

    def _require_arrived(self, name: str, sent: Sent) -> None:
        """Raises OSError when the object is not there or not what was sent."""
        with self._nothing_missing():
            info = self._head(name)
            if info["size"] != sent.size:
                raise OSError(f"{info['size']} bytes arrived, {sent.size} were sent")
            if _etag(info) != sent.etag():
                arrived = _sent(self.chunks(name)).etag()
                if arrived != sent.etag():
                    raise OSError(f"what arrived has MD5 {arrived}, {sent.etag()} was sent")

    @contextlib.contextmanager
    def _nothing_missing(self) -> Iterator[None]:
        """While something is written, "does not exist" is no answer to end with; but a bucket is not made here."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise BuildError(f"{self.url}: there is no such bucket; make it, or choose another out=") from error
            raise OSError(f"not found, perhaps there is no such bucket: {cause(error)}") from error

    def _below(self, name: str) -> dict[str, int]:
        """Every object below a folder with its size. Folder by folder: a mark is listed with its own folder alone."""
        root, found, folders = f"{self.key('')}/".lstrip("/"), {}, [name]
        for folder in folders:  # which grows
            key = self.key(folder)
            try:
                listed = self.attempt(folder, lambda key=key: obstore.list_with_delimiter(self.client(), key))  # type: ignore[misc]
            except FileNotFoundError:
                continue
            folders += [path.removeprefix(root) for path in listed["common_prefixes"]]
            for info in listed["objects"]:
                other = f"{folder}/".lstrip("/") if info["path"] == key else info["path"].removeprefix(root)
                if other or info["size"]:
                    found[other] = int(info["size"])
        return found

    def _remove(self, name: str) -> None:
        client, key = self.client(), self.key(name)
        if name.endswith("/"):
            if not is_s3(self.url):
                return
            client, key = client_of_mark(self.url, name, self.endpoint, self.region), ""
        with contextlib.suppress(FileNotFoundError):
            self.attempt(name, lambda: obstore.delete(client, key))

    def _head(self, name: str) -> Any:
        return obstore.head(self.client(), self.key(name))

    def _whole(self, name: str) -> bytes:
        """All of an object, whose size a server may claim as it likes."""
        found, content = self._get(name), bytearray()
        for chunk in found.stream(min_chunk_size=_CHUNK) if found.meta["size"] <= LARGEST else ():
            content += chunk
            if len(content) > LARGEST:
                break
        size = max(found.meta["size"], len(content))
        if size > LARGEST:
            limit = f"at most {LARGEST:,} are read of such a file"
            raise BuildError(f"{self.url}/{name} has {size:,} bytes, {limit}; upload the build again")
        return bytes(content)

    def _get(self, name: str) -> Any:
        return obstore.get(self.client(), self.key(name))

    def key(self, name: str) -> str:
        """The object's name in its bucket."""
        return key_of(self.url, name)

    def client(self) -> Any:
        """obstore's, of this process."""
        return client_of(self.url, self.endpoint, self.region)


def open_object_store(url: str, retry: Retry | None = None) -> ObjectStore:
    """The store of a URL: its endpoint and region as the environment here says, no secret.

    Raises:
        BuildError: AWS_PROFILE is wrong.
        SettingsError: the URL has credentials in it.
    """
    refuse_credentials(url, "an address")
    endpoint, region = s3_place() if is_s3(url) else (None, None)
    return ObjectStore(url.rstrip("/"), endpoint, region, retry or Retry())


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vlajepa-") as folder, _naming_full_disk(tempfile.gettempdir()):
        yield Path(folder)


def _naming_full_disk(folder: Path | str) -> contextlib.AbstractContextManager[None]:
    return naming_folder(folder, "free space there, or name another folder in TMPDIR")


def _etag(info: Any) -> str:
    """The MD5 that a store reports of an object, in hex; "" if it reports none. An ETag need not be one."""
    return str(info["e_tag"] or "").strip('"')


def _sent(chunks: Iterable[bytes]) -> Sent:
    sent = Sent()
    for chunk in chunks:
        sent.update(chunk)
    return sent


def _sent_of_file(path: Path) -> Sent:
    with open(path, "rb") as file:
        return _sent(iter(lambda: file.read(_CHUNK), b""))


def size_and_sha256(chunks: Iterable[bytes]) -> tuple[int, str]:
    """Bytes and SHA-256 in hex of chunks together."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
