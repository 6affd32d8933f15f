"""Indexes of many episodes, as the readers of Something-Something-v2 and LeRobot make them; what a plan of them takes.

    python -m tests.benchmarks.large_index plan ssv2 1000000 FOLDER
    python -m tests.benchmarks.large_index read lerobot 1000000 FOLDER

prints what was measured as JSON. A process of its own: its peak of memory is that of the plan.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EpisodeError
from pipeline.format.build_settings import BuildSettings, ShardSettings, WindowPolicy
from pipeline.format.episode import Episode
from pipeline.format.settings import plain
from pipeline.planning.plan import make_plan, read_plan, write_plan
from pipeline.sources.base import EpisodeRef, SharedData, SourceIndex
from pipeline.storage.store import open_store
from tests.pipeline.plan_settings import SETTINGS

VIEWS = ("front", "wrist")
TASKS_FILE = "meta/tasks.jsonl"
COLUMNS = SharedData(
    {
        "version": "v2.1",
        "views": list(VIEWS),
        "tasks_file": TASKS_FILE,
        "widths": {"observation.state": 8, "action": 7},
    }
)
"""What every episode of a LeRobot index shares."""


@dataclass(frozen=True)
class LargeSource:
    """So many episodes whose files are not there."""

    kind: str
    episodes: int
    root: str = "/nowhere"

    def index(self) -> SourceIndex:
        make = EPISODES[self.kind]
        refs = sorted((make(number) for number in range(self.episodes)), key=lambda ref: (ref.split, ref.id))
        views = ("front", "wrist") if self.kind == "lerobot" else ("video",)
        state, action = (8, 7) if self.kind == "lerobot" else (0, 0)
        return SourceIndex("large", views, state, action, None, tuple(refs), (), {"type": self.kind})

    def open(self, ref: EpisodeRef) -> Episode:
        raise EpisodeError("missing-file", ref.id)


def _clip(number: int) -> EpisodeRef:
    """A labelled clip of unknown length."""
    things = [f"thing number {number % 5003}", f"object {number % 7}"]
    data = {
        "instruction": f"Putting {things[0]} next to {things[1]}",
        "template": "Putting [something] next to [something]",
        "placeholders": things,
    }
    files = ((f"20bn-something-something-v2/{number:07d}.webm", 100_000 + number % 9973),)
    return EpisodeRef(f"large-{number:07d}", _split(number), files, None, data)


def _trajectory(number: int) -> EpisodeRef:
    """An episode of two cameras, 100 to 299 frames, with a table and a video for each camera."""
    chunk = f"chunk-{number // 1000:03d}"
    table = f"data/{chunk}/episode_{number:06d}.parquet"
    videos = {view: [f"videos/{chunk}/observation.images.{view}/episode_{number:06d}.mp4"] for view in VIEWS}
    sizes = [(path, 300_000 + number % 997) for (path,) in videos.values()]
    files = ((table, 20_000 + number % 773), *sizes, (TASKS_FILE, 1000))
    own = {"episode_index": number, "table": table, "videos": videos, "tasks": [f"put it down {number % 100}"]}
    return EpisodeRef(f"large-{number:06d}", _split(number), files, 100 + number % 200, own, shared=COLUMNS)


def _split(number: int) -> str:
    return "val" if number % 20 == 0 else "train"


EPISODES: Mapping[str, Callable[[int], EpisodeRef]] = {"ssv2": _clip, "lerobot": _trajectory}


def plan(kind: str, episodes: int, folder: Path) -> tuple[float, float]:
    """Seconds of making and writing a plan (the index is there already), and this process's peak of memory in GiB."""
    source, robot = LargeSource(kind, episodes), kind == "lerobot"
    index = source.index()
    window = WindowPolicy() if robot else WindowPolicy(every=0, per_episode=1)
    settings = {**SETTINGS, "source": {"name": "large"}, "window": plain(window), "shards": plain(ShardSettings())}
    started = time.monotonic()
    made = make_plan(source, index, BuildSettings.read(settings))
    write_plan(made, open_store(folder))
    return time.monotonic() - started, _peak()


def read(kind: str, episodes: int, folder: Path) -> tuple[float, float]:
    """The same of reading it, which is what continuing a build begins with."""
    started = time.monotonic()
    found = read_plan(open_store(folder))
    seconds = time.monotonic() - started
    assert found.estimate.episodes == episodes, f"{found.estimate.episodes} episodes of {kind}, {episodes} were planned"
    return seconds, _peak()


def _peak() -> float:
    """Highest resident memory of this process so far, GiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


STEPS: Mapping[str, Callable[[str, int, Path], tuple[float, float]]] = {"plan": plan, "read": read}

if __name__ == "__main__":
    step, kind_, count, where = sys.argv[1:]
    print(json.dumps(STEPS[step](kind_, int(count), Path(where))))
