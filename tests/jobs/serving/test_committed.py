"""What a robot is about to do reaches the served policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.common.policy.committed import Committed
from jobs.common.policy.robot_interface import RobotObservation
from jobs.serving.client import PolicyClient
from jobs.serving.keys import read_committed
from tests.jobs.serving.fakes import INTERFACE, FakePolicy, observation, running


@dataclass
class Continuing(FakePolicy):
    """Begins with what is committed."""

    seen: list[Committed | None] = field(default_factory=list)

    def act_continuing(
        self, observations: Sequence[RobotObservation], seeds: Sequence[int], committed: Sequence[Committed | None]
    ) -> NDArray[np.float32]:
        self.seen += committed
        found = self.act(observations, seeds)
        for row, one in enumerate(committed):
            if one is not None:
                found[row, : one.delay] = one.actions[: one.delay]
        return found


def test_a_chunk_begins_with_what_is_committed_and_others_are_as_ever() -> None:
    rest = np.array([[0.25, -1.5], [3.0, 0.1], [7.0, 8.0]], np.float32)
    both = [observation(1), observation(2)]
    with running(Continuing()) as server, PolicyClient(server.address) as policy:
        plain = policy.act(both, [5, 6])
        assert not server.policy.seen
        found = policy.act_continuing(both, [5, 6], [Committed(rest, 2), None])
    np.testing.assert_array_equal(found[0, :2], rest[:2])
    np.testing.assert_array_equal(found[0, 2:], plain[0, 2:])
    np.testing.assert_array_equal(found[1], plain[1])
    one, other = server.policy.seen
    assert other is None
    assert one.delay == 2
    np.testing.assert_array_equal(one.actions, rest)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"committed": np.zeros((5, 2))}, "delay must be a whole number"),
        ({"delay": 1}, "committed must be an array of numbers"),
        ({"committed": [[1.0, 2.0]], "delay": 1}, "committed must be an array of numbers"),
        ({"committed": np.zeros((2, 2)), "delay": True}, "delay must be a whole number"),
        ({"committed": np.zeros((5, 2)), "delay": 1}, r"must be \[1..4, 2\], got \[5, 2\]"),
        ({"committed": np.zeros((2, 3)), "delay": 1}, r"must be \[1..4, 2\], got \[2, 3\]"),
        ({"committed": np.zeros(2), "delay": 1}, r"must be \[1..4, 2\], got \[2\]"),
        ({"committed": np.zeros((2, 2)), "delay": 3}, "delay must be 1..2, the committed actions, got 3"),
        ({"committed": np.zeros((2, 2)), "delay": 0}, "delay must be 1..2"),
        ({"committed": np.full((2, 2), np.inf), "delay": 1}, "must be finite"),
        ({"committed": np.full((2, 2), 1e300), "delay": 1}, "must be finite"),
    ],
)
def test_what_cannot_be_the_beginning_of_a_chunk_is_refused(content: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_committed(content, INTERFACE)


def test_committed_actions_far_from_training_are_refused_before_they_meet_others() -> None:
    """They would make the whole batch infinite, which is then asked again one by one."""
    ends = np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32)
    with running(Continuing(), actions=ends, state_margin=1.0) as server, PolicyClient(server.address) as policy:
        policy.act_continuing([observation(1)], [5], [Committed(np.array([[3.0, 8.0]], np.float32), 1)])
        assert len(server.policy.seen) == 1
        for row in ([3.1, 8.0], [0.0, -4.5], [1e30, 0.0]):
            with pytest.raises(ValueError, match=r"committed\[0\]\[[01]\] must be .* send the rest of the chunk"):
                policy.act_continuing([observation(1)], [5], [Committed(np.array([row], np.float32), 1)])
        assert len(server.policy.seen) == 1
