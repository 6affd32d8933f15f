"""`vlajepa train` on a Ray cluster: Ray Train starts the workers, each of which runs the same loop as a process alone.

A worker that dies takes its group down; Ray Train starts a new one, which resumes from the last checkpoint in `out`.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from jobs.cluster.connect import ray_joined
from jobs.cluster.tail_run import Follower
from jobs.training.loop.settings import TrainerSettings
from jobs.training.settings import TrainConfig
from pipeline.errors import RunError
from pipeline.format.enums import Device
from pipeline.storage.atomic import write_atomic


@dataclass(frozen=True)
class Launch:
    """What the workers are told. `failure`: file that a worker leaves behind when no restart would help."""

    config: TrainConfig
    failure: Path


def train_on_ray(config: TrainConfig) -> None:
    """Train on `trainer.num_workers` workers; returns when the run has ended.

    Raises:
        RunError: the cluster is too small, the run failed for a reason that a restart does not change, or more often
            than `trainer.max_failures`.
    """
    workers = config.trainer.num_workers
    assert workers is not None
    config = _placed(config)
    storage = config.out / "ray"
    name = uuid.uuid4().hex
    launch = Launch(config, storage / f"failed-{name}.json")
    storage.mkdir(parents=True, exist_ok=True)
    with ray_joined(config.cluster.address), Follower(config.out, config.trainer.last_step):
        _check_resources(config.trainer, workers)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"launch": launch},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=config.trainer.use_gpu,
                resources_per_worker=_resources(config.trainer),
            ),
            run_config=RunConfig(
                name=f"launch-{name}",
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=config.trainer.max_failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            if not launch.failure.exists():
                raise RunError(
                    f"training on Ray failed: {error}; the same command continues from the last checkpoint"
                ) from error
    if launch.failure.exists():
        message = json.loads(launch.failure.read_bytes())["error"]
        launch.failure.unlink()
        raise RunError(message)


def _work(told: dict[str, Any]) -> None:
    """One worker."""
    from jobs.training.train import train

    launch: Launch = told["launch"]
    if launch.failure.exists():  # an earlier attempt of this launch left it: the driver has the message
        return
    try:
        train(launch.config)
    except RunError as error:
        write_atomic(launch.failure, json.dumps({"error": str(error)}).encode())
        raise


def _placed(config: TrainConfig) -> TrainConfig:
    """The settings with absolute paths, for processes with another working folder, and the device that is reserved."""

    def absolute(path: str) -> str:
        return path if "://" in path else os.path.abspath(path)

    return replace(
        config,
        out=Path(absolute(str(config.out))),
        builds=tuple(absolute(str(path)) for path in config.builds),
        init_from=None if config.init_from is None else Path(absolute(str(config.init_from))),
        trainer=replace(config.trainer, device=Device.CUDA if config.trainer.use_gpu else Device.CPU),
    )


def _resources(settings: TrainerSettings) -> dict[str, float]:
    """What one worker reserves."""
    return {"CPU": settings.cpus_per_worker} | ({"GPU": 1.0} if settings.use_gpu else {})


def _check_resources(settings: TrainerSettings, workers: int) -> None:
    """Ray would wait without end for what no node has."""
    there = ray.cluster_resources()
    for kind, each in _resources(settings).items():
        amount = workers * each
        if amount > there.get(kind, 0):
            raise RunError(
                f"the cluster has {there.get(kind, 0):g} {kind}, {workers} workers need {amount:g}; lower "
                "trainer.num_workers or trainer.cpus_per_worker, or start more nodes"
            )
