"""`vlajepa evaluate` with a world of one point in the simulator's place."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import jobs.closed_loop.evaluate.evaluate
from jobs.closed_loop.actors import EnvironmentState
from jobs.closed_loop.evaluate.evaluate import evaluate
from jobs.closed_loop.evaluate.settings import EvaluateConfig
from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.processes.signals import ended_like_interrupted
from jobs.datasets.contract.build_contract import interface_of
from model.checkpoint.checkpoint import save_weights
from model.checkpoint.vouched import VOUCHED
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.format.build import Build
from tests.jobs.closed_loop.checkpoints import untrained
from tests.jobs.closed_loop.fake_simulator import FakeSimulator
from tests.jobs.serving.fakes import running


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "Simulator", FakeSimulator)


def config(out: Path, **changes: Any) -> EvaluateConfig:
    base = EvaluateConfig(
        policy="script", simulator=Path("python"), suite="libero_object", out=out, episodes=3, tasks=(0, 2), videos=0
    )
    return replace(base, **changes)


def test_results_say_what_was_played(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path, videos=1, max_steps=7))
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert [(t["task"], t["successes"], t["episodes"]) for t in results["tasks"]] == [(0, 3, 3), (2, 3, 3)]
    assert results["total"]["text"] == "6/6 = 100.0 % (61.0-100.0)"
    text = (tmp_path / "results.md").read_text()
    assert "| reach place 2 | 3/3 | 100.0 | 43.9-100.0 |" in text
    assert "OpenVLA-OFT" in text
    assert len(report.outcomes) == 6
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["task-00-start-000-success.mp4", "task-02-start-000-success.mp4"]


def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    evaluate(config(tmp_path / "once", episodes=5))
    evaluate(config(tmp_path / "twice", episodes=2))
    first = (tmp_path / "twice" / "episodes.jsonl").read_bytes()
    evaluate(config(tmp_path / "twice", episodes=5))
    assert (tmp_path / "twice" / "episodes.jsonl").read_bytes().startswith(first)
    assert _episodes(tmp_path / "once") == _episodes(tmp_path / "twice")


def _episodes(out: Path) -> list[dict[str, Any]]:
    episodes = json.loads((out / "results.json").read_bytes())["episodes"]
    return [{key: value for key, value in episode.items() if key != "seconds"} for episode in episodes]


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    evaluate(config(tmp_path))
    with pytest.raises(BuildError, match=r"another evaluation: seed was 0, now 1; choose another out="):
        evaluate(config(tmp_path, seed=1))


def test_a_checkpoint_plays_deterministically(robot_build: Build, tmp_path: Path) -> None:
    checkpoint = untrained(tmp_path / "step-00000000", robot_build)
    asked = config(tmp_path / "a", policy=str(checkpoint), hold=2, max_steps=28, device="cpu", execute=4)
    evaluate(asked)
    evaluate(replace(asked, out=tmp_path / "b"))
    assert _episodes(tmp_path / "a") == _episodes(tmp_path / "b")
    written = json.loads((tmp_path / "a" / "evaluation.json").read_bytes())
    assert written["cameras"] == {"front": "agentview", "wrist": "robot0_eye_in_hand"}
    assert written["hold"] == 2


def test_a_served_policy_with_a_password_and_another_one_in_its_place(robot_build: Build, tmp_path: Path) -> None:
    checkpoint = untrained(tmp_path / "step-00000000", robot_build)
    policy = CheckpointPolicy(checkpoint, "cpu")
    asked = config(tmp_path / "here", policy=str(checkpoint), hold=2, max_steps=14, device="cpu")
    identity = {"interface": asdict(policy.interface), "checkpoint": "run/first", "step": 7}
    with running(policy, identity=identity, api_key="sesame") as server:
        port = server.port
        served = replace(asked, out=tmp_path / "served", policy=server.address, api_key="sesame")
        evaluate(served)
        with pytest.raises(RunError, match="401"):
            evaluate(replace(served, out=tmp_path / "refused", api_key=None))
    written = json.loads((tmp_path / "served" / "evaluation.json").read_bytes())
    assert (written["checkpoint"], written["step"]) == ("run/first", 7)
    with (
        running(policy, port, {**identity, "step": 8}, api_key="sesame"),
        pytest.raises(BuildError, match="another evaluation: step was 7, now 8; choose another out="),
    ):
        evaluate(served)
    evaluate(asked)
    assert _episodes(tmp_path / "served") == _episodes(tmp_path / "here")
    assert "sesame" not in "".join(path.read_text() for path in (tmp_path / "served").glob("*.json*"))


def test_a_delay_changes_what_is_played_and_is_written_down(robot_build: Build, tmp_path: Path) -> None:
    checkpoint = untrained(tmp_path / "step-00000000", robot_build)
    asked = config(tmp_path / "a", policy=str(checkpoint), hold=2, max_steps=28, device="cpu", execute=2, tasks=(0,))
    acted: dict[int, list[NDArray[np.float32]]] = {}
    for delay in (0, 1, 2):
        simulator = FakeSimulator()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(jobs.closed_loop.evaluate.evaluate, "Simulator", lambda *_, one=simulator: one)
            evaluate(replace(asked, out=tmp_path / str(delay), delay=delay, environments=1, episodes=1))
        acted[delay] = [arguments["actions"] for do, arguments in simulator.requests if do == "act"]
        written = json.loads((tmp_path / str(delay) / "evaluation.json").read_bytes())
        assert written["delay"] == delay
    for delay in (1, 2):
        np.testing.assert_array_equal(acted[0][0], acted[delay][0])  # the first chunk of an episode is waited for
        assert not np.array_equal(acted[0][1], acted[delay][1])
    with pytest.raises(SettingsError, match="delay=4 needs chunks that are not averaged"):
        evaluate(replace(asked, delay=4))


def test_a_policy_of_another_robot_or_other_data_is_refused(robot_build: Build, tmp_path: Path) -> None:
    robot = asdict(interface_of(robot_build.manifest))
    angles = [
        {"names": ["x", "y", "z"], "units": "metres", "meaning": ""},
        {"names": ["roll", "pitch", "yaw"], "units": "radians", "meaning": ""},
        {"names": ["finger_left", "finger_right"], "units": "metres", "meaning": ""},
    ]
    other = untrained(tmp_path / "angles" / "step-00000000", robot_build, robot={**robot, "state_channels": angles})
    turned = untrained(tmp_path / "turned" / "step-00000000", robot_build, robot={**robot, "views": ["wrist", "front"]})
    asked = config(tmp_path / "out", hold=2, max_steps=2, device="cpu")
    with pytest.raises(SettingsError, match=r"does not fit libero_object: state\[3\] is roll .*, expected ax \(rad"):
        evaluate(replace(asked, policy=str(other)))
    with pytest.raises(SettingsError, match="wrist would see what agentview shows; say which is which with cameras="):
        evaluate(replace(asked, policy=str(turned)))
    evaluate(replace(asked, policy=str(turned), cameras={"wrist": "robot0_eye_in_hand", "front": "agentview"}))


def test_the_build_that_a_policy_should_be_of_is_compared(
    robot_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = asdict(interface_of(robot_build.manifest))
    model = untrained(tmp_path / "step-00000000", robot_build, robot=robot)
    asked = config(tmp_path / "out", policy=str(model), hold=2, max_steps=2, device="cpu", tasks=(0,), episodes=1)
    evaluate(asked)
    assert "note: the policy does not say what its state holds; " in capsys.readouterr().out
    evaluate(replace(asked, expects=robot_build.path))  # the same folder: it decides no episode
    shifted = CheckpointPolicy(model, "cpu")
    shifted.model.action_scaler.center += 0.01  # type: ignore[union-attr, operator]
    other = tmp_path / "other" / "step-00000000"
    state = json.loads((model / "state.json").read_bytes())
    save_weights(other, shifted.model, {name: state[name] for name in ("model", "model_sizes", "robot", VOUCHED)})
    with pytest.raises(SettingsError, match=r"does not fit libero_object: statistics are .*the ranges of other data"):
        evaluate(replace(asked, policy=str(other), out=tmp_path / "x", expects=robot_build.path))


def test_a_rate_that_does_not_divide_the_simulators_is_refused(robot_build: Build, tmp_path: Path) -> None:
    checkpoint = untrained(tmp_path / "step-00000000", robot_build)
    with pytest.raises(SettingsError, match=r"12 frames a second, which does not divide 20; give hold="):
        evaluate(config(tmp_path / "out", policy=str(checkpoint), device="cpu"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_the_simulators_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    class Stopped(jobs.closed_loop.evaluate.evaluate.ScriptActor):
        def act(self, envs: Any) -> Any:
            if any(env is not None and env.instruction == "reach place 2" for env in envs):
                os.kill(os.getpid(), number)
            return super().act(envs)

    closed: list[FakeSimulator] = []
    monkeypatch.setattr(FakeSimulator, "close", lambda self: closed.append(self))
    before = signal.signal(number, signal.SIG_DFL)  # ignored where the tests run under nohup
    with monkeypatch.context() as patch:
        patch.setattr(jobs.closed_loop.evaluate.evaluate, "ScriptActor", Stopped)
        with pytest.raises(KeyboardInterrupt), ended_like_interrupted():  # as every command runs
            evaluate(config(tmp_path))
    assert signal.signal(number, before) is signal.SIG_DFL
    assert len(closed) == 2
    assert not (tmp_path / "lock").exists()
    assert len(evaluate(config(tmp_path)).outcomes) == 6


def test_swapped_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instructions: list[str] = []

    class Listener(jobs.closed_loop.evaluate.evaluate.ScriptActor):
        def act(self, envs: Any) -> Any:
            instructions.extend(m.instruction for m in envs if m is not None)
            return super().act(envs)

    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "ScriptActor", Listener)
    evaluate(config(tmp_path, episodes=1, swap=True))
    assert list(dict.fromkeys(instructions)) == ["reach place 2", "reach place 0"]
    assert "Control: each task has the next one's instruction." in (tmp_path / "results.md").read_text()


def test_whether_the_swapped_instruction_was_done(tmp_path: Path) -> None:
    """Task 0 is done before it comes to where task 2 would be; on the way of task 2 it passes what task 1 would be."""
    evaluate(config(tmp_path, tasks=(0, 2, 1), episodes=2, swap=True))
    results = json.loads((tmp_path / "results.json").read_bytes())
    found = {
        episode["task"]: (episode["success"], episode["swapped_instruction_success"]) for episode in results["episodes"]
    }
    assert found == {0: (True, False), 2: (False, True), 1: (True, None)}
    assert results["swapped_instruction_success"]["text"] == "2/4 = 50.0 % (15.0-85.0)"
    text = (tmp_path / "results.md").read_text()
    assert "Swapped-instruction success, where the scene allows it: 2/4 = 50.0 % (15.0-85.0)" in text


def test_nothing_is_reported_without_swapped_instructions(tmp_path: Path) -> None:
    evaluate(config(tmp_path))
    assert json.loads((tmp_path / "results.json").read_bytes())["swapped_instruction_success"] is None
    assert "Swapped-instruction" not in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": (0, 7)}, r"tasks 0\.\.2, got 7"),
        ({"episodes": 51}, r"at most 50, the start states of task 0, got 51"),
        ({"first_start": 48}, r"at most 50, the start states of task 0, got 51"),
    ],
)
def test_what_the_suite_does_not_have_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        evaluate(config(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, r"episodes must be null or at least 1"),
        ({"level": 6}, r"level must be 1\.\.5"),
        ({"perturb": "sound"}, r"perturb must be null or one of camera, .*layout, got 'sound'"),
        ({"tasks": (1, 1)}, r"different indices"),
        ({"tasks": (1,), "swap": True}, r"swap needs at least two tasks"),
        ({"pixels": 8}, r"pixels must be 32"),
    ],
)
def test_settings_are_checked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


class SimplerFake(FakeSimulator):
    """The same world as one of SimplerEnv's."""

    def _tasks(self, suite: str) -> dict[str, Any]:
        answer = super()._tasks(suite)
        rows = [{**row, "starts": 3 + i, "limit": 20 + i} for i, row in enumerate(answer["tasks"])]
        return {**answer, "benchmark": "simpler_env", "control_hz": 5, "tasks": rows}


@pytest.mark.parametrize("changes", [{}, {"policy": "ws://x", "perturb": "camera"}])
def test_the_script_and_perturbations_are_for_libero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "Simulator", SimplerFake)
    with pytest.raises(SettingsError, match="for LIBERO; widowx_visual_matching is of another simulator"):
        evaluate(config(tmp_path, suite="widowx_visual_matching", **changes))


def test_another_benchmark_has_limits_starts_and_published_figures_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "Simulator", SimplerFake)
    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "_make_actor", lambda *_: (_Still(), {"policy": "still"}))
    report = evaluate(config(tmp_path, policy="ws://still", suite="widowx_visual_matching", episodes=None, tasks=None))
    assert {(o.task, o.start, o.steps) for o in report.outcomes} == {
        (task, start, 20 + task) for task in range(3) for start in range(3 + task)
    }
    text = (tmp_path / "results.md").read_text()
    assert "| VLA-JEPA | 57.3 |" in text
    assert "OpenVLA-OFT" not in text


def test_tasks_of_one_instruction_are_told_apart_by_their_names() -> None:
    rows = [{"instruction": "pick can", "name": "a"}, {"instruction": "open", "name": "b"}]
    tasks = {0: rows[0], 3: rows[1], 5: {**rows[0], "name": "c"}}
    found = jobs.closed_loop.evaluate.evaluate._labels(tasks)
    assert found == {0: "pick can (a)", 3: "open", 5: "pick can (c)"}


class _Still:
    def act(self, envs: Sequence[EnvironmentState | None]) -> list[NDArray[np.float32] | None]:
        return [None if env is None else np.zeros((2, 7), np.float32) for env in envs]


def test_other_weights_under_the_same_name_are_another_evaluation(
    robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.closed_loop.evaluate.evaluate, "Simulator", FakeSimulator)
    checkpoint = untrained(tmp_path / "step-00000000", robot_build)
    settings = config(tmp_path / "a", policy=str(checkpoint), hold=2, max_steps=14, device="cpu", episodes=1)
    evaluate(settings)
    shutil.rmtree(checkpoint)
    untrained(checkpoint, robot_build, trainer={"lr": 2})  # trained again, with another learning rate
    with pytest.raises(BuildError, match="another evaluation: sha256"):
        evaluate(replace(settings, episodes=2))
