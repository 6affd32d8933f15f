"""A place in a bucket, with the part of `pathlib.Path` that readers of raw data use."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath

import obstore

from pipeline.storage.object_store import ObjectStore
from pipeline.storage.raw.bucket_file import BucketFile
from pipeline.storage.raw.bucket_object import BucketObject
from pipeline.storage.raw.local_copies import fetch

_BUFFER = 64 * 2**10
"""Bytes of Python's buffer: small reads of a parser cost no call each."""


@dataclass(frozen=True)
class RawStat:
    """What is known of an object before it is read. tag: the store's mark of its version."""

    st_size: int
    tag: str


@dataclass(frozen=True)
class BucketPath:
    """A file or a folder of a bucket. Nothing is asked before a method that needs it.

    store     the bucket
    key       name of the object, without slashes at its ends; "" for the bucket itself
    listings  folder -> what it holds, kept for all paths made from this one; None: every question asks the store

    Every method raises BuildError when the bucket cannot be reached or denies access, and OSError as `Path` does for
    what is not there.
    """

    store: ObjectStore
    key: str
    listings: dict[str, dict[str, BucketObject]] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.store.url}/{self.key}".rstrip("/")

    def __truediv__(self, name: str | PurePath) -> BucketPath:
        # Of what leads out of the bucket nothing is left to look for: no key begins so.
        return BucketPath(self.store, os.path.normpath(f"{self.key}/{name}").strip("/"), self.listings)

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def stem(self) -> str:
        return self._pure.stem

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def parent(self) -> BucketPath:
        return BucketPath(self.store, self.key.rpartition("/")[0], self.listings)

    def find(self) -> BucketObject:
        """The object as it is now, or as it was listed. Raises FileNotFoundError."""
        if self.listings is not None:
            found = self.parent.files().get(self.name)
            if found is None:
                raise _missing(self)
            return found
        try:
            info = self.store.attempt(self.key, lambda: obstore.head(self.store.client(), self.store.key(self.key)))
        except FileNotFoundError as error:
            raise _missing(self) from error
        return BucketObject(self.store, self.key, int(info["size"]), str(info["e_tag"] or ""))

    def stat(self) -> RawStat:
        """See `Path.stat`."""
        found = self.find()
        return RawStat(found.bytes, found.tag)

    def exists(self) -> bool:
        """Whether there is a file; folders are `is_dir`."""
        return self.is_file()

    def is_file(self) -> bool:
        """See `Path.is_file`."""
        try:
            self.find()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether anything lies below: a bucket has no empty folders."""
        listed = self._list(self.key)
        return bool(listed["common_prefixes"] or listed["objects"])

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """A seekable file of bytes; ranges are fetched as they are read."""
        if mode != "rb":
            raise ValueError(f"{self}: raw data is read as bytes, mode {mode!r} was requested")
        return io.BufferedReader(BucketFile(self.find()), _BUFFER)

    def read_bytes(self) -> bytes:
        """See `Path.read_bytes`."""
        found = self.find()
        return found.read(0, found.bytes) if found.bytes else b""

    def sha256(self) -> str:
        """SHA-256 of the file in hex."""
        return self.find().sha256()

    @contextlib.contextmanager
    def fetched(self) -> Iterator[Path]:
        """A copy on this machine's disk, which is not deleted meanwhile."""
        with fetch(self.find()) as copy:
            yield copy.path

    def files(self) -> dict[str, BucketObject]:
        """The files of this folder by name; none if there is no such folder."""
        if self.listings is None or self.key not in self.listings:
            listed = self._list(self.key)["objects"]
            objects = (self._object(info) for info in listed if not info["path"].endswith("/"))
            found = {PurePosixPath(one.name).name: one for one in objects if one.name != self.key}
            if self.listings is None:
                return found
            self.listings[self.key] = found
        return self.listings[self.key]

    def glob(self, pattern: str) -> Iterator[BucketPath]:
        """Files below that match; `**` is any number of folders. Names that begin with a dot are none, as in shells."""
        wanted = pattern.split("/")
        fixed = 0
        while fixed < len(wanted) - 1 and not any(sign in wanted[fixed] for sign in "*?["):
            fixed += 1
        below = self / "/".join(wanted[:fixed]) if fixed else self
        for name in below._all_below():
            if _matches(name.split("/"), wanted[fixed:]):
                yield below / name

    def _all_below(self) -> list[str]:
        """Names of all files below, relative to this folder."""

        def names() -> list[str]:
            prefix = self.store.key(self.key)
            pages = obstore.list(self.store.client(), prefix or None)
            return [info["path"].removeprefix(prefix).lstrip("/") for page in pages for info in page]

        try:
            return sorted(filter(None, self.store.attempt(self.key, names)))
        except FileNotFoundError:
            return []

    def _list(self, folder: str) -> obstore.ListResult[Sequence[obstore.ObjectMeta]]:
        try:
            key = self.store.key(folder)
            return self.store.attempt(folder, lambda: obstore.list_with_delimiter(self.store.client(), key or None))
        except FileNotFoundError:
            return {"common_prefixes": [], "objects": []}

    def _object(self, info: obstore.ObjectMeta) -> BucketObject:
        return BucketObject(self.store, info["path"], int(info["size"]), str(info["e_tag"] or ""))

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)


def _missing(path: BucketPath) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _matches(names: list[str], pattern: list[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or (not names[0].startswith(".") and _matches(names[1:], pattern))
    hidden = names[0].startswith(".") and not pattern[0].startswith(".")
    return not hidden and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])
