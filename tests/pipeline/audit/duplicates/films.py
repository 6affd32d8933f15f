"""Films to search in: real ones, and made-up demonstrations of one task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.search import DuplicateSearch, Match
from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.camera import front_camera, wrist_camera
from pipeline.sample_world.render import make_look, render
from pipeline.sample_world.script import Task, make_world, play
from tests.pipeline.audit.duplicates.changes import Frames


def real_clips(shared_data: Path) -> list[Frames]:
    """Twenty real clips; several are neighbouring cuts of one shot."""
    paths = sorted((shared_data / "ssv2/20bn-something-something-v2").glob("*.webm"))
    return [[frame for _, frame in read_video(path)] for path in paths]


def matches(held_out: Mapping[str, Frames], train: Mapping[str, Frames]) -> list[Match]:
    """What a search finds in films by name, all of one view."""
    films = {**held_out, **train}

    def read(episode: str, view: str) -> Iterator[NDArray[np.uint8]]:
        yield from films[episode]

    search = DuplicateSearch()
    for split, some in (("val", held_out), ("train", train)):
        for episode, frames in some.items():
            search.add(episode, split, "view", frames)
    return list(search.matches(read))


def demonstrations(count: int, size: int = 128, seed: int = 0) -> Iterator[Mapping[str, Frames]]:
    """Episodes of one scripted task in one scene, by camera: things lie up to 2 cm elsewhere, the arm begins 1 cm off.

    The picture has no noise: what differs between two episodes is what moves.
    """
    rng = np.random.default_rng(seed)
    scene, look = make_world(rng), make_look(rng, "gripper")
    for index in range(count):
        own = np.random.default_rng([seed, index])
        state, places = scene.state.copy(), scene.places.copy()
        state[:3] += own.uniform(-0.01, 0.01, 3)
        places[:, :2] += own.uniform(-0.02, 0.02, (len(places), 2))
        rollout = play(own, replace(scene, state=state, places=places), Task("lift", 0), (60, 80))
        yield {
            "front": [render(world, look, front_camera(), size, own, 0.0) for world in rollout.worlds],
            "wrist": [render(world, look, wrist_camera(world.state), size, own, 0.0) for world in rollout.worlds],
        }
