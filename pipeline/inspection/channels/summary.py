"""What is kept of the state or the actions of an episode: a few numbers for each channel, however long it is.

N frames, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.cameras.still import runs

Values = NDArray[np.float64]

HELD = 3
"""Frames that a channel must stay at its limit to have been stopped there."""


@dataclass(frozen=True)
class ChannelSummary:
    """float64 [C] each.

    frames      N
    low, high   smallest and largest value
    stops       [2, C], times that it reached `low` (`high`), at no less than half the speed of a usual step, and stayed
    reached     [2, C], times that it reached `low` (`high`) and stayed
    levels      different values
    step, step_at  largest change between two frames, and the frame after it
    usual       99 % of the changes are at most so large
    changing    share of the frames in which it changes at all
    still, still_at  longest stretch without any change in frames, and where it begins
    others      share of that stretch in which another channel changes
    """

    frames: int
    low: Values
    high: Values
    stops: Values
    reached: Values
    levels: Values
    step: Values
    step_at: Values
    usual: Values
    changing: Values
    still: Values
    still_at: Values
    others: Values

    @classmethod
    def of(cls, values: Values) -> Self:
        """Summarise float64 [N, C] of N >= 2 frames."""
        steps = np.abs(np.diff(values, axis=0))
        moves = steps > 0
        anything = np.asarray(moves.any(axis=1))
        limits = [_limits(channel, steps[:, c]) for c, channel in enumerate(values.T)]
        longest = np.array([_longest(~moves[:, c], anything) for c in range(values.shape[1])], np.float64)
        return cls(
            frames=len(values),
            low=values.min(axis=0),
            high=values.max(axis=0),
            stops=np.array([stops for stops, _ in limits], np.float64).reshape(-1, 2).T,
            reached=np.array([reached for _, reached in limits], np.float64).reshape(-1, 2).T,
            levels=np.array([len(np.unique(channel)) for channel in values.T], np.float64),
            step=steps.max(axis=0),
            step_at=steps.argmax(axis=0) + 1.0,
            usual=np.quantile(steps, 0.99, axis=0),
            changing=moves.mean(axis=0),
            still=longest[:, 0],
            still_at=longest[:, 1],
            others=longest[:, 2],
        )


def _longest(still: NDArray[np.bool_], any_moves: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Frames of the longest stretch, its first, and the share of it in which anything moves."""
    found = max(runs(still), key=lambda run: run[1] - run[0], default=None)
    if found is None:
        return 1.0, 0.0, 0.0
    begin, end = found
    return end - begin + 1.0, float(begin), float(any_moves[begin:end].mean())


def _limits(channel: Values, steps: Values) -> tuple[tuple[int, int], tuple[int, int]]:
    """How often it was stopped at its low and its high, and how often it came to stay there."""
    moving = steps[steps > 0]
    usual = float(np.median(moving)) if len(moving) else np.inf
    stops, reached = [], []
    for limit in (channel.min(), channel.max()):
        stays = [begin for begin, end in runs(channel == limit) if begin > 0 and end - begin >= HELD]
        reached.append(len(stays))
        stops.append(sum(steps[max(0, begin - 2) : begin].max() >= usual / 2 for begin in stays))
    return (stops[0], stops[1]), (reached[0], reached[1])
