"""Rule L6 for statistics: stats.json is that of the train split, recomputed from the shards' own bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import read_regular
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import Shard, ShardRule
from pipeline.audit.rederive.recount import Claim, Recount, parse_claim
from pipeline.audit.samples import batches, integers
from pipeline.format.strict_json import parse

STATS = "stats.json"


def check_claims(build: ClaimedBuild, report: Report) -> None:
    """Split, groups and counts of stats.json against the manifest."""
    report.check("L6", 3)
    document, claims = _read(build, report)
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
        elif name in claims and claims[name].count != count:
            report.found("L6", STATS, f"{name}.count is {claims[name].count}, the train split has {count}")


class Statistics(ShardRule):
    """Recomputes both groups over the train shards."""

    def __init__(self, build: ClaimedBuild) -> None:
        super().__init__(build)
        claims = _read(build, Report())[1]  # what cannot be read was reported at level manifest
        self._state = Recount(claims["state"], build.sizes.state) if "state" in claims else None
        self._action = Recount(claims["action"], build.sizes.action) if "action" in claims else None
        self._unread: list[str] = []

    def check(self, shard: Shard, report: Report) -> None:
        if shard.entry.split != "train":
            return
        if self._state is not None:
            self._add_states(shard, self._state)
        if self._action is not None:
            self._add_actions(shard, self._action)

    def finish(self, report: Report) -> None:
        for name, recount in (("state", self._state), ("action", self._action)):
            if recount is None:
                continue
            report.check("L6")
            if self._unread:
                report.found(
                    "L6", STATS, f"{name} could not be recomputed: {', '.join(self._unread[:3])} cannot be used"
                )
                continue
            for difference in recount.differences():
                report.found("L6", STATS, f"{name}: {difference}")

    def _add_states(self, shard: Shard, recount: Recount) -> None:
        states = [value["state"] for value, _ in shard.documents if value is not None]
        width = self.build.sizes.state
        if len(states) < len(shard.keys) or any(s is None or len(s) != width for s in states):
            self._unread.append(shard.entry.inputs.path)
            return
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused below
            values = np.array(states, np.float64).astype(np.float32)
        self._merge(recount, values.reshape(len(states), width), shard.entry.inputs.path)

    def _add_actions(self, shard: Shard, recount: Recount) -> None:
        if shard.opened[0] is None:
            self._unread.append(shard.entry.targets.path)
            return
        try:
            for rows in shard.targets():
                if rows.actions is not None and rows.action_mask is not None:
                    self._merge(recount, rows.actions[rows.action_mask], shard.entry.targets.path)
        except (pa.ArrowException, OSError, ValueError):
            self._unread.append(shard.entry.targets.path)

    def _merge(self, recount: Recount, values: NDArray[np.float32], file: str) -> None:
        if np.isfinite(values).all():
            recount.add(values.astype(np.float64))
        else:
            self._unread.append(file)


def _read(build: ClaimedBuild, report: Report) -> tuple[dict[str, Any] | None, dict[str, Claim]]:
    """stats.json and those of its groups that can be used; the rest is reported."""
    try:
        document = parse(read_regular(build.root / STATS))
        if not isinstance(document, dict) or sorted(document) != ["action", "samples", "split", "state"]:
            raise ValueError("must be an object with split, samples, state, action")
    except ValueError as error:
        report.found("L6", STATS, f"cannot be used: {error}")
        return None, {}
    claims = {}
    for name, width in (("state", build.sizes.state), ("action", build.sizes.action)):
        if document[name] is None:
            continue
        try:
            claims[name] = parse_claim(document[name], width)
        except ValueError as error:
            report.found("L6", STATS, f"{name}: {error}")
    return document, claims
