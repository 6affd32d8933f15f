"""Passes recorded as CUDA graphs against the same passes run as they come."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.loop.step.step_graph import StepGraphs
from model.vla_jepa import build_model
from pipeline.format.schema import Observation, Targets
from tests.model.helpers import (
    SIZES,
    STATS,
    robot_observation,
    robot_targets,
    small_settings,
    video_observation,
    video_targets,
)


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
                    losses = graphs.run(batches, (1.0, 0.5), ("video", "robot"), first)
                else:
                    with torch.autocast("cuda", torch.bfloat16):
                        losses = model(*batches)
                    (losses[0].total + 0.5 * losses[1].total).backward()
                    optimiser.collect()
                found.append(
                    (recorded, [each.world_model.item() for each in losses], optimiser.norms()["grad_norm"].item())
                )
            optimiser.step(torch.ones((), device="cuda"))
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
