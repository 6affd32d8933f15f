"""Which tokens of the student the action head reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.exchange.starvla import save_starvla
from model.settings import HeadInput, SteeredBy
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import RunError, SettingsError
from tests.model.helpers import SIZES, STATS, robot_observation, robot_targets, small_settings


def model_of(reads: HeadInput) -> VLAJEPA:
    settings = small_settings()
    return build_model(replace(settings, action_head=replace(settings.action_head, reads=reads)), SIZES, STATS).eval()


@torch.no_grad()
@pytest.mark.parametrize("reads", list(HeadInput))
def test_the_head_reads_what_it_is_told_to_and_nothing_else(reads: HeadInput, monkeypatch: pytest.MonkeyPatch) -> None:
    model, observation, targets = model_of(reads), robot_observation(), robot_targets()
    output = model.student(observation)[0]
    start = torch.zeros(4, SIZES.chunk, SIZES.action)
    acted, lost = model.act(observation, start=start), _action(model)
    moved = set()
    for name in ("latent_actions", "embodied"):
        other = replace(output, **{name: getattr(output, name).flip(0)})
        monkeypatch.setattr(model.student, "forward", lambda *_, other=other: (other,))
        changed = not torch.equal(model.act(observation, start=start), acted)
        assert changed == (_action(model) != lost)
        moved |= {name} if changed else set()
    wanted = {HeadInput.EMBODIED: {"embodied"}, HeadInput.LATENT: {"latent_actions"}}
    assert moved == wanted.get(reads, {"embodied", "latent_actions"})
    assert targets.actions is not None


def _action(model: VLAJEPA) -> float:
    losses = model.losses(robot_observation(), robot_targets(), torch.Generator().manual_seed(0))
    assert losses.action is not None
    return losses.action.item()


def test_other_formats_cannot_hold_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"action_head\.reads=latent"):
        save_starvla(model_of(HeadInput.LATENT), tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_what_measures_latent_actions_does_not_act() -> None:
    settings = small_settings()
    predictor = replace(settings.predictor, steered_by=SteeredBy.CONSTANT)
    model = build_model(replace(settings, predictor=predictor), SIZES, STATS).eval()
    with pytest.raises(RunError, match="steered_by=constant is a measure"):
        model.act(robot_observation())
