"""Identity: files of the plan hashed again, the fingerprint recomputed, the encoder mode and the leaky stamp.

Rules L7 (hashes, fingerprint) and L2 (mode: a build of encoder mode `clip` saw the future).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from pipeline.audit.build import TUBELET, ClaimedBuild
from pipeline.audit.entries import FileEntry
from pipeline.audit.files import BUILD, file_sha256, is_regular, read_regular
from pipeline.audit.finding import Report
from pipeline.format.json.strict_json import canonical, parse


def check(build: ClaimedBuild, report: Report) -> None:
    """Compare what build.json claims about itself with its own bytes and those of the small files."""
    for entry in build.files:
        check_file(build, entry, report)
    _check_fingerprint(build, report)
    _check_plan(build, report)
    _check_mode(build, report)


def check_file(
    build: ClaimedBuild, entry: FileEntry, report: Report, sha256: Callable[[Path], str] = file_sha256
) -> None:
    """Size and SHA-256 of a listed file."""
    report.check("L7")
    path = build.root / entry.path
    if not is_regular(path):
        report.changed_file(entry.path, "listed in build.json, but missing or not a regular file")
        return
    size = path.stat().st_size
    if size != entry.bytes:
        report.changed_file(entry.path, f"has {size} bytes, build.json lists {entry.bytes}")
    if size > entry.bytes:
        return  # it may have a hole that takes hours to hash
    found = sha256(path)
    if found != entry.sha256:
        report.changed_file(entry.path, f"has SHA-256 {found}, build.json lists {entry.sha256}")


def _check_fingerprint(build: ClaimedBuild, report: Report) -> None:
    report.check("L7")
    chain = canonical({"settings": build.settings, "tasks": build.tasks.sha256})
    expected = hashlib.sha256(chain.encode()).hexdigest()
    if build.fingerprint != expected:
        found = f"fingerprint is {build.fingerprint}; settings and tasks.jsonl give {expected}"
        report.found("L7", BUILD, f"{found}. They were changed after the plan was frozen, or belong to another plan")


def _check_plan(build: ClaimedBuild, report: Report) -> None:
    report.check("L7")
    try:
        plan = parse(read_regular(build.root / "plan.json"))
    except ValueError as error:
        report.found("L7", "plan.json", f"is no JSON: {error}")
        return
    if not isinstance(plan, dict) or canonical(plan.get("settings")) != canonical(build.settings):
        report.found("L7", "plan.json", "its settings are not those of build.json")
    elif plan.get("fingerprint", build.fingerprint) != build.fingerprint:
        report.found("L7", "plan.json", f"its fingerprint {plan['fingerprint']!r} is not that of build.json")


def _check_mode(build: ClaimedBuild, report: Report) -> None:
    report.check("L2")
    if build.leaky:
        report.found("L2", BUILD, "the build is stamped leaky: for comparison only")
    if build.mode not in ("prefix", TUBELET):
        report.found("L2", BUILD, f"settings.encoder.mode must be 'prefix' or 'tubelet', found {build.mode!r}")
    _check_sizes(build, report)


def _check_sizes(build: ClaimedBuild, report: Report) -> None:
    """Sizes that build.json holds twice must agree, or arithmetic would be checked against the wrong one."""
    report.check("L7", 4)
    pairs = [("views", build.sizes.views, len(build.views)), ("steps", build.sizes.steps, build.window.steps)]
    if build.sizes.action:
        pairs.append(("chunk", build.sizes.chunk, build.window.chunk))
    for name, size, other in pairs:
        if size != other:
            report.found("L7", BUILD, f"sizes.{name} is {size}, in another place of the file it is {other}")
    if len(set(build.views)) != len(build.views):
        report.found("L7", BUILD, f"a view appears twice in {list(build.views)}")
    if not re.fullmatch(r"[0-9a-f]{64}", build.fingerprint):
        report.found("L7", BUILD, f"fingerprint is no SHA-256 in lower-case hexadecimal: {build.fingerprint!r}")
