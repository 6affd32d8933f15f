from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.closed_loop.actors import EnvironmentState, PolicyActor
from jobs.closed_loop.ensemble import EnsembleMode
from jobs.common.policy.committed import Committed
from jobs.common.policy.image_ablation import ImageAblation
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation
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


def env(seed: int) -> EnvironmentState:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4], image[0] = 200, 50
    images = {"agentview": image, "robot0_eye_in_hand": image + 1}
    return EnvironmentState(images, np.arange(8, dtype=np.float32), "reach", seed, simulator=None)  # type: ignore[arg-type]


def test_rows_stay_with_their_environment() -> None:
    policy = Recorder()
    chunks = PolicyActor(policy, CAMERAS, 8, execute=2).act([None, env(4), None, env(9)])
    assert [None if c is None else (c.shape, c[0, 0]) for c in chunks] == [None, ((2, 7), 4.0), None, ((2, 7), 9.0)]
    assert len(policy.seen) == 4


def test_a_policy_sees_the_views_it_was_trained_on() -> None:
    policy = Recorder()
    PolicyActor(policy, CAMERAS, 8).act([env(0)])
    seen = policy.seen[0]
    assert np.array_equal(seen.images["front"], env(0).images["agentview"])
    assert np.array_equal(seen.images["wrist"], env(0).images["robot0_eye_in_hand"])
    assert (seen.instruction, seen.state.tolist()) == ("reach", list(range(8)))


def test_turned_images_are_those_of_openvlas_copies() -> None:
    """These turn by 180 degrees what the simulator draws bottom row first: an upright image, mirrored."""
    policy, drawn = Recorder(), env(0).images["agentview"][::-1]
    PolicyActor(policy, CAMERAS, 8, turned=True).act([env(0)])
    assert np.array_equal(policy.seen[0].images["front"], drawn[::-1, ::-1])


def test_grey_images_are_all_the_same() -> None:
    policy = Recorder()
    PolicyActor(policy, CAMERAS, 8, image_ablation=ImageAblation.GREY).act([env(0)])
    assert {int(v) for image in policy.seen[0].images.values() for v in np.unique(image)} == {128}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interface": RobotInterface("arm", ("a",), 64, 95, 10.0, 8, 5, 6)}, r"arm has 8 and 6"),
        ({"interface": RobotInterface("arm", ("a",), 64, 95, 10.0, 3, 5, 7)}, r"arm has 3 and 7"),
        ({"cameras": {"front": "agentview"}}, r"cameras must name the views front, wrist, got front"),
        ({"execute": 6}, r"execute must be 1\.\.5"),
        ({"horizon": 6}, r"horizon must be 1\.\.5"),
        ({"horizon": 2, "execute": 3}, r"execute must be 1\.\.2"),
        ({"state": 7}, r"the robot has 7 numbers of state and 7 of action; the policy of robot has 8 and 7"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    settings = {"cameras": CAMERAS, "state": 8} | changes
    policy = Recorder(settings.pop("interface", INTERFACE))
    with pytest.raises(SettingsError, match=message):
        PolicyActor(policy, **settings)


def test_chunks_that_overlap_are_averaged_within_an_episode_alone() -> None:
    """The plain mean is what "adaptive" comes to here: all predictions are parallel."""
    actor = PolicyActor(Recorder(), CAMERAS, 8, ensemble=EnsembleMode.ADAPTIVE)
    means = []
    for first, second in ((env(4), env(0)), (env(8), None), (env(6), env(3))):
        chosen = actor.act([first, second])
        means.append([None if actions is None else (len(actions), float(actions[0, 0])) for actions in chosen])
    assert means[0] == [(1, 4.0), (1, 0.0)]
    assert means[1] == [(1, 6.0), None]
    assert means[2][0] == (1, 6.0)
    restarted = actor.act([replace(env(1), first=True), None])
    assert restarted[0] is not None
    assert float(restarted[0][0, 0]) == 1.0


class Continuing(Recorder):
    """Whole numbers that rise from chunk to chunk, after what is committed."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[list[Committed | None]] = []

    def act_continuing(
        self, observations: Sequence[RobotObservation], seeds: Sequence[int], committed: Sequence[Committed | None]
    ) -> NDArray[np.float32]:
        self.committed.append(list(committed))
        found = self.act(observations, seeds) + 100 * len(self.committed)
        for row, one in enumerate(committed):
            if one is not None:
                found[row, : one.delay] = one.actions[: one.delay]
        return found


def test_with_a_delay_each_chunk_begins_with_the_actions_that_are_carried_out_meanwhile() -> None:
    policy = Continuing()
    actor = PolicyActor(policy, CAMERAS, 8, execute=3, delay=2)
    (first,) = actor.act([replace(env(4), first=True)])
    assert not policy.committed  # nothing is carried out yet: the robot waits
    (second,) = actor.act([env(5)])
    (third,) = actor.act([env(6)])
    assert first is not None
    assert second is not None
    assert third is not None
    assert len(first) == len(second) == len(third) == 3
    (one,), (two,) = policy.committed
    assert one is not None
    assert two is not None
    assert (one.delay, two.delay) == (2, 2)
    assert [rows[:, 0].tolist() for rows in (one.actions, two.actions)] == [[4, 4], [105, 105]]
    assert [rows[:, 0].tolist() for rows in (first, second, third)] == [[4, 4, 4], [4, 4, 105], [105, 105, 206]]
    actor.act([replace(env(7), first=True)])  # another episode: nothing of the one before
    assert len(policy.committed) == 2


def test_a_new_instruction_finds_the_robot_in_the_middle_of_what_it_was_told_before() -> None:
    """Two of three actions were carried out; the next two are while the policy computes, and lead it no further."""
    policy = Continuing()
    actor = PolicyActor(policy, CAMERAS, 8, execute=3, delay=2)
    policy.act = lambda *_: np.arange(35, dtype=np.float32).reshape(1, 5, 7)  # type: ignore[method-assign]
    actor.act([replace(env(4), first=True)])
    (second,) = actor.act([replace(env(5), instruction="put it back", carried_out=2)])
    (one,) = policy.committed[0]
    assert one is not None
    assert (one.actions[:, 0].tolist(), one.delay) == ([14, 21], 2)
    assert second is not None
    assert second[:, 0].tolist() == [14, 21, 114]
    actor.act([replace(env(5), instruction="put it back", carried_out=3)])
    (two,) = policy.committed[1]
    assert two is not None
    assert two.actions[:, 0].tolist() == [121, 128]
    actor.act([replace(env(6), instruction="put it back", carried_out=1)])  # cut short by something else
    (three,) = policy.committed[2]
    assert three is not None
    assert len(three.actions) == 4


def test_without_a_delay_nothing_is_committed() -> None:
    plain, other = Recorder(), Continuing()
    for _ in range(3):
        one = PolicyActor(plain, CAMERAS, 8, execute=2).act([env(0), None])[0]
        two = PolicyActor(other, CAMERAS, 8, execute=2, delay=0).act([env(0), None])[0]
        np.testing.assert_array_equal(one, two)
    assert not other.committed


@pytest.mark.parametrize("changes", [{"execute": 4}, {"execute": 1}, {}, {"ensemble": EnsembleMode.TEMPORAL}])
def test_a_delay_that_the_chunk_is_too_short_for_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"delay=2 needs chunks that are not averaged, and execute=2\.\.3"):
        PolicyActor(Continuing(), CAMERAS, 8, delay=2, **changes)


def test_a_new_instruction_forgets_what_was_wanted_before() -> None:
    """In the middle of an episode too, as SimplerEnv's own policies do."""
    actor = PolicyActor(Recorder(), CAMERAS, 8, ensemble=EnsembleMode.TEMPORAL)
    actor.act([env(0)])
    mixed, new = actor.act([env(9)])[0], actor.act([replace(env(9), instruction="place")])[0]
    assert mixed is not None
    assert new is not None
    assert 0 < mixed[0, 0] < 9
    assert new[0, 0] == 9
