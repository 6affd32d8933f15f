"""What the name of a LIBERO-Plus task says."""

from __future__ import annotations

import pytest

from jobs.simulator.libero_plus.names import CATEGORIES, LIBERO_SUITES, SUITES, View, parse
from jobs.simulator.perturb.axes import AXES
from tests.jobs.simulator.libero_plus.stand_in import BASE, NAMES


def test_the_category_is_that_of_the_classification() -> None:
    for name, (category, _) in NAMES.items():
        assert CATEGORIES[parse(name).category] == category


def test_categories_are_called_as_our_own_axes() -> None:
    assert tuple(CATEGORIES) == AXES


def test_a_suite_of_all_and_one_of_each() -> None:
    assert SUITES["libero_plus"] == LIBERO_SUITES
    assert SUITES["libero_plus_10"] == ("libero_10",)
    assert len(SUITES) == 5


def test_a_view_is_that_of_the_camera() -> None:
    change = parse(f"{BASE}_view_350_15_142_356_8_initstate_0")
    assert change.view == View(around=350, up=15, distance=142, aside=356, down=8)
    assert (change.base, change.goal_file, change.start_file) == (BASE, BASE, BASE)
    assert (change.joints, change.noise, change.own_start) == (0, 0, False)


def test_joints_and_noise_and_words_are_told_apart() -> None:
    assert parse(f"{BASE}_view_0_0_100_0_0_initstate_417").joints == 417
    noisy = parse(f"{BASE}_view_0_0_100_0_0_initstate_0_noise_38")
    assert (noisy.category, noisy.noise) == ("noise", 38)
    worded = parse(f"{BASE}_language_12_view_0_0_100_0_0_initstate_0")
    assert (worded.category, worded.goal_file, worded.start_file) == ("language", f"{BASE}_language_12", BASE)


def test_a_table_in_the_task_s_own_name_is_none_of_the_change() -> None:
    """So it is called in LIBERO, and `_table_` is also how a change begins."""
    base = "pick_up_the_black_bowl_from_table_center_and_place_it_on_the_plate"
    assert parse(f"{base}_table_3").base == base
    assert parse(f"{base}_light_3").start_file == base
    assert parse(f"{base}_view_0_0_100_0_0_initstate_9").base == base


def test_changed_layouts_have_their_own_starts() -> None:
    for name in (f"{BASE}_add_4", f"{BASE}_level1_sample2", f"{BASE}_moved_level5_sample4"):
        change = parse(name)
        assert (change.base, change.start_file, change.own_start, change.category) == (BASE, name, True, "layout")


@pytest.mark.parametrize("name", [BASE, f"{BASE}_view_0_0_100_0_initstate_0", f"{BASE}_light_x", ""])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a LIBERO-Plus task"):
        parse(name)
