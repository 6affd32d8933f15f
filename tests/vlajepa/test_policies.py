"""A checkpoint loaded from Python acts as the served one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import vlajepa
from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.robot_interface import RobotObservation
from pipeline.format.build import Build
from tests.jobs.closed_loop.checkpoints import untrained


@pytest.fixture(scope="module")
def run_folder(robot_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    untrained(run / "checkpoints" / "step-00000000", robot_build, step=0)
    return run


def test_it_acts_as_the_served_one(run_folder: Path, robot_build: Build) -> None:
    sample = vlajepa.open_build(robot_build.path).sample(0)
    policy = vlajepa.load_policy(run_folder, "cpu")
    assert sample.state is not None
    found = policy.act(sample.images, sample.instruction, sample.state, seed=3)
    served = CheckpointPolicy(run_folder / "checkpoints" / "step-00000000", "cpu")
    expected = served.act([RobotObservation(sample.images, sample.instruction, sample.state)], [3])[0]
    assert_array_equal(found, expected)
    assert found.shape == (policy.interface.chunk, policy.interface.action)
    assert found.dtype == np.float32
    assert_array_equal(policy.act(sample.images, sample.instruction, sample.state.tolist(), seed=3), found)
    assert not np.array_equal(policy.act(sample.images, sample.instruction, sample.state, seed=4), found)


def test_a_steps_folder_and_a_runs_are_the_same_policy(run_folder: Path) -> None:
    step = run_folder / "checkpoints" / "step-00000000"
    assert vlajepa.load_policy(run_folder).checkpoint == vlajepa.load_policy(str(step)).checkpoint == step


def test_what_does_not_fit_is_named(run_folder: Path, robot_build: Build, tmp_path: Path) -> None:
    sample = vlajepa.open_build(robot_build.path).sample(0)
    policy = vlajepa.load_policy(run_folder)
    with pytest.raises(ValueError, match="is missing; the policy needs"):
        policy.act({}, "go", sample.state if sample.state is not None else ())
    with pytest.raises(ValueError, match="state must have 8 numbers"):
        policy.act(sample.images, "go")
    with pytest.raises(vlajepa.BuildError, match="neither a checkpoint nor a run"):
        vlajepa.load_policy(tmp_path)
    with pytest.raises(vlajepa.SettingsError, match="device must be one of"):
        vlajepa.load_policy(run_folder, "tpu")
