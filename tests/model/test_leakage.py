"""Leakage inside the model (rules L3, L4, L5, L7), by perturbation, each with a positive control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.losses import merge_views
from model.settings import LossSettings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.format.schema import Targets
from tests.model.helpers import (
    SIZES,
    STATS,
    robot_observation,
    robot_targets,
    rows,
    small_model,
    small_settings,
    video_observation,
    video_targets,
)

ACTION_TOKENS = small_settings().prompt.action_tokens_per_step


@pytest.fixture(scope="module")
def model() -> VLAJEPA:
    return small_model()


def _seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _predictions(model: VLAJEPA, targets: Targets[Tensor], actions: Tensor | None = None) -> Tensor:
    """What the predictor says about z_1..z_K, [B, K, N, V*D]."""
    forced = model._teacher_forced(targets)
    actions = model.student(robot_observation())[0].latent_actions if actions is None else actions
    return model.predictor(forced.inputs, actions).unflatten(1, (SIZES.steps, SIZES.tokens))


@torch.no_grad()
def test_replacing_every_target_leaves_student_and_policy_bit_identical(model: VLAJEPA) -> None:
    """L3. A hook watches what the student gives during `losses`, so a leak around its arguments would show."""
    seen: list[Tensor] = []
    handle = model.student.register_forward_hook(lambda _module, _args, out: seen.append(out[0].latent_actions))
    acted, totals = [], []
    for seed in (0, 1):
        losses = model.losses(robot_observation(), robot_targets(seed=seed), _seeded())
        totals.append(losses.total)
        acted.append(model.act(robot_observation(), _seeded()))
    handle.remove()
    assert all(torch.equal(each, seen[0]) for each in seen)
    assert torch.equal(acted[0], acted[1])
    assert totals[0] != totals[1]  # the targets were different, and the losses saw it


@torch.no_grad()
def test_the_policy_depends_on_images_state_and_instruction(model: VLAJEPA) -> None:
    """Positive control of the test above: act() is not simply constant."""
    observation = robot_observation()
    before = model.act(observation, _seeded())
    assert observation.state is not None
    for changed in (
        replace(observation, images=255 - observation.images),
        replace(observation, state=observation.state + 1),
        replace(observation, instruction=observation.instruction[::-1]),
    ):
        assert not torch.equal(model.act(changed, _seeded()), before)


@torch.no_grad()
@pytest.mark.parametrize("step", range(SIZES.steps + 1))
def test_a_latent_moves_no_prediction_of_its_own_or_an_earlier_step(model: VLAJEPA, step: int) -> None:
    """L4. z_step may reach the predictions of z_{step+1}.. alone. z_K reaches none."""
    targets = robot_targets()
    before = _predictions(model, targets)
    context, latents = targets.context.clone(), targets.latents.clone()
    if step == 0:
        context += 1
    else:
        latents[:, step - 1] += 1
    after = _predictions(model, replace(targets, context=context, latents=latents))
    assert torch.equal(after[:, :step], before[:, :step])  # entry k is the prediction of z_{k+1}
    assert (after != before).flatten(2).any(dim=2)[:, step:].all()


@pytest.mark.parametrize(
    "make", [lambda: (robot_observation(), robot_targets()), lambda: (video_observation(), video_targets())]
)
def test_targets_get_no_gradient(model: VLAJEPA, make: Callable[[], tuple]) -> None:
    """L5, with the inputs of the loss made to ask for one."""
    observation, targets = make()
    tensors = [t.float().requires_grad_() for t in (targets.context, targets.latents)]
    asked = replace(targets, context=tensors[0], latents=tensors[1])
    if targets.actions is not None:
        tensors.append(targets.actions.requires_grad_())
        asked = replace(asked, actions=tensors[-1])
    model.losses(observation, asked, _seeded()).total.backward()
    assert [tensor.grad for tensor in tensors] == [None] * len(tensors)
    assert model.predictor.predictor_embed.weight.grad is not None
    model.zero_grad()


@torch.no_grad()
def test_samples_do_not_mix(model: VLAJEPA) -> None:
    """The loss of a sample alone is what it adds to the batch's mean."""
    observation, targets = video_observation(3), video_targets(3)
    together = model.losses(observation, targets).world_model
    alone = []
    for i in range(3):
        one = Targets(targets.context[[i]], targets.latents[[i]], targets.latent_mask[[i]], None, None)
        alone.append(model.losses(rows(observation, [i]), one).world_model)
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_views_of_two_samples_stay_in_their_sample(model: VLAJEPA) -> None:
    """Latents are 10 x sample + view: the predictor's rows hold the views of their own sample, in order."""
    targets = robot_targets(2)
    spelled = 10 * torch.arange(2)[:, None] + torch.arange(2)
    latents = spelled[:, None, :, None, None].expand(targets.latents.shape).half()
    forced = model._teacher_forced(replace(targets, latents=latents, context=latents[:, 0]))
    views = forced.inputs.unflatten(2, (SIZES.views, SIZES.width))
    for sample in range(2):
        for view in range(2):
            assert (views[sample, :, view] == 10 * sample + view).all()


def test_views_merge_by_sample_where_the_references_chunk_mixes_samples() -> None:
    """The reference cuts [B * V, ...] (all views of sample 0, then of sample 1) into V chunks and joins them, so that
    what it takes for the views of one sample are a view of each of two."""
    spelled = 10 * torch.arange(2)[:, None] + torch.arange(2)  # sample 0: 0, 1; sample 1: 10, 11
    reference = torch.stack(spelled.flatten().chunk(2), dim=1)
    assert reference.tolist() == [[0, 10], [1, 11]]
    assert merge_views(spelled[:, None, :, None, None]).flatten(1).tolist() == [[0, 1], [10, 11]]


@torch.no_grad()
@pytest.mark.parametrize("step", range(SIZES.steps))
def test_a_latent_action_moves_no_prediction_of_an_earlier_step(model: VLAJEPA, step: int) -> None:
    """L4. The latent action between z_step and z_{step+1} may reach the predictions of z_{step+1}.. alone."""
    targets = robot_targets()
    actions = model.student(robot_observation())[0].latent_actions
    before = _predictions(model, targets, actions)
    changed = actions.clone()
    changed[:, step * ACTION_TOKENS : (step + 1) * ACTION_TOKENS] += 1
    after = _predictions(model, targets, changed)
    assert torch.equal(after[:, :step], before[:, :step])
    assert (after != before).flatten(2).any(dim=2)[:, step:].all()


@torch.no_grad()
def test_a_rollout_sees_no_latent_but_the_first(model: VLAJEPA) -> None:
    """L4 for roll-outs: none of z_1..z_K is fed."""
    actions = model.student(robot_observation())[0].latent_actions
    rolled = []
    for targets in (robot_targets(), replace(robot_targets(), latents=robot_targets(seed=9).latents)):
        context = model._teacher_forced(targets).inputs[:, : SIZES.tokens]
        rolled.append(model.predictor.rollout(context, actions, SIZES.steps))
    assert torch.equal(rolled[0], rolled[1])
    assert not torch.equal(rolled[0], model.predictor.rollout(context + 1, actions, SIZES.steps))


def test_targets_get_no_gradient_by_rollout_either() -> None:
    settings = replace(small_settings(), loss=LossSettings(rollout=1.0))
    model = build_model(settings, SIZES, STATS)
    targets = video_targets()
    asked = replace(
        targets, context=targets.context.float().requires_grad_(), latents=targets.latents.float().requires_grad_()
    )
    model.losses(video_observation(), asked).total.backward()
    assert asked.context.grad is None
    assert asked.latents.grad is None
    assert model.predictor.predictor_embed.weight.grad is not None


@torch.no_grad()
@pytest.mark.parametrize("what", ["images", "instruction", "state"])
def test_a_sample_moves_nothing_of_another_one(model: VLAJEPA, what: str) -> None:
    """Latent actions, embodied tokens, predictions and actions, with the prompts packed one after the other."""
    observation, targets = robot_observation(), robot_targets()
    other = robot_observation(seed=3)
    changed = {
        "images": replace(observation, images=torch.cat([observation.images[:3], other.images[3:]])),
        # Of another length, so that every later token of the packed row moves.
        "instruction": replace(observation, instruction=(*observation.instruction[:3], "do something else entirely")),
        "state": replace(observation, state=torch.cat([observation.state[:3], other.state[3:]])),  # type: ignore[index]
    }[what]

    def outputs(given: object) -> list[Tensor]:
        (read,) = model.student(given)
        assert read.embodied is not None
        start = torch.randn(4, SIZES.chunk, SIZES.action, generator=_seeded())
        acted = model.act(given, start=start)  # type: ignore[arg-type]
        return [read.latent_actions, read.embodied, _predictions(model, targets, read.latent_actions), acted]

    before, after = outputs(observation), outputs(changed)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(b[:3], a[:3], rtol=1e-5, atol=1e-5)
    assert (after[-1][3] - before[-1][3]).abs().max() > 1e-3  # positive control: the changed sample itself acts anew
