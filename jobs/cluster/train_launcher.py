"""Training on a Ray cluster: Ray Train starts workers, each of which runs the function it is given, as one rank.

A worker that dies takes its group down; Ray Train starts a new one, which resumes from the run's last checkpoint.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from jobs.cluster.connect import ray_joined, require_resources
from jobs.cluster.nodes import Check, require_reach
from jobs.cluster.tail_run import tail_run
from pipeline.errors import RunError
from pipeline.storage.atomic import write_atomic
from pipeline.storage.store import open_store

DRIVERS_FILE = "ray/reach"
"""In the run's folder, while the nodes are asked whether they see it."""

Work = Callable[[], object]


@dataclass(frozen=True)
class WorkerGroup:
    """What a training needs of the cluster.

    address       of the cluster, see `ray_joined`
    workers       how many;  resources  that one of them reserves, Ray's names
    max_failures  restarts after a worker died
    out           the run's folder, reachable from all workers; Ray's files go to `ray` in it
    check         what every node must be able to do besides, see `jobs.cluster.nodes`
    last_step     the step the run ends at
    timeout_s     that a collective of PyTorch's may take
    """

    address: str | None
    workers: int
    resources: Mapping[str, float]
    max_failures: int
    out: Path
    check: Check
    last_step: int
    timeout_s: float


def run_workers(group: WorkerGroup, work: Work) -> None:
    """Run the work on every worker; returns when all have ended.

    Args:
        work: can be pickled; a `RunError` that it raises ends the run, anything else restarts the workers.

    Raises:
        RunError: the cluster is too small, a node does not reach the run's folder or fails the check, the work raised
            it, or workers died more often than `max_failures`.
    """
    storage, name = group.out / "ray", uuid.uuid4().hex
    failure = storage / f"failed-{name}.json"
    storage.mkdir(parents=True, exist_ok=True)
    with ray_joined(group.address), tail_run(group.out, group.last_step):
        wanted = {kind: group.workers * each for kind, each in group.resources.items()}
        fix = "; lower trainer.num_workers or trainer.cpus_per_worker"
        require_resources(wanted, f"{group.workers} workers need", fix)
        require_reach(open_store(group.out), DRIVERS_FILE, group.check)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"work": work, "failure": failure},
            torch_config=TorchConfig(timeout_s=math.ceil(group.timeout_s)),
            scaling_config=ScalingConfig(
                num_workers=group.workers, use_gpu="GPU" in group.resources, resources_per_worker=dict(group.resources)
            ),
            run_config=RunConfig(
                name=f"launch-{name}",
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=group.max_failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            if not failure.exists():
                raise RunError(
                    f"training on Ray failed: {error}; the same command continues from the last checkpoint"
                ) from error
    if failure.exists():
        message = json.loads(failure.read_bytes())["error"]
        failure.unlink()
        raise RunError(message)


def _work(arguments: dict[str, Any]) -> None:
    """One worker. It leaves the file `failure` behind when no restart would help."""
    work: Work = arguments["work"]
    failure: Path = arguments["failure"]
    if failure.exists():  # an earlier attempt of this launch left it: the driver has the message
        return
    try:
        work()
    except RunError as error:
        write_atomic(failure, json.dumps({"error": str(error)}).encode())
        raise
