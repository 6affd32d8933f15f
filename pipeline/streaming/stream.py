"""Builds + order + mixture -> batches, read ahead by threads.

Reading and copying release the interpreter lock, so threads overlap them with the training step, and no arrays pass
between processes. The batches depend only on the order, not on the number of threads or on restarts.
"""

from __future__ import annotations

import itertools
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
    """The samples of one build in a step. `build` is its index in the stream."""

    build: int
    batch: NumpyBatch


class Stream:
    """One rank's share of the global batches of several builds.

    Args:
        readers, orders: one per build, of its train split.
        mixture: samples of each build in a step.
        rank, world: this rank, and the number of ranks.
        threads: build batches read at the same time; 0 reads in the caller's thread.
        ahead: steps that are ready or being read while the caller works on one.
        prefetch: steps between the request for a remote shard and its use.

    Raises:
        SettingsError: the ranks do not divide the batch, or a build is smaller than its share of one step.
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
        """Build and sample indices of this rank in a step, without builds that have no sample in it."""
        shares = zip(self.orders, self.mixture.taken(step), self.mixture.counts(step), strict=True)
        return [
            (i, order.take(first, count, self._rank, self._world))
            for i, (order, first, count) in enumerate(shares)
            if count
        ]

    def build_batches(self, step: int) -> list[BuildBatch]:
        """This rank's share of the global batch of a step, read in the caller's thread."""
        return [BuildBatch(i, self.readers[i].read(chosen)) for i, chosen in self.indices(step)]

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[list[BuildBatch]]:
        """This rank's share of steps start..stop-1; endless if stop is None."""
        steps = iter(range(start, stop)) if stop is not None else itertools.count(start)
        if self._threads == 0:
            yield from map(self.build_batches, steps)
            return
        with ThreadPoolExecutor(self._threads, thread_name_prefix="stream") as pool:
            work = _read_ahead(steps, lambda step: self._submit(pool, step), self._ahead)
            try:
                for futures in work:
                    yield [BuildBatch(i, future.result()) for i, future in futures]
            finally:
                work.close()

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list[tuple[int, Future[NumpyBatch]]]:
        self._prefetch_shards(step + self._prefetch)
        return [(i, pool.submit(self.readers[i].read, chosen)) for i, chosen in self.indices(step)]

    def _prefetch_shards(self, step: int) -> None:
        if any(reader.remote for reader in self.readers):
            for i, chosen in self.indices(step):
                self.readers[i].prefetch(chosen)


def ordered_indices(samples: int, batch_size: int, limit: int | None = None) -> list[NDArray[np.int64]]:
    """Sample indices of batches in manifest order, for held-out losses; the last batch may be shorter.

    Args:
        limit: use this many samples, evenly spread over the split; None: all.
    """
    count = samples if limit is None else min(limit, samples)
    indices = np.arange(count, dtype=np.int64) * samples // max(1, count)
    return [indices[start : start + batch_size] for start in range(0, count, batch_size)]


def _read_ahead(
    steps: Iterator[int], submit: Callable[[int], list[tuple[int, Future[T]]]], ahead: int
) -> Generator[list[tuple[int, Future[T]]]]:
    """The results of `submit` for each step in order, submitted `ahead` steps early. Cancels the rest."""
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
