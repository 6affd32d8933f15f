"""The gate: whether a build may be trained on, by the verdict of its audit and by who signed it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.audit.verdicts.attestation import check_signature, claimed_signer
from pipeline.audit.verdicts.audited import AuditedFiles
from pipeline.audit.verdicts.verdict import refusal
from pipeline.errors import AuditRefusedError
from pipeline.format.enums import AuditLevel
from pipeline.format.file_names import VERDICT
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import printable, reason

UNSIGNED = "unsigned"


@dataclass(frozen=True)
class Passed:
    """What let a build through.

    exact              nothing was compared within bounds, see `Verdict.exact`
    signed_by          id of the key, or "unsigned"
    signature_checked  whether the signature was verified with a public key; otherwise the id is a claim
    """

    level: str
    build_sha256: str
    exact: bool
    signed_by: str
    signature_checked: bool

    @property
    def text(self) -> str:
        """One line."""
        weaker = "" if self.exact else ", INEXACT"
        return f"clean at level {self.level}{weaker}, build.json {self.build_sha256}"


def pass_gate(files: AuditedFiles, level: str = "shards", public_key: Path | None = None) -> Passed:
    """Check the verdict, and with a public key who signed it.

    Args:
        level: the least depth of audit that is accepted. At level "manifest" no shard was read.
        public_key: PEM file of the ed25519 key that must have signed; None: anybody's verdict is accepted.

    Raises:
        AuditRefusedError: there is no verdict; it is not clean; it is of other bytes, another schema or too shallow; or
            it is unsigned or signed by somebody else.
        RunError: the public key cannot be used.
    """
    if files.envelope is None:
        _clean_verdict(files, level)  # what an unsigned audit found says more than that nobody signed
    signed_by = claimed_signer(files) if public_key is None else check_signature(files, public_key)
    verdict = _clean_verdict(files, level)
    return Passed(
        verdict["level"], files.sha256, verdict.get("exact") is True, signed_by or UNSIGNED, public_key is not None
    )


def _clean_verdict(files: AuditedFiles, level: str) -> dict[str, Any]:
    raw_data = " with root=FOLDER of its raw data" if AuditLevel(level).includes(AuditLevel.SOURCE) else ""
    path, fix = files.root / VERDICT, f"Run `vlajepa audit` on {files.root}, level={level}{raw_data}"
    if files.verdict is None:
        raise AuditRefusedError(f"{files.root} has not been audited: there is no {VERDICT}. {fix}")
    try:
        verdict: dict[str, Any] = parse(files.verdict)
        refused = refusal(files.manifest, verdict, level)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditRefusedError(f"{path} is not a verdict of this version: {reason(error)}. {fix}") from error
    if refused:
        raise AuditRefusedError(f"{path}: {printable(refused)}. {fix}")
    return verdict
