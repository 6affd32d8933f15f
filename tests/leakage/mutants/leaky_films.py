"""Raw data in which validation shows what training showed, and videos that are not what the build was made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.raw.video import read_video
from pipeline.sample_world.video import CODECS, Codec, write_video
from tests.leakage.mutants.leaky import LeakyPipeline
from tests.leakage.world import World

FrameReader = list[NDArray[np.uint8]]
COARSE = Codec("h264", "libx264", (("preset", "veryfast"), ("crf", "33")))


def _duplicate(world: World, change: Callable[[FrameReader], FrameReader], codec: Codec = CODECS["vp9"]) -> None:
    """The validation clip becomes a changed copy of the first train clip."""
    root = world.copy_raw()
    world.raw_copy = root
    train, val = (json.loads((root / f"labels/{name}.json").read_text())[0]["id"] for name in ("train", "validation"))
    film = [frame for _, frame in read_video(_clip(root, train))]
    target = _clip(root, val)
    path = target if codec.name == "vp9" else target.with_suffix(".mp4")
    write_video(path, change(film), 12, codec)
    path.rename(target)


def _clip(root: Path, clip: str) -> Path:
    return root / "20bn-something-something-v2" / f"{clip}.webm"


def reencoded_duplicate_in_validation(world: World) -> None:
    _duplicate(world, lambda film: film, COARSE)


def rescaled_duplicate(world: World) -> None:
    _duplicate(world, lambda film: [np.asarray(Image.fromarray(frame).resize((44, 36))) for frame in film])


def brightened_duplicate(world: World) -> None:
    _duplicate(world, lambda film: [np.clip(frame * 1.2 + 15.0, 0, 255).astype(np.uint8) for frame in film])


def cut_duplicate(world: World) -> None:
    _duplicate(world, lambda film: film[len(film) // 4 :])


def time_reversed_duplicate(world: World) -> None:
    _duplicate(world, lambda film: film[::-1])


def mirrored_duplicate(world: World) -> None:
    _duplicate(world, lambda film: [np.ascontiguousarray(frame[:, ::-1]) for frame in film])


def film_longer_than_the_raw_one(world: World) -> None:
    """The last frame was repeated before the build was made; the auditor has the film as it is."""
    world.made_from = world.copy_raw()
    clip = json.loads((world.made_from / "labels/train.json").read_text())[0]["id"]
    film = [frame for _, frame in read_video(_clip(world.made_from, clip))]
    write_video(_clip(world.made_from, clip), [*film, *[film[-1]] * 12], 12, CODECS["vp9"])


def another_film_under_the_same_id(world: World) -> None:
    world.made_from = world.copy_raw()
    first, second = (row["id"] for row in json.loads((world.made_from / "labels/train.json").read_text())[:2])
    _clip(world.made_from, first).write_bytes(_clip(world.made_from, second).read_bytes())


PIPELINES = (
    LeakyPipeline(reencoded_duplicate_in_validation, "video", "L6", "source", "(copy;"),
    LeakyPipeline(rescaled_duplicate, "video", "L6", "source", "(copy;"),
    LeakyPipeline(brightened_duplicate, "video", "L6", "source", "(copy;"),
    LeakyPipeline(cut_duplicate, "video", "L6", "source", "(copy;"),
    LeakyPipeline(time_reversed_duplicate, "video", "L6", "source", "(time-reversed;"),
    LeakyPipeline(mirrored_duplicate, "video", "L6", "source", "(mirrored;"),
    LeakyPipeline(film_longer_than_the_raw_one, "video", "L8", "source", "the raw video shows"),
    LeakyPipeline(another_film_under_the_same_id, "video", "L1", "source", "is not frame"),
)
