"""Channels that never change, and channels that stand still in an episode although they move in the others.

E episodes, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.inspection.channels.summary import ChannelSummary
from pipeline.inspection.flag import Flag

LIVELY = 0.5
"""A channel that changes in half of the frames of most episodes is a measured one: it never stands still by itself."""

SHARE, TIMES = 0.25, 4.0
"""It is stuck when it stands for this share of an episode, so many times what 9 of 10 episodes have."""

OTHERS = 0.5
"""Share of that stretch in which something else must change: a robot that rests is not stuck."""

MIN_EPISODES, CONSTANT_EPISODES = 4, 8


def constant(kind: str, names: Sequence[str], found: Mapping[str, ChannelSummary]) -> Iterator[Flag]:
    """Channels with one value in the whole set. A note where it is 0, as of a rotation that a robot does not use, and
    where few episodes were looked at."""
    if not found:
        return
    low = np.min([summary.low for summary in found.values()], axis=0)
    high = np.max([summary.high for summary in found.values()], axis=0)
    for c in np.flatnonzero(low == high).tolist():
        detail = f"{kind} {names[c]} is {low[c]:.6g} in every frame of {len(found)} episodes"
        yield Flag(
            "constant-channel",
            detail,
            1.0,
            f"{kind} {names[c]}",
            note=bool(low[c] == 0) or len(found) < CONSTANT_EPISODES,
        )


def stuck(kind: str, names: Sequence[str], found: Mapping[str, ChannelSummary]) -> Iterator[Flag]:
    """Episodes in which a channel stands still while another one moves."""
    if len(found) < MIN_EPISODES:
        return
    changing = np.stack([summary.changing for summary in found.values()])
    share = np.stack([summary.still / summary.frames for summary in found.values()])
    lively = np.median(changing, axis=0) >= LIVELY
    bound = np.maximum(SHARE, TIMES * np.quantile(share, 0.9, axis=0, method="lower"))
    for episode, summary in found.items():
        own = summary.still / summary.frames
        for c in np.flatnonzero(lively & (own > bound) & (summary.others >= OTHERS)).tolist():
            first = int(summary.still_at[c])
            last = first + int(summary.still[c]) - 1
            detail = (
                f"{kind} {names[c]} does not change from frame {first} to {last} of {summary.frames} ({own[c]:.0%}; "
            )
            detail += f"bound: {bound[c]:.0%}), while other channels do"
            where = f"{kind} {names[c]}"
            yield Flag("stuck-channel", detail, float(own[c] / bound[c]), where, episode, first, leave_out=True)
