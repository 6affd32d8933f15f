"""A build of which a filter left episodes out is clean, and its verdict says how many and why."""

from __future__ import annotations

from pathlib import Path

from pipeline.audit.levels.run import audit_build
from tests.leakage.mutants.left_out_by_filter import honestly_filtered
from tests.pipeline.audit.tiny_build import write_build


def test_a_filtered_build_is_clean_and_says_so(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    assert audit_build(build).claims == ()
    honestly_filtered(build)
    for level in ("manifest", "shards"):
        verdict = audit_build(build, level)
        assert verdict.findings == ()
        (claim,) = verdict.claims
        assert "source.leave_out left out 2 episodes (frozen-camera 1, idle 1)" in claim
