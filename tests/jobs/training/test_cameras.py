"""The student and the world model see the cameras that are named, and nothing of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.chosen_cameras import chosen_cameras
from jobs.common.policy.contract import described_contract, differences
from jobs.datasets.contract.build_contract import contract_of_build
from jobs.report.run_files import read_run
from jobs.report.samples import find_builds, predict_futures
from jobs.training.builds.common_sizes import common_sizes
from jobs.training.export_checkpoint import run as export
from jobs.training.run import train
from jobs.training.settings import ExportConfig
from model.settings import ModelSettings, tiny_settings
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.streaming.cameras import Cameras
from pipeline.streaming.reader import SampleReader
from tests.jobs.runs import train_config

BOTH = ("front", "wrist")


@pytest.mark.parametrize("kind", ["robot_build", "int8_build", "tubelet_build"])
def test_a_batch_holds_the_chosen_cameras_as_they_are(kind: str, request: pytest.FixtureRequest) -> None:
    build: Build = request.getfixturevalue(kind)
    indices = np.arange(3)
    whole = SampleReader(build, "train").read(indices)
    some = SampleReader(build, "train", cameras=Cameras((1,), (0,))).read(indices)
    assert np.array_equal(some.observation.images, whole.observation.images[:, [1]])
    assert np.array_equal(some.targets.context, whole.targets.context[:, [0]])
    assert np.array_equal(some.targets.latents, whole.targets.latents[:, :, [0]])
    for name, axis in (("context_scale", 1), ("latents_scale", 2)):
        scale, of_all = getattr(some.targets, name), getattr(whole.targets, name)
        assert (scale is None) == (of_all is None) == (kind == "robot_build")
        if scale is not None:
            assert np.array_equal(scale, np.take(of_all, [0], axis))
    assert np.array_equal(some.targets.actions, whole.targets.actions)  # type: ignore[arg-type]


def test_names_choose_and_human_video_keeps_its_camera(robot_build: Build, video_build: Build) -> None:
    assert robot_build.views == BOTH
    settings = ModelSettings(student_cameras=("wrist",), world_model_cameras=("front",))
    assert chosen_cameras(robot_build, settings) == Cameras((1,), (0,))
    assert chosen_cameras(video_build, settings) == Cameras((0,), (0,))
    assert chosen_cameras(robot_build, ModelSettings()) == Cameras((0, 1), (0, 1))
    sizes, _ = common_sizes([robot_build, video_build], settings)
    assert sizes.views == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_cameras": ("side",)}, r"model.student_cameras must name cameras of .* \(front, wrist\), got side"),
        ({"student_cameras": ("wrist", "front")}, r"in its order \(front, wrist\), got wrist, front"),
        ({"world_model_cameras": ("front", "front")}, r"model.world_model_cameras must name .*, got front, front"),
    ],
)
def test_other_names_are_refused(robot_build: Build, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [robot_build])
    with pytest.raises(SettingsError, match=message):
        train(replace(config, model=replace(config.model, **changes)))


def test_a_student_may_see_more_cameras_than_the_world_model(robot_build: Build) -> None:
    """As the reference has it with DROID: three views and two."""
    one_view = tiny_settings(views=1)
    with pytest.raises(SettingsError, match=r"has 2 cameras for the world model and model.predictor.views is 1; set "):
        common_sizes([robot_build], one_view)
    sizes, _ = common_sizes([robot_build], replace(one_view, world_model_cameras=("front",)))
    assert sizes.views == 2


@pytest.mark.parametrize(("student", "world_model"), [(("wrist",), ("front",)), (BOTH, ("wrist",)), ((), ("front",))])
def test_what_a_run_is_trained_on_its_policy_and_its_page_show(
    student: tuple[str, ...], world_model: tuple[str, ...], robot_build: Build, video_build: Build, tmp_path: Path
) -> None:
    config = train_config(tmp_path / "run", [robot_build, video_build])
    model = replace(tiny_settings(views=1), student_cameras=student, world_model_cameras=world_model)
    train(replace(config, model=model))
    policy = CheckpointPolicy(tmp_path / "run", "cpu")
    shown = student or BOTH
    assert policy.interface.views == shown
    assert [camera["name"] for camera in described_contract(policy.interface)["cameras"]] == list(shown)
    assert differences(policy.interface, contract_of_build(robot_build)) == []
    run = read_run(tmp_path / "run")
    futures = predict_futures(run, find_builds(run, [str(robot_build.path)]), 2, torch.device("cpu"))
    assert futures.notes == []
    drawn = {tuple(view.name for view in each.views) for each in futures.samples if each.build == robot_build.name}
    assert drawn == {world_model}


def test_an_exported_policy_has_the_cameras_that_its_student_sees(robot_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [robot_build])
    head = replace(tiny_settings().action_head, max_positions=1024, future_tokens=8)
    model = replace(tiny_settings(), student_cameras=("wrist",), action_head=head)
    train(replace(config, model=model))
    with pytest.raises(SettingsError, match=r"cameras must name the 1 views, got 2"):
        export(ExportConfig(checkpoint=tmp_path / "run", out=tmp_path / "no", cameras=BOTH))
