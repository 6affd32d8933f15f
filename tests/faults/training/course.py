"""A tiny training, and what happened to it in one trial."""

from __future__ import annotations

import pickle
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.training.loop.settings import TrainerSettings
from jobs.training.settings import TrainCluster, TrainConfig
from jobs.training.train import train_anywhere
from model.settings import tiny_settings
from tests.faults.stops.stage import Stage
from tests.faults.training.result import differences, leftovers, result_of

TRAINER = TrainerSettings(
    steps=6,
    save_every=2,
    keep=2,
    eval_every=3,
    warmup_steps=2,
    batch_size=4,
    lr_rest=1e-3,
    lr_backbone=1e-3,
    eval_samples=8,
    eval_batch=4,
    log_every=1,
    count_flops=False,
)
"""Six steps, three checkpoints of which two stay, held-out numbers twice."""


@dataclass
class Course:
    """What happened in one trial.

    kills    one line each;  saving  how many struck while a checkpoint was written
    refused  times the command was refused, since what was started before still ran
    """

    kills: list[str] = field(default_factory=list)
    saving: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def compare(self, out: Path, undisturbed: dict[str, Any]) -> None:
        """Add what differs from the undisturbed run's results, and what was left behind; remove the run if nothing."""
        if not self.problems:
            self.problems += [f"another {name}" for name in differences(result_of(out), undisturbed)]
            self.problems += [f"left behind: {name}" for name in leftovers(out)]
        if not self.problems:
            shutil.rmtree(out)


def new_out(stage: Stage) -> Path:
    """A run's folder that is not there yet."""
    return stage.folder / f"trial-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Training:
    """What is trained, and kept in a file: the settings are not composed anew for each trial."""

    file: Path
    config: TrainConfig

    @classmethod
    def of(cls, stage: Stage, builds: Sequence[Path], trainer: TrainerSettings, address: str | None = None) -> Training:
        """With `trainer.num_workers`, on the Ray cluster at the address."""
        config = TrainConfig(
            out=Path("-"),
            builds=tuple(map(str, builds)),
            model=tiny_settings(),
            trainer=trainer,
            cluster=TrainCluster(address=address),
        )
        file = stage.folder / f"training-{uuid.uuid4().hex}.pkl"
        file.write_bytes(pickle.dumps(config))
        return cls(file, config)

    def words(self, out: Path) -> list[str]:
        """Of a process of the stage."""
        return [f"call:{__name__}:train_here", str(self.file), str(out)]


def train_here(file: str, out: str) -> None:
    """`vlajepa train` with the settings of a `Training`."""
    train_anywhere(replace(pickle.loads(Path(file).read_bytes()), out=Path(out)))
