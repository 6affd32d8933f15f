"""Which sinks a run has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SinkSettings:
    """Project of Weights & Biases, experiment of MLflow, and where Prometheus reads; None: none of it."""

    wandb: str | None = None
    mlflow: str | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
