"""The verdict file, and the gate that training passes through."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.gate import Passed, pass_gate
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import AuditRefusedError
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from tests.leakage.tools import edit_image, edit_json
from tests.pipeline.audit.tiny_build import INT8, ROBOT, pretty, write_build


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    build = write_build(tmp_path / "build")
    write_verdict(build, audit_build(build))
    return build


def passes(build: Path, level: str = "shards", public_key: Path | None = None) -> Passed:
    return pass_gate(read_audited(build), level, public_key)


def edit_verdict(build: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    verdict = json.loads((build / VERDICT).read_bytes())
    edit(verdict)
    (build / VERDICT).write_bytes(pretty(verdict))


def test_clean_verdict_opens_the_gate(audited: Path) -> None:
    passes(audited)


def test_verdict_has_the_keys_of_the_format_and_stable_bytes(audited: Path) -> None:
    first = (audited / VERDICT).read_bytes()
    assert set(json.loads(first)) == {
        "fingerprint",
        "build_sha256",
        "status",
        "level",
        "rules",
        "findings",
        "samples",
        "nonce",
        "coverage",
        "tolerance",
        "exact",
        "claims",
        "schema_version",
        "versions",
        "proofs",
        "out_of_reach",
        "altered",
    }
    write_verdict(audited, audit_build(audited))  # the audit/ folder is no finding
    assert (audited / VERDICT).read_bytes() == first
    assert sorted(p.name for p in (audited / "audit").iterdir()) == ["history", "verdict.json"]


def test_without_a_verdict_the_message_names_the_command(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    with pytest.raises(AuditRefusedError, match=r"has not been audited.*vlajepa audit"):
        passes(build)


def test_leaky_build_is_refused_with_its_rules(audited: Path) -> None:
    edit_json(audited, "build.json", lambda d: d.update(leaky=True))
    write_verdict(audited, audit_build(audited))
    with pytest.raises(AuditRefusedError, match=r"not found clean, failed checks by rule: .*L2: 1"):
        passes(audited)


def test_verdict_of_another_build_is_refused(audited: Path, tmp_path: Path) -> None:
    other = write_build(tmp_path / "other", replace(ROBOT, seed=1))
    shutil.copytree(audited / "audit", other / "audit")
    with pytest.raises(AuditRefusedError, match=r"about a build\.json with SHA-256"):
        passes(other)


def test_build_edited_after_the_audit_is_refused(audited: Path) -> None:
    edit_json(audited, "build.json", lambda d: d.update(fps=30.0))
    with pytest.raises(AuditRefusedError, match=r"about a build\.json with SHA-256"):
        passes(audited)


def test_shallow_verdict_never_replaces_a_deep_one(audited: Path) -> None:
    before = (audited / VERDICT).read_bytes()
    path = write_verdict(audited, audit_build(audited, "manifest")).path
    assert path.name == "verdict-manifest.json"
    assert (audited / VERDICT).read_bytes() == before
    passes(audited)


def test_shallow_verdict_is_refused_unless_asked_for(audited: Path) -> None:
    write_verdict(audited, audit_build(audited, "manifest")).path.replace(audited / VERDICT)
    with pytest.raises(AuditRefusedError, match="its level is 'manifest', 'shards' is needed"):
        passes(audited)
    passes(audited, level="manifest")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(status="leak"), "failed checks by rule: none"),
        (lambda v: v["rules"]["L1"].update(failed=1), "by rule: L1: 1"),
        (lambda v: v["rules"].pop("L1"), "it is by another version: its rules are L10, L2"),
        (lambda v: v["findings"].append({"rule": "L1"}), "failed checks by rule"),
        (lambda v: v.update(schema_version=0), "schema_version is 0"),
        (lambda v: v.update(fingerprint="0" * 64), "fingerprint"),
        (lambda v: v.update(level="deep"), "not a verdict of this version"),
        (lambda v: v.pop("status"), "not a verdict of this version"),
        (lambda v: v.update(rules=3), "not a verdict of this version"),
    ],
)
def test_verdict_that_is_not_clean_or_not_whole_is_refused(
    audited: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_verdict(audited, edit)
    with pytest.raises(AuditRefusedError, match=message):
        passes(audited)


@pytest.mark.parametrize("garbage", [b"", b"null", b"[]", b"\xff\xfe", b"{" * 100_000])
def test_garbage_for_a_verdict_is_refused(audited: Path, garbage: bytes) -> None:
    (audited / VERDICT).write_bytes(garbage)
    with pytest.raises(AuditRefusedError, match="not a verdict of this version"):
        passes(audited)


def _deepened(build: Path, level: str) -> bytes:
    """A clean verdict as if of a deeper level, written."""
    write_verdict(build, replace(audit_build(build), level=level, nonce="n1"))
    return (build / VERDICT).read_bytes()


def test_what_passes_inexactly_says_so(audited: Path) -> None:
    assert "INEXACT" not in passes(audited).text
    write_verdict(audited, replace(audit_build(audited), level="source", nonce="n1", exact=False))
    assert "clean at level source, INEXACT, build.json" in passes(audited).text


def test_a_shallower_clean_verdict_does_not_replace_a_deeper_one(audited: Path) -> None:
    deep = _deepened(audited, "perturb")
    write_verdict(audited, audit_build(audited))
    assert (audited / VERDICT).read_bytes() == deep
    passes(audited, "perturb")
    assert _deepened(audited, "perturb") == deep


def test_a_leak_replaces_a_deeper_clean_verdict(audited: Path) -> None:
    _deepened(audited, "source")
    edit_image(audited, lambda data: data + b"future", repair=False)
    write_verdict(audited, audit_build(audited))
    with pytest.raises(AuditRefusedError, match="failed checks"):
        passes(audited)


def test_a_deeper_verdict_of_another_build_is_replaced(audited: Path, tmp_path: Path) -> None:
    _deepened(audited, "source")
    other = write_build(tmp_path / "other", INT8)
    shutil.copytree(audited / "audit", other / "audit")
    with pytest.raises(AuditRefusedError, match=r"it is about a build\.json with SHA-256"):
        passes(other)
    write_verdict(other, audit_build(other))
    passes(other)


def test_a_replaced_verdict_loses_its_signature(audited: Path) -> None:
    (audited / SIGNED_VERDICT).write_text("{}")
    write_verdict(audited, audit_build(audited))  # the same bytes
    assert (audited / SIGNED_VERDICT).exists()
    _deepened(audited, "source")
    assert not (audited / SIGNED_VERDICT).exists()


def test_a_signature_without_its_verdict_goes_with_the_next_one(audited: Path) -> None:
    (audited / SIGNED_VERDICT).write_text("{}")
    (audited / VERDICT).unlink()
    write_verdict(audited, audit_build(audited))
    assert not (audited / SIGNED_VERDICT).exists()


def test_a_kept_verdict_keeps_its_signature(audited: Path) -> None:
    _deepened(audited, "source")
    (audited / SIGNED_VERDICT).write_text("{}")
    assert write_verdict(audited, audit_build(audited)).kept
    assert (audited / SIGNED_VERDICT).exists()
