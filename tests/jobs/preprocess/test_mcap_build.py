"""Recordings of ROS 2 from plan to a clean verdict against the raw data."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.datasets.configured_source import configured_source
from jobs.datasets.inspect import run as inspect
from jobs.datasets.settings import InspectConfig
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from tests.jobs.runs import build_config, make_here
from tests.mcap_files.recorded import recorded_source, write_recordings
from tests.mcap_files.robot import robot_messages
from tests.mcap_files.writer import Sent, write_mcap

BAD: dict[str, Any] = {
    "a_cut_off": lambda data: data[: len(data) // 2],
    "b_other": lambda data: b"something else",
}


def verdict_of(build: Build, root: Path, level: str, **settings: Any) -> Verdict:
    config = AuditConfig(build=build.path, level=level, root=root, nonce="n0", share=1.0, **settings)
    return audit(config)[0]


@pytest.mark.parametrize("fps", [None, 10.0])
def test_a_build_of_recordings_is_clean_beside_the_raw_data(
    sample_data: Any, tmp_path: Path, fps: float | None
) -> None:
    root = write_recordings(sample_data.lerobot, tmp_path / "raw")
    source = recorded_source(root, fps=fps)
    build = make_here(build_config(tmp_path / "build", source, hash_raw=True))
    content = json.loads((build.path / "build.json").read_text())
    assert (content["views"], content["fps"]) == (["front", "wrist"], fps)
    assert content["sizes"]["state"] == 8
    verdict = verdict_of(build, root, "source")
    assert verdict.findings == ()
    assert all(verdict.rules[rule].checked for rule in ("L1", "L2", "L6", "L7", "L8", "L9"))


def test_damaged_recordings_are_left_out_and_the_audit_agrees(sample_data: Any, tmp_path: Path) -> None:
    root = write_recordings(sample_data.lerobot, tmp_path / "raw")
    good = next(root.rglob("*.mcap")).read_bytes()
    for name, spoil in BAD.items():
        (root / f"{name}.mcap").write_bytes(spoil(good))
    late = [m for m in robot_messages(8) if m.topic not in ("/task", "/wrist/image")]
    write_mcap(root / "c_no_topic.mcap", late)
    config = partial(build_config, source=recorded_source(root), max_bad_share=0.9)
    build = make_here(config(tmp_path / "build"))
    lines = [json.loads(line) for line in (build.path / "ledger.jsonl").read_text().splitlines()]
    assert {line["episode"]: line["reason"] for line in lines} == {
        "robot-a_cut_off": "undecodable",
        "robot-b_other": "undecodable",
        "robot-c_no_topic": "bad-record",
    }
    verdict = verdict_of(build, root, "source")
    assert verdict.findings == ()
    assert verdict.coverage["ledger_reasons_tried"] == 3


@pytest.mark.slow
def test_the_deepest_level_finds_a_build_of_recordings_clean(sample_data: Any, tmp_path: Path) -> None:
    root = write_recordings(sample_data.lerobot, tmp_path / "raw")
    build = make_here(build_config(tmp_path / "build", recorded_source(root), window=WindowPolicy(interval=2, every=9)))
    verdict = verdict_of(build, root, "perturb")
    assert verdict.findings == ()
    assert all(count.checked for count in verdict.rules.values())


def test_a_recording_that_changes_after_the_build_is_found(sample_data: Any, tmp_path: Path) -> None:
    root = write_recordings(sample_data.lerobot, tmp_path / "raw")
    build = make_here(build_config(tmp_path / "build", recorded_source(root)))

    def later(messages: list[Sent]) -> list[Sent]:
        """Each joint state says what the next one did."""
        states = [m for m in messages if m.topic == "/joint_states"]
        following = dict(zip(map(id, states), [*states[1:], states[-1]], strict=True))
        return [
            Sent(m.topic, m.kind, m.log, {**following[id(m)].content, "header": m.content["header"]})
            if id(m) in following
            else m
            for m in messages
        ]

    first = sorted(root.glob("*.mcap"))[0]
    kept = {path: path.read_bytes() for path in root.glob("*.mcap") if path != first}
    write_recordings(sample_data.lerobot, root, later)
    for path, content in kept.items():
        path.write_bytes(content)
    verdict = verdict_of(build, root, "source")
    assert {finding.rule for finding in verdict.findings} == {"L8"}


def test_inspect_reads_recordings(sample_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_recordings(sample_data.lerobot, tmp_path / "raw")
    inspect(InspectConfig(source=configured_source(recorded_source(root)), episodes=2, out=tmp_path / "page"))
    out = capsys.readouterr().out
    assert "of which 0 cannot be used" in out
    assert (tmp_path / "page/inspection.html").is_file()
