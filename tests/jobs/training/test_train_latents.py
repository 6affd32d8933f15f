"""Training on a build of int8 latents: what the model sees, and how little the losses change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jobs.training.run import train
from model.batch import to_device
from model.normalize import BuildStats
from model.settings import tiny_settings
from model.vla_jepa import build_model
from pipeline.format.build import Build
from pipeline.format.schema import Batch
from pipeline.shards.int8 import float_targets
from pipeline.streaming.reader import SampleReader
from tests.jobs.runs import train_config

pytestmark = pytest.mark.slow  # two runs

STEPS = 4


def test_the_loss_curve_is_that_of_the_dequantised_latents(int8_build: Build, tmp_path: Path) -> None:
    train(train_config(tmp_path / "int8", [int8_build], steps=STEPS))
    read = SampleReader.read

    def dequantised(self: SampleReader, indices: NDArray[np.int64]) -> Batch[NDArray[Any]]:
        batch = read(self, indices)
        return replace(batch, targets=float_targets(batch.targets))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleReader, "read", dequantised)
        train(train_config(tmp_path / "float16", [int8_build], steps=STEPS))
    assert _losses(tmp_path / "int8") == _losses(tmp_path / "float16")


def test_losses_are_near_those_of_float16_latents(int8_build: Build, robot_build: Build) -> None:
    exact, stored = (_steps(build) for build in (robot_build, int8_build))
    assert exact != stored
    assert stored == pytest.approx(exact, rel=0.01)
    assert exact[-1] < exact[0]


def _losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = [row["loss"] for row in rows if "loss" in row]
    assert len(found) == STEPS
    return found


def _steps(build: Build) -> list[float]:
    """Losses of a few steps on the same samples in the same order: a build's own order hangs on its fingerprint."""
    torch.manual_seed(0)
    stats = BuildStats.parse(build.read_file("stats.json"), build.path)
    model = build_model(tiny_settings(), build.sizes, stats).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    samples, noise = SampleReader(build, "train"), torch.Generator().manual_seed(0)
    losses = []
    for _ in range(STEPS):
        batch = to_device(samples.read(np.arange(6)), torch.device("cpu"), model.settings.predictor.views)
        loss = model.losses(batch.observation, batch.targets, noise).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
