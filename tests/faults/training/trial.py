"""One training that is killed again and again, and run again each time, until it has ended by itself."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.stops.stage import Stage, Started, Stop
from tests.faults.training.course import Course, Training, new_out
from tests.faults.training.result import differences, result_of


@dataclass(frozen=True)
class Scene:
    """What trials share.

    ranks    processes of a training, with the environment that torchrun gives them
    calls    of an undisturbed run that change its checkpoints;  writes: the same with every write
    seconds  that an undisturbed run takes
    """

    stage: Stage
    training: Training
    ranks: int
    undisturbed: dict[str, Any] = field(default_factory=dict)
    calls: int = 0
    writes: int = 0
    seconds: float = 0.0

    def trial(self, rng: random.Random, kills: int, saving: bool) -> Course:
        """See `kill_and_resume`."""
        return kill_and_resume(self, rng, kills, saving)


def set_scene(stage: Stage, training: Training, ranks: int) -> Scene:
    """Run twice undisturbed, and count the calls that a kill can stop at.

    Raises:
        RuntimeError: it failed, or the two runs differ.
    """
    scene = Scene(stage, training, ranks)
    found, counts, seconds = [], [], 0.0
    for writes in (False, True):
        out, started = new_out(stage), time.monotonic()
        codes, runs = _once(scene, out, Stop(out / "checkpoints", writes=writes))
        if any(codes):
            raise RuntimeError(f"the undisturbed training failed: {runs[0].output[-2000:]}")
        seconds = time.monotonic() - started
        found.append(result_of(out))
        counts.append(len(runs[0].counted()))
    if differences(*found):
        raise RuntimeError(f"two undisturbed trainings differ: {differences(*found)}")
    return replace(scene, undisturbed=found[0], calls=counts[0], writes=counts[1], seconds=seconds)


def kill_and_resume(scene: Scene, rng: random.Random, kills: int, saving: bool) -> Course:
    """A training that is killed `kills` times, at any moment or (saving) at a call that changes its checkpoints; then
    the command runs until it ends by itself, and its results are compared."""
    course, started, out = Course(), time.monotonic(), new_out(scene.stage)
    codes, runs = [-9], []
    while any(codes):
        again = len(course.kills) < kills
        moment = rng.uniform(0.05, 0.95) * scene.seconds if again and not saving else None
        codes, runs = _once(scene, out, _draw(scene, out, rng) if again and saving else None, moment, rng)
        if -9 in codes:
            during = saving or any((out / "checkpoints").glob(".tmp*"))
            counted = [line for run in runs for line in run.counted()]
            where = f"before call {len(counted)}, {counted[-1]}" if saving else f"after {moment:.2f} s"
            course.kills.append(f"{where}{', while it saved' if during else ''}")
            course.saving += during
        elif any(codes):
            course.problems.append(f"exit codes {codes}: {''.join(run.output[-300:] for run in runs)}")
            break
    course.compare(out, scene.undisturbed)
    course.seconds = time.monotonic() - started
    return course


def _draw(scene: Scene, out: Path, rng: random.Random) -> Stop:
    """One call in three that is stopped at is a write, in the middle of its bytes."""
    writes = rng.random() < 1 / 3
    return Stop(out / "checkpoints", rng.randint(1, scene.writes if writes else scene.calls), writes)


def _once(
    scene: Scene, out: Path, stop: Stop | None, moment: float | None = None, rng: random.Random | None = None
) -> tuple[list[int], list[Started]]:
    """Run the ranks; after `moment` seconds one of them is killed. When one ends, torchrun ends the others."""
    port = _free_port()
    runs = [_start_rank(scene, out, rank, port, stop) for rank in range(scene.ranks)]
    if moment is not None and rng is not None:
        time.sleep(moment)
        rng.choice(runs).kill()
    return scene.stage.wait(*runs), runs


def _start_rank(scene: Scene, out: Path, rank: int, port: int, stop: Stop | None) -> Started:
    environment = {}
    if scene.ranks > 1:
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": scene.ranks, "LOCAL_WORLD_SIZE": scene.ranks}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return scene.stage.start(
        scene.training.words(out), stop, **{name: str(value) for name, value in environment.items()}
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
