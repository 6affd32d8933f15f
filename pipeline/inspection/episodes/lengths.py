"""Episodes that are far shorter or longer than the others of their set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.inspection.flag import Flag

DEVIATIONS, LEAST = 5.0, math.log(3.0)
"""An outlier is so many robust standard deviations of the logarithm away from the median, and by a factor of 3."""

MIN_EPISODES = 8


def outliers(lengths: Mapping[str, int]) -> Iterator[Flag]:
    """Check the frames of each episode."""
    if len(lengths) < MIN_EPISODES:
        return
    logs = np.log(np.maximum(1, np.array(list(lengths.values()), np.float64)))
    middle = float(np.median(logs))
    bound = max(LEAST, DEVIATIONS * 1.4826 * float(np.median(np.abs(logs - middle))))
    for episode, value in zip(lengths, logs.tolist(), strict=True):
        if abs(value - middle) > bound:
            usual = f"{math.exp(middle - bound):.0f} to {math.exp(middle + bound):.0f}"
            detail = f"{lengths[episode]} frames; by the median and the spread of the set {usual} are usual"
            yield Flag("length-outlier", detail, abs(value - middle) / bound, episode=episode)
