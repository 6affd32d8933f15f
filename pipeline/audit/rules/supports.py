"""Frame arithmetic, derived again from the specification (rules L1, L2, L8), a batch of rows at a time.

With n = now, s = interval, K = steps: support(0) is {max(0, n-s), n}, support(k) is {n+(2k-1)s, n+2ks}; a step whose
last frame lies past the end of the episode is masked, and so is an action past the end.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.samples import SAMPLES, Supports, batches, column, integers, supports

_INDICES = ("interval", "now", "num_frames", "state_frame", "action_start", "action_count")
_COLUMNS = ("key", *_INDICES, "supports", "now_s", "support_end_s")


def check(build: ClaimedBuild, report: Report) -> None:
    """Recompute every window from (now, interval, num_frames) and compare it with what was recorded."""
    for batch in batches(build, _COLUMNS):
        _check_now(build, batch, report)
        _check_supports(build, batch, report)
        _check_state(build, batch, report)
        _check_actions(build, batch, report)
        _check_times(batch, report)


def _check_now(build: ClaimedBuild, batch: pa.RecordBatch, report: Report) -> None:
    keys, now, total = batch.column("key"), integers(batch, "now"), integers(batch, "num_frames")
    checks = RowChecks(report, SAMPLES, keys)
    checks.rows(
        "L8",
        (now < 0) | (now >= total),
        lambda i: f"now={now[i]} is outside 0..{total[i] - 1}, the frames of the episode",
    )
    interval = integers(batch, "interval")
    checks.rows(
        "L2",
        interval != build.window.interval,
        lambda i: f"interval is {interval[i]}, settings.window.interval is {build.window.interval}",
    )


def _check_supports(build: ClaimedBuild, batch: pa.RecordBatch, report: Report) -> None:
    keys, found = batch.column("key"), supports(batch)
    now, total = integers(batch, "now"), integers(batch, "num_frames")
    late = found.highest[:, 0] > now
    checks = RowChecks(report, SAMPLES, keys)
    checks.rows("L1", late, lambda i: f"the context's support reaches frame {found.highest[i, 0]}, after now={now[i]}")
    first, last = expected_supports(now, build.window.interval, build.sizes.steps)
    masked = last >= total[:, None]
    good = np.where(masked, found.lengths == 0, (found.lengths == 2) & (found.first == first) & (found.last == last))

    def describe(i: int) -> str:
        k = int(np.flatnonzero(~good[i])[0])
        wants = f"{{{first[i, k]}, {last[i, k]}}}"
        if masked[i, k]:
            wants = f"masked: {last[i, k]} is past the last frame {total[i] - 1}"
        return f"support of step {k} must be {wants}; found {_spell(found, i, k)}"

    checks.rows("L2", ~good.all(axis=1), describe)
    valid = (found.lengths > 0)[:, 1:].sum(axis=1)
    least = 1 if build.window.end == "pad" else build.sizes.steps
    checks.rows(
        "L8",
        (valid < least) | (found.lengths[:, 0] == 0),
        lambda i: f"{valid[i]} future steps; with window.end={build.window.end} at least {least} and a context",
    )


def expected_supports(now: NDArray[np.int64], interval: int, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last frame of the tubelets of steps 0..K, int64 [B, K+1] each (design: rule L2)."""
    k = np.arange(steps + 1, dtype=np.int64)
    first = np.maximum(0, now[:, None] + (2 * k - 1) * interval)
    return first, now[:, None] + 2 * k * interval


def _check_state(build: ClaimedBuild, batch: pa.RecordBatch, report: Report) -> None:
    now, frame = integers(batch, "now"), integers(batch, "state_frame")
    expected = now if build.sizes.state else np.full_like(now, -1)
    checks = RowChecks(report, SAMPLES, batch.column("key"))
    checks.rows(
        "L8", frame != expected, lambda i: f"state_frame must be {expected[i]} (now={now[i]}), found {frame[i]}"
    )
    checks.rows("L1", frame > now, lambda i: f"the state is that of frame {frame[i]}, after now={now[i]}")


def _check_actions(build: ClaimedBuild, batch: pa.RecordBatch, report: Report) -> None:
    keys, now = batch.column("key"), integers(batch, "now")
    start, count = integers(batch, "action_start"), integers(batch, "action_count")
    checks = RowChecks(report, SAMPLES, keys)
    if build.sizes.action:
        left = integers(batch, "num_frames") - now
        full = np.full_like(now, build.window.chunk)
        wants_start = now
        wants_count = full if build.window.end == "drop" else np.minimum(full, left)
        checks.rows(
            "L8", count > left, lambda i: f"{count[i]} actions are marked valid, the episode has {left[i]} frames left"
        )
    else:
        wants_start, wants_count = np.full_like(now, -1), np.zeros_like(now)
    checks.rows(
        "L8",
        (start != wants_start) | (count != wants_count),
        lambda i: (
            f"actions must start at {wants_start[i]} and number {wants_count[i]}, found {start[i]} and {count[i]}"
        ),
    )


def _check_times(batch: pa.RecordBatch, report: Report) -> None:
    keys, lengths = batch.column("key"), supports(batch).lengths
    now_s, ends = column(batch, "now_s"), column(batch, "support_end_s")
    given = np.isfinite(ends)
    masked_right = (np.where(lengths > 0, given, np.isnan(ends))).all(axis=1)
    checks = RowChecks(report, SAMPLES, keys)
    checks.rows(
        "L8",
        ~masked_right | ~np.isfinite(now_s),
        lambda i: (
            f"times must be finite where a step exists and NaN where it is masked; now_s={now_s[i]}, "
            f"support_end_s={ends[i].tolist()}"
        ),
    )
    # Compared only between two given times: missing ones were reported above.
    rising = ((np.diff(ends, axis=1) > 0) | ~(given[:, 1:] & given[:, :-1])).all(axis=1)
    checks.rows("L8", ~rising, lambda i: f"support_end_s must rise, found {ends[i].tolist()}")
    checks.rows(
        "L1", given[:, 0] & (ends[:, 0] != now_s), lambda i: f"the context ends at {ends[i, 0]} s, now is {now_s[i]} s"
    )


def _spell(found: Supports, i: int, k: int) -> str:
    if found.lengths[i, k] == 0:
        return "masked"
    return f"{found.lengths[i, k]} frames from {found.first[i, k]} to {found.last[i, k]}"
