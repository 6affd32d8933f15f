"""The sample world with little variety, and its twins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.demos.demo import WORLD as SIMPLE
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.scene import Film
from pipeline.sample_world.script import CARRY_WAYS, HOME, RADIUS
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.sample_world.truth import TRUTH_FILE
from pipeline.sample_world.variety import FULL, Variety
from pipeline.sample_world.world import MAX_STEP, advance
from pipeline.sources.base import Source
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.ssv2 import SSv2Source


def film(variety: Variety = SIMPLE) -> Film:
    return Film(0, 2, "gripper", (60, 80), variety)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twins")
    write_ssv2(root / "ssv2", clips=3, seed=1, size=64, variety=SIMPLE, twins=2)
    write_lerobot(root / "lerobot", episodes=2, seed=1, size=64, variety=SIMPLE, twins=3)
    return root


@pytest.mark.parametrize(
    ("make", "view", "count"),
    [
        (lambda root: SSv2Source(root=str(root / "ssv2")), "video", 4),
        (lambda root: LeRobotSource(root=str(root / "lerobot"), name="robot"), "front", 6),
    ],
)
def test_twins_begin_alike_differ_in_instruction_and_future_and_are_held_out(
    twins: Path, make: Callable[[Path], Source], view: str, count: int
) -> None:
    source = make(twins)
    refs = [ref for ref in source.index().refs if ref.split == "val"]
    assert len(refs) == count
    shown, instructions = [], []
    for ref in refs:
        with source.open(ref) as episode:
            assert episode.num_frames == 7
            shown.append(episode.frames(view, [0, 6]).astype(int))
            instructions.append(episode.instruction(0))
    for one in range(0, count, 2):
        assert np.array_equal(shown[one][0], shown[one + 1][0])
        assert np.abs(shown[one][1] - shown[one + 1][1]).max() > 50
        assert instructions[one] != instructions[one + 1]
    assert np.abs(shown[0][0] - shown[2][0]).max() > 50  # other twins are another scene
    train = [ref for ref in source.index().refs if ref.split == "train"]
    for ref in train:
        with source.open(ref) as episode:
            assert np.abs(episode.frames(view, [0])[0].astype(int) - shown[0][0]).max() > 50


def test_what_is_named_stands_where_truth_says(twins: Path) -> None:
    rows = [json.loads(line) for line in (twins / "lerobot" / TRUTH_FILE).read_text().splitlines()]
    assert [row["episode"] for row in rows] == [f"{number:06d}" for number in range(8)]
    scenes = list(Film(1, 2, "gripper", (60, 80), SIMPLE).episodes(2, 3))
    for row, scene in zip(rows, scenes, strict=True):
        place = scene.first.places[scene.rollout.task.thing]
        assert (row["named_x"], row["named_y"]) == pytest.approx(tuple(place[:2]), abs=1e-4)
    assert len((twins / "ssv2" / TRUTH_FILE).read_text().splitlines()) == 3 + 4


def test_little_variety_is_little() -> None:
    scenes = [film().scene(number) for number in range(20)]
    assert {thing.name for scene in scenes for thing in scene.first.things} == {"red cube", "green cube", "blue cube"}
    assert {thing.radius for scene in scenes for thing in scene.first.things} == {RADIUS}
    assert {tuple(scene.first.state[:3].astype(float).round(3).tolist()) for scene in scenes} == {HOME}
    assert all(np.array_equal(scene.look.texture, scenes[0].look.texture) for scene in scenes)
    assert {(scene.rollout.task.thing, scene.rollout.task.direction) for scene in scenes} > {(0, "left"), (1, "up")}


def test_the_named_thing_is_carried_its_way_and_no_other_moves() -> None:
    for number in range(30):
        scene = film().scene(number)
        task, moved = scene.rollout.task, scene.rollout.worlds[-1].places - scene.first.places
        along = float(moved[task.thing] @ CARRY_WAYS[task.direction])
        room = 0.45 - abs(float(scene.first.places[task.thing, 0]))
        assert along > min(0.25, room - 0.01), (number, task)  # the workspace ends near the outermost things
        assert np.abs(np.delete(moved, task.thing, 0)).max() < 1e-6


def test_a_filmed_action_is_the_mean_of_the_steps_until_the_next_frame() -> None:
    rollout = film().scene(3).rollout
    assert rollout.actions.shape == (7, 7)
    for now, following, action in zip(rollout.worlds, rollout.worlds[1:], rollout.actions, strict=False):
        np.testing.assert_allclose(following.state[:3] - now.state[:3], 3 * MAX_STEP * action[:3], atol=1e-5)
    whole = Film(0, 2, "gripper", (60, 80), FULL).scene(3).rollout
    np.testing.assert_array_equal(whole.worlds[1].state, advance(whole.worlds[0].state, whole.actions[0]))


def test_twins_of_full_variety_begin_alike_too() -> None:
    one, other = film(FULL).twins(0)
    assert one.rollout.task != other.rollout.task
    assert np.array_equal(one.first.places, other.first.places)
    assert np.array_equal(one.look.texture, other.look.texture)


@pytest.mark.parametrize("wrong", [{"tasks": ("throw",)}, {"tasks": ()}, {"fps": 5}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"tasks must be|fps must divide"):
        Variety(**wrong)  # type: ignore[arg-type]
