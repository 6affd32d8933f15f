"""`vlajepa collect`: scripted demonstrations in the LIBERO simulator, as a LeRobot folder and as LIBERO's HDF5.

The same command continues after an interruption; what an episode holds depends on suite, task and seed alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.closed_loop.collect.attempts import Attempt, TaskAttempts
from jobs.closed_loop.collect.collection import Collection, Suite, episode_path
from jobs.closed_loop.collect.guided import Guide
from jobs.closed_loop.collect.recording import write_lerobot_demonstrations, write_libero_demonstrations
from jobs.closed_loop.collect.settings import CollectConfig
from jobs.closed_loop.process import Simulator
from jobs.closed_loop.rollout import SimulatorSlot, simulator_slots
from jobs.common.driver_lock import DriverLock
from jobs.common.json_lines import JsonLines
from jobs.simulator.libero import CAMERAS
from model.checkpoint.folders import find_checkpoint
from model.checkpoint.state_file import checkpoint_sha256
from pipeline.errors import BuildError, SettingsError
from pipeline.format.text.differences import first_difference
from pipeline.storage.atomic import TEMPORARY_PREFIX, remove_temporary_files, write_atomic
from pipeline.storage.store import open_store

MANIFEST = "libero_scripted"
"""Name in `source=` of the LeRobot folders that are written here."""

FOLDERS = {"lerobot": ("lerobot",), "hdf5": ("hdf5",), "both": ("lerobot", "hdf5")}


def run(settings: CollectConfig) -> dict[str, Any]:
    """The content of collected.json."""
    result = collect(settings)
    print(describe(settings, result))
    return result


def collect(settings: CollectConfig) -> dict[str, Any]:
    """Record what is missing, and write the datasets and collected.json, whose content is returned.

    Raises:
        SettingsError: the suite and the settings do not fit together.
        BuildError: `out` holds episodes of other settings or another simulator.
        RunError: too many attempts of a task failed, or a simulator cannot be started.
    """
    if settings.policy is not None:
        # Of a run that is still training, the newest checkpoint changes.
        settings = replace(settings, policy=find_checkpoint(settings.policy))
    settings.out.mkdir(parents=True, exist_ok=True)
    with DriverLock(open_store(settings.out)) as lock, ExitStack() as stack:
        episodes = settings.out / "episodes"
        remove_temporary_files(episodes, [path.name for path in episodes.glob("*")])
        start = partial(Simulator, settings.simulator)
        slots = stack.enter_context(simulator_slots(settings.out, settings.processes, start))
        suite = _look_up(settings, slots[0])
        log = JsonLines(settings.out / "episodes.jsonl", Attempt, "attempt", lock.check)
        attempts = _earlier_attempts(settings, suite, log)
        guide = None if settings.policy is None else _guide(settings, settings.policy)
        Collection(settings, suite, attempts, log, guide).record(slots)
        return _write_datasets(settings, suite, attempts, log)


def _guide(settings: CollectConfig, checkpoint: Path) -> Guide:
    from jobs.common.policy.checkpoint_policy import CheckpointPolicy

    return Guide(CheckpointPolicy(checkpoint), CAMERAS, settings.fps, settings.guide)


def _look_up(settings: CollectConfig, slot: SimulatorSlot) -> Suite:
    """What the first run wrote down, or else what the simulator reports now."""
    path = settings.out / "collection.json"
    deciding = settings.content()
    if settings.policy is not None:
        deciding["policy_sha256"] = checkpoint_sha256(settings.policy)  # a run that is made anew has the same names
    if path.exists():
        stored = json.loads(path.read_bytes())
        difference = first_difference(stored["settings"], deciding)
        if difference:
            raise BuildError(f"{settings.out} holds episodes of other settings: {difference}; choose another out=")
    else:
        simulator = slot.running()
        answer = simulator.ask("tasks", suite=settings.suite)
        if answer["benchmark"] != "libero":
            raise SettingsError(f"the script can do tasks of LIBERO alone; {settings.suite} is of another simulator")
        known = {"limit": answer["tasks"][0]["limit"], "tasks": answer["tasks"]}
        stored = {"settings": deciding, "versions": simulator.about["versions"], **known}
    limit = settings.limit or stored["limit"]
    if limit is None:
        raise SettingsError(f"no step limit is known for {settings.suite}; give limit=")
    try:
        wanted = settings.tasks_of(len(stored["tasks"]))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    tasks = {index: stored["tasks"][index] for index in wanted}
    if settings.starts is not None:
        most = min(task["starts"] for task in tasks.values())
        if settings.starts[1] > most:
            raise SettingsError(
                f"starts must end at {most} at most, the start states of a task, got {settings.starts[1]}"
            )
    if not path.exists():
        write_atomic(path, (json.dumps(stored, indent=2) + "\n").encode())
    return Suite(tasks, limit, stored["versions"])


def _earlier_attempts(settings: CollectConfig, suite: Suite, log: JsonLines[Attempt]) -> dict[int, TaskAttempts]:
    earlier: dict[int, list[Attempt]] = {task: [] for task in suite.tasks}
    for one in log.read():
        name = suite.tasks[one.task]["name"] if one.task in suite.tasks else None
        there = one.outcome != "success" or name is None or episode_path(settings.out, name, one.seed).exists()
        if name is not None and there:
            earlier[one.task].append(one)
    return {task: TaskAttempts(settings.episodes, settings.seed, own) for task, own in earlier.items()}


def _write_datasets(
    settings: CollectConfig, suite: Suite, attempts: Mapping[int, TaskAttempts], log: JsonLines[Attempt]
) -> dict[str, Any]:
    """The folders that do not hold these episodes yet, and then collected.json."""
    path = settings.out / "collected.json"
    seeds = {suite.tasks[task]["name"]: list(own.accepted) for task, own in attempts.items()}
    before = json.loads(path.read_bytes()) if path.exists() else {}
    same = before.get("seeds") == seeds
    paths = [episode_path(settings.out, task, seed) for task, own in seeds.items() for seed in own]
    written = [name for name in before.get("datasets", []) if same and (settings.out / name).is_dir()]
    missing = [name for name in FOLDERS[settings.format] if name not in written]
    if missing:
        path.unlink(missing_ok=True)  # without it, no folder counts as complete
    for name in missing:
        temporary = settings.out / f"{TEMPORARY_PREFIX}{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        if name == "lerobot":
            write_lerobot_demonstrations(temporary, paths, settings.pixels, settings.fps)
        else:
            write_libero_demonstrations(temporary, settings.suite, paths, settings.fps)
        _replace(settings.out / name, temporary)
    result = {
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "limit": suite.limit,
        "versions": dict(suite.versions),
        "datasets": [name for name in FOLDERS["both"] if name in (*written, *missing)],
        "tasks": _counts(suite, attempts, log),
        "seeds": seeds,
    }
    write_atomic(path, (json.dumps(result, indent=2) + "\n").encode())
    return result


def _counts(suite: Suite, attempts: Mapping[int, TaskAttempts], log: JsonLines[Attempt]) -> list[dict[str, Any]]:
    recorded = log.read()
    return [
        {
            "task": task,
            "name": suite.tasks[task]["name"],
            "instruction": suite.tasks[task]["instruction"],
            "attempts": own.count,
            "successes": len(own.accepted),
            "failures": own.count - len(own.accepted),
            "crashes": own.crashes,
            "seconds": round(sum(one.seconds for one in recorded if one.task == task), 1),
        }
        for task, own in attempts.items()
    ]


def _replace(folder: Path, by: Path) -> None:
    old = folder.parent / f"{TEMPORARY_PREFIX}old-{folder.name}"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    by.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def describe(settings: CollectConfig, result: Mapping[str, Any]) -> str:
    """What there is now, and the commands that come next."""
    lines = [
        f"{row['name']}: {row['successes']} demonstrations in {row['attempts']} attempts ({row['failures']} failed), "
        f"{row['crashes']} crashes of the simulator"
        for row in result["tasks"]
    ]
    rest = "window.end=pad encoder=vitl out=BUILD"
    if "lerobot" in result["datasets"]:
        source = f"source={MANIFEST} source.root={settings.out}/lerobot {rest}"
        lines += ["", "next, from the LeRobot folder:", f"  vlajepa plan {source}", f"  vlajepa preprocess {source}"]
    if "hdf5" in result["datasets"]:
        own = f"source.fps={settings.fps} source.action_lag=0"
        lines += [
            "",
            "next, from the HDF5 files (here an observation is from before the action of its row, in LIBERO's own from",
            "after it, so action_lag must be given):",
            f"  vlajepa preprocess source=libero_hdf5 source.root={settings.out}/hdf5 {own} {rest}",
        ]
    return "\n".join(lines)
