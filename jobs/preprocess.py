"""`vlajepa preprocess`: runs a plan on Ray and commits the build. The same command continues after any interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from jobs import ray_map
from jobs.config import BuildConfig, parse
from jobs.plan import describe, prepare
from pipeline.errors import TooManyBadEpisodesError
from pipeline.manifest import Build, commit, ledger_bytes, load_build
from pipeline.parts import Part, read_part
from pipeline.plan import Plan
from pipeline.shards import remove_temporary_files, write_atomic
from pipeline.sources.base import Fault, Source

TOO_SHORT = "too-short"
"""Reason of episodes that are sound but give no window; they do not count as bad."""

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
    begun = time.monotonic()
    preparation = prepare(settings)
    plan, out = preparation.plan, settings.out
    print(describe(plan, out))
    if (out / "build.json").exists():
        print(f"{out} is finished already")
        return load_build(out)
    if preparation.found:
        print("continuing the plan found there")
        remove_temporary_files(out)
    watch = BadEpisodes(plan, settings.max_bad_share, out)
    parts, startup, working = _run_tasks(settings, preparation.plan, preparation.source, watch)
    started = time.monotonic()
    commit(plan, out)
    build = load_build(out)
    times = {
        "plan_s": working.started - begun - startup,
        "ray_startup_s": startup,
        "shards_s": working.seconds,
        "commit_s": time.monotonic() - started,
        "decode_cpu_s": sum(part.decode_seconds for part in parts),
        "encode_cpu_s": sum(part.encode_seconds for part in parts),
        "parts_made": len(parts),
        "cluster": asdict(settings.cluster),
    }
    write_atomic(
        out / "logs" / f"preprocess-{time.strftime('%Y%m%d-%H%M%S')}.json", json.dumps(times, indent=2).encode()
    )
    print(summary(build, watch, working.seconds))
    return build


class _Watch:
    """Seconds between its making and `stop`."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds = 0.0

    def stop(self) -> None:
        self.seconds = time.monotonic() - self.started


def _run_tasks(
    settings: BuildConfig, plan: Plan, source: Source, watch: BadEpisodes
) -> tuple[list[Part], float, _Watch]:
    recipe = plan.recipe()
    work = ray_map.Work(
        source, recipe, settings.out.resolve(), settings.encoder, dict(plan.settings["encoder"]), settings.cluster
    )
    startup = ray_map.start(settings.cluster)
    parts: list[Part] = []
    working = _Watch()
    try:
        with tqdm(total=plan.estimate.windows, unit="window", smoothing=0.1, desc=plan.name) as bar:
            for part in ray_map.run_shards(plan.tasks, work):
                parts.append(part)
                watch.add(part.faults)
                if part.kind == "targets":
                    bar.update(part.rows)
                bar.set_postfix(files=f"{len(parts)}/{2 * len(plan.tasks)}", skipped=watch.left_out)
    finally:
        working.stop()
        ray_map.stop()
    return parts, startup, working


class BadEpisodes:
    """Counts episodes that had to be left out and stops the run at the allowed share."""

    def __init__(self, plan: Plan, allowed: float, out: Path) -> None:
        self._faults: dict[str, Fault] = {}
        self._plan = plan
        self._allowed = allowed
        self._out = out
        self.add(plan.faults)
        for task in plan.tasks:
            for kind in ("inputs", "targets"):
                part = read_part(out, task, kind, plan.fingerprint)
                self.add(part.faults if part else ())

    @property
    def left_out(self) -> int:
        """Distinct episodes left out so far, too short ones included."""
        return len(self._faults)

    def add(self, faults: Iterable[Fault]) -> None:
        """Record faults; raises TooManyBadEpisodesError when the share is exceeded."""
        for fault in faults:
            self._faults.setdefault(fault.episode, fault)
        bad = [fault for fault in self._faults.values() if fault.reason != TOO_SHORT]
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


def summary(build: Build, watch: BadEpisodes, seconds: float) -> str:
    """What was made, in a few lines."""
    counts = build.manifest["counts"]
    lines = [
        f"  {split:6} {c['samples']:,} samples, {c['episodes']:,} episodes, {c['shards']:,} shards"
        for split, c in counts.items()
    ]
    samples = sum(c["samples"] for c in counts.values())
    lines.append(f"  left out {watch.left_out:,} episodes (ledger.jsonl); {samples / max(seconds, 1e-9):.1f} samples/s")
    return f"build finished: {build.path}\n" + "\n".join(lines) + f"\nnext: vlajepa audit {build.path}"
