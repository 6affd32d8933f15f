"""An object that is sent while it is written, in parts. Nobody sees it before it is whole.

Little is kept in memory (some seven parts) and nothing on the disk. Parts that fail are repeated by the client; the
object as a whole cannot be, since what was sent is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PART = 8 * 2**20
"""Bytes of one part of a large object. S3 takes 10,000 of them, which is 80 GiB."""

IN_FLIGHT = 4
"""Parts that are sent at a time."""

_POLL_SECONDS = 0.1

Send = Callable[[Iterator[bytes]], None]
"""Sends parts as one object and returns when it is whole; an error of the parts undoes it, and is raised."""


class AbortedError(Exception):
    """The writer gave up."""


class Sent:
    """Size and MD5s of what is sent, given in pieces of any size."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[Any] = []

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes at the end."""
        view = memoryview(data)
        while len(view):
            if self.size % PART == 0:
                self._parts.append(hashlib.md5(usedforsecurity=False))
            piece = view[: PART - self.size % PART]
            self._parts[-1].update(piece)
            self.size += len(piece)
            view = view[len(piece) :]

    def etag(self) -> str:
        """MD5 in hex; of more than one part the MD5 of their MD5s and their number, as S3 makes its ETag."""
        if len(self._parts) < 2:
            return str((self._parts or [hashlib.md5(usedforsecurity=False)])[0].hexdigest())
        whole = hashlib.md5(b"".join(part.digest() for part in self._parts), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(self._parts)}"


class Upload(io.RawIOBase):
    """What is written is handed to `send` in parts, on a thread of its own, once it is more than one part.

    Attributes:
        sent: what was written so far.
    """

    def __init__(self, send: Send) -> None:
        super().__init__()
        self.sent = Sent()
        self._send = send
        self._buffer = bytearray()
        self._queue: queue.Queue[bytes | None] = queue.Queue(1)
        self._given_up, self._ended = threading.Event(), False
        self._thread: ThreadPoolExecutor | None = None
        self._done: Future[None] | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        """Raises what `send` raises."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = view.nbytes
        self.sent.update(view)
        while len(view):  # a batch of latents comes at once, and is not copied as a whole
            if len(self._buffer) == PART:
                self._hand_over(bytes(self._buffer))
                self._buffer.clear()
            taken = view[: PART - len(self._buffer)]
            self._buffer += taken
            view = view[len(taken) :]
        return size

    def finish(self) -> bytes | None:
        """Wait until the object is whole. What was written, if it is too little for parts: nothing was sent then.

        Raises what `send` raises.
        """
        if self._done is None:
            return bytes(self._buffer)
        try:
            with contextlib.closing(self):
                self._hand_over(bytes(self._buffer))
                self._hand_over(None)
                self._done.result()
        except BaseException:  # an interrupt too
            self.abort()
            raise
        return None

    def abort(self) -> None:
        """Make the store forget the parts."""
        self._given_up.set()
        self.close()

    def close(self) -> None:
        """Wait for what is being sent. What was not finished is given up."""
        self._buffer = bytearray()
        if not self._ended:
            self._given_up.set()
        if self._thread is not None:
            self._thread.shutdown()
        super().close()

    def _hand_over(self, part: bytes | None) -> None:
        """Raises what ended the thread, if it ended."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "upload")
            self._done = self._thread.submit(self._send, self._parts())
        assert self._done is not None
        while True:
            if self._done.done():
                self._done.result()
            with contextlib.suppress(queue.Full):
                self._queue.put(part, timeout=_POLL_SECONDS)
                self._ended = part is None
                return

    def _parts(self) -> Iterator[bytes]:
        while True:
            if self._given_up.is_set():
                raise AbortedError("its writer ended with an error")
            with contextlib.suppress(queue.Empty):
                part = self._queue.get(timeout=_POLL_SECONDS)
                if part is None:
                    return
                yield part
