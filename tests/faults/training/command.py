"""`python -m tests.faults train [--kills N]`: SIGKILLs over whole tiny trainings, as a Markdown table."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from pipeline.format.build_settings import WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from tests.faults.stops.stage import Stage
from tests.faults.training.trial import Course, Scene, kill_and_resume, set_scene
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source

WAYS = {
    "one": (1, ()),
    "two": (2, ()),
    "sharded": (2, ("trainer.strategy=fsdp",)),
    "thread": (1, ("trainer.async_save=true",)),
}
"""Ranks and settings by name."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults train", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all; two a training")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}, by turns")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--minutes", type=float, default=60, help="no trial starts later")
    parser.add_argument("--out", type=Path, help="one JSON line a trial is appended here")
    options = parser.parse_args(arguments)
    courses: dict[str, list[Course]] = {}
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, Stage(Path(folder) / "stage") as stage:
        builds = make_builds(Path(folder))
        scenes: dict[str, Scene] = {}
        names, number = options.ways.split(","), 0
        while sum(len(c.kills) for found in courses.values() for c in found) < options.kills:
            if time.monotonic() > until:
                break
            name, saving = names[number % len(names)], number // len(names) % 2 == 0
            if name not in scenes:
                scenes[name] = set_scene(stage, builds, WAYS[name][0], *WAYS[name][1])
            course = kill_and_resume(scenes[name], random.Random(f"{name} {options.seed + number}"), 2, saving)
            courses.setdefault(name, []).append(course)
            _report(name, number, course, options.out)
            number += 1
    sys.stdout.write(table(courses))
    return 1 if any(course.problems for found in courses.values() for course in found) else 0


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
    lines = ["| training | trials | kills | while it saved | identical |", "|---|---:|---:|---:|---:|"]
    for name, found in courses.items():
        kills, saving = sum(len(course.kills) for course in found), sum(course.saving for course in found)
        lines.append(f"| {name} | {len(found)} | {kills} | {saving} | {sum(not c.problems for c in found)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
