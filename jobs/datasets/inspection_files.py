"""The files that `vlajepa inspect` writes: inspection.json, inspection.html, contact-sheet.png, leave-out.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.datasets.comparison import Comparison
from pipeline.inspection.checks import Inspection, Range
from pipeline.inspection.contact_sheet import draw_contact_sheet
from pipeline.inspection.flag import Flag
from pipeline.inspection.lookahead import LookaheadResult
from pipeline.planning.episode_filter import SPLITS, filter_bytes, filter_entry
from pipeline.sources.base import LedgerEntry
from pipeline.storage.atomic import write_atomic

LEAVE_OUT = "leave-out.jsonl"


def proposed(found: Inspection, flags: Iterable[Flag]) -> list[LedgerEntry]:
    """The episodes that the flags propose to leave out, each for the worst of its flags."""
    worst: dict[str, Flag] = {}
    for flag in flags:
        if flag.leave_out and found.survey.splits.get(flag.episode) in SPLITS:
            worst.setdefault(flag.episode, flag)
    return [filter_entry(name, found.survey.splits[name], flag.check, flag.detail) for name, flag in worst.items()]


def write_files(
    out: Path,
    found: Inspection,
    flags: Sequence[Flag],
    comparisons: Sequence[Comparison],
    lookahead: LookaheadResult,
    seed: int,
) -> list[LedgerEntry]:
    """Write all but the page. Returns the episodes that are proposed to be left out."""
    content = _content(found, flags, comparisons, lookahead, seed)
    write_atomic(out / "inspection.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    entries = proposed(found, flags)
    write_atomic(out / LEAVE_OUT, filter_bytes(entries))
    if found.strips:
        draw_contact_sheet(found.strips).save(out / "contact-sheet.png")
    return entries


def _content(
    found: Inspection,
    flags: Sequence[Flag],
    comparisons: Sequence[Comparison],
    lookahead: LookaheadResult,
    seed: int,
) -> dict[str, Any]:
    index, lag = found.index, found.survey.action_lag
    return {
        "name": index.name,
        "description": dict(index.description),
        "notes": list(index.notes),
        "episodes": dict(Counter(ref.split for ref in index.refs)),
        "opened": found.opened,
        "seed": seed,
        "frames_compared": found.survey.frames,
        "lengths": list(found.lengths.values()),
        "views": {view: vars(facts) for view, facts in found.views.items()},
        "texts": dict(found.texts),
        "state": _range_json(found.state),
        "action": _range_json(found.action),
        "action_lag": None if lag is None else asdict(lag),
        "camera_lags": [asdict(own) for own in found.survey.camera_lags],
        "findings": [asdict(flag) for flag in flags],
        "left_out": [asdict(entry) for entry in found.left_out],
        "lookahead": asdict(lookahead),
        "manifest": [asdict(row) | {"agrees": row.agrees} for row in comparisons],
    }


def _range_json(values: Range) -> dict[str, list[float]] | None:
    if values.low is None or values.high is None:
        return None
    return {"min": values.low.tolist(), "max": values.high.tolist()}
