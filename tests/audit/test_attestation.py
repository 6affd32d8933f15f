"""A signed verdict holds for one build, one verdict and one key."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from jobs.cli import main
from pipeline.audit.attestation import pre_authentication_encoding, require_signature, sign_verdict
from pipeline.audit.run import audit_build
from pipeline.audit.verdict import SIGNED_VERDICT, VERDICT, write_verdict
from pipeline.errors import AuditRefusedError, RunError
from tests.audit.tiny_build import ROBOT, write_build
from tests.leakage.mutants.inputs import exif
from tests.leakage.tools import ARROW, edit_bytes


def _write_keys(folder: Path, name: str, seed: int) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return _write_keys(tmp_path, "key", 1)


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    build = write_build(tmp_path / "build")
    write_verdict(build, audit_build(build))
    sign_verdict(build, keys[0])
    return build


def _verify(*words: object) -> int:
    try:
        main(["verify", *map(str, words)])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_pre_authentication_encoding_is_that_of_the_specification() -> None:
    found = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_signature_holds_and_is_the_same_every_time(signed: Path, keys: tuple[Path, Path]) -> None:
    first = (signed / SIGNED_VERDICT).read_bytes()
    assert len(require_signature(signed, keys[1])) == 64
    sign_verdict(signed, keys[0])
    assert (signed / SIGNED_VERDICT).read_bytes() == first
    payload = json.loads(base64.b64decode(json.loads(first)["payload"]))
    assert payload["predicate"] == json.loads((signed / VERDICT).read_bytes())
    assert payload["_type"] == "https://in-toto.io/Statement/v1"


def test_openssl_checks_the_signature(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """By a program that knows nothing of this project."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    envelope = json.loads((signed / SIGNED_VERDICT).read_bytes())
    payload = base64.b64decode(envelope["payload"])
    (tmp_path / "pae").write_bytes(pre_authentication_encoding(envelope["payloadType"], payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin", "-in", "pae"]
    subprocess.run([*command, "-sigfile", "sig"], cwd=tmp_path, check=True, capture_output=True)


def _edit(build: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((build / file).read_bytes())
    change(content)
    (build / file).write_text(json.dumps(content))


def _edit_payload(envelope: dict[str, Any]) -> None:
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["samples"] += 1
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        (SIGNED_VERDICT, _edit_payload, "the signature of .* is wrong"),
        (SIGNED_VERDICT, lambda e: e.update(payloadType="text/plain"), "the signature of .* is wrong"),
        (SIGNED_VERDICT, lambda e: e["signatures"].clear(), "is signed by nobody"),
        (SIGNED_VERDICT, lambda e: e.pop("payload"), "is no signed verdict"),
        (VERDICT, lambda v: v.update(samples=1), "about another verdict"),
        ("build.json", lambda b: b.update(fps=1), "about another build.json"),
    ],
)
def test_what_was_changed_is_noticed(
    signed: Path, keys: tuple[Path, Path], file: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    _edit(signed, file, change)
    with pytest.raises(AuditRefusedError, match=says):
        require_signature(signed, keys[1])


def test_another_builds_verdict_and_envelope_are_refused(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_build(tmp_path / "other", replace(ROBOT, seed=1))
    shutil.copytree(signed / "audit", other / "audit")
    assert _verify(other, f"public_key={keys[1]}") == 1
    assert _verify(other) == 1


def test_a_signature_by_another_key_is_named(signed: Path, tmp_path: Path) -> None:
    private, public = _write_keys(tmp_path, "other", 2)
    with pytest.raises(AuditRefusedError, match=r"is signed by .*, not by"):
        require_signature(signed, public)
    sign_verdict(signed, private)
    require_signature(signed, public)


def test_keys_of_other_kinds_are_refused(signed: Path, tmp_path: Path) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    locked = Ed25519PrivateKey.generate()
    for name, data, says in (
        ("missing", None, "No such file"),
        ("text", b"no key", "no unencrypted PEM private key"),
        ("curve", curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "another kind than ed25519"),
        ("locked", locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "encrypted"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(RunError, match=says):
            sign_verdict(signed, tmp_path / name)
    with pytest.raises(RunError, match="no PEM public key"):
        require_signature(signed, tmp_path / "text")


def test_command_verifies_a_build(signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify(signed, f"public_key={keys[1]}") == 0
    assert "VERIFIED" in capsys.readouterr().out
    assert _verify(signed) == 0
    assert "signature: not checked" in capsys.readouterr().out
    assert _verify(signed, "--level", "source") == 1  # it was audited at level shards
    assert _verify(signed, "public_key=/nowhere.pem") == 2
    assert _verify(signed / "train") == 2


def test_command_notices_a_bit_that_flipped_after_the_audit(
    signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edit_bytes(signed, ARROW, lambda data: data.__setitem__(-1, data[-1] ^ 1), repair=False)
    assert _verify(signed, f"public_key={keys[1]}") == 1
    assert f"{ARROW} has another SHA-256" in capsys.readouterr().err
    assert _verify(signed, "hash_files=false") == 0


def test_a_leak_is_never_verified(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    build = write_build(tmp_path / "build")
    exif(build)
    write_verdict(build, audit_build(build))
    sign_verdict(build, keys[0])
    require_signature(build, keys[1])  # a signed LEAK is a statement too
    assert _verify(build, f"public_key={keys[1]}") == 1
