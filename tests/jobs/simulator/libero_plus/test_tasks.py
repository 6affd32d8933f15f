"""The list of LIBERO-Plus's tasks, from tiny stand-ins of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.simulator.libero_plus.goals import Here
from jobs.simulator.libero_plus.package import Scene
from jobs.simulator.libero_plus.tasks import PlusTask, in_name, tasks_of
from tests.jobs.simulator.libero_plus.stand_in import (
    BASE,
    NAMES,
    VIEW,
    classification,
    goal,
    libero,
    plus_package,
    start_file,
)

GOAL = ("libero_goal",)


def listed(
    folder: Path, wording: str = "list", here: Here | None = None, difficulty: str | None = None
) -> list[PlusTask]:
    plus = plus_package(folder / "plus")
    return tasks_of(plus, GOAL, here or libero(folder / "assets"), wording, difficulty)


def by_end(tasks: Sequence[PlusTask], end: str) -> PlusTask:
    (found,) = (task for task in tasks if task.name.endswith(end))
    return found


def test_all_tasks_in_order_with_the_limit_of_their_suite(tmp_path: Path) -> None:
    tasks = listed(tmp_path)
    assert [(task.index, task.name) for task in tasks] == list(enumerate(NAMES))
    assert {task.limit for task in tasks} == {300}


def test_what_is_missing_is_said_by_name(tmp_path: Path) -> None:
    missing = {task.name.removeprefix(f"{BASE}_"): task.missing for task in listed(tmp_path) if task.missing}
    assert missing == {
        "table_1": ("texture: marble.png",),
        "light_4": ("scene: scenes/lights/table_5.xml",),
        "add_1": ("thing: soap",),
    }


def test_what_is_there_is_not_missing(tmp_path: Path) -> None:
    here = libero(tmp_path / "assets")
    for name in ("scenes/lights/table_5.xml", "textures/marble.png"):
        (here.assets / name).parent.mkdir(exist_ok=True)
        (here.assets / name).touch()
    tasks = listed(tmp_path, here=replace(here, kinds={"bowl", "soap"}))
    assert [task.missing for task in tasks] == [()] * len(NAMES)
    assert by_end(tasks, "_light_4").scene == Scene("table", "scenes/lights/table_5.xml", "gray.png", "cream.png")
    assert by_end(tasks, "_table_1").scene == Scene("table", "scenes/table.xml", "marble.png", "cream.png")


def test_a_missing_file_or_problem_is_said_too(tmp_path: Path) -> None:
    plus, here = plus_package(tmp_path / "plus"), libero(tmp_path / "assets")
    Path(plus.goal("libero_goal", f"{BASE}_tb_2")).unlink()
    Path(plus.start("libero_goal", f"{BASE}_moved_level3_sample2", own=True)).unlink()
    Path(plus.goal("libero_goal", BASE)).write_text(goal("Kitchen"))
    tasks = tasks_of(plus, GOAL, here, "list", None)
    assert by_end(tasks, "_tb_2").missing == (f"goal file: {BASE}_tb_2.bddl",)
    assert by_end(tasks, "_sample2").missing == (f"start file: {BASE}_moved_level3_sample2.pruned_init",)
    assert by_end(tasks, "_noise_7").missing == ("problem: Kitchen",)


@pytest.mark.parametrize(
    ("wording", "robot", "language"),
    [
        ("list", "turn on the stove view 0 0 100 0 0 initstate 2", "heat the stove"),
        ("libero", "turn on the stove", "heat the stove"),
        ("goal", "turn on the burner", "heat the stove"),
    ],
)
def test_where_instructions_are_from(tmp_path: Path, wording: str, robot: str, language: str) -> None:
    plus = plus_package(tmp_path / "plus")
    Path(plus.goal("libero_goal", BASE)).write_text(goal(words="Turn on\n    the burner"))
    tasks = tasks_of(plus, GOAL, libero(tmp_path / "assets"), wording, None)
    assert by_end(tasks, f"{BASE}_{VIEW}_2").instruction == robot
    assert by_end(tasks, f"_language_3_{VIEW}_0").instruction == language


def test_the_scene_s_number_is_not_in_the_instruction() -> None:
    assert in_name("KITCHEN_SCENE10_close_it_table_1") == "close it table 1"
    assert in_name("LIVING_ROOM_SCENE2_put_it_there") == "put it there"


def test_difficulties_are_those_of_the_classification(tmp_path: Path) -> None:
    path = classification(tmp_path / "classes.json", difficulty=4)
    assert {task.difficulty for task in listed(tmp_path, difficulty=str(path))} == {4}
    assert {task.difficulty for task in listed(tmp_path)} == {None}


def test_a_classification_in_the_package_is_used(tmp_path: Path) -> None:
    plus = plus_package(tmp_path / "plus")
    classification(plus.folder / "benchmark" / "task_classification.json", difficulty=5)
    assert {task.difficulty for task in tasks_of(plus, GOAL, libero(tmp_path / "a"), "list", None)} == {5}


@pytest.mark.parametrize("content", [None, "[]", '{"libero_goal": [{"name": "x"}]}', "{"])
def test_another_file_is_no_classification(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "classes.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"classes\.json: not LIBERO-Plus's task_classification\.json"):
        listed(tmp_path, difficulty=str(path))


def test_a_classification_of_another_version_is_refused(tmp_path: Path) -> None:
    path = classification(tmp_path / "classes.json")
    path.write_text(path.read_text().replace(f"{BASE}_light_4", "other"))
    with pytest.raises(ValueError, match=f"has nothing on {BASE}_light_4; it is of another version"):
        listed(tmp_path, difficulty=str(path))


def test_another_list_of_tasks_is_refused(tmp_path: Path) -> None:
    plus = plus_package(tmp_path / "plus")
    (plus.folder / "benchmark" / "libero_suite_task_map.py").write_text("libero_task_map = open('/')")
    with pytest.raises(ValueError, match=r"libero_suite_task_map\.py: not a list of LIBERO-Plus's tasks"):
        tasks_of(plus, GOAL, libero(tmp_path / "a"), "list", None)


def test_tasks_that_differ_in_camera_joints_noise_or_words_share_their_scene(tmp_path: Path) -> None:
    tasks = [task for task in listed(tmp_path) if not task.missing]
    keys = {task.key for task in tasks if task.change.category in ("camera", "robot", "noise", "language")}
    assert len(keys) == 1
    assert len({task.key for task in tasks}) == 3  # and that of _tb_2, and of _sample2


def test_the_robot_s_joints_are_read(tmp_path: Path) -> None:
    joints = plus_package(tmp_path).joints
    assert sorted(joints) == [1, 2]
    np.testing.assert_array_equal(joints[1], [0.1, -0.2, 0, -2.5, 0.3, 2.2, 0.8])


def test_start_states_are_read_without_torch(tmp_path: Path) -> None:
    tasks = listed(tmp_path)
    np.testing.assert_array_equal(by_end(tasks, f"{VIEW}_2").starts, np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(by_end(tasks, "_sample2").starts, np.arange(4.0)[None])


@pytest.mark.parametrize("content", [print, {"a": 1}, np.arange(3), np.zeros((2, 2, 2))])
def test_a_start_file_with_something_else_is_refused(tmp_path: Path, content: object) -> None:
    task = by_end(listed(tmp_path), f"{VIEW}_2")
    start_file(Path(task.start_file), content)
    with pytest.raises(ValueError, match=rf"{BASE}\.pruned_init: (not a file of start states|expected numbers)"):
        _ = task.starts


def test_a_cut_start_file_is_refused(tmp_path: Path) -> None:
    task = by_end(listed(tmp_path), f"{VIEW}_2")
    Path(task.start_file).write_bytes(Path(task.start_file).read_bytes()[:50])
    with pytest.raises(ValueError, match="not a file of start states"):
        _ = task.starts
