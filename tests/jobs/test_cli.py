"""Every command as a Hydra application: help, configuration, exit codes, errors that name key, limit and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli import main
from jobs.command_line.commands import COMMANDS
from pipeline.format.build import Build
from tests.conftest import SampleData


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    try:
        main(words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    assert run(capsys)[0] == 2
    code, _, err = run(capsys, "prepare")
    assert code == 2
    assert "no command 'prepare'; did you mean preprocess?; there are sources, inspect, plan, preprocess" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_hydra_application(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = ["out=/o", "builds=[/b]"] if command == "train" else []
    code, config, _ = run(capsys, command, *values, "--cfg", "job")
    assert code == 0
    first = {
        "audit": "build: ''",
        "verify": "build: ???",
        "status": "build: ???",
        "serve": "policy: ???",
        "probe": "function: ???",
        "sources": "name: null",
    }
    assert first.get(command, "out: ") in config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["plan", "window.intervall=2"], ["window.intervall=2", "allowed here: steps, interval"]),
        (["plan", "source=sssv2"], ["source=sssv2", "droid", "lerobot", "ssv2"]),
        (["plan", "source.root=/x"], ["out is not set", "give out=", "folder of the build, or its URL"]),
        (["plan", "out=/x", "source.root=/x", "window.interval=0"], ["interval must be at least 1, got 0", "window"]),
        (
            ["plan", "out=/x", "source.root=/x", "window.interval=two"],
            ["window.interval='two'", "source frames between two sampled frames"],
        ),
        (
            ["plan", "out=/x", "source.root=/x", "encoder.mode=full"],
            ["one of prefix, tubelet, clip, got 'full'", "z_k from the tubelets"],
        ),
        (["plan", "out=/x", "source.root=/x", "splits=[train,test]"], ["test is never built"]),
        (["plan", "out=/x", "source.root=/x", "splits=[train,train]"], ["one of [train], [val], [train,val]"]),
        (["train", "out=/x", "builds=[/b]", "trainer.eval_samples=1"], ["eval_samples must be at least 2", "got 1"]),
        (
            ["plan", "out=/x", "source.root=/x", "source.type=mp4", "encoder=tiny"],
            ["one of ssv2, lerobot, rlds, libero, videos, got 'mp4'"],
        ),
        (["plan", "out=/x", "source.root=/nowhere", "encoder=tiny"], ["/nowhere"]),
        (["preprocess", "out=/x", "source.root=/x", "+source.fps=3", "encoder=tiny"], ["no setting fps"]),
        (["audit", "/nowhere"], ["/nowhere: no such folder"]),
        (["audit", "/nowhere", "encoder_path=/a/folder"], ["/nowhere: no such folder"]),
        (["plan", "window"], ["'window' is no setting; write key=value"]),
        (["plan", "trainer=demo"], ["trainer=demo", "allowed here: out, source, window"]),
        (
            ["plan", "out=/proc/x", "source.root=/x", "limit=0"],
            ["limit must be null or at least 1", "first episodes of each split"],
        ),
        (["train", "out=/x", "builds=/b"], ["builds='/b': must be a list, as in 'builds=[a,b]'"]),
        (["audit", "/nowhere", "level=deep"], ["level='deep': must be one of manifest, shards", "got 'deep'"]),
        (["train", "out=/x", "builds=[]"], ["builds must be a list of at least one"]),
        (["train", "out=/x", "builds=[/nowhere]", "trainer.steps=-1"], ["steps must be at least 1, got -1"]),
        (["train", "out=/x", "builds=[/nowhere]", "model=tiny"], ["/nowhere", "build.json"]),
        (
            ["train", "out=/x", "builds=[/b]", "model.predictor.heads=7"],
            ["model.predictor", "dim must be a multiple of heads=7"],
        ),
    ],
)
def test_mistakes_are_explained(words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *words)
    assert code == 2
    for part in parts:
        assert part in err, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_plan_prints_the_cost_and_writes_the_tasks(
    sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", f"source.root={sample_data.ssv2}", "encoder=tiny", "window.interval=2", f"out={tmp_path}/build"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    for part in ("episodes         7", "samples          about 7", "shards           2", "FLOPs", "estimated from"):
        assert part in out
    assert {path.name for path in (tmp_path / "build").iterdir()} == {"plan.json", "tasks.jsonl", "logs"}
    assert run(capsys, *words)[0] == 0  # the same plan again is fine
    code, _, err = run(capsys, *words, "window.interval=1")
    assert code == 2
    assert "window.interval: 2 -> 1" in err


@pytest.mark.slow
def test_a_crash_is_not_taken_for_a_leak(
    video_build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("jobs.audit.audit.audit_build", crash)
    code, _, err = run(capsys, "audit", str(video_build.path))
    assert code == 2
    assert "MemoryError" in err


@pytest.mark.slow
def test_commands_write_nothing_into_the_current_folder(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "plan", f"source.root={sample_data.ssv2}", "encoder=tiny", "out=build")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_sample_data_refuses_to_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ssv2").mkdir()
    code, _, err = run(capsys, "sample-data", f"out={tmp_path}", "clips=4", "episodes=4")
    assert code == 2
    assert "exists" in err


@pytest.mark.slow
def test_flags_stand_for_settings(video_build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--level", "manifest"], ["--level=manifest"], ["level=manifest"]):
        code, out, _ = run(capsys, "audit", str(video_build.path), *words)
        assert code == 0
        assert "level manifest" in out
    code, _, err = run(capsys, "audit", str(video_build.path), "--depth", "manifest")
    assert code == 2
    assert "depth=manifest" in err


def test_deep_levels_need_the_raw_data(video_build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "audit", str(video_build.path), "--level", "source")
    assert code == 2
    assert "level=source compares the build with its raw data: give root=FOLDER of the data" in err
    code, _, err = run(capsys, "audit", str(video_build.path), "--level", "source", "root=/nowhere/data")
    assert code == 2
    assert "root=/nowhere/data: no such folder" in err


@pytest.mark.parametrize("value", ["geheim{", "a,geheim", '"geheim', "${geheim}", "[geheim]", "geheim\t", "x=geheim"])
@pytest.mark.parametrize("words", [["serve", "policy=/a"], ["evaluate", "policy=/a", "out=/dev/null/b", "suite=x"]])
def test_no_message_repeats_a_key(words: list[str], value: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words, f"api_key={value}")
    assert code == 2
    assert "geheim" not in out + err


def test_something_like_what_was_typed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no command 'trian'; did you mean train?" in run(capsys, "trian")[2]
    assert "did you mean level?" in run(capsys, "audit", "/x", "lvel=source")[2]


@pytest.mark.parametrize("word", ["hydra.run.dir=/proc/y", "hydra.hydra_logging.version=7"])
def test_a_failure_of_hydra_is_no_leak(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "audit", "/x", word)[0] == 2
