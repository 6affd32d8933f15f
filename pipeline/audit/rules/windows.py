"""Rule L7: every episode has the windows that `settings.window` takes from its frames, in order, and no other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.samples import batches, integers, position_in
from pipeline.audit.selection.idle import IdleRule
from pipeline.audit.selection.windows import WindowRule
from pipeline.format.file_names import SAMPLES


def check(build: ClaimedBuild, report: Report) -> None:
    """Compare each row's `now` with that of its number in its episode, and the number of rows with the windows. Where
    idle windows are left out, those that are there are some of these; which ones, level source derives from the states.
    """
    rule = WindowRule.of(build)
    if IdleRule.of(build).frames:
        _check_some(build, rule, report)
        return
    episode, rows, frames = -1, 0, 0  # of the run of rows that a batch may cut
    for batch in batches(build, ("key", "episode", "now", "num_frames")):
        if not batch.num_rows:
            continue
        now, total = integers(batch, "now"), integers(batch, "num_frames")
        position = position_in(build.tasks.ids, batch.column("episode"))
        starts = np.flatnonzero(np.diff(position, prepend=-2))  # -2: the first row begins a run
        lengths = np.diff(starts, append=len(position))
        rank = np.arange(len(position)) - np.repeat(starts, lengths)
        if position[0] == episode:
            rank[: lengths[0]] += rows
        elif rows:
            _check_counts(build, rule, np.array([episode]), np.array([rows]), np.array([frames]), report)
        wanted = rule.now(total, rank)
        wrong = (now != wanted) | (rank >= rule.counts(total))
        text = "now={} is no window by settings.window: number {} of its episode, of {} frames, must be at {}"
        RowChecks(report, SAMPLES, batch.column("key")).rows("L7", wrong, text, now, rank, total, wanted)
        ends = starts + lengths - 1
        finished = slice(0, -1)
        _check_counts(build, rule, position[ends[finished]], rank[ends[finished]] + 1, total[ends[finished]], report)
        episode, rows, frames = int(position[-1]), int(rank[-1]) + 1, int(total[-1])
    if rows:
        _check_counts(build, rule, np.array([episode]), np.array([rows]), np.array([frames]), report)


def _check_some(build: ClaimedBuild, rule: WindowRule, report: Report) -> None:
    """Every row is at a window, later than the row before it of its episode."""
    episode, last = -2, -1
    for batch in batches(build, ("key", "episode", "now", "num_frames")):
        if not batch.num_rows:
            continue
        now, total = integers(batch, "now"), integers(batch, "num_frames")
        position = position_in(build.tasks.ids, batch.column("episode"))
        before = np.where(np.diff(position, prepend=episode) == 0, np.concatenate([[last], now[:-1]]), -1)
        checks = RowChecks(report, SAMPLES, batch.column("key"))
        checks.rows(
            "L7", rule.rank_of(total, now) < 0, "now={} is no window by settings.window, of {} frames", now, total
        )
        checks.rows("L7", now <= before, "now={} is not after the window before it, at {}", now, before)
        episode, last = int(position[-1]), int(now[-1])


def _check_counts(
    build: ClaimedBuild,
    rule: WindowRule,
    position: NDArray[np.int64],
    rows: NDArray[np.int64],
    frames: NDArray[np.int64],
    report: Report,
) -> None:
    """Of finished runs: row of the task table, number of rows, frames of the episode."""
    wanted = rule.counts(frames)

    def describe(i: int) -> str:
        name = build.tasks.ids[int(position[i])].as_py() if position[i] >= 0 else "an unknown episode"
        return f"{name} has {rows[i]} samples, settings.window takes {wanted[i]} from its {frames[i]} frames"

    RowChecks(report, SAMPLES).rows("L7", rows != wanted, describe)
