"""The experiment on pretraining: its commands, what it makes again, and its table.

Each command is replaced by one that writes the file it is known by; a slow test runs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from jobs.datasets.settings import SampleDataConfig
from jobs.demos.command_runner import Command
from jobs.demos.demo import WORLD
from jobs.demos.pretraining import demo_pretraining
from jobs.demos.pretraining.commands import PIXELS, commands
from jobs.demos.pretraining.conditions import Kind, Policy, policies
from jobs.demos.pretraining.demo_pretraining import run
from jobs.demos.pretraining.result import PolicyResult, read_result, result_path
from jobs.demos.pretraining.settings import DemoPretrainingConfig
from jobs.demos.pretraining.start import STARTS, Start
from jobs.training.settings import TrainConfig
from model.settings import HeadInput, SteeredBy
from pipeline.errors import BuildError, RunError
from tests.jobs.composed import compose_settings
from tests.jobs.demos.recorded_commands import RecordedCommands

SUCCESSES = {Start.SCRATCH: 4, Start.SHUFFLED: 6, Start.PRETRAINED: 12}


class _Commands(RecordedCommands):
    """Replaces `make_result` too: records what is done, and writes the result of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: str = "") -> None:
        super().__init__(lambda command: _content(command.result), stop_at)
        self.evaluated: list[str] = []
        monkeypatch.setattr(demo_pretraining, "run_commands", self.run)
        monkeypatch.setattr(demo_pretraining, "make_result", self.evaluate)

    def evaluate(self, settings: DemoPretrainingConfig, policy: Policy) -> None:
        path = result_path(settings, policy)
        if path.exists():
            return
        self.evaluated.append(policy.name)
        count = SUCCESSES[policy.kind.start] + policy.seed
        result = PolicyResult(tuple(i < count for i in range(16)), 0.875, 0.5 + policy.seed / 8, 0.25)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(result)))


def _content(result: str) -> object:
    if result.endswith("probes.json"):
        return [{"thing": thing, "trained": 0.75, "untrained": 0.125} for thing in ("named_x", "named_y")]
    if result.endswith("held_out.json"):
        found = {"value": 0.5, "low": 0.25, "high": 0.75, "pairs": 8, "groups": 4}
        return {"all": {"latent_action_reliance": {"other_episode": {"all": found}}, "two_alternative": found}}
    return {}


def _settings(out: Path, **changed: Any) -> DemoPretrainingConfig:
    return DemoPretrainingConfig(**{"out": out, "twins": 8, "demonstrations": (50,), **changed})


def _train_config(command: Command) -> TrainConfig:
    return compose_settings("train", TrainConfig, command.words[1:])


def test_the_world_of_the_cases_is_that_of_the_data(tmp_path: Path) -> None:
    data = next(iter(commands(_settings(tmp_path, world_seed=5))))
    made = compose_settings("sample_data", SampleDataConfig, data.words[1:])
    assert made.variety == WORLD
    assert (made.seed, made.twins, made.size) == (5, 8, PIXELS)


def test_the_control_differs_from_pretraining_in_what_steers_it_alone(tmp_path: Path) -> None:
    by_name = {command.name: command for command in commands(_settings(tmp_path, seeds=(3,)))}
    own, control = (_train_config(by_name[f"train-{start}-seed-3"]) for start in ("pretrained", "shuffled"))
    assert own.model.predictor.steered_by is SteeredBy.LATENT_ACTIONS
    assert control.model.predictor.steered_by is SteeredBy.SHUFFLED
    assert own.model.loss.action == control.model.loss.action == 0
    assert own.trainer == control.trainer
    assert own.builds == control.builds == (f"{tmp_path}/builds/all",)
    assert own.model.seed == own.trainer.seed == 3


def test_policies_differ_in_their_start_alone(tmp_path: Path) -> None:
    by_name = {command.name: command for command in commands(_settings(tmp_path, demonstrations=(50, 100)))}
    found = {start: _train_config(by_name[f"train-{start.value}-latent-100-seed-0"]) for start in STARTS}
    assert len({repr((each.model, each.trainer, each.builds)) for each in found.values()}) == 1
    assert {start.value: str(each.init_from and each.init_from.name) for start, each in found.items()} == {
        "scratch": "None",
        "shuffled": "shuffled-seed-0",
        "pretrained": "pretrained-seed-0",
    }
    one = found[Start.SCRATCH]
    assert one.builds == (f"{tmp_path}/builds/100",)
    assert one.model.predictor.steered_by is SteeredBy.LATENT_ACTIONS
    assert one.model.action_head.reads is HeadInput.LATENT
    assert one.model.loss.action > 0
    assert "limit=100" in by_name["preprocess-100"].words
    assert not any(word.startswith("limit=") for word in by_name["preprocess-all"].words)


def test_starts_that_were_not_asked_for_are_not_trained(tmp_path: Path) -> None:
    settings = _settings(tmp_path, starts=(Start.PRETRAINED, Start.SCRATCH))
    names = [command.name for command in commands(settings) if command.words[0] == "train"]
    assert names == ["train-pretrained-seed-0", "train-scratch-latent-50-seed-0", "train-pretrained-latent-50-seed-0"]


def test_all_trainings_have_the_layers_that_were_asked_for(tmp_path: Path) -> None:
    settings = _settings(tmp_path, predictor_layers=3, student_layers=4)
    models = [_train_config(each).model for each in commands(settings) if each.words[0] == "train"]
    assert len(models) == 2 + 3
    assert {(model.predictor.depth, model.backbone.tiny.layers) for model in models} == {(3, 4)}


def test_each_command_needs_what_one_before_it_makes(tmp_path: Path) -> None:
    wanted = list(commands(_settings(tmp_path, seeds=(0, 1), reads=tuple(HeadInput))))
    made: set[str] = set()
    for command in wanted:
        assert made.issuperset(command.needs)
        made.add(command.result)
    assert len({command.name for command in wanted}) == len({command.result for command in wanted}) == len(wanted)
    assert len(list(policies(_settings(tmp_path, seeds=(0, 1), reads=tuple(HeadInput))))) == 2 * 3 * 3


def test_the_table_has_every_condition_and_what_is_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = _Commands(monkeypatch, stop_at="train-pretrained-latent-50-seed-1")
    settings = _settings(tmp_path, seeds=(0, 1))
    with pytest.raises(RunError, match="was stopped before its end"):
        run(settings)
    assert "**Not finished; policies that are missing: 1.**" in (tmp_path / "report.md").read_text()
    rest = _Commands(monkeypatch)
    run(settings)
    assert [command.name for command in rest.ran] == ["train-pretrained-latent-50-seed-1"]
    assert (len(stopped.evaluated), rest.evaluated) == (5, ["pretrained-latent-50-seed-1"])
    report = (tmp_path / "report.md").read_text()
    assert report in capsys.readouterr().out
    assert "Not finished" not in report
    # Wilson's interval of 25 in 32 by hand: (25 + 1.92) / 35.84 +- 1.96 * sqrt(25 * 7 / 32 + 0.96) / 35.84
    row = next(line for line in report.splitlines() if line.startswith("| latent | 50 | pretrained |"))
    assert row.startswith("| latent | 50 | pretrained | 12, 13 | 25/32 = 78.1 % (61.2-89.0) | +50.0 (")
    assert "| +37.5 (" in row
    assert row.endswith("| 0.88, 0.50; 0.88, 0.62 | 0.250, 0.250 |")
    scratch = next(line for line in report.splitlines() if line.startswith("| latent | 50 | scratch |"))
    assert "| 4, 5 | 9/32 = 28.1 %" in scratch
    assert "| - | -12.5 (" in scratch
    assert "| pretrained-seed-1 | 0.500 (0.250-0.750) | 50.0 (25.0-75.0) | 0.75, 0.75 | 0.12, 0.12 |" in report
    stored = json.loads((tmp_path / "results.json").read_text())
    best = next(each for each in stored["policies"] if each["start"] == "pretrained")
    assert (best["success"]["successes"], best["to_scratch"]["value"]) == (25, 0.5)


def test_other_settings_need_another_folder_and_more_seeds_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Commands(monkeypatch)
    run(_settings(tmp_path))
    more = _Commands(monkeypatch)
    run(_settings(tmp_path, seeds=(0, 1), reads=(HeadInput.LATENT, HeadInput.EMBODIED)))
    assert {policy.rsplit("-", 1)[1] for policy in more.evaluated} == {"0", "1"}
    assert len(more.evaluated) == 3 + 6
    with pytest.raises(BuildError, match=r"another experiment: .*steps.*choose another out="):
        run(_settings(tmp_path, steps=7))


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    policy = Policy(Kind(Start.SCRATCH, 50, HeadInput.LATENT), 0)
    assert read_result(result_path(settings, policy)) is None
    path = result_path(settings, policy)
    path.parent.mkdir()
    path.write_text('{"successes": [1]}')
    with pytest.raises(BuildError, match=r"scratch-latent-50-seed-0.json cannot be read.*delete it"):
        read_result(path)


def test_settings_that_make_no_experiment_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="demonstrations must be at most episodes=40"):
        _settings(tmp_path, episodes=40)
    with pytest.raises(ValueError, match="seeds must be different values"):
        _settings(tmp_path, seeds=(1, 1))


@pytest.mark.slow
def test_the_commands_run_at_a_small_size(tmp_path: Path) -> None:
    sizes = ["episodes=20", "twins=8", "demonstrations=[16]", "pretrain_steps=50", "steps=4"]
    command = [sys.executable, "-m", "jobs.cli", "demo-pretraining", f"out={tmp_path / 'out'}", *sizes]
    shown = _output(command)
    report = (tmp_path / "out" / "report.md").read_text()
    assert report in shown
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [each["start"] for each in stored["policies"]] == ["scratch", "shuffled", "pretrained"]
    assert all(each["success"]["episodes"] == 16 for each in stored["policies"])
    again = _output(command)
    assert report in again
    assert "$ vlajepa" not in again


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout
