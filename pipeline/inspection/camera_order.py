"""Cameras that show what is still to come (rule L1): later frames of another camera, or the end of the own episode.

For every frame n of one camera the most alike frame m of another is looked for, once among m > n and once among m <= n.
Copies of a picture that runs ahead, is reversed, or stands at the last frame are alike to later frames alone. A camera
that looks from elsewhere is alike to none; a camera that shows the same, or shows it late, to one that is known.

Shapes: F frames that are compared, P pixels of a thumbnail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
MAX_FRAMES = 256
"""Frames of an episode that are compared, evenly spread."""

ALIKE = 0.05
"""Largest difference to a later frame, as a share of what moves in the other camera."""

MUCH_BETTER = 4.0
"""How many times more alike the later frames must be than those already known."""

JUMP, RETURN = 1.8, 0.1
"""A cut is a step between two frames so many times one that 19 of 20 do not exceed; the frames before it are back when
what is left of it is this share."""

MOVES = 1e-3
"""Spread of the thumbnails over time below which nothing moves."""

Thumbnails = NDArray[np.float32]


def thumbnails(frames: NDArray[np.uint8]) -> Thumbnails:
    """uint8 [F, H, W, 3] -> float32 [F, SIDE, SIDE], grey, mean 0 and deviation 1; zeros for a blank frame."""
    small = [Image.fromarray(frame).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for frame in frames]
    values = np.array([np.asarray(image, np.float32) for image in small]).reshape(-1, SIDE, SIDE)
    values -= values.mean(axis=(1, 2), keepdims=True)
    deviation = values.std(axis=(1, 2), keepdims=True)
    return np.where(deviation > 2, values / np.maximum(deviation, 1e-6), 0).astype(np.float32)


@dataclass
class _Sums:
    """Mean differences of a camera's frames to another's, summed over episodes. ahead: frames from n to the likest."""

    later: float = 0.0
    known: float = 0.0
    spread: float = 0.0
    ahead: list[float] = field(default_factory=list)

    @property
    def is_ahead(self) -> bool:
        moves = self.spread > MOVES * len(self.ahead)
        return moves and self.later <= ALIKE * self.spread and self.known >= MUCH_BETTER * max(self.later, 1e-9)


class CameraOrder:
    """Compares the cameras of one episode after the other."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str, str], _Sums] = defaultdict(_Sums)
        self._preview: dict[str, int] = defaultdict(int)
        self._episodes = 0

    def add(self, views: Mapping[str, Thumbnails], stride: int = 1) -> None:
        """Add an episode: float32 [F, SIDE, SIDE] by view, every `stride`-th frame."""
        self._episodes += 1
        for name, frames in views.items():
            shown = frames[(frames != 0).any(axis=(1, 2))]  # a blank frame, as before a camera is ready, shows no end
            self._preview[name] += _starts_with_its_end(_distances(shown, shown))
            for other, reference in views.items():
                if other != name and len(reference) == len(frames) >= 8:
                    for how, turned in _turned(frames).items():
                        _compare(_distances(turned, reference), reference, stride, self._pairs[name, other, how])

    def findings(self) -> list[str]:
        """One line for each camera that shows what is still to come."""
        found = []
        for (name, other, how), sums in self._pairs.items():
            if sums.is_ahead:
                ahead = f"its frames are those of {other}{how}, about {np.median(sums.ahead):.0f} frames later"
                found.append(f"camera {name} shows what camera {other} has still to show: {ahead}")
        for name, count in self._preview.items():
            if count >= 2 and 2 * count >= self._episodes:
                found.append(f"camera {name} begins with the end of its own episode, in {count} of {self._episodes}")
        return found


def _turned(frames: Thumbnails) -> dict[str, Thumbnails]:
    return {
        "": frames,
        " mirrored": frames[:, :, ::-1],
        " upside down": frames[:, ::-1],
        " turned by 180 degrees": frames[:, ::-1, ::-1],
    }


def _distances(frames: Thumbnails, reference: Thumbnails) -> NDArray[np.float32]:
    """Mean squared differences of all pairs of frames, float32 [F, F]."""
    a, b = frames.reshape(len(frames), -1), reference.reshape(len(reference), -1)
    squares = (a**2).mean(axis=1)[:, None] + (b**2).mean(axis=1)
    return np.maximum(squares - 2 * (a @ b.T) / a.shape[1], 0)


def _compare(distances: NDArray[np.float32], reference: Thumbnails, stride: int, sums: _Sums) -> None:
    frames = np.arange(len(distances) // 2)  # played backwards, the second half shows what is known
    later = np.triu(np.ones_like(distances, bool), 1)
    ahead = np.where(later, distances, np.inf)[frames]
    sums.later += float(ahead.min(axis=1).mean())
    sums.known += float(np.where(later, np.inf, distances)[frames].min(axis=1).mean())
    sums.spread += float(reference.var(axis=0).mean())
    sums.ahead.append(float(np.median(ahead.argmin(axis=1) - frames)) * stride)


def _starts_with_its_end(distances: NDArray[np.float32]) -> bool:
    """Whether the frames before a cut in the first half are like the last frames and like none in between. A robot that
    returns to where it began gets there without a cut."""
    frames = len(distances)
    steps = distances.diagonal(1)
    if frames < 12 or steps.max(initial=0) <= MOVES:
        return False
    cut = int(steps[: frames // 2].argmax()) + 1
    if steps[cut - 1] < JUMP * float(np.quantile(steps, 0.95)):
        return False
    before = distances[cut - 1]
    end, between = before[-max(1, frames // 8) :].min(), before[cut : 3 * frames // 4].min(initial=np.inf)
    return bool(between >= MUCH_BETTER * max(float(end), 1e-6) and end <= RETURN * steps[cut - 1])
