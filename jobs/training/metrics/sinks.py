"""Where the numbers of a run go beside metrics.jsonl, each behind the same three calls."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from jobs.training.metrics.mlflow import MLflow
from jobs.training.metrics.prometheus import Prometheus
from jobs.training.metrics.sink_settings import SinkSettings
from jobs.training.metrics.tensorboard import TensorBoard
from jobs.training.metrics.wandb import WeightsAndBiases
from pipeline.errors import SettingsError


class Sink(Protocol):
    """A place for numbers. Opened when it is made."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers of a step by their names, such as "train/loss"."""
        ...

    def close(self, failed: bool) -> None:
        """End the record. failed: an error ended the run."""
        ...


def require_packages(settings: SinkSettings) -> None:
    """Raise SettingsError if a package that a setting needs is not installed."""
    for name, value, package, install in (
        ("wandb", settings.wandb, "wandb", "wandb"),
        ("mlflow", settings.mlflow, "mlflow", "mlflow-skinny"),
    ):
        if value is None:
            continue
        try:
            importlib.import_module(package)
        except ImportError as error:
            text = f"trainer.{name}={value} needs the package {package}, which is not installed: pip install {install}"
            raise SettingsError(text) from error


@contextmanager
def open_sinks(settings: SinkSettings, out: Path, first: int, state: Mapping[str, Any]) -> Iterator[list[Sink]]:
    """The sinks that the settings ask for, closed at the end in the opposite order.

    Args:
        out: the run's folder.
        first: the step that the run continues from.
        state: configuration of the run.

    Raises:
        SettingsError: one cannot be opened.
    """
    opened: list[Sink] = []
    failed = True
    try:
        opened.append(TensorBoard(out / "tensorboard", first))
        if settings.wandb is not None:
            opened.append(WeightsAndBiases(settings.wandb, out, state))
        if settings.mlflow is not None:
            opened.append(MLflow(settings.mlflow, out, state))
        if settings.metrics_port is not None:
            opened.append(Prometheus(settings.metrics_host, settings.metrics_port, out))
        yield opened
        failed = False
    finally:
        for sink in reversed(opened):
            sink.close(failed)
