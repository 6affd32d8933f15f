"""A few of the calls of `python -m tests.faults commands`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stops.cases import CASES, Case
from tests.faults.stops.command import prepared
from tests.faults.stops.every_call import try_every_call
from tests.faults.stops.stage import Stage, Stop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(gcc: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stops") / "stage") as stage:
        yield stage


@pytest.fixture(scope="module")
def given(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(stage, tmp_path_factory.mktemp("given"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_command_that_is_ended_at_a_call_is_finished_by_the_next(stage: Stage, given: Path, case: Case) -> None:
    """Six calls from the first to the last; short commands at each one."""
    few = try_every_call(stage, given, case, most=6)
    assert not few.problems, few.problems
    assert few.kills >= min(6, few.calls)


def test_a_stopped_command_did_not_make_the_call(stage: Stage, given: Path) -> None:
    folder = stage.folder / "seen"
    folder.mkdir()
    code, run = stage.run(["merge", f"builds=[{given}/a,{given}/b]", f"out={folder}/out"], Stop(folder, 1))
    assert code == -9
    assert len(run.counted()) == 1
    assert not any(folder.iterdir())
