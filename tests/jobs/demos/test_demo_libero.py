"""The experiment in LIBERO: what it runs, that it continues where it was stopped, and its report.

The commands themselves, and how several are run at a time, have tests of their own; here each is replaced by one that
writes the file it is known by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.demos import demo_libero
from jobs.demos.command_runner import Command
from jobs.demos.demo_libero import commands, run
from jobs.demos.demo_libero_trials import policies, trials
from jobs.demos.settings import DemoLiberoConfig
from pipeline.errors import BuildError, RunError
from tests.jobs.composed import compose_settings


def _config(out: Path, *overrides: str) -> DemoLiberoConfig:
    return compose_settings("demo_libero", DemoLiberoConfig, ["simulator=/sim/python", f"out={out}", *overrides])


def _settings(out: Path, **changed: Any) -> DemoLiberoConfig:
    return DemoLiberoConfig(simulator=Path("/sim/python"), out=out, **changed)


class _Commands:
    """Replaces `run_commands`: records the commands in order, and writes the result of each."""

    def __init__(self, stop_at: str = "") -> None:
        self.ran: list[Command] = []
        self._stop_at = stop_at

    def __call__(
        self, wanted: Sequence[Command], out: Path, at_a_time: int, ended: Callable[[Command, float], None]
    ) -> None:
        for command in wanted:
            if (out / command.result).exists():
                continue
            self.ran.append(command)
            assert all((out / need).exists() for need in command.needs)
            if command.name == self._stop_at:
                raise RunError(f"{command.text} was stopped before its end")
            path = out / command.result
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(_content(command.result)))
            ended(command, 2.5)

    @property
    def names(self) -> list[str]:
        return [command.name for command in self.ran]


def _content(result: str) -> dict[str, Any]:
    if result.endswith("collected.json"):
        return {"tasks": [{"task": 0, "instruction": "pick it up", "successes": 60, "attempts": 64}]}
    if result.endswith("verdict.json"):
        return {"status": "clean"}
    if result.endswith("held_out.json"):
        numbers = {"action": 0.25, "image_reliance": {"same_episode": {"value": 3.0}}, "episodes": 1, "samples": 46}
        return {"libero_scripted": numbers} if "world" not in result else {}
    if result.endswith("build.json"):
        return {}
    successes = {"pretrained-60-seed-0": 16, "pretrained-60-seed-1": 19, "scratch-60-seed-0": 5}
    swapped = {"text": "9/20 = 45.0 % (25.8-65.8)"} if "swap" in result else None
    total = {"successes": successes.get(Path(result).parent.name, 0), "episodes": 20}
    return {"total": total, "swapped_instruction_success": swapped}


def test_every_part_is_run_once_and_the_report_has_what_they_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = _Commands()
    monkeypatch.setattr(demo_libero, "run_commands", parts)
    run(_config(tmp_path))
    expected = (
        "collect preprocess-60 audit-60 train-world-model-seed-0 train-untrained evaluate-untrained "
        "train-state-only evaluate-state-only train-pretrained-60-seed-0 evaluate-pretrained-60-seed-0"
    )
    assert parts.names == expected.split()
    assert [command.words[0] for command in parts.ran] == [name.split("-")[0] for name in parts.names]
    report = (tmp_path / "report.md").read_text()
    assert report in capsys.readouterr().out
    for line in (
        "| untrained | 0 | 1 | 0.2500 | 3.0 | 0/20 = 0.0 % (0.0-16.1) |",
        "| pretrained-60-seed-0 | 60 | 1,000 + 3,000 | 0.2500 | 3.0 | 16/20 = 80.0 % (58.4-91.9) |",
        "| state-only | 60 | 3,000 | 0.2500 | 3.0 | 0/20 = 0.0 % (0.0-16.1) |",
        "Task 0 (pick it up): 60 successes in 64 attempts.",
        "Audit of the largest build: clean.",
        "Action loss and image reliance (that loss with another sample's images, over it) are of held-out "
        "demonstrations (of 60: 46 samples, episodes: 1).",
    ):
        assert line in report.splitlines()
    assert "Not finished" not in report
    assert report.count("| 2 |") == len(parts.ran)
    before = list(parts.ran)
    run(_config(tmp_path))
    assert parts.ran == before


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = _Commands(stop_at="train-pretrained-60-seed-0")
    monkeypatch.setattr(demo_libero, "run_commands", stopped)
    with pytest.raises(RunError, match=r"runs/pretrained-60-seed-0.* was stopped before its end"):
        run(_config(tmp_path))
    assert "**Not finished: 1 of 3 policies are missing.**" in (tmp_path / "report.md").read_text()
    rest = _Commands()
    monkeypatch.setattr(demo_libero, "run_commands", rest)
    run(_config(tmp_path))
    assert rest.names == ["train-pretrained-60-seed-0", "evaluate-pretrained-60-seed-0"]
    assert "Not finished" not in (tmp_path / "report.md").read_text()


def test_a_part_that_was_being_noted_when_the_machine_went_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_libero, "run_commands", _Commands(stop_at="evaluate-untrained"))
    with pytest.raises(RunError):
        run(_config(tmp_path))
    with open(tmp_path / "parts.jsonl", "a") as file:
        file.write('{"command": "vlajepa ev')
    monkeypatch.setattr(demo_libero, "run_commands", _Commands())
    run(_config(tmp_path))
    assert (tmp_path / "report.md").read_text().count("| 2 |") == 10


def test_the_folder_is_written_down_from_the_root_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = _Commands()
    monkeypatch.setattr(demo_libero, "run_commands", parts)
    run(_config(Path("out")))
    assert all(f"out={tmp_path}/out/" in command.text for command in parts.ran if command.words[0] != "audit")


def test_what_the_world_model_is_worth_is_told_of_seeds_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("demonstrations=[15,60]", "seeds=[0,1]", "compare=true")
    monkeypatch.setattr(demo_libero, "run_commands", _Commands(stop_at="evaluate-scratch-60-seed-1"))
    with pytest.raises(RunError):
        run(_config(tmp_path, *words))
    report = (tmp_path / "report.md").read_text().splitlines()
    # Newcombe's interval by hand from the Wilson intervals 0.58398-0.91933 of 16 in 20 and 0.11186-0.46870 of 5 in 20
    row = "| 60 | 16: 16/20 = 80.0 % (58.4-91.9) | 5: 5/20 = 25.0 % (11.2-46.9) | +55.0 (+24.3 to +73.3) |"
    assert row in [line for line in report if line.startswith("| 60 |")]
    monkeypatch.setattr(demo_libero, "run_commands", _Commands())
    run(_config(tmp_path, *words))
    report = (tmp_path / "report.md").read_text().splitlines()
    assert any(line.startswith("| 60 | 16, 19: 35/40 = 87.5 % (") for line in report)
    assert "| 15 | 0, 0: 0/40 = 0.0 % (0.0-8.8) | 0, 0: 0/40 = 0.0 % (0.0-8.8) | +0.0 (-8.8 to +8.8) |" in report


def test_of_several_tasks_the_report_says_what_a_policy_does_when_told_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_libero, "run_commands", _Commands())
    run(_config(tmp_path, "tasks=[0,2]"))
    report = (tmp_path / "report.md").read_text()
    assert report.count("swapped-instruction success") == 1
    assert "| 0/20 = 0.0 % (0.0-16.1); swapped-instruction success: 9/20 = 45.0 % (25.8-65.8) |" in report


def test_other_settings_need_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_libero, "run_commands", _Commands())
    run(_config(tmp_path))
    with pytest.raises(BuildError, match=r"another experiment: .*steps.*choose another out="):
        run(_config(tmp_path, "steps=7"))
    # evaluate's simulators share a batch, whose rows decide the last bits
    with pytest.raises(BuildError, match=r"another experiment: processes was 2, now 1"):
        run(_config(tmp_path, "processes=1"))
    run(_config(tmp_path, "at_a_time=1"))


def test_the_world_model_learns_from_all_demonstrations_without_actions(tmp_path: Path) -> None:
    settings = _settings(tmp_path, demonstrations=(5, 60), compare=True, seeds=(0, 1))
    found = [list(command.words) for command in commands(settings)]
    world = [words for words in found if f"out={tmp_path}/runs/world-model-seed-1" in words]
    assert len(world) == 1
    assert f"builds=[{tmp_path}/builds/60]" in world[0]
    assert "model.loss.action=0" in world[0]
    few = next(words for words in found if f"out={tmp_path}/runs/pretrained-5-seed-1" in words)
    assert f"builds=[{tmp_path}/builds/5]" in few
    assert f"init_from={tmp_path}/runs/world-model-seed-1" in few
    alone = next(words for words in found if f"out={tmp_path}/runs/scratch-5-seed-1" in words)
    assert [word for word in few if word.startswith(("init_from", "fine_tuning"))] == [
        w for w in few if w not in alone
    ][1:]
    limits = {words[-1]: [w for w in words if w.startswith("limit=")] for words in found if words[0] == "preprocess"}
    assert limits == {f"out={tmp_path}/builds/5": ["limit=5"], f"out={tmp_path}/builds/60": []}


def test_policies_and_controls(tmp_path: Path) -> None:
    several = _settings(tmp_path, tasks=(0, 3, 5))
    expected = "untrained state-only pretrained-60-seed-0 pretrained-60-seed-0-swap"
    assert [trial.name for trial in trials(several)] == expected.split()
    sizes = _settings(tmp_path, demonstrations=(5, 15), seeds=(0, 1), compare=True)
    assert len(policies(sizes)) == 2 + 2 * 2 * 2
    assert len({policy.name for policy in policies(sizes)}) == len(policies(sizes))


def test_a_seed_is_whole_before_the_next_begins_and_its_largest_policies_come_first(tmp_path: Path) -> None:
    settings = _settings(tmp_path, demonstrations=(5, 15), seeds=(0, 1), compare=True)
    trained = [c.name.removeprefix("train-") for c in commands(settings) if c.words[0] == "train"]
    expected = (
        "world-model-seed-0 untrained state-only pretrained-15-seed-0 scratch-15-seed-0 pretrained-5-seed-0 "
        "scratch-5-seed-0 world-model-seed-1 pretrained-15-seed-1 scratch-15-seed-1 pretrained-5-seed-1 "
        "scratch-5-seed-1"
    )
    assert trained == expected.split()


def test_what_is_evaluated_was_drawn_like_the_demonstrations(tmp_path: Path) -> None:
    found = [command.words for command in commands(_settings(tmp_path))]
    collect = found[0]
    for words in found:
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
