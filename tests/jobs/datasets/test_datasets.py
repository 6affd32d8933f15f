"""The whole line for every reader, on real data where there is some: plan, preprocess, audit against the raw data."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.datasets.manifests import load_manifests
from jobs.preprocess.preprocess import preprocess
from model.normalize import BuildStats
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from pipeline.streaming.reader import SampleReader
from tests.jobs.runs import build_config, robot_source
from tests.pipeline.sources.libero.test_libero import write_task
from tests.rlds.datasets import write_droid, write_fractal, write_libero

pytestmark = pytest.mark.slow  # builds of whole datasets

ROBOT = WindowPolicy(interval=1, steps=2, chunk=4, every=3)
VIDEO = WindowPolicy(interval=1, every=0, per_episode=3)


def manifest_source(name: str, root: Path, **changes: Any) -> dict[str, Any]:
    """What `source=NAME source.root=ROOT` stands for."""
    return {**load_manifests()[name].node()["source"], "root": str(root), **changes}


def build_and_audit(
    out: Path, source: dict[str, Any], window: WindowPolicy, level: str = "source", **changes: Any
) -> tuple[Build, Verdict]:
    build = preprocess(build_config(out, source, window=window, **changes))
    verdict, _ = audit(AuditConfig(build=build.path, level=level, root=Path(source["root"]), nonce="n5", share=0.2))
    return build, verdict


def check_clean(build: Build, verdict: Verdict) -> None:
    assert verdict.findings == ()
    assert verdict.coverage["samples_compared"] == verdict.samples > 0
    assert verdict.coverage["samples_encoded"] >= min(16, verdict.samples)


def actions_of(build: Build) -> np.ndarray:
    reader = SampleReader(build, "train")
    actions = reader.read(np.arange(build.manifest["counts"]["train"]["samples"])).targets.actions
    assert actions is not None
    return actions


def test_lerobot_v3(shared_data: Path, ray_session: None, tmp_path: Path) -> None:
    root = shared_data / "lerobot_v30/unitree_g1_inspire_bottle"
    window = WindowPolicy(interval=3, every=40)
    new, verdict = build_and_audit(tmp_path / "v30", robot_source(root, name="g1", val_share=0.0), window, "perturb")
    check_clean(new, verdict)
    # The same two episodes in v2.1 give the same shards to the byte.
    root = shared_data / "lerobot_v21/unitree_g1_inspire_bottle"
    config = build_config(tmp_path / "v21", robot_source(root, name="g1", val_share=0.0), window=window, limit=2)
    old = preprocess(config)
    tars = [sorted((build.path / "train").glob("*.tar")) for build in (old, new)]
    assert len(tars[0]) == len(tars[1]) > 0
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(*tars, strict=True)] == [True] * len(tars[0])


def test_bridge_repeats_its_training_episodes_in_val(shared_data: Path, ray_session: None, tmp_path: Path) -> None:
    source = manifest_source("bridge", shared_data / "rlds/bridge_dataset")
    window = WindowPolicy(steps=1, chunk=2, every=2)
    leaky, verdict = build_and_audit(tmp_path / "both", source, window)
    assert {split: c["episodes"] for split, c in leaky.manifest["counts"].items()} == {"train": 25, "val": 25}
    assert verdict.status == "leak"
    assert {finding.rule for finding in verdict.findings} == {"L6"}
    assert len({finding.detail.split()[2] for finding in verdict.findings}) == 25
    clean, verdict = build_and_audit(tmp_path / "train", source, window, "perturb", splits=("train",))
    check_clean(clean, verdict)
    assert clean.manifest["settings"]["dataset"]["licence"] == "CC BY 4.0"
    stats = BuildStats.parse(clean.read_file("stats.json"), clean.path)
    assert stats.action is not None
    assert max(map(abs, (*stats.action.low[:3], *stats.action.high[:3]))) < 0.05  # metres in a fifth of a second


RLDS: dict[str, Callable[[Path, Path], Path]] = {
    "droid": write_droid,
    "fractal": write_fractal,
    "libero_spatial": write_libero,
}


@pytest.mark.parametrize("name", RLDS)
def test_rlds(name: str, shared_data: Path, ray_session: None, tmp_path: Path) -> None:
    root = RLDS[name](tmp_path / "raw", shared_data)
    source = manifest_source(name, root, val_share=0.0)
    build, verdict = build_and_audit(tmp_path / "build", source, ROBOT, max_bad_share=0.3)
    check_clean(build, verdict)
    assert verdict.exact
    ledger = (build.path / "ledger.jsonl").read_text()
    assert ledger.count("not-wanted") == ledger.count("no-instruction") == (name == "droid")
    actions = actions_of(build)
    assert actions.shape[1:] == (4, 7)
    assert 0 <= actions[..., 6].min() < actions[..., 6].max() <= 1
    assert np.abs(actions[..., :3]).max() < 0.2


def test_libero_hdf5(ray_session: None, tmp_path: Path) -> None:
    for task in ("put_the_bowl_on_the_stove", "open_the_drawer"):
        write_task(tmp_path / f"raw/{task}_demo.hdf5", {f"demo_{i}": 12 + i for i in range(3)}, instruction=task)
    source = manifest_source("libero_hdf5", tmp_path / "raw", val_share=0.0)
    build, verdict = build_and_audit(tmp_path / "build", source, ROBOT)
    check_clean(build, verdict)
    batch = SampleReader(build, "train").read(np.arange(6))
    assert set(batch.observation.instruction) <= {"put_the_bowl_on_the_stove", "open_the_drawer"}
    now = np.array([int(key.rsplit("-", 1)[1]) for key in batch.keys])
    assert batch.targets.actions is not None
    # Row n+1 of `actions` holds n; 0.05 metres for 1.
    np.testing.assert_allclose(batch.targets.actions[:, 0, 0], 0.05 * now, atol=1e-6)


def test_video_folder(shared_data: Path, ray_session: None, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    clips = sorted((shared_data / "ssv2/20bn-something-something-v2").glob("*.webm"))[:6]
    with (root / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "text", "split"])
        for number, clip in enumerate(clips):
            shutil.copy(clip, root / clip.name)
            writer.writerow([clip.name, f"clip {number}, whatever it shows", "val" if number == 5 else "train"])
    source = {"type": "videos", "name": "mine", "root": str(root), "split_column": "split"}
    build, verdict = build_and_audit(tmp_path / "build", source, VIDEO)
    check_clean(build, verdict)
    assert {split: c["episodes"] for split, c in build.manifest["counts"].items()} == {"train": 5, "val": 1}
