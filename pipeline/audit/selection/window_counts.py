"""How many windows an episode of a length gives, and how many distinct tubelets they have.

K future steps, s interval, T actions of a chunk.
"""

from __future__ import annotations

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
    count = min(each, fitting)
    nows = (2 * np.arange(count) + 1) * fitting // max(1, 2 * count) if each else np.arange(0, fitting, every)
    reached = np.zeros(length, bool)
    for k in range(steps + 1):
        ends = nows + 2 * k * s
        reached[ends[ends < length]] = True
    return len(nows), int(reached.sum())
