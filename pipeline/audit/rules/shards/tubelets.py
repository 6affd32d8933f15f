"""Encoder mode `tubelet`: every window refers to the latents of its own tubelets, and no latent is unused.

A reference to a later tubelet than the manifest's is a leak (L2), to any other a mixed sample (L7); a row that nothing
refers to, or that repeats another, is smuggled (L10). B windows, K future steps, U rows of the latents file.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.parsers.latents import Tubelets
from pipeline.audit.parsers.shard import Shard, ShardRule, TargetRows
from pipeline.audit.samples import UNREADABLE, supports


class TubeletReferences(ShardRule[None]):
    """Row numbers in the targets file against episodes and supports of the manifest."""

    def check(self, shard: Shard, report: Report) -> None:
        if shard.entry.latents is None:
            return
        file = shard.entry.latents.path
        report.check("L7")
        report.problems(shard.opened_latents[1], file)
        used: set[int] = set()
        try:
            tubelets = shard.tubelets
            if tubelets is None:
                return
            for rows in shard.targets():
                used |= _check_rows(shard, rows, tubelets, report)
        except UNREADABLE as error:
            report.found("L7", file, f"cannot be read to its end: {error}")
            return
        _check_unused(tubelets, used, file, report)


def _check_rows(shard: Shard, rows: TargetRows, tubelets: Tubelets, report: Report) -> set[int]:
    """The rows of the latents file that these rows refer to."""
    part, places = shard.manifest(rows), rows.places
    if part is None or places is None:
        return set()  # the row count is reported with the keys
    ends = supports(part).last
    there = (places >= 0) & (places < len(tubelets))
    safe = np.where(there, places, len(tubelets))  # one entry past the end: no row
    frames = np.append(tubelets.frames, -1)[safe]
    episodes = np.array([*tubelets.episodes, ""], object)[safe]
    own = episodes == np.array(part.column("episode").to_pylist(), object)[:, None]
    wanted = ends >= 0
    checks = RowChecks(report, shard.entry.targets.path, pa.array(rows.keys, pa.string()))
    checks.rows("L8", (places != -1) & ~wanted, "a masked step refers to a latent")
    checks.rows("L7", wanted & ~there, f"refers to rows {{}} of {len(tubelets)} in the latents file", places.tolist())
    later = wanted & there & own & (frames > ends)
    other = wanted & there & ~later & (~own | (frames != ends))
    for rule, wrong, tubelet in (("L2", later, "the tubelet"), ("L7", other, "the tubelet of {1}")):
        text = f"step {{0}} refers to {tubelet} that ends at frame {{2}}, its own ends at {{3}}"
        at = (np.arange(len(wrong)), wrong.argmax(axis=1))
        checks.rows(rule, wrong, text, at[1], episodes[at], frames[at], ends[at])
    return set(places[there].tolist())


def _check_unused(tubelets: Tubelets, used: set[int], file: str, report: Report) -> None:
    report.check("L10", len(tubelets))
    names = list(zip(tubelets.episodes, tubelets.frames.tolist(), strict=True))
    for place, (episode, frame) in enumerate(names):
        if place not in used:
            report.found("L10", file, f"row {place} (episode {episode}, frame {frame}) is used by no sample")
    for (episode, frame), count in Counter(names).items():
        if count > 1:
            detail = f"the tubelet of episode {episode} that ends at frame {frame} appears {count} times"
            report.found("L10", file, detail)
