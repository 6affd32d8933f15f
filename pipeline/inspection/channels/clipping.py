"""Channels that are cut off at a limit: they run into it at full speed and stay there, again and again.

E episodes, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.inspection.channels.summary import ChannelSummary
from pipeline.inspection.flag import Flag

MIN_STOPS, SHARE = 3, 0.5
"""Stops at the limit in the whole set, and their share of all times that the channel came to stay there: one that rests
at the limit, as a gripper or a home pose does, slows down before."""

MIN_LEVELS = 16
"""Different values in an episode that a channel must have; others are switches."""


def clipped(kind: str, names: Sequence[str], found: Mapping[str, ChannelSummary]) -> Iterator[Flag]:
    """Channels whose smallest or largest value in the set is where they are stopped. Of actions it is a note:
    controllers limit what they command."""
    if not found:
        return
    levels = np.median([summary.levels for summary in found.values()], axis=0)
    low, high = (np.stack([getattr(summary, side) for summary in found.values()]) for side in ("low", "high"))
    for side, (word, limits) in enumerate((("low", low.min(axis=0)), ("high", high.max(axis=0)))):
        at = (low, high)[side] == limits
        stops = (np.stack([summary.stops[side] for summary in found.values()]) * at).sum(axis=0)
        reached = (np.stack([summary.reached[side] for summary in found.values()]) * at).sum(axis=0)
        for c in np.flatnonzero((stops >= MIN_STOPS) & (stops >= SHARE * reached) & (levels >= MIN_LEVELS)).tolist():
            detail = (
                f"{kind} {names[c]} is stopped {stops[c]:.0f} times at its {word}est value, {limits[c]:.6g}, at full "
            )
            detail += f"speed (allowed: {MIN_STOPS - 1}): clipped, or at the end of its range"
            yield Flag(
                "clipped-channel", detail, float(stops[c] / MIN_STOPS), f"{kind} {names[c]}", note=kind == "action"
            )
