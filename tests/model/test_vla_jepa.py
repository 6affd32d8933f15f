"""The whole model: its losses, what trains, and that a seed decides everything. What may see what: test_leakage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.batch import fill_views
from model.losses import merge_views
from model.normalize import BuildStats, ChannelRange
from model.settings import LossSettings
from model.vla_jepa import VLAJEPA, build_model
from model.world_model.prediction_error import prediction_errors
from pipeline.errors import RunError, SettingsError
from pipeline.format.schema import Targets
from tests.model.helpers import (
    SIZES,
    STATS,
    VIDEO_SIZES,
    robot_observation,
    robot_targets,
    small_model,
    small_settings,
    video_observation,
    video_targets,
)


@pytest.fixture(scope="module")
def model() -> VLAJEPA:
    return small_model()


def _seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_world_model_loss_reaches_the_student_through_latent_actions(model: VLAJEPA) -> None:
    model.losses(video_observation(), video_targets()).total.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    embedding = grads["student.model.language_model.layers.0.self_attn.q_proj.weight"]
    assert embedding is not None
    assert embedding.abs().sum() > 0
    assert all(grad is None for name, grad in grads.items() if name.startswith("action_head."))


@torch.no_grad()
def test_inputs_are_the_targets_one_step_earlier(model: VLAJEPA) -> None:
    targets = robot_targets()
    forced = model._teacher_forced(targets)
    assert torch.equal(forced.inputs[:, : SIZES.tokens], merge_views(targets.context[:, None]))
    assert torch.equal(forced.inputs[:, SIZES.tokens :], forced.targets[:, : -SIZES.tokens])
    assert torch.equal(forced.targets, merge_views(targets.latents))


@torch.no_grad()
def test_masked_steps_and_actions_do_not_count(model: VLAJEPA) -> None:
    observation, targets = robot_observation(), robot_targets()
    mask = targets.latent_mask.clone()
    mask[:, 2] = False
    latents = targets.latents.clone()
    latents[:, 2] = 100.0
    hidden = replace(targets, latents=latents, latent_mask=mask)
    before = model.losses(observation, replace(targets, latent_mask=mask), _seeded())
    after = model.losses(observation, hidden, _seeded())
    assert torch.equal(after.world_model, before.world_model)
    shown = model.losses(observation, replace(hidden, latent_mask=targets.latent_mask), _seeded())
    assert shown.world_model > 10 * before.world_model  # positive control
    assert targets.actions is not None
    assert targets.action_mask is not None
    action_mask = targets.action_mask.clone()
    action_mask[:, 3:] = False
    actions = targets.actions.clone()
    actions[:, 3:] = 1e4
    padded = replace(targets, action_mask=action_mask)
    first = model.losses(observation, padded, _seeded()).action
    second = model.losses(observation, replace(padded, actions=actions), _seeded()).action
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


@torch.no_grad()
def test_totals_are_the_weighted_sums() -> None:
    settings = replace(small_settings(), loss=LossSettings(world_model_on_robot=0.25, world_model_on_video=3.0))
    model = build_model(settings, SIZES, STATS).eval()
    robot = model.losses(robot_observation(), robot_targets(), _seeded())
    assert robot.action is not None
    torch.testing.assert_close(robot.total, robot.action + 0.25 * robot.world_model)
    video = model.losses(video_observation(), video_targets())
    assert video.action is None
    torch.testing.assert_close(video.total, 3 * video.world_model)


@torch.no_grad()
def test_robot_data_can_teach_as_video_does() -> None:
    settings = replace(small_settings(), loss=LossSettings(action=0.0, world_model_on_robot=1.0))
    losses = build_model(settings, SIZES, STATS).eval().losses(robot_observation(), robot_targets(), _seeded())
    assert losses.action is not None
    assert losses.action > 0
    assert torch.equal(losses.total, losses.world_model)


@torch.no_grad()
def test_a_rollout_is_made_of_the_predictors_own_predictions() -> None:
    """Its first step is teacher forcing's; its second is what the predictor says of z_0 and the prediction of z_1."""
    settings = replace(small_settings(), loss=LossSettings(rollout=0.5, rollout_steps=2))
    model = build_model(settings, SIZES, STATS).eval()
    observation, targets = video_observation(), video_targets()
    losses = model.losses(observation, targets)
    assert losses.rollout is not None
    torch.testing.assert_close(losses.total, losses.world_model + 0.5 * losses.rollout)
    forced, actions = model._teacher_forced(targets), model.student(observation)[0].latent_actions
    first = model.predictor(forced.inputs, actions)[:, : SIZES.tokens]
    fed = torch.cat([forced.inputs[:, : SIZES.tokens], first, forced.inputs[:, 2 * SIZES.tokens :]], dim=1)
    second = model.predictor(fed, actions)[:, SIZES.tokens : 2 * SIZES.tokens]
    expected = (torch.cat([first, second], dim=1) - forced.targets[:, : 2 * SIZES.tokens]).abs().mean()
    torch.testing.assert_close(losses.rollout, expected)
    # Later latents are never fed: only the error sees them.
    rolled = model.predictor.rollout(forced.inputs[:, : SIZES.tokens], actions, 2)
    torch.testing.assert_close(rolled, torch.cat([first, second], dim=1))
    assert not torch.equal(second, model.predictor(forced.inputs, actions)[:, SIZES.tokens : 2 * SIZES.tokens])
    mask = targets.latent_mask.clone()
    mask[:, 1] = False
    hidden = model.losses(observation, replace(targets, latent_mask=mask)).rollout
    assert hidden is not None
    torch.testing.assert_close(hidden, (first - forced.targets[:, : SIZES.tokens]).abs().mean())


def test_rollout_gradients_pass_through_the_predictions_fed_in() -> None:
    model = small_model()
    forced = model._teacher_forced(video_targets())
    actions = model.student(video_observation())[0].latent_actions.detach().requires_grad_()
    model.predictor.rollout(forced.inputs[:, : SIZES.tokens], actions, 3)[:, -SIZES.tokens :].sum().backward()
    assert actions.grad is not None
    per_step = actions.grad.unflatten(1, (SIZES.steps, -1)).abs().sum(dim=(0, 2, 3))
    assert (per_step > 0).all()


def test_frozen_modules_get_no_gradient_and_the_rest_learns() -> None:
    settings = replace(small_settings(), freeze=("student.model.visual", "student.model.language_model.embed_tokens"))
    model = build_model(settings, SIZES, STATS)
    model.losses(robot_observation(), robot_targets(), _seeded()).total.backward()
    frozen = {name for name, p in model.named_parameters() if name.startswith(settings.freeze)}
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert parameter.grad is None, name
    assert frozen
    assert model.student.model.language_model.layers[0].mlp.up_proj.weight.grad is not None
    placed = {id(p) for group in model.param_groups(1.0, 1.0, 1.0) for p in group["params"]}
    assert placed.isdisjoint({id(p) for name, p in model.named_parameters() if name in frozen})


def test_a_rollout_longer_than_the_build_is_refused() -> None:
    settings = replace(small_settings(), loss=LossSettings(rollout=1.0, rollout_steps=4))
    with pytest.raises(SettingsError, match=r"rollout_steps=4 must be at most the build's 3 steps"):
        build_model(settings, SIZES, STATS)


def test_an_unknown_module_cannot_be_frozen() -> None:
    with pytest.raises(SettingsError, match=r"no module 'student\.model\.vision'; close are .*student\.model\.visual"):
        build_model(replace(small_settings(), freeze=("student.model.vision",)), SIZES, STATS)


@pytest.mark.parametrize("part", ["predictor", "action_head", "backbone"])
def test_gradient_checkpointing_changes_no_gradient(part: str) -> None:
    """With dropout in the head, whose random numbers must be the same in the second pass."""
    plain = small_settings()
    plain = replace(plain, action_head=replace(plain.action_head, dropout=0.3))
    saving = replace(plain, **{part: replace(getattr(plain, part), gradient_checkpointing=True)})
    grads, kept = [], []
    for settings in (plain, saving):
        model = build_model(settings, SIZES, STATS).train()
        torch.manual_seed(3)
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = model.losses(robot_observation(), robot_targets(), _seeded())
        kept.append(count)
        losses.total.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)
    assert kept[1] < kept[0]


@torch.no_grad()
def test_errors_stand_beside_their_baselines(model: VLAJEPA) -> None:
    observation, targets = robot_observation(), robot_targets()
    mask = targets.latent_mask.clone()
    mask[0, 1:] = False
    targets = replace(targets, latent_mask=mask)
    own = model.steering(observation, targets)
    copied, errors, exchanged = prediction_errors(model, targets, own, own.roll(1, 0))
    assert (~errors.isnan()).sum(0)[:, 0].tolist() == [4, 3, 3]
    z = torch.cat([targets.context[:, None], targets.latents], dim=1).float()
    change = (z[:, 1:] - z[:, :-1]).abs().mean(dim=(2, 3, 4))
    expected = torch.stack([change[:, 0].mean(), change[1:, 1].mean(), change[1:, 2].mean()])
    torch.testing.assert_close(copied.mean(2).nanmean(0), expected)
    assert errors.shape == (4, SIZES.steps, SIZES.views)
    torch.testing.assert_close(errors.nanmean(), model.losses(observation, targets, _seeded()).world_model)
    assert not torch.equal(exchanged[mask], errors[mask])


@torch.no_grad()
def test_a_model_that_ignores_latent_actions_is_seen_by_the_shuffle() -> None:
    model = small_model()
    model.predictor.action_encoder.weight.zero_()
    own = model.steering(robot_observation(), robot_targets())
    _, errors, exchanged = prediction_errors(model, robot_targets(), own, own.roll(1, 0))
    assert torch.equal(exchanged, errors)


@torch.no_grad()
def test_mixed_view_counts_train_in_one_model(model: VLAJEPA) -> None:
    robot = model.losses(robot_observation(), robot_targets(), _seeded())
    one_view = video_targets()
    filled = replace(
        one_view,
        context=fill_views(one_view.context[:, :1], 1, SIZES.views),
        latents=fill_views(one_view.latents[:, :, :1], 2, SIZES.views),
    )
    video = model.losses(video_observation(), filled)
    assert robot.total.isfinite()
    assert video.total.isfinite()
    with pytest.raises(ValueError, match=r"model\.batch\.to_device fills up missing views"):
        model.losses(
            video_observation(), replace(one_view, context=one_view.context[:, :1], latents=one_view.latents[:, :, :1])
        )


@torch.no_grad()
def test_padded_prompts_give_the_same_actions(model: VLAJEPA) -> None:
    """As CUDA graphs are recorded, and with the same refusals."""
    observation = robot_observation()
    assert observation.state is not None
    start = torch.randn(4, SIZES.chunk, SIZES.action)
    model.eval()
    prepared = model.student.prepare(observation, padded_to=64)
    assert len(prepared.prompts.input_ids) % 64 == 0
    found = model.act_prepared(prepared, observation.state, start)
    assert torch.allclose(found, model.act(observation, start=start), rtol=1e-4, atol=1e-5)
    with pytest.raises(RunError, match="eval mode"):
        small_model().train().act_prepared(prepared, observation.state, start)


def test_actions_come_in_source_units(model: VLAJEPA) -> None:
    start = torch.zeros(4, SIZES.chunk, SIZES.action)
    actions = model.act(robot_observation(), start=start)
    assert actions.shape == start.shape
    wider = BuildStats(STATS.state, ChannelRange((0.0,) * 7, (40.0,) * 7))
    same_weights = build_model(small_settings(), SIZES, wider).eval()
    torch.testing.assert_close(same_weights.act(robot_observation(), start=start), 10 * actions, rtol=1e-4, atol=1e-4)


def test_a_seed_decides_every_weight_and_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first = small_model(seed=4).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = small_model(seed=4).state_dict(), small_model(seed=5).state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(other["predictor.predictor_embed.weight"], first["predictor.predictor_embed.weight"])
    assert not torch.equal(
        other["student.model.language_model.embed_tokens.weight"],
        first["student.model.language_model.embed_tokens.weight"],
    )


def test_every_trainable_weight_stands_in_one_group(model: VLAJEPA) -> None:
    groups = model.param_groups(lr_backbone=1.0, lr_action_head=2.0, lr_rest=3.0)
    assert [(g["name"], g["lr"]) for g in groups] == [("backbone", 1.0), ("action_head", 2.0), ("rest", 3.0)]
    placed = [id(p) for g in groups for p in g["params"]]
    assert sorted(placed) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {id(p) for p in model.predictor.parameters()} == {id(p) for p in groups[2]["params"]}


@pytest.mark.slow
@pytest.mark.parametrize("make", [robot_targets, video_targets])
def test_bfloat16_autocast_is_safe(model: VLAJEPA, make: Callable[[], Targets[Tensor]]) -> None:
    targets = make()
    observation = video_observation() if targets.actions is None else robot_observation()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(observation, targets, _seeded())
    exact = model.losses(observation, targets, _seeded())
    losses.total.backward()
    model.zero_grad()
    assert losses.total.dtype == torch.float32
    torch.testing.assert_close(losses.total, exact.total, rtol=0.02, atol=0.02)


def test_a_video_only_model_has_no_action_head() -> None:
    model = build_model(small_settings(), VIDEO_SIZES, None).eval()
    assert model.losses(video_observation(), video_targets()).action is None
    assert [g["name"] for g in model.param_groups(1.0, 1.0, 1.0)] == ["backbone", "rest"]
    with pytest.raises(RunError, match="human video alone"):
        model.act(robot_observation())


def test_a_robot_without_state_gets_the_robot_prompt() -> None:
    model = build_model(small_settings(), replace(SIZES, state=0), BuildStats(None, STATS.action)).eval()
    observation = replace(robot_observation(), state=torch.zeros(4, 0))
    assert model.losses(observation, robot_targets(), _seeded()).action is not None
    assert model.act(observation, _seeded()).shape == (4, SIZES.chunk, SIZES.action)


def test_misuse_is_refused(model: VLAJEPA) -> None:
    with pytest.raises(ValueError, match="a robot batch has state"):
        model.losses(video_observation(), robot_targets())
    with pytest.raises(ValueError, match="needs an observation with state"):
        model.act(video_observation())
    training = small_model().train()
    with pytest.raises(RunError, match=r"call model\.eval\(\) first"):
        training.act(robot_observation())


@pytest.mark.parametrize(
    ("sizes", "stats", "message"),
    [
        (
            replace(SIZES, views=3),
            STATS,
            r"3 views and model.predictor.views is 2; set model.predictor.views=3, or",
        ),
        (SIZES, None, "7 action channels, .* got None"),
        (SIZES, BuildStats(ChannelRange((0.0,), (1.0,)), STATS.action), "6 state channels, .* got 1"),
        (replace(SIZES, tokens=5), STATS, "square grid, got 5"),
        (replace(SIZES, steps=6), STATS, "at least the 6 future steps"),
    ],
)
def test_a_model_that_does_not_fit_the_build_is_refused(sizes: object, stats: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_model(small_settings(), sizes, stats)  # type: ignore[arg-type]
