"""Encoder mode `tubelet`: every window refers to the latents of its own tubelets, and no latent is unused.

A reference to a later tubelet than the manifest's is a leak (L2), to any other a mixed sample (L7); a row that nothing
refers to, or that repeats another, is smuggled (L10). B windows, K future steps, U rows of the latents file.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.parsers.latents import Tubelets
from pipeline.audit.parsers.shard import Shard, ShardRule, TargetRows
from pipeline.audit.samples import supports


class TubeletReferences(ShardRule):
    """Row numbers in the targets file against episodes and supports of the manifest."""

    def __init__(self, build: ClaimedBuild) -> None:
        super().__init__(build)
        self._shared = build.shares_latents

    def check(self, shard: Shard, report: Report) -> None:
        if not self._shared or shard.entry.latents is None:
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
                used |= self._check_rows(shard, rows, tubelets, report)
        except (pa.ArrowException, OSError, ValueError) as error:
            report.found("L7", file, f"cannot be read to its end: {error}")
            return
        _check_unused(tubelets, used, file, report)

    def _check_rows(self, shard: Shard, rows: TargetRows, tubelets: Tubelets, report: Report) -> set[int]:
        part = shard.rows.slice(rows.start, len(rows.keys))
        places = rows.places
        if part.num_rows < len(rows.keys) or places is None:
            return set()  # the row count is reported with the keys
        file, keys = shard.entry.targets.path, pa.array(rows.keys, pa.string())
        batches = part.combine_chunks().to_batches()
        ends = np.concatenate([supports(batch).last for batch in batches]) if batches else np.zeros(places.shape, int)
        there = (places >= 0) & (places < len(tubelets))
        safe = np.where(there, places, 0)
        frames = tubelets.frames[safe] if len(tubelets) else np.full(places.shape, -1)
        own = _same_episode(part.column("episode").to_pylist(), safe, tubelets)
        wanted = ends >= 0
        checks = RowChecks(report, file, keys)
        checks.rows("L8", np.any((places != -1) & ~wanted, axis=1), lambda i: "a masked step refers to a latent")
        checks.rows(
            "L7",
            np.any(wanted & ~there, axis=1),
            lambda i: f"refers to rows {places[i].tolist()} of {len(tubelets)} in the latents file",
        )
        later = wanted & there & own & (frames > ends)
        checks.rows(
            "L2",
            np.any(later, axis=1),
            lambda i: (
                f"step {int(later[i].argmax())} refers to the tubelet that ends at frame "
                f"{frames[i][later[i]][0]}, its own ends at {ends[i][later[i]][0]}"
            ),
        )
        other = wanted & there & ~later & (~own | (frames != ends))
        checks.rows(
            "L7",
            np.any(other, axis=1),
            lambda i: (
                f"step {int(other[i].argmax())} refers to the tubelet of {tubelets.episodes[safe[i][other[i]][0]]} "
                f"that ends at frame {frames[i][other[i]][0]}, its own ends at {ends[i][other[i]][0]}"
            ),
        )
        return set(places[there].tolist())


def _same_episode(episodes: list[str], places: NDArray[np.int64], tubelets: Tubelets) -> NDArray[np.bool_]:
    """Whether the row at each of places [B, K+1] is of the window's own episode."""
    if not len(tubelets):
        return np.zeros(places.shape, bool)
    return np.array(
        [[tubelets.episodes[place] == episode for place in row] for episode, row in zip(episodes, places, strict=True)],
        bool,
    ).reshape(places.shape)


def _check_unused(tubelets: Tubelets, used: set[int], file: str, report: Report) -> None:
    report.check("L10", len(tubelets))
    names = list(zip(tubelets.episodes, tubelets.frames.tolist(), strict=True))
    for place, (episode, frame) in enumerate(names):
        if place not in used:
            report.found("L10", file, f"row {place} (episode {episode}, frame {frame}) is used by no sample")
    for (episode, frame), count in Counter(names).items():
        if count > 1:
            report.found(
                "L10", file, f"the tubelet of episode {episode} that ends at frame {frame} appears {count} times"
            )
