"""A verdict signed by whoever made it: an in-toto Statement v1 in a DSSE v1 envelope, ed25519.

The subject is build.json, which lists the SHA-256 of every other file; the predicate is the verdict. Formats:
github.com/in-toto/attestation (spec/v1/statement.md) and github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from pipeline.audit.files import is_regular, read_regular
from pipeline.audit.verdict import Verdict, replace_whole, verdict_bytes
from pipeline.errors import AuditRefusedError, RunError
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from pipeline.format.strict_json import canonical, parse

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:vlajepa:leakage-audit:v1"

_STANDARD = str.maketrans("-_", "+/")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload with their lengths (DSSE protocol.md, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_verdict(build: Path, key: Path, made: Verdict | None = None) -> Path:
    """Sign audit/verdict.json, clean or not.

    Args:
        key: PEM file of an unencrypted ed25519 private key.
        made: what the file must hold, so that a deeper verdict that was kept is not signed by mistake;
            None: the file as it is.

    Returns:
        The path of audit/verdict.dsse.json; the same verdict and key give the same bytes.

    Raises:
        RunError: the key cannot be used, there is no verdict, or it is another than `made`.
    """
    private = read_private_key(key)
    verdict = _read_verdict(build)
    if made is not None and verdict != verdict_bytes(made):
        raise RunError(
            f"nothing signed: {build / VERDICT} is not the verdict of this audit but one that was kept because its"
            " level is deeper; audit at that level, or delete it first"
        )
    payload = json.dumps(_statement(build, verdict), sort_keys=True, separators=(",", ":")).encode()
    signature = private.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    path = build / SIGNED_VERDICT
    replace_whole(path, (json.dumps(envelope, sort_keys=True, indent=1) + "\n").encode())
    return path


def require_signature(build: Path, public_key: Path) -> str:
    """Check that the envelope was signed with a key, and is about this build and this verdict.

    Returns:
        The key's id.

    Raises:
        RunError: the key cannot be used.
        AuditRefusedError: there is no envelope, or it does not vouch for this verdict.
    """
    public = _public_key(public_key)
    path, own = build / SIGNED_VERDICT, key_id(public)
    kind, payload, signed, signatures = _read_envelope(path)
    if not any(_holds(public, signature, signed) for _, signature in signatures):
        named = [name for name, _ in signatures]
        if own in named:
            raise AuditRefusedError(f"{path}: the signature of {own} is wrong: payload or signature were changed")
        found = ", ".join(map(repr, named)) or "nobody"
        raise AuditRefusedError(f"{path} is signed by {found}, not by {own} ({public_key})")
    _require_statement(build, path, kind, payload)
    return own


def key_id(public: Ed25519PublicKey) -> str:
    """SHA-256 of the key's DER SubjectPublicKeyInfo, in hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _read_verdict(build: Path) -> bytes:
    path = build / VERDICT
    if not is_regular(path):
        raise AuditRefusedError(f"{build} has not been audited: there is no {VERDICT}; run vlajepa audit")
    return path.read_bytes()


def _read_envelope(path: Path) -> tuple[str, bytes, bytes, list[tuple[str, bytes]]]:
    """Payload type, payload, what was signed, and signatures by keyid: an unauthenticated hint, "" without one."""
    if not is_regular(path):
        raise AuditRefusedError(f"{path} is missing: nobody signed the verdict; run vlajepa audit … sign_key=KEY.pem")
    try:
        content = _parse(path.read_bytes())
        kind, payload = content["payloadType"], _decode(content["payload"])
        signatures = [(entry.get("keyid", ""), _decode(entry["sig"])) for entry in content["signatures"]]
        if not all(isinstance(text, str) for text in (kind, *(name for name, _ in signatures))):
            raise TypeError("payloadType and keyid must be strings")
        return kind, payload, pre_authentication_encoding(kind, payload), signatures
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditRefusedError(f"{path} is no DSSE envelope ({error!r}); sign the verdict again") from error


def _parse(data: bytes) -> Any:
    """JSON that can be written again: 1e999 would be read as infinity."""
    value = parse(data)
    canonical(value)
    return value


def _decode(text: str) -> bytes:
    """Base64 of either alphabet, as DSSE requires of readers."""
    return base64.b64decode(text.translate(_STANDARD), validate=True)


def _holds(public: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        public.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _statement(build: Path, verdict: bytes) -> dict[str, Any]:
    try:
        predicate = _parse(verdict)
    except ValueError as error:
        raise AuditRefusedError(f"{build / VERDICT} is no JSON: {error}; run vlajepa audit") from error
    digest = hashlib.sha256(read_regular(build / "build.json")).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "build.json", "digest": {"sha256": digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def _require_statement(build: Path, path: Path, kind: str, payload: bytes) -> None:
    try:
        found = _parse(payload)
    except ValueError as error:
        raise AuditRefusedError(f"{path}: the payload is no JSON: {error}") from error
    expected = _statement(build, _read_verdict(build))
    if kind != PAYLOAD_TYPE or not isinstance(found, dict):
        raise AuditRefusedError(f"{path} holds {kind!r}, not an in-toto statement")
    for name, what in (
        ("_type", "another kind of statement"),
        ("predicateType", "another kind of predicate"),
        ("subject", "about another build.json"),
        ("predicate", "about another verdict than audit/verdict.json"),
    ):
        if canonical(found.get(name)) != canonical(expected[name]):  # to Python 1 == True == 1.0
            raise AuditRefusedError(f"{path} is {what}")


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """An unencrypted ed25519 key from a PEM file (PKCS #8). Raises RunError for anything else."""
    fix = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
    key = _load(path, lambda pem: load_pem_private_key(pem, None), "unencrypted PEM private key", fix)
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise RunError(f"{path} holds a key of another kind than ed25519; {fix}")


def _public_key(path: Path) -> Ed25519PublicKey:
    fix = "make it with: openssl pkey -in key.pem -pubout -out public.pem"
    key = _load(path, load_pem_public_key, "PEM public key", fix)
    if isinstance(key, Ed25519PublicKey):
        return key
    raise RunError(f"{path} holds a key of another kind than ed25519; {fix}")


def _load(path: Path, load: Callable[[bytes], object], what: str, fix: str) -> object:
    try:
        return load(path.read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path} is no {what} ({error}); {fix}") from error
