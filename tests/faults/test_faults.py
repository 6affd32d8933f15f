"""A few of the faults of `python -m tests.faults`: that command tries all of them, many times."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from jobs.cluster.build_tasks.run_progress import read_progress
from pipeline.storage.store import open_store
from tests.faults import drivers, files, kills
from tests.faults.driver import Driver, Moment
from tests.faults.lab import Lab
from tests.jobs.runs import build_hashes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(gcc: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of a head and two nodes, and an undisturbed build of 21 clips made on it."""
    with Lab(tmp_path_factory.mktemp("lab"), clips=24, workers=2) as lab:
        yield lab


def test_a_lost_node_and_a_second_driver_change_nothing(lab: Lab) -> None:
    """While a node dies, another driver is refused; the first one goes on with what is left, by itself."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        drivers.wait_for_lock(driver)  # a second driver takes as long to start as Ray and the encoders of the first
        second = lab.start(driver.run)
        if not Moment(2, 0.0).wait(driver):
            return None
        lab.cluster.kill_node(lab.cluster.nodes[0])
        return drivers.refused(second) if second.wait() or driver.running else None

    outcome = lab.disturbed(random.Random(0), inject)
    assert outcome.good, outcome
    assert outcome.restarts == 0


def test_a_reader_that_hangs_costs_its_episode_alone(lab: Lab) -> None:
    outcome = files.hanging_reader(lab, random.Random(0), how="hang")
    assert outcome.good, outcome
    assert outcome.restarts == 0


def test_a_killed_driver_continues(lab: Lab) -> None:
    outcome = kills.kill_driver(lab, random.Random(0))
    assert outcome.good, outcome


def test_a_full_disk_stops_the_run_until_there_is_space(lab: Lab) -> None:
    outcome = files.disk_full(lab, random.Random(0))
    assert outcome.good, outcome


def test_a_storm_of_kills_changes_nothing(lab: Lab) -> None:
    outcome = kills.storm(lab, random.Random(0))
    assert outcome.good, outcome


def test_tasks_and_encoders_go_where_their_resources_are(lab: Lab) -> None:
    """No inputs file is made where encoders are, no targets file where tasks are."""
    for resources in ('{"decoder": 4}', '{"encoder": 2}'):
        lab.cluster.add_node(resources)
    where = ("cluster.task_resources={decoder: 1}", "cluster.encoder_resources={encoder: 1}")
    driver = lab.start(lab.run(lab.new_out(), *where))
    assert driver.wait() == 0, driver.output
    assert build_hashes(driver.run.out) == lab.hashes
    progress = read_progress(open_store(driver.run.out))
    assert progress is not None
    work = sorted(progress.nodes.values(), key=lambda node: node.samples)
    assert [(node.files, node.samples) for node in work] == [
        (lab.files // 2, 0),
        (lab.files // 2, progress.samples_now),
    ]
