"""Latents to look at: the same ones that the losses and the held-out numbers compare."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.batch import fill_views
from model.losses import merge_views
from model.vla_jepa import VLAJEPA
from model.world_model.latents import predict_latents, split_views
from model.world_model.prediction_error import prediction_errors
from pipeline.format.schema import Observation, Targets
from tests.model.helpers import (
    SIZES,
    robot_observation,
    robot_targets,
    rows,
    small_model,
    video_observation,
    video_targets,
)

SHAPE = (4, SIZES.steps, SIZES.views, SIZES.tokens, SIZES.width)


@pytest.fixture(scope="module")
def model() -> VLAJEPA:
    return small_model()


def _video() -> tuple[Observation[torch.Tensor], Targets[torch.Tensor]]:
    """Human video whose only view stands twice, as the predictor takes it."""
    targets = video_targets()
    context, latents = targets.context[:, :1], targets.latents[:, :, :1]
    return video_observation(), replace(targets, context=fill_views(context, 1, 2), latents=fill_views(latents, 2, 2))


def test_views_are_split_as_they_were_merged() -> None:
    latents = robot_targets().latents
    assert torch.equal(split_views(merge_views(latents), SIZES.steps, SIZES.views), latents.float())


@pytest.mark.parametrize("kind", ["robot", "video"])
def test_their_errors_are_those_of_the_world_model(model: VLAJEPA, kind: str) -> None:
    observation, targets = (robot_observation(), robot_targets()) if kind == "robot" else _video()
    predicted, true, before = predict_latents(model, observation, targets)
    assert predicted.shape == true.shape == before.shape == SHAPE
    assert predicted.dtype == true.dtype == before.dtype == torch.float32
    copied, errors = prediction_errors(model, targets, model.steering(observation, targets))
    torch.testing.assert_close((predicted - true).abs().mean(dim=(3, 4)), errors)
    torch.testing.assert_close((before - true).abs().mean(dim=(3, 4)), copied)


def test_true_latents_and_the_step_before_are_the_targets_own(model: VLAJEPA) -> None:
    targets = robot_targets()
    _, true, before = predict_latents(model, robot_observation(), targets)
    assert torch.equal(true, targets.latents.float())
    assert torch.equal(before[:, 0], targets.context.float())
    assert torch.equal(before[:, 1:], true[:, :-1])


def test_a_prediction_knows_neither_its_own_step_nor_other_samples(model: VLAJEPA) -> None:
    targets = robot_targets()
    predicted, _, _ = predict_latents(model, robot_observation(), targets)
    latents = targets.latents.clone()
    latents[:, -1] = 99.0
    moved, true, _ = predict_latents(model, robot_observation(), replace(targets, latents=latents))
    assert torch.equal(moved, predicted)
    assert true[:, -1].min() == 99.0
    alone = replace(
        targets, context=targets.context[:1], latents=targets.latents[:1], latent_mask=targets.latent_mask[:1]
    )
    single, _, _ = predict_latents(model, rows(robot_observation(), [0]), alone)
    torch.testing.assert_close(single, predicted[:1], atol=1e-4, rtol=1e-4)


def test_latents_of_another_shape_are_refused(model: VLAJEPA) -> None:
    targets = robot_targets()
    with pytest.raises(ValueError, match="latents must be"):
        predict_latents(model, robot_observation(), replace(targets, latents=targets.latents[:, :2]))


def test_nothing_carries_a_gradient(model: VLAJEPA) -> None:
    assert not any(tensor.requires_grad for tensor in predict_latents(model, robot_observation(), robot_targets()))
