"""Honest builds with `source.leave_out` are clean at level source; a drop keeps the filter; another one is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.datasets.configured_source import configured_source
from jobs.preprocess.drop import drop
from jobs.preprocess.plan import prepare
from jobs.preprocess.preprocess import BadEpisodes
from jobs.preprocess.settings import DropConfig
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.errors import BuildError, TooManyBadEpisodesError
from pipeline.planning.episode_filter import filter_bytes, filter_entry
from tests.conftest import SampleData
from tests.jobs.runs import build_config, make_here, robot_source, ssv2_source


def _audited(build: Path, root: Path, inexact: bool = False) -> Verdict:
    return audit(AuditConfig(build=build, level="source", root=root, nonce="n0", least=1, inexact=inexact))[0]


def _train(source: dict[str, object]) -> list[str]:
    return [ref.id for ref in configured_source(source).reader.index().refs if ref.split == "train"]


def _filter(path: Path, *episodes: str) -> str:
    path.write_bytes(filter_bytes([filter_entry(e, "train", "idle", f"all of {e}") for e in episodes]))
    return str(path)


@pytest.mark.parametrize("limit", [None, 2])
def test_a_filtered_build_is_clean(sample_data: SampleData, tmp_path: Path, limit: int | None) -> None:
    source = ssv2_source(sample_data.ssv2)
    names = _train(source)
    chosen = {**source, "leave_out": _filter(tmp_path / "f.jsonl", names[0], names[-1])}
    build = make_here(replace(build_config(tmp_path / "build", chosen), limit=limit)).path
    lines = map(json.loads, (build / "ledger.jsonl").read_bytes().splitlines())
    left = {row["episode"]: (row["stage"], row["reason"], row["detail"]) for row in lines}
    assert left == {name: ("filter", "idle", f"all of {name}") for name in (names[0], names[-1])}
    verdict = _audited(build, sample_data.ssv2)
    assert verdict.findings == ()
    assert "source.leave_out left out 2 episodes (idle 2)" in verdict.claims[0]
    assert verdict.coverage["filtered_episodes_listed"] == 2


def test_a_drop_keeps_the_filter(sample_data: SampleData, tmp_path: Path) -> None:
    source = robot_source(sample_data.lerobot, val_share=0.0)
    names = _train(source)
    chosen = {**source, "leave_out": _filter(tmp_path / "f.jsonl", names[1])}
    build = make_here(build_config(tmp_path / "build", chosen)).path
    dropped = drop(DropConfig(build=build, out=tmp_path / "dropped", episode=names[2], reason="asked for"))
    verdict = _audited(dropped.path, sample_data.lerobot, inexact=True)  # the batches were those of the parent
    assert verdict.findings == ()
    assert "left out 1 episodes" in verdict.claims[0]


def test_a_plan_is_continued_with_its_own_filter_alone(sample_data: SampleData, tmp_path: Path) -> None:
    source = robot_source(sample_data.lerobot, val_share=0.0)
    names = _train(source)
    config = build_config(tmp_path / "build", {**source, "leave_out": _filter(tmp_path / "f.jsonl", names[1])})
    prepare(config)
    assert prepare(config, again=True).found
    for other in (source, {**source, "leave_out": _filter(tmp_path / "g.jsonl", names[2])}):
        with pytest.raises(BuildError, match="leave_out"):
            prepare(replace(config, source=configured_source(other)))


def test_filtered_episodes_are_not_bad_ones(sample_data: SampleData, tmp_path: Path) -> None:
    source = robot_source(sample_data.lerobot, val_share=0.0)
    chosen = {**source, "leave_out": _filter(tmp_path / "f.jsonl", *_train(source)[:2])}
    preparation = prepare(build_config(tmp_path / "build", chosen))
    BadEpisodes(preparation.plan, 0.0, preparation.store)
    assert preparation.plan.num_episodes == 2
    bad = [replace(entry, stage="index") for entry in preparation.plan.left_out]
    with pytest.raises(TooManyBadEpisodesError):
        BadEpisodes(replace(preparation.plan, left_out=tuple(bad)), 0.0, preparation.store)
