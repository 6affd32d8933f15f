"""Videos whose frames spell their own index: what was decoded is read off the pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.sample_world.video import unchanged_priority
from pipeline.sources.video.decode import Video

HEIGHT, WIDTH = 64, 96
ROWS, COLUMNS = 2, 4
ENCODERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "vp9.webm": ("libvpx-vp9", {"g": "20", "crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
    # With a lag and a variable rate libvpx adds hidden reference frames, packed with the next shown one.
    "vp9_hidden_frames.webm": (
        "libvpx-vp9",
        {"g": "40", "b": "2M", "deadline": "realtime", "cpu-used": "6", "lag-in-frames": "25", "auto-alt-ref": "1"},
    ),
    "h264.mp4": ("libx264", {"g": "20", "crf": "10", "bf": "0"}),
    "h264_b_frames.mp4": ("libx264", {"g": "20", "crf": "10", "bf": "3"}),
    "h264_open.mp4": ("libx264", {"g": "20", "crf": "10", "bf": "3", "x264-params": "open-gop=1:b-pyramid=2"}),
    "h264_b_frames.mkv": ("libx264", {"g": "20", "crf": "10", "bf": "3"}),
    "mpeg4_b_frames.mp4": ("mpeg4", {"g": "20", "bf": "2", "qscale": "2", "flags": "+qscale"}),
    "av1.mp4": ("libsvtav1", {"g": "2", "crf": "10", "preset": "12", "svtav1-params": "lp=1"}),
    "av1_long.mp4": ("libsvtav1", {"g": "30", "crf": "5", "preset": "8", "svtav1-params": "lp=1:enable-tf=0"}),
}


def spell(number: int) -> NDArray[np.uint8]:
    """A frame [64, 96, 3] of eight black or white blocks: the bits of 0..255."""
    bits = (number >> np.arange(ROWS * COLUMNS)) & 1
    blocks = (255 * bits).astype(np.uint8).reshape(ROWS, COLUMNS)
    grey = blocks.repeat(HEIGHT // ROWS, 0).repeat(WIDTH // COLUMNS, 1)
    return np.repeat(grey[..., None], 3, axis=2)


def read(frame: NDArray[np.uint8]) -> int:
    """The number a decoded frame spells."""
    blocks = frame.reshape(ROWS, HEIGHT // ROWS, COLUMNS, WIDTH // COLUMNS, 3).mean((1, 3, 4))
    return int(((blocks.ravel() > 127) << np.arange(ROWS * COLUMNS)).sum())


def png(number: int) -> bytes:
    """A PNG file that spells a number."""
    buffer = io.BytesIO()
    Image.fromarray(spell(number)).save(buffer, "PNG")
    return buffer.getvalue()


def write_spelled(folder: Path, name: str, numbers: Sequence[int], fps: int = 12, black: bool = False) -> Path:
    """Encode frames that spell `numbers` (or are black) by the encoder of `ENCODERS[name]`; returns the path."""
    return write_frames(folder / name, name, [spell(0 if black else number) for number in numbers], fps)


def write_frames(path: Path, name: str, frames: Sequence[NDArray[np.uint8]], fps: int = 12) -> Path:
    """Encode frames [H, W, 3] by the encoder of `ENCODERS[name]`."""
    encoder, options = ENCODERS[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=fps, options=dict(options))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        with unchanged_priority():
            stream.codec_context.open()
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_frames(path: Path, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Frames of one file by a new decoder, uint8 RGB [len(indices), H, W, 3]."""
    with Video(path) as video:
        return video.frames(indices)
