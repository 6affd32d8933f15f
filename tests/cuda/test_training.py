"""The trainer on the device: the numbers of the CPU in float32, bf16 beside them, an interrupted run, its files."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.training.loop.data import pinned
from jobs.training.loop.optimiser import Optimiser
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step_graph import StepGraphs
from jobs.training.run import train
from model.attention.backend import resolve_backend
from model.checkpoint.checkpoint import list_checkpoints
from model.vla_jepa import build_model
from pipeline.format.build import Build
from pipeline.format.schema import Observation, Targets
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config
from tests.model.helpers import (
    SIZES,
    STATS,
    robot_observation,
    robot_targets,
    small_settings,
    video_observation,
    video_targets,
)


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
    row = json.loads((config.out / "metrics.jsonl").read_text().splitlines()[2])
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


def test_recorded_passes_give_the_losses_and_gradients_of_passes_that_are_not() -> None:
    """Batches of different lengths and two kinds; a second shape; both passes of an optimiser step."""
    settings = replace(small_settings(), action_head=replace(small_settings().action_head, dropout=0.0))
    found = []
    for recorded in (False, True):
        model = build_model(settings, SIZES, STATS).train().to("cuda")
        optimiser = Optimiser(model, TrainerSettings(), rounded=True)
        graphs = StepGraphs(model, optimiser)
        for seed, count in ((0, 4), (1, 4), (2, 3)):
            batches = [
                to_cuda(video_observation(count, seed), video_targets(count, seed)),
                to_cuda(robot_observation(count, seed), robot_targets(count, seed)),
            ]
            optimiser.begin(0)
            for first in (True, False):
                torch.manual_seed(seed)
                if recorded:
                    losses = graphs.run(batches, (1.0, 0.5), first)
                else:
                    with torch.autocast("cuda", torch.bfloat16):
                        losses = model(*batches)
                    (losses[0].total + 0.5 * losses[1].total).backward()
                    optimiser.collect()
                found.append((recorded, [each.world_model.item() for each in losses], optimiser.norms()["grad_norm"]))
            optimiser.step(1.0)
    plain, graphed = ([row[1:] for row in found if row[0] == recorded] for recorded in (False, True))
    for (a, norm_a), (b, norm_b) in zip(plain, graphed, strict=True):
        assert b == pytest.approx(a, rel=2e-2)
        assert norm_b == pytest.approx(norm_a, rel=5e-2)


def to_cuda(observation: Observation[Tensor], targets: Targets[Tensor]) -> tuple[Observation[Tensor], Targets[Tensor]]:
    """A batch on the device."""

    def moved(value: Any) -> Any:
        return value.cuda() if isinstance(value, Tensor) else value

    o, t = ({f.name: moved(getattr(x, f.name)) for f in fields(x)} for x in (observation, targets))
    return Observation(**o), Targets(**t)
