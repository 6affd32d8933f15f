"""What a build says about its numbers: by its dataset's manifest, if its fields are that manifest's."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from jobs.common.policy.channels import channels_of, each_channel, first_difference
from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.contract import differences
from jobs.datasets.contract.build_contract import contract_of, interface_of
from jobs.datasets.manifests import load_manifests
from jobs.simulator.libero import CHANNELS
from jobs.simulator.simpler_tasks import GOOGLE, WIDOWX
from model.settings import Scaling, tiny_settings
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.sources.episode.vectors import parse_fields
from tests.jobs.closed_loop.checkpoints import untrained

MANIFEST = load_manifests()["libero_scripted"]
NAMES = ["x", "y", "z", "ax", "ay", "az", "finger_left", "finger_right"]


def of_manifest(build: Build, **changes: Any) -> dict[str, Any]:
    """build.json of a build with the fields of `libero_scripted`, and changes to its source."""
    fields = {kind: [asdict(f) for f in parse_fields(MANIFEST.reader[kind], kind)] for kind in ("state", "action")}
    changes = {kind: [asdict(f) for f in parse_fields(value, kind)] for kind, value in changes.items()}
    settings = build.manifest["settings"]
    source = {**settings["source"], **fields, **changes}
    return {**build.manifest, "settings": {**settings, "source": source, "dataset": MANIFEST.facts()}}


def names(interface: Any, kind: str) -> list[str]:
    return [channel.name for channel in each_channel(getattr(interface, f"{kind}_channels"))]


def test_channels_are_the_manifests(robot_build: Build) -> None:
    found = interface_of(of_manifest(robot_build))
    assert names(found, "state") == NAMES
    assert found.action_channels == MANIFEST.action


def test_fields_other_than_the_manifests_are_not_called_what_it_calls_its_own(robot_build: Build) -> None:
    found = interface_of(of_manifest(robot_build, action=["action"]))
    assert names(found, "state") == NAMES
    assert names(found, "action") == [f"action[{index}]" for index in range(7)]
    assert not any(channel.unit for channel in each_channel(found.action_channels))


def test_a_conversion_says_what_it_makes(robot_build: Build) -> None:
    action = [
        {"field": "state", "take": [0, 6], "convert": "pose_reached"},
        {"field": "action", "take": [6, 7], "convert": "gripper", "open": -1, "closed": 1},
    ]
    found = interface_of({**of_manifest(robot_build, action=action, state=["s"])})
    assert first_difference("action", found.action_channels, channels_of(CHANNELS["action"])) is None
    assert names(found, "action") == ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"]
    turned = [
        {"field": "s", "take": [0, 3]},
        {"field": "q", "take": [2, 6], "convert": "quaternion_xyzw"},
        {"field": "g", "take": [1, 3]},
    ]
    found = interface_of(of_manifest(robot_build, state=turned))
    assert names(found, "state") == ["s[0]", "s[1]", "s[2]", "q[2]", "q[3]", "q[4]", "g[1]", "g[2]"]
    assert interface_of(of_manifest(robot_build, state=["a", "b"])).state_channels == ()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        *[(name, CHANNELS["state"]) for name in load_manifests() if name.startswith("libero")],
        *[("bridge", WIDOWX.channels), ("fractal", GOOGLE.channels), ("fractal_lerobot", GOOGLE.channels)],
    ],
)
def test_policies_of_the_shipped_datasets_fit_their_simulators(name: str, state: Any) -> None:
    manifest = load_manifests()[name]
    assert first_difference("state", manifest.state, channels_of(state)) is None
    assert first_difference("action", manifest.action, channels_of(CHANNELS["action"])) is None


def test_a_policy_has_the_statistics_of_its_build_alone(robot_build: Build, tmp_path: Path) -> None:
    robot = asdict(interface_of(robot_build.manifest))
    policy = CheckpointPolicy(untrained(tmp_path / "step-00000000", robot_build, robot=robot), "cpu")
    expected = contract_of(robot_build.path)
    assert len(expected.statistics) == 64
    assert not differences(policy.interface, expected)
    assert policy.interface.statistics == expected.statistics
    policy.model.state_scaler.center[2] += 1e-6  # type: ignore[union-attr, operator]
    from model.normalize import statistics_id

    moved = statistics_id(policy.model.state_scaler, policy.model.action_scaler)
    (text,) = differences(replace(policy.interface, statistics=moved), expected)
    assert "it scales by the ranges of other data" in text


@pytest.mark.parametrize("use_state", [True, False])
@pytest.mark.parametrize("scaling", Scaling)
def test_a_policy_of_the_build_fits_it_however_its_model_scales(
    robot_build: Build, tmp_path: Path, scaling: Scaling, use_state: bool
) -> None:
    settings = replace(tiny_settings(), scaling=scaling, use_state=use_state)
    robot = asdict(interface_of(robot_build.manifest))
    policy = CheckpointPolicy(untrained(tmp_path / "step-00000000", robot_build, settings, robot=robot), "cpu")
    expected = contract_of(robot_build.path)
    assert not differences(policy.interface, expected)
    assert (policy.interface.statistics == expected.statistics) is (scaling is Scaling.MIN_MAX and use_state)
    other = replace(settings, range_floor=10.0)
    policy = CheckpointPolicy(untrained(tmp_path / "other" / "step-00000000", robot_build, other, robot=robot), "cpu")
    (text,) = differences(policy.interface, expected)
    assert "statistics are" in text


def test_a_build_of_human_video_has_no_contract(video_build: Build) -> None:
    with pytest.raises(SettingsError, match="is a build of human video"):
        contract_of(video_build.path)
