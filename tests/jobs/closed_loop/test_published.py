"""Published figures with their sources, and step limits by the names of suites."""

from __future__ import annotations

import statistics

import pytest

from jobs.closed_loop.published import LEROBOT, LIBERO_PLUS, MEAN, NOTES, SEED, published
from jobs.simulator.libero import STEP_LIMITS, step_limit
from jobs.simulator.perturb.axes import AXES


@pytest.mark.parametrize("axis", ["object", "swap", "lan", "task", "env"])
@pytest.mark.parametrize("base", STEP_LIMITS)
def test_a_changed_suite_has_the_step_limit_of_its_base(base, axis):
    assert step_limit(f"{base}_{axis}") == step_limit(base) == STEP_LIMITS[base]


@pytest.mark.parametrize("name", ["libero_mine", "libero", "google_robot", "libero_100"])
def test_an_unknown_suite_has_no_step_limit(name):
    assert step_limit(name) is None


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
