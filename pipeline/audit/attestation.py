"""A verdict signed by whoever made it: an in-toto Statement v1 in a DSSE v1 envelope, ed25519.

The subject is build.json, which lists the SHA-256 of every other file; the predicate is the verdict. Formats:
github.com/in-toto/attestation (spec/v1/statement.md) and github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
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

from pipeline.audit.build import read_regular
from pipeline.audit.strict_json import parse
from pipeline.audit.verdict import SIGNED_VERDICT, VERDICT
from pipeline.errors import AuditRefusedError, RunError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:vlajepa:leakage-audit:v1"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload with their lengths (DSSE protocol.md, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_verdict(build: Path, key: Path) -> Path:
    """Sign audit/verdict.json as it is, clean or not.

    Args:
        build: the build's folder.
        key: PEM file of an unencrypted ed25519 private key.

    Returns:
        The path of audit/verdict.dsse.json; the same verdict and key give the same bytes.

    Raises:
        RunError: the key cannot be used, or there is no verdict.
    """
    private = _private_key(key)
    payload = json.dumps(_statement(build), sort_keys=True, separators=(",", ":")).encode()
    signature = private.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    path = build / SIGNED_VERDICT
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(envelope, sort_keys=True, indent=1) + "\n")
    os.replace(temporary, path)
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
    path = build / SIGNED_VERDICT
    try:
        envelope = parse(read_regular(path))
        payload = base64.b64decode(envelope["payload"], validate=True)
        kind, signatures = envelope["payloadType"], envelope["signatures"]
        signed = {entry["keyid"]: base64.b64decode(entry["sig"], validate=True) for entry in signatures}
    except (RunError, ValueError, KeyError, TypeError) as error:
        raise AuditRefusedError(f"{path} is no signed verdict: {error}. Sign it: vlajepa audit … sign_key=") from error
    own = key_id(public)
    if own not in signed:
        raise AuditRefusedError(f"{path} is signed by {', '.join(signed) or 'nobody'}, not by {own} ({public_key})")
    try:
        public.verify(signed[own], pre_authentication_encoding(str(kind), payload))
    except InvalidSignature as error:
        raise AuditRefusedError(
            f"{path}: the signature of {own} is wrong: payload or signature were changed"
        ) from error
    _require_statement(build, path, str(kind), payload)
    return own


def key_id(public: Ed25519PublicKey) -> str:
    """SHA-256 of the key's DER SubjectPublicKeyInfo, in hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _statement(build: Path) -> dict[str, Any]:
    digest = hashlib.sha256(read_regular(build / "build.json")).hexdigest()
    try:
        verdict = parse(read_regular(build / VERDICT))
    except ValueError as error:
        raise RunError(f"{build / VERDICT} is no JSON: {error}; run vlajepa audit") from error
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "build.json", "digest": {"sha256": digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": verdict,
    }


def _require_statement(build: Path, path: Path, kind: str, payload: bytes) -> None:
    try:
        found = parse(payload)
    except ValueError as error:
        raise AuditRefusedError(f"{path}: the payload is no JSON: {error}") from error
    expected = _statement(build)
    if kind != PAYLOAD_TYPE or not isinstance(found, dict):
        raise AuditRefusedError(f"{path} holds {kind!r}, not an in-toto statement")
    for name, what in (
        ("_type", "another kind of statement"),
        ("predicateType", "another kind of predicate"),
        ("subject", "about another build.json"),
        ("predicate", "about another verdict than audit/verdict.json"),
    ):
        if found.get(name) != expected[name]:
            raise AuditRefusedError(f"{path} is {what}")


def _private_key(path: Path) -> Ed25519PrivateKey:
    fix = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path} is no unencrypted PEM private key ({error}); {fix}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RunError(f"{path} holds a key of another kind than ed25519; {fix}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    fix = "make it with: openssl pkey -in key.pem -pubout -out public.pem"
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path} is no PEM public key ({error}); {fix}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RunError(f"{path} holds a key of another kind than ed25519; {fix}")
    return key
