"""`vlajepa audit BUILD`: the verdict on a build. Exit code 0 clean, 1 leak found, 2 could not be audited."""

from __future__ import annotations

import secrets
from pathlib import Path

from omegaconf import DictConfig

from jobs.config import parse
from jobs.progress import progress_bar
from jobs.settings import AuditConfig
from pipeline.audit.attestation import read_private_key, sign_verdict
from pipeline.audit.build import open_build
from pipeline.audit.evidence import Evidence, Sheet
from pipeline.audit.pictures import choose_samples, stored_sheets
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.raw_pictures import with_raw_frames
from pipeline.audit.report import write_report
from pipeline.audit.run import Progress, audit_build
from pipeline.audit.verdict import Verdict, verdict_level, write_verdict
from pipeline.errors import RunError

PICTURED = 20
"""Samples with findings whose pictures the report shows."""

RANDOM_SHEETS = 6
"""Other samples shown."""

SHOWN = 20
"""Findings printed; verdict.json holds more."""


def run(config: DictConfig) -> int:
    settings = parse(AuditConfig, config)
    if not settings.build.is_dir():
        raise RunError(f"{settings.build}: no such folder; give the folder that holds the build's build.json")
    if settings.sign_key is not None:
        read_private_key(settings.sign_key)  # a wrong path is worth knowing before the audit, not after
    with progress_bar(unit="B", unit_scale=True, unit_divisor=1024, desc=f"audit {settings.build}") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        verdict, evidence = audit(settings, progress)
    path = write_verdict(settings.build, verdict)
    print(describe(verdict))
    kept = verdict_level(path)
    print(f"verdict: {path}" + (f" (of level {kept}, deeper than this one, and kept)" if kept != verdict.level else ""))
    print(f"report: {write_report(open_build(settings.build), verdict, evidence)}")
    if settings.sign_key is not None:
        print(f"signed: {sign_verdict(settings.build, settings.sign_key, verdict)}")
    return verdict.exit_code


def audit(settings: AuditConfig, progress: Progress | None = None) -> tuple[Verdict, Evidence]:
    """Audit as deep as asked, with a seed drawn here if none was given."""
    evidence = Evidence()
    if settings.level in ("manifest", "shards"):
        verdict = audit_build(settings.build, settings.level, progress, evidence=evidence)
        evidence.sheets += sheets(settings.build, verdict)
        return verdict, evidence
    from jobs.audit_options import deep_options  # loads torch, which the other levels do without

    seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    source, perturb = deep_options(settings, seed)
    verdict = audit_build(settings.build, settings.level, progress, source, perturb, evidence)
    build = open_build(settings.build)
    raw = open_raw(build.settings.get("source"), source.root)
    evidence.sheets += with_raw_frames(sheets(settings.build, verdict), build, raw)
    return verdict, evidence


def sheets(path: Path, verdict: Verdict) -> list[Sheet]:
    """Pictures of samples that findings name, and of a few others."""
    build = open_build(path)
    named = list(dict.fromkeys(finding.sample for finding in verdict.findings if finding.sample))[:PICTURED]
    return stored_sheets(build, list(dict.fromkeys([*named, *choose_samples(build, RANDOM_SHEETS, verdict.seed or 0)])))


def describe(verdict: Verdict) -> str:
    """Rule by rule, then the findings."""
    lines = [f"{'rule':5} {'checks':>10} {'failed':>10}"]
    lines += [f"{rule:5} {count.checked:10,} {count.failed:10,}" for rule, count in verdict.rules.items()]
    for finding in verdict.findings[:SHOWN]:
        where = " ".join(part for part in (finding.file, finding.sample) if part)
        lines.append(f"{finding.rule}: {where}: {finding.detail}")
    hidden = sum(count.failed for count in verdict.rules.values()) - len(verdict.findings[:SHOWN])
    if hidden > 0:
        lines.append(f"… and {hidden:,} more; verdict.json lists up to 100 a rule")
    if verdict.coverage:
        looked = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in verdict.coverage.items())
        lines.append(f"looked at: {looked} (seed={verdict.seed})")
    lines.append(f"{verdict.status.upper()}: {verdict.samples:,} samples, level {verdict.level}")
    return "\n".join(lines)
