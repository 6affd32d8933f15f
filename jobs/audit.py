"""`vlajepa audit BUILD`: the verdict on a build. Exit code 0 clean, 1 leak found, 2 could not be audited."""

from __future__ import annotations

import secrets

from omegaconf import DictConfig

from jobs.config import AuditConfig, parse
from jobs.progress import progress_bar
from pipeline.audit.attestation import sign_verdict
from pipeline.audit.evidence import Evidence
from pipeline.audit.run import Progress, audit_build
from pipeline.audit.verdict import Verdict, write_verdict
from pipeline.errors import RunError

SHOWN = 20
"""Findings printed; verdict.json holds more."""


def run(config: DictConfig) -> int:
    settings = parse(AuditConfig, config)
    if not settings.build.is_dir():
        raise RunError(f"{settings.build}: no such folder; give the folder that holds the build's build.json")
    with progress_bar(unit="B", unit_scale=True, unit_divisor=1024, desc=f"audit {settings.build}") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        verdict, evidence = audit(settings, progress)
    path = write_verdict(settings.build, verdict)
    print(describe(verdict))
    print(f"verdict: {path}")
    if settings.sign_key is not None:
        print(f"signed: {sign_verdict(settings.build, settings.sign_key)}")
    return verdict.exit_code


def audit(settings: AuditConfig, progress: Progress | None = None) -> tuple[Verdict, Evidence]:
    """Audit as deep as asked, with a seed drawn here if none was given."""
    evidence = Evidence()
    if settings.level in ("manifest", "shards"):
        return audit_build(settings.build, settings.level, progress, evidence=evidence), evidence
    from jobs.audit_options import deep_options  # loads torch, which the other levels do without

    seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    source, perturb = deep_options(settings, seed)
    return audit_build(settings.build, settings.level, progress, source, perturb, evidence), evidence


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
