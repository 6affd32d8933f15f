"""Builds whose ledger and `settings.leave_out` tell different things about the episodes that a filter left out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, refingerprint
from tests.pipeline.audit.tiny_build import compact, rehash

Line = dict[str, Any]


def _entry(episode: str, split: str = "train", reason: str = "frozen-camera", detail: str = "12 frames") -> Line:
    return {"episode": episode, "split": split, "reason": reason, "detail": detail}


def _claim(lines: list[Line]) -> dict[str, Any] | None:
    """`settings.leave_out` for these lines."""
    made = {}
    for split in sorted({line["split"] for line in lines}):
        own = sorted(compact(line) + b"\n" for line in lines if line["split"] == split)
        made[split] = {"episodes": len(own), "sha256": hashlib.sha256(b"".join(own)).hexdigest()}
    return made or None


def _filtered(build: Path, ledger: list[Line], claim: Any) -> None:
    """The ledger and the plan hold these lines, the settings claim others; every hash fits."""
    rows = [json.loads(line) for line in (build / "ledger.jsonl").read_bytes().splitlines()]
    own = [{**line, "stage": "filter", "windows": None} for line in ledger]
    rows = sorted([*rows, *own], key=lambda row: (row["split"], row["episode"]))
    (build / "ledger.jsonl").write_bytes(b"".join(compact(row) + b"\n" for row in rows))
    own.sort(key=lambda row: (row["split"], row["episode"], row["reason"], row["detail"]))
    edit_json(build, "plan.json", lambda plan: plan.update(left_out=own), repair=False)
    edit_json(build, "build.json", lambda document: document["settings"].update(leave_out=claim), repair=False)
    refingerprint(build)
    rehash(build)


def honestly_filtered(build: Path) -> None:
    """No leak: for the test that such a build is clean."""
    lines = [_entry("ep_q"), _entry("ep_r", "val", "idle", "")]
    _filtered(build, lines, _claim(lines))


def called_filtered_without_a_filter(build: Path) -> None:
    _filtered(build, [_entry("ep_q", reason="failed attempt")], None)


def one_more_than_the_filter_names(build: Path) -> None:
    _filtered(build, [_entry("ep_q"), _entry("ep_r")], _claim([_entry("ep_q")]))


def one_less_than_the_filter_names(build: Path) -> None:
    """Somebody left an episode out, and it came back."""
    _filtered(build, [_entry("ep_q")], _claim([_entry("ep_q"), _entry("ep_r")]))


def all_less_than_the_filter_names(build: Path) -> None:
    _filtered(build, [], _claim([_entry("ep_q", "val")]))


def another_episode_than_the_filter_names(build: Path) -> None:
    _filtered(build, [_entry("ep_q")], _claim([_entry("ep_r")]))


def another_reason_than_the_filter_gives(build: Path) -> None:
    _filtered(build, [_entry("ep_q", reason="idle")], _claim([_entry("ep_q")]))


def another_detail_than_the_filter_gives(build: Path) -> None:
    _filtered(build, [_entry("ep_q", detail="1011")], _claim([_entry("ep_q")]))


def another_count_than_lines(build: Path) -> None:
    claim = _claim([_entry("ep_q")])
    assert claim is not None
    claim["train"]["episodes"] = 2
    _filtered(build, [_entry("ep_q")], claim)


def filtered_of_a_split_that_is_not_built(build: Path) -> None:
    _filtered(build, [_entry("ep_q", "test")], None)


def filtered_and_trained_on(build: Path) -> None:
    _filtered(build, [_entry("ep_a")], _claim([_entry("ep_a")]))


def empty_filter_in_place_of_none(build: Path) -> None:
    """Two spellings of one fact."""
    _filtered(build, [], {})


CLAIMED = "settings.leave_out has"
MUTANTS = (
    Mutant(called_filtered_without_a_filter, "L7", "manifest", CLAIMED),
    Mutant(one_more_than_the_filter_names, "L7", "manifest", CLAIMED),
    Mutant(one_less_than_the_filter_names, "L7", "manifest", CLAIMED),
    Mutant(all_less_than_the_filter_names, "L7", "manifest", CLAIMED),
    Mutant(another_episode_than_the_filter_names, "L7", "manifest", CLAIMED),
    Mutant(another_reason_than_the_filter_gives, "L7", "manifest", CLAIMED),
    Mutant(another_detail_than_the_filter_gives, "L7", "manifest", CLAIMED),
    Mutant(another_count_than_lines, "L7", "manifest", CLAIMED),
    Mutant(filtered_of_a_split_that_is_not_built, "L7", "manifest", "as the split is not built"),
    Mutant(filtered_and_trained_on, "L7", "manifest", "is left out by settings.leave_out, and planned"),
    Mutant(empty_filter_in_place_of_none, "L10", "manifest", "must be null where no episode is left out"),
)
