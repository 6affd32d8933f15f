"""Demonstrations in which a policy acts: who acts when, and what is asked of the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.closed_loop.collect.guided import Guide
from jobs.closed_loop.collect.settings import GuideSettings
from jobs.common.policy.channels import Channels
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation
from pipeline.errors import SettingsError

CAMERAS = ("agentview", "robot0_eye_in_hand")
INTERFACE = RobotInterface("toy", ("front", "wrist"), 32, 95, 10.0, 8, 7, 7)
LIMIT, HOLD = 280, 2


class CountingPolicy:
    """Chunks whose numbers say how often it was asked."""

    interface = INTERFACE

    def __init__(self) -> None:
        self.seen: list[RobotObservation] = []

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        self.seen += observations
        return np.full((len(observations), 7, 7), len(self.seen), np.float32)


class FakeSimulator:
    """An episode that is over after so many recorded steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self.asked: list[dict[str, Any]] = []

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append({"do": do, **arguments})
        self._left -= arguments.get("steps", 0)
        if self._left <= 0:
            return {"state": np.zeros((3, 8)), "success": True, "over": True}
        images = {name: np.full((32, 32, 3), i, np.uint8) for i, name in enumerate(CAMERAS)}
        return {"images": images, "state": np.arange(8.0), "instruction": "do it", "over": False}


def play(settings: GuideSettings, seed: int = 3, steps: int = 140) -> tuple[CountingPolicy, list[dict[str, Any]]]:
    policy, simulator = CountingPolicy(), FakeSimulator(steps)
    answer = Guide(policy, CAMERAS, INTERFACE.fps, settings).demonstrate(
        simulator, HOLD, None, seed, LIMIT, {"noise": 0.1}
    )  # type: ignore[arg-type]
    assert set(answer) == {"state", "success"}
    return policy, simulator.asked


def test_the_policy_acts_until_the_script_takes_over() -> None:
    policy, asked = play(GuideSettings(share=1.0, until=0.5, execute=4))
    assert asked[0] == {"do": "begin_guided", "start": None, "seed": 3, "limit": LIMIT, "disturbance": {"noise": 0.1}}
    guided = [request["actions"] is not None for request in asked[1:]]
    chunks = int(0.5 * LIMIT / (4 * HOLD)) + 1  # the last one begins just before half of the limit
    assert guided == [True] * chunks + [False] * (35 - chunks)
    assert all(request["steps"] == 4 for request in asked[1:])
    assert asked[2]["actions"].tolist() == [[2.0] * 7] * 4
    seen = policy.seen[0]
    assert (seen.instruction, seen.state.tolist()) == ("do it", list(map(float, range(8))))
    assert [int(seen.images[view].max()) for view in ("front", "wrist")] == [0, 1]


def test_the_share_is_drawn_by_the_seed() -> None:
    def acts(seed: int, share: float) -> list[bool]:
        return [r["actions"] is not None for r in play(GuideSettings(share=share, until=1.0, execute=1), seed)[1][1:]]

    assert acts(5, 0.5) == acts(5, 0.5)
    assert acts(5, 0.5) != acts(6, 0.5)
    assert 0.3 < np.mean(acts(5, 0.5)) < 0.7
    assert not any(acts(5, 0.0))


@pytest.mark.parametrize(
    ("cameras", "settings"), [(("agentview",), GuideSettings()), (CAMERAS, GuideSettings(execute=8))]
)
def test_a_policy_that_does_not_fit_is_refused(cameras: tuple[str, ...], settings: GuideSettings) -> None:
    with pytest.raises(SettingsError, match=r"guide: the policy sees front, wrist and gives 7 actions; the simulator"):
        Guide(CountingPolicy(), cameras, INTERFACE.fps, settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": ("wrist", "front")}, r"wrist would see what agentview shows"),
        (
            {"action_channels": (Channels(tuple("abcdefg"), "radians", ""),)},
            r"guide: the policy does not fit LIBERO's robot: action\[0\] is a \(radians\), expected dx",
        ),
        ({"fps": 20.0}, r"guide: the policy acts at 20 Hz, the collection at 10, where .* give fps="),
        ({"action": 6}, r"guide: the policy has actions of 6 numbers and states of 8, LIBERO's robot of 7 and 8"),
        ({"state": 26}, r"guide: the policy has actions of 7 numbers and states of 26"),
    ],
)
def test_a_policy_of_another_robot_or_rate_is_refused(changes: dict[str, Any], message: str) -> None:
    policy = CountingPolicy()
    policy.interface = replace(INTERFACE, **changes)
    with pytest.raises(SettingsError, match=message):
        Guide(policy, CAMERAS, INTERFACE.fps, GuideSettings())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"share": 1.5}, r"share must be 0\.\.1"),
        ({"until": -1}, r"until"),
        ({"execute": 0}, r"execute"),
    ],
)
def test_settings_that_cannot_be(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuideSettings(**changed)
