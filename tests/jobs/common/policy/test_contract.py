"""A policy that takes or means something else than is expected is told apart, with one line that names what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.common.policy.cameras import cameras_of, on_the_wrist
from jobs.common.policy.channels import Channels, channels_of, described, first_difference
from jobs.common.policy.contract import described_contract, differences, environment_differences
from jobs.common.policy.robot_interface import RobotInterface
from jobs.simulator.libero import CHANNELS
from pipeline.errors import SettingsError

STATE, ACTION = channels_of(CHANNELS["state"]), channels_of(CHANNELS["action"])
ANGLES = Channels(("roll", "pitch", "yaw"), "radians", "about fixed axes")
KNOWN = RobotInterface(
    *("libero", ("agentview", "wrist"), 224, 95, 20.0, 8, 7, 7),
    state_channels=STATE,
    action_channels=ACTION,
    statistics="a" * 64,
)
UNSAID = (Channels(tuple(f"observation.state[{i}]" for i in range(8)), "", ""),)


def channels(groups: tuple[Channels, ...], at: int, **changes: Any) -> tuple[Channels, ...]:
    return (*groups[:at], replace(groups[at], **changes), *groups[at + 1 :])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"views": ("wrist", "agentview")}, "cameras are wrist, agentview, expected agentview, wrist"),
        ({"fps": 10.0}, "fps is 10 Hz, expected 20"),
        ({"fps": 10.0, "chunk": 8}, "fps is 10 Hz, expected 20; chunk is 8 actions, expected 7"),
        ({"statistics": "b" * 64}, "statistics are bbbbbbbbbbbb…, expected aaaaaaaaaaaa…: it scales by the ranges of "),
        (
            {"state_channels": (STATE[0], ANGLES, STATE[2])},
            "state[3] is roll (radians, angles about fixed axes, absolute), expected ax (radians, rotation vector, abs",
        ),
        ({"state_channels": channels(STATE, 0, units="millimetres")}, "state[0] is x (millimetres, absolute), exp"),
        ({"state_channels": channels(STATE, 0, names=("y", "x", "z"))}, "state[0] is y (metres, absolute), expected x"),
        (
            {"action_channels": channels(ACTION, 2, meaning="1 is closed")},
            "action[6] is gripper (0 to 1, 0 is open), expected gripper (0 to 1, 1 is open)",
        ),
        (
            {"action_channels": channels(ACTION, 0, names=("x", "y", "z"))},
            "action[0] is x (metres, absolute), expected dx (metres, change)",
        ),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], text: str) -> None:
    assert "; ".join(differences(replace(KNOWN, **changes), KNOWN)).startswith(text)


def test_what_fits_is_accepted_and_what_nobody_said_is_not_compared() -> None:
    step = channels(channels(ACTION, 0, units="metres a controller step"), 2, units="0 or 1")
    assert not differences(KNOWN, KNOWN)
    assert not differences(replace(KNOWN, action_channels=step, statistics=""), KNOWN)
    assert not differences(replace(KNOWN, state_channels=UNSAID, action_channels=()), KNOWN)
    other = replace(KNOWN, state_channels=channels(UNSAID, 0, names=tuple(f"joints[{i}]" for i in range(8))))
    assert differences(other, replace(KNOWN, state_channels=UNSAID)) == [
        "state[0] is joints[0], expected observation.state[0]"
    ]


def test_an_environment_is_compared_with_what_is_said() -> None:
    assert environment_differences(KNOWN, STATE, ACTION) == ([], [])
    wrong, unknown = environment_differences(replace(KNOWN, state_channels=(STATE[0], ANGLES, STATE[2])), STATE, ACTION)
    assert "state[3] is roll" in wrong[0]
    assert not unknown
    unsaid = replace(KNOWN, state_channels=UNSAID, action_channels=())
    told = ["the policy does not say what its state holds", "the policy does not say what its action holds"]
    assert environment_differences(unsaid, STATE, ACTION) == ([], told)
    blind = replace(KNOWN, state=0, state_channels=())
    assert environment_differences(blind, STATE, ACTION) == ([], [])


def test_channels_of_another_number_than_the_policys_are_refused() -> None:
    with pytest.raises(ValueError, match="state_channels must name 8 channels, found 6"):
        replace(KNOWN, state_channels=STATE[:2])


@pytest.mark.parametrize(
    ("name", "on"),
    [
        *[(name, True) for name in ("wrist", "wrist_image_left", "robot0_eye_in_hand", "eye_in_hand_rgb", "hand")],
        *[(name, False) for name in ("agentview", "front", "image", "overhead_camera", "3rd_view_camera", "image_0")],
    ],
)
def test_cameras_of_the_wrist_are_known_by_their_names(name: str, on: bool) -> None:
    assert on_the_wrist(name) == on


def test_cameras_in_another_order_are_refused_unless_somebody_says_which_is_which() -> None:
    simulator = ("agentview", "robot0_eye_in_hand")
    assert cameras_of(("front", "wrist"), simulator, None) == {"front": "agentview", "wrist": "robot0_eye_in_hand"}
    assert cameras_of(("image",), simulator, None) == {"image": "agentview"}
    assert cameras_of(("cam_0", "cam_1"), simulator, None) == {"cam_0": "agentview", "cam_1": "robot0_eye_in_hand"}
    assert cameras_of(("wrist",), simulator, None) == {"wrist": "robot0_eye_in_hand"}
    with pytest.raises(SettingsError, match=r"the policy's cameras are wrist.*: wrist would see what agentview sh"):
        cameras_of(("wrist", "front"), simulator, None)
    chosen = {"wrist": "robot0_eye_in_hand", "front": "agentview"}
    assert cameras_of(("wrist", "front"), simulator, chosen) == chosen


def test_the_metadata_says_all_of_it() -> None:
    found = described_contract(KNOWN)
    assert [camera["name"] for camera in found["cameras"]] == ["agentview", "wrist"]
    assert found["cameras"][0] | {"name": ""} == {
        "name": "",
        "dtype": "uint8",
        "shape": ["H", "W", 3],
        "colour": "RGB, top row first",
        "stored": 224,
        "largest": 4096,
    }
    assert [channel["name"] for channel in found["state"]][3:] == ["ax", "ay", "az", "finger_left", "finger_right"]
    assert found["state"][3]["convention"] == "rotation vector, absolute"
    assert found["action"][6] == {"name": "gripper", "unit": "0 to 1", "convention": None, "open": 1.0, "closed": 0.0}
    assert (found["control_hz"], found["chunk"], found["statistics"]) == (20.0, 7, "a" * 64)
    assert described(UNSAID)[0] == {"name": "observation.state[0]", "unit": None, "convention": None}
    assert first_difference("state", (), STATE) is None
