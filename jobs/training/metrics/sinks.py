"""Where the numbers of a run go beside metrics.jsonl, each behind the same two calls."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from jobs.training.metrics.mlflow import MLflow
from jobs.training.metrics.prometheus import Prometheus
from jobs.training.metrics.sink_settings import SinkSettings
from jobs.training.metrics.tensorboard import TensorBoard
from jobs.training.metrics.wandb import WeightsAndBiases
from pipeline.errors import SettingsError
from pipeline.format.text.printable import printable


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
    with contextlib.ExitStack() as stack:
        opened: list[Sink] = []

        def add(sink: Sink, name: str) -> None:
            safe = _Lasting(sink, name)
            stack.push(lambda kind, *_: safe.close(kind is not None))
            opened.append(safe)

        add(TensorBoard(out / "tensorboard", first), "TensorBoard")
        if settings.wandb is not None:
            add(WeightsAndBiases(settings.wandb, out, state), "Weights & Biases")
        if settings.mlflow is not None:
            add(MLflow(settings.mlflow, out, state), "MLflow")
        if settings.metrics_port is not None:
            add(Prometheus(settings.metrics_host, settings.metrics_port, out), "Prometheus")
        yield opened


class _Lasting:
    """A sink whose failure is said once, and ends no run: metrics.jsonl has all numbers."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink, self._name, self._failed = sink, name, False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if not self._failed:
            self._try(lambda: self._sink.scalars(values, step))

    def close(self, failed: bool) -> None:
        self._try(lambda: self._sink.close(failed))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracker's client raises
            if not self._failed:
                problem = printable(str(error))[:300]
                text = f"{self._name} takes no more numbers of this run ({problem}); metrics.jsonl has them"
                sys.stderr.write(f"vlajepa: WARNING: {text}\n")
            self._failed = True
