"""Recorded passes without a device: a stand-in for CUDA's graph runs a pass again into the same tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.loop.step.step_graph import StepGraphs
from model import recording
from model.vla_jepa import build_model
from tests.model.helpers import (
    SIZES,
    STATS,
    robot_observation,
    robot_targets,
    small_settings,
    video_observation,
    video_targets,
)
from tests.model.test_recording import graph_of


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda _, *others, **named: autocast("cpu", *others, **named))
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(recording, "warm_up", lambda function: function())
    monkeypatch.setattr(recording, "capture", graph_of)


@pytest.mark.usefixtures("on_the_cpu")
def test_both_passes_of_a_step_give_the_losses_and_gradients_of_passes_that_are_not_recorded() -> None:
    """Warm-up and recording leave gradients and random numbers as they were, also between two passes of a step."""
    settings = replace(small_settings(), action_head=replace(small_settings().action_head, dropout=0.0))
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    for recorded, rows in found.items():
        model = build_model(settings, SIZES, STATS).train()
        optimiser = Optimiser(model, TrainerSettings(), rounded=True)
        graphs = StepGraphs(model, optimiser)
        for seed, count in ((0, 4), (1, 4), (2, 3)):
            batches = [
                (video_observation(count, seed), video_targets(count, seed)),
                (robot_observation(count, seed), robot_targets(count, seed)),
            ]
            optimiser.begin(0)
            for first in (True, False):
                torch.manual_seed(seed)
                if recorded:
                    losses = graphs.run(batches, (1.0, 0.5), ("video", "robot"), first)
                else:
                    with torch.autocast("cpu", torch.bfloat16):
                        losses = model(*batches)
                    (losses[0].total + 0.5 * losses[1].total).backward()
                    optimiser.collect()
                rows.append([*(each.world_model.item() for each in losses), optimiser.norms()["grad_norm"].item()])
            optimiser.step(optimiser.norms()["grad_norm"])
    for plain, graphed in zip(*found.values(), strict=True):
        assert graphed == pytest.approx(plain, rel=2e-3)
