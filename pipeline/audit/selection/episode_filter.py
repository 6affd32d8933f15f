"""Rule L7: the episodes that `source.leave_out` named are exactly those of stage "filter" in the ledger.

`settings.leave_out` holds, for each split, how many there are and the SHA-256 of their lines (episode, split, reason,
detail), so that the fingerprint covers each of them. Why somebody left an episode out cannot be derived, and may
depend on how it ends: this selects episodes, it puts nothing of the future into an input. The verdict says that it was
done.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import BUILD, LEDGER, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.raw.base import RawSource
from pipeline.format.json.strict_json import canonical, parse
from pipeline.format.text.printable import printable

FILTERED = "filter"
"""Stage of the ledger."""

_NAMES = ("episode", "split", "reason", "detail")
_REASONS = 6
"""Reasons that the verdict counts one by one, the most frequent first."""

_LONGEST = 40
"""Characters of a reason in the verdict."""


@dataclass(frozen=True)
class FilteredEpisode:
    """A line of the ledger of stage "filter". line: what is hashed of it."""

    episode: str
    split: str
    reason: str
    line: bytes


def filtered_episodes(build: ClaimedBuild) -> Iterator[FilteredEpisode]:
    """Those of the ledger, in its order; lines that are no ledger entry are passed over (found by rule L10)."""
    for text in read_regular(build.root / LEDGER).splitlines():
        try:
            entry = parse(text)
            if entry["stage"] != FILTERED or not all(isinstance(entry[name], str) for name in _NAMES):
                continue
            line = canonical({name: entry[name] for name in _NAMES}).encode() + b"\n"
            yield FilteredEpisode(entry["episode"], entry["split"], entry["reason"], line)
        except (ValueError, KeyError, TypeError):
            continue


def check(build: ClaimedBuild, report: Report) -> None:
    """Compare the ledger with `settings.leave_out`, and the plan with both."""
    found: dict[str, list[FilteredEpisode]] = defaultdict(list)
    for entry in filtered_episodes(build):
        found[entry.split].append(entry)
    settings: Any = build.settings.get("leave_out")
    claimed = settings if isinstance(settings, dict) else {}
    splits = build.settings.get("splits")
    built = {split for split in splits if isinstance(split, str)} if isinstance(splits, list) else set()
    report.check("L7")
    if isinstance(settings, dict) and not settings:
        report.found("L10", BUILD, "settings.leave_out is {}, must be null where no episode is left out")
    for split in sorted({*found, *(built & {*claimed})}):
        report.check("L7", 1 + len(found[split]))
        lines = sorted(entry.line for entry in found[split])
        has = {"episodes": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
        if split not in built or claimed.get(split) != has:
            wanted = canonical(claimed.get(split)) if split in built else "null, as the split is not built"
            detail = (
                f"{split}: {len(lines)} episodes of stage {FILTERED}, {canonical(has)}; settings.leave_out has {wanted}"
            )
            report.found("L7", LEDGER, detail)
    planned = set(build.tasks.ids.to_pylist()) if found else set()
    for entry in (entry for entries in found.values() for entry in entries if entry.episode in planned):
        report.found("L7", LEDGER, f"episode {entry.episode} is left out by settings.leave_out, and planned")


def check_listed(build: ClaimedBuild, raw: RawSource, report: Report) -> dict[str, int]:
    """Every episode is one of the raw data, in its split (level "source"). Returns the coverage."""
    count = 0
    for entry in filtered_episodes(build):
        count += 1
        report.check("L7")
        split = raw.split_of(entry.episode)
        if split != entry.split:
            has = "does not list it" if split is None else f"has it in {split}"
            detail = f"episode {entry.episode} of {entry.split} is left out by settings.leave_out; the raw data {has}"
            report.found("L7", LEDGER, detail)
    return {"filtered_episodes_listed": count} if count else {}


def claims(build: ClaimedBuild) -> tuple[str, ...]:
    """What the verdict says of a filter; nothing where none was used."""
    reasons = Counter(printable(entry.reason)[:_LONGEST] for entry in filtered_episodes(build))
    if not reasons:
        return ()
    shown = [f"{reason} {count:,}" for reason, count in reasons.most_common(_REASONS)]
    rest = reasons.total() - sum(count for _, count in reasons.most_common(_REASONS))
    listed = ", ".join([*shown, f"other reasons {rest:,}"] if rest else shown)
    return (
        f"selection: source.leave_out left out {reasons.total():,} episodes ({listed}), each in ledger.jsonl; whoever "
        "chose them may have known how they end, which selects episodes and shows no input the future",
    )
