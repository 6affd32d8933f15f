"""The real simulator, where it is installed: VLAJEPA_SIMULATOR names the python of its environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobs.closed_loop.evaluate.evaluate import evaluate
from jobs.closed_loop.evaluate.settings import EvaluateConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulator() -> Path:
    found = os.environ.get("VLAJEPA_SIMULATOR")
    if not found:
        pytest.skip("VLAJEPA_SIMULATOR is not set; docs/closed-loop.md says how to install LIBERO")
    return Path(found)


def test_the_script_solves_a_task_the_same_way_twice(simulator: Path, tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        settings = EvaluateConfig(
            policy="script",
            simulator=simulator,
            suite="libero_object",
            out=tmp_path / name,
            tasks=(0,),
            episodes=1,
            environments=1,
            pixels=64,
            shadows=False,
            hold=2,
        )
        evaluate(settings)
        results = json.loads((settings.out / "results.json").read_bytes())
        found.append([(e["success"], e["steps"]) for e in results["episodes"]])
        assert (settings.out / "videos" / "task-00-start-000-success.mp4").stat().st_size > 1000
    assert found[0] == found[1]
    assert found[0][0][0] is True


def test_the_goal_of_a_swapped_instruction_is_checked_where_the_scene_has_its_object(
    simulator: Path, tmp_path: Path
) -> None:
    """The milk is in the scene of the soup; the soup is not in the scene of the milk."""
    settings = EvaluateConfig(
        policy="script",
        simulator=simulator,
        suite="libero_object",
        out=tmp_path,
        tasks=(0, 7),
        episodes=1,
        environments=1,
        pixels=64,
        shadows=False,
        hold=2,
        videos=0,
        swap=True,
    )
    evaluate(settings)
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert [(e["task"], e["swapped_instruction_success"]) for e in results["episodes"]] == [(0, False), (7, None)]
    assert results["episodes"][0]["success"] is True
