"""An object as a seekable file: only the ranges that are read are fetched."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

from pipeline.storage.raw.bucket_object import BucketObject

BLOCK = 128 * 2**10
"""Bytes of the smallest request. Headers that lie far apart, as in TFRecord, cost one each."""

_AHEAD = 32
"""Blocks of the largest request that reads ahead; a read that goes on where the last one ended doubles up to it."""

_KEPT = 256
"""Blocks that an open file keeps: 32 MiB."""


class BucketFile(io.RawIOBase):
    """For libraries that read files. One thread at a time.

    Raises:
        BuildError: a request failed for good, or the object was replaced while it was read. It passes through the
            libraries, which do not know it: a network that fails is no damaged file.
    """

    def __init__(self, source: BucketObject) -> None:
        super().__init__()
        self._source = source
        self._at, self._ahead, self._next = 0, 1, -1
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    @property
    def name(self) -> str:
        """For messages of libraries."""
        return self._source.url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.bytes}[whence]
        if start + offset < 0:
            raise ValueError(f"{self.name}: there is no byte {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer, up to the end of the file: `io.RawIOBase` may give less, which libraries do not expect."""
        view = memoryview(buffer).cast("B")
        done, stop = 0, min(self._at + len(view), self._source.bytes)
        while self._at < stop:
            number, start = divmod(self._at, BLOCK)
            piece = self._block(number, (stop - 1) // BLOCK)[start : start + stop - self._at]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
        return done

    def _block(self, number: int, last: int) -> bytes:
        """A block. If it is not there, it is fetched with those up to `last`, or with some ahead."""
        if number not in self._blocks:
            self._ahead = min(2 * self._ahead, _AHEAD) if number == self._next else 1
            count = min(max(last - number + 1, self._ahead), _KEPT // 2)
            self._next = number + count
            found = self._source.read(number * BLOCK, min(self._next * BLOCK, self._source.bytes))
            for place in range(0, len(found), BLOCK):
                self._blocks[number + place // BLOCK] = found[place : place + BLOCK]
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
