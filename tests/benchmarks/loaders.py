"""Whole samples in shuffled batches: ours beside WebDataset, MosaicML Streaming, LitData and Megatron-Energon.

All read the same samples from the page cache, by as many workers: threads in ours, processes in the others. A batch
counts when it is there as tensors; nothing is done with it. A repeat makes a fresh loader, reads two epochs from it,
and then resumes from a state that was saved in the middle of the first.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.format.build import load_build
from pipeline.format.enums import Verify
from pipeline.format.schema import Batch
from pipeline.streaming.mixture import Mixture
from pipeline.streaming.order import Order
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import Stream
from tests.benchmarks.full_size_build import RandomSamples, sample_index, sample_key, write_full_size_build
from tests.benchmarks.peers import Peer, PeerBatch, stored
from tests.benchmarks.report import Series, Target, print_table, quietly, seconds_of
from tests.benchmarks.streaming import Scale

WORKERS, SEED = 2, 3

AT_LEAST = {"LitData": 1.7}
"""How many times a peer's samples a second ours should give; 1 for those not named."""

Measured = tuple[Series, Series, Series]
"""Samples a second of the first and the second epoch, seconds to resume."""

TINY = Scale(shards=2, shard_samples=4, batch=2)


@dataclass(frozen=True)
class Package:
    """Where a peer's class is, and how to install what it needs beside the project (see pyproject.toml, bench)."""

    module: str
    class_name: str
    distribution: str
    install: str


PACKAGES = (
    Package("webdataset", "WebDataset", "webdataset", "pip install webdataset"),
    Package(
        "mds",
        "Mds",
        "mosaicml-streaming",
        "pip install --no-deps mosaicml-streaming==0.13.0 torchvision; pip install Brotli python-snappy 'xxhash<4' "
        "'zstd<2' 'catalogue<3'",
    ),
    Package(
        "litdata",
        "LitData",
        "litdata",
        "pip install --no-deps litdata==0.2.76 torchvision; pip install lightning-utilities tifffile obstore boto3",
    ),
    Package(
        "energon",
        "Energon",
        "megatron-energon",
        "pip install --no-deps megatron-energon==7.4.1 multi-storage-client torchvision; pip install filetype mfusepy "
        "rapidyaml xattr 'wcmatch<11' 'lark<2' 'prettytable<4' 'pyroute2<1' jmespath opentelemetry-api",
    ),
)


_OURS = {
    Verify.OFF: "ours",
    Verify.ONCE: "ours, verified once (the default)",
    Verify.EVERY_SAMPLE: "ours, every sample hashed",
}


class Ours:
    """Our stream, made as the trainer makes it."""

    def __init__(self, verify: Verify) -> None:
        self.name = _OURS[verify]
        self.notes: tuple[str, ...] = (
            "shuffled in blocks of 4 shards; decodes JPEG by simplejpeg; resumes by the number of the step",
        )
        self._verify = verify
        self._taken = 0

    def write(self, folder: Path, shards: int, shard_samples: int) -> None:
        self._folder = folder
        if not folder.exists():
            write_full_size_build(folder, shards, shard_samples)

    def batches(self, batch: int, workers: int, seed: int) -> Iterator[PeerBatch]:
        self._arguments = (batch, workers, seed)
        return self._run(0)

    def state(self) -> Any:
        return self._taken

    def resume(self, state: Any) -> Iterator[PeerBatch]:
        return self._run(state)

    def close(self) -> None:
        """Threads end with the iterator."""

    def _run(self, step: int) -> Iterator[PeerBatch]:
        batch, workers, seed = self._arguments
        build = load_build(self._folder)
        order = Order(
            [shard["samples"] for shard in build.manifest["shards"]],
            build.fingerprint,
            seed,
            streams=64,
            block_shards=4,
        )
        reader = SampleReader(
            build, "train", order.open_shards, verify=self._verify, folder=self._folder.parent / "read"
        )
        self._taken = step
        for parts in Stream([reader], [order], Mixture([1.0], batch), threads=workers).batches(step):
            self._taken += 1
            yield _as_tensors(parts[0].batch)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Measure and print epochs and resuming, then the ratios to each peer."""
    peers, missing = _installed()
    contenders: list[Peer] = [*(Ours(verify) for verify in _OURS), *peers]
    print(
        f"\nLoaders: {scale.samples} samples in batches of {scale.batch}, {WORKERS} workers, "
        "all files in the page cache"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workers of MDS and Energon repeat theirs
        for contender in contenders:
            with quietly():
                where = folder / ("ours" if isinstance(contender, Ours) else contender.name)
                contender.write(where, scale.shards, scale.shard_samples)
            print("\n    ".join((f"  {contender.name}:", *contender.notes)))
        os.sync()
        saved = {contender.name: _checked(contender, scale) for contender in contenders}
        found = _measured(contenders, saved, repeats, scale)
    for line in missing:
        print(f"  {line}")
    _print(found, [peer.name for peer in peers])


def _installed() -> tuple[list[Peer], list[str]]:
    """Peers that can be imported, and a line for each that cannot."""
    peers: list[Peer] = []
    missing = []
    for package in PACKAGES:
        try:
            peer = getattr(import_module(f"tests.benchmarks.peers.{package.module}"), package.class_name)()
        except ImportError as error:
            missing.append(f"{package.distribution}: not installed ({error}): {package.install}")
            continue
        peer.notes = (f"version {version(package.distribution)}", *peer.notes)
        peers.append(peer)
    return peers, missing


@dataclass(frozen=True)
class Saved:
    """A state from the middle of an epoch as a checkpoint would hold it, and the keys of the batch that comes next."""

    state: bytes
    following: tuple[str, ...]


def _checked(contender: Peer, scale: Scale) -> Saved:
    """One untimed epoch: contents compared with what was written, samples counted, a state saved half way."""
    batches = contender.batches(scale.batch, WORKERS, SEED)
    keys: list[str] = []
    middle = scale.steps // 2
    for batch in islice(batches, middle):
        keys += batch.key
        _check_contents(contender.name, batch)
    state = pickle.dumps(contender.state())
    following = next(batches).key
    keys += following
    keys += [key for batch in islice(batches, scale.steps - middle - 1) for key in batch.key]
    if keys == sorted(keys):
        raise RuntimeError(f"{contender.name} did not shuffle")
    print(f"  {contender.name}: {len(set(keys))} distinct of the first {len(keys)} samples")
    _stop(contender, batches)
    return Saved(state, following)


def _check_contents(name: str, batch: PeerBatch) -> None:
    """Raise unless the batch holds what was written."""
    source = RandomSamples()
    for i, key in enumerate(batch.key):
        index = sample_index(key)
        wanted = stored(source, index)
        content = source.inputs(index)
        pictures = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in content.images])
        same = key == sample_key(index) and batch.instruction[i] == f"put object {index} into the drawer"
        same &= torch.equal(batch.images[i], torch.from_numpy(pictures))
        same &= bool((batch.state[i] == index / 8).all())
        for array in ("context", "latents", "latent_mask", "actions", "action_mask"):
            same &= torch.equal(getattr(batch, array)[i], torch.from_numpy(np.ascontiguousarray(wanted[array])))
        if not same:
            raise RuntimeError(f"{name} gave another sample under the key {key} than was written")


def _measured(
    contenders: Sequence[Peer], saved: Mapping[str, Saved], repeats: int, scale: Scale
) -> Mapping[str, Measured]:
    """Each contender in turn."""
    values: dict[str, list[tuple[float, float, float]]] = {contender.name: [] for contender in contenders}
    for _ in range(repeats):
        for contender in contenders:
            values[contender.name].append((*_epochs(contender, scale), _resumed(contender, saved[contender.name])))
    return {name: tuple(Series(name, one) for one in zip(*rows, strict=True)) for name, rows in values.items()}  # type: ignore[misc]


def _epochs(contender: Peer, scale: Scale) -> tuple[float, float]:
    batches: Iterator[PeerBatch] = iter(())

    def first() -> None:
        nonlocal batches
        batches = contender.batches(scale.batch, WORKERS, SEED)
        second()

    def second() -> None:
        for _ in range(scale.steps):
            next(batches)

    rates = scale.samples / seconds_of(first), scale.samples / seconds_of(second)
    _stop(contender, batches)
    return rates


def _resumed(contender: Peer, saved: Saved) -> float:
    started = time.perf_counter()
    batches = contender.resume(pickle.loads(saved.state))
    first = next(batches)
    seconds = time.perf_counter() - started
    if first.key != saved.following:
        raise RuntimeError(
            f"{contender.name} went on with {first.key[:2]}…, {saved.following[:2]}… would have been next"
        )
    _stop(contender, batches)
    return seconds


def _stop(contender: Peer, batches: Iterator[PeerBatch]) -> None:
    batches.close()  # type: ignore[attr-defined]
    contender.close()
    gc.collect()  # loaders hold themselves in cycles; their workers end here, not inside another one's measurement


def _as_tensors(batch: Batch[Any]) -> PeerBatch:
    observation, targets = batch.observation, batch.targets
    arrays = {
        "images": observation.images,
        "state": observation.state,
        **{n: getattr(targets, n) for n in ("context", "latents", "latent_mask", "actions", "action_mask")},
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return PeerBatch(key=batch.keys, instruction=observation.instruction, **tensors)


def _sample_megabytes() -> float:
    sample = stored(RandomSamples(), 0)
    return sum(len(v) if isinstance(v, bytes) else getattr(v, "nbytes", 0) for v in sample.values()) / 1e6


def _print(found: Mapping[str, Measured], peers: Sequence[str]) -> None:
    megabytes = _sample_megabytes()
    for i, title in enumerate(("First epoch, the loader's start included", "Second epoch")):
        rates = [rows[i] for rows in found.values()]
        notes = [f"{one.name}: {one.median * megabytes:.0f} MB/s" for one in rates]
        print_table(f"Loaders: {title.lower()}", "samples/s", rates, notes=notes)
    targets = [
        target
        for name in found
        if name not in peers
        for peer in peers
        for target in _targets(name.split(" (")[0], peer, found[name], found[peer])
    ]
    print_table(
        "Loaders: resuming, a fresh loader to the right batch", "s", [rows[2] for rows in found.values()], targets
    )


def _targets(name: str, peer: str, ours: Measured, theirs: Measured) -> Iterator[Target]:
    least = AT_LEAST.get(peer, 1.0)
    for i, epoch in enumerate(("first epoch", "second epoch")):
        yield Target(ours[i].over(theirs[i], f"{name} / {peer}, {epoch}"), least)
    yield Target(theirs[2].over(ours[2], f"{peer} / {name}, resuming"), 1.0)
