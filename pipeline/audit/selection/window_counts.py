"""How many windows an episode of a length gives, and how many distinct tubelets they have.

K future steps, s interval, T actions of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from pipeline.audit.build import ClaimedBuild


def window_counts(build: ClaimedBuild, length: int) -> tuple[int, int]:
    """Windows of an episode of this length, and distinct frames that their tubelets end at."""
    window, chunk = build.settings["window"], build.window.chunk if build.sizes.action else 0
    every, each = window["every"], window["per_episode"]
    return _counted(length, build.window.interval, build.window.steps, build.window.end, every, each, chunk)


@cache
def _counted(length: int, s: int, steps: int, end: str, every: int, each: int, chunk: int) -> tuple[int, int]:
    reach = 2 * s * (1 if end == "pad" else steps)
    fitting = max(0, length - (max(reach, chunk - 1) if end == "drop" else reach))
    ahead = [2 * k * s for k in range(steps + 1)]
    if each:
        count = min(each, fitting)
        nows = (2 * np.arange(count) + 1) * fitting // max(1, 2 * count)
        ends = np.unique(np.add.outer(nows, ahead))
        return count, int((ends < length).sum())
    return -(-fitting // every), _distinct_ends(length, fitting, every, ahead)


def _distinct_ends(length: int, fitting: int, every: int, ahead: Sequence[int]) -> int:
    """Distinct frames below `length` among now + a, for every now = 0, every, 2 every, … below `fitting`."""
    if not fitting:
        return 0
    last, found = (fitting - 1) // every, 0
    reached: dict[int, int] = {}  # remainder by `every` -> the largest quotient that is counted
    for a in sorted(ahead):
        quotient, remainder = divmod(a, every)
        first = max(quotient, reached.get(remainder, -1) + 1)
        end = min(quotient + last, (length - 1 - remainder) // every)
        if end >= first:
            found += end - first + 1
            reached[remainder] = end
    return found
