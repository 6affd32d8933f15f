"""Which cameras of a build a batch holds."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.format.build import Build


@dataclass(frozen=True)
class Cameras:
    """Numbers of a build's views, rising: whose images the student sees, and whose latents are supervision."""

    images: tuple[int, ...]
    latents: tuple[int, ...]

    @classmethod
    def all_of(cls, build: Build) -> Cameras:
        """Every view, in both places."""
        every = tuple(range(build.sizes.views))
        return cls(every, every)
