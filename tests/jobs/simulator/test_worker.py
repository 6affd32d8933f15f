"""The simulator's process, with a world of one number in the simulator's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from jobs.simulator.worker import Worker

GOAL = [["at", "2"]]


class World:
    """Each step adds the action's first number to x. The goal is x = 3; of "at N" x = N is known, of others nothing."""

    instruction, cameras = "go to 3", ("front",)

    def __init__(self, start: float = 0.0) -> None:
        self.x, self.steps, self.limit, self._start = start, 0, 0, start

    def begin(self, start: int, limit: int) -> None:
        self.x, self.steps, self.limit = self._start, 0, limit

    def command(self, action: Sequence[float]) -> Sequence[float]:
        return action

    def step(self, raw: Sequence[float]) -> bool:
        self.x += raw[0]
        self.steps += 1
        return bool(self.x == 3)

    def holds(self, goal: list[list[str]]) -> bool | None:
        return bool(self.x == float(goal[0][1])) if goal[0][0] == "at" else None

    def images(self) -> dict[str, np.ndarray]:
        return {"front": np.zeros((4, 4, 3), np.uint8)}

    def state(self) -> np.ndarray:
        return np.zeros(8, np.float32)


def act(start: float, goal: Any, actions: Sequence[float], limit: int = 9, hold: int = 1) -> dict[str, Any]:
    worker = Worker()
    worker._environment, worker._swapped_goal, worker._hold = World(start), goal, hold
    worker.reset(0, limit)
    return worker.act(np.array([[x] + [0.0] * 6 for x in actions], np.float32), record_video=True)


@pytest.mark.parametrize(
    ("start", "goal", "steps", "success", "did"),
    [
        (0, None, 3, True, None),
        (0, GOAL, 2, False, True),
        (2, GOAL, 1, True, None),  # held from the start
        (2.5, GOAL, 4, False, False),  # passes both by
        (0, [["in", "milk"]], 3, True, None),  # nothing is known of it
    ],
)
def test_an_episode_ends_with_its_goal_or_with_that_of_the_swapped_instruction(
    start: float, goal: Any, steps: int, success: bool, did: bool | None
) -> None:
    answer = act(start, goal, [1, 1, 1, 1])
    assert (answer["steps"], answer["success"], answer["swapped_instruction_success"]) == (steps, success, did)
    assert answer["over"] is (success or bool(did))
    assert len(answer["video"]) == steps
    assert ("images" in answer) is not answer["over"]


def test_the_limit_ends_an_episode_within_an_action_that_is_kept() -> None:
    answer = act(0, GOAL, [0.25, 0.25], limit=3, hold=2)
    assert (answer["steps"], answer["success"], answer["swapped_instruction_success"], answer["over"]) == (
        3,
        False,
        False,
        True,
    )


class Stages(World):
    """Asks for something else from the second step on, as some tasks of SimplerEnv do."""

    @property
    def instruction(self) -> str:  # type: ignore[override]
        return "close it" if self.steps >= 2 else "open it"


@pytest.mark.parametrize(("shown", "carried_out"), [(True, 2), (False, 4)])
def test_a_new_instruction_ends_a_chunk_of_a_policy_that_is_told_it(shown: bool, carried_out: int) -> None:
    worker = Worker()
    worker._environment, worker._shown = Stages(), shown
    worker.reset(0, 9)
    answer = worker.act(np.array([[0.5] + [0.0] * 6] * 4, np.float32), record_video=False)
    assert (answer["actions"], answer["steps"]) == (carried_out, carried_out)
    assert (answer["instruction"], answer["over"]) == ("close it", False)
    assert worker.act(np.zeros((3, 7), np.float32), record_video=False)["actions"] == 3
