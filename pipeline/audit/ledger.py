"""ledger.jsonl: episodes that were left out, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import read_regular
from pipeline.format.strict_json import parse

LEDGER = "ledger.jsonl"


def ledger_entries(build: ClaimedBuild) -> Iterator[dict[str, Any]]:
    """Entries that name an episode; rule L6 reports all other lines."""
    for line in read_regular(build.root / LEDGER).splitlines():
        try:
            entry = parse(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("episode"), str):
            yield entry
