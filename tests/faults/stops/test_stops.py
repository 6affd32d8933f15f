"""What `python -m tests.faults commands` does: each call, and of some commands a few calls quickly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stops.cases import CASES, PARTS, Case
from tests.faults.stops.command import prepared
from tests.faults.stops.every_call import try_every_call
from tests.faults.stops.stage import Stage, Stop
from tests.pipeline.audit.tiny_build import write_build

BUILDS = ("jobs.cli", "jobs.preprocess.drop", "jobs.preprocess.merge", "jobs.preprocess.settings")
"""What commands import that make builds of builds: little."""


@pytest.fixture(scope="module")
def stage(gcc: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stops") / "stage") as stage:
        yield stage


@pytest.fixture(scope="module")
def given(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(stage, tmp_path_factory.mktemp("given"))


@pytest.mark.slow
def test_a_build_of_builds_is_finished_after_a_kill(gcc: str, tmp_path: Path) -> None:
    """Three calls of `merge`, one of `drop`."""
    for name, world in PARTS.items():
        write_build(tmp_path / name, world)
    with Stage(tmp_path / "stage", BUILDS) as stage:
        for case, most in (("merge", 3), ("drop", 1)):
            tried = try_every_call(stage, tmp_path, next(each for each in CASES if each.name == case), most=most)
            assert not tried.problems, tried.problems
            assert tried.kills == most


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_command_that_is_ended_at_any_call_is_finished_by_the_next(stage: Stage, given: Path, case: Case) -> None:
    tried = try_every_call(stage, given, case)
    assert not tried.problems, tried.problems
    assert tried.kills == tried.calls >= 7


@pytest.mark.slow
def test_a_stopped_command_did_not_make_the_call(stage: Stage, given: Path) -> None:
    folder = stage.folder / "seen"
    folder.mkdir()
    code, run = stage.run(["merge", f"builds=[{given}/a,{given}/b]", f"out={folder}/out"], Stop(folder, 1))
    assert code == -9
    assert len(run.counted()) == 1
    assert not any(folder.iterdir())
