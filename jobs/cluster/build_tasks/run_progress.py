"""How far a run is: counted as files are finished, written into the build's logs/, read by `vlajepa status`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from jobs.cluster.build_tasks.scheduler import Finished
from pipeline.building.records import ShardRecord
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.storage.store import Store

PROGRESS_FILE = "logs/progress.json"


@dataclass
class NodeWork:
    """What one node has finished in this run. samples: of targets files; first, last: seconds into the run."""

    files: int = 0
    samples: int = 0
    bytes: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def samples_per_s(self) -> float:
        return self.samples / max(self.last_s, 1e-9)


@dataclass
class Progress:
    """Counts of a run and of the runs before it on the same plan.

    files_total        two a shard;  files_done, shards_done, samples_done, bytes_written  so far, earlier runs included
    samples_expected   by the plan; exact only where the source's metadata has every length
    skipped            episodes left out
    samples_now, bytes_now  by this run;  running_s  since its first task
    lost               tasks that died with a worker or node and were started again
    store_peak_bytes   most that the object stores of all nodes held
    """

    files_total: int
    samples_expected: int
    files_done: int = 0
    shards_done: int = 0
    samples_done: int = 0
    bytes_written: int = 0
    skipped: int = 0
    samples_now: int = 0
    bytes_now: int = 0
    running_s: float = 0.0
    lost: int = 0
    store_peak_bytes: int = 0
    updated: float = 0.0
    nodes: dict[str, NodeWork] = field(default_factory=dict)

    @property
    def samples_per_s(self) -> float:
        """Of this run."""
        return self.samples_now / max(self.running_s, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate; None when nothing has been made yet."""
        left = max(0, self.samples_expected - self.samples_done)
        return left / self.samples_per_s if self.samples_now else None


class ProgressLog:
    """Keeps a Progress up to date and in the build's folder. Safe to use from the lock's thread."""

    def __init__(self, store: Store, shards: int, expected: int, before: Mapping[tuple[str, str], ShardRecord]) -> None:
        self.progress = Progress(2 * shards, expected)
        self._store, self._lock = store, threading.Lock()
        self._files: dict[tuple[str, str], tuple[int, int]] = {}
        self._start = time.monotonic()
        for part in before.values():
            self._count(part)

    def start(self) -> None:
        """The first task is about to start: rates count from here."""
        self._start = time.monotonic()

    def finished(self, event: Finished) -> None:
        """Count a file that is in its place."""
        with self._lock:
            part, progress = event.part, self.progress
            self._count(part)
            progress.running_s = time.monotonic() - self._start
            samples = part.rows if part.kind == "targets" else 0
            progress.samples_now += samples
            progress.bytes_now += part.bytes
            node = progress.nodes.setdefault(event.node, NodeWork(first_s=progress.running_s))
            node.files += 1
            node.samples += samples
            node.bytes += part.bytes
            node.last_s = progress.running_s

    def note(self, **counts: int) -> None:
        """Set some of the counts."""
        with self._lock:
            for name, value in counts.items():
                setattr(self.progress, name, value)

    def write(self) -> None:
        """Store it, with the time by this machine's clock."""
        with self._lock:
            self.progress.updated = time.time()
            self.progress.running_s = time.monotonic() - self._start
            content = json.dumps(asdict(self.progress), indent=2) + "\n"
        self._store.write(PROGRESS_FILE, content.encode())

    def _count(self, part: ShardRecord) -> None:
        progress, name = self.progress, (part.task, part.kind)
        rows = part.rows if part.kind == "targets" else 0
        old_rows, old_bytes = self._files.get(name, (0, 0))  # made again without some episodes
        self._files[name] = (rows, part.bytes)
        progress.files_done = len(self._files)
        progress.shards_done = len(self._files) - len({task for task, _ in self._files})
        progress.bytes_written += part.bytes - old_bytes
        progress.samples_done += rows - old_rows


def read_progress(store: Store) -> Progress | None:
    """What the last run on a build folder has written; None if there is nothing."""
    try:
        return from_json(Progress, parse(store.read(PROGRESS_FILE)))
    except (FileNotFoundError, ValueError):
        return None
