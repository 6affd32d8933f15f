"""`vlajepa preprocess`: runs a plan on Ray and commits the build. The same command continues after any interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig

from jobs import ray_map
from jobs.config import parse
from jobs.plan import Preparation, describe, prepare
from jobs.progress import progress_bar
from jobs.settings import BuildConfig
from pipeline.errors import TooManyBadEpisodesError
from pipeline.manifest import Build, clean_up, commit, describe_build, ledger_bytes, load_build, read_build
from pipeline.parts import Part, find_parts
from pipeline.plan import Plan
from pipeline.sources.base import Fault
from pipeline.store import LocalStore, Store

NOT_BAD = ("too-short", "not-wanted")
"""Reasons of episodes that are sound but give no window, or were not asked for; they do not count as bad."""

BAD_EPISODES = "logs/bad_episodes.jsonl"

LISTED = 20
"""Bad episodes shown in the message that stops a run; all of them go to logs/bad_episodes.jsonl."""


def run(config: DictConfig) -> None:
    settings = parse(BuildConfig, config)
    preprocess(settings)


def preprocess(settings: BuildConfig) -> Build:
    """Make the build of a configuration, or finish one that was interrupted.

    Raises:
        TooManyBadEpisodesError: more than `max_bad_share` of the episodes had to be left out.
    """
    preparation = prepare(settings)
    plan, store = preparation.plan, preparation.store
    print(describe(plan, store.where))
    if "build.json" in store.sizes():
        describe_build(store)  # the run that finished it may have been killed before these two
        clean_up(store)
        print(f"{store.where} is finished already")
        return _finished_build(store)
    if preparation.found:
        print("continuing the plan found there")
        store.tidy()
    watch = BadEpisodes(plan, settings.max_bad_share, store)
    timing = _run_tasks(settings, preparation, watch)
    started = time.monotonic()
    commit(plan, store)
    build = _finished_build(store)
    record = asdict(timing) | {"commit_s": time.monotonic() - started, "cluster": asdict(settings.cluster)}
    name = f"preprocess-{time.strftime('%Y%m%d-%H%M%S')}.json"
    store.write(f"logs/{name}", (json.dumps(record, indent=2) + "\n").encode())
    print(summary(build, watch, timing))
    return build


@dataclass(frozen=True)
class Timing:
    """Where the time of one run went.

    ray_startup_s  until Ray answers and the encoders are loaded
    shards_s       wall time of the tasks
    decode_cpu_s   processor time of decoding, resizing and JPEG, over all workers
    encode_cpu_s   of the threads that drive the encoder; all of it on the CPU with cpu_threads=1
    samples        made by this run
    """

    ray_startup_s: float
    shards_s: float
    decode_cpu_s: float
    encode_cpu_s: float
    samples: int


def _finished_build(store: Store) -> Build:
    """The build that was just made. One elsewhere has no folder here: its `path` is that of nothing."""
    if isinstance(store, LocalStore):
        return load_build(store.root)
    return read_build(store.read("build.json"), Path(), store.where)


def _run_tasks(settings: BuildConfig, preparation: Preparation, watch: BadEpisodes) -> Timing:
    plan, store = preparation.plan, preparation.store
    finished = find_parts(store, plan.tasks, plan.fingerprint)
    for part in finished.values():
        watch.add(part.faults)
    work = ray_map.Work(
        preparation.source, plan.recipe(), store, settings.encoder, dict(plan.settings["encoder"]), settings.cluster
    )
    done = sum(part.rows for part in finished.values() if part.kind == "targets")
    parts: list[Part] = []
    begun = time.monotonic()
    with ray_map.connected(work) as pool:
        connected = time.monotonic()
        with progress_bar(total=max(done, plan.estimate.windows), initial=done, unit="window", desc=plan.name) as bar:
            for part in ray_map.run_shards(plan.tasks, finished, pool):
                parts.append(part)
                watch.add(part.faults)
                bar.set_postfix(files=f"{len(finished) + len(parts)}/{2 * len(plan.tasks)}", skipped=watch.left_out)
                if part.kind == "targets":
                    bar.update(part.rows)
        ended = time.monotonic()
    return Timing(
        connected - begun,
        ended - connected,
        sum(part.decode_seconds for part in parts),
        sum(part.encode_seconds for part in parts),
        sum(part.rows for part in parts if part.kind == "targets"),
    )


class BadEpisodes:
    """Counts episodes that had to be left out and stops the run at the allowed share."""

    def __init__(self, plan: Plan, allowed: float, store: Store) -> None:
        self._faults: dict[str, Fault] = {}
        self._plan = plan
        self._allowed = allowed
        self._store = store
        self.add(plan.faults)

    @property
    def left_out(self) -> int:
        """Distinct episodes left out so far, too short ones included."""
        return len(self._faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Record faults; raises TooManyBadEpisodesError when the share is exceeded."""
        for fault in faults:
            self._faults.setdefault(fault.episode, fault)
        bad = [fault for fault in self._faults.values() if fault.reason not in NOT_BAD]
        total = self._plan.num_episodes
        if len(bad) > self._allowed * total:
            self._store.write(BAD_EPISODES, ledger_bytes(bad))
            shown = "\n".join(f"  {fault.episode}: {fault.reason}: {fault.detail}" for fault in bad[:LISTED])
            raise TooManyBadEpisodesError(
                f"{len(bad)} of {total} episodes of {self._plan.name} are bad, more than "
                f"max_bad_share={self._allowed:g} allows:\n{shown}\n"
                f"all of them: {self._store.where}/{BAD_EPISODES}; mend the files, or raise max_bad_share to leave "
                "them out"
            )


def summary(build: Build, watch: BadEpisodes, timing: Timing) -> str:
    """What was made, in a few lines."""
    where = build.remote or build.path
    lines = [f"build finished: {where}"]
    for split, counts in build.manifest["counts"].items():
        lines.append(
            f"  {split:6} {counts['samples']:,} samples, {counts['episodes']:,} episodes, {counts['shards']:,} shards"
        )
    rate = timing.samples / max(timing.shards_s, 1e-9)
    lines.append(f"  left out {watch.left_out:,} episodes (ledger.jsonl)")
    lines.append(f"  {rate:.1f} samples/s; Ray and encoders took {timing.ray_startup_s:.1f} s to start")
    return "\n".join([*lines, f"next: vlajepa audit {where}"])
