"""A film and the points of its frames, found when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.features import Points, Variant, find_points, varied_pictures, varied_points
from pipeline.audit.duplicates.films import Film, evenly_spread

KEY_FRAMES = 12
"""Frames in which another film is looked for."""


@dataclass
class FilmPoints:
    """Points by position of the frame among those kept."""

    film: Film
    _found: dict[int, Points] = field(default_factory=dict)
    _variants: dict[Variant, FilmPoints] = field(default_factory=dict)

    def points(self, frame: int) -> Points:
        """The points of a frame."""
        if frame not in self._found:
            self._found[frame] = find_points(self.film.pictures[frame])
        return self._found[frame]

    @property
    def keys(self) -> dict[int, Points]:
        """Points of some evenly spread frames."""
        return {int(frame): self.points(int(frame)) for frame in evenly_spread(len(self.film), KEY_FRAMES)}

    def varied(self, variant: Variant) -> FilmPoints:
        """The film after a change; its points follow from those of the film as it is."""
        if not variant.name:
            return self
        if variant not in self._variants:
            pictures: NDArray[np.uint8] = varied_pictures(self.film.pictures, variant)
            width = pictures.shape[2]
            points = {frame: varied_points(found, variant, width) for frame, found in self.keys.items()}
            self._variants[variant] = FilmPoints(Film(pictures, self.film.numbers, self.film.grain), points)
        return self._variants[variant]
