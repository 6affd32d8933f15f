"""Trainings that something else starts, restarts and ends: torchrun's agent, or Ray Train. Killed are its processes, at
any moment or while a checkpoint is written: the one that started them, a rank, or several at once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from tests.faults.cluster import RayCluster
from tests.faults.stops.stage import Stage, Started
from tests.faults.training.course import TRAINER, Course, Training, new_out
from tests.faults.training.result import differences, result_of

REFUSED = "is being written by another driver"
PATIENCE_S = 600.0
"""What a killed agent or driver leaves may run on, and is waited for so long. A command that takes longer hangs."""

Victims = Callable[[Started], Mapping[str, Sequence[int]]]
"""Processes of a running training that can be killed at once, by what they are called."""


@dataclass(frozen=True)
class Group:
    """How a training is started, and which of its processes can be killed."""

    start: Callable[[Sequence[str]], Started]
    victims: Victims


@dataclass(frozen=True)
class GroupScene:
    """What trials share. undisturbed, seconds: results and duration of an undisturbed run."""

    stage: Stage
    training: Training
    group: Group
    undisturbed: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def trial(self, rng: random.Random, kills: int, saving: bool) -> Course:
        """One training that is killed up to so many times; then the command runs until it ends by itself."""
        course, started, out = Course(), time.monotonic(), new_out(self.stage)
        words, until = self.training.words(out), time.monotonic() + PATIENCE_S
        code = 1
        while code and not course.problems:
            run = self.group.start(words)
            before = len(course.kills)
            while len(course.kills) < kills and self._disturb(run, out, rng, saving, course):
                until = time.monotonic() + PATIENCE_S
                if not _goes_on(run, out):
                    break
            code = self.stage.wait(run, seconds=PATIENCE_S)[0]
            if code and REFUSED in run.output and time.monotonic() < until:
                course.refused += 1
                time.sleep(0.5)
            elif code and len(course.kills) == before:
                course.problems.append(f"exit code {code}: {run.output[-600:]}")
        course.compare(out, self.undisturbed)
        course.seconds = time.monotonic() - started
        return course

    def _disturb(self, run: Started, out: Path, rng: random.Random, saving: bool, course: Course) -> bool:
        """Kill something at a moment of its own, and note it. False: the command ended before."""
        if saving:
            came = _wait_for_save(run, out, rng)
        elif rng.random() < 0.3:
            came = _wait(run, lambda: False, rng.uniform(0, 0.9) * self.seconds)
        else:
            step = rng.randint(1, TRAINER.steps - 1)
            came = _wait(run, lambda: steps_of(out) >= step) and _wait(run, lambda: False, rng.uniform(0, 0.3))
        victims = self.group.victims(run) if came else {}
        if not victims:
            return False
        name = rng.choice(list(victims))
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: what is seen in between is what was killed
            for pid in victims[name]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                step, during = steps_of(out), is_saving(out)
        course.kills.append(f"{name} after step {step}{', while it saved' if during else ''}")
        course.saving += during
        return True


def set_group_scene(stage: Stage, training: Training, group: Group) -> GroupScene:
    """Run twice undisturbed.

    Raises:
        RuntimeError: it failed, or the two runs differ.
    """
    found, seconds = [], 0.0
    for _ in range(2):
        out, started = new_out(stage), time.monotonic()
        run = group.start(training.words(out))
        if stage.wait(run)[0]:
            raise RuntimeError(f"the undisturbed training failed: {run.output[-2000:]}")
        seconds = time.monotonic() - started
        found.append(result_of(out))
    if differences(*found):
        raise RuntimeError(f"two undisturbed trainings differ: {differences(*found)}")
    return replace(GroupScene(stage, training, group), undisturbed=found[0], seconds=seconds)


def torchrun(stage: Stage, ranks: int = 2) -> Group:
    """Ranks that torchrun starts."""

    def start(words: Sequence[str]) -> Started:
        return stage.start(["call:tests.faults.training.torchrun:launch", str(ranks), *words])

    def victims(run: Started) -> dict[str, list[int]]:
        pids = _children(run.pid)
        named = {f"rank {rank}": [pid] for rank, pid in enumerate(pids[:ranks])}
        several = {"agent and a rank": [run.pid, pids[-1]], "all": [run.pid, *pids]} if pids else {}
        return {"agent": [run.pid], **named, **several}

    return Group(start, victims)


def ray_train(stage: Stage, cluster: RayCluster) -> Group:
    """Two workers that Ray Train starts on a cluster."""

    def victims(run: Started) -> dict[str, list[int]]:
        workers, controllers = cluster.pids("ray::RayTrainWorker"), cluster.pids("ray::TrainController")
        found = {"driver": [run.pid]}
        found |= {f"worker {number}": [pid] for number, pid in enumerate(workers)}
        found |= {"controller": controllers[:1]} if controllers else {}
        return found | ({"driver and a worker": [run.pid, workers[0]]} if workers else {})

    return Group(stage.start, victims)


def steps_of(out: Path) -> int:
    """The last step of metrics.jsonl."""
    last = 0
    with contextlib.suppress(OSError):
        for line in (out / "metrics.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                last = json.loads(line)["step"]
    return last


def is_saving(out: Path) -> bool:
    return any((out / "checkpoints").glob(".tmp*"))


def _wait_for_save(run: Started, out: Path, rng: random.Random) -> bool:
    """A save has begun, one of the next four, and goes on for a little."""
    for _ in range(rng.randint(1, 3)):
        _wait(run, lambda: not is_saving(out))
        if not _wait(run, lambda: is_saving(out)):
            return False
    return _wait(run, lambda: False, rng.uniform(0, 0.03))


def _wait(run: Started, happened: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Whether the command still runs when something has happened, or that much later."""
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        if not _runs(run.pid):
            return False
        time.sleep(0.001)
    return _runs(run.pid)


def _goes_on(run: Started, out: Path) -> bool:
    """Whether the command starts its training again by itself; not before that is it disturbed again."""
    log = out / "log.txt"
    before = log.stat().st_size if log.exists() else 0
    return _wait(run, lambda: log.exists() and log.stat().st_size > before)


def _runs(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _children(pid: int) -> list[int]:
    """In the order in which they were started."""
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in sorted(psutil.Process(pid).children(), key=lambda child: child.create_time())]
    return []
