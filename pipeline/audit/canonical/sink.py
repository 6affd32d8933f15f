"""A file that is written nowhere: what is written into it is compared with a file that is there, and forgotten."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa


class ComparingSink(io.RawIOBase):
    """Compares what is written, from the first byte on, with `expected`; the caller asks for the result at the end.

    What a writer passes on unchanged out of `expected` itself, at its own place there, is equal without being read.
    """

    def __init__(self, expected: pa.Buffer) -> None:
        super().__init__()
        self._expected = expected
        self._at = 0
        self._first: int | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: object) -> int:
        """Take the next bytes."""
        new = pa.py_buffer(data)
        if self._first is None and new.size:
            self._compare(new)
        self._at += new.size
        return int(new.size)

    def difference(self) -> str:
        """Where the file departs from what was written; "" when it is the same from the first byte to the last."""
        if self._first is None and self._at != self._expected.size:
            self._first = min(self._at, self._expected.size)
        if self._first is None:
            return ""
        return f"byte {self._first} is not as its content is written ({self._expected.size} bytes, expected {self._at})"

    def _compare(self, new: pa.Buffer) -> None:
        start = min(self._at, self._expected.size)
        here = self._expected.slice(start, min(new.size, self._expected.size - start))
        if here.size == new.size and (here.address == new.address or here.equals(new)):
            return
        size = min(here.size, new.size)
        has, wants = np.frombuffer(here, np.uint8, size), np.frombuffer(new, np.uint8, size)
        unequal = np.flatnonzero(has != wants)
        self._first = self._at + (int(unequal[0]) if len(unequal) else size)
