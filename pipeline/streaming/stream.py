"""Builds + order + mixture -> batches, read ahead by threads.

Reading and copying release the interpreter lock, so threads overlap it with the training step without passing arrays
between processes. The batches are a pure function of the order: neither the number of threads nor a restart changes
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError
from pipeline.format.schema import Batch
from pipeline.streaming.mixture import Mixture
from pipeline.streaming.order import Order
from pipeline.streaming.reader import SampleReader

NumpyBatch = Batch[NDArray[Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class BuildBatch:
    """What one build gives to a step. `build` counts within the stream."""

    build: int
    batch: NumpyBatch


class Stream:
    """One rank's parts of the global batches of builds that share a batch.

    Args:
        readers, orders: one a build, of its train split.
        mixture: how many samples each gives to a step.
        rank, world: this rank and how many there are.
        threads: how many parts are read at the same time; 0 reads in the caller's thread.
        ahead: how many steps are kept ready or under way while the caller works on one.
        prefetch: how many steps ahead remote shards are asked for.

    Raises:
        SettingsError: ranks do not fit, or a build is smaller than what it gives to one step.
    """

    def __init__(
        self,
        readers: Sequence[SampleReader],
        orders: Sequence[Order],
        mixture: Mixture,
        rank: int = 0,
        world: int = 1,
        threads: int = 2,
        ahead: int = 4,
        prefetch: int = 64,
    ) -> None:
        if not 0 <= rank < world:
            raise SettingsError(f"rank must be 0..{world - 1}, got {rank}")
        if threads < 0 or ahead < 1:
            raise SettingsError(f"threads must be at least 0 and ahead at least 1, got {threads} and {ahead}")
        mixture.check_ranks(world)
        for i, (reader, order) in enumerate(zip(readers, orders, strict=True)):
            order.check_ranks(world)
            if order.samples < mixture.largest(i):
                raise SettingsError(
                    f"{reader.build.name}: {reader.split} has {order.samples} samples, fewer than the "
                    f"{mixture.largest(i)} it gives to one global batch; lower trainer.batch_size or its weight"
                )
        self.readers, self.orders, self.mixture = tuple(readers), tuple(orders), mixture
        self._rank, self._world = rank, world
        self._threads, self._ahead, self._prefetch = threads, ahead, prefetch

    def indices(self, step: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Build and sample indices of this rank's parts of a step, builds that give nothing left out."""
        shares = zip(self.orders, self.mixture.taken(step), self.mixture.counts(step), strict=True)
        return [
            (i, order.take(first, count, self._rank, self._world))
            for i, (order, first, count) in enumerate(shares)
            if count
        ]

    def parts(self, step: int) -> list[BuildBatch]:
        """This rank's parts of the global batch of a step, read now."""
        return [BuildBatch(i, self.readers[i].read(chosen)) for i, chosen in self.indices(step)]

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[list[BuildBatch]]:
        """The parts of steps start..stop-1, without end if stop is None."""
        steps = iter(range(start, stop)) if stop is not None else _count(start)
        if self._threads == 0:
            yield from map(self.parts, steps)
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="stream") as pool:
            work = _read_ahead(steps, lambda step: self._submit(pool, step), self._ahead)
            try:
                for futures in work:
                    yield [BuildBatch(i, future.result()) for i, future in futures]
            finally:
                work.close()

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list[tuple[int, Future[NumpyBatch]]]:
        self._ask_for_shards(step + self._prefetch)
        return [(i, pool.submit(self.readers[i].read, chosen)) for i, chosen in self.indices(step)]

    def _ask_for_shards(self, step: int) -> None:
        if any(reader.remote for reader in self.readers):
            for i, chosen in self.indices(step):
                self.readers[i].prefetch(chosen)


def ordered_batches(reader: SampleReader, batch_size: int, limit: int | None = None) -> Iterator[NumpyBatch]:
    """All samples of a split in manifest order, the last batch shorter; for held-out losses.

    Args:
        limit: take this many samples, evenly spread over the split.
    """
    for chosen in ordered_indices(len(reader), batch_size, limit):
        yield reader.read(chosen)


def ordered_indices(samples: int, batch_size: int, limit: int | None = None) -> list[NDArray[np.int64]]:
    """Sample indices of the batches of `ordered_batches`."""
    count = samples if limit is None else min(limit, samples)
    indices = np.arange(count, dtype=np.int64) * samples // max(1, count)
    return [indices[start : start + batch_size] for start in range(0, count, batch_size)]


def _read_ahead(
    steps: Iterator[int], submit: Callable[[int], list[tuple[int, Future[T]]]], ahead: int
) -> Generator[list[tuple[int, Future[T]]]]:
    """What `submit` gives for each step in order, `ahead` steps early; what was not taken is cancelled at the end."""
    waiting: deque[list[tuple[int, Future[T]]]] = deque()
    try:
        for step in steps:
            waiting.append(submit(step))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for futures in waiting:
            for _, future in futures:
                future.cancel()


def _count(start: int) -> Iterator[int]:
    while True:
        yield start
        start += 1
