"""Films whose frames do not stand in the order of time (rule L1): in the order of decoding, or with flashes of the end.

A film's path is the sum of the steps from picture to picture. Frames in the order in which a codec decodes them (each
group begins with its last frame) make it longer than the order of time does: where putting each group right shortens
the path by much, the film is out of order. A flash is one frame unlike both its neighbours, which are alike; where
several of an episode look like its end, they show it.

F frames, P pixels of a thumbnail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.cameras.thumbnails import descriptors

GROUPS: tuple[tuple[int, ...], ...] = (
    *((*range(1, size), 0) for size in range(2, 9)),  # the last frame first
    (2, 1, 3, 0),  # pyramids of 4 and 8 frames: the last, then the middle
    (3, 2, 4, 1, 6, 5, 7, 0),
)
"""Orders of decoding within a group: at which place of the group the frames lie, in the order of time."""

SHORTER = 0.75
"""Share of its length that the path of a film in the right order has at most."""

FLASHES = 2
"""Of an episode, that are like its end."""

EPISODES, SHARE = 2, 0.2
"""In which a film must be so, and their share of all."""

MOST_FRAMES = 512
"""From the beginning, that are compared."""

_STILL, _UNLIKE, _NO_FLASH, _ALIKE, _MIN_FRAMES = 1e-3, 4.0, 1.5, 0.1, 16


@dataclass(frozen=True)
class OrderSums:
    """Of one episode: cameras that were looked at, those out of order, and those with flashes of the end."""

    seen: tuple[str, ...]
    disordered: tuple[str, ...]
    flashes: tuple[str, ...]


def order_sums(thumbnails: Mapping[str, NDArray[np.uint8]], inputs: Collection[str] | None = None) -> OrderSums:
    """Look at the films of an episode.

    Args:
        thumbnails: uint8 [F, S, S] by camera.
        inputs: cameras that are inputs; None: all.
    """
    films = {
        view: descriptors(frames[:MOST_FRAMES]).astype(np.float64)
        for view, frames in thumbnails.items()
        if len(frames) >= _MIN_FRAMES and (inputs is None or view in inputs)
    }
    disordered = tuple(view for view, film in films.items() if is_disordered(film))
    flashes = tuple(view for view, film in films.items() if flashes_of_the_end(film) >= FLASHES)
    return OrderSums(tuple(films), disordered, flashes)


def is_disordered(film: NDArray[np.float64]) -> bool:
    """Whether a film [F, P] has a much shorter path when groups of its frames are put in another order."""
    path = _path(film)
    if path <= _STILL * len(film):
        return False
    for group in GROUPS:
        size = len(group)
        for first in range(size):
            whole = (len(film) - first) // size * size
            order = np.arange(len(film))
            order[first : first + whole] = first + (np.arange(0, whole, size)[:, None] + np.array(group)).ravel()
            if _path(film[order]) <= SHORTER * path:
                return True
    return False


def flashes_of_the_end(film: NDArray[np.float64]) -> int:
    """Single frames in the first three quarters of a film [F, P] like one of its last frames, and that one like
    the frame before it: what a transmission lost is a single frame there too."""
    frames = len(film)
    last = max(2, frames // 8)
    end, end_step = film[-last:], _distance(film[-last:], film[-last - 1 : -1])
    here = film[1 : 3 * frames // 4]
    before, after = film[: len(here)], film[2 : len(here) + 2]
    step = np.minimum(_distance(here, before), _distance(here, after))
    to_end = _norm(here)[:, None] + _norm(end) - 2 * here @ end.T
    shows_end = ((to_end <= _ALIKE * step[:, None]) & (_NO_FLASH * end_step <= step[:, None])).any(axis=1)
    flash = (step > _STILL) & (step >= _UNLIKE * _distance(before, after)) & shows_end
    return int(flash.sum())


@dataclass
class FilmOrder:
    """Counts over all episodes, by camera."""

    _seen: Counter[str] = field(default_factory=Counter)
    _disordered: Counter[str] = field(default_factory=Counter)
    _flashes: Counter[str] = field(default_factory=Counter)

    def add(self, sums: OrderSums) -> None:
        """Add an episode."""
        self._seen.update(sums.seen)
        self._disordered.update(sums.disordered)
        self._flashes.update(sums.flashes)

    def merge(self, other: FilmOrder) -> None:
        """Add the episodes of another part of the build."""
        self._seen.update(other._seen)
        self._disordered.update(other._disordered)
        self._flashes.update(other._flashes)

    def findings(self) -> Iterator[str]:
        """One line for each camera and fault."""
        faults = (
            (self._disordered, "has frames out of order: in the order of time its path is shorter by a quarter"),
            (self._flashes, "shows the end of its episode in single frames before"),
        )
        for counts, fault in faults:
            for view, count in counts.items():
                if count >= max(EPISODES, SHARE * self._seen[view]):
                    yield f"camera {view} {fault}, in {count} of {self._seen[view]} episodes"


def _path(film: NDArray[np.float64]) -> float:
    return float(np.sqrt(_distance(film[1:], film[:-1])).sum())


def _distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(((first - second) ** 2).sum(axis=1))


def _norm(film: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((film**2).sum(axis=1))
