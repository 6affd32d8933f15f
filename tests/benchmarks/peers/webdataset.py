"""WebDataset: tars with a `.npy` member for each array, its pipeline of stages, `WebLoader`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import default_collate

from tests.benchmarks.full_size_build import VIEWS
from tests.benchmarks.peers import Arguments, PeerBatch, assembled
from tests.benchmarks.webdataset_peer import write_tars

SHUFFLE_BUFFER = 64
"""Samples, 280 MB a worker. Its documentation writes 1000, which would be all the samples there are here."""


class WebDataset:
    name = "WebDataset"
    notes = (
        "tars, arrays as .npy; shards shuffled before workers share them, then samples in a buffer of 64 a worker,",
        'both by detshuffle, before decoding; decode("rgb8"), which is Pillow; default_collate of PyTorch;',
        "WebLoader with persistent workers; has no resuming: a fresh loader passes over the first half undecoded",
    )

    def __init__(self) -> None:
        self._loader: webdataset.WebLoader | None = None
        self._taken = 0

    def write(self, folder: Path, shards: int, shard_samples: int) -> None:
        self._tars = write_tars(folder, shards, shard_samples)
        self._samples = shards * shard_samples

    def batches(self, batch: int, workers: int, seed: int) -> Iterator[PeerBatch]:
        self._arguments = Arguments(batch, workers, seed)
        return self._run(0)

    def state(self) -> Any:
        return self._taken

    def resume(self, state: Any) -> Iterator[PeerBatch]:
        return self._run(state)

    def close(self) -> None:
        self._loader = None

    def _run(self, taken: int) -> Iterator[PeerBatch]:
        self.close()
        to = self._arguments
        if taken % max(1, to.workers):
            raise ValueError(
                f"resuming needs a multiple of {to.workers} batches, so that worker 0 is next, got {taken}"
            )
        self._loader = webdataset.WebLoader(
            self._pipeline(taken // max(1, to.workers) * to.batch),
            batch_size=None,
            num_workers=to.workers,
            persistent_workers=to.workers > 0,
        )
        self._taken = taken
        while True:
            for found in self._loader:
                self._taken += 1
                yield PeerBatch.of(found)

    def _pipeline(self, skip: int) -> webdataset.DataPipeline:
        to = self._arguments
        return webdataset.DataPipeline(
            webdataset.SimpleShardList(self._tars),
            webdataset.detshuffle(100, seed=to.seed),
            webdataset.split_by_worker,
            webdataset.tarfile_to_samples(),
            webdataset.detshuffle(SHUFFLE_BUFFER, SHUFFLE_BUFFER, seed=to.seed),
            _Skip(skip),
            webdataset.decode("rgb8"),
            webdataset.map(_sample),
            webdataset.batched(to.batch, collation_fn=default_collate),
        )


class _Skip:
    """Passes over the first samples of the first epoch, and of no other."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __call__(self, samples: Iterator[Any]) -> Iterator[Any]:
        count, self._count = self._count, 0
        return (sample for i, sample in enumerate(samples) if i >= count)


def _sample(members: dict[str, Any]) -> dict[str, Any]:
    arrays = {name.removesuffix(".npy"): value for name, value in members.items() if name.endswith(".npy")}
    return assembled(arrays, np.stack([members[f"{view}.jpg"] for view in VIEWS]), members["json"])
