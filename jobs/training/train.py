"""`vlajepa train`: trains on audited builds. The same command resumes from the last checkpoint."""

from __future__ import annotations

from pathlib import Path

from jobs.training.builds.open_builds import open_builds
from jobs.training.ended import TrainedRun
from jobs.training.settings import TrainConfig


def run(settings: TrainConfig) -> TrainedRun:
    """The run that ended; of several stages, the last one's."""
    folder: Path = settings.out
    if settings.stages:
        from jobs.training.stages import train_stages

        train_stages(settings, train_anywhere)
        folder = settings.out / settings.stages[-1].experiment
    else:
        train_anywhere(settings)
    return TrainedRun(folder)


def train_anywhere(config: TrainConfig) -> None:
    """Train once: in this process, or on the workers of a Ray cluster with `trainer.num_workers`."""
    opened = open_builds(config)  # a refusal comes before PyTorch and transformers are imported, ten seconds
    if config.trainer.num_workers is None:
        from jobs.training.run import train

        train(config)
    else:
        from jobs.training.workers import train_on_ray

        train_on_ray(config, opened)
