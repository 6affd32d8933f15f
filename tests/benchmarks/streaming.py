"""Full-size samples from local shards into batches, against the read system call alone and against WebDataset.

Every contender reads files that lie in the page cache, so what is measured is the work of the processor.
"""

from __future__ import annotations

import io
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.build import Build
from pipeline.shards.targets_arrow import TargetsReader
from pipeline.streaming.buffers import BufferPool
from pipeline.streaming.mixture import Mixture
from pipeline.streaming.order import Order
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import Stream
from tests.benchmarks import webdataset_peer
from tests.benchmarks.full_size_build import SIZES, RandomSamples, write_full_size_build
from tests.benchmarks.report import Series, Target, interleaved, print_table

BATCH = 16
SHARDS = 8
SHARD_SAMPLES = 64
SAMPLES = SHARDS * SHARD_SAMPLES
STEPS = SAMPLES // BATCH
STEP_BYTES = SIZES.views * SIZES.tokens * SIZES.width * 2
SAMPLE_BYTES = (SIZES.steps + 1) * STEP_BYTES
BATCH_BYTES = BATCH * SAMPLE_BYTES
PLAIN_SHARE = 0.65
WEBDATASET_FACTOR = 4.0


def run(folder: Path, repeats: int) -> None:
    """Measure and print the two tables, targets only and whole samples."""
    build = write_full_size_build(folder / "build", SHARDS, SHARD_SAMPLES)
    tars = webdataset_peer.write_tars(folder / "webdataset", SHARDS, SHARD_SAMPLES)
    _targets_only(build, tars, repeats)
    _whole_samples(build, tars, repeats)


def _targets_only(build: Build, tars: list[str], repeats: int) -> None:
    files = [build.path / shard["targets"]["file"] for shard in build.manifest["shards"]]
    huge, small = _buffer(_huge_pages(BATCH_BYTES)), _buffer(_small_pages(BATCH_BYTES))
    later = _TargetsPass(build)
    rates = _rates(
        {
            "plain sequential read": lambda: _plain_read(files, huge),
            "plain sequential read, 4 KiB pages": lambda: _plain_read(files, small),
            "ours, later passes": later.run,
            "ours, first pass of a fresh reader": lambda: _TargetsPass(build).run(),
            "WebDataset": lambda: _consume(webdataset_peer.batches(tars, BATCH, 0, targets_only=True)),
        },
        repeats,
    )
    plain, small_pages, ours, first, peer = rates
    print_table(
        f"Streaming, targets only: {SAMPLES} samples of {SAMPLE_BYTES / 2**20:.0f} MiB, batches of {BATCH}, one thread",
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


def _whole_samples(build: Build, tars: list[str], repeats: int) -> None:
    files = [build.path / shard[kind]["file"] for shard in build.manifest["shards"] for kind in ("inputs", "targets")]
    source = RandomSamples()
    jpegs = [image for i in range(SAMPLES) for image in source.inputs(i).images]
    buffer = _buffer(_huge_pages(BATCH_BYTES))
    reader, verifying = SampleReader(build, "train", verify=False), SampleReader(build, "train", verify=True)
    rates = _rates(
        {
            "plain sequential read of all bytes": lambda: _plain_read(files, buffer),
            "the same, and Pillow decoding the JPEGs": lambda: _plain_read_and_decode(files, jpegs, buffer),
            "ours, 0 threads, later passes": lambda: _consume(_stream(reader, 0)),
            "ours, 0 threads, first pass": lambda: _consume(_stream(SampleReader(build, "train", verify=False), 0)),
            "ours, 2 threads, later passes": lambda: _consume(_stream(reader, 2)),
            "ours, 2 threads, every sample hashed": lambda: _consume(_stream(verifying, 2)),
            "WebDataset, in this process": lambda: _consume(webdataset_peer.batches(tars, BATCH, 0, False)),
            "WebDataset, 2 worker processes": lambda: _consume(webdataset_peer.batches(tars, BATCH, 2, False)),
        },
        repeats,
    )
    plain, limit, ours, first, threads, hashed, peer, peer_workers = rates
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
            hashed.over(threads, "2 threads, every sample hashed (the trainer's default) / not hashed"),
        ],
        ["GiB/s count the latents alone; WebDataset decodes the same JPEGs with the same Pillow"],
    )


def _rates(runs: dict[str, Callable[[], None]], repeats: int) -> list[Series]:
    """GiB of latents a second of each contender, after one untimed round that warms the page cache."""

    def timed(run: Callable[[], None]) -> Callable[[], float]:
        def measure() -> float:
            started = time.perf_counter()
            run()
            return SAMPLES * SAMPLE_BYTES / 2**30 / (time.perf_counter() - started)

        return measure

    for run in runs.values():
        run()
    return list(interleaved({name: timed(run) for name, run in runs.items()}, repeats).values())


def _order(build: Build) -> Order:
    return Order([SHARD_SAMPLES] * SHARDS, build.fingerprint, 0)


def _stream(reader: SampleReader, threads: int) -> Iterator[Any]:
    return Stream([reader], [_order(reader.build)], Mixture([1], BATCH), threads=threads).batches(0, STEPS)


class _TargetsPass:
    """What SampleReader does for the latents of a batch, without its inputs."""

    def __init__(self, build: Build) -> None:
        self._order = _order(build)
        self._shards = [
            TargetsReader(build.path / shard["targets"]["file"], SIZES) for shard in build.manifest["shards"]
        ]
        self._pool = BufferPool(_huge_pages)

    def run(self) -> None:
        step_shape = (SIZES.views, SIZES.tokens, SIZES.width)
        for step in range(STEPS):
            context = self._pool.array((BATCH, *step_shape), np.float16)
            latents = self._pool.array((BATCH, SIZES.steps, *step_shape), np.float16)
            for i, index in enumerate(self._order.take(step * BATCH, BATCH)):
                shard, row = divmod(int(index), SHARD_SAMPLES)
                self._shards[shard].read_into(row, context=context[i], latents=latents[i])


def _consume(found: Iterator[Any]) -> None:
    count = sum(1 for _ in found)
    if count != STEPS:
        raise RuntimeError(f"{count} batches came, {STEPS} were expected")


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
