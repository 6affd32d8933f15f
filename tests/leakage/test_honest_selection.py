"""Honest builds of data that is not all in order: every reason of the ledger holds when the audit tries it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.datasets.manifests import load_manifests
from pipeline.format.build_settings import WindowPolicy
from pipeline.sample_world.video import CODECS, write_video
from tests.conftest import SampleData
from tests.jobs.runs import build_config, make_here, robot_source, ssv2_source
from tests.rlds.datasets import write_droid


def _ssv2(root: Path) -> dict[str, str]:
    """Damage to clips of each split's list, by clip; the reasons that the ledger must give."""
    rows = json.loads((root / "labels/train.json").read_bytes())
    folder = root / "20bn-something-something-v2"
    first, second, third, *_ = (row["id"] for row in rows)
    (folder / f"{first}.webm").unlink()
    (folder / f"{second}.webm").write_bytes((folder / f"{second}.webm").read_bytes()[:200])
    black = [np.zeros((64, 64, 3), np.uint8)] * 30
    write_video(folder / "black.mp4", black, 12, CODECS["h264"])
    (folder / "black.mp4").rename(folder / f"{third}.webm")
    rows[3]["label"] = "  "
    rows += [{**rows[4], "id": None}, {**rows[4], "id": "a.b"}]
    (root / "labels/train.json").write_text(json.dumps(rows))
    return {first: "missing-file", second: "undecodable", third: "blank-camera", rows[3]["id"]: "no-instruction"}


def _audited(build: Path, root: Path) -> Any:
    return audit(AuditConfig(build=build, level="source", root=root, nonce="n0", least=1))[0]


def _reasons(build: Path) -> dict[str, str]:
    lines = (build / "ledger.jsonl").read_bytes().splitlines()
    return {row["episode"]: row["reason"] for row in map(json.loads, lines)}


def test_damaged_clips(sample_data: SampleData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_data.ssv2, tmp_path / "raw"))
    expected = {f"ssv2-{clip}": reason for clip, reason in _ssv2(root).items()}
    build = make_here(replace(build_config(tmp_path / "build", ssv2_source(root)), max_bad_share=0.9)).path
    found = _reasons(build)
    assert expected.items() <= found.items()
    assert list(found.values()).count("bad-entry") == 2
    verdict = _audited(build, root)
    assert verdict.findings == ()
    assert verdict.coverage["ledger_reasons_tried"] == 6
    assert verdict.coverage["shards_packed_again"] > 0


def _robot_damages(root: Path) -> dict[str, str]:
    tables = sorted(root.glob("data/*/*.parquet"))
    table = pq.read_table(tables[0])
    values = np.array(table["action"].to_pylist(), np.float32)
    values[3, 1] = np.nan
    column = table.schema.get_field_index("action")
    pq.write_table(table.set_column(column, "action", [values.tolist()]), tables[0])
    table = pq.read_table(tables[1])
    pq.write_table(table.slice(0, table.num_rows - 1), tables[1])
    return {"robot-000000": "not-finite", "robot-000001": "length-mismatch"}


def test_damaged_robot_episodes(sample_data: SampleData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_data.lerobot, tmp_path / "raw"))
    expected = _robot_damages(root)
    window = WindowPolicy(interval=2, every=6)
    build = make_here(build_config(tmp_path / "build", robot_source(root), window=window)).path
    assert _reasons(build) == expected
    assert _audited(build, root).findings == ()


def test_limited_and_too_short(sample_data: SampleData, tmp_path: Path) -> None:
    window = WindowPolicy(interval=11, every=3)  # 66 frames have to follow
    build = make_here(build_config(tmp_path / "build", robot_source(sample_data.lerobot, val_share=0.0), window=window))
    assert set(_reasons(build.path).values()) <= {"too-short"}
    assert _audited(build.path, sample_data.lerobot).findings == ()
    limited = make_here(build_config(tmp_path / "limited", ssv2_source(sample_data.ssv2), limit=2))
    verdict = _audited(limited.path, sample_data.ssv2)
    assert verdict.findings == ()
    assert verdict.coverage["episodes_selected_again"] == 3


@pytest.mark.slow
def test_droid_with_failures_and_without_texts(shared_data: Path, tmp_path: Path) -> None:
    root = write_droid(tmp_path / "raw", shared_data)
    source = {**load_manifests()["droid"].node()["source"], "root": str(root), "val_share": 0.0}
    window = WindowPolicy(interval=1, steps=2, chunk=4, every=3)
    build = make_here(build_config(tmp_path / "build", source, window=window)).path
    assert sorted(_reasons(build).values()) == ["no-instruction", "not-wanted"]
    assert _audited(build, root).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssv2", "g1", "bridge"])
def test_real_data(shared_data: Path, tmp_path: Path, name: str) -> None:
    sources: dict[str, dict[str, Any]] = {
        "ssv2": ssv2_source(shared_data / "ssv2"),
        "g1": robot_source(shared_data / "lerobot_v21/unitree_g1_inspire_bottle"),
        "bridge": {
            **load_manifests()["bridge"].node()["source"],
            "root": str(shared_data / "rlds/bridge_dataset"),
        },
    }
    window = WindowPolicy(steps=1, chunk=2, interval=1, every=0, per_episode=2)
    config = build_config(tmp_path / "build", sources[name], window=window, splits=("train",))
    build = make_here(config).path
    assert _audited(build, Path(sources[name]["root"])).findings == ()
