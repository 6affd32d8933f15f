"""Faults of files and disks: sources that fail, change, hang or kill their reader; a full disk; no hard links."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.sources.ssv2 import VIDEO_FOLDER
from tests.faults.driver import Driver, Moment, Run, parts_of
from tests.faults.judge import Outcome, judge
from tests.faults.lab import Lab, finish
from tests.faults.watcher import Watcher

LIMIT_S = 10
"""cluster.episode_limit_s of the trials: far above what a clip takes, on a busy machine too."""


def errors_that_pass(lab: Lab, rng: random.Random) -> Outcome:
    """Eight clips whose first one or two opens fail with EIO: no episode may be lost."""
    with lab.rules({clip: f"eio {rng.choice((1, 2))}" for clip in rng.sample(_clips(lab.root), 8)}):
        return _ledgered(lab, {})


def errors_that_stay(lab: Lab, rng: random.Random) -> Outcome:
    """Two clips that can never be opened."""
    chosen = rng.sample(_clips(lab.root), 2)
    with lab.rules(dict.fromkeys(chosen, "eio -1")):
        return _ledgered(lab, dict.fromkeys(chosen, "undecodable"))


def hanging_reader(lab: Lab, rng: random.Random, how: str | None = None) -> Outcome:
    """A clip whose open never returns. "hang": its process can still say so; "lock": Python's interpreter is locked,
    so that its processes are only seen to end, each after the limit."""
    clip, how = rng.choice(_clips(lab.root)), how or rng.choice(("hang", "lock"))
    with lab.rules({clip: how}):
        reason = {"hang": "timed-out", "lock": "kills-reader"}[how]
        outcome = _ledgered(lab, {clip: reason}, f"cluster.episode_limit_s={LIMIT_S}")
    outcome.notes.append(how)
    return outcome


def crashing_reader(lab: Lab, rng: random.Random) -> Outcome:
    """A clip that kills the process that opens it, each time."""
    clip = rng.choice(_clips(lab.root))
    with lab.rules({clip: "crash"}):
        return _ledgered(lab, {clip: "kills-reader"})


def vanished(lab: Lab, rng: random.Random) -> Outcome:
    """A clip is gone after the plan."""
    return _changed(lab, rng, "missing-file", Path.unlink)


def truncated(lab: Lab, rng: random.Random) -> Outcome:
    """A clip is cut short after the plan."""
    return _changed(lab, rng, "changed-file", lambda path: os.truncate(path, path.stat().st_size // 2))


def replaced(lab: Lab, rng: random.Random) -> Outcome:
    """One byte of a clip is another after the plan, which hashed it; size and time stay."""

    def change(path: Path) -> None:
        before, content = path.stat(), bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return _changed(lab, rng, "changed-file", change, "hash_raw=true")


def disk_full(lab: Lab, rng: random.Random) -> Outcome:
    """From a random moment on every write fails with ENOSPC, on all nodes; later there is space again."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files - 6)).wait(driver):
            return None
        with lab.rules({"full": ""}):
            code = driver.wait()
            explained = "No space left" in driver.output and "run the same command again" in driver.output
            if code != 2 or not explained:
                raise AssertionError(f"exit code {code}, not 2 with a message: {driver.last_line}")
        return f"full after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def small_disk(lab: Lab, rng: random.Random) -> Outcome:
    """The build folder lies on a disk that is too small, until it is made larger. Needs the right to mount."""
    lab.cluster.heal()
    needed = sum(path.stat().st_size for path in lab.reference.rglob("*") if path.is_file())
    outcome, disk, started = Outcome(), lab.new_out(), time.monotonic()
    disk.mkdir()
    size = int(needed * rng.uniform(0.15, 0.9)) // 4096 * 4096
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        with Watcher(disk / "build", lab.hashes) as watcher:
            driver = lab.start(lab.run(disk / "build", root=lab.root))
            code = driver.wait()
            outcome.notes.append(f"disk of {size / 2**20:.1f} MiB: {driver.last_line[:300]}")
            if code != 2 or "No space left" not in driver.output:
                outcome.problems.append(f"exit code {code}, not 2 with a message")
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            outcome.restarts = 1
            driver = lab.start(driver.run)
            finish(lab, driver, outcome)
        outcome.half_written += sorted(watcher.problems)
        if (disk / "build" / "build.json").exists():
            judge(disk / "build", outcome, lab.reference)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    outcome.seconds = time.monotonic() - started
    return outcome


def rename_only(lab: Lab, rng: random.Random) -> Outcome:
    """A file system without hard links and without O_EXCL."""
    with lab.rules({"rename-only": ""}):
        return _ledgered(lab, {}, environment=lab.shimmed)


def _clips(root: Path) -> list[str]:
    """Names of the clips of train and val."""
    folder = root / "labels"
    entries = [entry for name in ("train", "validation") for entry in json.loads((folder / f"{name}.json").read_text())]
    return [f"{entry['id']}.webm" for entry in entries]


def _ledgered(lab: Lab, left_out: dict[str, str], *settings: str, environment: dict[str, str] | None = None) -> Outcome:
    """One run on a copy of the clips. left_out: reason by name of clip."""
    lab.cluster.heal()
    out = lab.new_out()
    return _run(lab, lab.run(out, *settings, root=lab.own_clips(), environment=environment), left_out)


def _changed(lab: Lab, rng: random.Random, reason: str, change: Callable[[Path], None], *settings: str) -> Outcome:
    """Plan, change two clips, run."""
    lab.cluster.heal()
    run = lab.run(lab.new_out(), *settings, root=lab.own_clips())
    planner = lab.start(run, "plan")
    if planner.wait() != 0:
        raise RuntimeError(f"vlajepa plan failed: {planner.output}")
    chosen = rng.sample(_clips(lab.root), 2)
    for clip in chosen:
        change(run.root / VIDEO_FOLDER / clip)
    return _run(lab, run, dict.fromkeys(chosen, reason))


def _run(lab: Lab, run: Run, left_out: dict[str, str]) -> Outcome:
    outcome, started = Outcome(), time.monotonic()
    with Watcher(run.out, None if left_out else lab.hashes) as watcher:
        finish(lab, lab.start(run), outcome)
    outcome.half_written += sorted(watcher.problems)
    if (run.out / "build.json").exists():
        judge(run.out, outcome, lab.reference, {f"ssv2-{Path(clip).stem}": why for clip, why in left_out.items()})
    shutil.rmtree(run.root)
    outcome.seconds = time.monotonic() - started
    return outcome
