"""The difference of two kinds of policies, with an interval for other seeds and other scenes.

Letters: S seeds, C cases, those of a scene one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Difference:
    """Of two shares of successes, in -1..1, with its 95 % interval by bootstrap."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """In percentage points, as in "+26.0 (+18.0 to +33.0)"; what is the same in all cases tells no interval."""
        if self.low == self.high:
            return f"{100 * self.value:+.1f} (the same in all cases: no interval)"
        return f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


def difference(one: NDArray[np.bool_], other: NDArray[np.bool_], of_scene: int = 2) -> Difference:
    """one - other, of successes [S, C] in the same cases and of trainings with the same seeds.

    Seeds and scenes are drawn again, each by itself. With one seed the interval is for other scenes alone.

    Args:
        of_scene: cases of each scene.

    Raises:
        ValueError: the shapes differ, or C holds no whole scenes.
    """
    if one.shape != other.shape or one.shape[1] % of_scene:
        raise ValueError(f"successes must be of the same seeds and whole scenes, got {one.shape} and {other.shape}")
    by_scene = (one.astype(float) - other.astype(float)).reshape(len(one), -1, of_scene).mean(axis=2)
    seeds, scenes = by_scene.shape
    rng = np.random.default_rng(0)
    drawn_seeds, drawn_scenes = (rng.multinomial(n, np.full(n, 1 / n), DRAWS) / n for n in (seeds, scenes))
    values = ((drawn_seeds @ by_scene) * drawn_scenes).sum(axis=1)
    low, high = np.percentile(values, PERCENTILES).tolist()
    return Difference(float(by_scene.mean()), low, high)
