"""What stands for latent actions: it reaches the predictor in their place, and knows what it may alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.settings import SteeredBy
from model.stand_in import STAND_INS, word_counts
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import RunError, SettingsError
from tests.model.helpers import (
    SIZES,
    STATS,
    VIDEO_SIZES,
    robot_observation,
    robot_targets,
    small_settings,
    video_observation,
    video_targets,
)


def model_of(kind: SteeredBy, freeze: tuple[str, ...] = ()) -> VLAJEPA:
    settings = small_settings()
    predictor = replace(settings.predictor, steered_by=kind)
    return build_model(replace(settings, predictor=predictor, freeze=freeze), SIZES, STATS)


@pytest.mark.parametrize("kind", STAND_INS)
def test_the_world_model_loss_reaches_it_and_not_the_student(kind: SteeredBy) -> None:
    model = model_of(kind)
    losses = model.losses(robot_observation(), robot_targets())
    losses.world_model.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("stand_in.") for name in trained)
    assert not any(name.startswith("student.") for name in trained)
    assert {group["name"] for group in model.param_groups(1, 1, 1)} == {"backbone", "action_head", "rest"}


@torch.no_grad()
@pytest.mark.parametrize("kind", STAND_INS)
def test_it_knows_what_its_name_says(kind: SteeredBy) -> None:
    model, observation, targets = model_of(kind), robot_observation(), robot_targets()
    torch.nn.init.normal_(model.stand_in.constant)  # type: ignore[union-attr]
    first = model.steering(observation, targets)
    changed = {
        "images": model.steering(replace(observation, images=255 - observation.images), targets),
        "words": model.steering(replace(observation, instruction=("push it",) * 4), targets),
        "motion": model.steering(observation, replace(targets, actions=-targets.actions)),  # type: ignore[operator]
        "future": model.steering(observation, replace(targets, latents=-targets.latents)),
    }
    moved = {name for name, tokens in changed.items() if not torch.equal(tokens, first)}
    assert moved == {SteeredBy.CONSTANT: set(), SteeredBy.WORDS: {"words"}, SteeredBy.TRUE_MOTION: {"motion"}}[kind]


def test_words_are_told_apart_by_their_order() -> None:
    left, right = (word_counts(f"pulling red cube from {way}") for way in ("right to left", "left to right"))
    assert not torch.equal(left, right)
    assert torch.equal(word_counts("Push IT"), word_counts("push it"))


def test_a_frozen_student_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(SteeredBy.WORDS, ("student", "action_head"))
    monkeypatch.setattr(model.student, "forward", lambda *_: pytest.fail("the student was asked"))
    robot, video = model((robot_observation(), robot_targets()), (video_observation(), video_targets()))
    assert robot.action is None
    assert robot.total == model.settings.loss.world_model_on_robot * robot.world_model
    assert video.total == video.world_model


def test_true_motion_is_refused_where_there_is_none() -> None:
    settings = small_settings()
    predictor = replace(settings.predictor, steered_by=SteeredBy.TRUE_MOTION)
    with pytest.raises(SettingsError, match="needs a build with actions"):
        build_model(replace(settings, predictor=predictor), VIDEO_SIZES, None)
    with pytest.raises(ValueError, match="train on robot builds alone"):
        model_of(SteeredBy.TRUE_MOTION).losses(video_observation(), video_targets())


def test_shuffled_latent_actions_are_of_the_sample_before_and_in_training_alone() -> None:
    model, own = model_of(SteeredBy.SHUFFLED), model_of(SteeredBy.LATENT_ACTIONS)
    observation, targets = robot_observation(), robot_targets()
    steering = own.train().steering(observation, targets)
    assert model.stand_in is None
    assert model.state_dict().keys() == own.state_dict().keys()
    assert torch.equal(model.train().steering(observation, targets), steering.roll(1, 0))
    assert torch.equal(model.eval().steering(observation, targets), steering)
    assert model.train().losses(observation, targets).world_model != own.losses(observation, targets).world_model
    alone = model.train().steering(robot_observation(1), robot_targets(1))
    assert torch.equal(alone, torch.zeros_like(alone))
    with pytest.raises(RunError, match="steered_by=shuffled is a measure"):
        model.eval().act(observation)


def test_with_shuffled_latent_actions_a_sample_teaches_the_student_of_another() -> None:
    model = model_of(SteeredBy.SHUFFLED).train()
    observation, targets = robot_observation(), robot_targets()
    only = torch.arange(4) == 2
    masked = replace(targets, latent_mask=targets.latent_mask & only[:, None])
    (output,) = model.student(observation)
    tokens = output.latent_actions.detach().requires_grad_()
    found = model.losses_from([replace(output, latent_actions=tokens)], [(observation, masked)])[0].world_model
    (gradient,) = torch.autograd.grad(found, tokens)
    assert (gradient.abs().sum(dim=(1, 2)) > 0).tolist() == [False, True, False, False]


def test_other_targets_are_the_future_of_the_sample_before_and_in_training_alone() -> None:
    settings = small_settings()
    model = build_model(replace(settings, loss=replace(settings.loss, other_targets=True)), SIZES, STATS)
    own = build_model(settings, SIZES, STATS)
    observation, targets = robot_observation(), robot_targets()
    moved = replace(targets, latents=targets.latents.roll(1, 0), latent_mask=targets.latent_mask.roll(1, 0))
    found = [m.losses(observation, t).world_model for m, t in ((model.train(), targets), (own.eval(), moved))]
    assert torch.equal(*found)
    held = [m.eval().losses(observation, targets).world_model for m in (model, own)]
    assert torch.equal(*held)
    alone = model.train().losses(robot_observation(1), robot_targets(1))
    assert float(alone.world_model) == 0
