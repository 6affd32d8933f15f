"""A dataset whose inputs show later frames is reported by `inspect` and refused by `plan`, unless the user insists."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.preprocess.plan import prepare
from pipeline.errors import RunError
from tests.conftest import SampleData
from tests.jobs.runs import build_config, robot_source
from tests.leakage.pipelines.lookahead import camera_ahead_of_the_other, joint_of_the_next_frame
from tests.leakage.world import World


def test_what_looks_ahead_is_reported_and_refused(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, sample_data, monkeypatch, "robot")
    joint_of_the_next_frame(world)
    finding = "L8: state channel 7 of frame n equals state channel 0 of frame n+1"
    words = ["source=lerobot", "source.name=robot", f"source.root={world.raw}", f"out={tmp_path}/seen"]
    with pytest.raises(SystemExit, match="1"):
        main(["inspect", *words])
    assert finding in capsys.readouterr().out
    (written,) = json.loads((tmp_path / "seen/inspection.json").read_bytes())["lookahead"]["findings"]
    assert f"{written['rule']}: {written['detail']}".startswith(finding)
    config = build_config(tmp_path / "build", robot_source(world.raw))
    with pytest.raises(RunError, match=r"sample of 4 episodes.*\n  L8: state channel 7.*\n.*accept_lookahead=true"):
        prepare(config)
    assert not (tmp_path / "build/plan.json").exists()
    assert prepare(replace(config, accept_lookahead=True)).plan.tasks


def test_a_camera_ahead_of_another_is_refused(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, sample_data, monkeypatch, "robot")
    camera_ahead_of_the_other(world)
    with pytest.raises(RunError, match="L1: camera wrist shows what camera front has still to show"):
        prepare(build_config(tmp_path / "build", robot_source(world.raw)))
