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

from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.attestation import pre_authentication_encoding, require_signature, sign_verdict
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import AuditRefusedError, RunError
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from tests.pipeline.audit.tiny_build import write_build


def write_keys(folder: Path, name: str, seed: int) -> tuple[Path, Path]:
    """PEM files of a private and its public key."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "key", 1)


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    build = write_build(tmp_path / "build")
    write_verdict(build, audit_build(build))
    sign_verdict(build, keys[0])
    return build


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
    ("file", "change", "message"),
    [
        (SIGNED_VERDICT, _edit_payload, "the signature of .* is wrong"),
        (SIGNED_VERDICT, lambda e: e.update(payloadType="text/plain"), "the signature of .* is wrong"),
        (SIGNED_VERDICT, lambda e: e["signatures"].clear(), "is signed by nobody"),
        (SIGNED_VERDICT, lambda e: e.pop("payload"), "is no DSSE envelope"),
        (SIGNED_VERDICT, lambda e: e.update(payload="§"), "is no DSSE envelope"),
        (SIGNED_VERDICT, lambda e: e.update(payloadType=5), "is no DSSE envelope"),
        (SIGNED_VERDICT, lambda e: e.update(payloadType="\ud800"), "is no DSSE envelope"),
        (SIGNED_VERDICT, lambda e: e.update(signatures=["x"]), "is no DSSE envelope"),
        (SIGNED_VERDICT, lambda e: e["signatures"][0].update(keyid=5), "is no DSSE envelope"),
        (SIGNED_VERDICT, lambda e: e["signatures"][0].update(sig="AAAA"), "the signature of .* is wrong"),
        (VERDICT, lambda v: v.update(samples=1), "about another verdict"),
        (VERDICT, lambda v: v.update(schema_version=True), "about another verdict"),
        ("build.json", lambda b: b.update(fps=1), "about another build.json"),
    ],
)
def test_what_was_changed_is_noticed(
    signed: Path, keys: tuple[Path, Path], file: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _edit(signed, file, change)
    with pytest.raises(AuditRefusedError, match=message):
        require_signature(signed, keys[1])


@pytest.mark.parametrize("garbage", [b"", b"null", b"[]", b"\xff", b'{"payload": 1e999}', b"{" * 100_000])
def test_garbage_for_an_envelope_is_refused(signed: Path, keys: tuple[Path, Path], garbage: bytes) -> None:
    (signed / SIGNED_VERDICT).write_bytes(garbage)
    with pytest.raises(AuditRefusedError, match="is no DSSE envelope"):
        require_signature(signed, keys[1])


@pytest.mark.parametrize("garbage", [None, b"", b'{"samples": 1e999}'])
def test_without_a_readable_verdict_nothing_is_signed_or_verified(
    signed: Path, keys: tuple[Path, Path], garbage: bytes | None
) -> None:
    (signed / VERDICT).unlink()
    if garbage is not None:
        (signed / VERDICT).write_bytes(garbage)
    with pytest.raises(AuditRefusedError, match="run vlajepa audit"):
        sign_verdict(signed, keys[0])
    with pytest.raises(AuditRefusedError, match="run vlajepa audit"):
        require_signature(signed, keys[1])


def test_an_unsigned_verdict_has_no_signature(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / SIGNED_VERDICT).unlink()
    with pytest.raises(AuditRefusedError, match="the newest verdict is not signed"):
        require_signature(signed, keys[1])


def _url_safe(text: str) -> str:
    return text.translate(str.maketrans("+/", "-_"))


def test_what_dsse_leaves_to_the_writer_is_accepted(signed: Path, keys: tuple[Path, Path]) -> None:
    """Signatures by others beside ours, no keyid, the base64 alphabet of URLs."""
    envelope = json.loads((signed / SIGNED_VERDICT).read_bytes())
    own = {"sig": _url_safe(envelope["signatures"][0]["sig"])}
    envelope |= {"signatures": [{"keyid": "x", "sig": "AAAA"}, own], "payload": _url_safe(envelope["payload"])}
    (signed / SIGNED_VERDICT).write_text(json.dumps(envelope))
    require_signature(signed, keys[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "another kind of statement"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "another kind of predicate"),
        ({"subject": []}, "about another build.json"),
    ],
)
def test_statements_of_other_kinds_are_refused_though_well_signed(
    signed: Path, keys: tuple[Path, Path], change: dict[str, Any], message: str
) -> None:
    envelope = json.loads((signed / SIGNED_VERDICT).read_bytes())
    payload = json.dumps({**json.loads(base64.b64decode(envelope["payload"])), **change}).encode()
    key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    signature = key.sign(pre_authentication_encoding(envelope["payloadType"], payload))
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    (signed / SIGNED_VERDICT).write_text(json.dumps(envelope))
    with pytest.raises(AuditRefusedError, match=message):
        require_signature(signed, keys[1])


def test_a_verdict_that_was_kept_is_not_signed_by_who_did_not_make_it(signed: Path, keys: tuple[Path, Path]) -> None:
    verdict = audit_build(signed)
    write_verdict(signed, replace(verdict, level="perturb", nonce="n1"))
    write_verdict(signed, verdict)
    with pytest.raises(RunError, match="nothing signed"):
        sign_verdict(signed, keys[0], verdict)
    assert not (signed / SIGNED_VERDICT).exists()


def test_a_signature_by_another_key_is_named(signed: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "other", 2)
    with pytest.raises(AuditRefusedError, match=r"is signed by .*, not by"):
        require_signature(signed, public)
    sign_verdict(signed, private)
    require_signature(signed, public)


def test_keys_of_other_kinds_are_refused(signed: Path, tmp_path: Path) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    locked = Ed25519PrivateKey.generate()
    for name, data, message in (
        ("missing", None, "no such file"),
        ("text", b"no key", "no unencrypted PEM private key"),
        ("curve", curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "another kind than ed25519"),
        ("locked", locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "encrypted"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(RunError, match=message) as caught:
            sign_verdict(signed, tmp_path / name)
        assert "\n" not in str(caught.value)
    curve_public = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "curve").write_bytes(curve_public)
    with pytest.raises(RunError, match="it is no regular file"):
        require_signature(signed, Path("/dev/zero"))
    for name, message in (("missing.pub", "no such file"), ("text", "no PEM public key"), ("curve", "another kind")):
        with pytest.raises(RunError, match=message) as caught:
            require_signature(signed, tmp_path / name)
        assert not isinstance(caught.value, AuditRefusedError)  # it could not be checked, which is not "not verified"
        assert "\n" not in str(caught.value)
