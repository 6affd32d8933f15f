"""What a verdict says that it proves: no more than its level checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.audit.audit import describe
from pipeline.audit.build import open_build
from pipeline.audit.finding import LEVELS, RULES
from pipeline.audit.levels.run import audit_build
from pipeline.audit.proofs.proof import Mechanism, Share
from pipeline.audit.proofs.statements import OUT_OF_REACH, STATEMENTS, Facts, proofs_of
from pipeline.audit.report.evidence import Evidence
from pipeline.audit.report.page import render
from pipeline.audit.verdicts.verdict import verdict_bytes
from tests.leakage.mutants import MUTANTS
from tests.leakage.pipelines import LEAKY_PIPELINES
from tests.pipeline.audit.tiny_build import VIDEO, write_build
from tests.pipeline.audit.tiny_targets import read_targets

INPUTS, TARGETS = "val/inputs-000000.tar", "val/targets-000000.arrow"


def test_every_rule_says_something_and_nothing_that_a_deeper_level_checks() -> None:
    assert {statement.rule for statement in STATEMENTS} == set(RULES)
    for level in LEVELS:
        proofs = proofs_of(level, Facts())
        assert [proof.what for proof in proofs] == [statement.what for statement in STATEMENTS]
        for proof, statement in zip(proofs, STATEMENTS, strict=True):
            deeper = LEVELS.index(statement.level) > LEVELS.index(level)
            assert (proof.mechanism == Mechanism.NOT_CHECKED) == deeper
            assert not deeper or proof.power == f"level {statement.level}"


def test_a_rule_is_said_to_be_checked_wherever_the_gallery_is_found_by_it() -> None:
    said = {(statement.rule, statement.level) for statement in STATEMENTS}
    found = {(leak.rule, leak.level) for leak in (*MUTANTS, *LEAKY_PIPELINES)}
    assert found <= said


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (Share(100, 100, 100, 100), "all 100 samples"),
        (Share(20, 1000, 20, 1000), "20 of 1,000 samples; a leak in 21 % of all samples"),
        (Share(64, 6400, 1, 100), "a leak in 99 % of all pieces that are encoded together"),
        (Share(0, 100, 0, 10), "0 of 100 samples: none"),
    ],
)
def test_a_share_names_the_leak_that_it_would_have_met(share: Share, says: str) -> None:
    assert says in share.power


def test_weaker_comparisons_are_named_as_such() -> None:
    weak = Facts(images=False, latents=False, encoded=Share(5, 50, 5, 50), whispers="see claims")
    bounded = [proof for proof in proofs_of("source", weak) if proof.mechanism == Mechanism.BOUNDED]
    assert [proof.rule for proof in bounded] == ["L1", "L2"]
    assert bounded[1].power.endswith("see claims")
    assert not [proof for proof in proofs_of("source", Facts()) if proof.mechanism == Mechanism.BOUNDED]


def test_the_verdict_and_the_command_say_it(tmp_path: Path) -> None:
    verdict = audit_build(write_build(tmp_path / "build", VIDEO))
    document = json.loads(verdict_bytes(verdict))
    assert document["out_of_reach"] == list(OUT_OF_REACH)
    states = [proof for proof in document["proofs"] if proof["rule"] == "L3"]
    assert [proof["mechanism"] for proof in states] == ["nothing to check", "not checked", "not checked"]
    text = describe(verdict)
    assert "not checked: student and policy do not change when every target of a batch does (level perturb)" in text
    assert text.endswith(f"CLEAN: {verdict.samples:,} samples, level shards")


def test_a_build_that_fails_by_hashes_alone_is_damaged_or_altered(tmp_path: Path) -> None:
    """The lowest bit of a latent."""
    build = write_build(tmp_path / "build")
    path = build / TARGETS
    data = bytearray(path.read_bytes())
    context = read_targets(path)[0]["context"][0].tobytes()
    data[data.index(context)] ^= 1
    path.write_bytes(data)
    verdict = audit_build(build)
    assert [finding.detail[:12] for finding in verdict.findings] == ["has SHA-256 ", "the row is n"]
    assert (verdict.status, verdict.headline, verdict.exit_code) == ("leak", "DAMAGED OR ALTERED", 1)
    assert json.loads(verdict_bytes(verdict))["altered"] == 2
    text = describe(verdict)
    assert text.startswith(f"L7: {TARGETS}: has SHA-256")
    assert text.splitlines()[-1].startswith("DAMAGED OR ALTERED: ")
    page = render(open_build(build), verdict, Evidence())
    assert '<h1 id="verdict">DAMAGED OR ALTERED</h1>' in page
    assert page.index("<h2>Findings</h2>") < page.index("<h2>Rule by rule, at level shards</h2>")


def test_what_is_found_in_a_damaged_picture_follows_from_the_damage(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    path = build / INPUTS
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xda") + 40  # in the scan
    data[at] ^= 0x40
    path.write_bytes(data)
    verdict = audit_build(build)
    assert {finding.file for finding in verdict.findings} == {INPUTS}
    assert "L10" in {finding.rule for finding in verdict.findings}
    assert verdict.headline == "DAMAGED OR ALTERED"


def test_what_fails_besides_hashes_is_a_leak(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    path = build / TARGETS
    path.write_bytes(path.read_bytes()[:-700])
    verdict = audit_build(build)
    assert verdict.altered == sum(count.failed for count in verdict.rules.values()) > 1
    assert verdict.headline == "DAMAGED OR ALTERED"
    (build / "val" / "more.bin").write_bytes(b"later frames")
    verdict = audit_build(build)
    assert 0 < verdict.altered < sum(count.failed for count in verdict.rules.values())
    assert verdict.headline == "LEAK"


def test_a_level_says_on_the_page_what_it_did_not_check(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    page = render(open_build(build), audit_build(build), Evidence())
    assert page.count("<strong>not checked</strong>") == sum(s.level in ("source", "perturb") for s in STATEMENTS)
    assert "Out of reach of any audit of one build" in page
