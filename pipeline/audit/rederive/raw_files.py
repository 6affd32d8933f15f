"""Level "source", rule L7: the raw files are those that were planned, where the plan hashed them (`hash_raw`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import TASKS, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.ledger import ledger_entries
from pipeline.audit.raw.place import Place, sha256_of
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import reason


@dataclass(frozen=True)
class PlannedFile:
    """A raw file of the plan."""

    path: str
    sha256: str


Differences = Callable[[Iterable[PlannedFile]], Iterator[str]]
"""Of each file, in order, what `difference` says."""


def check(build: ClaimedBuild, differences: Differences, report: Report) -> dict[str, int]:
    """Hash every raw file of the build's episodes once. Returns the coverage, empty when the plan has no hashes."""
    planned = [PlannedFile(path, sha256) for path, sha256 in _planned(build, report).items()]
    for file, problem in zip(planned, differences(planned), strict=True):
        report.check("L7")
        if problem:
            report.found("L7", TASKS, f"the raw file {file.path} {problem}", altered=True)
    return {"raw_files_hashed": len(planned)} if planned else {}


def difference(file: PlannedFile, root: Place) -> str:
    """What is wrong with a raw file below `root`; "" if nothing."""
    try:
        found = sha256_of(root / file.path)
    except OSError as error:
        return f"was planned and cannot be read: {error.strerror}"
    return "" if found == file.sha256 else f"has SHA-256 {found}, it was planned with {file.sha256}"


def _planned(build: ClaimedBuild, report: Report) -> dict[str, str]:
    """Path and hash of the files of every episode whose plan has hashes and that was not left out."""
    left_out = {entry["episode"] for entry in ledger_entries(build)}
    planned: dict[str, str] = {}
    for number, line in enumerate(read_regular(build.root / TASKS).splitlines(), start=1):
        for ref in parse(line)["episodes"]:
            if not ref.get("sha256") or ref["id"] in left_out:
                continue
            try:
                planned |= {str(file[0]): str(digest) for file, digest in zip(ref["files"], ref["sha256"], strict=True)}
            except (ValueError, KeyError, TypeError, IndexError) as error:
                where = f"line {number}, episode {ref['id']}"
                report.found("L7", TASKS, f"{where}: files and hashes do not fit: {reason(error)}")
    return planned
