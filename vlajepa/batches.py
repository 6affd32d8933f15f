"""A build as a dataset of PyTorch: the batches of the trainer, to the byte, from any number of worker processes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.data import IterableDataset, get_worker_info

from jobs.training.builds.open_builds import AuditedBuild
from jobs.training.loop.data import held_out_reader, make_streams, open_cache
from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import TrainerSettings
from model.batch import NumpyBatch, TorchBatch, to_device
from pipeline.errors import SettingsError
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import Stream, ordered_indices

_CPU = torch.device("cpu")


class Batches(IterableDataset[TorchBatch]):
    """The batches of a split, in order; for `DataLoader(batches, batch_size=None, num_workers=…)`.

    Item: a `pipeline.format.schema.Batch` of tensors on the CPU; latents are float16, whatever the build stores. Every
    sample is compared with what was audited while it is read.

    Split "train" comes in the order in which a `vlajepa train` of this build alone, with this seed and batch size, sees
    it, every sample once an epoch; other splits come in the order of the build. The last batch may be shorter. Worker
    processes take turns, so their number changes nothing.

    Args:
        audited: a build that passed the gate. `OpenBuild.batches` gives it and the next.
        settings: how its samples are read.
        split: "train", "val" or "test".
        batch_size: samples in a batch.
        seed: of the order of "train".
        epochs: how often every sample comes.

    Raises:
        SettingsError: a number is not positive, or the split has fewer samples than a batch.
        BuildError: there is no such split.
        CorruptError, while batches are read: a sample is not what was audited.
    """

    def __init__(
        self,
        audited: AuditedBuild,
        settings: TrainerSettings,
        split: str = "train",
        batch_size: int = 32,
        seed: int = 0,
        epochs: int = 1,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("epochs", epochs)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        self._build, self._split, self._epochs = audited.build, split, epochs
        self._settings = replace(settings, batch_size=batch_size, seed=seed)
        self.samples = len(self._reader())
        if batch_size > self.samples:
            raise SettingsError(
                f"{self._build.name}: {split} has {self.samples:,} samples, fewer than batch_size={batch_size}"
            )

    def __len__(self) -> int:
        """Batches."""
        return -(-self._epochs * self.samples // self._settings.batch_size)

    def __iter__(self) -> Iterator[TorchBatch]:
        views = self._build.sizes.views
        for batch in self._train() if self._split == "train" else self._in_order():
            yield to_device(batch, _CPU, views)

    def _in_order(self) -> Iterator[NumpyBatch]:
        reader, first, apart = self._reader(), *_turn()
        once = ordered_indices(self.samples, self._settings.batch_size)
        for indices in (once * self._epochs)[first::apart]:
            yield reader.read(indices)

    def _train(self) -> Iterator[NumpyBatch]:
        first, apart = _turn()
        whole, rest = divmod(self._epochs * self.samples, self._settings.batch_size)
        stream = self._stream()
        if apart == 1:
            yield from (found[0].batch for found in stream.batches(0, whole))  # read ahead by threads
        else:
            yield from (stream.build_batches(step)[0].batch for step in range(first, whole, apart))
        if rest and whole % apart == first:
            start = whole * self._settings.batch_size
            yield stream.readers[0].read(stream.orders[0].take(start, rest))

    def _stream(self) -> Stream:
        cache = open_cache([self._build], self._settings)
        (stream,) = make_streams([self._build], [], self._settings, Ranks(0, 1, 1, _CPU), cache)
        return stream

    def _reader(self) -> SampleReader:
        return held_out_reader(self._build, self._settings, open_cache([self._build], self._settings), self._split)


def _turn() -> tuple[int, int]:
    """The first batch of this worker process, and how many lie between two of its own."""
    worker = get_worker_info()
    if worker is None:
        return 0, 1
    # What the parent left as garbage must not be freed here: a decoder would wait for threads that no fork takes over
    gc.freeze()
    return worker.id, worker.num_workers
