"""What a rank needs before it reads its first sample of a large build: seconds and memory.

The first reader of a node reads samples.parquet whole; those after it map what it made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.large_manifest import write_manifest
from tests.benchmarks.report import Series, Target, print_table

MAX_SECONDS, MAX_MIB = 10, 300

START = """
import json, sys, time
from pathlib import Path
import numpy as np
from pipeline.format.build import load_build
from pipeline.format.enums import Verify
from pipeline.streaming.reader import SampleReader

def resident():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("RssAnon")).split()[1]) / 1024

started, used, before = time.monotonic(), time.process_time(), resident()
reader = SampleReader(load_build(Path(sys.argv[1])), "train", verify=Verify.ONCE, folder=Path(sys.argv[2]))
rows = np.random.default_rng(0).integers(0, len(reader), 1000)
names = [reader.episode(int(row)) for row in rows]
print(json.dumps([time.monotonic() - started, time.process_time() - used, resident() - before]))
"""
"""In a process of its own, with a thousand samples looked up. Memory: what belongs to the process alone."""


@dataclass(frozen=True)
class Scale:
    """Samples of the manifest."""

    samples: int = 19_000_000


TINY = Scale(samples=10_000)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    build = write_manifest(folder / "manifest", scale.samples)
    size = (build / "samples.parquet").stat().st_size / 2**30
    first, *later = [_start(build, folder / "shared") for _ in range(1 + repeats)]
    seconds = Series("seconds, a rank after the first", tuple(run[0] for run in later))
    memory = Series("memory of its own, a rank after the first, MiB", tuple(run[2] for run in later))
    first_memory = Series("memory of its own, the first of a node, MiB", (first[2],))
    bounds = [(seconds, MAX_SECONDS), (memory, MAX_MIB), (first_memory, MAX_MIB)]
    print_table(
        f"Start of a rank: {scale.samples:,} samples, samples.parquet of {size:.2f} GiB",
        "",
        [
            Series("seconds, the first of a node", (first[0],)),
            Series("processor seconds, the first of a node", (first[1],)),
            Series("processor seconds, a rank after the first", tuple(run[1] for run in later)),
        ],
        [Target(series, bound, at_most=True) for series, bound in bounds],
    )


def _start(build: Path, shared: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds, MiB."""
    command = [sys.executable, "-c", START, str(build), str(shared)]
    seconds, used, memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, used, memory
