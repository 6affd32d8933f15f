"""Scaling by quantiles: what one outlier does to a channel, and what keeps its whole range."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.exchange.lerobot import _load_scaler, save_lerobot
from model.normalize import BuildStats, Grippers, MinMaxScaler
from model.settings import Scaling
from model.vla_jepa import build_model
from pipeline.building.statistics import summarise
from pipeline.errors import BuildError
from tests.model.exchange.test_exchange import CAMERAS, lerobot_settings
from tests.model.exchange.test_exchange import WIDE as LEROBOT_SIZES
from tests.model.helpers import SIZES, STATS, robot_observation, robot_targets, small_settings

COUNT = 4000
GENERATOR = np.random.default_rng(0)
MOTION = GENERATOR.normal(0, 0.01, COUNT)


def stats_of(*channels: np.ndarray) -> dict[str, object]:
    """As in `stats.json`, of an action of these channels."""
    values = np.stack(channels, axis=1).astype(np.float32)
    return json.loads(
        json.dumps({"split": "train", "samples": COUNT, "state": None, "action": summarise(lambda: [values])})
    )


def ranges(content: dict[str, object], scaling: Scaling = Scaling.QUANTILES, grippers: Grippers | None = None) -> tuple:
    found = BuildStats.from_json(content, scaling, grippers or Grippers()).action
    assert found is not None
    return found.low, found.high


def test_one_outlier_does_not_shrink_every_other_action() -> None:
    """A step of 2 m among steps of a centimetre, as where a pose jumped: of [-1, 1] the rest would fill a hundredth."""
    jumped = MOTION.copy()
    jumped[7] = 2.0
    sizes = {}
    for scaling in Scaling:
        found = BuildStats.from_json(stats_of(jumped), scaling).action
        assert found is not None
        sizes[scaling] = MinMaxScaler(found, floor=1e-3)(torch.from_numpy(MOTION)[:, None]).std().item()
    assert sizes[Scaling.MIN_MAX] < 0.015
    assert sizes[Scaling.QUANTILES] == pytest.approx(0.43, abs=0.03)  # 1 is 2.3 standard deviations
    low, high = ranges(stats_of(jumped))
    assert (low[0], high[0]) == pytest.approx(tuple(np.percentile(jumped.astype(np.float32), (1, 99))))
    assert ranges(stats_of(jumped), Scaling.MIN_MAX)[1] == (2.0,)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.005])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (3.0, 3.25)])
def test_a_channel_of_two_values_keeps_them(share: float, ends: tuple[float, float]) -> None:
    """A gripper that is closed in a two-hundredth of the frames has equal quantiles."""
    closed = np.arange(COUNT) < share * COUNT
    low, high = ranges(stats_of(MOTION, np.where(closed, ends[1], ends[0])))
    assert (low[1], high[1]) == ends
    assert high[0] < MOTION.max()


def test_a_channel_that_stays_at_its_ends_keeps_them() -> None:
    """A gripper on its way is in between in some frames."""
    position = np.where(np.arange(COUNT) < 12, 1.0, 0.0)
    position[:3] = (0.2, 0.5, 0.8)
    assert ranges(stats_of(position)) == ((0.0,), (1.0,))


def test_a_gripper_by_its_conversion_keeps_its_range() -> None:
    """A noisy one, which opens for a moment."""
    position = np.abs(GENERATOR.normal(0, 0.02, COUNT))
    position[:8] = 1.0
    content = stats_of(MOTION, position)
    assert ranges(content)[1][1] < 0.1
    assert ranges(content, grippers=Grippers(action=frozenset({1})))[1][1] == 1.0
    assert ranges(content, grippers=Grippers(action=frozenset({1})))[1][0] < MOTION.max()
    assert ranges(content, grippers=Grippers(state=frozenset({1})))[1][1] < 0.1


def test_a_uniform_channel_is_scaled_by_its_quantiles_and_a_constant_one_as_it_is() -> None:
    low, high = ranges(stats_of(np.linspace(0, 1, COUNT), np.full(COUNT, 5.0)))
    assert (low[0], high[0]) == pytest.approx((0.01, 0.99), abs=1e-3)
    assert (low[1], high[1]) == (5.0, 5.0)


def test_an_outlier_is_no_target_beyond_one_and_padding_stays_in_the_middle() -> None:
    targets = robot_targets()
    assert targets.actions is not None
    assert targets.action_mask is not None
    actions, mask = targets.actions.clone(), targets.action_mask.clone()
    actions[0, 0] = 400.0
    mask[1, 1] = False
    outlier = replace(targets, actions=actions, action_mask=mask)
    for scaling, largest in ((Scaling.MIN_MAX, 199.0), (Scaling.QUANTILES, 1.0)):
        model = build_model(replace(small_settings(), scaling=scaling), SIZES, STATS).eval()
        scaled = model._actions(outlier)
        assert scaled.max() == pytest.approx(largest)
        assert (scaled[1, 1] == 0).all()
        observation, generator = robot_observation(), torch.Generator().manual_seed(0)
        assert model.losses(observation, outlier, generator).total.isfinite()


def test_quantiles_that_are_missing_or_damaged_are_refused() -> None:
    content = stats_of(MOTION)
    for change in ({"q01": [1.0]}, {"q99": []}, {"q01": "x"}, {"std": [None]}):
        with pytest.raises(BuildError, match="damaged"):
            BuildStats.from_json({**content, "action": {**content["action"], **change}}, Scaling.QUANTILES)


def test_an_export_scales_as_the_model_does(tmp_path: Path) -> None:
    """By LeRobot's MIN_MAX, with the ends of the model's range as minimum and maximum; its QUANTILES are read too."""
    settings = replace(lerobot_settings(), scaling=Scaling.QUANTILES)
    model = build_model(settings, LEROBOT_SIZES, STATS).eval()
    save_lerobot(model, tmp_path / "policy", CAMERAS, "e")
    assert model.action_scaler is not None
    for mode, names in (("MIN_MAX", ("min", "max")), ("QUANTILES", ("q01", "q99"))):
        for path in (tmp_path / "policy").glob("policy_*.json"):
            path.write_text(path.read_text().replace("MIN_MAX", mode))
        for path in (tmp_path / "policy").glob("policy_*.safetensors"):
            _renamed(path, names)
        other = MinMaxScaler(STATS.action, 1.0)  # type: ignore[arg-type]
        other.half_range.zero_()
        _load_scaler(other, tmp_path / "policy", "action", "policy_postprocessor.json", "unnormalizer_processor")
        assert torch.equal(other.half_range, model.action_scaler.half_range)
        assert torch.equal(other.center, model.action_scaler.center)


def _renamed(path: Path, names: tuple[str, str]) -> None:
    from safetensors.torch import load_file, save_file

    content = {}
    for name, tensor in load_file(path).items():
        key, _, number = name.rpartition(".")
        content[f"{key}.{names[number in ('max', 'q99')]}"] = tensor.clone()
    save_file(content, path)
