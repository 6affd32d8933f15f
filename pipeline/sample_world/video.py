"""Frames to video files whose bytes depend on the frames alone: one encoder thread, no dates, no random ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Codec:
    """An encoder of ffmpeg with its options; `name` is what LeRobot's info.json calls it."""

    name: str
    encoder: str
    options: tuple[tuple[str, str], ...]


CODECS = {
    "vp9": Codec(
        "vp9",
        "libvpx-vp9",
        (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "24"), ("b", "0"), ("g", "60"), ("row-mt", "0")),
    ),
    # Keyframe distance 2 and quality 30 are what LeRobot writes; the preset is a faster one.
    "av1": Codec("av1", "libsvtav1", (("preset", "12"), ("g", "2"), ("crf", "30"), ("svtav1-params", "lp=1"))),
    # Low delay: a picture does not depend on later ones, so that equal beginnings stay equal
    "av1_low_delay": Codec(
        "av1", "libsvtav1", (("preset", "12"), ("g", "2"), ("crf", "30"), ("svtav1-params", "lp=1:pred-struct=1"))
    ),
    "h264": Codec("h264", "libx264", (("preset", "veryfast"), ("g", "2"), ("crf", "23"))),
}


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int, codec: Codec) -> None:
    """Encode frames uint8 RGB [H, W, 3] with even H and W; the container follows from the file's suffix."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would report every file on stderr; 1: errors
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = None
        for index, pixels in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec.encoder, rate=fps, options=dict(codec.options))
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
                stream.codec_context.time_base = Fraction(1, fps)
                with unchanged_priority():
                    stream.codec_context.open()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"{path}: a video needs at least one frame")
        container.mux(stream.encode())


@contextmanager
def unchanged_priority() -> Iterator[None]:
    """Give threads that become real-time ones in this block, and those that begin in it, the caller's scheduling.

    As root, SVT-AV1 sets SCHED_FIFO at priority 99 permanently for the thread that opens it, for its own threads, and
    so for processes that this thread starts later. With one such thread per processor nothing else runs.
    """
    if not hasattr(os, "sched_getscheduler"):  # not Linux: nothing of this kind is known there
        yield
        return
    own = (os.sched_getscheduler(0), os.sched_getparam(0))
    before = _policies()
    try:
        yield
    finally:
        for thread, policy in _policies().items():
            if policy != before.get(thread, own[0]):
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setscheduler(thread, *own)


def _policies() -> dict[int, int]:
    """Scheduling policy of each thread of this process, by its id."""
    found = {}
    for name in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):
            found[int(name)] = os.sched_getscheduler(int(name))
    return found
