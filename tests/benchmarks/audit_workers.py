"""The audit on Ray: one worker and two of them, in turn; and one process without Ray beside them.

Workers are there when the clock starts: how long Ray takes to start is a matter of the cluster. Each has one thread.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.audit.options import deep_options
from jobs.audit.settings import AuditConfig
from jobs.audit.workers import recipe_of
from jobs.cluster.settings import ClusterSettings
from jobs.cluster.unit_pool import WorkerPlan, unit_pool
from jobs.datasets.configured_source import configured_source
from jobs.preprocess.settings import BuildConfig
from pipeline.audit.levels.bench import Bench
from pipeline.audit.levels.run import audit_build
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy
from pipeline.sample_world.ssv2 import write_ssv2
from tests.benchmarks.full_size_build import write_full_size_build
from tests.benchmarks.report import Series, Target, interleaved, print_table, seconds_of
from tests.jobs.runs import make_here

LIMIT = 1.2
"""Two workers may take so many times half as long as one."""

NONCE = "n0"


@dataclass(frozen=True)
class Scale:
    """Shards of a full-size build and the samples of each; clips, of which 8 windows each are taken."""

    shards: int = 16
    shard_samples: int = 16
    clips: int = 48


TINY = Scale(shards=2, shard_samples=2, clips=4)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    build = write_full_size_build(folder / "shards", scale.shards, scale.shard_samples).path
    _measure(AuditConfig(build=build, nonce=NONCE), f"{scale.shards} shards", repeats)
    build = _clips(folder / "clips", scale.clips)
    settings = AuditConfig(build=build, level="source", root=folder / "clips" / "raw", nonce=NONCE, share=0, workers=1)
    _measure(settings, f"{scale.clips} clips of the sample world, tiny encoder", repeats)


def _measure(settings: AuditConfig, what: str, repeats: int) -> None:
    used: dict[int, list[float]] = {1: [], 2: []}
    found = interleaved(
        {
            "one worker": lambda: _on_ray(settings, 1, used[1]),
            "two workers": lambda: _on_ray(settings, 2, used[2]),
            "this process, without Ray": lambda: seconds_of(lambda: _audit(settings, None)),
        },
        repeats,
    )
    one, two, _ = found.values()
    busiest = [Series(f"processor of driver and busiest of {n}", tuple(used[n])) for n in used]
    pairs = ((one, two, "two workers over half the time of one"), (*busiest, "the same of processor time"))
    ratios = [Series(name, tuple(2 * value for value in b.over(a, "").values)) for a, b, name in pairs]
    targets = [Target(ratio, LIMIT, at_most=True) for ratio in ratios]
    print_table(f"Audit on Ray, level {settings.level}: {what}", "s", [*found.values(), *busiest], targets)


def _on_ray(settings: AuditConfig, workers: int, used: list[float]) -> float:
    """Seconds with so many workers, from the moment when they are there.

    Args:
        used: gets the processor seconds of the driver and of the busiest worker, which one after the other bound the
            time on a machine that has nothing else to do.
    """
    recipe = recipe_of(settings, NONCE, None)
    cluster = ClusterSettings(num_cpus=2, encoders=workers, object_store_mb=512)
    with unit_pool(WorkerPlan(recipe.open, recipe.describe, encodes=True), cluster) as pool:
        before, driver = dict(pool.map(_processor_of, range(4 * workers))), time.process_time()
        seconds = seconds_of(lambda: _audit(settings, pool))
        driver = time.process_time() - driver
        after = dict(pool.map(_processor_of, range(4 * workers)))
        used.append(driver + max(after[process] - before.get(process, 0.0) for process in after))
    return seconds


def _processor_of(_: Bench, __: int) -> tuple[int, float]:
    """A worker and the processor seconds that it has used."""
    time.sleep(0.1)  # so that every worker is asked
    return os.getpid(), time.process_time()


def _audit(settings: AuditConfig, runner: object) -> None:
    deep = deep_options(settings, NONCE) if settings.level == "source" else None
    verdict = audit_build(settings.build, settings.level, deep=deep, runner=runner)  # type: ignore[arg-type]
    assert verdict.status == "clean", verdict.findings


def _clips(folder: Path, clips: int) -> Path:
    """A build of made-up clips."""
    write_ssv2(folder / "raw", clips, seed=0)
    settings = BuildConfig(
        out=folder / "build",
        source=configured_source({"type": "ssv2", "name": "ssv2", "root": str(folder / "raw")}),
        window=WindowPolicy(interval=1, every=0, per_episode=8),
        inputs=InputSettings(image_size=128),
        encoder=EncoderSettings(kind="tiny", resize="squash"),
        shards=ShardSettings(samples=32, group_samples=16),
    )
    return make_here(settings).path
