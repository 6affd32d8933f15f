"""The commit of a large build: its shard records are there, no shard is (a commit opens none).

Windows of DROID's size: a window at every frame, 256 in a shard, two records a shard. Records are made by hand.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.building.commit import commit
from pipeline.building.records import KINDS, ShardRecord, record_schema, write_record_table
from pipeline.format.build_settings import BuildSettings, ShardSettings, WindowPolicy
from pipeline.format.file_names import inputs_file, targets_file
from pipeline.format.settings import plain
from pipeline.planning.plan import make_plan, read_plan, write_plan
from pipeline.storage.atomic import FileRecord
from pipeline.storage.store import open_store
from tests.benchmarks.large_index import LargeSource
from tests.benchmarks.large_manifest import WINDOWS, sample_rows
from tests.benchmarks.report import Series, Target, print_table
from tests.pipeline.plan_settings import SETTINGS

MAX_SECONDS, MAX_GIB = 600, 2

DROID_WINDOWS = 19_000_000

SHARD_WINDOWS = 256
ACTIONS = 49
"""Numbers in an action chunk of 7 steps."""

COMMIT = """
import json, resource, sys
from pathlib import Path
from tests.benchmarks.commit import committed
print(json.dumps([committed(Path(sys.argv[1])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""
"""In a process of its own: the peak of memory is that of the commit, with the plan that it reads."""


@dataclass(frozen=True)
class Scale:
    """Episodes of 100 to 299 frames, of a small and a large build; 98,000 have DROID's 19 million windows."""

    episodes: tuple[int, int] = (4_900, 9_800)


TINY = Scale(episodes=(4, 8))


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Measure two sizes, and say what their slopes come to at DROID's."""
    windows: list[int] = []
    found: list[tuple[Series, Series]] = []
    for episodes in scale.episodes:
        runs = [_measured(folder / f"{episodes}-{i}", episodes) for i in range(repeats)]
        count, seconds, memory = zip(*runs, strict=True)
        windows.append(count[0])
        names = (f"processor seconds, {count[0]:,} windows", f"peak memory of the process, {count[0]:,} windows, GiB")
        found.append((Series(names[0], seconds), Series(names[1], memory)))
    (few_s, few_gib), (many_s, many_gib) = found
    print_table(
        f"Commit of {windows[0]:,} and {windows[1]:,} windows",
        "",
        [few_s, many_s, few_gib, many_gib],
        [
            Target(_grown(few_s, many_s, windows, "processor seconds"), MAX_SECONDS, at_most=True),
            Target(_grown(few_gib, many_gib, windows, "peak memory, GiB"), MAX_GIB, at_most=True),
        ],
    )


def _measured(folder: Path, episodes: int) -> tuple[int, float, float]:
    """Windows, processor seconds and peak of memory in GiB of a commit."""
    windows = _unfinished(folder, episodes)
    found = subprocess.run([sys.executable, "-c", COMMIT, folder], check=True, capture_output=True).stdout
    seconds, gib = json.loads(found)
    shutil.rmtree(folder)
    return windows, seconds, gib


def _grown(few: Series, many: Series, windows: Sequence[int], name: str) -> Series:
    """What the straight line through two sizes comes to at DROID's."""
    times = (DROID_WINDOWS - windows[1]) / (windows[1] - windows[0])
    values = tuple(b + (b - a) * times for a, b in zip(few.values, many.values, strict=True))
    return Series(f"{name}, at {DROID_WINDOWS:,}", values)


def committed(folder: Path) -> float:
    """Processor seconds of the commit, with all that it reads but the plan."""
    store = open_store(folder)
    plan = read_plan(store)
    started = time.process_time()
    commit(plan, store)
    return time.process_time() - started


def _unfinished(folder: Path, episodes: int) -> int:
    """Write the plan of a build and the records of its shards, whose files are empty. The number of windows."""
    source = LargeSource("lerobot", episodes)
    shards = {"window": plain(WindowPolicy()), "shards": plain(ShardSettings())}
    plan = make_plan(source, source.index(), BuildSettings.read({**SETTINGS, "source": {"name": "large"}, **shards}))
    store, rng = open_store(folder), np.random.default_rng(0)
    write_plan(plan, store)
    for task in plan.tasks:
        ids = [f"{task.name}-{number}" for number in range(-(-SHARD_WINDOWS // WINDOWS))]
        rows = sample_rows(task.index, ids, rng).slice(0, SHARD_WINDOWS)
        for kind, name, width in zip(KINDS, ("state", "actions"), (plan.sizes.state, ACTIONS), strict=True):
            file = {"inputs": inputs_file, "targets": targets_file}[kind](task.split, task.index)
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).touch()
            record = ShardRecord(
                task.name, kind, plan.fingerprint, FileRecord(file, 0, "0" * 64), (), (), SHARD_WINDOWS, 1.0, 1.0
            )
            write_record_table(store, record, _with_numbers(rows, kind, name, width, rng))
    return SHARD_WINDOWS * len(plan.tasks)


def _with_numbers(rows: pa.Table, kind: str, name: str, width: int, rng: np.random.Generator) -> pa.Table:
    """The columns of a record, the last of which holds `width` random numbers a row."""
    ends = pa.array(np.arange(rows.num_rows + 1, dtype=np.int32) * width)
    values = pa.ListArray.from_arrays(ends, pa.array(rng.normal(size=rows.num_rows * width).astype(np.float32)))
    schema = record_schema(kind)
    return rows.select([other for other in schema.names if other != name]).append_column(name, values).cast(schema)
