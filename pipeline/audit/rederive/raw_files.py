"""Level "source", rule L7: the raw files are those that were planned, where the plan hashed them (`hash_raw`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import file_sha256, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.ledger import ledger_entries
from pipeline.format.strict_json import parse

TASKS = "tasks.jsonl"


def check(build: ClaimedBuild, root: Path, report: Report) -> dict[str, int]:
    """Hash every raw file of the build's episodes once. Returns the coverage, empty when the plan has no hashes."""
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
    left_out = {entry["episode"] for entry in ledger_entries(build)}
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
