"""MLflow. The same folder goes on in the same run; MLFLOW_TRACKING_URI says where the server is."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.training.metrics.identity import identity_of
from pipeline.errors import SettingsError

TAG = "vlajepa.run"
"""Holds the identity of the run's folder."""

_LONGEST = 500
"""Characters of a parameter that every version of MLflow takes."""


_AT_ONCE = 500
"""Numbers that a request may hold (a server takes 1,000)."""


class MLflow:
    """A run of an experiment, found again by its tag.

    Raises:
        SettingsError: the server cannot be reached, or refuses.
    """

    def __init__(self, experiment: str, out: Path, state: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the other ranks wait meanwhile
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        mlflow = importlib.import_module("mlflow")
        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        try:
            self._run = self._open(experiment, out, state)
        except mlflow.exceptions.MlflowException as error:
            raise SettingsError(
                f"trainer.mlflow={experiment}: {str(error)[:300]}; set MLFLOW_TRACKING_URI to a server that takes it"
            ) from error

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self._metric(re.sub(r"[^\w./ -]", "_", name), value, now, step)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        for first in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._run, metrics=metrics[first : first + _AT_ONCE])

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    def _open(self, experiment: str, out: Path, state: Mapping[str, Any]) -> str:
        known = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if known is None else known.experiment_id
        identity = identity_of(out)
        found = self._client.search_runs([number], f"tags.`{TAG}` = '{identity}'", max_results=1)
        if found:
            self._client.set_terminated(found[0].info.run_id, "RUNNING")
            return str(found[0].info.run_id)
        run = self._client.create_run(number, tags={TAG: identity}, run_name=out.resolve().name)
        for name, value in state.items():
            self._client.log_param(run.info.run_id, name, json.dumps(value)[:_LONGEST])
        return str(run.info.run_id)
