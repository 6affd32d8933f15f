"""Grippers that never move: in the whole set, or in an episode where those of nearly all others do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.inspection.channels.summary import ChannelSummary
from pipeline.inspection.flag import Flag

SHARE = 0.25
"""A gripper has moved when it went through this share of its range in the set."""

MOST = 0.9
"""Share of the episodes in which it moves, from which on one without is worth a look."""

MIN_EPISODES = 4


def idle_grippers(where: str, channel: int, found: Mapping[str, ChannelSummary]) -> Iterator[Flag]:
    """Check one channel of state or action that is a gripper; where: its name, as in "action gripper"."""
    if not found:
        return
    low = np.array([summary.low[channel] for summary in found.values()])
    high = np.array([summary.high[channel] for summary in found.values()])
    extent = float(high.max() - low.min())
    if extent <= 1e-6 or not (high - low > SHARE * extent).any():
        detail = f"{where} never opens or closes within any of {len(found)} episodes; its values are "
        detail += f"{low.min():.4g} to {high.max():.4g}"
        yield Flag("gripper-never-moves", detail, 1.0, where)
        return
    moved = high - low > SHARE * extent
    if len(found) < MIN_EPISODES or moved.mean() < MOST:
        return
    for episode, moves, value in zip(found, moved, low, strict=True):
        if not moves:
            detail = f"{where} stays near {value:.3g}; it opens or closes in {moved.mean():.0%} of the episodes"
            yield Flag("gripper-never-moves", detail, 1.0, where, episode)
