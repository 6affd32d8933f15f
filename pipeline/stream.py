"""Build + order -> batches, read ahead by threads.

Reading and copying release the interpreter lock, so threads overlap it with the training step without passing arrays
between processes. The batches are a pure function of the order: neither the number of threads nor a restart changes
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.order import Order
from pipeline.reader import SampleReader
from pipeline.schema import Batch


class Stream:
    """Batches of one rank.

    Args:
        rank, world: this rank and how many there are.
        threads: how many batches are read at the same time; 0 reads in the caller's thread.
        ahead: how many batches are kept ready or under way while the caller works on one.
    """

    def __init__(
        self, reader: SampleReader, order: Order, rank: int = 0, world: int = 1, threads: int = 2, ahead: int = 4
    ) -> None:
        if not 0 <= rank < world:
            raise SettingsError(f"rank must be 0..{world - 1}, got {rank}")
        if threads < 0 or ahead < 1:
            raise SettingsError(f"threads must be at least 0 and ahead at least 1, got {threads} and {ahead}")
        order.check_ranks(world)
        self.reader = reader
        self.order = order
        self._rank = rank
        self._world = world
        self._threads = threads
        self._ahead = ahead

    def batch(self, step: int) -> Batch[NDArray[Any]]:
        """This rank's part of the global batch of a step, read now."""
        return self.reader.read(self.order.batch(step, self._rank, self._world))

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[Batch[NDArray[Any]]]:
        """Batches of steps start..stop-1, without end if stop is None."""
        steps = iter(range(start, stop)) if stop is not None else _count(start)
        if self._threads == 0:
            yield from map(self.batch, steps)
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="stream") as pool:
            waiting: deque[Future[Batch[NDArray[Any]]]] = deque()
            try:
                for step in steps:
                    waiting.append(pool.submit(self.batch, step))
                    if len(waiting) > self._ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def ordered_batches(reader: SampleReader, batch_size: int, limit: int | None = None) -> Iterator[Batch[NDArray[Any]]]:
    """All samples of a split in manifest order, the last batch shorter; for held-out losses.

    Args:
        limit: take this many samples, evenly spread over the split.
    """
    count = len(reader) if limit is None else min(limit, len(reader))
    indices = np.arange(count, dtype=np.int64) * len(reader) // max(1, count)
    for start in range(0, count, batch_size):
        yield reader.read(indices[start : start + batch_size])


def _count(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1
