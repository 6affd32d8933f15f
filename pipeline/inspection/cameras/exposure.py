"""Black and blown-out frames, and pictures whose brightness jumps while they show the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.inspection.cameras.look import BRIGHT, DARK, CameraLook
from pipeline.inspection.flag import Flag

MIN_FRAMES, MIN_SHARE = 3, 0.02
"""Dark or blown-out frames that are let pass: fewer than this number, or than this share."""

STEP, TIMES = 20.0, 8.0
"""A jump of the mean grey level is at least so large, and so many times a usual one (19 of 20 are smaller)."""

ALIKE = 0.9
"""Correlation of the pictures before and after a jump of exposure; a cut to something else is none."""


def blank(view: str, look: CameraLook) -> Iterator[Flag]:
    """Frames in which nothing can be seen."""
    kinds = (("black-frames", look.dark, f"at most {DARK}"), ("blown-out-frames", look.bright, f"at least {BRIGHT}"))
    for check, bad, limit in kinds:
        count, least = int(bad.sum()), max(MIN_FRAMES, MIN_SHARE * len(bad))
        if count >= least:
            at = int(look.frames[bad][0])
            detail = f"{count} of {len(bad)} frames of {view} have grey levels of {limit} nearly everywhere, first {at}"
            yield Flag(check, detail, count / least, view, frame=at, leave_out=True)


def jumps(view: str, look: CameraLook) -> Flag | None:
    """The largest jump of brightness between two frames that show the same."""
    steps = np.abs(np.diff(look.level, prepend=look.level[:1]))
    usual = float(np.quantile(steps, 0.95))
    bound = max(STEP, TIMES * usual)
    jumped = (steps >= bound) & (look.likeness >= ALIKE)
    if not jumped.any():
        return None
    worst = int(np.where(jumped, steps, 0).argmax())
    at = int(look.frames[worst])
    detail = f"brightness of {view} jumps by {steps[worst]:.0f} grey levels at frame {at} (bound: {bound:.0f})"
    return Flag("exposure-jump", detail, float(steps[worst] / bound), view, frame=at)
