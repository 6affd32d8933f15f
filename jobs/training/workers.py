"""One training on the workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from jobs.cluster.train_launcher import WorkerGroup, run_workers
from jobs.training.builds.open_builds import AuditedBuild
from jobs.training.preflight import missing_builds
from jobs.training.run import train
from jobs.training.settings import TrainConfig
from pipeline.format.enums import Device


def train_on_ray(config: TrainConfig, opened: Sequence[AuditedBuild]) -> None:
    """Train on `trainer.num_workers` workers; returns when the run has ended.

    Args:
        opened: the builds of the configuration, which every node must see as they are here.

    Raises:
        RunError: the cluster is too small, a node does not reach the run's folder or a build, the run failed for a
            reason that a restart does not change, or more often than `trainer.max_failures`.
    """
    trainer, config = config.trainer, _placed(config)
    assert trainer.num_workers is not None
    resources = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.use_gpu else {})
    group = WorkerGroup(
        address=config.cluster.address,
        workers=trainer.num_workers,
        resources=resources,
        max_failures=trainer.max_failures,
        out=config.out,
        check=partial(missing_builds, [(path, one.sha256) for path, one in zip(config.builds, opened, strict=True)]),
        last_step=trainer.last_step,
        timeout_s=2 * trainer.rank_timeout_s,  # as `jobs.training.loop.ranks.joined` has it
    )
    run_workers(group, partial(train, config))


def _placed(config: TrainConfig) -> TrainConfig:
    """The settings with absolute paths, for processes with another working folder, and the device that is reserved."""
    return replace(
        config,
        out=Path(_absolute(config.out)),
        builds=tuple(map(_absolute, config.builds)),
        init_from=None if config.init_from is None else Path(_absolute(config.init_from)),
        trainer=replace(config.trainer, device=Device.CUDA if config.trainer.use_gpu else Device.CPU),
    )


def _absolute(path: str | Path) -> str:
    return str(path) if "://" in str(path) else os.path.abspath(path)
