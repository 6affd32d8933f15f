"""Weights & Biases. The same folder goes on in the same run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.training.metrics.identity import identity_of


class WeightsAndBiases:
    """A run of a project."""

    def __init__(self, project: str, out: Path, state: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        name = out.resolve().name
        self._run = wandb.init(
            project=project, name=name, id=identity_of(out), resume="allow", dir=str(out), config=dict(state)
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
