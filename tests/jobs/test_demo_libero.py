"""The experiment in LIBERO: what it runs, that it goes on where it was stopped, and its report.

The commands themselves have tests of their own; here each is replaced by one that writes the file it is known by.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from jobs import demo_libero
from jobs.cli import CONFIGS
from jobs.demo import Step
from jobs.demo_libero import parts, policies, run, trials
from jobs.settings import DemoLiberoConfig
from pipeline.errors import BuildError, RunError


def _config(out: Path, *overrides: str) -> Any:
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        return compose("demo_libero", overrides=["simulator=/sim/python", f"out={out}", *overrides])


def _settings(out: Path, **changed: Any) -> DemoLiberoConfig:
    return DemoLiberoConfig(simulator=Path("/sim/python"), out=out, **changed)


class _Commands:
    """Stands in for the commands: remembers them and writes what they would be known by."""

    def __init__(self, settings: DemoLiberoConfig, stop_at: str = "") -> None:
        self.ran: list[str] = []
        self._settings, self._stop_at = settings, stop_at

    def __call__(self, step: Step) -> Step:
        self.ran.append(step.text)
        part = next(part for part in parts(self._settings) if part.words == step.words)
        if self._stop_at and self._stop_at in part.result:
            return step
        path = self._settings.out / part.result
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_content(part.result)))
        return Step(step.words, 2.5)


def _content(result: str) -> dict[str, Any]:
    if result.endswith("collected.json"):
        return {"tasks": [{"task": 0, "instruction": "pick it up", "successes": 60, "tries": 64}]}
    if result.endswith("verdict.json"):
        return {"status": "clean"}
    name = Path(result).parent.name
    return {"total": {"text": f"numbers of {name}", "successes": 1, "episodes": 2}}


def test_every_part_is_run_once_and_the_report_has_what_they_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = _Commands(_settings(tmp_path))
    monkeypatch.setattr(demo_libero, "run_step", commands)
    run(_config(tmp_path))
    assert [shlex.split(text)[1] for text in commands.ran] == [
        "collect", "preprocess", "audit", "train", "train", "train", "train", "evaluate", "evaluate", "evaluate",
    ]  # fmt: skip
    report = (tmp_path / "report.md").read_text()
    assert report in capsys.readouterr().out
    for line in (
        "| untrained | 0 | 1 | numbers of untrained |",
        "| pretrained-60-seed-0 | 60 | 1,000 + 3,000 | numbers of pretrained-60-seed-0 |",
        "| state-only | 60 | 3,000 | numbers of state-only |",
        "Task 0 (pick it up): 60 successes in 64 tries.",
        "Audit of the largest build: clean.",
    ):
        assert line in report.splitlines()
    assert report.count("| 2 |") == len(commands.ran)
    before = list(commands.ran)
    run(_config(tmp_path))
    assert commands.ran == before


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(tmp_path)
    stopped = _Commands(settings, stop_at="runs/pretrained-60-seed-0")
    monkeypatch.setattr(demo_libero, "run_step", stopped)
    with pytest.raises(RunError, match=r"out=.*runs/pretrained-60-seed-0.* was stopped before its end"):
        run(_config(tmp_path))
    rest = _Commands(settings)
    monkeypatch.setattr(demo_libero, "run_step", rest)
    run(_config(tmp_path))
    assert rest.ran[0] == stopped.ran[-1]
    assert len(stopped.ran) + len(rest.ran) == len(list(parts(settings))) + 1


def test_other_settings_need_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_libero, "run_step", _Commands(_settings(tmp_path)))
    run(_config(tmp_path))
    with pytest.raises(BuildError, match=r"another experiment: .*steps.*choose another out="):
        run(_config(tmp_path, "steps=7"))
    run(_config(tmp_path, "processes=1"))


def test_the_world_model_learns_from_all_demonstrations_without_actions(tmp_path: Path) -> None:
    settings = _settings(tmp_path, demonstrations=(5, 60), compare=True, seeds=(0, 1))
    commands = [list(part.words) for part in parts(settings)]
    world = [words for words in commands if f"out={tmp_path}/runs/world-model-seed-1" in words]
    assert len(world) == 1
    assert f"builds=[{tmp_path}/builds/60]" in world[0]
    assert "model.loss.action=0" in world[0]
    few = next(words for words in commands if f"out={tmp_path}/runs/pretrained-5-seed-1" in words)
    assert f"builds=[{tmp_path}/builds/5]" in few
    assert f"init_from={tmp_path}/runs/world-model-seed-1" in few
    alone = next(words for words in commands if f"out={tmp_path}/runs/scratch-5-seed-1" in words)
    assert [word for word in few if word.startswith(("init_from", "fine_tuning"))] == [
        w for w in few if w not in alone
    ][1:]
    limits = {words[-1]: [w for w in words if w.startswith("limit=")] for words in commands if words[0] == "preprocess"}
    assert limits == {f"out={tmp_path}/builds/5": ["limit=5"], f"out={tmp_path}/builds/60": []}


def test_policies_and_controls(tmp_path: Path) -> None:
    several = _settings(tmp_path, tasks=(0, 3, 5))
    assert [trial.name for trial in trials(several)] == [
        "untrained", "state-only", "pretrained-60-seed-0", "pretrained-60-seed-0-swap",
    ]  # fmt: skip
    sizes = _settings(tmp_path, demonstrations=(5, 15), seeds=(0, 1), compare=True)
    assert len(policies(sizes)) == 2 + 2 * 2 * 2
    assert len({policy.name for policy in policies(sizes)}) == len(policies(sizes))


def test_what_is_evaluated_was_drawn_like_the_demonstrations(tmp_path: Path) -> None:
    commands = [part.words for part in parts(_settings(tmp_path))]
    collect = commands[0]
    for words in commands:
        if words[0] == "evaluate":
            assert {"pixels=96", "shadows=false"} <= set(words) & set(collect)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tasks": ()}, "tasks must be different numbers, at least one"),
        ({"seeds": (1, 1)}, "seeds must be different numbers"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        (
            {"tasks": (0, 1), "demonstrations": (5, 60)},
            "demonstrations must be one number where there are several tasks",
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _settings(tmp_path, **changed)
