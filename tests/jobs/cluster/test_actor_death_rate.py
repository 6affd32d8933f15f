"""A large cluster may lose many actors for days; a small one that dies whenever it starts is given up soon."""

from __future__ import annotations

import pytest

from jobs.cluster.actor_death_rate import EACH, LEAST, WINDOW_S, DeathRate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def deaths_until_the_end(actors: int, every_s: float, most: int = 20_000) -> int:
    """Deaths before a run gives up, when one dies so often; `most` if it never does."""
    clock = Clock()
    rate = DeathRate(clock)
    for number in range(1, most + 1):
        clock.now += every_s
        if rate.too_many(actors):
            return number
    return most


def test_500_nodes_of_8_may_lose_a_node_every_two_minutes_for_a_week() -> None:
    clock = Clock()
    rate = DeathRate(clock)
    for _ in range(7 * 24 * 30):
        clock.now += 120
        assert not any(rate.too_many(4000) for _ in range(8))


@pytest.mark.parametrize("actors", [1, 2, 64])
def test_actors_that_die_whenever_they_have_started_are_given_up(actors: int) -> None:
    assert deaths_until_the_end(actors, 20 / actors) == max(LEAST, EACH * actors) + 1


def test_the_message_has_the_limit() -> None:
    rate = DeathRate(Clock())
    found = [rate.too_many(1) for _ in range(LEAST + 1)]
    assert found[:-1] == [""] * LEAST
    assert found[-1] == f"{LEAST + 1} died within an hour, more than {LEAST}"


def test_deaths_are_forgotten_after_an_hour() -> None:
    assert deaths_until_the_end(1, WINDOW_S / LEAST + 1, 500) == 500
