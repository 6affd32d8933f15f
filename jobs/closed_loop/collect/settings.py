"""What `vlajepa collect` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobs.closed_loop.collect.guided import GuideSettings
from jobs.simulator.demonstrate import Disturbance
from jobs.simulator.libero import CONTROL_HZ

FORMATS = ("lerobot", "hdf5", "both")

LEAST_ATTEMPTS = 10
"""Attempts of a task before the share of failures is judged."""

MOST_CRASHES = 3
"""After this many crashes of the simulator an attempt counts as failed."""

RATES = tuple(rate for rate in range(1, CONTROL_HZ + 1) if CONTROL_HZ % rate == 0)


@dataclass(frozen=True)
class CollectConfig:
    """`vlajepa collect`.

    simulator     python of the environment that LIBERO is installed in
    suite         libero_spatial, libero_object, libero_goal, …
    out           folder for episodes/, episodes.jsonl, collected.json and the datasets lerobot/ and hdf5/
    task          an index, a list of indices; null: all tasks
    episodes      successes wanted of each task
    pixels        a side of the pictures
    fps           observations a second; each action is kept for 20/fps simulator steps
    shadows       draw shadows and reflections; as where a policy will be evaluated
    seed          of the first attempt of each task; the next ones take seed+1, seed+2, …
    limit         simulator steps after which an attempt has failed; null: the benchmark's limit
    starts        [first, one past the last] of the benchmark's start states to use; null: things are placed at random,
                  so that what a policy is evaluated on is never shown in training
    processes     simulators at a time
    max_failures  share of a task's attempts that may fail, from the tenth on
    format        lerobot, hdf5 or both
    disturbance   how the hand and the things are disturbed, see `jobs.simulator.demonstrate.Disturbance`
    policy        a run or a checkpoint that acts in the script's place, so that what it comes to is shown and told too;
                  null: the script alone;  guide  when it acts, see `jobs.closed_loop.collect.guided.GuideSettings`
    """

    simulator: Path
    suite: str
    out: Path
    task: int | tuple[int, ...] | None = None
    episodes: int = 50
    pixels: int = 224
    fps: int = 20
    shadows: bool = True
    seed: int = 0
    limit: int | None = None
    starts: tuple[int, int] | None = None
    processes: int = 2
    max_failures: float = 0.5
    format: str = "both"
    disturbance: Disturbance = field(default_factory=Disturbance)
    policy: Path | None = None
    guide: GuideSettings = field(default_factory=GuideSettings)

    def __post_init__(self) -> None:
        for name in ("episodes", "processes", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 32 <= self.pixels <= 1024:
            raise ValueError(f"pixels must be 32..1024, got {self.pixels}")
        if self.fps not in RATES:
            raise ValueError(f"fps must divide {CONTROL_HZ}: one of {', '.join(map(str, RATES))}; got {self.fps}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be 0..2^31-1, got {self.seed}")
        if not 0 <= self.max_failures < 1:
            raise ValueError(f"max_failures must be at least 0 and below 1, got {self.max_failures}")
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.starts is not None and not 0 <= self.starts[0] < self.starts[1]:
            raise ValueError(f"starts must be null or [first, one past the last], got {list(self.starts)}")
        self._check_tasks()
        _check_disturbance(self.disturbance)

    @property
    def hold(self) -> int:
        """Simulator steps an action is kept for."""
        return CONTROL_HZ // self.fps

    def tasks_of(self, count: int) -> tuple[int, ...]:
        """The tasks that are wanted, of a suite with `count`, in rising order.

        Raises:
            ValueError: there is no such task.
        """
        if self.task is None:
            return tuple(range(count))
        wanted = (self.task,) if isinstance(self.task, int) else self.task
        if max(wanted) >= count:
            raise ValueError(f"task must be 0..{count - 1}, the tasks of {self.suite}, got {max(wanted)}")
        return tuple(sorted(wanted))

    def start_of(self, seed: int) -> int | None:
        """Index of the start state of an attempt; None: a free start."""
        return None if self.starts is None else self.starts[0] + seed % (self.starts[1] - self.starts[0])

    def content(self) -> dict[str, Any]:
        """What decides the content of a task's episode with a given seed, as JSON has it.

        The other settings may change from one run to the next into the same folder.
        """
        deciding = ("suite", "pixels", "fps", "shadows", "seed", "limit")
        starts = None if self.starts is None else list(self.starts)
        own = {name: getattr(self, name) for name in deciding}
        guided = {} if self.policy is None else {"policy": str(self.policy), "guide": asdict(self.guide)}
        return {**own, "starts": starts, "disturbance": asdict(self.disturbance), **guided}

    def _check_tasks(self) -> None:
        tasks = self.task if isinstance(self.task, tuple) else () if self.task is None else (self.task,)
        if self.task == () or len(set(tasks)) < len(tasks) or any(task < 0 for task in tasks):
            raise ValueError(f"task must be null, an index from 0, or a list of different ones, got {self.task}")


def _check_disturbance(disturbance: Disturbance) -> None:
    for name in ("noise", "away", "moved"):
        if not getattr(disturbance, name) >= 0:
            raise ValueError(f"disturbance.{name} must be at least 0, got {getattr(disturbance, name)}")
    if not 0 <= disturbance.memory < 1:
        raise ValueError(f"disturbance.memory must be at least 0 and below 1, got {disturbance.memory}")
    if not 0 <= disturbance.burst <= 1:
        raise ValueError(f"disturbance.burst must be 0..1, got {disturbance.burst}")
    if disturbance.burst_steps < 1:
        raise ValueError(f"disturbance.burst_steps must be at least 1, got {disturbance.burst_steps}")
