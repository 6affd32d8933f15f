"""Who goes when too many connections are open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from websockets.protocol import State

from jobs.serving.intake import Intake


class Connection:
    """Of a client at an address."""

    def __init__(self, host: str, state: State = State.CONNECTING) -> None:
        self.remote_address = (host, 1)
        self.state, self.closed = state, False
        self.transport = SimpleNamespace(abort=self._abort)

    def _abort(self) -> None:
        self.closed = True


def opened(intake: Intake, *connections: Connection) -> list[bool]:
    for connection in connections:
        intake.came(connection)  # type: ignore[arg-type]
    return [connection.closed for connection in connections]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def intake(said: list[str]) -> Intake:
    return Intake(1000, 4, said.append, lambda _: None)


def test_a_newcomer_takes_the_place_of_the_longest_silent_one_of_the_busiest_address(
    intake: Intake, said: list[str]
) -> None:
    robot, other = Connection("robot", State.OPEN), Connection("other")
    flood = [Connection("flood") for _ in range(8)]
    assert opened(intake, robot, other, flood[0], flood[1]) == [False] * 4
    assert opened(intake, flood[2]) == [False]
    assert (flood[0].closed, flood[1].closed) == (True, False)
    newcomer = Connection("probe")
    assert opened(intake, newcomer) == [False]
    assert flood[1].closed
    assert [robot.closed, other.closed] == [False, False]
    assert said == ["5 connections are open: flood:1 and such others are closed"]


def test_without_a_silent_one_the_newcomer_goes(intake: Intake) -> None:
    talking = [Connection("robot", State.OPEN) for _ in range(4)]
    newcomer: Any = Connection("robot")
    assert opened(intake, *talking) == [False] * 4
    assert opened(intake, newcomer) == [True]
    intake.gone(newcomer)
    intake.gone(talking[0])  # type: ignore[arg-type]
    assert opened(intake, Connection("robot", State.OPEN)) == [False]
