"""`vlajepa status BUILD`: how far a preprocessing run is, from the build's folder alone.

Finished files are counted in the folder, so the numbers hold for a run that was killed as well. Rates and nodes are
what the last driver wrote a few seconds ago.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from jobs.cluster.build_tasks.run_progress import Progress, read_progress
from jobs.common.driver_lock import BEAT_S, read_owner
from jobs.common.progress import phase
from jobs.common.text import duration_text, size_text
from jobs.preprocess.settings import StatusConfig
from pipeline.errors import BuildError
from pipeline.format.file_names import PLAN_FILE, TASKS_FILE, WORK_FOLDER
from pipeline.format.text.printable import printable
from pipeline.storage.store import Store, open_store

SILENT_S = 12 * BEAT_S
"""Without a sign of life for so long, a driver is called silent."""


@dataclass(frozen=True)
class Status:
    """The state of a build folder.

    state         "planned", "running", "silent" (no sign of life of its driver), "stopped" or "finished"
    driver        the process that holds the lock, or None
    files_done, files_total  inputs and targets files
    progress      what the last driver wrote; None before the first
    silent_s      seconds since then, by this machine's clock
    """

    state: str
    driver: str | None
    files_done: int
    files_total: int
    progress: Progress | None
    silent_s: float | None


def run(settings: StatusConfig) -> Status:
    store = open_store(settings.build)
    with phase(f"counting the files of {store.where}"):
        status = read_status(store)
    if not settings.json:
        print(describe(status, store.where))
        return status
    content = asdict(status)
    if status.progress is not None:
        content["progress"] |= {"samples_per_s": status.progress.samples_per_s, "left_s": status.progress.left_s}
    print(json.dumps(content, indent=2))
    return status


def read_status(store: Store) -> Status:
    """Look at a build folder. Raises BuildError if it holds no plan."""
    sizes = store.sizes()
    if PLAN_FILE not in sizes:
        raise BuildError(f"{store.where} holds no plan and no build; give the folder of a `vlajepa preprocess`")
    progress = read_progress(store)
    owner = read_owner(store)
    if TASKS_FILE not in sizes:
        raise BuildError(
            f"{store.where} has a plan and no {TASKS_FILE}: it was cut off; vlajepa preprocess with the same settings "
            "and another out= plans anew"
        )
    total = 2 * sum(bool(line.strip()) for line in store.read(TASKS_FILE).splitlines())
    finished = "build.json" in sizes
    done = total if finished else sum(name.startswith(f"{WORK_FOLDER}/") for name in sizes)
    silent = None if progress is None else max(0.0, time.time() - progress.updated)
    if finished:
        state = "finished"
    elif owner is not None:
        state = "running" if silent is None or silent < SILENT_S else "silent"
    else:
        state = "planned" if done == 0 else "stopped"
    return Status(state, owner.describe() if owner else None, done, total, progress, silent)


def describe(status: Status, where: str) -> str:
    """The status for people."""
    lines = [f"{where}: {status.state}" + (f" ({printable(status.driver)})" if status.driver else "")]
    share = status.files_done / max(1, status.files_total)
    lines.append(f"  files     {status.files_done:,} of {status.files_total:,} ({share:.1%}), two a shard")
    p = status.progress
    if p is None:
        return "\n".join(lines)
    left = "unknown" if p.left_s is None else duration_text(p.left_s)
    lines += [
        f"  shards    {p.shards_done:,} of {p.files_total // 2:,}",
        f"  samples   {p.samples_done:,} of about {p.samples_expected:,}; {p.samples_per_s:.1f} a second, {left} left",
        f"  written   {size_text(p.bytes_written)}, {size_text(p.bytes_now / max(p.running_s, 1e-9))} a second",
        f"  skipped   {p.skipped:,} episodes;  lost and started again: {p.lost:,} tasks",
        f"  memory    object stores held at most {size_text(p.store_peak_bytes)}",
    ]
    lines += [
        f"  node {printable(name)}: {n.files:,} files, {n.samples:,} samples, {n.samples_per_s:.1f} a second"
        for name, n in sorted(p.nodes.items())
    ]
    lines.append(f"  last sign of life {duration_text(status.silent_s or 0.0)} ago")
    return "\n".join(lines)
