"""Frame arithmetic, derived again from the specification (rules L1, L2, L8), a batch of rows at a time.

With n = now, s = interval, K = steps: support(0) is {max(0, n-s), n}, support(k) is {n+(2k-1)s, n+2ks}; a step whose
last frame lies past the end of the episode is masked, and so is an action past the end.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.samples import Supports, batches, column, integers, supports
from pipeline.format.file_names import SAMPLES

_INDICES = ("interval", "now", "num_frames", "state_frame", "action_start", "action_count")
_Indices = Mapping[str, NDArray[np.int64]]


def check(build: ClaimedBuild, report: Report) -> None:
    """Recompute every window from (now, interval, num_frames) and compare it with what was recorded."""
    for batch in batches(build, ("key", *_INDICES, "supports", "now_s", "support_end_s")):
        checks = RowChecks(report, SAMPLES, batch.column("key"))
        rows, found = {name: integers(batch, name) for name in _INDICES}, supports(batch)
        _check_now(build, rows, checks)
        _check_supports(build, rows, found, checks)
        _check_state(build, rows, checks)
        _check_actions(build, rows, checks)
        _check_times(batch, found.lengths, checks)


def _check_now(build: ClaimedBuild, rows: _Indices, checks: RowChecks) -> None:
    now, total, interval = rows["now"], rows["num_frames"], rows["interval"]
    outside = (now < 0) | (now >= total)
    checks.rows("L8", outside, "now={} is outside 0..{}, the frames of the episode", now, total - 1)
    wanted = build.window.interval
    checks.rows("L2", interval != wanted, f"interval is {{}}, settings.window.interval is {wanted}", interval)


def _check_supports(build: ClaimedBuild, rows: _Indices, found: Supports, checks: RowChecks) -> None:
    now, total, latest = rows["now"], rows["num_frames"], found.highest[:, 0]
    checks.rows("L1", latest > now, "the context's support reaches frame {}, after now={}", latest, now)
    first, last = expected_supports(now, build.window.interval, build.sizes.steps)
    masked = last >= total[:, None]
    good = np.where(masked, found.lengths == 0, (found.lengths == 2) & (found.first == first) & (found.last == last))

    def describe(i: int) -> str:
        k = int(np.flatnonzero(~good[i])[0])
        wants = f"{{{first[i, k]}, {last[i, k]}}}"
        if masked[i, k]:
            wants = f"masked: {last[i, k]} is past the last frame {total[i] - 1}"
        count = found.lengths[i, k]
        has = f"{count} frames from {found.first[i, k]} to {found.last[i, k]}" if count else "masked"
        return f"support of step {k} must be {wants}; found {has}"

    checks.rows("L2", ~good, describe)
    valid = (found.lengths > 0)[:, 1:].sum(axis=1)
    least = 1 if build.window.end == "pad" else build.sizes.steps
    few = (valid < least) | (found.lengths[:, 0] == 0)
    text = f"{{}} future steps; with window.end={build.window.end} at least {least} and a context"
    checks.rows("L8", few, text, valid)


def expected_supports(now: NDArray[np.int64], interval: int, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last frame of the tubelets of steps 0..K, int64 [B, K+1] each (design: rule L2)."""
    k = np.arange(steps + 1, dtype=np.int64)
    first = np.maximum(0, now[:, None] + (2 * k - 1) * interval)
    return first, now[:, None] + 2 * k * interval


def _check_state(build: ClaimedBuild, rows: _Indices, checks: RowChecks) -> None:
    now, frame = rows["now"], rows["state_frame"]
    expected = now if build.sizes.state else np.full_like(now, -1)
    checks.rows("L8", frame != expected, "state_frame must be {} (now={}), found {}", expected, now, frame)
    checks.rows("L1", frame > now, "the state is that of frame {}, after now={}", frame, now)


def _check_actions(build: ClaimedBuild, rows: _Indices, checks: RowChecks) -> None:
    now, start, count = rows["now"], rows["action_start"], rows["action_count"]
    first, number = np.full_like(now, -1), np.zeros_like(now)
    if build.sizes.action:
        left = rows["num_frames"] - now
        first, number = now, np.full_like(now, build.window.chunk)
        if build.window.end == "pad":
            number = np.minimum(number, left)
        checks.rows("L8", count > left, "{} actions are marked valid, the episode has {} frames left", count, left)
    wrong = (start != first) | (count != number)
    checks.rows("L8", wrong, "actions must start at {} and number {}, found {} and {}", first, number, start, count)


def whole_microseconds(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times as a build holds them: the float64 nearest to a whole microsecond, no -0.0, and one NaN."""
    rounded: NDArray[np.float64] = np.round(seconds * 1e6) / 1e6 + 0.0
    return np.where(np.isnan(seconds), np.nan, rounded)


def _check_times(batch: pa.RecordBatch, lengths: NDArray[np.int64], checks: RowChecks) -> None:
    now_s, ends = column(batch, "now_s"), column(batch, "support_end_s")
    given = np.isfinite(ends)
    right = np.where(lengths > 0, given, np.isnan(ends)) & np.isfinite(now_s)[:, None]
    wanted = "times must be finite where a step exists and NaN where it is masked"
    checks.rows("L8", ~right, lambda i: f"{wanted}; now_s={now_s[i]}, support_end_s={ends[i].tolist()}")
    times = np.column_stack([now_s, ends])
    spelled = times.view(np.int64) != whole_microseconds(times).view(np.int64)
    fix = "times must be whole microseconds, and NaN the one of IEEE 754 without a payload"
    checks.rows("L8", spelled, lambda i: f"{fix}; now_s={float(now_s[i])!r}, support_end_s={ends[i].tolist()}")
    # Compared only between two given times: missing ones were reported above.
    rising = (np.diff(ends, axis=1) > 0) | ~(given[:, 1:] & given[:, :-1])
    checks.rows("L8", ~rising, lambda i: f"support_end_s must rise, found {ends[i].tolist()}")
    differs = given[:, 0] & (ends[:, 0] != now_s)
    checks.rows("L1", differs, "the context ends at {} s, now is {} s", ends[:, 0], now_s)
