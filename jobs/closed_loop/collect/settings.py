"""Settings of `vlajepa collect`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from jobs.simulator.libero import CONTROL_HZ
from pipeline.format.settings import checked, deciding, setting

LEAST_ATTEMPTS = 10
"""Attempts of a task before the share of failures is checked."""

RATES = tuple(rate for rate in range(1, CONTROL_HZ + 1) if CONTROL_HZ % rate == 0)


class DatasetFormat(StrEnum):
    """Which datasets are written of the demonstrations."""

    LEROBOT = "lerobot"
    HDF5 = "hdf5"
    BOTH = "both"


@checked
class DisturbanceSettings:
    """How an episode is made harder: section `disturbance`. All zero: the script alone."""

    noise: float = setting(
        "largest standard deviation of noise on the three motions, drawn for each episode from 0 to this; for slower "
        "motions it is as much smaller, down to a fifth, or nothing could be grasped",
        default=0.3,
        at_least=0,
    )
    memory: float = setting(
        "correlation of the noise from one recorded step to the next", default=0.8, at_least=0, below=1
    )
    burst: float = setting(
        "chance that a recorded step begins a push, a random motion of burst_steps", default=0.05, at_least=0, at_most=1
    )
    burst_steps: int = setting("recorded steps of a push", default=4, at_least=1)
    away: int = setting(
        "recorded steps at the start, at most, in which the hand goes somewhere at random, unrecorded",
        default=5,
        at_least=0,
    )
    moved: float = setting("the thing is moved sideways by up to this", default=0.03, unit="metres", at_least=0)


@checked
class GuideSettings:
    """When a policy acts and when the script does: section `guide`."""

    share: float = setting(
        "share of the chunks that the policy carries out, drawn for each; the script carries out the others",
        default=0.7,
        at_least=0,
        at_most=1,
    )
    until: float = setting(
        "share of the step limit after which the script alone acts", default=0.5, at_least=0, at_most=1
    )
    execute: int = setting("actions of a chunk", default=4, at_least=1)


@checked
class CollectConfig:
    """`vlajepa collect`."""

    simulator: Path = setting("python of the environment that LIBERO is installed in", decides=False)
    suite: str = setting("libero_spatial, libero_object, libero_goal, …")
    out: Path = setting(
        "folder for episodes/, episodes.jsonl, collected.json and the datasets lerobot/ and hdf5/", decides=False
    )
    task: int | tuple[int, ...] | None = setting(
        "an index, a list of indices; null: all tasks", default=None, decides=False
    )
    episodes: int = setting("successes wanted of each task", default=50, decides=False, at_least=1)
    pixels: int = setting("side of the images", default=224, unit="pixels", at_least=32, at_most=1024)
    fps: int = setting(
        "observations a second, a divisor of 20; each action is kept for 20/fps simulator steps", default=20
    )
    shadows: bool = setting("draw shadows and reflections, as where a policy will be evaluated", default=True)
    seed: int = setting(
        "of the first attempt of each task; the next ones take seed+1, seed+2, …",
        default=0,
        at_least=0,
        at_most=2**31 - 1,
    )
    limit: int | None = setting(
        "simulator steps after which an attempt has failed; null: the benchmark's limit", default=None, at_least=1
    )
    starts: tuple[int, int] | None = setting(
        "[first, one past the last] of the benchmark's start states to use; null: things are placed at random, so that "
        "what a policy is evaluated on is never shown in training",
        default=None,
    )
    processes: int = setting("simulators at a time", default=2, decides=False, at_least=1)
    max_failures: float = setting(
        "share of a task's attempts that may fail, from the tenth attempt on",
        default=0.5,
        decides=False,
        at_least=0,
        below=1,
    )
    format: DatasetFormat = setting("which datasets are written", default=DatasetFormat.BOTH, decides=False)
    disturbance: DisturbanceSettings = setting(
        "how the hand and the things are disturbed", default_factory=DisturbanceSettings
    )
    policy: Path | None = setting(
        "a run or a checkpoint that acts in the script's place, so that its situations are demonstrated too; null: the "
        "script alone",
        default=None,
    )
    guide: GuideSettings = setting("when the policy acts", default_factory=GuideSettings)

    def __post_init__(self) -> None:
        if self.fps not in RATES:
            raise ValueError(f"fps must divide {CONTROL_HZ}: one of {', '.join(map(str, RATES))}; got {self.fps}")
        if self.starts is not None and not 0 <= self.starts[0] < self.starts[1]:
            raise ValueError(f"starts must be null or [first, one past the last], got {list(self.starts)}")
        tasks = self.task if isinstance(self.task, tuple) else () if self.task is None else (self.task,)
        if self.task == () or len(set(tasks)) < len(tasks) or any(task < 0 for task in tasks):
            raise ValueError(f"task must be null, an index from 0, or a list of different ones, got {self.task}")

    @property
    def hold(self) -> int:
        """Simulator steps an action is kept for."""
        return CONTROL_HZ // self.fps

    def tasks_of(self, count: int) -> tuple[int, ...]:
        """The chosen tasks of a suite with `count`, in rising order. Raises ValueError for a task that it does not
        have."""
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
        content = deciding(self)
        if self.policy is None:
            del content["policy"], content["guide"]
        return content
