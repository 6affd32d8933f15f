"""Functions that remember what they were shown, as pipelines with a cache do. Without torch: each probe starts two
processes that import this."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

_REMEMBERED: dict[object, Any] = {}


def _remember(key: object, made: Any) -> Any:
    """As a cache of features: what was made first under a key is what there is."""
    return _REMEMBERED.setdefault(key, made)


def under_the_present(frames: Frames, now: int) -> tuple[Any, Any]:
    """A context of now .. now+7, kept under the present frame: a change of later frames cannot show."""
    kept = _remember(
        ("under_the_present", frames[now].tobytes()), frames[now : now + 8].astype(np.float64).mean(axis=0)
    )
    return kept, frames[now + 1 : now + 4]


def under_the_next(frames: Frames, now: int) -> tuple[Any, Any]:
    """A context that holds now+5 alone, kept under the frames now .. now+2."""
    late = frames[now + 5].astype(np.float64) + frames[now]
    return _remember(frames[now : now + 3].tobytes(), late), frames[now + 1 : now + 4]


def length_under_the_present(frames: Frames, now: int) -> tuple[Any, Any]:
    """The length of the episode, kept under the present frame."""
    kept = _remember(("length_under_the_present", frames[now].tobytes()), len(frames) + frames[now].mean())
    return np.float64(kept), frames[now + 1 : now + 4]


def honest_cache(frames: Frames, now: int) -> tuple[Any, Any]:
    """A cache whose key is all that it was made from."""
    kept = _remember(("honest_cache", frames[now].tobytes()), frames[now].astype(np.float64) / 255)
    return kept, frames[now + 1 : now + 4]
