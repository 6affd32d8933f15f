"""Whether a policy takes and means what is sent to it: other units, other data's statistics or cameras in another order
give actions that look like actions, and no success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.common.policy.channels import Channels, described, first_difference, is_said
from jobs.common.policy.robot_interface import LARGEST_IMAGE, RobotInterface


def differences(found: RobotInterface, expected: RobotInterface) -> list[str]:
    """What a policy does not have of what is expected of it, a text each.

    What one side does not say is not compared: channels without a unit, statistics that are "". A policy may look at
    some of the cameras.
    """
    texts = []
    if found.views != tuple(view for view in expected.views if view in found.views):
        texts.append(f"cameras are {', '.join(found.views)}, expected {', '.join(expected.views)}")
    for name, unit in (("image_size", "pixels"), ("fps", "Hz"), ("chunk", "actions"), ("state", ""), ("action", "")):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if ours != theirs:
            texts.append(f"{name} is {ours:g}{unit and f' {unit}'}, expected {theirs:g}")
    texts += filter(None, [first_difference("state", found.state_channels, expected.state_channels)])
    texts += filter(None, [first_difference("action", found.action_channels, expected.action_channels)])
    if not expected.has_statistics(found.statistics):
        texts.append(
            f"statistics are {found.statistics[:12]}…, expected {expected.statistics[:12]}…: "
            "it scales by the ranges of other data, or has a model.range_floor of its own"
        )
    return texts


def environment_differences(
    found: RobotInterface, state: Sequence[Channels], action: Sequence[Channels]
) -> tuple[list[str], list[str]]:
    """What a policy takes or gives that an environment does not, and what could not be compared, a text each.

    Args:
        state, action: what the environment's robot shows and takes.
    """
    wrong, unknown = [], []
    for kind, ours, theirs in (("state", found.state_channels, state), ("action", found.action_channels, action)):
        if kind == "state" and not found.state:
            continue
        difference = first_difference(kind, ours, theirs)
        if difference:
            wrong.append(difference)
        elif not is_said(ours):
            unknown.append(f"the policy does not say what its {kind} holds")
    return wrong, unknown


def described_contract(interface: RobotInterface) -> dict[str, Any]:
    """What a policy takes and gives, for the metadata of a server and its readers: plain lists, maps, numbers, texts.

    cameras     in the policy's order; images of any size up to `largest` are resized to `stored`
    state, action   a map a channel, see `channels.described`; null: nobody said
    """
    camera = {"dtype": "uint8", "shape": ["H", "W", 3], "colour": "RGB, top row first"}
    sizes = {"stored": interface.image_size, "largest": LARGEST_IMAGE}
    return {
        "cameras": [{"name": view, **camera, **sizes} for view in interface.views],
        "state": described(interface.state_channels) or None,
        "action": described(interface.action_channels) or None,
        "statistics": interface.statistics or None,
        "control_hz": interface.fps,
        "chunk": interface.chunk,
    }
