"""`vlajepa verify BUILD`: is this build the one that was found clean? Exit code 0 yes, 1 no, 2 could not be checked."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from omegaconf import DictConfig

from jobs.config import parse
from jobs.progress import progress_bar
from jobs.settings import VerifyConfig
from pipeline.audit.attestation import require_signature
from pipeline.audit.build import Build, FileEntry, file_sha256, is_regular, open_build
from pipeline.audit.verdict import require_clean_verdict
from pipeline.errors import AuditRefusedError, BuildError, RunError

SHOWN = 20
"""Changed files named in the message."""


def run(config: DictConfig) -> int:
    settings = parse(VerifyConfig, config)
    if not is_regular(settings.build / "build.json"):
        raise RunError(f"{settings.build}: no build.json here; give the folder of a finished build")
    try:
        for line in verify(settings):
            print(line)
    except AuditRefusedError as error:
        sys.stderr.write(f"vlajepa: NOT VERIFIED: {error}\n")
        return 1
    print(f"VERIFIED: {settings.build}")
    return 0


def verify(settings: VerifyConfig) -> list[str]:
    """What was checked, in words.

    Raises:
        AuditRefusedError: the verdict, the signature or a file is not as it must be.
        RunError: the public key cannot be used.
    """
    root, lines = settings.build, []
    if settings.public_key is not None:
        lines.append(f"signature: by key {require_signature(root, settings.public_key)}")
    else:
        lines.append("signature: not checked; give public_key=FILE to know who vouches for the verdict")
    require_clean_verdict(root, settings.level)
    lines.append(f"verdict: clean, level {settings.level} or deeper, of this build.json")
    if settings.hash_files:
        lines.append(_verify_files(_listed_by_the_audited(root), settings.workers))
    else:
        lines.append("files: not hashed (hash_files=false); their bytes may have changed since the audit")
    return lines


def _listed_by_the_audited(root: Path) -> Build:
    """The build, whose build.json is that of the verdict: what cannot be read now could be read then."""
    try:
        return open_build(root)
    except BuildError as error:
        raise AuditRefusedError(f"a file changed since the audit: {error}") from error


def _verify_files(build: Build, workers: int) -> str:
    """Hash every file again: bytes may have changed since they were audited."""
    entries = list(build.listed())
    changed: list[str] = []
    total = sum(entry.bytes for entry in entries)
    with (
        ThreadPoolExecutor(workers) as pool,
        progress_bar(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=f"verify {build.root}") as bar,
    ):
        for entry, problem in zip(entries, pool.map(lambda entry: _problem(build, entry), entries), strict=True):
            bar.update(entry.bytes)
            changed += [problem] if problem else []
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise AuditRefusedError(f"{len(changed)} files changed since the audit: {'; '.join(changed[:SHOWN])}{more}")
    return f"files: {len(entries):,} with {total:,} bytes have the SHA-256 that build.json lists"


def _problem(build: Build, entry: FileEntry) -> str:
    path = build.root / entry.path
    if not is_regular(path):
        return f"{entry.path} is missing or no regular file"
    if path.stat().st_size != entry.bytes:
        return f"{entry.path} has {path.stat().st_size} bytes, {entry.bytes} are listed"
    return "" if file_sha256(path) == entry.sha256 else f"{entry.path} has another SHA-256"
