"""`model.use_state` and `model.state_dropout`: what of the state reaches the model, in training and when it acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint.checkpoint import load_weights, save_weights
from model.exchange.lerobot import save_lerobot
from model.exchange.lerobot_config import policy_config
from model.settings import SteeredBy
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import BuildError
from tests.model.exchange.test_exchange import CAMERAS, lerobot_settings
from tests.model.exchange.test_exchange import WIDE as LEROBOT_SIZES
from tests.model.helpers import SIZES, STATS, robot_observation, robot_targets, small_settings


def model_of(**changes: object) -> VLAJEPA:
    return build_model(replace(small_settings(), **changes), SIZES, STATS)


def loss_of(model: VLAJEPA, state_seed: int, seed: int = 0) -> torch.Tensor:
    observation = robot_observation()
    observation = replace(observation, state=torch.randn(4, 6, generator=torch.Generator().manual_seed(state_seed)))
    torch.manual_seed(seed)
    return model.losses(observation, robot_targets()).total.detach()


@torch.no_grad()
def test_without_it_no_output_depends_on_the_state() -> None:
    observation = robot_observation()
    other = replace(observation, state=observation.state + 1)  # type: ignore[operator]
    start = torch.randn(4, SIZES.chunk, SIZES.action)
    for uses in (True, False):
        model = model_of(use_state=uses)
        assert (loss_of(model, 1) != loss_of(model, 2)) == uses
        acted = [model.eval().act(each, start=start) for each in (observation, other)]
        assert torch.equal(*acted) != uses
        assert model.outside(observation.state * 1e9).any() == uses  # type: ignore[operator]
        assert any("state" in name for name in model.state_dict()) == uses


def test_the_ceiling_without_the_state_knows_the_actions_alone() -> None:
    predictor = replace(small_settings().predictor, steered_by=SteeredBy.TRUE_MOTION)
    model = model_of(use_state=False, predictor=predictor).eval()
    assert loss_of(model, 1) == loss_of(model, 2)


@torch.no_grad()
def test_a_state_is_left_out_as_often_as_asked_and_never_when_acting() -> None:
    model = model_of(state_dropout=0.25)
    head = model.action_head
    assert head is not None
    state = torch.randn(4000, 6)
    torch.manual_seed(0)
    dropped = (head.train()._state_token(state) == 0).all(dim=-1)[:, 0]
    assert dropped.float().mean() == pytest.approx(0.25, abs=0.03)
    whole = head.eval()._state_token(state)
    assert not (whole == 0).all(dim=-1).any()
    torch.manual_seed(0)
    kept = head.train()._state_token(state)
    assert torch.equal(kept[~dropped], whole[~dropped])


def test_dropout_is_for_training_alone_and_drawn_by_the_seed() -> None:
    plain, dropping = model_of().eval(), model_of(state_dropout=0.5).eval()
    assert loss_of(plain, 1) == loss_of(dropping, 1)
    dropping.train()
    assert loss_of(dropping, 1, seed=3) == loss_of(dropping, 1, seed=3)
    assert loss_of(dropping, 1, seed=3) != loss_of(plain.train(), 1, seed=3)
    dropping.losses(robot_observation(), robot_targets()).total.backward()
    assert all(p.grad is not None for p in dropping.action_head.state_encoder.parameters())  # type: ignore[union-attr]


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="needs use_state=true"):
        model_of(use_state=False, state_dropout=0.1)


def test_a_checkpoint_without_a_state_fits_no_model_with_one_unless_its_part_starts_afresh(tmp_path: Path) -> None:
    save_weights(tmp_path / "without", model_of(use_state=False), {})
    with pytest.raises(BuildError, match=r"missing action_head\.state_encoder"):
        load_weights(tmp_path / "without", model_of())
    model = model_of(seed=5)
    load_weights(tmp_path / "without", model, keep=("action_head.state_encoder.", "action_scaler.", "state_scaler."))
    assert loss_of(model, 1) != loss_of(model, 2)
    save_weights(tmp_path / "with", model, {})
    with pytest.raises(BuildError, match=r"unknown action_head\.state_encoder"):
        load_weights(tmp_path / "with", model_of(use_state=False))


def test_an_export_without_a_state_asks_for_none(tmp_path: Path) -> None:
    model = build_model(replace(lerobot_settings(), use_state=False), LEROBOT_SIZES, STATS).eval()
    config = policy_config(model, CAMERAS, "e")
    assert config["state_dim"] == 0
    assert "observation.state" not in config["input_features"]
    save_lerobot(model, tmp_path / "policy", CAMERAS, "e")
    texts = [path.read_text() for path in (tmp_path / "policy").glob("*.json")]
    assert texts
    assert not any("observation.state" in text for text in texts)
