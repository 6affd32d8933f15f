"""A verdict signed by whoever made it: an in-toto Statement v1 in a DSSE v1 envelope, ed25519.

The subject is build.json, which lists the SHA-256 of every other file; the predicate is the verdict. Formats:
github.com/in-toto/attestation (spec/v1/statement.md) and github.com/secure-systems-lab/dsse (protocol.md, envelope.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
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

from pipeline.audit.files import alone_in, replace_whole
from pipeline.audit.verdicts.audited import AuditedFiles, read_audited
from pipeline.audit.verdicts.envelope import Envelope, parse_finite, pre_authentication_encoding, read_envelope
from pipeline.audit.verdicts.history import archive
from pipeline.audit.verdicts.verdict import Verdict, verdict_bytes
from pipeline.errors import AuditRefusedError, RunError
from pipeline.format.file_names import HISTORY, SIGNED_VERDICT, VERDICT
from pipeline.format.json.strict_json import canonical
from pipeline.format.text.printable import printable

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:vlajepa:leakage-audit:v1"


def sign_verdict(build: Path, key: Path, made: Verdict | None = None) -> Path:
    """Sign audit/verdict.json, clean or not, and keep the signature in the history too.

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
    with alone_in(build, os.path.dirname(VERDICT)):
        return _sign(build, private, made)


def _sign(build: Path, private: Ed25519PrivateKey, made: Verdict | None) -> Path:
    files = read_audited(build)
    verdict = _verdict_of(files)
    if made is not None and verdict != verdict_bytes(made):
        raise RunError(
            f"nothing signed: {build / VERDICT} is not the verdict of this audit but one that was kept because its"
            " level is deeper, or because it is a LEAK; audit as deep as it did, or delete it first"
        )
    payload = json.dumps(_statement(files), sort_keys=True, separators=(",", ":")).encode()
    signature = private.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    content = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    envelope = (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()
    path = replace_whole(build, SIGNED_VERDICT, envelope)
    archive(build, verdict, envelope, datetime.now(UTC))
    return path


def require_signature(build: Path, public_key: Path) -> str:
    """`check_signature` for the files of a folder."""
    return check_signature(read_audited(build), public_key)


def check_signature(files: AuditedFiles, public_key: Path) -> str:
    """Check that the envelope was signed with a key, and is about this build and this verdict.

    Returns:
        The key's id.

    Raises:
        RunError: the key cannot be used.
        AuditRefusedError: there is no envelope, or it does not vouch for this verdict.
    """
    public = _public_key(public_key)
    path, own = files.root / SIGNED_VERDICT, key_id(public)
    if files.envelope is None:
        raise AuditRefusedError(
            f"{path} is missing: the newest verdict is not signed ({HISTORY}/ holds what was signed before, if "
            "anything was); run vlajepa audit … sign_key=KEY.pem"
        )
    envelope = read_envelope(files.envelope, path)
    if not any(_holds(public, signature, envelope.signed) for _, signature in envelope.signatures):
        named = [name for name, _ in envelope.signatures]
        if own in named:
            raise AuditRefusedError(f"{path}: the signature of {own} is wrong: payload or signature were changed")
        found = ", ".join(map(repr, named)) or "nobody"
        raise AuditRefusedError(f"{path} is signed by {found}, not by {own} ({public_key})")
    _require_statement(files, path, envelope)
    return own


def claimed_signer(files: AuditedFiles) -> str:
    """The id of the key that an envelope about this build and this verdict names, unchecked; "" if there is none."""
    if files.envelope is None:
        return ""
    path = files.root / SIGNED_VERDICT
    try:
        envelope = read_envelope(files.envelope, path)
        _require_statement(files, path, envelope)
    except AuditRefusedError:
        return ""
    return envelope.signer


def key_id(public: Ed25519PublicKey) -> str:
    """SHA-256 of the key's DER SubjectPublicKeyInfo, in hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _verdict_of(files: AuditedFiles) -> bytes:
    if files.verdict is None:
        raise AuditRefusedError(f"{files.root} has not been audited: there is no {VERDICT}; run vlajepa audit")
    return files.verdict


def _holds(public: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        public.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _statement(files: AuditedFiles) -> dict[str, Any]:
    verdict = _verdict_of(files)
    try:
        predicate = parse_finite(verdict)
    except ValueError as error:
        what = f"{files.root / VERDICT} is no JSON: {printable(error)}"
        raise AuditRefusedError(f"{what}; run vlajepa audit") from error
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "build.json", "digest": {"sha256": files.sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def _require_statement(files: AuditedFiles, path: Path, envelope: Envelope) -> None:
    try:
        found = parse_finite(envelope.payload)
    except ValueError as error:
        raise AuditRefusedError(f"{path}: the payload is no JSON: {printable(error)}") from error
    expected = _statement(files)
    if envelope.kind != PAYLOAD_TYPE or not isinstance(found, dict):
        raise AuditRefusedError(f"{path} holds {envelope.kind!r}, not an in-toto statement")
    for name, what in (
        ("_type", "another kind of statement"),
        ("predicateType", "another kind of predicate"),
        ("subject", "about another build.json"),
        ("predicate", "about another verdict than audit/verdict.json"),
    ):
        if canonical(found.get(name)) != canonical(expected[name]):  # to Python 1 == True == 1.0
            raise AuditRefusedError(f"{path} is {what}")


_LARGEST_KEY = 2**16
"""Bytes."""


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
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with open(path, "rb") as file:
            return load(file.read(_LARGEST_KEY))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; give the {what}, or {fix}") from None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RunError(f"{path} is no {what} ({error}); {fix}") from error
