"""One version of an object: its size, its tag, and reads that no other version can answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import obstore
from obstore.exceptions import PreconditionError

from pipeline.errors import BuildError
from pipeline.storage.full_disk import naming_folder
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.retry import Retry

_CHUNK = 4 * 2**20
_T = TypeVar("_T")
_Bytes = bytes  # the class below has a field of this name


def writing_copy(sink: BinaryIO) -> AbstractContextManager[None]:
    """Around writing to a copy on this machine: a failure is not the store's, and is final. Raises BuildError."""
    return naming_folder(sink.name, "free space there, or name another folder in VLAJEPA_RAW_CACHE", errors=None)


@dataclass(frozen=True)
class BucketObject:
    """An object as it was when it was listed. Every read asks for this version (If-Match).

    store, name  where it is
    bytes        size
    tag          the store's mark of this version (ETag); "" if it gives none

    Raises:
        FileNotFoundError: it is gone.
        BuildError: it was replaced, is not to be read, or every attempt failed.
    """

    store: ObjectStore
    name: str
    bytes: int
    tag: str

    @property
    def url(self) -> str:
        """For people."""
        return f"{self.store.url}/{self.name}"

    @property
    def key(self) -> str:
        """A name of this version for a cache, 64 hexadecimal digits."""
        return hashlib.sha256(f"{self.store.endpoint}\n{self.url}\n{self.tag}\n{self.bytes}".encode()).hexdigest()

    def read(self, start: int, stop: int) -> _Bytes:
        """Bytes [start, stop), which must lie inside."""
        if not 0 <= start < stop <= self.bytes:
            raise ValueError(f"{self.url} has {self.bytes} bytes; {start} to {stop} were requested")

        def read() -> _Bytes:
            found = _Bytes(self._get(range=(start, stop)).bytes())
            if len(found) != stop - start:
                raise OSError(f"{len(found)} bytes arrived, {stop - start} were requested")
            return found

        return self._attempt(read)

    def download(self, sink: BinaryIO, retry: Retry | None = None) -> str:
        """Write all of it to `sink` from position 0; a passing error begins it again. Returns its SHA-256 in hex."""
        del retry  # the store has its own

        def download() -> str:
            found = hashlib.sha256()
            sink.seek(0)
            for chunk in self.chunks():
                found.update(chunk)
                with writing_copy(sink):
                    sink.write(chunk)
            if sink.tell() != self.bytes:
                raise OSError(f"{sink.tell()} bytes arrived, it has {self.bytes}")
            with writing_copy(sink):
                sink.flush()
            return found.hexdigest()

        return self._attempt(download)

    def sha256(self) -> str:
        """SHA-256 in hex; read in one pass and kept nowhere."""

        def digest() -> str:
            found, size = hashlib.sha256(), 0
            for chunk in self.chunks():
                found.update(chunk)
                size += len(chunk)
            if size != self.bytes:
                raise OSError(f"{size} bytes arrived, it has {self.bytes}")
            return found.hexdigest()

        return self._attempt(digest)

    def chunks(self) -> Iterator[_Bytes]:
        """Content, in one request."""
        if self.bytes:
            yield from self._get().stream(min_chunk_size=_CHUNK)

    def _get(self, **options: Any) -> Any:
        wanted: Any = {**({"if_match": self.tag} if self.tag else {}), **options}
        found = obstore.get(self.store.client(), self.store.key(self.name), options=wanted)
        if self.tag and found.meta.get("e_tag") != self.tag:  # a store may ignore the condition
            raise BuildError(self._replaced)
        return found

    @property
    def _replaced(self) -> str:
        return f"{self.url} was replaced while it was read; leave the raw data as it is, and run the command again"

    def _attempt(self, action: Callable[[], _T]) -> _T:
        return self.store.attempt(self.name, lambda: self._once(action))

    def _once(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except PreconditionError as error:  # a RunError ends the attempts: another one would find the same
            raise BuildError(self._replaced) from error
