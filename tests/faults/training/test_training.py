"""A few of the kills of `python -m tests.faults train`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.format.build import Build
from tests.faults.stops.stage import Stage
from tests.faults.training.trial import kill_and_resume, set_scene

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("ranks", "settings"), [(1, ()), (1, ("trainer.async_save=true",)), (2, ())])
def test_a_training_that_is_killed_ends_as_if_it_had_not_been(
    gcc: str, robot_build: Build, video_build: Build, tmp_path: Path, ranks: int, settings: tuple[str, ...]
) -> None:
    with Stage(tmp_path / "stage") as stage:
        scene = set_scene(stage, [robot_build.path, video_build.path], ranks, *settings)
        courses = [
            kill_and_resume(scene, random.Random(seed), 2, saving) for seed in (0, 1) for saving in (True, False)
        ]
    assert not [course for course in courses if course.problems], courses
    assert sum(course.saving for course in courses) >= 2
