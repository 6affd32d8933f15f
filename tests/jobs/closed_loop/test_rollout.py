from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.closed_loop.actors import EnvironmentState, ScriptActor
from jobs.closed_loop.outcomes import Outcome
from jobs.closed_loop.rollout import SimulatorSlot, TaskRun, TaskRunner
from pipeline.errors import RunError
from tests.jobs.closed_loop.fake_simulator import FakeSimulator


class Pusher:
    """Pushes by what an environment's seed says, and remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[str, int, int] | None]] = []

    @staticmethod
    def _noted(env: EnvironmentState) -> tuple[str, int, int]:
        return env.instruction, int(env.images["agentview"][0, 0, 0]), env.seed

    def act(self, envs: Sequence[EnvironmentState | None]) -> list[NDArray[np.float32] | None]:
        self.seen.append([None if m is None else self._noted(m) for m in envs])
        return [None if m is None else self._push(m.seed) for m in envs]

    def _push(self, seed: int) -> NDArray[np.float32]:
        actions = np.zeros((3, 7), np.float32)
        actions[:, 0] = np.random.default_rng(seed).uniform(0.0, 0.05, 3)
        return actions


def play(
    starts: Sequence[int], actor: Any, slots: int = 2, make: Callable[[], Any] = FakeSimulator, **changes: Any
) -> tuple[dict[int, Outcome], dict[int, int]]:
    opening = {"suite": "s", "task": 0, "hold": changes.pop("hold", 1), "pixels": 32, "shadows": True}
    settings = {"suite": "s", "task": 0, "instruction": None, "limit": 40, "seed": 7} | changes
    found: dict[int, Outcome] = {}
    videos: dict[int, int] = {}

    def keep(outcome: Outcome, video: Sequence[Any]) -> None:
        assert outcome.start not in found
        found[outcome.start], videos[outcome.start] = outcome, len(video)

    TaskRunner(TaskRun(opening=opening, **settings), [SimulatorSlot(make) for _ in range(slots)], actor, keep).play(
        starts
    )
    return found, videos


def results(found: dict[int, Outcome]) -> dict[int, tuple[bool, int, int]]:
    return {start: (o.success, o.steps, o.queries) for start, o in sorted(found.items())}


def test_the_script_succeeds_in_the_fewest_steps() -> None:
    found, _ = play(range(5), ScriptActor())
    assert results(found) == dict.fromkeys(range(5), (True, 6, 6))


def test_an_action_is_held() -> None:
    found, _ = play([0], ScriptActor(), hold=2)
    assert results(found) == {0: (True, 6, 3)}


def test_the_limit_ends_an_episode() -> None:
    found, _ = play([3], ScriptActor(), limit=4)
    assert results(found) == {3: (False, 4, 4)}


def test_an_episode_does_not_depend_on_what_plays_beside_it() -> None:
    alone = {start: results(play([start], Pusher(), slots=1)[0])[start] for start in range(6)}
    assert results(play(range(6), Pusher(), slots=3)[0]) == alone
    assert len({steps for _, steps, _ in alone.values()}) > 1


def test_every_query_has_its_own_seed() -> None:
    actor = Pusher()
    play(range(4), actor)
    seeds = [env[2] for envs in actor.seen for env in envs if env is not None]
    assert len(set(seeds)) == len(seeds)


def test_every_slot_keeps_its_row() -> None:
    actor = Pusher()
    play(range(5), actor, slots=3)
    assert all(len(envs) == 3 for envs in actor.seen)


def test_another_instruction_is_given() -> None:
    actor = Pusher()
    play([0], actor, instruction="do something else")
    assert {m[0] for envs in actor.seen for m in envs if m is not None} == {"do something else"}


def test_the_actor_is_told_how_much_of_its_chunk_was_carried_out() -> None:
    counts: list[int | None] = []

    class Noting(Pusher):
        def act(self, envs: Sequence[EnvironmentState | None]) -> list[NDArray[np.float32] | None]:
            counts.extend(m.carried_out for m in envs if m is not None)
            return super().act(envs)

    play([0], Noting())
    assert counts[0] is None
    assert set(counts[1:]) == {3}


def test_videos_are_made_where_wanted() -> None:
    _, videos = play(range(3), ScriptActor(), videos=frozenset({1}))
    assert videos == {0: 0, 1: 6, 2: 0}


def test_a_death_costs_one_episode_which_is_played_again() -> None:
    deaths = {1: 2}  # start -> times

    def dies(start: int) -> bool:
        left = deaths.get(start, 0)
        deaths[start] = left - 1
        return left > 0

    before = FakeSimulator.started
    found, _ = play(range(4), ScriptActor(), make=lambda: FakeSimulator(dies=dies))
    assert {start: o.crashes for start, o in found.items()} == {0: 0, 1: 2, 2: 0, 3: 0}
    assert results(found) == dict.fromkeys(range(4), (True, 6, 6))
    assert FakeSimulator.started - before == 2 + 2


def test_a_start_that_always_kills_stops_the_evaluation() -> None:
    with pytest.raises(RunError, match=r"s, task 0, start 2: the simulator died 3 times; the fake simulator died"):
        play(range(4), ScriptActor(), make=lambda: FakeSimulator(dies=lambda start: start == 2))
