"""Cameras that show what is still to come (rule L1), from the thumbnails of every decoded episode.

A camera whose file is ahead of the others agrees with the build frame by frame: the raw data itself is ahead. So each
camera is compared with the others of its episode. For a frame n, how alike is the likest among the frames of another
camera after n, and how alike the likest up to n? Cameras at different places see nothing alike. A copy that is in time
is as alike to a known frame as to any. Only one that is ahead, is played backwards or stands at the last frame is alike
to later frames and to no known one. (Pictures do not tell whose clock is right: of two copies the leading one counts.)
A camera that is compared with itself shows the end of its episode when it begins with other frames, cut off from what
follows, that come back only at the end.

Shapes: F frames, P pixels of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.cameras.thumbnails import descriptors

MOST_FRAMES = 256
"""Frames of an episode that are compared, evenly spread."""

SAME = 0.05
"""Distance to a later frame, as a share of the spread of what the other camera sees, that means the same picture."""

RIVAL = 4.0
"""The known frames must be so many times further away."""

CUT, BACK_AGAIN = 1.8, 0.1
"""A step between two frames is a cut when it is so many times one that 19 of 20 do not exceed; what was before the cut
is back when the distance is at most this share of it."""

_STILL, _NOISE = 1e-3, 1e-6

_Distances = NDArray[np.float64]


@dataclass
class Likeness:
    """How far the frames of a camera are from those of another, summed over episodes.

    later, known  squared distance to the likest later frame, and to the likest up to the frame itself
    spread        of the other camera's frames around their mean
    ahead         frames from each to its likest later one
    episodes      that were summed
    """

    later: float = 0.0
    known: float = 0.0
    spread: float = 0.0
    ahead: float = 0.0
    episodes: int = 0

    def add(self, other: Likeness) -> None:
        """Add the sums of other episodes."""
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def shows_later_frames(self) -> bool:
        """Whether the later frames of the other camera are the same pictures, and the known ones are not."""
        moves = self.spread > _STILL * self.episodes
        return moves and self.later <= SAME * self.spread and self.known >= RIVAL * max(self.later, _NOISE)


LENGTHS = 0.1
"""Share by which two cameras may differ in frames; of the longer one those from the beginning are compared."""

Pair = tuple[str, str, str]
"""A camera, another, and how the pictures of the first are turned."""

_TURNS = {"": (1, 1), " mirrored": (1, -1), " upside down": (-1, 1), " turned by 180 degrees": (-1, -1)}


@dataclass(frozen=True)
class CameraSums:
    """Of one episode. begins: cameras that begin with the end of the episode."""

    pairs: dict[Pair, Likeness]
    begins: tuple[str, ...]


def camera_sums(thumbnails: Mapping[str, NDArray[np.uint8]], inputs: Collection[str] | None = None) -> CameraSums:
    """Compare the cameras of an episode.

    Args:
        thumbnails: uint8 [F, S, S] by camera.
        inputs: cameras that must not be ahead of the others; None: all.
    """
    stride = max(1, -(-max(map(len, thumbnails.values()), default=0) // MOST_FRAMES))
    few = {view: frames[::stride] for view, frames in thumbnails.items()}
    seen = {view: descriptors(frames).astype(np.float64) for view, frames in few.items()}
    pairs: dict[Pair, Likeness] = {}
    own = set(few) if inputs is None else set(few) & set(inputs)
    for view, frames in ((view, frames) for view, frames in few.items() if view in own):
        for other, reference in seen.items():
            both, most = sorted((len(frames), len(reference)))
            if other == view or both < 8 or most - both > LENGTHS * most:
                continue
            for turn, (rows, columns) in _TURNS.items():
                turned = descriptors(np.ascontiguousarray(frames[:both, ::rows, ::columns])).astype(np.float64)
                distances = _distances(turned, reference[:both])
                pairs[view, other, turn] = _likeness(distances, reference[:both], stride)
    return CameraSums(pairs, tuple(view for view, frames in seen.items() if view in own and _begins(frames)))


def _begins(frames: _Distances) -> bool:
    """Whether a film begins with its end. Blank frames, whose descriptor is zero, show no end: a camera that is not
    ready yet, or a film that fades in and out."""
    shown = frames[(frames**2).sum(axis=1) > 0]
    return _begins_with_its_end(_distances(shown, shown))


class CameraOrder:
    """The sums of all episodes."""

    def __init__(self) -> None:
        self._pairs: dict[Pair, Likeness] = {}
        self._begins: dict[str, int] = {}
        self._episodes = 0
        self._single: dict[Pair, str] = {}

    def add(self, sums: CameraSums, episode: str) -> None:
        """Add an episode, and judge it alone."""
        self._episodes += 1
        for pair, likeness in sums.pairs.items():
            self._pairs.setdefault(pair, Likeness()).add(likeness)
            if likeness.shows_later_frames:
                self._single.setdefault(pair, episode)
        for view in sums.begins:
            self._begins[view] = self._begins.get(view, 0) + 1

    def merge(self, other: CameraOrder) -> None:
        """Add the episodes of another part of the build."""
        self._episodes += other._episodes
        for pair, likeness in other._pairs.items():
            self._pairs.setdefault(pair, Likeness()).add(likeness)
        for pair, episode in other._single.items():
            self._single.setdefault(pair, episode)
        for view, count in other._begins.items():
            self._begins[view] = self._begins.get(view, 0) + count

    def findings(self) -> Iterator[str]:
        """One line for each camera that shows what is still to come."""
        for pair, sums in self._pairs.items():
            if sums.shows_later_frames or pair in self._single:
                view, other, turn = pair
                which = "all episodes together" if sums.shows_later_frames else f"episode {self._single[pair]}"
                ahead = f"about {sums.ahead / max(1, sums.episodes):.0f} frames ahead, in {which}"
                yield f"camera {view} shows later frames of camera {other}{turn}, {ahead}"
        for view, count in self._begins.items():
            if count >= 2 and 2 * count >= self._episodes:
                yield f"camera {view} begins with the end of its own episode, in {count} of {self._episodes} episodes"


def _distances(frames: _Distances, reference: _Distances) -> _Distances:
    """Squared distances [F, F] of all pairs of descriptors [F, P]: 0 for the same picture, 2 for unrelated ones."""
    own = (frames**2).sum(axis=1)[:, None] + (reference**2).sum(axis=1)
    return np.maximum(own - 2 * frames @ reference.T, 0)


def _likeness(distances: _Distances, reference: _Distances, stride: int) -> Likeness:
    rows = len(distances) // 2  # of a film that is played backwards the second half is known
    after = np.arange(len(distances)) > np.arange(rows)[:, None]
    later, known = np.where(after, distances[:rows], np.inf), np.where(after, np.inf, distances[:rows])
    ahead = float(np.median(later.argmin(axis=1) - np.arange(rows))) * stride
    spread = float(((reference - reference.mean(axis=0)) ** 2).sum(axis=1).mean())
    return Likeness(float(later.min(axis=1).mean()), float(known.min(axis=1).mean()), spread, ahead, 1)


def _begins_with_its_end(distances: _Distances) -> bool:
    """A cut in the first half; the frame before it comes back near the end, and not in between."""
    frames = len(distances)
    steps = distances.diagonal(1)
    if frames < 12:
        return False
    last = int(steps[: frames // 2].argmax())
    size = steps[last]
    if size <= _STILL or size < CUT * float(np.quantile(steps, 0.95)):
        return False
    end = float(distances[last, -max(1, frames // 8) :].min())
    between = float(distances[last, last + 1 : 3 * frames // 4].min())
    return end <= BACK_AGAIN * size and between >= RIVAL * max(end, _NOISE)
