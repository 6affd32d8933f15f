"""Prometheus: the newest numbers of a run at http://HOST:PORT/metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from jobs.common.metrics_port import MetricsPort

STEP = "vlajepa_train_step"
TRAIN = "vlajepa_train"
HELD_OUT = "vlajepa_held_out"


class Prometheus:
    """Gauges `vlajepa_train` and `vlajepa_held_out`, a label `metric` for each number, and `vlajepa_train_step`.

    Raises:
        SettingsError: the port cannot be opened.
    """

    def __init__(self, host: str, port: int, out: Path) -> None:
        registry = CollectorRegistry()
        self._run = out.resolve().name
        self._step = Gauge(STEP, "Steps that are done", ["run"], registry=registry)
        self._train = Gauge(TRAIN, "Numbers of the last step", ["run", "metric"], registry=registry)
        self._held_out = Gauge(HELD_OUT, "Held-out numbers", ["run", "metric"], registry=registry)
        self._open = MetricsPort(registry, host, port, "trainer.metrics_port")

    @property
    def port(self) -> int:
        """The one that was opened, if the system chose it."""
        return self._open.port

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._step.labels(self._run).set(step)
        for name, value in values.items():
            kind, _, metric = name.partition("/")
            gauge = self._train if kind == "train" else self._held_out
            gauge.labels(self._run, metric).set(value)

    def close(self, failed: bool) -> None:
        self._open.close()
