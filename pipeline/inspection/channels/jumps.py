"""Values that jump from one frame to the next, beyond what the same channel does in other episodes.

E episodes, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.inspection.channels.summary import ChannelSummary
from pipeline.inspection.flag import Flag

TIMES = 10.0
"""A jump is so many times the step that 99 of 100 frames do not exceed, in the median of the episodes."""

RARE = 0.1
"""What more than this share of the episodes do is what the channel is like: a gripper that snaps shut."""

TURNS = {2 * np.pi: "2 pi", 360.0: "360"}
"""Steps near a whole turn are angles that wrap around."""

WRAP = 0.05
"""Relative difference to a whole turn."""


def jumps(kind: str, names: Sequence[str], found: Mapping[str, ChannelSummary]) -> Iterator[Flag]:
    """The largest jump of each channel and episode."""
    if len(found) < 3:
        return
    usual = np.median([summary.usual for summary in found.values()], axis=0)
    steps = np.stack([summary.step for summary in found.values()])
    jumped = (steps > TIMES * usual) & (usual > 0)
    rare = jumped.sum(axis=0) <= max(1, RARE * len(found))
    for (episode, summary), bad in zip(found.items(), jumped, strict=True):
        for c in np.flatnonzero(bad & rare).tolist():
            yield _jump(f"{kind} {names[c]}", episode, summary, c, float(usual[c]))
    for c in np.flatnonzero(jumped.any(axis=0) & ~rare).tolist():
        turn = _turn(float(np.median(steps[jumped[:, c], c])))
        if turn:
            detail = (
                f"{kind} {names[c]} jumps by about {turn} in {jumped[:, c].sum()} of {len(found)} episodes: an angle "
            )
            detail += "that wraps around; convert it to a rotation vector or unwrap it"
            yield Flag("angle-wraps", detail, 1.0, f"{kind} {names[c]}")


def _jump(where: str, episode: str, summary: ChannelSummary, c: int, usual: float) -> Flag:
    step, at = float(summary.step[c]), int(summary.step_at[c])
    turn = _turn(step)
    detail = f"{where} changes by {step:.3g} from frame {at - 1} to {at} (bound: {TIMES * usual:.3g})"
    check = "angle-wraps" if turn else "jump"
    detail += f", about {turn}: an angle that wraps around" if turn else ""
    return Flag(check, detail, step / (TIMES * usual), where, episode, at, leave_out=not turn)


def _turn(step: float) -> str:
    return next((name for turn, name in TURNS.items() if abs(step / turn - 1) <= WRAP), "")
