"""The table of what predictions depend on: runs beside each other, and files that hold anything at all."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.report.reliance import reliance_rows
from jobs.report.run_files import read_run


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "pairs": 8, "groups": 4}


def write_run(path: Path, steered_by: str | None, held_out: object) -> Path:
    path.mkdir()
    predictor = {} if steered_by is None else {"steered_by": steered_by}
    (path / "run.json").write_text(json.dumps({"model": {"predictor": predictor}}))
    (path / "metrics.jsonl").write_text("")
    (path / "held_out.json").write_text(json.dumps(held_out))
    return path


def test_runs_stand_below_each_other_by_build_and_measure(tmp_path: Path) -> None:
    def numbers(value: float) -> dict[str, object]:
        reliance = {"all": interval(value), "per_step": [value, None], "per_view": [value]}
        return {"latent_action_reliance": {"other_episode": reliance}, "two_alternative": interval(0.9)}

    runs = [
        write_run(tmp_path / "run", None, {"robot": numbers(1.5), "ssv2": numbers(1.25)}),
        write_run(tmp_path / "ceiling", "true_motion", {"robot": numbers(2.0)}),
    ]
    rows = reliance_rows([read_run(run) for run in runs])
    assert [(row.build, row.measure.split(",")[0], row.steered_by, row.run, row.value) for row in rows] == [
        ("robot", "latent-action reliance", "latent actions", "run", 1.5),
        ("robot", "latent-action reliance", "true motion: ceiling", "ceiling", 2.0),
        ("robot", "two-alternative test", "latent actions", "run", 0.9),
        ("robot", "two-alternative test", "true motion: ceiling", "ceiling", 0.9),
        ("ssv2", "latent-action reliance", "latent actions", "run", 1.25),
        ("ssv2", "two-alternative test", "latent actions", "run", 0.9),
    ]
    assert rows[0].steps == (1.5, None)
    assert rows[0].views == ()  # one view says what all say


def test_how_many_episodes_or_scenes_an_interval_is_of_stands_beside_it(tmp_path: Path) -> None:
    """Of few there is none; files of runs before that do not say how many."""
    few = {**interval(2.0), "low": None, "high": None, "groups": 3}
    old = {key: value for key, value in interval(0.9).items() if key != "groups"}
    numbers = {
        "latent_action_reliance": {"other_episode": {"all": few}, "same_scene": {"all": interval(1.0)}},
        "two_alternative": old,
        "image_reliance": {"same_episode": {**old, "low": None, "high": None}},
    }
    rows = reliance_rows([read_run(write_run(tmp_path / "run", "odd", {"robot": numbers}))])
    assert [(row.low, row.high, row.groups) for row in rows] == [
        (None, None, "3 episodes"),
        (0.9, 1.1, "4 scenes"),
        (0.8, 1.0, ""),
    ]


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    wild = {
        "latent_action_reliance": {"other_episode": {"all": {**interval(1.0), "value": "x"}}, "same_scene": 3},
        "two_alternative": {**interval(1.0), "low": float("inf")},
        "image_reliance": [1, 2],
    }
    assert reliance_rows([read_run(write_run(tmp_path / "run", "odd", {"robot": wild}))]) == []
