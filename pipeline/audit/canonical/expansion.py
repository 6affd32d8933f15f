"""Files that hold more than their bytes: a few kilobytes of Parquet or Arrow may expand to more than the machine has.

What a page or a record batch expands to is known only once it is decoded, so decoding is given a bounded room: past it
the library reports that there is no memory, which is a fault of the file and no end of the audit.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

ROOM = 8 * 2**30
"""Bytes that decoding one batch may need beyond what the process has."""

_lock = threading.Lock()
_inside: list[tuple[int, int]] = []
"""The limits before, once for each thread that decodes."""


@contextmanager
def bounded_memory(room: int | None = None) -> Iterator[None]:
    """The process cannot grow by more than `room` bytes (None: `ROOM`) meanwhile; whoever asks for more is refused
    (MemoryError)."""
    with _lock:
        before = resource.getrlimit(resource.RLIMIT_AS)
        if not _inside:
            _limit(_in_use() + (ROOM if room is None else room), before)
        _inside.append(_inside[0] if _inside else before)
    try:
        yield
    finally:
        with _lock:
            outer = _inside.pop()
            if not _inside:
                resource.setrlimit(resource.RLIMIT_AS, outer)


def record_batches(reader: pa.ipc.RecordBatchFileReader, size: int) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file of so many bytes, in order.

    Raises:
        pa.ArrowException, OSError: one cannot be read; or together they are larger than the file, as compressed ones
            are, and one that is listed often.
    """
    held = 0
    for i in range(reader.num_record_batches):
        with bounded_memory():
            batch = reader.get_batch(i)
        held += batch.get_total_buffer_size()
        if held > size:
            raise pa.ArrowInvalid(f"its record batches hold more than its {size} bytes; it may not be compressed")
        yield batch


def _in_use() -> int:
    """Bytes of address space of the process; so many that nothing is limited where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**62


def _limit(size: int, before: tuple[int, int]) -> None:
    soft, hard = before
    lowest = [limit for limit in (size, soft, hard) if limit != resource.RLIM_INFINITY]
    if size < 2**62:
        resource.setrlimit(resource.RLIMIT_AS, (min(lowest), hard))
