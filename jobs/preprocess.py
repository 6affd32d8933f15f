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
from jobs.plan import describe, prepare
from jobs.progress import progress_bar
from jobs.settings import BuildConfig
from pipeline.errors import TooManyBadEpisodesError
from pipeline.manifest import Build, clean_up, commit, describe_build, ledger_bytes, load_build
from pipeline.parts import Part, read_part
from pipeline.plan import Plan
from pipeline.shards import remove_temporary_files, write_atomic
from pipeline.sources.base import Fault, Source

NOT_BAD = ("too-short", "not-wanted")
"""Reasons of episodes that are sound but give no window, or were not asked for; they do not count as bad."""

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
    plan, out = preparation.plan, settings.out
    print(describe(plan, out))
    if (out / "build.json").exists():
        describe_build(out)  # the run that finished it may have been killed before these two
        clean_up(out)
        print(f"{out} is finished already")
        return load_build(out)
    if preparation.found:
        print("continuing the plan found there")
        remove_temporary_files(out)
    watch = BadEpisodes(plan, settings.max_bad_share, out)
    timing = _run_tasks(settings, plan, preparation.source, watch)
    started = time.monotonic()
    commit(plan, out)
    build = load_build(out)
    record = asdict(timing) | {"commit_s": time.monotonic() - started, "cluster": asdict(settings.cluster)}
    name = f"preprocess-{time.strftime('%Y%m%d-%H%M%S')}.json"
    write_atomic(out / "logs" / name, (json.dumps(record, indent=2) + "\n").encode())
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


def _run_tasks(settings: BuildConfig, plan: Plan, source: Source, watch: BadEpisodes) -> Timing:
    recipe, out = plan.recipe(), settings.out.resolve()
    finished = find_parts(plan, out)
    for part in finished.values():
        watch.add(part.faults)
    work = ray_map.Work(source, recipe, out, settings.encoder, dict(plan.settings["encoder"]), settings.cluster)
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


def find_parts(plan: Plan, out: Path) -> dict[tuple[str, str], Part]:
    """Records of the files that earlier runs finished, by task name and kind."""
    found = {}
    for task in plan.tasks:
        for kind in ("inputs", "targets"):
            part = read_part(out, task, kind, plan.fingerprint)
            if part is not None:
                found[task.name, kind] = part
    return found


class BadEpisodes:
    """Counts episodes that had to be left out and stops the run at the allowed share."""

    def __init__(self, plan: Plan, allowed: float, out: Path) -> None:
        self._faults: dict[str, Fault] = {}
        self._plan = plan
        self._allowed = allowed
        self._out = out
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
            path = self._out / "logs" / "bad_episodes.jsonl"
            write_atomic(path, ledger_bytes(bad))
            shown = "\n".join(f"  {fault.episode}: {fault.reason}: {fault.detail}" for fault in bad[:LISTED])
            raise TooManyBadEpisodesError(
                f"{len(bad)} of {total} episodes of {self._plan.name} are bad, more than "
                f"max_bad_share={self._allowed:g} allows:\n{shown}\n"
                f"all of them: {path}; mend the files, or raise max_bad_share to leave them out"
            )


def summary(build: Build, watch: BadEpisodes, timing: Timing) -> str:
    """What was made, in a few lines."""
    lines = [f"build finished: {build.path}"]
    for split, counts in build.manifest["counts"].items():
        lines.append(
            f"  {split:6} {counts['samples']:,} samples, {counts['episodes']:,} episodes, {counts['shards']:,} shards"
        )
    rate = timing.samples / max(timing.shards_s, 1e-9)
    lines.append(f"  left out {watch.left_out:,} episodes (ledger.jsonl)")
    lines.append(f"  {rate:.1f} samples/s; Ray and encoders took {timing.ray_startup_s:.1f} s to start")
    return "\n".join([*lines, f"next: vlajepa audit {build.path}"])
