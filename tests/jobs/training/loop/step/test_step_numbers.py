"""Numbers that are read after the next step was launched, as on CUDA: the same run, also where it ends early."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.training.loop import loop
from jobs.training.loop.loop import Trainer
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.micro_batches import weighted_total
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.loop.step.step_numbers import UpdateNumbers
from jobs.training.run import train
from model.checkpoint.folders import list_checkpoints
from model.losses import Losses
from pipeline.errors import RunError
from pipeline.format.build import Build
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config
from tests.model.helpers import robot_observation, robot_targets, small_model


def read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "steps_under_way", lambda _: 1)


def test_a_run_that_reads_its_numbers_one_step_later_is_the_same(
    robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    step, read = Trainer._step, UpdateNumbers.read

    def launched(self: Trainer, *arguments: Any) -> Any:
        order.append("launch")
        return step(self, *arguments)

    def was_read(self: UpdateNumbers) -> Any:
        order.append("read")
        return read(self)

    monkeypatch.setattr(Trainer, "_step", launched)
    monkeypatch.setattr(UpdateNumbers, "read", was_read)
    runs = []
    for name in ("at-once", "later"):
        config = train_config(tmp_path / name, [robot_build], steps=5, save_every=3, eval_every=0)
        if name == "later":
            order.clear()
            read_later(monkeypatch)
        train(config)
        checkpoints = list_checkpoints(config.out / "checkpoints")
        runs.append([losses_of(config.out), [(path / "model.safetensors").read_bytes() for path in checkpoints]])
    assert runs[0] == runs[1]
    assert [step for step, _ in runs[1][0]] == [1, 2, 3, 4, 5]
    # All are read before a checkpoint is saved.
    assert " ".join(order) == "launch launch read launch read read launch launch read read"


@pytest.mark.parametrize("later", [False, True])
def test_gradients_that_are_not_finite_end_the_run_before_anything_is_saved(
    robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    calls = []

    def total(found: Sequence[Losses], weights: Sequence[float], names: Sequence[str]) -> Tensor:
        calls.append(1)
        return weighted_total(found, weights, names) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(loop, "weighted_total", total)
    if later:
        read_later(monkeypatch)
    config = train_config(tmp_path / "run", [robot_build], steps=6, save_every=4, eval_every=0)
    with pytest.raises(RunError, match="the gradient norm is nan at step 2; samples of the batch"):
        train(config)
    assert json.loads((config.out / "stopped_batch.json").read_text())["step"] == 2
    assert [step for step, _ in losses_of(config.out)] == [1, 2]
    assert list_checkpoints(config.out / "checkpoints") == []


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_moves_neither_weights_nor_moments(number: float, fused: bool) -> None:
    """Also by the kernel that reads the norm on the device; the step after is the one that would have been."""
    found = []
    for disturbed in (False, True):
        model = small_model()
        optimiser = Optimiser(model, TrainerSettings(clip_norm=0.1), fused=fused)
        for bad in (False, True, False) if disturbed else (False, False):
            optimiser.begin(0)
            model.losses(robot_observation(), robot_targets(), torch.Generator().manual_seed(0)).total.backward()
            if bad:
                optimiser.adamw.param_groups[-1]["params"][0].grad.fill_(number)
            optimiser.step(optimiser.norms()["grad_norm"])
        found.append([master.detach().clone() for master in optimiser.masters.values()])
    assert all(map(torch.equal, *found))


def test_the_kernel_clips_as_pytorch_does() -> None:
    found = []
    for fused in (False, True):
        model = small_model()
        optimiser = Optimiser(model, TrainerSettings(clip_norm=0.1, warmup_steps=0), fused=fused)
        optimiser.begin(0)
        model.losses(robot_observation(), robot_targets(), torch.Generator().manual_seed(0)).total.backward()
        norms = optimiser.norms()
        assert norms["grad_norm"] > 0.1
        optimiser.step(norms["grad_norm"])
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)
