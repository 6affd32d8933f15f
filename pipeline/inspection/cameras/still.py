"""Cameras that stand still while something moves, and frames that are written twice.

F frames that are looked at, N frames of the episode.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.cameras.look import CameraLook, Values
from pipeline.inspection.flag import Flag

STILL = 1.0
"""Largest change of a cell between two frames that show the same, grey levels: less than what codecs and sensors add
to a picture in which a robot moves."""

MIN_FRAMES, MIN_SECONDS = 8, 0.5
"""A camera is frozen when it stands for so many frames and seconds, and ..."""

MOVED = 0.2
"""... the state moves meanwhile by this share of what it moves in the episode, or, without a state, ..."""

JUMP = 2.5
"""... when it goes on, the picture jumps by this many times a usual mean change of it (19 of 20 are smaller)."""

REPEATED = 0.15
"""Share of the frames that may repeat the one before while those around them move."""


def frozen(view: str, look: CameraLook, state: Values | None, rate: float) -> Flag | None:
    """The longest stretch in which a camera stands still although it should not.

    Args:
        state: float64 [N, S]; None for human video.
        rate: frames a second.
    """
    least = max(MIN_FRAMES, round(MIN_SECONDS * rate))
    still = look.change <= STILL  # False where NaN
    moving = look.energy[look.change > STILL]
    usual = float(np.quantile(moving, 0.95)) if len(moving) else np.inf
    worst: Flag | None = None
    for begin, end in runs(still):
        if end - begin < least:
            continue
        first, last = int(look.frames[begin]) - 1, int(look.frames[end - 1])
        if state is not None:
            moved = _moved(state, first, last)
            why = f"while the state moves by {moved:.0%} of its range in the episode"
            wrong = moved >= MOVED
        else:
            jump = float(look.energy[end]) if end < len(still) else 0.0
            why = f"and then jumps by {jump:.1f} grey levels on average, usual are {usual:.1f}"
            wrong = jump >= JUMP * usual
        if wrong and (worst is None or (end - begin) / least > worst.score):
            detail = f"frames {first} to {last} of {view} show the same ({end - begin + 1} frames), {why}"
            worst = Flag("frozen-camera", detail, (end - begin) / least, view, frame=first, leave_out=True)
    return worst


def repeated(view: str, look: CameraLook) -> Flag | None:
    """Single frames that repeat the one before, as of a film whose rate was raised by copying."""
    change = look.change
    still, moves = change <= STILL, change > STILL
    if moves.sum() < MIN_FRAMES or np.median(change[moves]) < 4 * STILL:
        return None
    alone = still[1:-1] & moves[:-2] & moves[2:]
    share = float(alone.sum() / max(1, alone.sum() + moves.sum()))
    if share < REPEATED:
        return None
    at = int(look.frames[1:-1][alone][0])
    detail = (
        f"{share:.0%} of the moving frames of {view} repeat the one before (allowed: {REPEATED:.0%}), first frame {at}"
    )
    return Flag("repeated-frames", detail, share / REPEATED, view, frame=at)


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of every stretch of True in bool [F]; end is not part of it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _moved(state: Values, first: int, last: int) -> float:
    """Largest share of its range in the episode that a channel moves in some frames."""
    extent = np.ptp(state, axis=0)
    part = np.ptp(state[max(0, first) : last + 1], axis=0)
    return float(np.where(extent > 1e-9, part / np.maximum(extent, 1e-9), 0).max(initial=0))
