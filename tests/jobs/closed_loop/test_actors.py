from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.closed_loop.actors import Moment, PolicyActor
from jobs.closed_loop.interface import RobotInterface, RobotObservation
from pipeline.errors import SettingsError

INTERFACE = RobotInterface("robot", ("front", "wrist"), 64, 95, 10.0, 8, 5, 7)
CAMERAS = {"front": "agentview", "wrist": "robot0_eye_in_hand"}


class Recorder:
    """Answers with the seed as x, and remembers the observations."""

    def __init__(self, interface: RobotInterface = INTERFACE) -> None:
        self.interface = interface
        self.seen: list[RobotObservation] = []

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        self.seen = list(observations)
        return np.stack([np.full((5, 7), seed, np.float32) for seed in seeds])


def moment(seed: int) -> Moment:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4], picture[0] = 200, 50
    pictures = {"agentview": picture, "robot0_eye_in_hand": picture + 1}
    return Moment(pictures, np.arange(8, dtype=np.float32), "reach", seed, simulator=None)  # type: ignore[arg-type]


def test_rows_stay_with_their_environment() -> None:
    policy = Recorder()
    chunks = PolicyActor(policy, CAMERAS, execute=2).act([None, moment(4), None, moment(9)])
    assert [None if c is None else (c.shape, c[0, 0]) for c in chunks] == [None, ((2, 7), 4.0), None, ((2, 7), 9.0)]
    assert len(policy.seen) == 4


def test_a_policy_sees_the_views_it_was_trained_on() -> None:
    policy = Recorder()
    PolicyActor(policy, CAMERAS, None).act([moment(0)])
    seen = policy.seen[0]
    assert np.array_equal(seen.images["front"], moment(0).pictures["agentview"])
    assert np.array_equal(seen.images["wrist"], moment(0).pictures["robot0_eye_in_hand"])
    assert (seen.instruction, seen.state.tolist()) == ("reach", list(range(8)))


def test_turned_pictures_are_those_of_openvlas_copies() -> None:
    """These turn by 180 degrees what the simulator draws bottom row first: an upright picture, mirrored."""
    policy, drawn = Recorder(), moment(0).pictures["agentview"][::-1]
    PolicyActor(policy, CAMERAS, None, turned=True).act([moment(0)])
    assert np.array_equal(policy.seen[0].images["front"], drawn[::-1, ::-1])


def test_blank_pictures_are_all_the_same() -> None:
    policy = Recorder()
    PolicyActor(policy, CAMERAS, None, blank=True).act([moment(0)])
    assert {int(v) for image in policy.seen[0].images.values() for v in np.unique(image)} == {128}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interface": RobotInterface("arm", ("a",), 64, 95, 10.0, 8, 5, 6)}, r"arm has 8 and 6"),
        ({"interface": RobotInterface("arm", ("a",), 64, 95, 10.0, 3, 5, 7)}, r"arm has 3 and 7"),
        ({"cameras": {"front": "agentview"}}, r"cameras must name the views front, wrist, got front"),
        ({"execute": 6}, r"execute must be 1\.\.5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    settings = {"interface": INTERFACE, "cameras": CAMERAS, "execute": None} | changes
    with pytest.raises(SettingsError, match=message):
        PolicyActor(Recorder(settings["interface"]), settings["cameras"], settings["execute"])
