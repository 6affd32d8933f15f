"""`vlajepa verify`, and `vlajepa audit sign_key=`: exit code 0 verified, 1 not verified, 2 could not be checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.attestation import require_signature, sign_verdict
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from tests.jobs.test_cli import run
from tests.leakage.mutants.inputs import exif
from tests.leakage.tools import ARROW, edit_bytes
from tests.pipeline.audit.tiny_build import ROBOT, write_build
from tests.pipeline.audit.verdicts.test_attestation import write_keys


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "key", 1)


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    build = write_build(tmp_path / "build")
    write_verdict(build, audit_build(build))
    sign_verdict(build, keys[0])
    return build


def test_a_build_is_verified(signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in signed.rglob("*") if path.is_file()}
    code, out, _ = run(capsys, "verify", str(signed), f"public_key={keys[1]}")
    assert code == 0
    for part in ("signature: by key ", "verdict: clean", "files: 11 with", "VERIFIED"):
        assert part in out
    assert {path: path.read_bytes() for path in signed.rglob("*") if path.is_file()} == before


def test_what_was_not_checked_is_said(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "verify", str(signed), "hash_files=false")
    assert code == 0
    assert "signature: not checked" in out
    assert "files: not hashed" in out


def _flip(file: str) -> Callable[[Path], None]:
    return lambda build: edit_bytes(build, file, lambda data: data.__setitem__(-1, data[-1] ^ 1), repair=False)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_flip(ARROW), f"{ARROW} has another SHA-256"),
        (_flip("samples.parquet"), "samples.parquet has another SHA-256"),
        (_flip("tasks.jsonl"), "tasks.jsonl"),
        (_flip("build.json"), "about a build.json with SHA-256"),
        (lambda build: (build / ARROW).unlink(), f"{ARROW} is missing"),
        (lambda build: (build / ARROW).open("ab").write(b"x"), f"{ARROW} has "),
        (lambda build: (build / "tasks.jsonl").unlink(), "tasks.jsonl is missing"),
        (lambda build: (build / VERDICT).unlink(), "has not been audited"),
        (lambda build: (build / VERDICT).write_bytes(b"{"), "is not a verdict of this version"),
    ],
)
def test_what_changed_after_the_audit_is_noticed_without_a_key(
    signed: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Path], object], says: str
) -> None:
    edit(signed)
    code, out, err = run(capsys, "verify", str(signed))
    assert code == 1
    assert says in err
    assert "Traceback" not in err
    assert "VERIFIED" not in out


@pytest.mark.parametrize(
    "edit",
    [
        lambda build: (build / VERDICT).unlink(),
        lambda build: (build / VERDICT).write_bytes(b"{"),
        lambda build: (build / SIGNED_VERDICT).unlink(),
        lambda build: (build / SIGNED_VERDICT).write_bytes(b"[]"),
        _flip("build.json"),
        _flip("tasks.jsonl"),
    ],
)
def test_with_a_key_damage_is_not_verified_either(
    signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str], edit: Callable[[Path], object]
) -> None:
    edit(signed)
    code, _, err = run(capsys, "verify", str(signed), f"public_key={keys[1]}")
    assert code == 1
    assert "NOT VERIFIED" in err


def test_an_edited_verdict_is_noticed_with_a_key_alone(
    signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Why there are signatures: without one, anybody can write a verdict."""
    verdict = json.loads((signed / VERDICT).read_bytes())
    (signed / VERDICT).write_text(json.dumps({**verdict, "level": "perturb"}))
    assert run(capsys, "verify", str(signed), "level=perturb")[0] == 0
    code, _, err = run(capsys, "verify", str(signed), "level=perturb", f"public_key={keys[1]}")
    assert code == 1
    assert "about another verdict" in err


def test_another_builds_verdict_and_envelope_are_refused(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_build(tmp_path / "other", replace(ROBOT, seed=1))
    shutil.copytree(signed / "audit", other / "audit")
    code, _, err = run(capsys, "verify", str(other), f"public_key={keys[1]}")
    assert code == 1
    assert "about another build.json" in err
    assert run(capsys, "verify", str(other))[0] == 1


def test_a_signature_by_another_key_names_it(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = write_keys(tmp_path, "other", 2)
    sign_verdict(signed, private)
    code, _, err = run(capsys, "verify", str(signed), f"public_key={keys[1]}")
    assert code == 1
    assert require_signature(signed, public) in err


def test_a_shallower_audit_than_asked_for_is_refused(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "verify", str(signed), "--level", "source")
    assert code == 1
    assert "its level is 'shards'" in err


@pytest.mark.slow
def test_what_cannot_be_checked_has_another_exit_code(
    signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        [str(signed), "public_key=/nowhere.pem"],
        [str(signed), f"public_key={keys[0]}"],
        [str(signed / "train")],
        ["/nowhere"],
        [str(signed), "level=manifest"],
        [str(signed), "workers=0"],
    ):
        code, _, err = run(capsys, "verify", *words)
        assert code == 2, words
        assert err.startswith("vlajepa: ")


def test_audit_signs_a_leak_which_is_never_verified(
    tmp_path: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_build(tmp_path / "build")
    exif(build)
    code, out, _ = run(capsys, "audit", str(build), f"sign_key={keys[0]}")
    assert code == 1
    assert "signed: " in out
    require_signature(build, keys[1])
    code, _, err = run(capsys, "verify", str(build), f"public_key={keys[1]}")
    assert code == 1
    assert "the build was not found clean, failed checks by rule: " in err


def test_audit_signs_only_what_it_found_itself(
    signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A verdict that claims to be deeper is kept by a shallower audit, whoever wrote it."""
    verdict = json.loads((signed / VERDICT).read_bytes())
    (signed / VERDICT).write_text(json.dumps({**verdict, "level": "perturb"}))
    code, _, err = run(capsys, "audit", str(signed), f"sign_key={keys[0]}")
    assert code == 2
    assert "nothing signed" in err
    assert run(capsys, "verify", str(signed), f"public_key={keys[1]}")[0] == 1


def test_a_key_that_cannot_sign_is_refused_before_the_audit(
    tmp_path: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_build(tmp_path / "build")
    assert run(capsys, "audit", str(build), f"sign_key={keys[1]}")[0] == 2
    assert not (build / "audit").exists()
    code, _, err = run(capsys, "audit", str(build), "level=manifest", f"sign_key={keys[0]}")
    assert code == 2
    assert "sign_key needs level shards" in err
