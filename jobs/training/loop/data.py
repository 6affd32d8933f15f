"""The builds of a run as streams: human video and robots each have one, whose builds share its batches."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.common.policy.chosen_cameras import chosen_cameras
from jobs.training.loop.cache_folders import cache_folder, shared_folder
from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import OnCorrupt, TrainerSettings
from model.settings import ModelSettings
from pipeline.errors import RunError, SettingsError
from pipeline.format.build import Build
from pipeline.format.file_names import SHARD_FILES
from pipeline.storage.shard_cache import FileCache
from pipeline.streaming.mixture import Mixture
from pipeline.streaming.order import Order
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import Stream

HELD_OUT_SHARDS = 2
"""Shards of each validation split that are kept open: they are read from front to back."""


def make_streams(
    builds: Sequence[Build],
    weights: Sequence[float],
    settings: TrainerSettings,
    ranks: Ranks,
    cache: FileCache | None = None,
    model: ModelSettings | None = None,
) -> list[Stream]:
    """One a kind. Video first: robot batches reach every part of the model, and DDP reduces in the last backward pass.

    Args:
        weights: one a build; none: in proportion to their samples.
        cache: see `open_cache`.
        model: which cameras are read; None: all.

    Raises:
        SettingsError: ranks or batch sizes do not fit the builds, or the cache is too small.
        RunError: the system allows too few open files.
    """
    weights = weights or [build.manifest["counts"]["train"]["samples"] for build in builds]
    orders = [_order(build, settings) for build in builds]
    files = [3 if build.shares_latents else 2 for build in builds]
    _allow_open_files(sum(count * order.open_shards for count, order in zip(files, orders, strict=True)))
    if cache is not None:
        _require_room(builds, orders, settings, ranks)
    kinds = [[i for i, build in enumerate(builds) if build.has_actions == robot] for robot in (False, True)]
    return [
        Stream(
            [train_reader(builds[i], orders[i], settings, ranks, cache, model) for i in chosen],
            [orders[i] for i in chosen],
            Mixture([weights[i] for i in chosen], settings.batch_size, settings.mixture_unit),
            ranks.rank,
            ranks.world,
            settings.threads,
            settings.ahead,
            settings.prefetch,
        )
        for chosen in kinds
        if chosen
    ]


def kind_of(stream: Stream) -> str:
    """Of a stream's builds: "robot" or "video"."""
    return "robot" if stream.readers[0].build.has_actions else "video"


def train_reader(
    build: Build,
    order: Order,
    settings: TrainerSettings,
    ranks: Ranks,
    cache: FileCache | None,
    model: ModelSettings | None,
) -> SampleReader:
    """Reader of a build's train split ; for CUDA its latents are read into pinned memory."""
    return SampleReader(
        build,
        "train",
        _open_shards(order, ranks),
        pinned if ranks.device.type == "cuda" else None,
        settings.verify,
        settings.on_corrupt == OnCorrupt.SKIP,
        cache,
        shared_folder(settings),
        None if model is None else chosen_cameras(build, model),
    )


def held_out_reader(
    build: Build,
    settings: TrainerSettings,
    cache: FileCache | None,
    split: str = "val",
    model: ModelSettings | None = None,
) -> SampleReader:
    """Reader of a split that is read from front to back, of the cameras that `model` sees; a corrupt sample stops the
    run."""
    cameras = None if model is None else chosen_cameras(build, model)
    folder = shared_folder(settings)
    return SampleReader(
        build, split, HELD_OUT_SHARDS, verify=settings.verify, cache=cache, folder=folder, cameras=cameras
    )


def open_cache(builds: Sequence[Build], settings: TrainerSettings) -> FileCache | None:
    """The cache of this node, if a build is remote."""
    if all(build.remote is None for build in builds):
        return None
    return FileCache(cache_folder(settings) / "shards", int(settings.cache_gb * 1e9))


def describe_streams(streams: Sequence[Stream]) -> list[str]:
    """Builds, their samples and shares, in lines."""
    lines = []
    for stream in streams:
        mixture, kind = stream.mixture, kind_of(stream)
        for reader, order, share in zip(stream.readers, stream.orders, mixture.taken(10_000), strict=True):
            per_step = share / 10_000
            lines.append(
                f"{reader.build.name}: {order.samples:,} samples, {per_step:,.4g} of the {mixture.batch_size} {kind} "
                f"samples of a step, an epoch every {order.samples / per_step:,.1f} steps"
            )
    return lines


def pinned(size: int) -> NDArray[np.uint8]:
    """Memory that a CUDA device copies from without waiting."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()


def _order(build: Build, settings: TrainerSettings) -> Order:
    sizes = [shard["samples"] for shard in build.manifest["shards"] if shard["split"] == "train"]
    return Order(sizes, build.fingerprint, settings.seed, settings.streams, settings.block_shards)


def _open_shards(order: Order, ranks: Ranks) -> int:
    """How many shards a rank keeps open: those of the streams it owns."""
    return -(-order.open_shards // ranks.world)


def _require_room(builds: Sequence[Build], orders: Sequence[Order], settings: TrainerSettings, ranks: Ranks) -> None:
    """A cache smaller than what one pass keeps coming back to would fetch every shard many times over."""
    needed = 0
    for build, order in zip(builds, orders, strict=True):
        if build.remote is not None:
            for split, count in (("train", _open_shards(order, ranks)), ("val", HELD_OUT_SHARDS)):
                shards = [shard for shard in build.manifest["shards"] if shard["split"] == split]
                sizes = sorted((_shard_bytes(shard) for shard in shards), reverse=True)
                needed += sum(sizes[: ranks.local_world * count])
    if needed > settings.cache_gb * 1e9:
        raise SettingsError(
            f"trainer.cache_gb={settings.cache_gb:g} is too small: up to {needed / 1e9:.3g} GB of remote shards are in "
            "use at a time on each node; raise it, or lower trainer.streams or trainer.block_shards"
        )


def _shard_bytes(shard: Mapping[str, Any]) -> int:
    return sum(int(shard[kind]["bytes"]) for kind in SHARD_FILES if kind in shard)


def _allow_open_files(needed: int) -> None:
    """Raise this process's limit of open files to what the shards take.

    Raises:
        RunError: the system allows fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * needed + 256  # a cached file is held open too; and what PyTorch, TensorBoard and the rest keep open
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise RunError(
                f"training keeps {needed} shard files open, the system allows {hard} (ulimit -Hn); raise that limit, "
                "or lower trainer.streams or trainer.block_shards"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
