"""Raw data in which validation shows what training showed, and videos that are not what the build was made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.video import CODECS, Codec, write_video
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

Frames = list[NDArray[np.uint8]]
COARSE = Codec("h264", "libx264", (("preset", "veryfast"), ("crf", "33")))


def duplicate(world: World, change: Callable[[Frames], Frames], codec: Codec = CODECS["vp9"]) -> None:
    """The validation clip becomes a changed copy of the first train clip."""
    root = world.copy_raw()
    world.raw_copy = root
    train, val = (json.loads((root / f"labels/{name}.json").read_text())[0]["id"] for name in ("train", "validation"))
    video = [frame for _, frame in read_video(_clip(root, train))]
    target = _clip(root, val)
    path = target if codec.name == "vp9" else target.with_suffix(".mp4")
    changed = change(video)
    height, width = (side // 2 * 2 for side in changed[0].shape[:2])  # codecs ask for even sides
    write_video(path, [np.ascontiguousarray(frame[:height, :width]) for frame in changed], 12, codec)
    path.rename(target)


def _clip(root: Path, clip: str) -> Path:
    return root / "20bn-something-something-v2" / f"{clip}.webm"


def reencoded_duplicate_in_validation(world: World) -> None:
    duplicate(world, lambda video: video, COARSE)


def rescaled_duplicate(world: World) -> None:
    duplicate(world, lambda video: [np.asarray(Image.fromarray(frame).resize((44, 36))) for frame in video])


def brightened_duplicate(world: World) -> None:
    duplicate(world, lambda video: [np.clip(frame * 1.2 + 15.0, 0, 255).astype(np.uint8) for frame in video])


def cut_duplicate(world: World) -> None:
    duplicate(world, lambda video: video[len(video) // 4 :])


def time_reversed_duplicate(world: World) -> None:
    duplicate(world, lambda video: video[::-1])


def mirrored_duplicate(world: World) -> None:
    duplicate(world, lambda video: [np.ascontiguousarray(frame[:, ::-1]) for frame in video])


def video_longer_than_the_raw_one(world: World) -> None:
    """The last frame was repeated before the build was made; the auditor has the video as it is."""
    world.made_from = world.copy_raw()
    clip = json.loads((world.made_from / "labels/train.json").read_text())[0]["id"]
    video = [frame for _, frame in read_video(_clip(world.made_from, clip))]
    write_video(_clip(world.made_from, clip), [*video, *[video[-1]] * 12], 12, CODECS["vp9"])


def another_video_under_the_same_id(world: World) -> None:
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
    LeakyPipeline(video_longer_than_the_raw_one, "video", "L8", "source", "the raw video has"),
    LeakyPipeline(another_video_under_the_same_id, "video", "L1", "source", "is not frame"),
)
