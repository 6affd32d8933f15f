"""`vlajepa audit BUILD`: the verdict on a build. Exit code 0 clean, 1 leak found, 2 could not be audited."""

from __future__ import annotations

import contextlib
import secrets
import sys
from dataclasses import replace
from pathlib import Path

from jobs.audit.compare import BuildsCompared, run_compare
from jobs.audit.raw_place import given_raw_data
from jobs.audit.remote_build import RemoteBuild, remote_build
from jobs.audit.settings import AuditConfig
from jobs.common.escaped import escaped_errors
from jobs.common.progress import progress_bar
from pipeline.audit.build import open_build
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.files import read_inside
from pipeline.audit.levels.bench import Runner
from pipeline.audit.levels.run import Progress, audit_build
from pipeline.audit.proofs.proof import Proof
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.report.evidence import Evidence, Sheet
from pipeline.audit.report.page import write_report
from pipeline.audit.report.raw_images import with_raw_frames
from pipeline.audit.report.stored_images import choose_samples, stored_sheets
from pipeline.audit.samples import share_seed
from pipeline.audit.verdicts.attestation import read_private_key, sign_verdict
from pipeline.audit.verdicts.verdict import Verdict, Written, write_verdict
from pipeline.errors import RunError
from pipeline.format.enums import AuditLevel
from pipeline.format.file_names import HISTORY, VERDICT
from pipeline.format.text.printable import printable
from pipeline.storage.full_disk import naming_folder
from pipeline.storage.store import is_remote

ILLUSTRATED = 20
"""Samples with findings whose images the report shows."""

RANDOM_SHEETS = 6
"""Other samples shown."""

SHOWN = 20
"""Findings printed; verdict.json holds more."""


READ = "all files are read; comparing held-out films with those of train, the ledger and what was left out …"
"""Said before what no bar shows: it takes seconds to hours, by the number of held-out films."""


def run(settings: AuditConfig) -> Verdict | BuildsCompared:
    """The verdict on a build; what was found between several."""
    if settings.builds:
        return run_compare(settings)
    if settings.sign_key is not None:
        read_private_key(settings.sign_key)  # a wrong path is worth knowing before the audit, not after
    with escaped_errors():
        if is_remote(str(settings.build)):
            with remote_build(str(settings.build)) as place:
                return _run(replace(settings, build=place.root), place)
        root = Path(settings.build)
        if not root.is_dir():
            raise RunError(f"{root}: no such folder; give the folder that holds the build's build.json")
        return _run(replace(settings, build=root))


def _run(settings: AuditConfig, place: RemoteBuild | None = None) -> Verdict:
    """Audit; write verdict, report and signature, and upload them if the build is in a bucket."""
    root, where = Path(settings.build), str(settings.build) if place is None else place.url
    deep = settings.level.includes(AuditLevel.SOURCE)
    with progress_bar(unit="B", unit_scale=True, unit_divisor=1024, desc=f"audit {where}") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if done == total and deep:
                bar.write(READ, file=sys.stderr)

        verdict, evidence = audit(settings, progress, place)
    try:
        written, lines = _written(settings, root, place, verdict, evidence)
    except RunError as error:
        if verdict.exit_code == 0:
            raise
        print(describe(verdict))  # what was found is said, and the exit code is the leak's
        sys.stderr.write(f"vlajepa: {printable(str(error).replace(str(root), where))}\n")
        return verdict
    print(describe(verdict))
    print("\n".join(lines).replace(str(root), where))
    if settings.sign_key is not None and written.kept:
        raise RunError(f"nothing signed: {where}/{VERDICT} is {written.kept}; audit as deep, or delete it first")
    return verdict


def _written(
    settings: AuditConfig, root: Path, place: RemoteBuild | None, verdict: Verdict, evidence: Evidence
) -> tuple[Written, list[str]]:
    """Write verdict, page and signature, there too. What stands where, one line each."""
    where = str(root) if place is None else place.url
    with naming_folder(where, "free space there, and audit again", errors=None):
        written = _write_first(root, verdict, place)
        lines = _written_lines(root, verdict, evidence, written)
    if settings.sign_key is not None and not written.kept:
        lines.append(f"signed: {sign_verdict(root, settings.sign_key, verdict)}")
    elif written.unseats:
        lines.append(
            f"unsigned: the verdict before was signed by {written.unseats}, this one is not; that one is kept in "
            f"{root / HISTORY} with its signature"
        )
    if place is not None:
        place.publish()
    return written, lines


def _write_first(root: Path, verdict: Verdict, place: RemoteBuild | None) -> Written:
    """Write the verdict, to the bucket too, before anything else that may fail: page, signature, printing."""
    if place is None:
        return write_verdict(root, verdict)
    place.look_again()
    try:
        return write_verdict(root, verdict)
    finally:
        place.publish()  # where a leak cannot be written, the clean verdict is gone here, and goes there


def _written_lines(root: Path, verdict: Verdict, evidence: Evidence, written: Written) -> list[str]:
    """Write the report, which belongs to the verdict that stands. What stands where, one line each."""
    if written.kept:
        other = f"kept: {written.path} is {written.kept}; this audit's verdict is in {root / HISTORY}"
        return [other, "report: not written, that of the kept verdict stays"]
    if written.path != root / VERDICT and read_inside(root, VERDICT) is not None:
        return [f"verdict: {written.path}", "report: not written, that of the deeper verdict stays"]
    return [f"verdict: {written.path}", f"report: {write_report(open_build(root), verdict, evidence)}"]


def audit(
    settings: AuditConfig, progress: Progress | None = None, fetcher: RemoteBuild | None = None
) -> tuple[Verdict, Evidence]:
    """Audit a folder at the configured level, with a random nonce if none is set.

    Args:
        fetcher: brings the shards when the folder holds only the small files.
    """
    root, evidence = Path(settings.build), Evidence()
    nonce = f"n{secrets.token_hex(16)}" if settings.nonce is None else settings.nonce
    if not settings.level.includes(AuditLevel.SOURCE):
        with _runner(settings, nonce, fetcher) as runner:
            verdict = audit_build(root, settings.level, progress, None, evidence, fetcher, runner)
        evidence.sheets += sheets(root, verdict, fetcher)
        return verdict, evidence
    given_raw_data(settings)
    from jobs.audit.options import deep_options  # loads torch, which refusals and the other levels do without

    deep = deep_options(settings, nonce, fetcher)
    with _runner(settings, nonce, fetcher) as runner:
        verdict = audit_build(root, settings.level, progress, deep, evidence, fetcher, runner)
    build = open_build(root)
    raw = open_raw(build.settings.get("source"), deep.root)
    evidence.sheets += with_raw_frames(sheets(root, verdict, fetcher), build, raw)
    return verdict, evidence


def _runner(
    settings: AuditConfig, nonce: str, place: RemoteBuild | None
) -> contextlib.AbstractContextManager[Runner | None]:
    """What runs the units; None: this process."""
    if not settings.ray:
        return contextlib.nullcontext()
    from jobs.audit.workers import on_ray  # loads Ray

    return on_ray(settings, nonce, place)


def sheets(path: Path, verdict: Verdict, fetcher: ShardFetcher | None = None) -> list[Sheet]:
    """Images of samples that findings name, and of a few others."""
    build = open_build(path, fetcher)
    named = list(dict.fromkeys(finding.sample for finding in verdict.findings if finding.sample))[:ILLUSTRATED]
    others = choose_samples(build, RANDOM_SHEETS, share_seed(build.sha256, verdict.nonce or ""))
    return stored_sheets(build, list(dict.fromkeys([*named, *others])))


def describe(verdict: Verdict) -> str:
    """The findings, then rule by rule what was checked at this level, and last the result."""
    lines = []
    for finding in verdict.findings[:SHOWN]:
        where = " ".join(part for part in (finding.file, finding.sample) if part)
        lines.append(f"{finding.rule}: {where}: {finding.detail}")
    hidden = sum(count.failed for count in verdict.rules.values()) - len(verdict.findings[:SHOWN])
    if hidden > 0:
        lines.append(f"… and {hidden:,} more; verdict.json lists up to 100 a rule")
    for rule, count in verdict.rules.items():
        failed = f"{count.failed:,} failed" if count.failed else "none failed" if count.checked else "no checks"
        lines.append(f"{rule:4} {count.checked:,} checks, {failed}")
        lines += [f"     {_proof(proof)}" for proof in verdict.proofs if proof.rule == rule]
    if verdict.coverage:
        checked = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in verdict.coverage.items())
        lines.append(f"checked: {checked} (nonce={verdict.nonce})")
    lines += verdict.claims
    lines.append("out of reach of any audit of one build:")
    lines += [f"     {text}" for text in verdict.out_of_reach]
    lines.append("audited with " + ", ".join(f"{name} {version}" for name, version in verdict.versions.items()))
    weaker = "" if verdict.exact else ", INEXACT: not all was derived to the byte (inexact=true)"
    lines.append(f"{verdict.headline}: {verdict.samples:,} samples, level {verdict.level}{weaker}")
    return "\n".join(lines)


def _proof(proof: Proof) -> str:
    power = f" ({proof.power})" if proof.power else ""
    return f"{proof.mechanism}: {proof.what}{power}"
