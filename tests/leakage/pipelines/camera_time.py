"""Honest pipelines on raw robot data whose only fault is when its films show what: no camera beside them is on time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.video import CODECS, write_video
from tests.leakage.pipelines.lookahead import Pixels, ahead
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World
from tests.pipeline.audit.lookahead.cameras.films import as_decoded, flashing

EPISODES = 12
"""Enough to tell when cameras and robot move."""


def _films(world: World, change: Callable[[Pixels], Pixels], episodes: int | None = None) -> None:
    """Every film of all cameras is changed; of the sample data, or of so many episodes."""
    if episodes is None:
        world.raw_copy = world.copy_raw()
    else:
        world.raw_copy = world.folder / "raw"
        write_lerobot(world.raw_copy, episodes=episodes, seed=0, size=64)
    for path in sorted(world.raw_copy.glob("videos/*/*/*.mp4")):
        film = np.stack([frame for _, frame in read_video(path)])
        write_video(path, np.ascontiguousarray(change(film)), 12, CODECS["av1"])


def all_cameras_ahead(world: World) -> None:
    _films(world, partial(ahead, lag=6), EPISODES)


def the_only_camera_ahead(world: World) -> None:
    all_cameras_ahead(world)
    world.source = {"cameras": ["observation.images.wrist"]}


def all_cameras_played_backwards(world: World) -> None:
    _films(world, lambda film: film[::-1], 3 * EPISODES)


def all_cameras_stand_at_the_end(world: World) -> None:
    _films(world, lambda film: np.repeat(film[-1:], len(film), axis=0), EPISODES)


def films_in_the_order_of_decoding(world: World) -> None:
    _films(world, as_decoded(3))


def films_that_flash_the_end(world: World) -> None:
    _films(world, flashing(4))


PIPELINES = (
    LeakyPipeline(all_cameras_ahead, "robot", "L1", "source", "frames ahead of the robot"),
    LeakyPipeline(the_only_camera_ahead, "robot", "L1", "source", "frames ahead of the robot"),
    LeakyPipeline(all_cameras_played_backwards, "robot", "L1", "source", "is played backwards"),
    LeakyPipeline(all_cameras_stand_at_the_end, "robot", "L1", "source", "shows one picture while the robot moves"),
    LeakyPipeline(films_in_the_order_of_decoding, "robot", "L1", "source", "has frames out of order"),
    LeakyPipeline(films_that_flash_the_end, "robot", "L1", "source", "shows the end of its episode in single frames"),
)
