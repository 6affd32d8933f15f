"""Validation that shows a train film once more, after a change that anybody who edits films may make."""

from __future__ import annotations

from collections.abc import Callable

from tests.leakage.pipelines.leaky_videos import duplicate
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World
from tests.pipeline.audit.duplicates.changes import CHANGES

RELATIONS = {
    "negative": "(negative;",
    "upside down": "(mirrored;",
    "turned by 3 degrees": "(copy;",
    "turned by 90 degrees": "(copy;",
    "turned by 180 degrees": "(copy;",
    "cropped to 90 %": "(copy;",
    "cropped to 80 %": "(copy;",
    "white border": "(copy;",
    "letterbox": "(copy;",
    "shrunk into grey": "(copy;",
    "slow zoom": "(copy;",
    "camera shake": "(copy;",
    "slowed to half": "(copy;",
}
"""What the finding says of each change: the search names what it undid besides placing the picture."""


def _copy(change: str) -> Callable[[World], None]:
    def apply(world: World) -> None:
        duplicate(world, CHANGES[change])

    apply.__name__ = f"copy_{change}_in_validation".replace(" %", "_percent").replace(" ", "_")
    return apply


PIPELINES = tuple(
    LeakyPipeline(_copy(change), "video", "L6", "source", relation) for change, relation in RELATIONS.items()
)
