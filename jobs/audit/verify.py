"""`vlajepa verify BUILD`: is this build the one that was found clean? Exit code 0 yes, 1 no, 2 could not be checked."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.audit.remote_build import RemoteBuild, remote_build
from jobs.audit.settings import VerifyConfig
from jobs.common.escaped import escaped_errors
from jobs.common.progress import progress_bar
from pipeline.audit.build import ClaimedBuild, open_build
from pipeline.audit.entries import FileEntry
from pipeline.audit.files import file_sha256, is_regular
from pipeline.audit.finding import Report
from pipeline.audit.rules.files import check_inventory
from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.gate import Passed, pass_gate
from pipeline.errors import AuditRefusedError, BuildError, RunError
from pipeline.format.text.printable import printable
from pipeline.storage.store import is_remote

SHOWN = 20
"""Changed files named in the message."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    checked  what was checked, one line each; empty if something is wrong
    problem  what is wrong; None: the build is the audited one
    """

    checked: tuple[str, ...]
    problem: str | None

    @property
    def exit_code(self) -> int:
        """0 verified, 1 not."""
        return int(self.problem is not None)


def run(settings: VerifyConfig) -> Verification:
    with escaped_errors():
        if is_remote(str(settings.build)):
            with remote_build(str(settings.build)) as place:
                return _run(replace(settings, build=place.root), place)
        root = Path(settings.build)
        if not is_regular(root / "build.json"):
            raise RunError(f"{root}: no build.json here; give the folder of a finished build")
        return _run(replace(settings, build=root))


def _run(settings: VerifyConfig, place: RemoteBuild | None = None) -> Verification:
    where = str(settings.build) if place is None else place.url
    try:
        checked = verify(settings, place)
    except AuditRefusedError as error:
        problem = printable(error).replace(str(settings.build), where)
        sys.stderr.write(f"vlajepa: NOT VERIFIED: {problem}\n")
        return Verification((), problem)
    title = "VERIFIED" if settings.hash_files else "VERIFIED, BUT FOR THE BYTES OF ITS FILES"
    print("\n".join([*checked, f"{title}: {where}"]))
    return Verification(tuple(checked), None)


def verify(settings: VerifyConfig, place: RemoteBuild | None = None) -> list[str]:
    """What was checked, one line each.

    Args:
        place: the bucket, if the folder holds only the small files.

    Raises:
        AuditRefusedError: the verdict, the signature or a file is not as it must be.
        RunError: the public key cannot be used.
    """
    root, lines = Path(settings.build), []
    passed = pass_gate(read_audited(root), settings.level, settings.public_key)
    if passed.signature_checked:
        lines.append(f"signature: by key {passed.signed_by}")
    else:
        lines.append(
            f"signature: not checked; the verdict claims {passed.signed_by}; give public_key=FILE to know who vouches "
            "for it"
        )
    lines.append(f"verdict: {passed.text}")
    build = _listed_by_the_audited(root, passed, place)
    _verify_inventory(build)
    lines.append("inventory: nothing was added; croissant.json is what build.json gives, where there is one")
    if settings.hash_files:
        lines.append(_verify_files(build, settings.workers, place))
    else:
        lines.append("files: not hashed (hash_files=false); their bytes may have changed since the audit")
    return lines


def _listed_by_the_audited(root: Path, passed: Passed, place: RemoteBuild | None) -> ClaimedBuild:
    """The build of the verdict: what cannot be read now could be read at the audit."""
    try:
        build = open_build(root, place)
    except BuildError as error:
        raise AuditRefusedError(f"a file changed since the audit: {error}") from error
    if build.sha256 != passed.build_sha256:
        raise AuditRefusedError(f"{root}/build.json changed while it was verified; verify it again")
    return build


def _verify_inventory(build: ClaimedBuild) -> None:
    """No file was added since the audit, none is a link, and croissant.json is still made of build.json."""
    report = Report()
    try:
        check_inventory(build, report)
    except BuildError as error:
        raise AuditRefusedError(f"a file changed since the audit: {error}") from error
    if report.findings:
        found = [f"{finding.file} {finding.detail}" for finding in report.findings[:SHOWN]]
        more = f" and {report.failed['L10'] - SHOWN} more" if report.failed["L10"] > SHOWN else ""
        raise AuditRefusedError(f"the folder is not as it was audited: {'; '.join(found)}{more}")


def _verify_files(build: ClaimedBuild, workers: int, place: RemoteBuild | None) -> str:
    """Hash every file again: bytes may have changed since they were audited."""
    entries = list(build.listed())
    changed: list[str] = []
    total = sum(entry.bytes for entry in entries)
    name = f"verify {build.root if place is None else place.url}"

    with (
        ThreadPoolExecutor(workers) as pool,
        progress_bar(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=name) as bar,
    ):
        for entry, found in zip(entries, pool.map(lambda e: _problem(e, build.root, place), entries), strict=True):
            bar.update(entry.bytes)
            changed += [found] if found else []
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise AuditRefusedError(f"{len(changed)} files changed since the audit: {'; '.join(changed[:SHOWN])}{more}")
    return f"files: {len(entries):,} with {total:,} bytes have the SHA-256 that build.json lists"


def _problem(entry: FileEntry, root: Path, place: RemoteBuild | None) -> str:
    """What differs from build.json; an object is read twice if it differs, since the network may have damaged it."""
    found = None
    for _ in range(1 if place is None else 2):
        found = _digest(root / entry.path, entry.bytes) if place is None else place.digest(entry.path)
        if found == (entry.bytes, entry.sha256):
            return ""
    if found is None:
        return f"{entry.path} is missing or no regular file"
    if found[0] != entry.bytes:
        return f"{entry.path} has {found[0]} bytes, {entry.bytes} are listed"
    return f"{entry.path} has another SHA-256"


def _digest(path: Path, listed: int) -> tuple[int, str] | None:
    """Size and SHA-256. One that is longer than listed is not hashed: a hole in it could take hours."""
    try:
        size = path.lstat().st_size
        return size, file_sha256(path) if size <= listed else ""
    except OSError:
        return None
