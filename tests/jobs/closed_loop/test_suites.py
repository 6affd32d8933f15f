"""Suites by name, and published figures with their sources."""

from __future__ import annotations

import statistics

import pytest

from jobs.closed_loop.suites import BENCHMARKS, LEROBOT, LIBERO_PLUS, MEAN, NOTES, SEED, SUITES, find_suite, published
from jobs.simulator.libero import step_limit
from jobs.simulator.perturb.axes import AXES


@pytest.mark.parametrize(
    ("name", "base", "axis"),
    [
        ("libero_object", "libero_object", None),
        ("libero_object_object", "libero_object", "object"),
        ("libero_goal_swap", "libero_goal", "swap"),
        ("libero_spatial_lan", "libero_spatial", "lan"),
        ("libero_10_env", "libero_10", "env"),
        ("libero_goal_with_mug", "libero_goal", None),
    ],
)
def test_suite_knows_its_base(name, base, axis):
    suite = find_suite(name)

    assert (suite.base, suite.axis) == (base, axis)


@pytest.mark.parametrize("name", ["libero_mine", "libero", "google_robot"])
def test_suite_of_no_base(name):
    assert find_suite(name) is None


def test_every_suite_has_a_step_limit_of_its_base():
    assert [step_limit(suite.name) for suite in SUITES] == [step_limit(suite.base) for suite in SUITES]


def test_names_are_unique():
    assert len({suite.name for suite in SUITES}) == len(SUITES) == 21


def test_sources_that_disagree_are_all_kept():
    found = {row.source: row.percent for row in published("libero", MEAN) if row.name == "VLA-JEPA"}

    assert found == {NOTES: 97.2, SEED: 98.2, LEROBOT: 96.5}


def test_best_comes_first():
    percents = [row.percent for row in published("libero_plus", "camera")]

    assert percents == sorted(percents, reverse=True)


@pytest.mark.parametrize(("source", "mean"), [(NOTES, 97.2), (LEROBOT, 96.5)])
def test_suites_of_libero_average_to_their_mean(source, mean):
    suites = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    rows = [row for suite in suites for row in published("libero", suite)]
    found = [row.percent for row in rows if (row.name, row.source) == ("VLA-JEPA", source)]

    assert statistics.mean(found) == pytest.approx(mean, abs=0.06)


def test_every_axis_has_figures_of_both_sources():
    assert all({row.source for row in published("libero_plus", axis)} == {NOTES, LIBERO_PLUS} for axis in AXES)


def test_tasks_of_google_robot_average_to_it():
    tasks = [published("simpler_env", f"google_robot_{i}")[0].percent for i in (1, 2, 3, 4)]
    whole = next(row.percent for row in published("simpler_env", "google_robot") if row.name == "VLA-JEPA")

    assert statistics.mean(tasks) == pytest.approx(whole, abs=0.06)


def test_nobody_reported_on_a_changed_suite():
    assert published("libero", "libero_goal_swap") == ()


def test_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"benchmark='liberoplus' must be one of " + ", ".join(BENCHMARKS)):
        published("liberoplus", "camera")
