"""A run that does not read the robot's state: checkpoint, resume, policy, and fine-tuning that reads it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.robot_interface import RobotObservation
from jobs.serving.serve import identity
from jobs.training.run import train
from jobs.training.settings import TrainConfig
from model.checkpoint.folders import list_checkpoints
from pipeline.errors import BuildError
from pipeline.format.build import Build
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config


def config_of(out: Path, build: Build, **model: object) -> TrainConfig:
    config = train_config(out, [build])
    return replace(config, model=replace(config.model, **model))


def test_a_policy_that_reads_no_state_is_trained_resumed_asked_and_tuned_with_one(
    robot_build: Build, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "run", robot_build, use_state=False)
    train(config)
    policy = CheckpointPolicy(config.out, "cpu")
    assert policy.trained_states is None
    assert not identity(policy)["uses_state"]
    side = policy.interface.image_size
    images = {view: np.full((side, side, 3), 90, np.uint8) for view in policy.interface.views}
    states = np.zeros(policy.interface.state, np.float32), np.full(policy.interface.state, 1e6, np.float32)
    actions = [policy.act([RobotObservation(images, "pick it up", state)], [0]) for state in states]
    assert np.array_equal(*actions)
    assert policy.clipped == 0
    shutil.copytree(config.out, tmp_path / "again")
    shutil.rmtree(list_checkpoints(tmp_path / "again" / "checkpoints")[-1])
    train(replace(config, out=tmp_path / "again"))
    assert losses_of(tmp_path / "again") == losses_of(config.out)
    with pytest.raises(BuildError, match=r"belongs to another run: .*use_state"):
        train(config_of(config.out, robot_build))
    tuned = replace(config_of(tmp_path / "tuned", robot_build), init_from=config.out)
    with pytest.raises(BuildError, match=r"missing action_head\.state_encoder"):
        train(tuned)
    train(replace(tuned, reinitialise=("state_encoder",)))


def test_a_run_with_dropout_goes_on_to_the_bit(robot_build: Build, tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", robot_build, state_dropout=0.5)
    train(config)
    shutil.copytree(config.out, tmp_path / "again")
    shutil.rmtree(list_checkpoints(tmp_path / "again" / "checkpoints")[-1])
    train(replace(config, out=tmp_path / "again"))
    assert losses_of(tmp_path / "again") == losses_of(config.out)
    assert identity(CheckpointPolicy(config.out, "cpu"))["uses_state"]
    train(config_of(tmp_path / "plain", robot_build))
    assert losses_of(tmp_path / "plain") != losses_of(config.out)
    one, two = (CheckpointPolicy(path, "cpu").model.state_dict() for path in (tmp_path / "again", config.out))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
