"""`python -m tests.faults train [--kills N]`: SIGKILLs over whole tiny trainings, as a Markdown table."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from jobs.training.loop.settings import Strategy
from pipeline.format.build_settings import WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from tests.faults.cluster import RayCluster
from tests.faults.stops.stage import Stage
from tests.faults.training.course import TRAINER, Course, Training
from tests.faults.training.groups import ray_train, set_group_scene, torchrun
from tests.faults.training.trial import set_scene
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source

SHARDED = replace(TRAINER, strategy=Strategy.FSDP)
WAYS = {
    "one": (1, replace(TRAINER, async_save=False)),
    "thread": (1, TRAINER),
    "two": (2, TRAINER),
    "sharded": (2, SHARDED),
    "torchrun": (2, TRAINER),
    "torchrun-sharded": (2, SHARDED),
    "ray": (2, replace(TRAINER, num_workers=2)),
}
"""Ranks and settings by name. All but the first save in a thread."""


EACH = 4
"""Kills of one training."""


class Trials(Protocol):
    """Of one way."""

    def trial(self, rng: random.Random, kills: int, saving: bool) -> Course: ...


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults train", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help=f"in all; up to {EACH} a training")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}, by turns")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--minutes", type=float, default=60, help="no trial starts later")
    parser.add_argument("--out", type=Path, help="one JSON line a trial is appended here")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no cluster outlives this process
    courses: dict[str, list[Course]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        stage = stack.enter_context(Stage(folder / "stage"))
        try_all(stack, stage, make_builds(folder), options, courses)
    sys.stdout.write(table(courses))
    return 1 if any(course.problems for found in courses.values() for course in found) else 0


def try_all(
    stack: contextlib.ExitStack,
    stage: Stage,
    builds: list[Path],
    options: argparse.Namespace,
    courses: dict[str, list[Course]],
) -> None:
    """The ways by turns, until there are enough kills or the time is over. What a way needs stays on the stack."""
    until = time.monotonic() + 60 * options.minutes
    scenes: dict[str, Trials] = {}
    names, number = options.ways.split(","), 0
    while sum(len(c.kills) for found in courses.values() for c in found) < options.kills:
        if time.monotonic() > until:
            break
        name, saving = names[number % len(names)], number // len(names) % 2 == 0
        if name not in scenes:
            scenes[name] = make_scene(stack, stage, builds, name)
        course = scenes[name].trial(random.Random(f"{name} {options.seed + number}"), EACH, saving)
        courses.setdefault(name, []).append(course)
        _report(name, number, course, options.out)
        number += 1


def make_scene(stack: contextlib.ExitStack, stage: Stage, builds: list[Path], name: str) -> Trials:
    """Of a way: run it undisturbed."""
    ranks, settings = WAYS[name]
    if name == "ray":
        cluster = stack.enter_context(RayCluster(workers=1, cpus=4))
        return set_group_scene(stage, Training.of(stage, builds, settings, cluster.address), ray_train(stage, cluster))
    training = Training.of(stage, builds, settings)
    if name.startswith("torchrun"):
        return set_group_scene(stage, training, torchrun(stage, ranks))
    return set_scene(stage, training, ranks)


def make_builds(folder: Path) -> list[Path]:
    """Audited builds of robot episodes and human clips."""
    write_ssv2(folder / "ssv2", clips=8, seed=0, size=64)
    write_lerobot(folder / "lerobot", episodes=4, seed=0, size=64)
    windows = WindowPolicy(interval=2, every=6)
    robot = build_config(folder / "robot-build", robot_source(folder / "lerobot"), window=windows)
    return [audited(config).path for config in (robot, build_config(folder / "build", ssv2_source(folder / "ssv2")))]


def _report(name: str, number: int, course: Course, out: Path | None) -> None:
    sys.stderr.write(f"{name} {number}: {'BAD' if course.problems else 'good'} {course.seconds:.0f} s\n")
    for line in (*course.kills, *course.problems):
        sys.stderr.write(f"    {line}\n")
    if out is not None:
        with open(out, "a") as file:
            file.write(json.dumps({"way": name, "number": number, **asdict(course)}) + "\n")


def table(courses: dict[str, list[Course]]) -> str:
    """One row a way."""
    lines = ["| training | trials | kills | while it saved | identical | of whom |", "|---|---:|---:|---:|---:|---|"]
    for name, found in courses.items():
        kills, saving = [kill for course in found for kill in course.kills], sum(course.saving for course in found)
        killed = Counter(kill.partition(" after ")[0] for kill in kills if " after step " in kill)
        whom = ", ".join(f"{who} {times}" for who, times in sorted(killed.items())) or "a rank"
        same = sum(not course.problems for course in found)
        lines.append(f"| {name} | {len(found)} | {len(kills)} | {saving} | {same} | {whom} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
