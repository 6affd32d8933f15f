"""Settings of the studies in LIBERO."""

from __future__ import annotations

from pathlib import Path

from pipeline.format.settings import checked, setting


@checked
class LiberoStudyConfig:
    """What both studies are told."""

    simulator: Path = setting("python of the environment that LIBERO is installed in", decides=False)
    out: Path = setting("folder that is made", decides=False)
    suite: str = setting("LIBERO suite", default="libero_object")
    tasks: tuple[int, ...] = setting("indices of the tasks", default=tuple(range(10)))
    seeds: tuple[int, ...] = setting("of weights, order and noise of the trainings", default=(0,), decides=False)
    pretrain_steps: int = setting("training steps of a world model, without actions", default=4000, at_least=50)
    steps: int = setting("training steps of a policy", default=6000, at_least=1)
    episodes: int = setting(
        "episodes of each task and policy, from the benchmark's start state 0 on", default=20, at_least=1
    )
    execute: int = setting("actions of a chunk carried out before the policy is queried again", default=4, at_least=1)
    processes: int = setting("simulators of a part at a time", default=1, at_least=1)
    at_a_time: int = setting(
        "parts at a time, among which the processor cores are divided", default=2, decides=False, at_least=1
    )

    def __post_init__(self) -> None:
        for name in ("tasks", "seeds"):
            require_different(name, getattr(self, name))


@checked
class DemoLiberoConfig(LiberoStudyConfig):
    """`vlajepa demo-libero`."""

    demonstrations: int = setting("of each task", default=60, at_least=2)
    perturb: bool = setting(
        "also evaluate along each of the seven axes of LIBERO-Plus, at `level`", default=False, decides=False
    )
    level: int = setting("strength of the perturbations", default=3, at_least=1, at_most=5, decides=False)


@checked
class DemoLiberoPretrainingConfig(LiberoStudyConfig):
    """`vlajepa demo-libero-pretraining`."""

    new_task: int = setting(
        "index of the task that policies learn; world models are pretrained on the others of `tasks`", default=0
    )
    pretraining_demonstrations: int = setting("of each other task, whose actions are not used", default=60, at_least=2)
    demonstrations: tuple[int, ...] = setting(
        "numbers of demonstrations of the new task that policies are fine-tuned on: the first of the same ones",
        default=(5, 10, 20),
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_different("demonstrations", self.demonstrations)
        if self.new_task not in self.tasks or len(self.tasks) < 2:
            raise ValueError(f"tasks must hold new_task={self.new_task} and another one, got {list(self.tasks)}")

    @property
    def other_tasks(self) -> tuple[int, ...]:
        """Tasks of pretraining."""
        return tuple(task for task in self.tasks if task != self.new_task)


def require_different(name: str, values: tuple[int, ...]) -> None:
    """Raise ValueError unless there is a value and none stands twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be different numbers, at least one, got {list(values)}")
