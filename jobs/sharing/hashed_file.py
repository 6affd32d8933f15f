"""A file that is hashed as it is read: whoever reads it to its end has read what was listed, or gets an error."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from typing import Any, BinaryIO

from jobs.sharing.contents import SentFile
from pipeline.errors import CorruptError
from pipeline.format.text.printable import printable


class HashedFile(io.BufferedIOBase):
    """Content of a `SentFile`, opened when it is first read. Its last bytes are handed over only when all before them,
    as they were read, and these have the listed SHA-256.

    A reader that jumps, as one that sends parts again, makes what lies before be read and hashed anew.

    Raises on reading:
        CorruptError: the file is missing, no regular file, of another size, or not what was listed.
    """

    def __init__(self, listed: SentFile) -> None:
        super().__init__()
        self._listed = listed
        self._file: BinaryIO | None = None
        self._digest: Any = hashlib.sha256()
        self._at = self._hashed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._listed.size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._listed.size - self._at, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if self._at != self._hashed:
            self._hash_up_to(self._at)
        data = self._next(wanted)
        self._at = self._hashed
        return data

    def read1(self, size: int = -1) -> bytes:
        return self.read(size)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        super().close()

    def _hash_up_to(self, position: int) -> None:
        self._opened().seek(0)
        self._digest, self._hashed = hashlib.sha256(), 0
        while self._hashed < position and self._next(min(2**20, position - self._hashed)):
            pass

    def _next(self, wanted: int) -> bytes:
        data = self._opened().read(wanted) if wanted else b""
        if len(data) < wanted:
            raise self._changed(f"it ends after {self._hashed + len(data):,} bytes")
        self._digest.update(data)
        self._hashed += len(data)
        if self._hashed == self._listed.size:
            if self._digest.hexdigest() != self._listed.sha256:
                raise self._changed(f"its SHA-256 is {self._digest.hexdigest()}")
            self._release()
        return data

    def _release(self) -> None:
        """Close the file, which is opened again if it is read again: thousands may be sent in one commit."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = self._open()
            self._file.seek(self._hashed)
        return self._file

    def _open(self) -> BinaryIO:
        path = self._listed.path
        if path is None:
            return io.BytesIO(self._listed.data)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._changed(f"it cannot be read ({error.strerror})") from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self._listed.size:
            os.close(descriptor)
            raise self._changed(f"it has {found.st_size:,} bytes" if stat.S_ISREG(found.st_mode) else "it is no file")
        return os.fdopen(descriptor, "rb")

    def _changed(self, what: str) -> CorruptError:
        listed = self._listed
        return CorruptError(
            f"{printable(listed.path)}: {what}, listed are {listed.size:,} bytes with SHA-256 {listed.sha256}: it was "
            "changed or is damaged, and is not pushed; copy it again"
        )
