"""Leaky pipelines: builds made by leaky code, or from other raw data, and the finding that each must give."""

from __future__ import annotations

from tests.leakage.pipelines import (
    camera_time,
    changed_copies,
    filtered,
    idle_windows,
    later_frames,
    leaky_code,
    leaky_inputs,
    leaky_int8,
    leaky_raw,
    leaky_recordings,
    leaky_residuals,
    leaky_splits,
    leaky_targets,
    leaky_times,
    leaky_videos,
    left_out_by_filter,
    lookahead,
    same_numbers,
    selection,
)

LEAKY_PIPELINES = (
    *leaky_inputs.PIPELINES,
    *leaky_targets.PIPELINES,
    *leaky_videos.PIPELINES,
    *leaky_int8.PIPELINES,
    *leaky_times.PIPELINES,
    *leaky_residuals.PIPELINES,
    *leaky_raw.PIPELINES,
    *leaky_recordings.PIPELINES,
    *lookahead.PIPELINES,
    *filtered.PIPELINES,
    *camera_time.PIPELINES,
    *later_frames.PIPELINES,
    *same_numbers.PIPELINES,
    *selection.PIPELINES,
    *left_out_by_filter.PIPELINES,
    *idle_windows.PIPELINES,
    *leaky_splits.PIPELINES,
    *changed_copies.PIPELINES,
)
"""The files of the build are in order, but not its content."""

FORGED_PIPELINES = leaky_residuals.FORGED
"""Builds that name other libraries or another device than made them: refused, unless the audit may be inexact."""

LEAKY_CODE = (*leaky_code.PIPELINES, *leaky_int8.CODE)
"""Code that leaks, with a build that does not."""
