"""MosaicML Streaming: MDS shards, `StreamingDataset`, `StreamingDataLoader`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.full_size_build import SIZES, VIEWS, RandomSamples
from tests.benchmarks.peers import Arguments, PeerBatch, decoded, stored
from tests.benchmarks.peers.torchvision_operators import define_operators

define_operators()

from streaming import MDSWriter, StreamingDataLoader, StreamingDataset  # noqa: E402
from streaming.base.util import clean_stale_shared_memory  # noqa: E402

_STEP = f"{SIZES.views},{SIZES.tokens},{SIZES.width}"
_COLUMNS = {
    "key": "str",
    "json": "bytes",
    **dict.fromkeys(VIEWS, "bytes"),
    "context": f"ndarray:float16:{_STEP}",
    "latents": f"ndarray:float16:{SIZES.steps},{_STEP}",
    "latent_mask": f"ndarray:uint8:{SIZES.steps}",  # MDS has no bool
    "actions": f"ndarray:float32:{SIZES.chunk},{SIZES.action}",
    "action_mask": f"ndarray:uint8:{SIZES.chunk}",
}


class Mds:
    name = "MosaicML Streaming"
    notes = (
        "MDS shards of the default 64 MiB in a local folder, not compressed; arrays as `ndarray` of fixed shape",
        "shuffle=True with the default py1e over everything; our JPEG decoder in __getitem__; default collation",
        "StreamingDataLoader with persistent workers; resumes by state_dict / load_state_dict",
    )

    def __init__(self) -> None:
        self._loader: StreamingDataLoader | None = None

    def write(self, folder: Path, shards: int, shard_samples: int) -> None:
        self._folder = folder
        source = RandomSamples()
        with MDSWriter(out=str(folder), columns=_COLUMNS) as writer:
            for index in range(shards * shard_samples):
                sample = stored(source, index)
                masks = {name: sample[name].astype(np.uint8) for name in ("latent_mask", "action_mask")}
                writer.write(sample | masks)

    def batches(self, batch: int, workers: int, seed: int) -> Iterator[PeerBatch]:
        self._arguments = Arguments(batch, workers, seed)
        return self._run(None)

    def state(self) -> Any:
        assert self._loader is not None
        return self._loader.state_dict()

    def resume(self, state: Any) -> Iterator[PeerBatch]:
        return self._run(state)

    def close(self) -> None:
        self._loader = None  # its finaliser stops the workers
        clean_stale_shared_memory()

    def _run(self, state: Any) -> Iterator[PeerBatch]:
        self.close()
        to = self._arguments
        dataset = _Decoded(local=str(self._folder), shuffle=True, shuffle_seed=to.seed, batch_size=to.batch)
        loader = self._loader = StreamingDataLoader(
            dataset,
            batch_size=to.batch,
            num_workers=to.workers,
            persistent_workers=to.workers > 0,
            worker_init_fn=_without_warnings,
        )
        if state is not None:
            loader.load_state_dict(state)
        while True:
            yield from map(PeerBatch.of, loader)


class _Decoded(StreamingDataset):
    def __getitem__(self, at: int) -> dict[str, Any]:
        return decoded(super().__getitem__(at))


def _without_warnings(_: int) -> None:
    """Its arrays are read-only, of which PyTorch warns in every worker."""
    warnings.simplefilter("ignore")
