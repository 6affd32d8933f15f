"""A checkpoint acts on what a robot shows, and sees what it would have been trained on."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.committed import Committed
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation, check_observation, student_batch
from model.checkpoint.folders import find_checkpoint
from pipeline.errors import BuildError, SettingsError
from pipeline.format.build import Build
from pipeline.format.schema import Observation
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.streaming.reader import SampleReader
from tests.conftest import SampleData
from tests.jobs.closed_loop.checkpoints import untrained


@pytest.fixture(scope="module")
def policy(robot_build: Build, tmp_path_factory: pytest.TempPathFactory) -> CheckpointPolicy:
    return CheckpointPolicy(untrained(tmp_path_factory.mktemp("checkpoint") / "step-00000000", robot_build), "cpu")


def recorded(build: Build, data: SampleData, sample: int) -> tuple[RobotObservation, int]:
    """The raw frames and state that a sample of the train split was made from."""
    reader = SampleReader(build, "train")
    row = reader.read(np.array([sample]))
    source = LeRobotSource(root=str(data.lerobot), name="robot", val_share=0.3)
    episode = reader.episode(sample)
    now = int(row.keys[0].rsplit("-", 1)[1])
    ref = next(ref for ref in source.index().refs if ref.id == episode)
    opened = source.open(ref)
    try:
        images = {view: opened.frames(view, [now])[0] for view in build.views}
        state = opened.state(now)
        assert state is not None
        return RobotObservation(images, opened.instruction(now), state), sample
    finally:
        opened.close()


@pytest.mark.slow
def test_the_student_sees_the_bytes_it_was_trained_on(robot_build: Build, sample_data: SampleData) -> None:
    raw, sample = recorded(robot_build, sample_data, 3)
    stored = SampleReader(robot_build, "train").read(np.array([sample])).observation
    seen = student_batch([raw], RobotInterface.of(robot_build.manifest))
    assert np.array_equal(seen.images, stored.images)
    assert seen.instruction == stored.instruction
    assert np.array_equal(seen.state, stored.state)


def moments(policy: CheckpointPolicy, count: int) -> list[RobotObservation]:
    rng = np.random.default_rng(0)
    views = policy.interface.views
    return [
        RobotObservation(
            {view: rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for view in views},
            "lift the cube",
            rng.normal(size=policy.interface.state).astype(np.float32),
        )
        for _ in range(count)
    ]


def test_actions_are_those_of_the_model(policy: CheckpointPolicy) -> None:
    seen, seeds = moments(policy, 2), [3, 4]
    batch = student_batch(seen, policy.interface)
    head = (policy.interface.chunk, policy.interface.action)
    start = torch.stack([torch.randn(head, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    images, state = torch.from_numpy(batch.images), torch.from_numpy(batch.state)
    expected = policy.model.act(Observation(images, batch.instruction, state), start=start).numpy()
    assert np.array_equal(policy.act(seen, seeds), expected)


def test_equal_seeds_give_equal_actions_whatever_stands_beside(policy: CheckpointPolicy) -> None:
    a, b, c = moments(policy, 3)
    one, other = policy.act([a, b], [1, 2]), policy.act([a, c], [1, 9])
    assert np.array_equal(one[0], other[0])
    assert not np.array_equal(one[0], policy.act([a, b], [5, 2])[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": " "}, r"the instruction is empty"),
        ({"state": np.zeros(7, np.float32)}, r"state must have 8 numbers, got shape \[7\]"),
        ({"state": np.full(8, np.nan, np.float32)}, r"state must be finite"),
        ({"images": {"front": np.zeros((8, 8, 3), np.uint8)}}, r"image 'wrist' is missing; .* front, wrist"),
        ({"images": {"front": np.zeros((8, 8, 3)), "wrist": 0}}, r"image 'front' must be uint8"),
    ],
)
def test_what_is_no_observation_is_refused(policy: CheckpointPolicy, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_observation(replace(moments(policy, 1)[0], **changes), policy.interface)


def test_checkpoints_that_cannot_act_are_refused(robot_build: Build, tmp_path: Path) -> None:
    old = untrained(tmp_path / "old", robot_build, robot=None)
    with pytest.raises(BuildError, match=r"has no robot interface"):
        CheckpointPolicy(old, "cpu")
    video = untrained(tmp_path / "video", robot_build, model_sizes={"action": 0})
    with pytest.raises(SettingsError, match=r"human video alone"):
        CheckpointPolicy(video, "cpu")
    with pytest.raises(BuildError, match=r"neither a checkpoint nor a run"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jpeg_quality": 0}, "jpeg_quality must be 1 to 100, found 0"),
        ({"image_size": 2**20}, "image_size must be 16 to 4096"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"views": []}, "views must be different names, at least one"),
        ({"views": ["front", "front"]}, "views must be different names"),
        ({"views": ["front"]}, "robot.views is 1, the model's is 2"),
        ({"action": -1}, "action must be 1 to 65536, found -1"),
        ({"action": 2**31}, "action must be 1 to 65536"),
        ({"state": 10**30}, "state must be 0 to 65536"),
        ({"state": 7}, "robot.state is 7, the model's is 8"),
        ({"chunk": 3}, "robot.chunk is 3, the model's is 7"),
    ],
)
def test_a_checkpoint_whose_robot_is_not_the_models_is_refused(
    robot_build: Build, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    robot = asdict(RobotInterface.of(robot_build.manifest)) | changes
    with pytest.raises(BuildError, match=message):
        CheckpointPolicy(untrained(tmp_path / "odd", robot_build, robot=robot), "cpu")


@pytest.mark.parametrize("channel", [0, -1])
def test_a_joint_that_never_moved_is_clipped_counted_and_reported(
    policy: CheckpointPolicy, channel: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Divided by the smallest range, a hundredth becomes a hundred; two states beyond the bound act alike."""
    policy.clipped = 0
    (moment,) = moments(policy, 1)
    assert policy.trained_states is not None
    middle = sum(policy.trained_states) / np.float32(2)
    moment = replace(moment, state=middle)
    inside = policy.act([moment], [1])
    assert policy.clipped == 0
    far, farther = (middle.copy() for _ in range(2))
    far[channel] += 1e4
    farther[channel] += 2e4
    first, second = policy.act([replace(moment, state=far), replace(moment, state=farther)], [1, 1])
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, inside[0])
    assert policy.clipped == 2
    assert "2 values of the state so far" in capsys.readouterr().err
    policy.act([replace(moment, state=far)], [1])
    assert policy.clipped == 3
    assert capsys.readouterr().err == ""
    for _ in range(7):
        policy.act([replace(moment, state=far)], [1])
    assert "10 values of the state so far" in capsys.readouterr().err
    policy.act([moment], [1])
    assert policy.clipped == 10
    policy.act([replace(moment, state=far)], [1])
    assert policy.clipped == 11
    assert capsys.readouterr().err == ""


def test_a_chunk_that_goes_on_begins_with_what_is_committed(policy: CheckpointPolicy) -> None:
    both = moments(policy, 2)
    plain = policy.act(both, [3, 4])
    rest = (plain[1] + 0.5 * np.abs(plain).max())[2:]
    found = policy.act_continuing(both, [3, 4], [Committed(rest, 3), None])
    assert np.array_equal(found[0, :3], rest[:3])
    np.testing.assert_allclose(found[1], plain[1], atol=1e-5)
    assert not np.allclose(found[0, 3:], plain[0, 3:])  # an untrained head is led elsewhere, though not always nearer
    assert np.array_equal(found, policy.act_continuing(both, [3, 4], [Committed(rest, 3), None]))
    with pytest.raises(ValueError, match="delay must be 1"):
        policy.act_continuing(both, [3, 4], [Committed(rest, 0), None])
