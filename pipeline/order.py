"""Position -> sample: a pure function of (build fingerprint, seed, epoch, position).

Shards are permuted, shuffled within blocks of shards, and the shuffled sequence is cut into C canonical streams;
position p belongs to stream p mod C. Rank r of W takes the positions p with p mod W == r, so with W dividing C a rank
owns whole streams, and any number of ranks sees the same global batches. The resume state is one integer, the step.

The global batch of step t holds positions (t mod E) G .. (t mod E) G + G - 1 of epoch t // E, where G is the global
batch size and E = samples // G. The samples % G positions at the end of an epoch's order are not used in that epoch;
which samples these are changes from epoch to epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingsError


class Order:
    """The order of the samples of one split.

    Args:
        shard_sizes: samples of each shard, in the order of the manifest.
        fingerprint: of the build.
        seed: of the run.
        batch_size: G, the global batch size.
        streams: C, the number of canonical streams; the number of ranks must divide it.
        block_shards: shards that are shuffled together; about streams x block_shards shards are open at once.

    Raises:
        SettingsError: the split is smaller than one global batch, or a number is not positive.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        fingerprint: str,
        seed: int,
        batch_size: int,
        streams: int = 64,
        block_shards: int = 4,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("streams", streams), ("block_shards", block_shards)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        self._sizes = np.asarray(shard_sizes, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]]).astype(np.int64)
        self._identity = f"{fingerprint}:{seed}"
        self._block_shards = block_shards
        self.samples = int(self._sizes.sum())
        self.batch_size = batch_size
        self.streams = streams
        if self.samples < batch_size:
            raise SettingsError(f"the split has {self.samples} samples, fewer than one global batch of {batch_size}")
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._block = lru_cache(maxsize=4 * streams)(self._make_block)

    @property
    def steps_per_epoch(self) -> int:
        """E, whole global batches in an epoch."""
        return self.samples // self.batch_size

    @property
    def open_shards(self) -> int:
        """Shards that one pass over the positions keeps coming back to."""
        return min(len(self._sizes), self.streams * (self._block_shards + 1))

    def check_ranks(self, world: int) -> None:
        """Raise SettingsError unless `world` ranks can own whole streams and equal parts of a batch."""
        if self.streams % world or self.batch_size % world:
            raise SettingsError(
                f"{world} ranks must divide both the {self.streams} streams and the global batch of {self.batch_size}"
            )

    def batch(self, step: int, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
        """Sample indices of one rank's part of the global batch of a step, int64 [G / world].

        A sample index counts over the split in manifest order.
        """
        epoch, inner = divmod(step, self.steps_per_epoch)
        first = inner * self.batch_size
        return self.samples_at(epoch, np.arange(first + rank, first + self.batch_size, world))

    def samples_at(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sample indices at positions 0..samples-1 of an epoch: a bijection."""
        stream, offset = positions % self.streams, positions // self.streams
        short, longer = divmod(self.samples, self.streams)
        sequence = stream * short + np.minimum(stream, longer) + offset
        starts = self._epoch(epoch)[1]
        which = np.searchsorted(starts, sequence, side="right") - 1
        out = np.empty(len(positions), np.int64)
        for block in np.unique(which):
            mine = which == block
            out[mine] = self._block(epoch, int(block))[sequence[mine] - starts[block]]
        return out

    def _make_epoch(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """Shards of each block, and the position in the shuffled sequence where each block starts."""
        shards = _permutation(len(self._sizes), f"{self._identity}:{epoch}:shards")
        blocks = [shards[i : i + self._block_shards] for i in range(0, len(shards), self._block_shards)]
        sizes = [int(self._sizes[block].sum()) for block in blocks]
        return blocks, np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    def _make_block(self, epoch: int, block: int) -> NDArray[np.int64]:
        """Shuffled sample indices of one block."""
        shards = self._epoch(epoch)[0][block]
        samples = np.concatenate([self._starts[s] + np.arange(self._sizes[s]) for s in shards])
        return samples[_permutation(len(samples), f"{self._identity}:{epoch}:block:{block}")]


def _permutation(length: int, name: str) -> NDArray[np.int64]:
    """A permutation fixed by its name for good: numpy guarantees raw Philox output, not `Generator.permutation`."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.argsort(np.random.Philox(key=key).random_raw(length), kind="stable").astype(np.int64)
