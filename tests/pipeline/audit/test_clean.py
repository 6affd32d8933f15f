"""A clean build has no finding, at any level, for robots and human video, with windows dropped or padded."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.audit.finding import RULES
from pipeline.audit.levels.run import audit_build
from tests.pipeline.audit.tiny_build import (
    INT8,
    ROBOT,
    ROBOT_DROP,
    TUBELET,
    TUBELET_INT8,
    VIDEO,
    TinyWorld,
    write_build,
)


@pytest.mark.parametrize("level", ["manifest", "shards"])
@pytest.mark.parametrize(
    "world",
    [ROBOT, ROBOT_DROP, VIDEO, INT8, TUBELET, TUBELET_INT8],
    ids=["robot-pad", "robot-drop", "video", "int8", "tubelet", "tubelet-int8"],
)
def test_clean_build_has_no_finding(tmp_path: Path, world: TinyWorld, level: str) -> None:
    verdict = audit_build(write_build(tmp_path / "build", world), level)
    assert verdict.findings == ()
    assert (verdict.status, verdict.exit_code, verdict.level) == ("clean", 0, level)


def test_every_rule_was_really_checked(tmp_path: Path) -> None:
    verdict = audit_build(write_build(tmp_path / "build"))
    assert set(verdict.rules) == set(RULES)
    of_the_model = {"L4", "L5"}
    assert {rule for rule, count in verdict.rules.items() if count.checked == 0} == of_the_model
    assert all(count.failed == 0 for count in verdict.rules.values())
    assert verdict.samples == 9 + 5 + 7  # frames that fit: num_frames - 2 * interval


def test_progress_counts_every_listed_byte_once(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    calls: list[tuple[int, int]] = []
    audit_build(build, progress=lambda done, total: calls.append((done, total)))
    listed = sum(p.stat().st_size for p in build.rglob("*") if p.is_file() and p.name != "build.json")
    assert calls[-1] == (listed, listed)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_unknown_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="level must be one of manifest, shards, source, perturb, got 'deep'"):
        audit_build(tmp_path, "deep")
