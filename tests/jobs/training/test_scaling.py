"""`model.scaling=quantiles` in a run: which ranges a checkpoint, a policy and a later run have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.datasets.contract.build_ranges import gripper_channels
from jobs.training.builds.common_sizes import common_sizes
from jobs.training.run import train
from model.checkpoint.folders import list_checkpoints
from model.settings import ModelSettings, Scaling
from pipeline.errors import BuildError
from pipeline.format.build import Build
from tests.jobs.runs import train_config

FIELD = {"field": "a", "take": None, "scale": 1.0, "convert": "none", "base": None, "open": None, "closed": None}


def field(convert: str = "none", take: list[int] | None = None) -> dict[str, object]:
    ends = {"open": 1.0, "closed": 0.0} if convert == "gripper" else {}
    return {**FIELD, "convert": convert, "take": take, **ends}


@pytest.mark.parametrize(
    ("fields", "width", "expected"),
    [
        ([field(take=[0, 6]), field("gripper", [6, 7])], 7, {6}),
        ([field(), field("relative_gripper")], 9, {8}),
        ([field("euler_xyz"), field("gripper"), field(), field("gripper")], 9, {3, 8}),
        ([field("pose_reached"), field("gripper")], 7, {6}),
        ([field(), field(), field("gripper")], 7, set()),
        ([field()], 7, set()),
        ([], 0, set()),
    ],
)
def test_grippers_are_found_by_their_conversion(fields: list[object], width: int, expected: set[int]) -> None:
    assert gripper_channels({"action": fields}, "action", width) == expected
    assert gripper_channels({"type": "ssv2"}, "action", 0) == set()


@pytest.mark.parametrize("junk", [7, {}, [7], ["a"], [{}], [{"field": 1}], [{**FIELD, "convert": "x"}], "\n"])
def test_settings_that_are_none_are_refused_in_one_line(junk: object) -> None:
    with pytest.raises(BuildError, match=r"settings\.source\.action") as refused:
        gripper_channels({"action": junk}, "action", 7)
    assert str(refused.value).isprintable()


def test_a_checkpoint_carries_the_ranges_it_was_trained_with(robot_build: Build, tmp_path: Path) -> None:
    """Serving, evaluation and export take them from there; a later run takes those of its own builds and setting."""
    stats = json.loads(robot_build.read_file("stats.json"))
    config = train_config(tmp_path / "run", [robot_build], steps=1, warmup_steps=0, save_every=1)
    train(replace(config, model=replace(config.model, scaling=Scaling.QUANTILES)))
    (checkpoint,) = list_checkpoints(config.out / "checkpoints")
    assert json.loads((checkpoint / "state.json").read_text())["model"]["scaling"] == "quantiles"
    _, wanted = common_sizes([robot_build], ModelSettings(scaling=Scaling.QUANTILES))
    _, whole = common_sizes([robot_build], ModelSettings())
    assert wanted is not None
    assert whole is not None
    assert wanted.action != whole.action
    policy = CheckpointPolicy(checkpoint, "cpu")
    for scaler, group, found in (
        (policy.model.action_scaler, "action", wanted.action),
        (policy.model.state_scaler, "state", wanted.state),
    ):
        assert scaler is not None
        assert found is not None
        middle = [(low + high) / 2 for low, high in zip(found.low, found.high, strict=True)]
        torch.testing.assert_close(scaler.center, torch.tensor(middle))
        narrower = [q - m for q, m in zip(found.low, stats[group]["min"], strict=True)]
        assert min(narrower) >= 0
        assert max(narrower) > 0
    with pytest.raises(BuildError, match=r"model\.scaling"):
        train(replace(config, trainer=replace(config.trainer, save_every=1)))
    later = train_config(tmp_path / "later", [robot_build], steps=1, warmup_steps=0)
    train(replace(later, init_from=config.out))
    tensors = load_file(list_checkpoints(later.out / "checkpoints")[-1] / "model.safetensors")
    assert whole.action is not None
    ends = [(low + high) / 2 for low, high in zip(whole.action.low, whole.action.high, strict=True)]
    torch.testing.assert_close(tensors["action_scaler.center"], torch.tensor(ends))
