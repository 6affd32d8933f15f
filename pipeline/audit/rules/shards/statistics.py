"""Rule L6 for statistics: stats.json is that of the train split, recomputed from the shards' own bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.shape import misfit
from pipeline.audit.files import read_regular
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import Shard, ShardRule
from pipeline.audit.rederive.recount import Recount
from pipeline.audit.samples import UNREADABLE, batches, integers
from pipeline.format.json.documents import StatsContent
from pipeline.format.json.strict_json import parse

STATS = "stats.json"


def check_claims(build: ClaimedBuild, report: Report) -> None:
    """Split, groups and counts of stats.json against the manifest."""
    report.check("L6", 3)
    document, groups = _read(build, report)
    if document is None:
        return
    samples = actions = 0
    for batch in batches(build, ("split", "action_count")):
        train = pc.equal(batch.column("split"), "train").to_numpy(zero_copy_only=False)
        samples += int(train.sum())
        actions += int(integers(batch, "action_count")[train].sum())
    if document["split"] != "train":
        report.found("L6", STATS, f"split must be 'train', found {document['split']!r:.80}")
    if document["samples"] != samples:
        report.found("L6", STATS, f"counts {document['samples']!r:.80} samples, the train split has {samples}")
    for name, width, count in (("state", build.sizes.state, samples), ("action", build.sizes.action, actions)):
        if (document[name] is None) != (width == 0 or count == 0):
            report.found("L6", STATS, f"{name} must be {'null' if width == 0 else 'given'} for this build")
        elif name in groups and groups[name].claimed != count:
            report.found("L6", STATS, f"{name}.count is {groups[name].claimed}, the train split has {count}")


@dataclass(frozen=True)
class Counted:
    """The values of a shard, by group; and files that cannot be used."""

    groups: dict[str, Recount]
    unread: list[str]


class Statistics(ShardRule[Counted]):
    """Recomputes both groups over the train shards."""

    def __init__(self, build: ClaimedBuild) -> None:
        super().__init__(build)
        self._groups = _read(build, Report())[1]  # what cannot be read was reported at level manifest
        self._unread: list[str] = []

    def check(self, shard: Shard, report: Report) -> Counted | None:
        if shard.entry.split != "train" or not self._groups:
            return None
        counted = Counted({name: recount.empty() for name, recount in self._groups.items()}, [])
        if "state" in counted.groups:
            self._add_states(shard, counted)
        if "action" in counted.groups:
            _add_actions(shard, counted)
        return counted

    def merge(self, part: Counted, report: Report) -> None:
        for name, recount in part.groups.items():
            self._groups[name].merge(recount)
        self._unread += part.unread

    def finish(self, report: Report) -> None:
        for name, recount in self._groups.items():
            report.check("L6")
            if self._unread:
                files = ", ".join(self._unread[:3])
                report.found("L6", STATS, f"{name} could not be recomputed: {files} cannot be used")
                continue
            for difference in recount.differences():
                report.found("L6", STATS, f"{name}: {difference}")

    def _add_states(self, shard: Shard, counted: Counted) -> None:
        states = [value["state"] for value, _ in shard.documents if value is not None]
        width = self.build.sizes.state
        if len(states) < len(shard.keys) or any(s is None or len(s) != width for s in states):
            counted.unread.append(shard.entry.inputs.path)
            return
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused below
            values = np.array(states, np.float64).astype(np.float32)
        _add(counted, "state", values.reshape(len(states), width), shard.entry.inputs.path)


def _add_actions(shard: Shard, counted: Counted) -> None:
    file = shard.entry.targets.path
    if shard.opened[0] is None:
        counted.unread.append(file)
        return
    try:
        for rows in shard.targets():
            if rows.actions is not None and rows.action_mask is not None:
                _add(counted, "action", rows.actions[rows.action_mask], file)
    except UNREADABLE:
        counted.unread.append(file)


def _add(counted: Counted, group: str, values: NDArray[np.float32], file: str) -> None:
    if np.isfinite(values).all():
        counted.groups[group].add(values.astype(np.float64))
    else:
        counted.unread.append(file)


def _read(build: ClaimedBuild, report: Report) -> tuple[dict[str, Any] | None, dict[str, Recount]]:
    """stats.json and those of its groups that can be used; the rest is reported."""
    try:
        document = parse(read_regular(build.root / STATS))
        if problem := misfit(document, StatsContent):
            raise ValueError(problem.removeprefix(".").strip())
    except ValueError as error:
        report.found("L6", STATS, f"cannot be used: {error}")
        return None, {}
    groups = {}
    for name, width in (("state", build.sizes.state), ("action", build.sizes.action)):
        try:
            if document[name] is not None:
                groups[name] = Recount(document[name], width)
        except ValueError as error:
            report.found("L6", STATS, f"{name}: {error}")
    return document, groups
