"""Near-duplicates across splits (rule L6): the same video under two ids, however it was re-encoded.

Two steps. Perceptual hashes of all frames propose pairs of episodes. Then the two videos are compared: each frame of
one is matched with its nearest frame of the other, and the change over time must agree. Comparing the change instead
of the image distinguishes a copy from another episode before the same camera. When a robot repeats a task before a
static camera, even the change is similar; then the other cameras must agree at the same moments, too.

A video is one view of one episode. F frames of a video, S side of a thumbnail.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.rederive.thumbnails import BANDS, SIDE, descriptors, mirrored, perceptual_hashes

MAX_FRAMES = 128
"""Thumbnails kept of one video, evenly spread: 1 KiB each."""

MAX_DISTANCE = 0.06
"""1 - cosine of two thumbnails up to which they may show the same frame."""

MIN_CORRELATION = 0.92
"""Of the change over time. Measured: copies (H.264 at CRF 33, half size, cut, moderately brightened) 0.93 and more;
different episodes before the same camera 0.86 and less, but up to 0.96 for 423 of the 1,770 pairs of 60 scripted
demonstrations of one task."""

CERTAIN_CORRELATION = 0.97
"""From here on the other cameras are not compared."""

OTHER_CORRELATION = 0.88
"""Of the change over time in each other camera. Measured: copies, as above, of LIBERO's wrist camera 0.91 and more; of
those 423 pairs 0.86 and less."""

MIN_SHARE = 0.5
"""Share of the shorter video that must have a counterpart."""

MIN_FRAMES = 4
STILL = 2e-3
"""A video whose frames stay this close to their mean shows no change; only its images are compared."""

CANDIDATES = 64
"""Videos compared with each video of a held-out split: those with the most equal hashes."""

_QUERY_FRAMES = 32


@dataclass(frozen=True)
class Match:
    """A video of another split that shows the same as the train episode `other`.

    pairs  (frame of `episode`, frame of `other`) of the matching frames, frames as numbered by the source
    """

    episode: str
    split: str
    other: str
    view: str
    relation: str
    share: float
    correlation: float
    distance: float
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Video:
    episode: str
    split: str
    frames: NDArray[np.int32]
    start: int


class DuplicateSearch:
    """Thumbnails of every view of every episode, kept in a temporary file; hashes in memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._videos: dict[str, list[_Video]] = defaultdict(list)
        self._views: dict[tuple[str, str], dict[str, _Video]] = defaultdict(dict)
        self._hashes: dict[str, list[NDArray[np.uint16]]] = defaultdict(list)
        self._count = 0

    def add(self, episode: str, split: str, view: str, thumbnails: NDArray[np.uint8]) -> None:
        """Add a video.

        Args:
            thumbnails: uint8 [F, S, S] of all its frames, in order.
        """
        if len(thumbnails) == 0:
            return
        chosen = evenly_spread(len(thumbnails), MAX_FRAMES).astype(np.int32)
        kept = np.ascontiguousarray(thumbnails[chosen])
        self._file.write(kept.data)
        video = _Video(episode, split, chosen, self._count)
        self._videos[view].append(video)
        self._views[split, episode][view] = video
        self._hashes[view].append(perceptual_hashes(kept))
        self._count += len(kept)

    @property
    def count(self) -> int:
        """Videos added so far."""
        return sum(map(len, self._videos.values()))

    def matches(self) -> Iterator[Match]:
        """Every pair of videos in two splits that show the same; at most one for each episode and view."""
        self._file.flush()
        for view, videos in self._videos.items():
            train = [i for i, video in enumerate(videos) if video.split == "train"]
            index = _HashIndex(train, self._hashes[view])
            for video in videos:
                for flip in (False, True) if video.split != "train" else ():
                    others = [videos[i] for i in index.closest(self._thumbnails(video, flip))]
                    if found := self._best(video, others, view, flip):
                        yield found
                        break

    def _thumbnails(self, video: _Video, flip: bool = False) -> NDArray[np.uint8]:
        shape = (len(video.frames), SIDE, SIDE)
        own = np.array(np.memmap(self._file, np.uint8, "r", video.start * SIDE * SIDE, shape))
        return mirrored(own) if flip else own

    def _best(self, video: _Video, others: list[_Video], view: str, flip: bool) -> Match | None:
        """The train video that a video, mirrored when `flip` is set, is most certainly a copy of."""
        mine, best = descriptors(self._thumbnails(video, flip)), None
        for other in others:
            found = align(mine, descriptors(self._thumbnails(other)))
            if found is None or (best is not None and found.correlation <= best.correlation):
                continue
            pairs = tuple((int(video.frames[i]), int(other.frames[j])) for i, j in found.pairs)
            if found.correlation < CERTAIN_CORRELATION and self._contradicted(video, other, view, pairs, flip):
                continue
            names = [name for name, yes in (("mirrored", flip), ("time-reversed", not found.forward)) if yes]
            scores = (found.share, found.correlation, found.distance)
            relation = " and ".join(names) or "copy"
            best = Match(video.episode, video.split, other.episode, view, relation, *scores, pairs)
        return best

    def _contradicted(
        self, video: _Video, other: _Video, view: str, pairs: Sequence[tuple[int, int]], flip: bool
    ) -> bool:
        """Whether another view of both episodes, in which something changes, differs in the same pairs of frames."""
        own, theirs = self._views[video.split, video.episode], self._views[other.split, other.episode]
        for name in own.keys() & theirs.keys() - {view}:
            a = descriptors(self._thumbnails(own[name], flip))[_closest(own[name].frames, [i for i, _ in pairs])]
            b = descriptors(self._thumbnails(theirs[name]))[_closest(theirs[name].frames, [j for _, j in pairs])]
            visible = a.any(axis=1) & b.any(axis=1)
            a, b = a[visible], b[visible]
            # Two cameras in which nothing changes agree; the distance of their images does not count.
            if len(a) >= MIN_FRAMES and _correlation_of_change(a, b, 0.0) < OTHER_CORRELATION:
                return True
        return False


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of the numbers 0..count-1, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def _closest(frames: NDArray[np.int32], wanted: Sequence[int]) -> NDArray[np.int64]:
    """Positions of the kept frames nearest to those wanted; both numbered as in the source."""
    return np.abs(frames[None, :].astype(np.int64) - np.array(wanted, np.int64)[:, None]).argmin(axis=1)


@dataclass(frozen=True)
class Alignment:
    """How two videos match. `pairs` holds positions; `forward` is False when time runs backwards."""

    share: float
    correlation: float
    distance: float
    forward: bool
    pairs: tuple[tuple[int, int], ...]


def align(a: NDArray[np.float32], b: NDArray[np.float32]) -> Alignment | None:
    """Compare two videos by the descriptors of their frames, float32 [F, S*S] each; None when they differ."""
    distance = 1 - a @ b.T
    distance[~a.any(axis=1)] = 2  # blank frames match nothing
    distance[:, ~b.any(axis=1)] = 2
    if len(a) > len(b):  # search the shorter video in the longer one
        swapped = _align(distance.T, b, a)
        return swapped and replace(swapped, pairs=tuple((i, j) for j, i in swapped.pairs))
    return _align(distance, a, b)


def _align(distance: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]) -> Alignment | None:
    nearest = distance.argmin(axis=1)
    gap = distance[np.arange(len(a)), nearest]
    rows = np.flatnonzero(gap <= MAX_DISTANCE)
    share = len(rows) / len(a)
    if len(rows) < min(MIN_FRAMES, len(a)) or share < MIN_SHARE:
        return None
    columns = nearest[rows]
    middle = float(np.median(gap[rows]))
    correlation = _correlation_of_change(a[rows], b[columns], middle)
    if correlation < MIN_CORRELATION:
        return None
    forward = len(rows) < 2 or float(np.corrcoef(rows, columns)[0, 1] if np.ptp(columns) else 1.0) >= 0
    return Alignment(share, correlation, middle, forward, tuple(zip(rows.tolist(), columns.tolist(), strict=True)))


def _correlation_of_change(a: NDArray[np.float32], b: NDArray[np.float32], distance: float) -> float:
    """Correlation of the frames less their mean: 1 for a copy, small where only the scene is the same."""
    change_a, change_b = a - a.mean(axis=0), b - b.mean(axis=0)
    power_a, power_b = (float((change**2).sum(axis=1).mean()) for change in (change_a, change_b))
    if max(power_a, power_b) < STILL:
        return 1.0 if distance < STILL else 0.0
    return float((change_a * change_b).sum() / np.sqrt((change_a**2).sum() * (change_b**2).sum() + 1e-12))


class _HashIndex:
    """The train videos that hold a frame with a given part of a hash."""

    def __init__(self, members: list[int], hashes: list[NDArray[np.uint16]]) -> None:
        self._members = np.array(members, np.int64)
        self._bands: list[NDArray[np.int64]] = []
        for band in range(BANDS):
            keys = [np.unique(hashes[i][:, band]).astype(np.int64) << 32 | at for at, i in enumerate(members)]
            self._bands.append(np.sort(np.concatenate(keys)) if keys else np.zeros(0, np.int64))

    def closest(self, thumbnails: NDArray[np.uint8]) -> list[int]:
        """Videos that share the most parts of hashes with some frames of a video, the best first."""
        step = max(1, len(thumbnails) // _QUERY_FRAMES)
        query = perceptual_hashes(thumbnails[::step])
        hits = np.zeros(len(self._members), np.int64)
        for band in range(BANDS):
            keys = self._bands[band]
            for value in query[:, band].astype(np.int64).tolist():
                first, last = np.searchsorted(keys, [value << 32, (value + 1) << 32])
                hits[keys[first:last] & 0xFFFFFFFF] += 1
        order = np.argsort(-hits, kind="stable")[:CANDIDATES]
        return self._members[order[hits[order] > 0]].tolist()
