"""How long a plan will take on a described cluster, and which stage the others wait for.

Arithmetic on the plan's estimate and on processor seconds measured on a few of its episodes, with the very functions
that the jobs run. Nothing here changes a byte of a build.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from pipeline.errors import EpisodeError
from pipeline.format.enums import FloatDtype
from pipeline.planning.cost import Estimate
from pipeline.planning.hardware import Hardware
from pipeline.planning.plan import ShardTask
from pipeline.planning.recipe import Recipe
from pipeline.sources.base import EpisodeRef, Source
from pipeline.sources.episode.time_limit import SAMPLE_LIMIT_S, within

READS = 2
"""The inputs job and the targets job each read the raw files by itself: they share nothing (rule L1)."""

MEASURED_WINDOWS = 64
"""Windows of an episode that are measured at most, its first: a longer one costs the same a window."""

ATTEMPTS = 4
"""Episodes opened at most for each one that is to be measured: some may be unreadable."""


@dataclass(frozen=True)
class StageTimes:
    """Processor seconds of one window on the machine that measured them.

    inputs_s   of the inputs job: reading, decoding and JPEG of the current frame
    targets_s  of decoding and resizing for the targets
    episodes, windows  measured
    """

    inputs_s: float
    targets_s: float
    episodes: int
    windows: int

    def __post_init__(self) -> None:
        for name in ("inputs_s", "targets_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}; give seconds a window")


@dataclass(frozen=True)
class Prediction:
    """The result of `predict`. Seconds are those of a stage by itself on the whole cluster.

    times       None: no episode could be measured; decode_s is None then, and the total holds no decoding
    exact       False: windows were estimated from a sample of files
    raw_bytes   of the raw files, read READS times;  bytes  of the shards
    bottleneck  "read", "decode", "encode" or "write"
    wall_s      of the whole run, start included
    """

    hardware: Hardware
    dtype: FloatDtype
    times: StageTimes | None
    windows: int
    exact: bool
    raw_bytes: int
    bytes: int
    flops: float
    read_s: float
    decode_s: float | None
    encode_s: float
    write_s: float
    bottleneck: str
    wall_s: float
    gpu_hours: float
    core_hours: float

    @property
    def decode_cpu_s(self) -> float | None:
        """Processor seconds of all decoding."""
        return None if self.decode_s is None else self.decode_s * self.hardware.cores

    @property
    def encode_device_s(self) -> float:
        """Seconds of all encoding, were it done on one GPU, or without GPUs on one core."""
        return self.encode_s * (self.hardware.gpus or self.hardware.cores)


def predict(
    estimate: Estimate,
    raw_bytes: int,
    times: StageTimes | None,
    hardware: Hardware,
    dtype: FloatDtype = FloatDtype.BFLOAT16,
) -> Prediction:
    """Time of a plan.

        read    = READS x raw_bytes / read_mb_s
        decode  = windows x (inputs_s + targets_s) / cores
        encode  = FLOPs / (gpus x utilisation x peak of the dtype); without GPUs FLOPs / (cores x core_flops)
        write   = (input bytes + target bytes) / write_mb_s
        wall    = startup + max(read, decode, encode, write): the stages overlap
                  startup + max(read, decode + encode, write) without GPUs: these two share the cores
        GPU hours, core hours = gpus, cores x wall

    Args:
        raw_bytes: of the raw files, see `count_raw_bytes`.
        times: None leaves decoding out.
        dtype: `EncoderSettings.dtype`.
    """
    written = estimate.input_bytes + estimate.target_bytes
    a_window = times.inputs_s + times.targets_s if times else 0.0
    seconds = {
        "read": READS * raw_bytes / (hardware.read_mb_s * 1e6),
        "decode": estimate.windows * a_window / hardware.cores,
        "encode": estimate.flops / hardware.encoder_flops(dtype),
        "write": written / (hardware.write_mb_s * 1e6),
    }
    bottleneck, longest = _longest(seconds, shared=not hardware.gpus)
    wall = hardware.startup_s + longest
    return Prediction(
        hardware=hardware,
        dtype=dtype,
        times=times,
        windows=estimate.windows,
        exact=estimate.exact,
        raw_bytes=raw_bytes,
        bytes=written,
        flops=estimate.flops,
        read_s=seconds["read"],
        decode_s=seconds["decode"] if times else None,
        encode_s=seconds["encode"],
        write_s=seconds["write"],
        bottleneck=bottleneck,
        wall_s=wall,
        gpu_hours=hardware.gpus * wall / 3600,
        core_hours=hardware.cores * wall / 3600,
    )


def count_raw_bytes(tasks: Sequence[ShardTask]) -> int:
    """Bytes of the distinct files that the episodes of a plan are read from, as the index found them.

    Files are told apart by 64 bits of their names' hash: a million episodes name three million, too many to hold.
    """
    names, sizes = array("q"), array("q")
    for task in tasks:
        for group in task.groups:
            for path, size in (file for ref in group for file in ref.files):
                names.append(hash(path))
                sizes.append(size)
    first = np.unique(np.array(names, np.int64), return_index=True)[1]
    return int(np.array(sizes, np.int64)[first].sum())


def measure_stages(source: Source, tasks: Sequence[ShardTask], recipe: Recipe, episodes: int = 4) -> StageTimes | None:
    """Run both jobs on a few episodes spread over the plan, and write nothing.

    Episodes that cannot be used are passed over. Processor seconds do not depend on what else the machine does, and
    little on how fast its storage is.

    Returns:
        None when not one episode could be read.
    """
    measured: list[tuple[float, float, int]] = []
    warm = False
    for ref in _spread(tasks, episodes):
        try:
            if not warm:  # loading of codecs and libraries is no cost of a window
                _, first = _seconds(_inputs_job, source, ref, recipe, 1)
                _seconds(_targets_job, source, ref, recipe, 1)
                warm = first > 0
            inputs, count = _seconds(_inputs_job, source, ref, recipe, MEASURED_WINDOWS)
            targets, _ = _seconds(_targets_job, source, ref, recipe, MEASURED_WINDOWS)
        except EpisodeError:
            continue
        if count:
            measured.append((inputs, targets, count))
        if len(measured) == episodes:
            break
    windows = sum(count for _, _, count in measured)
    if not windows:
        return None
    inputs_s, targets_s = (sum(row[i] for row in measured) / windows for i in (0, 1))
    return StageTimes(inputs_s, targets_s, len(measured), windows)


def _longest(seconds: dict[str, float], shared: bool) -> tuple[str, float]:
    """The stage that takes longest, and how long the stages take together.

    Args:
        shared: decoding and encoding take turns on the same cores.
    """
    computing = max("decode", "encode", key=lambda name: seconds[name])
    together = seconds["decode"] + seconds["encode"] if shared else seconds[computing]
    return max(
        ((computing, together), ("read", seconds["read"]), ("write", seconds["write"])), key=lambda stage: stage[1]
    )


def _spread(tasks: Sequence[ShardTask], episodes: int) -> list[EpisodeRef]:
    """Episodes to measure: the first `episodes` are spread over all, and so are those after them."""
    total = sum(task.num_episodes for task in tasks)
    count = min(total, ATTEMPTS * episodes)
    wanted = [(2 * i + 1) * total // (2 * count) for i in range(count)]
    picked: list[EpisodeRef] = []
    start = 0
    for task in tasks:
        end = start + task.num_episodes
        inside = [position - start for position in wanted if start <= position < end]
        if inside:  # else the task is not even taken apart
            own = task.episodes
            picked += [own[position] for position in inside]
        start = end
    return [ref for first in range(ATTEMPTS) for ref in picked[first::ATTEMPTS]]


_Job = Callable[[Source, EpisodeRef, Recipe, int], int]


def _seconds(job: _Job, source: Source, ref: EpisodeRef, recipe: Recipe, limit: int) -> tuple[float, int]:
    """Processor seconds of a job on the first `limit` windows of an episode, all threads together; its windows."""
    started = time.process_time()
    windows = within(SAMPLE_LIMIT_S, ref.id, partial(job, source, ref, recipe, limit))
    return time.process_time() - started, windows


def _inputs_job(source: Source, ref: EpisodeRef, recipe: Recipe, limit: int) -> int:
    """The work of `shard_jobs.write_inputs_shard` on one episode, but for the tar."""
    with source.open(ref) as episode:
        windows = list(islice(recipe.windows(episode), limit))
        for window in windows:
            recipe.input_sample(episode, window)
        episode.timestamps([window.now for window in windows])
    return len(windows)


def _targets_job(source: Source, ref: EpisodeRef, recipe: Recipe, limit: int) -> int:
    """The work of `shard_jobs.decode_group` on one episode."""
    with source.open(ref) as episode:
        windows = list(islice(recipe.windows(episode), limit))
        if windows:
            recipe.frame_block(episode, windows)
        for window in windows:
            recipe.padded_actions(episode, window)
            recipe.supports(episode, window)
    return len(windows)
