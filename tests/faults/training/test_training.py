"""A few of the kills of `python -m tests.faults train`."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.format.build import Build
from tests.faults.stops.stage import Stage
from tests.faults.training.command import make_scene

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", ["one", "thread", "two", "torchrun", "torchrun-sharded"])
def test_a_training_that_is_killed_ends_as_if_it_had_not_been(
    gcc: str, robot_build: Build, video_build: Build, tmp_path: Path, way: str
) -> None:
    with ExitStack() as stack:
        stage = stack.enter_context(Stage(tmp_path / "stage"))
        scene = make_scene(stack, stage, [robot_build.path, video_build.path], way)
        courses = [scene.trial(random.Random(seed), 2, saving) for seed in (0, 1) for saving in (True, False)]
    assert not [course for course in courses if course.problems], courses
    assert sum(course.saving for course in courses) >= 2
