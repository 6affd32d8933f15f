"""Level "source", rule L7: the raw files are those that were planned, where the plan hashed them (`hash_raw`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import file_sha256, read_regular
from pipeline.audit.finding import Report
from pipeline.format.strict_json import parse

TASKS = "tasks.jsonl"
LEDGER = "ledger.jsonl"


def check(build: ClaimedBuild, root: Path, report: Report) -> dict[str, int]:
    """Hash every raw file of an episode that is in the build once. Returns the coverage; nothing without hashes."""
    planned = dict(_planned(build, report))
    for path, sha256 in planned.items():
        report.check("L7")
        try:
            found = file_sha256(root / path)
        except OSError as error:
            report.found("L7", TASKS, f"the raw file {path} was planned and cannot be read: {error.strerror}")
            continue
        if found != sha256:
            report.found("L7", TASKS, f"the raw file {path} has SHA-256 {found}, it was planned with {sha256}")
    return {"raw_files_hashed": len(planned)} if planned else {}


def _planned(build: ClaimedBuild, report: Report) -> Iterator[tuple[str, str]]:
    """(path, hash) of the files of every episode whose plan has hashes and that was not left out."""
    left_out = _left_out(build)
    for number, line in enumerate(read_regular(build.root / TASKS).splitlines(), start=1):
        value = parse(line)
        for ref in value["episodes"] if isinstance(value, dict) else ():
            if not ref.get("sha256") or ref.get("id") in left_out:
                continue
            try:
                pairs = [(str(file[0]), str(sha256)) for file, sha256 in zip(ref["files"], ref["sha256"], strict=True)]
            except (ValueError, KeyError, TypeError, IndexError) as error:
                detail = f"line {number}, episode {ref.get('id')}: files and hashes do not fit: {error!r}"
                report.found("L7", TASKS, detail)
                continue
            yield from pairs


def _left_out(build: ClaimedBuild) -> set[str]:
    """Episodes of the ledger; what cannot be read of it was reported at level manifest."""
    found: set[str] = set()
    for line in read_regular(build.root / LEDGER).splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found.add(str(parse(line)["episode"]))
    return found
