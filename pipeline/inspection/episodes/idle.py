"""Episodes that do not move at all, or not at their beginning or end.

N frames, S channels of state, F frames of a camera that are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.cameras.look import CameraLook, Values
from pipeline.inspection.flag import Flag

NEAR_STATE, NEAR_PICTURE = 0.02, 0.1
"""Idle frames are as near to the first (last) one, as a share of the largest distance to it: of the state, the largest
share of a channel's range; of pictures, of the mean change."""

NOISE = 10.0
"""A channel whose range is less than so many usual steps shows noise, no motion."""

MIN_SECONDS, SHARE = 2.0, 0.25
"""An idle end is so long, and this share of the episode."""

MOVES = 2.0
"""Grey levels by which a picture must differ somewhere from the first one."""


def idle(state: Values | None, looks: dict[str, CameraLook], frames: int, rate: float) -> Iterator[Flag]:
    """Idle ends of an episode by its state, or by its pictures where there is none; or all of it.

    Args:
        state: float64 [N, S]; None for human video.
        rate: frames a second.
    """
    away = _state_away(state) if state is not None else _pictures_away(looks, frames)
    if away is None:
        return
    if not away.any():
        detail = f"nothing moves in {frames} frames" + ("" if state is None else ", by the state")
        yield Flag("idle-episode", detail, 2.0, leave_out=True)
        return
    least = max(MIN_SECONDS * rate, SHARE * frames)
    near = NEAR_STATE if state is not None else NEAR_PICTURE
    from_first, from_last = away / np.maximum(away.max(axis=1, keepdims=True), 1e-12)
    head, tail = _leading(from_first <= near), _leading(from_last[::-1] <= near)
    for check, count, at in (("idle-head", head, 0), ("idle-tail", tail, frames - tail)):
        if count >= least:
            detail = f"{count} of {frames} frames ({count / rate:.1f} s) from frame {at} on (bound: {least:.0f} frames)"
            yield Flag(check, detail, count / least, frame=at)


def _state_away(state: Values) -> Values | None:
    """Distance of every frame to the first and the last one, float64 [2, N]: the largest share of a channel's range."""
    extent, steps = np.ptp(state, axis=0), np.abs(np.diff(state, axis=0))
    usual = np.median(steps, axis=0) if len(steps) else np.zeros(state.shape[1])
    lively = (extent > 1e-9) & (extent >= NOISE * usual)
    if not lively.any():
        return np.zeros((2, len(state))) if not (extent > 1e-9).any() else None
    moving = state[:, lively] / extent[lively]
    return np.stack([np.abs(moving - moving[at]).max(axis=1) for at in (0, -1)])


def _pictures_away(looks: dict[str, CameraLook], frames: int) -> Values | None:
    """The same by the camera that changes most; None where not all frames were looked at."""
    whole = [look.away for look in looks.values() if len(look.frames) == frames]
    if not whole or len(whole) < len(looks):
        return None
    best = max(whole, key=lambda away: float(away.max()))
    return best if best.max() >= MOVES else np.zeros_like(best)


def _leading(flags: NDArray[np.bool_]) -> int:
    """How many entries from the first on are True."""
    return len(flags) if flags.all() else int(flags.argmin())
