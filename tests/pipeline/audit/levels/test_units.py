"""An audit in pieces gives the verdict of an audit in one go, to the byte."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit.build import open_build
from pipeline.audit.finding import MAX_FINDINGS, Report
from pipeline.audit.levels.run import audit_build
from pipeline.audit.levels.shards import ShardUnit, shard_units
from pipeline.audit.parsers.shard import Shard
from pipeline.audit.rederive.recount import Recount
from pipeline.audit.rules.shards.members import Layouts, LayoutUse, Members
from pipeline.audit.verdicts.verdict import verdict_bytes
from pipeline.errors import BuildError
from tests.leakage.mutants import MUTANTS
from tests.leakage.mutants.mutant import Mutant
from tests.pipeline.audit.levels.scattered import Scattered
from tests.pipeline.audit.tiny_build import ROBOT, TUBELET_INT8, TinyEpisode, TinyWorld, write_build

MANY = replace(ROBOT, episodes=(*(TinyEpisode(f"ep_{i}", "train", i, 11) for i in range(7)), *ROBOT.episodes[-1:]))
OF_SHARDS = {(m.apply.__module__, m.rule): m for m in reversed(MUTANTS) if m.level == "shards"}


@pytest.mark.parametrize("world", [MANY, TUBELET_INT8], ids=["robot", "tubelet-int8"])
def test_a_clean_build_in_pieces(tmp_path: Path, world: TinyWorld) -> None:
    build = write_build(tmp_path / "build", world)
    runner = Scattered.of(build)
    verdict = audit_build(build, runner=runner)
    assert runner.units == len(open_build(build).shards)
    assert verdict.status == "clean"
    assert verdict_bytes(verdict) == verdict_bytes(audit_build(build))


@pytest.mark.parametrize("mutant", [pytest.param(m, id=f"{m.name}-{m.rule}") for m in OF_SHARDS.values()])
def test_findings_in_pieces(tmp_path: Path, mutant: Mutant) -> None:
    build = write_build(tmp_path / "build", mutant.world)
    mutant.apply(build)
    verdict = audit_build(build, runner=Scattered.of(build))
    assert verdict.status == "leak"
    assert verdict_bytes(verdict) == verdict_bytes(audit_build(build))


def test_damage_all_over_the_build_is_named_in_one_order(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build", MANY)
    for path in sorted(build.glob("*/*-0*"))[::2]:
        path.write_bytes(path.read_bytes()[:-700] + b"x" * 50)
    verdict = audit_build(build, runner=Scattered.of(build))
    assert len({finding.file for finding in verdict.findings}) > 4
    assert verdict_bytes(verdict) == verdict_bytes(audit_build(build))


def test_a_unit_that_raises_leaves_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Members, shard: Shard, report: Report) -> None:
        raise ZeroDivisionError("oh")

    build = write_build(tmp_path / "build")
    monkeypatch.setattr(Members, "check", broken)
    for runner in (None, Scattered.of(build)):
        with pytest.raises(
            BuildError, match=r"rule pipeline\.audit\.rules\.shards\.members\.Members broke down on \w+/"
        ):
            audit_build(build, runner=runner)


def test_reports_are_capped_as_one() -> None:
    whole, merged = Report(), Report()
    for part in range(4):
        report = Report()
        for number in range(MAX_FINDINGS - 40):
            for rule in ("L7", "L10"):
                whole.found(rule, "file", f"{part} {number}")
                report.found(rule, "file", f"{part} {number}")
        merged.merge(report)
    assert merged == whole
    assert len(merged.findings) == 2 * MAX_FINDINGS


def test_images_of_another_layout_are_counted_over_the_build(tmp_path: Path) -> None:
    """The first shard says what the others must be like, in whatever order they are looked at."""
    build = open_build(write_build(tmp_path / "build"))
    one, other = (_layouts(f"shard {i}", i) for i in range(2))
    rule, report = Members(build), Report()
    for part in (one, other):
        rule.merge(part, report)
    assert report.failed == {"L10": MAX_FINDINGS + 25}
    assert [finding.sample for finding in report.findings[:3]] == ["k0", "k1", "k2"]
    assert {finding.file for finding in report.findings} == {"shard 1"}


def _layouts(file: str, number: int) -> Layouts:
    keys = [(place, "front", f"k{place}") for place in range(MAX_FINDINGS)]
    return Layouts(file, {bytes([number]): LayoutUse(MAX_FINDINGS + 25, keys)})


def test_statistics_in_pieces_are_those_of_the_whole() -> None:
    random = np.random.default_rng(0)
    rows = (random.standard_normal((300, 3)) * 10.0 ** random.integers(-20, 20, (300, 3))).astype(np.float32)
    numbers = {name: [0.5] * 3 for name in ("min", "max", "mean", "std", "q01", "q99")}
    claim = {"count": 300, **numbers}
    whole, merged = Recount(claim, 3), Recount(claim, 3)  # type: ignore[arg-type]
    whole.add(rows.astype(np.float64))
    for part in np.array_split(rows.astype(np.float64), [1, 40, 41, 250]):
        piece = merged.empty()
        piece.add(part)
        merged.merge(pickle.loads(pickle.dumps(piece)))
    assert merged.differences() == whole.differences()
    assert len(whole.differences()) == 6


def test_a_unit_takes_its_own_rows_along_alone(tmp_path: Path) -> None:
    build = open_build(write_build(tmp_path / "build", MANY))
    units = list(shard_units(build))
    whole = sum(unit.rows.nbytes for unit in units)
    for unit in units:
        data = pickle.dumps(unit)
        again = pickle.loads(data)
        assert isinstance(again, ShardUnit)
        assert str(again.rows.to_pylist()) == str(unit.rows.to_pylist())  # NaN is not equal to itself
        assert len(data) < 3 * whole / len(units) + 8192
