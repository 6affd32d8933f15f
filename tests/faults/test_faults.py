"""A few of the faults of `python -m tests.faults`, cheaply: that command tries all of them, many times."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator

import pytest

from tests.faults import drivers, files, kills
from tests.faults.driver import Driver, Moment
from tests.faults.lab import Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of a head and two nodes, and an undisturbed build of 21 clips made on it."""
    if shutil.which("gcc") is None:
        pytest.fail("gcc is missing; it builds tests/faults/shim.c (Debian: apt-get install gcc)")
    with Lab(tmp_path_factory.mktemp("lab"), clips=24, workers=2) as lab:
        yield lab


def test_a_lost_node_and_a_second_driver_change_nothing(lab: Lab) -> None:
    """While a node dies, another driver is refused; the first one goes on with what is left, by itself."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment(2, 0.1).wait(driver):
            return None
        second = lab.start(driver.run)
        lab.cluster.kill_node(lab.cluster.nodes[0])
        second.wait()
        return drivers.refused(second)

    outcome = lab.disturbed(random.Random(0), inject)
    assert outcome.good, outcome
    assert outcome.restarts == 0


def test_a_reader_that_hangs_costs_its_episode_alone(lab: Lab) -> None:
    outcome = files.hanging_reader(lab, random.Random(0), how="hang")
    assert outcome.good, outcome
    assert outcome.restarts == 0


@pytest.mark.slow
def test_a_killed_driver_continues(lab: Lab) -> None:
    outcome = kills.kill_driver(lab, random.Random(0))
    assert outcome.good, outcome


@pytest.mark.slow
def test_a_full_disk_stops_the_run_until_there_is_space(lab: Lab) -> None:
    outcome = files.disk_full(lab, random.Random(0))
    assert outcome.good, outcome


@pytest.mark.slow
def test_a_storm_of_kills_changes_nothing(lab: Lab) -> None:
    outcome = kills.storm(lab, random.Random(0))
    assert outcome.good, outcome
