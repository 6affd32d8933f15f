"""Memory for what is decoded and not yet encoded, of one encoder."""

from __future__ import annotations

import threading


class DecodedAhead:
    """Bytes that may be decoded ahead by all shards of an encoder together.

    A group whose size cannot be known before it is decoded (episodes of unknown length, every frame a window) counts
    as the largest seen so far, and before there is one as all of the limit. What has arrived counts as it is.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._used, self._largest, self._lock = limit, 0, 0, threading.Lock()

    def take(self, size: int | None, must: bool) -> int | None:
        """Reserve memory for a group.

        Args:
            size: bytes; None: not known.
            must: the shard cannot go on without it, so it gets what it needs.

        Returns:
            What was reserved, to be given back; None: there is no room.
        """
        with self._lock:
            wanted = size if size is not None else self._largest or self._limit
            if not must and self._used + wanted > self._limit:
                return None
            self._used += wanted
            return wanted

    def arrived(self, reserved: int, size: int) -> int:
        """A group is there: count its own bytes. Returns what is to be given back for it now."""
        with self._lock:
            self._largest = max(self._largest, size)
            self._used += size - reserved
            return size

    def give(self, size: int) -> None:
        """A group is done with, or is not wanted any more."""
        with self._lock:
            self._used -= size
