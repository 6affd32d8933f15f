"""Cases of the sample world: they are the validation episodes, and what succeeds in them is what was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.common.policy.robot_interface import RobotInterface, RobotObservation
from jobs.demos.demo import WORLD
from jobs.demos.pretraining.closed_loop import held_out_cases, is_success, play_actions, run_policy, run_script
from pipeline.sample_world.lerobot import sentence, write_lerobot
from pipeline.sample_world.scene import Scene
from pipeline.sample_world.script import play
from pipeline.sample_world.world import World

SCENES = 8


@pytest.fixture(scope="module")
def cases() -> list[Scene]:
    return held_out_cases(3, WORLD, SCENES)


class _Script:
    """A policy that knows its cases by their instruction and first state, and gives `chunk` of their actions."""

    def __init__(self, cases: Sequence[Scene], chunk: int) -> None:
        self.interface = RobotInterface("robot", ("front",), 64, 90, 4.0, 8, chunk, 7)
        self._cases = cases
        self.queries: list[list[RobotObservation]] = []
        self.seeds: list[int] = []

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        begin = len(self.queries) * self.interface.chunk
        self.queries.append(list(observations))
        self.seeds += seeds
        chunk = [case.rollout.actions[begin : begin + self.interface.chunk] for case in self._cases]
        return np.stack([np.pad(each, ((0, self.interface.chunk - len(each)), (0, 0))) for each in chunk])


def test_cases_are_the_validation_episodes_of_the_sample_data(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "data", 4, 3, 64, variety=WORLD, twins=2)
    truth = [json.loads(line) for line in (tmp_path / "data" / "truth.jsonl").read_text().splitlines()][4:]
    tasks = [json.loads(line) for line in (tmp_path / "data" / "meta" / "episodes.jsonl").read_text().splitlines()][4:]
    found = held_out_cases(3, WORLD, 2)
    places = np.stack([case.first.places[case.rollout.task.thing, :2] for case in found])
    np.testing.assert_allclose([[row["named_x"], row["named_y"]] for row in truth], places, atol=1e-4)
    assert [row["tasks"] for row in tasks] == [[sentence(case.rollout.task, case.first)] for case in found]


def test_the_script_succeeds_in_every_case_and_its_twin_in_none(cases: list[Scene]) -> None:
    assert all(run_script(case, WORLD) for case in cases)
    for one, other in zip(cases[::2], cases[1::2], strict=True):
        assert not is_success(one, other.rollout.worlds)
        assert not is_success(other, one.rollout.worlds)


@pytest.mark.parametrize("part", ["thing", "direction"])
def test_thing_and_direction_both_count(cases: list[Scene], part: str) -> None:
    rng = np.random.default_rng(0)
    for case in cases:
        task = case.rollout.task
        others = {
            "thing": replace(task, thing=(task.thing + 1) % 3),
            "direction": replace(task, direction="up" if task.direction != "up" else "left"),
        }
        wrong = play(rng, case.first, others[part], WORLD.steps((1, 1)), WORLD)
        assert not is_success(case, wrong.worlds)
        again = play(rng, case.first, task, WORLD.steps((1, 1)), WORLD)
        assert is_success(case, again.worlds)


def test_standing_still_is_no_success(cases: list[Scene]) -> None:
    still = np.zeros((7, 7), np.float32)
    assert not any(is_success(case, [case.first, *play_actions(case.first, still, 3)]) for case in cases)


def test_a_gripper_that_never_closes_is_judged_where_it_is_lowest(cases: list[Scene]) -> None:
    fingers, far = np.full(2, 0.11, np.float32), np.float32([9, 9, 0])
    for case in cases:
        opened: list[World] = [
            replace(world, state=np.concatenate([world.state[:6], fingers])) for world in case.rollout.worlds
        ]
        named = (np.arange(3) == case.rollout.task.thing)[:, None]
        assert is_success(case, opened)
        assert not is_success(case, [replace(world, places=world.places + far * named) for world in opened])


@pytest.mark.parametrize(("chunk", "queries"), [(7, 1), (4, 2), (3, 3)])
def test_a_policy_is_asked_again_when_its_chunk_is_over(cases: list[Scene], chunk: int, queries: int) -> None:
    policy = _Script(cases, chunk)
    assert run_policy(policy, cases, 64, WORLD) == [True] * len(cases)
    assert len(policy.queries) == queries
    assert len(set(policy.seeds)) == queries * len(cases)
    for case, first in zip(cases, policy.queries[0], strict=True):
        assert first.instruction == sentence(case.rollout.task, case.first)
        np.testing.assert_array_equal(first.state, case.first.state)
        assert first.images["front"].shape == (64, 64, 3)
    for case, last in zip(cases, policy.queries[-1], strict=True):
        done = play_actions(case.first, case.rollout.actions[: chunk * (queries - 1)], WORLD.stride)
        np.testing.assert_array_equal(last.state, (done or [case.first])[-1].state)
