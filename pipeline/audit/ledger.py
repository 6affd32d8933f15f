"""ledger.jsonl: episodes that were left out, and why."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import LEDGER, read_regular
from pipeline.audit.finding import Report
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import reason


def ledger_entries(build: ClaimedBuild, report: Report | None = None) -> Iterator[dict[str, str]]:
    """Episode, stage and reason of each entry. Other lines are left out, and reported where a report is given."""
    for number, line in enumerate(read_regular(build.root / LEDGER).splitlines(), start=1):
        try:
            value = parse(line)
            entry = {name: value[name] for name in ("episode", "stage", "reason")}
            if not all(isinstance(text, str) for text in entry.values()):
                raise ValueError("episode, stage and reason must be strings")
        except (ValueError, KeyError, TypeError) as error:
            if report is not None:
                report.found("L7", LEDGER, f"line {number} is no ledger entry: {reason(error)}")
            continue
        yield entry
