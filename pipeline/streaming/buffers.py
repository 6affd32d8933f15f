"""Reused memory for the large arrays of a batch."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Allocate = Callable[[int], NDArray[np.uint8]]
"""Size in bytes -> a buffer; the trainer passes a function that allocates pinned memory."""


class BufferPool:
    """Memory for large arrays, reused once nothing refers to an array.

    Fresh memory of this size costs a page fault every 4 KiB, about as much as the copy itself. Every array, view or
    tensor made from an array keeps it alive, so a buffer is never reused while it is read. An unfinished copy to a
    device does not keep it alive: hold the batch until the copy is done.
    """

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._free: dict[int, list[NDArray[np.uint8]]] = {}  # no lock: a finaliser may run inside any operation

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An uninitialised array."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        try:
            buffer = self._free.setdefault(size, []).pop()
        except IndexError:
            buffer = self._allocate(size)
        out = np.frombuffer(buffer.data, kind).reshape(shape)  # through a memoryview: its base is not `buffer` itself
        owner = out.base
        assert isinstance(owner, np.ndarray)
        weakref.finalize(owner, self._release, size, buffer)
        return out

    def _release(self, size: int, buffer: NDArray[np.uint8]) -> None:
        self._free[size].append(buffer)


def allocate_pages(size: int) -> NDArray[np.uint8]:
    """Anonymous memory, in huge pages if the system supports them."""
    # Private: Linux ignores the advice for shared mappings, Python's default.
    memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)[:size]
