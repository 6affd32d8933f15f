"""SHA-256 of raw files, each made once: by this process, and by all that share a `HashService`."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Protocol

Identity = tuple[int | str, ...]
"""Values that change when a file is rewritten or replaced."""

Version = tuple[str, Identity]
"""A file's full path, and what it was when it was hashed."""

KEPT = 4096
"""Hashes that a process keeps."""


class HashService(Protocol):
    """Where processes of a run hand each other the hashes of the files that they share."""

    def sha256(self, version: Version, make: Callable[[], str]) -> str:
        """The hash of a file as it is, in hex; `make` computes it. Raises what `make` raises."""
        ...


_SERVICE: ContextVar[HashService | None] = ContextVar("hash service", default=None)


@contextlib.contextmanager
def hashes_from(service: HashService) -> Iterator[None]:
    """In the block, what this process has not hashed itself is asked of the others first."""
    token = _SERVICE.set(service)
    try:
        yield
    finally:
        _SERVICE.reset(token)


class KnownHashes:
    """The hashes that this process made or was told; safe to share between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Version, str] = OrderedDict()
        self._lock = threading.Lock()

    def sha256(self, version: Version, make: Callable[[], str]) -> str:
        """The hash of a file, by whoever has it already, in hex. Raises what `make` raises."""
        with self._lock:
            found = self._known.get(version)
        if found is None:
            service = _SERVICE.get()
            found = make() if service is None else service.sha256(version, make)
            self.add(version, found)
        return found

    def add(self, version: Version, sha256: str) -> None:
        """Keep a hash."""
        with self._lock:
            self._known[version] = sha256
            while len(self._known) > KEPT:
                self._known.popitem(last=False)

    def all(self) -> Mapping[Version, str]:
        """A copy of what is kept."""
        with self._lock:
            return dict(self._known)


HERE = KnownHashes()
"""Those of this process."""
