"""The trainer on the device: the numbers of the CPU in float32, bf16 beside them, an interrupted run, its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs.training.loop.data import pinned
from jobs.training.loop.step.phases import PREFIX
from jobs.training.run import train
from model.attention.backend import resolve_backend
from model.checkpoint.folders import list_checkpoints
from pipeline.format.build import Build
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config


@pytest.mark.parametrize(("bf16", "error"), [(False, 2e-3), (True, 5e-2)])
def test_world_model_losses_are_those_of_the_cpu(robot_build: Build, tmp_path: Path, bf16: bool, error: float) -> None:
    rows = {}
    for device in ("cpu", "cuda"):
        config = train_config(tmp_path / device, [robot_build], device=device, bf16=bf16)
        train(config)
        lines = (config.out / "metrics.jsonl").read_text().splitlines()
        rows[device] = [row["robot/world_model"] for row in map(json.loads, lines) if "loss" in row]
    assert len(rows["cuda"]) == 6
    assert rows["cuda"] == pytest.approx(rows["cpu"], rel=error)


def test_what_a_run_says_of_the_device(robot_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [robot_build], device="auto", count_flops=True)
    train(config)
    assert "model on cuda" in (config.out / "log.txt").read_text()
    backend = resolve_backend(config.model.attention, torch.device("cuda"))
    assert f"attention by {backend}" in (config.out / "log.txt").read_text()
    first, _, row = map(json.loads, (config.out / "metrics.jsonl").read_text().splitlines()[:3])
    assert not [name for name in first if name.startswith(PREFIX)]  # read one step late
    phases = [name.removeprefix(PREFIX) for name in row if name.startswith(PREFIX)]
    assert phases == ["data", "passes", "optimiser", "other"]
    assert row["ms_passes"] > 0
    assert row["ms_optimiser"] > 0
    assert 0 < row["memory_gib"] < 8
    assert row["tflops"] > 0
    assert json.loads((config.out / "run.json").read_text())["device"] == "cuda"


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(robot_build: Build, tmp_path: Path) -> None:
    whole = train_config(tmp_path / "whole", [robot_build], device="cuda")
    train(whole)
    for stop in (3, None):
        train(train_config(tmp_path / "parts", [robot_build], device="cuda", stop_after=stop))
    expected, found = (dict(losses_of(out)) for out in (whole.out, tmp_path / "parts"))
    assert found == pytest.approx(expected, rel=2e-2)


def test_a_checkpoint_of_the_device_is_read_on_the_cpu(robot_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [robot_build], device="cuda", steps=3)
    train(config)
    assert [path.name for path in list_checkpoints(config.out / "checkpoints")] == ["step-00000003"]
    resumed = train_config(tmp_path / "run", [robot_build], device="cpu", steps=3)
    assert train(resumed)["robot"].model > 0


def test_latents_are_read_into_memory_that_is_copied_without_waiting() -> None:
    assert torch.from_numpy(pinned(1 << 20)).is_pinned()
