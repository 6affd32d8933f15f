"""How a build was audited, for the gate of `push` and for its card."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.sharing.settings import PushConfig
from pipeline.audit.verdicts.audited import AuditedFiles
from pipeline.audit.verdicts.gate import UNSIGNED, Passed, pass_gate
from pipeline.errors import AuditRefusedError


@dataclass(frozen=True)
class AuditStatus:
    """passed: what let the build through the gate; None for one that has no clean verdict."""

    passed: Passed | None

    @property
    def lines(self) -> tuple[str, ...]:
        """Sentences in Markdown."""
        passed = self.passed
        if passed is None:
            return (
                "**No clean verdict.** This build was pushed without one: nothing vouches that its inputs hold nothing "
                "of the future. Training refuses it.",
            )
        weaker = "" if passed.exact else ", **within bounds** and not byte for byte"
        if passed.signed_by == UNSIGNED:
            signed = "Nobody signed the verdict."
        elif passed.signature_checked:
            signed = f"The verdict is signed by the key `{passed.signed_by}`; whoever pushed it checked the signature."
        else:
            signed = f"The verdict names the key `{passed.signed_by}`; whoever pushed it did not check the signature."
        return (f"Found **clean** at level `{passed.level}`{weaker}. {signed}",)


def audit_status(files: AuditedFiles, settings: PushConfig) -> AuditStatus:
    """Raises AuditRefusedError where there is no clean verdict and `unaudited` is not set."""
    try:
        return AuditStatus(pass_gate(files, settings.level, settings.public_key))
    except AuditRefusedError as error:
        if settings.unaudited:
            return AuditStatus(None)
        raise AuditRefusedError(f"{error}; unaudited=true pushes it as it is, and its card says so") from error
