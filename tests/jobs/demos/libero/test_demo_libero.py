"""The studies in LIBERO: what they run, that they continue where they were stopped, what they predict and report.

The commands themselves, and how several are run at a time, have tests of their own; here each is replaced by one that
writes the file it is known by. A slow test runs them in the simulator, if there is one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.closed_loop.collect.settings import CollectConfig
from jobs.closed_loop.evaluate.settings import EvaluateConfig
from jobs.command_line.hydra_application import offer_manifests
from jobs.demos.command_runner import Command
from jobs.demos.libero import demo_libero, demo_libero_pretraining, study
from jobs.demos.libero.parts import Part
from jobs.demos.libero.prediction import COSTS, Timed, predicted
from jobs.demos.libero.settings import DemoLiberoConfig, DemoLiberoPretrainingConfig
from jobs.demos.pretraining.start import Start
from jobs.preprocess.settings import BuildConfig
from jobs.simulator.perturb.axes import AXES
from jobs.training.settings import TrainConfig
from model.settings import HeadInput, SteeredBy
from pipeline.errors import BuildError, RunError
from tests.jobs.composed import compose_settings
from tests.jobs.demos.recorded_commands import RecordedCommands

SIMULATOR = os.environ.get("VLAJEPA_SIMULATOR")
TWO = {"tasks": (0, 1), "episodes": 4}


def _one(out: Path, **changed: Any) -> DemoLiberoConfig:
    return DemoLiberoConfig(**{"simulator": Path("/sim/python"), "out": out, **TWO, **changed})


def _few(out: Path, **changed: Any) -> DemoLiberoPretrainingConfig:
    return DemoLiberoPretrainingConfig(**{"simulator": Path("/sim/python"), "out": out, **TWO, **changed})


class _Commands(RecordedCommands):
    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: str = "") -> None:
        super().__init__(_content, stop_at)
        monkeypatch.setattr(study, "run_commands", self.run)


def _content(command: Command) -> object:
    if command.words[0] == "evaluate":
        return _results(command)
    if command.words[0] == "probe-latents":
        return [{"thing": thing, "trained": 0.75, "untrained": 0.125} for thing in ("named_x", "named_y")]
    found = {"value": 1.5, "low": 1.25, "high": 1.75, "pairs": 8, "groups": 4}
    numbers = {"model": 0.5, "nothing_changes": 0.75, "action": 0.25}
    return {"libero_scripted": {**numbers, "latent_action_reliance": {"other_episode": {"all": found}}}}


def _results(command: Command) -> dict[str, Any]:
    """Of each task, the first start states are done: all by the script, of policies most of the pretrained one."""
    words = dict(word.split("=", 1) for word in command.words[1:])
    name = command.name
    if "script" in name:
        done = 4
    elif "swap" in name or "scratch" in name:
        done = 0
    else:
        done = 3 if name.endswith(("seed-0", "seed-1")) else 1
    tasks, episodes = json.loads(words["tasks"]), int(words["episodes"])
    played = [{"task": t, "start": i, "success": i < done} for t in tasks for i in range(episodes)]
    return {
        "tasks": [{"task": task, "instruction": f"pick up thing {task}"} for task in tasks],
        "episodes": played,
        "swapped_instruction_success": {"text": "1/4 = 25.0 % (4.6-69.9)"} if "swap" in words else None,
    }


def _composed(parts: Iterator[Part], settings: Any, name: str, cls: type[Any]) -> dict[str, Any]:
    """The settings of all commands of a kind, by the part's name."""
    words = {p.command.name: p.command.words for p in parts if p.command.words[0] == name}
    if name == "preprocess":
        offer_manifests("libero_scripted")
    return {each: compose_settings(settings, cls, own[1:]) for each, own in words.items()}


@pytest.mark.parametrize("make", [_one, _few])
def test_every_command_is_one_that_can_be_typed_and_needs_what_one_before_it_makes(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    settings = make(tmp_path, seeds=(0, 1), **({"perturb": True} if make is _one else {}))
    module = demo_libero if make is _one else demo_libero_pretraining
    parts = list(module.parts(settings))
    made: set[str] = set()
    for part in parts:
        assert made.issuperset(part.command.needs)
        made.add(part.command.result)
    assert len({part.command.name for part in parts}) == len(made) == len(parts)
    assert {part.kind for part in parts} == COSTS.keys()
    _composed(iter(parts), "collect", "collect", CollectConfig)
    _composed(iter(parts), "preprocess", "preprocess", BuildConfig)
    evaluations = _composed(iter(parts), "evaluate", "evaluate", EvaluateConfig)
    assert all((each.pixels, each.shadows, each.episodes) == (96, False, 4) for each in evaluations.values())


def test_what_a_world_model_and_its_measures_are(tmp_path: Path) -> None:
    found = _composed(demo_libero.parts(_one(tmp_path, seeds=(3,))), "train", "train", TrainConfig)
    own, motion, words = (found[f"train-{name}-seed-3"] for name in ("world-model", "true_motion", "words"))
    assert own.model.world_model_cameras == ("agentview",)
    assert own.model.student_cameras == ()
    assert (own.model.predictor.views, own.model.predictor.depth) == (1, 1)
    assert (own.model.loss.action, own.trainer.batch_size) == (0, 16)
    assert (motion.model.predictor.steered_by, words.model.predictor.steered_by) == (
        SteeredBy.TRUE_MOTION,
        SteeredBy.WORDS,
    )
    assert own.trainer == motion.trainer == words.trainer
    assert own.builds == motion.builds == words.builds == (f"{tmp_path}/builds/first-frames",)
    policy = found["train-policy-seed-3"]
    assert policy.init_from == tmp_path / "runs" / "world-model-seed-3"
    assert policy.builds == (f"{tmp_path}/builds/every-frame",)
    assert policy.model.action_head.reads is HeadInput.LATENT
    assert policy.model.seed == policy.trainer.seed == 3
    builds = _composed(demo_libero.parts(_one(tmp_path)), "preprocess", "preprocess", BuildConfig)
    assert builds["preprocess-first-frames"].window.every > 10_000
    assert builds["preprocess-every-frame"].window.every == 1


def test_policies_of_the_new_task_differ_in_their_start_alone(tmp_path: Path) -> None:
    settings = _few(tmp_path, tasks=(0, 2, 5), new_task=2, demonstrations=(5, 10))
    parts = list(demo_libero_pretraining.parts(settings))
    found = _composed(iter(parts), "train", "train", TrainConfig)
    policies = {start: found[f"train-{start.value}-latent-5-seed-0"] for start in Start}
    assert len({(each.model, each.builds, each.trainer.lr_backbone) for each in policies.values()}) == 1
    steps = {start: each.trainer.steps for start, each in policies.items()}
    assert steps.pop(Start.SCRATCH) == settings.steps + settings.pretrain_steps
    assert set(steps.values()) == {settings.steps}
    assert policies[Start.SCRATCH].init_from is None
    worlds = {start: found[f"train-{start.value}-seed-0"] for start in Start if start is not Start.SCRATCH}
    assert all(policies[start].init_from == tmp_path / "runs" / f"{start.value}-seed-0" for start in worlds)
    assert len({(each.trainer, each.builds) for each in worlds.values()}) == 1
    told = {
        s: (w.model.predictor.steered_by.value, w.model.loss.other_targets, w.model.loss.action)
        for s, w in worlds.items()
    }
    assert told == {
        Start.PRETRAINED: ("latent_actions", False, 0),
        Start.SHUFFLED: ("shuffled", False, 0),
        Start.OTHER_TARGETS: ("latent_actions", True, 0),
        Start.CLONED: ("latent_actions", False, 1),
    }
    assert worlds[Start.CLONED].model.loss.world_model_on_robot == 0
    collects = _composed(iter(parts), "collect", "collect", CollectConfig)
    assert {name: (each.task, each.episodes) for name, each in collects.items()} == {
        "collect-other-tasks": ((0, 5), 60),
        "collect-new-task": ((2,), 10),
    }
    evaluations = _composed(iter(parts), "evaluate", "evaluate", EvaluateConfig)
    assert {each.tasks for each in evaluations.values()} == {(2,)}
    builds = _composed(iter(parts), "preprocess", "preprocess", BuildConfig)
    assert {name: each.limit for name, each in builds.items()} == {
        "preprocess-other-tasks": None,
        "preprocess-new-task-5": 5,
        "preprocess-new-task-10": 10,
    }


def test_one_policy_is_reported_beside_the_script_its_controls_and_perturbations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = _Commands(monkeypatch, stop_at="evaluate-policy-seed-0-swap")
    with pytest.raises(RunError, match="was stopped before its end"):
        demo_libero.run(_one(tmp_path))
    first = "collect-all preprocess-first-frames audit-first-frames preprocess-every-frame audit-every-frame"
    assert stopped.names[:5] == first.split(" ")
    assert "| policy-seed-0 | 6/8 = 75.0 % (40.9-92.9) | - |" in (tmp_path / "report.md").read_text()
    rest = _Commands(monkeypatch)
    capsys.readouterr()
    demo_libero.run(_one(tmp_path))
    assert rest.names == ["evaluate-policy-seed-0-swap"]
    shown = capsys.readouterr().out
    report = (tmp_path / "report.md").read_text()
    assert report in shown
    assert shown.startswith("13 parts, complete: 12.\nPredicted for the rest: ")
    for line in (
        "| world-model-seed-0 | 0.5000 | 0.7500 | 1.500 (1.250-1.750) | 0.75, 0.75 | 0.12, 0.12 |",
        "| true_motion-seed-0 | 0.5000 | 0.7500 | 1.500 (1.250-1.750) | - | - |",
        "| script | 8/8 = 100.0 % (67.6-100.0) | - |",
        "| policy-seed-0-swap | 0/8 = 0.0 % (0.0-32.4) | 1/4 = 25.0 % (4.6-69.9) |",
        "| 1: pick up thing 1 | 4/4 | 3/4 | 0/4 |",
    ):
        assert line in report.splitlines()
    assert report.count("| 2.5 s |") == 13
    more = _Commands(monkeypatch)
    demo_libero.run(_one(tmp_path, perturb=True))
    assert more.names == [f"evaluate-policy-seed-0-{axis}-3" for axis in AXES]
    report = (tmp_path / "report.md").read_text()
    # One success of four in place of three in both tasks: of 4000 draws of eight starts
    assert report.count("| 2/8 = 25.0 % (7.1-59.1) | 6/8 = 75.0 % (40.9-92.9) | -50.0 (") == len(AXES)


def test_few_demonstrations_are_reported_with_paired_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _Commands(monkeypatch)
    settings = _few(tmp_path, seeds=(0, 1), demonstrations=(5,))
    demo_libero_pretraining.run(settings)
    report = (tmp_path / "report.md").read_text().splitlines()
    assert "| 5 | pretrained | 3, 3 | 6/8 = 75.0 % (40.9-92.9) | 0.2500, 0.2500 | - |" in report
    row = next(line for line in report if line.startswith("| 5 | scratch | 0, 0 | 0/8 = 0.0 % (0.0-32.4) |"))
    assert "| +75.0 (" in row
    assert any(line.startswith("| 5 | cloned |") and "| +0.0 " in line for line in report)
    assert "| shuffled-seed-1 | 0.5000 | 0.7500 | 1.500 (1.250-1.750) | - | - |" in report
    assert "| pretrained-seed-1 | 0.5000 | 0.7500 | 1.500 (1.250-1.750) | 0.75, 0.75 | 0.12, 0.12 |" in report
    before = list(done.ran)
    demo_libero_pretraining.run(settings)
    assert done.ran == before


def test_other_settings_need_another_folder_and_more_seeds_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Commands(monkeypatch)
    demo_libero.run(_one(tmp_path))
    more = _Commands(monkeypatch)
    demo_libero.run(_one(tmp_path, seeds=(0, 1), at_a_time=1))
    assert all("seed-1" in name for name in more.names)
    for changed, words in (({"steps": 7}, "steps"), ({"processes": 2}, "processes was 1, now 2")):
        with pytest.raises(BuildError, match=rf"another experiment: .*{words}.*choose another out="):
            demo_libero.run(_one(tmp_path, **changed))


def test_a_part_that_was_being_noted_when_the_machine_went_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Commands(monkeypatch, stop_at="evaluate-script")
    with pytest.raises(RunError):
        demo_libero.run(_one(tmp_path))
    with open(tmp_path / "parts.jsonl", "a") as file:
        file.write('{"command": "vlajepa ev')
    _Commands(monkeypatch)
    demo_libero.run(_one(tmp_path))
    assert (tmp_path / "report.md").read_text().count("| 2.5 s |") == 13


def test_what_was_measured_here_predicts_what_is_left() -> None:
    elsewhere = COSTS["policy"].start + 100 * COSTS["policy"].each
    assert predicted("policy", 100) == elsewhere
    done = [Timed("a", "policy", 100, 2 * elsewhere), Timed("b", "audit", 1, 1000.0)]
    assert predicted("policy", 100, done) == pytest.approx(2 * elsewhere)
    assert predicted("policy", 300, done) == pytest.approx(2 * (elsewhere + 200 * COSTS["policy"].each))
    assert predicted("collect", 5, done) == predicted("collect", 5)


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (_one, {"tasks": ()}, "tasks must be different numbers, at least one"),
        (_one, {"seeds": (1, 1)}, "seeds must be different numbers"),
        (_one, {"steps": 0}, "steps must be at least 1, got 0"),
        (_few, {"demonstrations": (5, 5)}, "demonstrations must be different numbers"),
        (_few, {"new_task": 7}, r"tasks must hold new_task=7 and another one, got \[0, 1\]"),
        (_few, {"tasks": (0,)}, r"tasks must hold new_task=0 and another one, got \[0\]"),
        (_few, {"seeds": (1, 1)}, "seeds must be different numbers"),
    ],
)
def test_settings_that_cannot_be(
    make: Callable[..., Any], changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **changed)


@pytest.mark.slow
@pytest.mark.skipif(SIMULATOR is None, reason="VLAJEPA_SIMULATOR names no Python that LIBERO is installed in")
@pytest.mark.parametrize(
    ("command", "sizes"),
    [
        ("demo-libero", "demonstrations=12"),
        ("demo-libero-pretraining", "pretraining_demonstrations=24 demonstrations=[4]"),
    ],
)
def test_the_studies_run_at_a_small_size(command: str, sizes: str, tmp_path: Path) -> None:
    small = f"tasks=[0,1] episodes=1 pretrain_steps=50 steps=2 {sizes}".split()
    words = [sys.executable, "-m", "jobs.cli", command, f"simulator={SIMULATOR}", f"out={tmp_path / 'out'}", *small]
    shown = _output(words)
    report = (tmp_path / "out" / "report.md").read_text()
    assert report in shown
    again = _output(words)
    assert "$ vlajepa" not in again


def _output(words: Sequence[str]) -> str:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout
