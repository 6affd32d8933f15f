"""What the audit found, in a recording: a line of text for each finding, below `audit/RULE`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.viewing.recorder import entity
from pipeline.audit.finding import RULES
from pipeline.audit.verdicts.audited import read_audited
from pipeline.errors import AuditRefusedError
from pipeline.format.file_names import VERDICT
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import printable, reason

TIMELINE = "finding"


@dataclass(frozen=True)
class Told:
    """A finding as the verdict tells it; sample: a key, or ""."""

    rule: str
    sample: str
    text: str


@dataclass(frozen=True)
class Findings:
    """Of the verdict that lies beside a build. status: a line for people."""

    status: str
    told: tuple[Told, ...]


def read_findings(build: Path) -> Findings:
    """Raises AuditRefusedError: the verdict is none of this version's."""
    files = read_audited(build)
    if files.verdict is None:
        return Findings("not audited", ())
    try:
        verdict = parse(files.verdict)
        told = tuple(
            Told(_rule(entry["rule"]), str(entry["sample"]), printable(f"{entry['file']}: {entry['detail']}"))
            for entry in verdict["findings"]
        )
        other = "" if verdict["build_sha256"] == files.sha256 else ", about another build.json"
        return Findings(printable(f"{verdict['status']} at level {verdict['level']}{other}"), told)
    except (ValueError, KeyError, TypeError) as error:
        raise AuditRefusedError(
            f"{build / VERDICT} is not a verdict of this version: {reason(error)}; run vlajepa audit"
        ) from error


def record_findings(rerun: Any, stream: Any, findings: Findings) -> None:
    """Log status and findings, in the verdict's order on a timeline of their own."""
    stream.log("audit/status", rerun.TextDocument(findings.status, media_type="text/plain"), static=True)
    for number, one in enumerate(findings.told):
        stream.set_time(TIMELINE, sequence=number)
        text = f"{printable(one.sample)}: {one.text}" if one.sample else one.text
        stream.log(entity(rerun, "audit", one.rule), rerun.TextLog(text, level="ERROR"))
    stream.reset_time()


def _rule(name: object) -> str:
    if name not in RULES:
        raise ValueError(f"no rule {name!r:.40}")
    return str(name)
