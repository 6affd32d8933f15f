"""Position -> sample: a pure function of (build fingerprint, seed, position).

Shards are permuted, samples are shuffled within blocks of shards, and the sequence is cut into C canonical streams. In
an epoch, position p belongs to stream p mod C. Epochs follow each other without a gap: running position P is position
P mod S of epoch P // S, where S is the number of samples. Every epoch holds every sample once for any batch size, and
a batch may span two epochs.

Rank r of W takes the positions P with P mod W == r of a batch that starts at a multiple of W. If W divides C, it owns
whole streams within an epoch, and any number of ranks sees the same global batches. The resume state is one integer.
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
        streams: C, the number of canonical streams; the number of ranks must divide it.
        block_shards: shards that are shuffled together; about streams x block_shards shards are open at once.

    Attributes:
        samples: S, samples of the split.

    Raises:
        SettingsError: a number is not positive, or there is no sample.
    """

    def __init__(
        self, shard_sizes: Sequence[int], fingerprint: str, seed: int, streams: int, block_shards: int
    ) -> None:
        for name, value in (("streams", streams), ("block_shards", block_shards), ("samples", sum(shard_sizes))):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        self._sizes = np.asarray(shard_sizes, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]]).astype(np.int64)
        self._identity = f"{fingerprint}:{seed}"
        self._block_shards = block_shards
        self.samples = int(self._sizes.sum())
        self.streams = streams
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._block = lru_cache(maxsize=4 * streams)(self._make_block)

    @property
    def open_shards(self) -> int:
        """Shards that one pass over the positions reads alternately."""
        return min(len(self._sizes), self.streams * (self._block_shards + 1))

    def check_ranks(self, world: int) -> None:
        """Raise SettingsError unless `world` ranks can own whole streams."""
        if self.streams % world:
            raise SettingsError(
                f"the {self.streams} streams cannot be divided among {world} ranks; set trainer.streams to a multiple"
            )

    def take(self, first: int, count: int, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
        """Sample indices at running positions first..first+count-1, of them those of one rank: int64 [count / world].

        A sample index counts over the split in manifest order.

        Args:
            first, count: multiples of `world`.
        """
        positions = np.arange(first + rank, first + count, world)
        epochs = positions // self.samples
        found = [self.samples_at(int(e), positions[epochs == e] - int(e) * self.samples) for e in np.unique(epochs)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

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
    """A permutation fixed by its name. NumPy guarantees raw Philox output across versions, unlike `permutation`."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.argsort(np.random.Philox(key=key).random_raw(length), kind="stable").astype(np.int64)
