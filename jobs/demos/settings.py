"""Settings of the demonstrations."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.settings import checked, setting


@checked
class DemoConfig:
    """`vlajepa demo`."""

    out: Path = setting("folder that is made", default=Path("demo-out"))
    clips: int = setting("clips of the sample data", default=1000)
    episodes: int = setting("robot episodes of the sample data", default=1000)
    twins: int = setting(
        "held-out scenes of clips and of episodes, each under two instructions", default=100, at_least=1
    )
    steps: int = setting("training steps; trainer=demo warms up for 50", default=3200, at_least=50)
    seed: int = setting("of sample data and training", default=0)


@checked
class DemoSteeringConfig:
    """`vlajepa demo-steering`."""

    out: Path = setting("folder of a finished `vlajepa demo`", default=Path("demo-out"))
    steps: int = setting("training steps of each baseline; as the demonstration's", default=3200, at_least=50)
    seed: int = setting("of their training", default=0)
    at_a_time: int = setting("commands at a time, among which the processor cores are divided", default=2, at_least=1)


@checked
class DemoLeakConfig:
    """`vlajepa demo-leak`."""

    out: Path = setting("folder that is made", default=Path("demo-leak-out"))
    episodes: int = setting("robot episodes of the sample data", default=32, at_least=8)
    steps: int = setting(
        "training steps on each of the two builds; trainer=demo warms up for 50", default=300, at_least=50
    )
    samples: int = setting("episodes in which the future is replaced", default=24, at_least=1)
    seed: int = setting("of sample data and training", default=0)


@checked
class DemoLiberoConfig:
    """`vlajepa demo-libero`."""

    simulator: Path = setting("python of the environment that LIBERO is installed in", decides=False)
    out: Path = setting("folder that is made", decides=False)
    suite: str = setting("LIBERO suite", default="libero_object")
    tasks: tuple[int, ...] = setting("indices of the tasks; one policy learns all of them", default=(0,))
    demonstrations: tuple[int, ...] = setting(
        "demonstrations of each task that a policy is trained on; of one task there may be several numbers: the "
        "smaller ones take the first of the same demonstrations, the world model is pretrained on all of them",
        default=(60,),
    )
    seeds: tuple[int, ...] = setting("of the trainings", default=(0,))
    compare: bool = setting("train each policy also from scratch, without the pretrained world model", default=False)
    pretrain_steps: int = setting("training steps of the world model, without actions", default=1000, at_least=1)
    steps: int = setting("training steps of each policy", default=3000, at_least=1)
    episodes: int = setting(
        "episodes of each task and policy, from the benchmark's start state 0 on", default=20, at_least=1
    )
    execute: int = setting("actions of a chunk carried out before the policy is queried again", default=4, at_least=1)
    processes: int = setting("simulators of a part at a time", default=2, at_least=1)
    at_a_time: int = setting(
        "parts at a time, among which the processor cores are divided", default=2, decides=False, at_least=1
    )

    def __post_init__(self) -> None:
        for name in ("tasks", "demonstrations", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different numbers, at least one, got {list(values)}")
        if len(self.tasks) > 1 and len(self.demonstrations) > 1:
            raise ValueError(
                f"demonstrations must be one number where there are several tasks, got {list(self.demonstrations)}"
            )
