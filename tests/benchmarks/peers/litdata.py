"""LitData: `optimize`, `StreamingDataset`, `StreamingDataLoader`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.full_size_build import RandomSamples
from tests.benchmarks.peers import Arguments, PeerBatch, decoded, stored
from tests.benchmarks.peers.torchvision_operators import define_operators

define_operators()

import litdata  # noqa: E402


class LitData:
    name = "LitData"
    notes = (
        "chunks of as many samples as our shards (270 MB; its FAQ wants 256 to 512 MB for samples of some MB), mapped",
        "into memory where they lie, as it does for a local folder; arrays as tensors, which it reads without a copy",
        "shuffle=True; our JPEG decoder in transform=: its own Jpeg type needs torchvision's, whose wheel needs CUDA;",
        "StreamingDataLoader, default collation; workers start anew each epoch, because persistent ones do not hear of",
        "the next epoch's order; resumes by state_dict / load_state_dict",
    )

    def __init__(self) -> None:
        self._loader: litdata.StreamingDataLoader | None = None

    def write(self, folder: Path, shards: int, shard_samples: int) -> None:
        self._folder = folder
        method = multiprocessing.get_start_method()
        litdata.optimize(
            fn=_tensors,
            inputs=list(range(shards * shard_samples)),
            output_dir=str(folder),
            chunk_size=shard_samples,
            num_workers=1,
        )
        multiprocessing.set_start_method(method, force=True)  # it leaves "spawn" behind, slower for everyone's workers

    def batches(self, batch: int, workers: int, seed: int) -> Iterator[PeerBatch]:
        self._arguments = Arguments(batch, workers, seed)
        return self._run(None)

    def state(self) -> Any:
        assert self._loader is not None
        return self._loader.state_dict()

    def resume(self, state: Any) -> Iterator[PeerBatch]:
        return self._run(state)

    def close(self) -> None:
        self._loader = None

    def _run(self, state: Any) -> Iterator[PeerBatch]:
        self.close()
        to = self._arguments
        dataset = litdata.StreamingDataset(str(self._folder), shuffle=True, seed=to.seed, transform=decoded)
        loader = self._loader = litdata.StreamingDataLoader(dataset, batch_size=to.batch, num_workers=to.workers)
        if state is not None:
            loader.load_state_dict(state)
        while True:
            yield from map(PeerBatch.of, loader)


def _tensors(index: int) -> dict[str, Any]:
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        for name, value in stored(_source(), index).items()
    }


@cache
def _source() -> RandomSamples:
    return RandomSamples()
