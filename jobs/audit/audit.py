"""`vlajepa audit BUILD`: the verdict on a build. Exit code 0 clean, 1 leak found, 2 could not be audited."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from jobs.audit.remote_build import RemoteBuild, remote_build
from jobs.audit.settings import AuditConfig
from jobs.common.progress import progress_bar
from pipeline.audit.attestation import read_private_key, sign_verdict
from pipeline.audit.build import open_build
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.levels.run import Progress, audit_build
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.report.evidence import Evidence, Sheet
from pipeline.audit.report.page import write_report
from pipeline.audit.report.raw_images import with_raw_frames
from pipeline.audit.report.stored_images import choose_samples, stored_sheets
from pipeline.audit.verdict import Verdict, verdict_level, write_verdict
from pipeline.errors import RunError
from pipeline.format.enums import AuditLevel
from pipeline.storage.store import is_remote

ILLUSTRATED = 20
"""Samples with findings whose images the report shows."""

RANDOM_SHEETS = 6
"""Other samples shown."""

SHOWN = 20
"""Findings printed; verdict.json holds more."""


def run(settings: AuditConfig) -> int:
    if settings.sign_key is not None:
        read_private_key(settings.sign_key)  # a wrong path is worth knowing before the audit, not after
    if is_remote(str(settings.build)):
        with remote_build(str(settings.build)) as place:
            return _run(replace(settings, build=place.root), place)
    root = Path(settings.build)
    if not root.is_dir():
        raise RunError(f"{root}: no such folder; give the folder that holds the build's build.json")
    return _run(replace(settings, build=root))


def _run(settings: AuditConfig, place: RemoteBuild | None = None) -> int:
    """Audit; write verdict, report and signature, and upload them if the build is in a bucket."""
    root, where = Path(settings.build), str(settings.build) if place is None else place.url
    with progress_bar(unit="B", unit_scale=True, unit_divisor=1024, desc=f"audit {where}") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        verdict, evidence = audit(settings, progress, place)
    path = write_verdict(root, verdict)
    print(describe(verdict))
    kept = verdict_level(path)
    deeper = f" (of level {kept}, deeper than this one, and kept)" if kept != verdict.level else ""
    written = [f"verdict: {path}{deeper}", f"report: {write_report(open_build(root), verdict, evidence)}"]
    if settings.sign_key is not None:
        written.append(f"signed: {sign_verdict(root, settings.sign_key, verdict)}")
    if place is not None:
        place.publish()
    print("\n".join(written).replace(str(root), where))
    return verdict.exit_code


def audit(
    settings: AuditConfig, progress: Progress | None = None, fetcher: ShardFetcher | None = None
) -> tuple[Verdict, Evidence]:
    """Audit a folder at the configured level, with a random seed if none is set.

    Args:
        fetcher: brings the shards when the folder holds only the small files.
    """
    root, evidence = Path(settings.build), Evidence()
    if not settings.level.includes(AuditLevel.SOURCE):
        verdict = audit_build(root, settings.level, progress, evidence=evidence, fetcher=fetcher)
        evidence.sheets += sheets(root, verdict, fetcher)
        return verdict, evidence
    from jobs.audit.options import deep_options  # loads torch, which the other levels do without

    seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    source, perturb = deep_options(settings, seed, fetcher)
    verdict = audit_build(root, settings.level, progress, source, perturb, evidence, fetcher)
    build = open_build(root)
    raw = open_raw(build.settings.get("source"), source.root)
    evidence.sheets += with_raw_frames(sheets(root, verdict, fetcher), build, raw)
    return verdict, evidence


def sheets(path: Path, verdict: Verdict, fetcher: ShardFetcher | None = None) -> list[Sheet]:
    """Images of samples that findings name, and of a few others."""
    build = open_build(path, fetcher)
    named = list(dict.fromkeys(finding.sample for finding in verdict.findings if finding.sample))[:ILLUSTRATED]
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
        checked = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in verdict.coverage.items())
        lines.append(f"checked: {checked} (seed={verdict.seed})")
    lines += verdict.claims
    weaker = "" if verdict.exact else ", INEXACT: not all was derived to the byte (inexact=true)"
    lines.append(f"{verdict.status.upper()}: {verdict.samples:,} samples, level {verdict.level}{weaker}")
    return "\n".join(lines)
