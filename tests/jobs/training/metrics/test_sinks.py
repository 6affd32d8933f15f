"""Where a run's numbers go: Prometheus, MLflow, TensorBoard."""

from __future__ import annotations

import socket
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.training.metrics.mlflow import TAG, MLflow
from jobs.training.metrics.prometheus import Prometheus
from jobs.training.metrics.sink_settings import SinkSettings
from jobs.training.metrics.sinks import open_sinks, require_packages
from pipeline.errors import SettingsError


def test_prometheus_gives_the_newest_numbers(tmp_path: Path) -> None:
    sink = Prometheus("127.0.0.1", 0, tmp_path / "first")
    try:
        sink.scalars({"train/loss": 2.0, "train/samples_per_s": 9.0}, 1)
        sink.scalars({"train/loss": 1.5}, 2)
        sink.scalars({"held_out/ssv2/model": 0.25}, 2)
        with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        sink.close(False)
    lines = text.splitlines()
    assert 'vlajepa_train_step{run="first"} 2.0' in lines
    assert 'vlajepa_train{metric="loss",run="first"} 1.5' in lines
    assert 'vlajepa_train{metric="samples_per_s",run="first"} 9.0' in lines
    assert 'vlajepa_held_out{metric="ssv2/model",run="first"} 0.25' in lines


def test_a_port_that_is_taken_is_named_and_what_was_opened_is_closed(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = SinkSettings(metrics_port=taken.getsockname()[1])
        error = pytest.raises(SettingsError, match=r"trainer\.metrics_port=\d+ cannot be opened on 127\.0\.0\.1")
        with error, open_sinks(settings, tmp_path, 0, {}):
            pass
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(("setting", "install"), [("wandb", "wandb"), ("mlflow", "mlflow-skinny")])
def test_a_package_that_is_missing_is_named(setting: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, setting, None)
    with pytest.raises(SettingsError, match=rf"trainer\.{setting}=vla needs the package .*pip install {install}"):
        require_packages(SinkSettings(**{setting: "vla"}))


class Server:
    """What MLflow's client asks of a server."""

    def __init__(self) -> None:
        self.runs: list[SimpleNamespace] = []
        self.calls: list[tuple[Any, ...]] = []

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id="7") if self.runs else None

    def create_experiment(self, name: str) -> str:
        self.calls.append(("experiment", name))
        return "7"

    def search_runs(self, experiments: list[str], text: str, max_results: int) -> list[SimpleNamespace]:
        return [run for run in self.runs if repr(run.tags[TAG]) in text]

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> SimpleNamespace:
        self.runs.append(SimpleNamespace(info=SimpleNamespace(run_id=f"r{len(self.runs)}"), tags=tags))
        return self.runs[-1]

    def log_param(self, run: str, name: str, value: str) -> None:
        self.calls.append(("param", run, name, value))

    def log_batch(self, run: str, metrics: list[tuple[str, float, int, int]]) -> None:
        self.calls += [("metric", run, name, value, step) for name, value, _, step in metrics]

    def set_terminated(self, run: str, status: str) -> None:
        self.calls.append(("ended", run, status))


def test_mlflow_goes_on_in_the_run_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    errors = SimpleNamespace(MlflowException=RuntimeError)
    monkeypatch.setitem(
        sys.modules,
        "mlflow",
        SimpleNamespace(
            MlflowClient=lambda: server, exceptions=errors, entities=SimpleNamespace(Metric=lambda *given: given)
        ),
    )
    first = MLflow("vla", tmp_path / "a", {"builds": {"ssv2": "f"}})
    first.scalars({"train/loss": 1.0, "train/gone": float("nan"), "held_out/day 1|x/model": 2.0}, 3)
    first.close(True)
    MLflow("vla", tmp_path / "a", {}).close(False)
    MLflow("vla", tmp_path / "b", {}).close(False)
    assert [run.info.run_id for run in server.runs] == ["r0", "r1"]
    assert server.calls == [
        ("experiment", "vla"),
        ("param", "r0", "builds", '{"ssv2": "f"}'),
        ("metric", "r0", "train/loss", 1.0, 3),
        ("metric", "r0", "held_out/day 1_x/model", 2.0, 3),
        ("ended", "r0", "FAILED"),
        ("ended", "r0", "RUNNING"),
        ("ended", "r0", "FINISHED"),
        ("ended", "r1", "FINISHED"),
    ]


def test_mlflow_itself_takes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    for step, failed in ((1, True), (2, False)):
        sink = MLflow("vla", tmp_path / "run", {"seed": 1})
        sink.scalars({"train/loss": 1.0 / step}, step)
        sink.close(failed)
    (run,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("vla").experiment_id])
    assert (run.data.metrics, run.data.params, run.info.status) == ({"train/loss": 0.5}, {"seed": "1"}, "FINISHED")


def test_a_tracker_that_fails_is_said_once_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("503 \x1b[2J")

    asked: list[int] = []
    sink = SimpleNamespace(scalars=lambda values, step: (asked.append(step), broken()), close=broken)
    monkeypatch.setattr("jobs.training.metrics.sinks.WeightsAndBiases", lambda *_: sink)
    with open_sinks(SinkSettings(wandb="vla"), tmp_path, 0, {}) as sinks:
        for step in (1, 2):
            for one in sinks:
                one.scalars({"train/loss": 1.0}, step)
    assert asked == [1]
    said = capsys.readouterr().err
    assert said.count("WARNING: Weights & Biases takes no more numbers of this run (503 ") == 1
    assert "\x1b" not in said
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_the_error_of_a_run_is_not_hidden_by_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    sink = SimpleNamespace(scalars=lambda *_: None, close=ended.append)
    monkeypatch.setattr("jobs.training.metrics.sinks.WeightsAndBiases", lambda *_: sink)
    with pytest.raises(ZeroDivisionError), open_sinks(SinkSettings(wandb="vla"), tmp_path, 0, {}):
        raise ZeroDivisionError
    assert ended == [True]
