"""What grows with the data: the plan of a million episodes, and preprocessing of a hundred to ten thousand windows."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.cluster.settings import ClusterSettings
from jobs.datasets.configured_source import configured_source
from jobs.preprocess.preprocess import preprocess
from jobs.preprocess.settings import BuildConfig
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.sources.ssv2 import LABEL_FILES, LABEL_FOLDER, VIDEO_FOLDER
from tests.benchmarks import large_index
from tests.benchmarks.large_index import EPISODES
from tests.benchmarks.preprocessing import Timing
from tests.benchmarks.report import Series, Target, cores, print_table, quietly

MAX_SECONDS, MAX_GIB = 30, 1

WINDOWS_PER_CLIP = 4
FLAT = 1.1
"""A window of the largest build may take so many times as long as one of the build a tenth its size, and the driver so
many times its memory."""

DRIVE = """
import json, resource, sys
from pathlib import Path
from tests.benchmarks.growth import build
build(Path(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10))
"""
"""In a process of its own, the driver: the workers of Ray are not in its peak of memory (MiB)."""


@dataclass(frozen=True)
class Scale:
    """What is planned and made.

    planned      episodes of a plan: five times Something-Something-v2, ten times DROID
    windows      of each build
    filmed       clips that are filmed; all others are the same files under other names
    own_process  what is measured runs in a process of its own; else in this one, and its memory means nothing
    """

    planned: int = 1_000_000
    windows: tuple[int, ...] = (100, 1_000, 10_000)
    filmed: int = 20
    own_process: bool = True


TINY = Scale(planned=100, windows=(8, 16), filmed=8, own_process=False)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    for kind in EPISODES:
        _measure_plan(folder / kind, kind, repeats, scale)
    _measure_growth(folder / "growth", repeats, scale)


def _measure_plan(folder: Path, kind: str, repeats: int, scale: Scale) -> None:
    planned, read = [], []
    for i in range(repeats):
        out = folder / str(i)
        planned.append(_step("plan", kind, out, scale))
        read.append(_step("read", kind, out, scale))
        size = (out / "tasks.jsonl").stat().st_size / 1e6
        shutil.rmtree(out)
    series = [
        Series("making and writing the plan", tuple(seconds for seconds, _ in planned)),
        Series("reading it, in another process", tuple(seconds for seconds, _ in read)),
    ]
    total = Series("both, s", tuple(a + b for (a, _), (b, _) in zip(planned, read, strict=True)))
    peak = Series(
        "peak memory of the larger process, GiB", tuple(max(a, b) for (_, a), (_, b) in zip(planned, read, strict=True))
    )
    reading = Series("peak memory of the one that reads, GiB", tuple(gib for _, gib in read))
    title = f"A plan of {scale.planned:,} episodes as {kind} has them, tasks.jsonl of {size:.0f} MB"
    targets = [Target(total, MAX_SECONDS, at_most=True), Target(peak, MAX_GIB, at_most=True), reading]
    print_table(title, "s", series, targets)


def _step(step: str, kind: str, out: Path, scale: Scale) -> tuple[float, float]:
    """Seconds, and the process's peak of memory in GiB."""
    if not scale.own_process:
        return large_index.STEPS[step](kind, scale.planned, out)
    command = [sys.executable, "-m", "tests.benchmarks.large_index", step, kind, str(scale.planned), str(out)]
    seconds, gib = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return seconds, gib


def _measure_growth(folder: Path, repeats: int, scale: Scale) -> None:
    """Time a window and memory of the driver, over builds of so many windows each."""
    filmed, windows = folder / "filmed", scale.windows
    write_ssv2(filmed, scale.filmed, seed=0, size=64)
    times: dict[int, list[float]] = {count: [] for count in windows}
    commits: dict[int, list[float]] = {count: [] for count in windows}
    peaks: dict[int, list[float]] = {count: [] for count in windows}
    for count in windows:
        root = _linked(filmed, folder / f"clips-{count}", count // WINDOWS_PER_CLIP)
        for i in range(repeats):
            out = folder / f"build-{count}-{i}"
            peaks[count].append(_drive(root, out, scale))
            timing = Timing.read(out)
            assert timing.samples == count, f"{timing.samples} windows were made, {count} asked for"
            times[count].append(1e3 * timing.shards_s / count)
            commits[count].append(1e3 * _commit_s(out) / count)
            shutil.rmtree(out)
    _print_growth(windows, times, commits, peaks)


def _print_growth(
    windows: Sequence[int],
    times: dict[int, list[float]],
    commits: dict[int, list[float]],
    peaks: dict[int, list[float]],
) -> None:
    def series(name: str, values: dict[int, list[float]]) -> list[Series]:
        return [Series(f"{name}, {count:,} windows", tuple(values[count])) for count in windows]

    tasks, memory = series("tasks", times), series("peak memory of the driver", peaks)
    before, last = windows[-2:]
    print_table(
        f"Preprocessing as it grows, {cores()} cores, tiny encoder, 64 px; Ray's start is not in it",
        "ms a window",
        [*tasks, *series("commit", commits)],
        [Target(tasks[-1].over(tasks[-2], f"a window of {last:,} over one of {before:,}"), FLAT, at_most=True)],
    )
    flat = Target(memory[-1].over(memory[-2], f"driver with {last:,} windows over {before:,}"), FLAT, at_most=True)
    print_table("Memory of the driver", "MiB", memory, [flat])


def build(root: Path, out: Path) -> None:
    """Preprocess a folder of clips on a Ray of its own."""
    config = BuildConfig(
        out=out,
        source=configured_source({"type": "ssv2", "name": "ssv2", "root": str(root)}),
        window=WindowPolicy(interval=2, every=0, per_episode=WINDOWS_PER_CLIP),
        inputs=InputSettings(image_size=64),
        encoder=EncoderSettings(kind="tiny", resize="squash"),
        shards=ShardSettings(samples=64, group_samples=32),
        cluster=ClusterSettings(num_cpus=cores(), encoders=2, encoder_cpus=0.0),
    )
    with quietly():
        preprocess(config)


def _linked(filmed: Path, root: Path, clips: int) -> Path:
    """A Something-Something-v2 folder of so many clips, all for training but one: links to those that were filmed."""
    files = sorted((filmed / VIDEO_FOLDER).iterdir())
    rows = [
        row
        for name in ("train.json", "validation.json")
        for row in json.loads((filmed / LABEL_FOLDER / name).read_bytes())
    ]
    labels = {f"{row['id']}.webm": row for row in rows}
    files = [file for file in files if file.name in labels]
    (root / VIDEO_FOLDER).mkdir(parents=True)
    (root / LABEL_FOLDER).mkdir()
    listed = []
    for number in range(clips):
        file = files[number % len(files)]
        os.link(file, root / VIDEO_FOLDER / f"{number + 1}.webm")
        listed.append({**labels[file.name], "id": str(number + 1)})
    for split, some in (("train", listed[1:]), ("val", listed[:1])):
        (root / LABEL_FOLDER / LABEL_FILES[split]).write_text(json.dumps(some))
    return root


def _drive(root: Path, out: Path, scale: Scale) -> float:
    """Peak of memory of the driver, MiB."""
    if not scale.own_process:
        build(root, out)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    command = [sys.executable, "-c", DRIVE, str(root), str(out)]
    mib: float = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return mib


def _commit_s(out: Path) -> float:
    (path,) = (out / "logs").glob("preprocess-*.json")
    seconds: float = json.loads(path.read_bytes())["commit_s"]
    return seconds
