"""Whether one film is a copy of another: laid over it in space, then in time, then compared in detail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.audit.duplicates.alignment import Line, lines
from pipeline.audit.duplicates.film_points import FilmPoints
from pipeline.audit.duplicates.geometry import Transform, common_transform, pairings
from pipeline.audit.duplicates.motion import Motion, compare_motion

MIN_CORRELATION = 0.86
"""Of the fine motion."""

MIN_BLURRED = 0.92
"""The same after the sharper film was blurred: what is left is coarser, and more alike between different films."""

LOST_BY_COARSE = 0.06
"""Films of few pixels need so much less: compression takes more of them."""

_SHIFTS = (0.5, -0.5, 1.0, -1.0)
_HOPELESS = 0.6


@dataclass(frozen=True)
class Overlay:
    """One film beside another along a line in time."""

    line: Line
    motion: Motion

    @property
    def same(self) -> bool:
        """Whether they show the same."""
        lost = LOST_BY_COARSE if self.motion.coarse else 0.0
        return self.motion.correlation >= MIN_CORRELATION - lost or self.motion.blurred >= MIN_BLURRED - lost


def overlays(own: FilmPoints, other: FilmPoints) -> Iterator[Overlay]:
    """The ways in which one film may lie over another, the most likely first."""
    if not len(own.film) or not len(other.film):
        return
    found = pairings(own.keys, other.keys)
    common = common_transform(found)
    for line in lines(own.film.pictures, other.film.pictures, found):
        motion = compare_motion(own, other, line, common)
        if motion is not None:
            yield _exact(Overlay(line, motion), own, other, common)


def _exact(rough: Overlay, own: FilmPoints, other: FilmPoints, common: Transform | None) -> Overlay:
    """The same a frame or half a frame earlier or later, where that fits better."""
    best = rough
    for shift in _SHIFTS:
        if best.same or rough.motion.blurred < _HOPELESS:
            break
        line = replace(rough.line, start=rough.line.start + shift)
        motion = compare_motion(own, other, line, common)
        if motion is not None and motion.blurred > best.motion.blurred:
            best = Overlay(line, motion)
    return best
