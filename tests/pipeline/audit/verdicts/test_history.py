"""Which verdict stands, what is kept of the others, and that nothing is written through a link."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.files import replace_whole
from pipeline.audit.levels.run import audit_build
from pipeline.audit.samples import share_seed
from pipeline.audit.verdicts.attestation import require_signature, sign_verdict
from pipeline.audit.verdicts.verdict import RuleCount, Verdict, write_verdict
from pipeline.errors import BuildError
from pipeline.format.file_names import HISTORY, VERDICT
from tests.jobs.test_cli import run
from tests.leakage.tools import ARROW, edit_bytes
from tests.pipeline.audit.tiny_build import write_build
from tests.pipeline.audit.verdicts.test_attestation import write_keys


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write_build(tmp_path / "build")


def deep(verdict: Verdict, level: str = "source", leak: bool = False, **changes: Any) -> Verdict:
    """A verdict as if of a deeper level, of a share of 3 samples."""
    rules = verdict.rules | {"L2": RuleCount(3, int(leak))}
    shares = {"samples_encoded": 3} | ({"samples_perturbed": 3} if level == "perturb" else {})
    return replace(verdict, **{"level": level, "rules": rules, "nonce": "n1", "coverage": shares, **changes})


def entries(build: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((build / HISTORY).glob("*.json"))]


def standing(build: Path) -> tuple[str, str]:
    verdict = json.loads((build / VERDICT).read_bytes())
    return verdict["level"], verdict["status"]


def test_every_verdict_is_kept_with_who_signed_it(build: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "key", 1)
    shallow = audit_build(build)
    write_verdict(build, shallow)
    sign_verdict(build, private)
    (kept,) = entries(build)
    assert kept["signed_by"] == require_signature(build, public)
    assert (kept["level"], kept["status"], kept["tool_version"]) == ("shards", "clean", "0.1.0")
    assert kept["verdict"].encode() == (build / VERDICT).read_bytes()
    written = write_verdict(build, deep(shallow))
    assert written.unseats == kept["signed_by"]
    assert {(e["level"], e["signed_by"]) for e in entries(build)} == {("shards", kept["signed_by"]), ("source", "")}


def test_a_signed_verdict_of_before_the_history_is_kept_when_it_is_replaced(build: Path, tmp_path: Path) -> None:
    write_verdict(build, audit_build(build))
    sign_verdict(build, write_keys(tmp_path, "key", 1)[0])
    for path in (build / HISTORY).iterdir():
        path.unlink()
    write_verdict(build, deep(audit_build(build)))
    assert any(entry["signed_by"] and entry["level"] == "shards" for entry in entries(build))


@pytest.mark.parametrize(
    ("before", "after", "stands"),
    [
        ({"level": "perturb"}, {}, ("perturb", "clean")),
        ({"level": "perturb", "leak": True}, {}, ("perturb", "leak")),
        ({"level": "perturb", "leak": True}, {"leak": True}, ("perturb", "leak")),
        ({"level": "perturb"}, {"leak": True}, ("source", "leak")),
        ({"leak": True}, {"nonce": "n2"}, ("source", "leak")),
        ({"leak": True}, {"coverage": {"samples_encoded": 2}}, ("source", "leak")),
        ({"leak": True}, {}, ("source", "clean")),
        ({"leak": True}, {"level": "perturb", "nonce": "n2"}, ("source", "leak")),
        ({"leak": True}, {"build_sha256": "0" * 64}, ("source", "clean")),
        ({}, {"level": "perturb"}, ("perturb", "clean")),
    ],
)
def test_which_verdict_stands(
    build: Path, before: dict[str, Any], after: dict[str, Any], stands: tuple[str, str]
) -> None:
    verdict = audit_build(build)
    write_verdict(build, deep(verdict, **before))
    written = write_verdict(build, deep(verdict, **after))
    assert standing(build) == stands
    assert len(entries(build)) == 2
    assert bool(written.kept) == (stands == (before.get("level", "source"), "leak" if before.get("leak") else "clean"))


def test_a_leak_goes_when_every_sample_is_found_clean(build: Path) -> None:
    verdict = audit_build(build)
    write_verdict(build, deep(verdict, leak=True))
    write_verdict(build, deep(verdict, nonce="n2", coverage={"samples_encoded": verdict.samples}))
    assert standing(build) == ("source", "clean")


def test_a_mended_file_opens_the_gate_again(build: Path) -> None:
    data = (build / ARROW).read_bytes()
    edit_bytes(build, ARROW, lambda d: d.__setitem__(-1, d[-1] ^ 1), repair=False)
    write_verdict(build, audit_build(build))
    assert standing(build) == ("shards", "leak")
    (build / ARROW).write_bytes(data)
    write_verdict(build, audit_build(build))
    assert standing(build) == ("shards", "clean")


def test_the_report_belongs_to_the_verdict_that_stands(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_verdict(build, deep(audit_build(build), "perturb"))
    (build / "audit/report.html").write_text("of level perturb")
    for level in ("shards", "manifest"):
        code, out, _ = run(capsys, "audit", str(build), f"level={level}")
        assert code == 0
        assert "report: not written" in out
        assert (build / "audit/report.html").read_text() == "of level perturb"


def test_an_unsigned_audit_says_that_it_replaces_a_signed_one(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_verdict(build, deep(audit_build(build), "shards", coverage={}))
    sign_verdict(build, write_keys(tmp_path, "key", 1)[0])
    _, out, _ = run(capsys, "audit", str(build))
    assert "unsigned: the verdict before was signed by" in out


@pytest.mark.parametrize("name", ["audit", "audit/history", VERDICT, "audit/report.html"])
def test_nothing_is_written_through_a_link(
    build: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    folder = name in ("audit", "audit/history")
    outside.mkdir() if folder else outside.write_bytes(b"mine")
    (build / name).parent.mkdir(exist_ok=True)
    (build / name).symlink_to(outside)
    code, _, err = run(capsys, "audit", str(build))
    assert list(outside.iterdir()) == [] if folder else outside.read_bytes() == b"mine"
    found = name == "audit"  # a link there is a finding, which is said though it cannot be written
    assert code == (0 if name == "audit/report.html" else 1 if found else 2)
    assert "Traceback" not in err


def test_temporary_files_cannot_be_foreseen(build: Path, tmp_path: Path) -> None:
    """The name with the process's number in it was a link that the audit wrote through."""
    (build / "audit").mkdir()
    (tmp_path / "outside").write_bytes(b"mine")
    (build / f"audit/.verdict.json.{os.getpid()}").symlink_to(tmp_path / "outside")
    write_verdict(build, audit_build(build))
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert not [p for p in (build / "audit").iterdir() if p.name.startswith(".") and not p.is_symlink()]


def test_a_folder_in_the_place_of_a_verdict_is_named(build: Path) -> None:
    (build / VERDICT).mkdir(parents=True)
    with pytest.raises(BuildError, match=r"verdict\.json cannot be used"):
        replace_whole(build, VERDICT, b"{}")


def test_the_random_share_needs_the_build_and_the_nonce() -> None:
    seeds = {share_seed(build, nonce) for build in ("a" * 64, "b" * 64) for nonce in ("n1", "n2")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("level", ["source", "perturb"])
def test_an_inexact_audit_clears_nothing_that_was_found_exactly(build: Path, level: str, leak: bool) -> None:
    shallow = audit_build(build)
    if leak or level == "source":
        write_verdict(build, deep(shallow, "source", leak))
        before = (build / VERDICT).read_bytes()
        written = write_verdict(build, deep(shallow, level if leak else "source", exact=False))
        assert "exact, which this one is not" in written.kept
        assert (build / VERDICT).read_bytes() == before
    else:  # a deeper one than the exact one says more
        write_verdict(build, deep(shallow, "source"))
        write_verdict(build, deep(shallow, level, exact=False))
        assert standing(build) == ("perturb", "clean")


def test_an_inexact_audit_stands_where_there_is_no_exact_one(build: Path) -> None:
    shallow = audit_build(build)
    write_verdict(build, shallow)
    write_verdict(build, deep(shallow, exact=False))
    assert standing(build) == ("source", "clean")
    write_verdict(build, deep(shallow))
    assert json.loads((build / VERDICT).read_bytes())["exact"] is True
