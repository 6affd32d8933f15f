"""Megatron-Energon: WebDataset tars made ready by `energon prepare`, a cooker, the savable loader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.full_size_build import VIEWS
from tests.benchmarks.peers import Arguments, PeerBatch, assembled
from tests.benchmarks.peers.torchvision_operators import define_operators
from tests.benchmarks.webdataset_peer import write_tars

define_operators()

from megatron.energon import (  # noqa: E402
    Batch,
    Cooker,
    DefaultTaskEncoder,
    Sample,
    SampleDecoder,
    SavableDataLoader,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_savable_loader,
    get_train_dataset,
    stateless,
)
from megatron.energon.tools.prepare import command as prepare  # noqa: E402

SHUFFLE_BUFFER = 64


@edataclass
class _Cooked(Sample):
    instruction: str
    images: Tensor
    state: Tensor
    context: Tensor
    latents: Tensor
    latent_mask: Tensor
    actions: Tensor
    action_mask: Tensor


_NAMES = ("instruction", "images", "state", "context", "latents", "latent_mask", "actions", "action_mask")


@stateless
def _cook(members: dict[str, Any]) -> _Cooked:
    arrays = {name.removesuffix(".npy"): value for name, value in members.items() if name.endswith(".npy")}
    found = assembled(arrays, np.stack([members[f"{view}.jpg"] for view in VIEWS]), members["json"])
    del found["key"]
    tensors = {name: value if isinstance(value, str) else torch.from_numpy(value) for name, value in found.items()}
    return _Cooked(**basic_sample_keys(members), **tensors)


@edataclass
class _Stacked(Batch):
    batch: dict[str, Any]


class _Encoder(DefaultTaskEncoder[_Cooked, _Cooked, _Stacked, _Stacked]):
    cookers = (Cooker(_cook),)
    decoder = SampleDecoder(image_decode="rgb8")

    @stateless
    def batch(self, samples: list[_Cooked]) -> _Stacked:
        """One torch.stack an array; the default pads with zeros first."""
        columns = {name: [getattr(sample, name) for sample in samples] for name in _NAMES}
        stacked = {name: torch.stack(column) for name, column in columns.items() if name != "instruction"}
        keys = [sample.__key__ for sample in samples]
        restore = tuple(sample.__restore_key__ for sample in samples)
        batch = stacked | {"key": keys, "instruction": columns["instruction"]}
        return _Stacked(__key__=keys, __restore_key__=restore, batch=batch)


class Energon:
    name = "Megatron-Energon"
    notes = (
        "the tars of WebDataset after `energon prepare`; CrudeWebdataset, a cooker, torch.stack as batch();",
        f"shards shuffled, samples in a buffer of {SHUFFLE_BUFFER} a worker; image_decode='rgb8', which is Pillow;",
        "savable loader; resumes by save_state_rank / restore_state_rank: a snapshot of each worker, and what was read",
        "since to be read again. Snapshots are 60 s apart by default; here one a batch, which favours resuming.",
        "It repeats without end: its buffer mixes the end of an epoch with the beginning of the next",
    )

    def __init__(self) -> None:
        self._loader: SavableDataLoader[Any] | None = None

    def write(self, folder: Path, shards: int, shard_samples: int) -> None:
        self._folder = folder
        write_tars(folder, shards, shard_samples)
        arguments = ["--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset"]
        prepare.main([str(folder), *arguments, "--num-workers", "2", "--no-progress"], standalone_mode=False)

    def batches(self, batch: int, workers: int, seed: int) -> Iterator[PeerBatch]:
        self._arguments = Arguments(batch, workers, seed)
        return self._run(None)

    def state(self) -> Any:
        assert self._loader is not None
        return self._loader.save_state_rank()

    def resume(self, state: Any) -> Iterator[PeerBatch]:
        return self._run(state)

    def close(self) -> None:
        self._loader = None

    def _run(self, state: Any) -> Iterator[PeerBatch]:
        self.close()
        to = self._arguments
        dataset = get_train_dataset(
            str(self._folder),
            worker_config=WorkerConfig(rank=0, world_size=1, num_workers=to.workers, seed_offset=to.seed),
            batch_size=to.batch,
            shuffle_buffer_size=SHUFFLE_BUFFER,
            max_samples_per_sequence=None,
            task_encoder=_Encoder(),
        )
        loader = self._loader = get_savable_loader(dataset, checkpoint_every_sec=0, checkpoint_every_min_n_samples=1)
        if state is not None:
            loader.restore_state_rank(state)
        for found in loader:
            yield PeerBatch.of(found.batch)
