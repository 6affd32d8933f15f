"""What every command can be told: dataclasses that check their values where they enter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoConfig:
    """`vlajepa demo`.

    clips, episodes  size of the sample data
    steps            training steps
    """

    out: Path
    clips: int = 160
    episodes: int = 32
    steps: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 50:
            raise ValueError(f"steps must be at least 50 (the warm-up of trainer=demo), got {self.steps}")


@dataclass(frozen=True)
class DemoLiberoConfig:
    """`vlajepa demo-libero`.

    simulator       python of the environment that LIBERO is installed in
    suite, tasks    which tasks, by their indices; one policy learns all of them
    demonstrations  of each task that a policy is trained on. Of one task there may be several numbers: the smaller ones
                    take the first of the same demonstrations, the world model is pretrained on all of them
    seeds           of the trainings
    compare         train each policy also from scratch, without the pretrained world model
    pretrain_steps  of the world model, without actions;  steps  of each policy
    episodes        of each task and policy, from the benchmark's start state 0 on
    execute         actions of a chunk carried out before the policy is asked again
    processes       simulators of a part at a time
    at_a_time       parts at a time, among which the processor cores are divided
    """

    simulator: Path
    out: Path
    suite: str = "libero_object"
    tasks: tuple[int, ...] = (0,)
    demonstrations: tuple[int, ...] = (60,)
    seeds: tuple[int, ...] = (0,)
    compare: bool = False
    pretrain_steps: int = 1000
    steps: int = 3000
    episodes: int = 20
    execute: int = 4
    processes: int = 2
    at_a_time: int = 2

    def __post_init__(self) -> None:
        for name in ("tasks", "demonstrations", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different numbers, at least one, got {list(values)}")
        for name in ("pretrain_steps", "steps", "episodes", "execute", "processes", "at_a_time"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.tasks) > 1 and len(self.demonstrations) > 1:
            raise ValueError(
                f"demonstrations must be one number where there are several tasks, got {list(self.demonstrations)}"
            )


@dataclass(frozen=True)
class DemoLeakConfig:
    """`vlajepa demo-leak`.

    episodes  robot episodes of the sample data
    steps     training steps on each of the two builds
    samples   episodes in which the future is replaced
    """

    out: Path
    episodes: int = 32
    steps: int = 300
    samples: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 50:
            raise ValueError(f"steps must be at least 50 (the warm-up of trainer=demo), got {self.steps}")
        if self.episodes < 8 or self.samples < 1:
            raise ValueError(
                f"episodes must be at least 8 and samples at least 1, got {self.episodes} and {self.samples}"
            )
