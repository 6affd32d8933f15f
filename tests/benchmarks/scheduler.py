"""The scheduler at the size of Something-Something-v2 + DROID on 8, 64 and 512 GPUs: simulated, with recorded times.

The driver's loop is the real one (`run_shards`); machines are those of `simulated_cluster.py`.
Processor seconds a window are measured in this run on real files where there are some; GPU seconds are FLOPs over
40 % of an A100's bfloat16 peak. The seconds that Ray itself takes from a driver for a task are measured on a Ray of
this machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from jobs.cluster.build_tasks.scheduler import run_shards
from jobs.cluster.connect import ray_joined
from jobs.training.estimate import VITL_ENCODER
from pipeline.encoder.encoder_frames import FrameSettings
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.schema import Sizes
from pipeline.planning.cost import targets_bytes
from pipeline.planning.plan import ShardTask
from pipeline.planning.prediction import Hardware, StageTimes, measure_stages
from pipeline.planning.recipe import Recipe
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.samples.windows import count_windows
from pipeline.sources.base import Source
from pipeline.sources.registry import make_source
from tests.benchmarks.report import Series, Target, print_table, quietly
from tests.benchmarks.simulated_cluster import SimulatedCluster, SimulatedPool, SimulatedShard, task_names

GPUS_PER_NODE = 8

MAX_DRIVER, MIN_BUSY = 0.5, 0.9
"""Share of a processor that scheduling may take, and share of the time that loaded GPUs must be busy."""

CORES_PER_GPU = 12
"""As in rented machines of 8 A100 and 96 processors."""

STORAGE_B_S = 2.375e9
"""Bytes a second that storage gives to 8 GPUs, read or written; it is taken to grow with the cluster."""

NODE_HOURS = 200.0
"""Mean hours between deaths of one node of 8 GPUs (assumed): at 512 GPUs a node dies every three hours."""

EPISODE_FRAMES = 250
"""Mean length of a DROID episode that is assumed; lengths are drawn from an exponential distribution."""

CLIP_BYTES, FRAME_BYTES = 88_000, 20_000
"""Raw bytes of an SSv2 clip (19 GB over 220,000 of them) and of one frame of three DROID cameras (1.7 TB of RLDS)."""


@dataclass(frozen=True)
class Dataset:
    """One build to be made: windows of each episode, and what one window takes."""

    name: str
    windows: tuple[int, ...]
    views: int
    raw_bytes: float
    times: StageTimes

    def shards(self, samples: int, chunk: int) -> list[SimulatedShard]:
        """Packed as `pipeline.planning.plan` does: whole episodes to a chunk, whole chunks to a shard."""
        sizes = Sizes(self.views, 224, 3, 256, 1024, 8 * (self.views > 1), 7, 7 * (self.views > 1))
        peak = Hardware()
        made = SimulatedShard(
            windows=(),
            inputs_s=self.times.inputs_s,
            decode_s=self.times.targets_s,
            encode_s=self.views * VITL_ENCODER.flops(3) / (peak.flops * peak.utilisation),
            raw_bytes=self.raw_bytes,
            input_bytes=self.views * 0.6 * 224**2,
            target_bytes=float(targets_bytes(sizes, LatentDtype.FLOAT16, 1)),
        )
        return [SimulatedShard(**{**vars(made), "windows": chunks}) for chunks in _packed(self.windows, samples, chunk)]


@dataclass(frozen=True)
class Scale:
    """What is simulated, and what is measured for it.

    runs             windows of a DROID episode (0: every frame), samples a shard, GPUs
    clips, episodes  of SSv2 and DROID
    side             of the frames that are read for the measurement, pixels
    tasks            that Ray is given
    """

    runs: tuple[tuple[int, int, tuple[int, ...]], ...] = (
        (16, 256, (8, 64, 512)),
        (16, 64, (8, 64, 512)),
        (0, 256, (64, 512, 4_000)),
    )
    clips: int = 220_000
    episodes: int = 76_000
    side: int = 240
    tasks: int = 500


TINY = Scale(runs=((16, 64, (8,)), (0, 256, (8,))), clips=60, episodes=8, side=64, tasks=4)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print one table a size of shards."""
    video, robot = _measured(folder, scale.side)
    per_task = _ray_seconds_a_task(scale.tasks)
    print("\nThe scheduler at the size of SSv2 + DROID, simulated")
    print(
        f"  processor ms a window here: SSv2 {_ms(video)}, robot with two cameras {_ms(robot)}; "
        f"Ray takes {per_task * 1e3:.2f} ms of the driver a task"
    )
    print(
        f"  storage {STORAGE_B_S / 1e9:.2f} GB/s for 8 GPUs; each node dies every {NODE_HOURS:g} hours; "
        f"{CORES_PER_GPU} cores a GPU"
    )
    head = ("GPUs", "shard", "windows", "hours", "GPUs busy", "once loaded, to 95 %", "lost", "TB", "GB/s", "driver")
    print("  " + "".join(f"{name:>12}" if name != head[5] else f"{name:>22}" for name in head))
    for per_episode, samples, sizes in scale.runs:
        datasets = _datasets(video, robot, per_episode, scale)
        shards = [shard for data in datasets for shard in data.shards(samples, min(samples, 64))]
        for gpus in sizes:
            found = _simulate(gpus, samples, shards, per_task)
            print("  " + found.row())
    _print_targets(found)


def _print_targets(last: _Simulated) -> None:
    """The largest cluster of the last run."""
    nodes = f"{-(-last.gpus // GPUS_PER_NODE):,} nodes of {GPUS_PER_NODE} GPUs"
    driver = Series(f"driver and Ray's calls, share of a processor, {nodes}", (last.driver,))
    busy = Series(f"GPUs busy once loaded, to 95 % of the windows, {nodes}", (last.busy_once_loaded,))
    print_table("The scheduler", "", [], [Target(driver, MAX_DRIVER, at_most=True), Target(busy, MIN_BUSY)])


@dataclass(frozen=True)
class _Simulated:
    """What a simulation found; busy, busy_once_loaded and driver are shares of 1."""

    gpus: int
    samples: int
    windows: int
    hours: float
    busy: float
    busy_once_loaded: float
    lost: int
    terabytes: float
    gigabytes_s: float
    driver: float

    def row(self) -> str:
        """A line of the table."""
        cells = (
            f"{self.gpus:,}",
            f"{self.samples}",
            f"{self.windows:,}",
            f"{self.hours:.2f}",
            f"{self.busy:.1%}",
            f"{self.busy_once_loaded:.1%}",
            f"{self.lost}",
            f"{self.terabytes:.2f}",
            f"{self.gigabytes_s:.2f}",
            f"{self.driver:.2%}",
        )
        return "".join(f"{cell:>22}" if i == 5 else f"{cell:>12}" for i, cell in enumerate(cells))


def _simulate(gpus: int, samples: int, shards: list[SimulatedShard], per_task: float) -> _Simulated:
    share = gpus / GPUS_PER_NODE
    cluster = SimulatedCluster(
        gpus, gpus * CORES_PER_GPU, STORAGE_B_S * share, STORAGE_B_S * share, node_hours=NODE_HOURS
    )
    tasks, by_name = task_names(shards)
    pool = SimulatedPool(cluster, by_name)
    windows, done, at95 = sum(sum(shard.windows) for shard in shards), 0, 0.0
    busy95 = 0.0
    started = time.perf_counter()
    for event in run_shards(tasks, {}, pool):
        done += event.part.rows if event.part.kind == "targets" else 0
        if not at95 and done >= 0.95 * windows:
            at95, busy95 = pool.now, pool.gpu_s
    loop_s = time.perf_counter() - started - pool.simulating_s
    driver = (loop_s + 2 * len(tasks) * per_task) / pool.now
    return _Simulated(
        gpus,
        samples,
        windows,
        hours=pool.now / 3600,
        busy=pool.gpu_s / (gpus * pool.now),
        busy_once_loaded=busy95 / (gpus * at95 - pool.loading_s),
        lost=pool.lost,
        terabytes=pool.bytes / 1e12,
        gigabytes_s=pool.bytes / pool.now / 1e9,
        driver=driver,
    )


def _datasets(video: StageTimes, robot: StageTimes, per_episode: int, scale: Scale) -> list[Dataset]:
    """SSv2 with a window a clip, DROID with so many an episode, or with every frame (0)."""
    draw, policy = random.Random(0), WindowPolicy(every=int(per_episode == 0), per_episode=per_episode)
    lengths = [max(20, round(draw.expovariate(1 / EPISODE_FRAMES))) for _ in range(scale.episodes)]
    windows = tuple(count for n in lengths if (count := count_windows(n, policy, True)))
    per_window = sum(lengths) * FRAME_BYTES / sum(windows)
    return [Dataset("ssv2", (1,) * scale.clips, 1, CLIP_BYTES, video), Dataset("droid", windows, 2, per_window, robot)]


def _packed(windows: tuple[int, ...], samples: int, chunk: int) -> Iterator[tuple[int, ...]]:
    chunks: list[int] = []
    here = 0
    for count in windows:
        here += count
        if here >= chunk or sum(chunks) + here >= samples:
            chunks.append(here)
            here = 0
        if sum(chunks) >= samples:
            yield tuple(chunks)
            chunks = []
    if chunks or here:
        yield (*chunks, here) if here else tuple(chunks)


def _measured(folder: Path, side: int) -> tuple[StageTimes, StageTimes]:
    """Processor seconds a window of both jobs at full size, on clips and robot episodes of two cameras."""
    with quietly():
        write_ssv2(folder / "ssv2", 8, seed=0, size=side)
        write_lerobot(folder / "robot", 4, seed=0, size=side)
    video = make_source("ssv2", name="ssv2", root=str(folder / "ssv2"))
    robot = make_source("lerobot", name="robot", root=str(folder / "robot"))
    return _stages(video, 1, WindowPolicy(every=0, per_episode=1)), _stages(
        robot, 2, WindowPolicy(every=0, per_episode=16)
    )


def _stages(source: Source, views: int, policy: WindowPolicy) -> StageTimes:
    index = source.index()
    refs = [ref for ref in index.refs if ref.split == "train"]
    sizes = Sizes(len(index.views), 224, policy.steps, 256, 1024, index.state_dim, policy.chunk, index.action_dim)
    recipe = Recipe(
        "", index.name, index.views, sizes, policy, InputSettings(), FrameSettings(256), EncoderMode.PREFIX, 64
    )
    task = ShardTask("train", 0, tuple((ref,) for ref in refs))
    found = measure_stages(source, (task,), recipe)
    assert found is not None, "the sample world cannot be read"
    return found


def _ray_seconds_a_task(count: int) -> float:
    """Processor seconds that a driver spends on one task: handing it out, waiting, taking its result."""
    with quietly(), ray_joined(None, num_cpus=2, object_store_mb=100):
        task = ray.remote(num_cpus=1)(_nothing)
        ray.get([task.remote() for _ in range(min(count, 8))])
        started = time.process_time()
        waiting = [task.remote() for _ in range(count)]
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=1.0)
            ray.get(ready)
        return (time.process_time() - started) / count


def _nothing() -> tuple[int, str]:
    return 0, "node"


def _ms(times: StageTimes) -> str:
    return f"{times.inputs_s * 1e3:.1f} + {times.targets_s * 1e3:.1f}"
