"""Full-size samples from local shards into batches, against the read system call alone and against WebDataset.

Every contender reads files that lie in the page cache, so what is measured is the work of the processor.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.build import Build
from pipeline.format.enums import Verify
from pipeline.shards.targets_arrow import TargetsReader
from pipeline.streaming.buffers import BufferPool
from pipeline.streaming.mixture import Mixture
from pipeline.streaming.order import Order
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import Stream
from tests.benchmarks import webdataset_peer
from tests.benchmarks.full_size_build import SIZES, RandomSamples, write_full_size_build
from tests.benchmarks.report import Series, Target, interleaved, print_table, seconds_of

STEP_BYTES = SIZES.views * SIZES.tokens * SIZES.width * 2
SAMPLE_BYTES = (SIZES.steps + 1) * STEP_BYTES
PLAIN_SHARE = 0.65
WEBDATASET_FACTOR = 4.0
ONCE_SHARE = 0.95


@dataclass(frozen=True)
class Scale:
    """The build, and the samples of a batch; a shard has whole batches."""

    shards: int = 8
    shard_samples: int = 64
    batch: int = 16

    @property
    def samples(self) -> int:
        return self.shards * self.shard_samples

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.samples // self.batch

    @property
    def batch_bytes(self) -> int:
        return self.batch * SAMPLE_BYTES


TINY = Scale(shards=2, shard_samples=4, batch=2)


@dataclass(frozen=True)
class _Data:
    """The same samples as our build, as WebDataset's tars, and how many there are."""

    build: Build
    tars: list[str]
    scale: Scale

    def files(self, *kinds: str) -> list[Path]:
        """Paths of shard files of these kinds, shard by shard."""
        return [self.build.path / shard[kind]["file"] for shard in self.build.manifest["shards"] for kind in kinds]

    def order(self) -> Order:
        return Order(
            [self.scale.shard_samples] * self.scale.shards, self.build.fingerprint, 0, streams=64, block_shards=4
        )

    def stream(self, reader: SampleReader, threads: int) -> Iterator[Any]:
        return Stream([reader], [self.order()], Mixture([1], self.scale.batch), threads=threads).batches(
            0, self.scale.steps
        )

    def webdataset(self, workers: int, targets_only: bool) -> Iterator[Any]:
        return webdataset_peer.batches(self.tars, self.scale.batch, workers, targets_only)

    def consume(self, found: Iterator[Any]) -> None:
        """Take every batch of an epoch."""
        count = sum(1 for _ in found)
        if count != self.scale.steps:
            raise RuntimeError(f"{count} batches came, {self.scale.steps} were expected")

    def rates(self, runs: dict[str, Callable[[], None]], repeats: int) -> list[Series]:
        """GiB of latents a second of each contender, after one untimed round that warms the page cache."""
        for run in runs.values():
            run()
        size = self.scale.samples * SAMPLE_BYTES / 2**30
        timed = {name: lambda run=run: size / seconds_of(run) for name, run in runs.items()}
        return list(interleaved(timed, repeats).values())


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Measure and print the two tables, targets only and whole samples."""
    build = write_full_size_build(folder / "build", scale.shards, scale.shard_samples)
    tars = webdataset_peer.write_tars(folder / "webdataset", scale.shards, scale.shard_samples)
    data = _Data(build, tars, scale)
    _targets_only(data, repeats)
    _whole_samples(data, repeats)


def _targets_only(data: _Data, repeats: int) -> None:
    scale, files = data.scale, data.files("targets")
    huge, small = _buffer(_huge_pages(scale.batch_bytes)), _buffer(_small_pages(scale.batch_bytes))
    later = _TargetsPass(data)
    rates = data.rates(
        {
            "plain sequential read": lambda: _plain_read(files, huge),
            "plain sequential read, 4 KiB pages": lambda: _plain_read(files, small),
            "ours, later passes": later.run,
            "ours, first pass of a fresh reader": lambda: _TargetsPass(data).run(),
            "WebDataset": lambda: data.consume(data.webdataset(0, targets_only=True)),
        },
        repeats,
    )
    plain, small_pages, ours, first, peer = rates
    print_table(
        f"Streaming, targets only: {scale.samples} samples of {SAMPLE_BYTES / 2**20:.0f} MiB, "
        f"batches of {scale.batch}, one thread",
        "GiB/s",
        rates,
        [
            Target(ours.over(plain, "later passes / plain read"), PLAIN_SHARE),
            Target(ours.over(small_pages, "later passes / plain read, 4 KiB pages"), PLAIN_SHARE),
            Target(first.over(plain, "first pass / plain read"), PLAIN_SHARE),
            Target(ours.over(peer, "later passes / WebDataset"), WEBDATASET_FACTOR),
        ],
        ["files in the page cache; ours in shuffled order, the others front to back"],
    )


def _whole_samples(data: _Data, repeats: int) -> None:
    build, files, source = data.build, data.files("inputs", "targets"), RandomSamples()
    jpegs = [image for i in range(data.scale.samples) for image in source.inputs(i).images]
    buffer = _buffer(_huge_pages(data.scale.batch_bytes))
    reader, verifying, once = (
        SampleReader(build, "train", verify=verify) for verify in (Verify.OFF, Verify.EVERY_SAMPLE, Verify.ONCE)
    )
    data.consume(data.stream(once, 0))
    rates = data.rates(
        {
            "plain sequential read of all bytes": lambda: _plain_read(files, buffer),
            "the same, and Pillow decoding the JPEGs": lambda: _plain_read_and_decode(files, jpegs, buffer),
            "ours, 0 threads, later passes": lambda: data.consume(data.stream(reader, 0)),
            "ours, 0 threads, first pass": lambda: data.consume(
                data.stream(SampleReader(build, "train", verify=Verify.OFF), 0)
            ),
            "ours, 2 threads, later passes": lambda: data.consume(data.stream(reader, 2)),
            "ours, 2 threads, every sample hashed": lambda: data.consume(data.stream(verifying, 2)),
            "ours, 2 threads, verified once before": lambda: data.consume(data.stream(once, 2)),
            "WebDataset, in this process": lambda: data.consume(data.webdataset(0, False)),
            "WebDataset, 2 worker processes": lambda: data.consume(data.webdataset(2, False)),
        },
        repeats,
    )
    plain, limit, ours, first, threads, hashed, verified, peer, peer_workers = rates
    print_table(
        f"Streaming, whole samples: {SIZES.views} JPEG of {SIZES.image_size} px, JSON, masks and actions as well",
        "GiB/s",
        rates,
        [
            Target(ours.over(limit, "0 threads / plain read and JPEG decoding"), PLAIN_SHARE),
            Target(first.over(limit, "0 threads, first pass / plain read and JPEG decoding"), PLAIN_SHARE),
            threads.over(plain, "2 threads with / plain read without JPEG decoding"),
            Target(ours.over(peer, "0 threads / WebDataset in this process"), WEBDATASET_FACTOR),
            Target(threads.over(peer_workers, "2 threads / WebDataset with 2 workers"), WEBDATASET_FACTOR),
            hashed.over(threads, "2 threads, every sample hashed / not hashed"),
            Target(verified.over(threads, "2 threads, verified once (the trainer's default) / not hashed"), ONCE_SHARE),
        ],
        ["GiB/s count the latents alone; WebDataset decodes the same JPEGs with the same Pillow"],
    )


class _TargetsPass:
    """What SampleReader does for the latents of a batch, without its inputs."""

    def __init__(self, data: _Data) -> None:
        self._scale, self._order = data.scale, data.order()
        self._shards = [TargetsReader(file, SIZES) for file in data.files("targets")]
        self._pool = BufferPool(_huge_pages)

    def run(self) -> None:
        step_shape, batch = (SIZES.views, SIZES.tokens, SIZES.width), self._scale.batch
        for step in range(self._scale.steps):
            context = self._pool.array((batch, *step_shape), np.float16)
            latents = self._pool.array((batch, SIZES.steps, *step_shape), np.float16)
            for i, index in enumerate(self._order.take(step * batch, batch)):
                shard, row = divmod(int(index), self._scale.shard_samples)
                self._shards[shard].read_into(row, context=context[i], latents=latents[i])


def _plain_read(files: Sequence[Path], buffer: NDArray[np.uint8]) -> None:
    """Read files front to back, a batch buffer at a time."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            while os.readv(descriptor, [buffer.data]):
                pass
        finally:
            os.close(descriptor)


def _plain_read_and_decode(files: Sequence[Path], jpegs: Sequence[bytes], buffer: NDArray[np.uint8]) -> None:
    """The least work that yields latents and pixels: the plain read, and Pillow on JPEGs that are in memory already."""
    _plain_read(files, buffer)
    pixels = np.empty((SIZES.image_size, SIZES.image_size, 3), np.uint8)
    for data in jpegs:
        pixels[:] = np.asarray(Image.open(io.BytesIO(data)))


def _buffer(pages: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pages[:] = 0  # every page is there before the clock runs
    return pages


def _huge_pages(size: int) -> NDArray[np.uint8]:
    memory = _private_memory(size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def _small_pages(size: int) -> NDArray[np.uint8]:
    memory = _private_memory(size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.uint8)


def _private_memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
