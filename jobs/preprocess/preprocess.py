"""`vlajepa preprocess`: runs a plan on Ray and commits the build. The same command continues after any interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from jobs.cluster import metrics as ray_metrics
from jobs.cluster import ray_pool as ray_map
from jobs.cluster.encoder_error import error_line
from jobs.cluster.run_progress import Progress, ProgressLog
from jobs.cluster.scheduler import run_shards
from jobs.common.driver_lock import DriverLock
from jobs.common.progress import progress_bar
from jobs.common.text import duration_text, size_text
from jobs.preprocess.plan import Preparation, describe, prepare
from jobs.preprocess.prediction import Measured, beside
from jobs.preprocess.settings import BuildConfig
from pipeline.building.commit import clean_up, commit, describe_build, ledger_bytes
from pipeline.building.records import ShardRecord, find_records
from pipeline.errors import TooManyBadEpisodesError
from pipeline.format.build import Build, load_build, read_build
from pipeline.planning.plan import Plan
from pipeline.sources.base import LedgerEntry
from pipeline.storage.store import LocalStore, Store, open_store

NOT_BAD = ("too-short", "not-wanted")
"""Reasons of episodes that are sound but give no window, or were not asked for; they do not count as bad."""

BAD_EPISODES = "logs/bad_episodes.jsonl"

LISTED = 20
"""Bad episodes shown in the message that stops a run; all of them go to logs/bad_episodes.jsonl."""


def run(settings: BuildConfig) -> None:
    preprocess(settings)


def preprocess(settings: BuildConfig) -> Build:
    """Make the build of a configuration, or finish one that was interrupted.

    Raises:
        TooManyBadEpisodesError: more than `max_bad_share` of the episodes had to be left out.
        RunError: another driver is at work on the folder; or a task failed for good.
    """
    store = open_store(settings.out)
    if "build.json" in store.sizes():
        preparation = prepare(settings)
        print(describe(preparation.plan, store.where))
        describe_build(store)  # the run that finished it may have been killed before these two
        clean_up(store)
        print(f"{store.where} is finished already")
        return _finished_build(store)
    beats = _Beats()
    with DriverLock(store, on_beat=beats) as lock:
        return _make(settings, lock, beats)


def _make(settings: BuildConfig, lock: DriverLock, beats: _Beats) -> Build:
    preparation = prepare(settings)
    plan, store = preparation.plan, preparation.store
    print(describe(plan, store.where, preparation.prediction))
    if preparation.found:
        print("continuing the plan found there")
        store.tidy()
    before = find_records(store, plan.tasks, plan.fingerprint)
    log = ProgressLog(store, len(plan.tasks), plan.estimate.windows, before)
    beats.log = log
    watch = BadEpisodes(plan, settings.max_bad_share, store)
    timing = _run_tasks(settings, preparation, before, log, watch, lock)
    beats.log = None
    log.write()
    started = time.monotonic()
    commit(plan, store)
    build = _finished_build(store)
    record = asdict(timing) | {"commit_s": time.monotonic() - started, "cluster": asdict(settings.cluster)}
    record |= {"progress": asdict(log.progress), "predicted": asdict(preparation.prediction)}
    name = f"preprocess-{time.strftime('%Y%m%d-%H%M%S')}.json"
    store.write(f"logs/{name}", (json.dumps(record, indent=2) + "\n").encode())
    print(summary(build, watch, timing, log.progress, error_line(store)))
    print("\n".join(beside(preparation.prediction, timing.measured(log.progress))))
    print(f"next: vlajepa audit {build.remote or build.path}")
    return build


class _Beats:
    """What the lock does with every sign of life: the progress is stored."""

    def __init__(self) -> None:
        self.log: ProgressLog | None = None

    def __call__(self) -> None:
        if self.log is not None:
            self.log.write()


@dataclass(frozen=True)
class Timing:
    """Where the time of one run went.

    ray_startup_s  until Ray answers and the first encoder is loaded
    shards_s       wall time of the tasks
    decode_cpu_s   processor time of decoding, resizing and JPEG, over all workers;  inputs_cpu_s  the inputs jobs' part
    encode_cpu_s   of the threads that drive the encoder; all of it on the CPU with cpu_threads=1
    encode_s       wall time that encoders were busy, over all of them
    samples        made by this run
    """

    ray_startup_s: float
    shards_s: float
    decode_cpu_s: float
    encode_cpu_s: float
    encode_s: float
    samples: int
    inputs_cpu_s: float = 0.0

    def measured(self, progress: Progress) -> Measured:
        """For the comparison with the prediction."""
        return Measured(
            self.ray_startup_s + self.shards_s, self.decode_cpu_s, self.encode_s, progress.bytes_now, self.samples
        )


def _finished_build(store: Store) -> Build:
    """The build that was just made. One elsewhere has no folder here: its `path` is that of nothing."""
    if isinstance(store, LocalStore):
        return load_build(store.root)
    return read_build(store.read("build.json"), Path(), store.where)


def _run_tasks(
    settings: BuildConfig,
    preparation: Preparation,
    before: dict[tuple[str, str], ShardRecord],
    log: ProgressLog,
    watch: BadEpisodes,
    lock: DriverLock,
) -> Timing:
    plan = preparation.plan
    for part in before.values():
        watch.add(part.left_out)
    work = ray_map.Work(
        preparation.source,
        plan.recipe(),
        preparation.store,
        settings.encoder,
        dict(plan.content["encoder"]),
        settings.cluster,
    )
    progress, begun = log.progress, time.monotonic()
    decode_s = inputs_s = encode_cpu_s = encode_s = 0.0
    with ray_map.connected(work) as pool, _bar(plan, progress) as bar:
        metrics = ray_metrics.RunMetrics(plan.name)
        connected = time.monotonic()
        log.start()
        for event in run_shards(plan.tasks, before, pool):
            lock.check()
            log.finished(event)
            decode_s += event.part.decode_seconds
            inputs_s += event.part.decode_seconds if event.part.kind == "inputs" else 0.0
            encode_cpu_s += event.part.encode_seconds
            encode_s += event.encode_s
            watch.add(event.part.left_out)
            log.note(skipped=watch.left_out, lost=pool.lost, store_peak_bytes=pool.peak_store_bytes)
            metrics.update(progress)
            _show(bar, progress)
        ended = time.monotonic()
    spent = (decode_s, encode_cpu_s, encode_s)
    return Timing(connected - begun, ended - connected, *spent, progress.samples_now, inputs_s)


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
        bad = [entry for entry in self._entries.values() if entry.reason not in NOT_BAD]
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


def summary(build: Build, watch: BadEpisodes, timing: Timing, progress: Progress, error: str = "") -> str:
    """What was made, in a few lines."""
    lines = [f"build finished: {build.remote or build.path}"]
    for split, counts in build.manifest["counts"].items():
        lines.append(
            f"  {split:6} {counts['samples']:,} samples, {counts['episodes']:,} episodes, {counts['shards']:,} shards"
        )
    rate = timing.samples / max(timing.shards_s, 1e-9)
    lines.append(f"  left out {watch.left_out:,} episodes (ledger.jsonl)")
    lines.append(f"  {rate:.1f} samples/s; Ray and encoders took {duration_text(timing.ray_startup_s)} to start")
    lines += [error] if error else []
    held = size_text(progress.store_peak_bytes)
    lines.append(f"  {progress.lost} tasks were lost and started again; object stores held at most {held}")
    lines += [
        f"  node {name}: {node.samples:,} samples, {size_text(node.bytes)}, {node.samples_per_s:.1f} samples/s"
        for name, node in sorted(progress.nodes.items())
    ]
    return "\n".join(lines)
