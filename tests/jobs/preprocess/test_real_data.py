"""The whole line on real clips (VP9) and real robot episodes (AV1): plan, preprocess, audit, ten steps, checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.training.run import train
from model.checkpoint.checkpoint import load_weights
from model.checkpoint.folders import list_checkpoints
from model.normalize import BuildStats
from model.vla_jepa import build_model
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from pipeline.streaming.reader import SampleReader
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source, train_config

pytestmark = pytest.mark.slow  # builds of real clips and a run


@pytest.fixture(scope="module")
def clips(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    out, window = tmp_path_factory.mktemp("real") / "ssv2", WindowPolicy(every=0, per_episode=2)
    return audited(build_config(out, ssv2_source(shared_data / "ssv2"), window=window))


@pytest.fixture(scope="module")
def robot(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    root = shared_data / "lerobot_v21" / "unitree_g1_inspire_bottle"
    out = tmp_path_factory.mktemp("real") / "g1"
    source = robot_source(root, name="g1", val_share=0.5)
    return audited(build_config(out, source, window=WindowPolicy(interval=3, every=20)))


def test_the_build_holds_the_official_splits(clips: Build, shared_data: Path) -> None:
    assert {split: counts["episodes"] for split, counts in clips.manifest["counts"].items()} == {"train": 12, "val": 4}
    keys = [key for split in ("train", "val") for key in SampleReader(clips, split).read(np.arange(4)).keys]
    tests = {entry["id"] for entry in json.loads((shared_data / "ssv2" / "labels" / "test.json").read_text())}
    assert not any(test in key for key in keys for test in tests)


@pytest.mark.parametrize("name", ["clips", "robot"])
def test_real_builds_have_no_finding_at_the_deepest_level(
    name: str, shared_data: Path, request: pytest.FixtureRequest
) -> None:
    root = shared_data / {"clips": "ssv2", "robot": "lerobot_v21/unitree_g1_inspire_bottle"}[name]
    build: Build = request.getfixturevalue(name)
    verdict, _ = audit(AuditConfig(build=build.path, level="perturb", root=root, nonce="n3"))
    assert verdict.findings == ()
    assert all(count.checked for count in verdict.rules.values())
    assert verdict.coverage["samples_compared"] == verdict.samples


def test_instructions_are_the_entries_own(clips: Build, shared_data: Path) -> None:
    labels = json.loads((shared_data / "ssv2" / "labels" / "train.json").read_text())
    own = {entry["id"]: entry["label"] for entry in labels}
    batch = SampleReader(clips, "train").read(np.arange(24))
    for key, text in zip(batch.keys, batch.observation.instruction, strict=True):
        assert text == own[key.split("-")[-2]]


def test_robot_samples_carry_state_and_actions(robot: Build) -> None:
    assert (robot.sizes.state, robot.sizes.action) == (26, 26)
    batch = SampleReader(robot, "train").read(np.arange(4))
    assert set(batch.observation.instruction) == {"Pick up the yellow bottle on the table."}
    assert batch.observation.state is not None
    assert np.abs(batch.observation.state).max() > 0
    assert batch.targets.action_mask is not None
    assert batch.targets.action_mask.all()
    assert batch.observation.images.std() > 20


def test_training_runs_on_both_and_leaves_a_checkpoint(clips: Build, robot: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [robot, clips], steps=10)
    results = train(config)
    assert set(results) == {"g1", "ssv2"}
    (last,) = list_checkpoints(tmp_path / "run" / "checkpoints")[-1:]
    assert last.name == "step-00000010"
    sizes = replace(robot.sizes, views=1)
    model = build_model(config.model, sizes, BuildStats.parse(robot.read_file("stats.json"), "stats.json"))
    load_weights(last, model)
    state: dict[str, Any] = json.loads((last / "state.json").read_text())
    assert state["builds"] == {"g1": robot.fingerprint, "ssv2": clips.fingerprint}
