"""What is asked of a build that was made under a fault."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.audit.levels.run import audit_build
from tests.jobs.runs import build_hashes


@dataclass
class Outcome:
    """How one trial ended.

    identical  the bytes are those of the undisturbed build; None where episodes had to be left out, or none was made
    clean      so says the audit
    restarts   times the command had to be run again
    problems   what was wrong; empty for a trial that went well
    notes      what happened
    """

    identical: bool | None = None
    clean: bool | None = None
    restarts: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems and not self.half_written and self.identical is not False and self.clean is not False


def judge(out: Path, outcome: Outcome, reference: Path, left_out: dict[str, str] | None = None) -> None:
    """Compare a finished build with the undisturbed one, and audit it; findings go to `outcome`.

    Args:
        left_out: episodes that have to be missing, with the reason the ledger must give.
    """
    verdict = audit_build(out, level="shards")
    outcome.clean = verdict.status == "clean"
    if not outcome.clean:
        outcome.problems.append(f"audit: {verdict.status}: {verdict.findings[:3]}")
    samples = _samples(out)
    keys = [key for key, *_ in samples]
    if len(set(keys)) != len(keys):
        outcome.problems.append("a sample stands twice in samples.parquet")
    _check_episodes(out, samples, outcome)
    ledger = {row["episode"]: row["reason"] for row in _ledger(out)}
    expected = {row["episode"]: row["reason"] for row in _ledger(reference)} | (left_out or {})
    if ledger != expected:
        outcome.problems.append(f"ledger.jsonl holds {ledger}, not {expected}")
    if left_out:
        kept = [row for row in _samples(reference) if row[1] not in left_out]
        if sorted(kept) != sorted(samples):
            outcome.problems.append("the samples of the other episodes are not those of the undisturbed build")
        return
    outcome.identical = build_hashes(out) == build_hashes(reference)
    if not outcome.identical:
        ours, theirs = build_hashes(out), build_hashes(reference)
        different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        outcome.problems.append(f"differ from the undisturbed build: {different[:6]}")


def _check_episodes(out: Path, samples: list[tuple[str, str, str, int, bytes, bytes]], outcome: Outcome) -> None:
    """Every planned episode stands in one shard or in the ledger, and in one place only."""
    places = Counter(episode for episode, _ in {(row[1], row[2:4]) for row in samples})
    twice = [episode for episode, count in places.items() if count > 1]
    if twice:
        outcome.problems.append(f"episodes in two shards: {twice}")
    planned: set[str] = set()
    for line in (out / "tasks.jsonl").read_text().splitlines():
        planned |= {ref["id"] for ref in json.loads(line)["episodes"]}
    ledger = {row["episode"] for row in _ledger(out)}
    if lost := sorted(planned - set(places) - ledger):
        outcome.problems.append(f"episodes that are neither in the build nor in the ledger: {lost}")
    if both := sorted(set(places) & ledger):
        outcome.problems.append(f"episodes both in the build and in the ledger: {both}")


def _samples(out: Path) -> list[tuple[str, str, str, int, bytes, bytes]]:
    """Key, episode, split, shard and the digests of each sample."""
    columns = ["key", "episode", "split", "shard", "inputs_sha256", "targets_sha256"]
    table = pq.read_table(out / "samples.parquet", columns=columns)
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def _ledger(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
