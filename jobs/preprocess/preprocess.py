"""`vlajepa preprocess`: runs a plan on Ray and commits the build. The same command continues after any interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from jobs.cluster.build_tasks.encoder_error import error_line
from jobs.cluster.build_tasks.one_machine import require_one_machine
from jobs.cluster.build_tasks.ray_pool import Work, connected
from jobs.cluster.build_tasks.run_progress import Progress, ProgressLog
from jobs.cluster.build_tasks.scheduler import run_shards
from jobs.cluster.metrics import RunMetrics
from jobs.common.driver_lock import DriverLock
from jobs.common.progress import phase, progress_bar
from jobs.common.text import duration_text, size_text
from jobs.preprocess.derived import split_lines, tidy_finished
from jobs.preprocess.plan import Preparation, describe, prepare
from jobs.preprocess.prediction import Timing, compare
from jobs.preprocess.settings import BuildConfig
from pipeline.building.commit import commit, ledger_bytes
from pipeline.building.records import ShardRecord, find_records
from pipeline.errors import TooManyBadEpisodesError
from pipeline.format.build import Build, load_build, read_build
from pipeline.planning.episode_filter import STAGE as FILTER
from pipeline.planning.plan import Plan
from pipeline.sources.base import LedgerEntry
from pipeline.storage.store import LocalStore, Store, open_store

NOT_BAD = ("too-short", "not-wanted", "all-idle")
"""Reasons of good episodes that give no window, or were excluded; they do not count as bad."""

BAD_EPISODES = "logs/bad_episodes.jsonl"

LISTED = 20
"""Bad episodes shown in the message that stops a run; all of them go to logs/bad_episodes.jsonl."""


def run(settings: BuildConfig) -> Build:
    return preprocess(settings)


def preprocess(settings: BuildConfig) -> Build:
    """Make the build of a configuration, or finish one that was interrupted.

    Raises:
        TooManyBadEpisodesError: more than `max_bad_share` of the episodes had to be left out.
        RunError: another driver is at work on the folder; or a task failed for good.
    """
    store = open_store(settings.out)
    if "build.json" in store.sizes():
        print(describe(prepare(settings).plan, store.where))
        tidy_finished(store)
        return _finished_build(store)
    with DriverLock(store) as lock:
        return _make(settings, lock)


def _make(settings: BuildConfig, lock: DriverLock) -> Build:
    preparation = prepare(settings)
    plan, store = preparation.plan, preparation.store
    print(describe(plan, store.where, preparation.prediction))
    if preparation.found:
        print("continuing the plan found there")
        store.tidy()
    with phase(f"looking for finished shards in {store.where}"):
        before = find_records(store, plan.tasks, plan.fingerprint)
    log = ProgressLog(store, len(plan.tasks), plan.estimate.windows, before)
    lock.on_beat = log.write
    bad = BadEpisodes(plan, settings.max_bad_share, store)
    timing = _run_tasks(settings, preparation, before, log, bad, lock)
    lock.on_beat = lambda: None
    log.write()
    started = time.monotonic()
    with phase(f"joining the shards of {store.where}"):
        commit(plan, store, check=lock.check)
    build = _finished_build(store)
    record = asdict(timing) | {"commit_s": time.monotonic() - started, "cluster": asdict(settings.cluster)}
    record |= {"progress": asdict(log.progress), "predicted": asdict(preparation.prediction)}
    name = f"preprocess-{time.strftime('%Y%m%d-%H%M%S')}.json"
    store.write(f"logs/{name}", (json.dumps(record, indent=2) + "\n").encode())
    print(summary(build, bad.left_out, timing, log.progress, error_line(store)))
    print("\n".join(compare(preparation.prediction, timing)))
    print(f"next: vlajepa audit {build.remote or build.path}")
    return build


def _finished_build(store: Store) -> Build:
    """The build that was just made. A remote one has no folder here: its `path` is empty."""
    if isinstance(store, LocalStore):
        return load_build(store.root)
    return read_build(store.read("build.json"), Path(), store.where)


def _run_tasks(
    settings: BuildConfig,
    preparation: Preparation,
    before: dict[tuple[str, str], ShardRecord],
    log: ProgressLog,
    bad: BadEpisodes,
    lock: DriverLock,
) -> Timing:
    plan = preparation.plan
    for record in before.values():
        bad.add(record.left_out)
    machines = [record.encoded_on for record in before.values() if record.encoded_on is not None]
    work = Work(
        preparation.source,
        plan.recipe(),
        preparation.store,
        settings.encoder,
        dict(plan.content["encoder"]),
        settings.cluster,
        require_one_machine(machines, settings.cluster.mixed_devices),
    )
    progress, begun = log.progress, time.monotonic()
    decode_s = inputs_s = encode_cpu_s = encode_s = 0.0
    with connected(work, plan.tasks[0].episodes) as pool, _bar(plan, progress) as bar:
        metrics = RunMetrics(plan.name)
        ready = time.monotonic()
        log.start()
        for event in run_shards(plan.tasks, before, pool):
            lock.check()
            log.finished(event)
            decode_s += event.part.decode_seconds
            inputs_s += event.part.decode_seconds if event.part.kind == "inputs" else 0.0
            encode_cpu_s += event.part.encode_seconds
            encode_s += event.encode_s
            bad.add(event.part.left_out)
            log.note(skipped=bad.left_out, lost=pool.lost, store_peak_bytes=pool.peak_store_bytes)
            metrics.update(progress)
            _show(bar, progress)
        ended = time.monotonic()
    spent = (decode_s, encode_cpu_s, encode_s)
    return Timing(ready - begun, ended - ready, *spent, progress.samples_now, progress.bytes_now, inputs_s)


def _bar(plan: Plan, progress: Progress) -> tqdm:
    total = max(progress.samples_done, progress.samples_expected)
    return progress_bar(total=total, initial=progress.samples_done, unit="window", desc=plan.name)


def _show(bar: tqdm, progress: Progress) -> None:
    bar.set_postfix(
        shards=f"{progress.shards_done}/{progress.files_total // 2}",
        skipped=progress.skipped,
        GB=f"{progress.bytes_written / 1e9:.2f}",
        nodes=len(progress.nodes),
        refresh=False,
    )
    bar.update(progress.samples_done - bar.n)


class BadEpisodes:
    """Counts episodes that had to be left out and stops the run at the allowed share."""

    def __init__(self, plan: Plan, allowed: float, store: Store) -> None:
        self._entries: dict[str, LedgerEntry] = {}
        self._plan = plan
        self._allowed = allowed
        self._store = store
        self.add(plan.left_out)

    @property
    def left_out(self) -> int:
        """Distinct episodes left out so far, too short ones included."""
        return len(self._entries)

    def add(self, entries: Iterable[LedgerEntry]) -> None:
        """Record entries; raises TooManyBadEpisodesError when the share is exceeded."""
        for entry in entries:
            self._entries.setdefault(entry.episode, entry)
        bad = [entry for entry in self._entries.values() if entry.reason not in NOT_BAD and entry.stage != FILTER]
        total = self._plan.num_episodes
        if len(bad) > self._allowed * total:
            self._store.write(BAD_EPISODES, ledger_bytes(bad))
            shown = "\n".join(f"  {entry.episode}: {entry.reason}: {entry.detail}" for entry in bad[:LISTED])
            raise TooManyBadEpisodesError(
                f"{len(bad)} of {total} episodes of {self._plan.name} are bad, more than "
                f"max_bad_share={self._allowed:g} allows:\n{shown}\n"
                f"all of them: {self._store.where}/{BAD_EPISODES}; mend the files, or raise max_bad_share to leave "
                "them out"
            )


def summary(build: Build, left_out: int, timing: Timing, progress: Progress, error: str = "") -> str:
    """What was made, in a few lines."""
    lines = [f"build finished: {build.remote or build.path}", *split_lines(build)]
    rate = timing.samples / max(timing.shards_s, 1e-9)
    lines.append(f"  left out {left_out:,} episodes (ledger.jsonl)")
    lines.append(f"  {rate:.1f} samples/s; Ray and encoders took {duration_text(timing.ray_startup_s)} to start")
    lines += [error] if error else []
    held = size_text(progress.store_peak_bytes)
    lines.append(f"  {progress.lost} tasks were lost and started again; object stores held at most {held}")
    lines += [
        f"  node {name}: {node.samples:,} samples, {size_text(node.bytes)}, {node.samples_per_s:.1f} samples/s"
        for name, node in sorted(progress.nodes.items())
    ]
    return "\n".join(lines)
