"""An episode -> the frames its targets are computed from, cut and resized for the encoder. Needs no torch.

Overlapping windows of one episode share frames, so a clip block holds each frame once and says by index which frames a
window uses.

Letters: V views, U distinct frames, W windows, F sampled frames a window, C side of the encoder's square input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.enums import EncoderMode, Resize
from pipeline.format.episode import Episode
from pipeline.samples.windows import Window


@dataclass(frozen=True)
class FrameSettings:
    """How a raw frame becomes encoder input.

    crop_size  C in pixels
    resize     "crop": shorter side to 8/7 C (292 for 256), centre crop, as V-JEPA2's own processor does;
               "squash": the whole frame to C x C, the same field of view as the student's image
    """

    crop_size: int
    resize: Resize = Resize.CROP

    def __post_init__(self) -> None:
        if self.crop_size < 16:
            raise ValueError(f"crop_size must be at least 16 pixels, got {self.crop_size}")


@dataclass(frozen=True)
class FrameBlock:
    """Frames of the windows of one episode.

    frames   uint8 [V, U, C, C, 3]  RGB
    index    int32 [W, F]           position in U of each sampled frame; -1 past the end of the episode
    """

    frames: NDArray[np.uint8]
    index: NDArray[np.int32]


def cut_frames(
    episode: Episode, windows: Sequence[Window], views: Sequence[str], settings: FrameSettings, mode: EncoderMode
) -> FrameBlock:
    """Decode each frame that any of the windows needs, once.

    Args:
        mode: "prefix" and "tubelet" sample the tubelets of `Window.supports`; "clip" samples as the reference does.

    Raises:
        EpisodeError: a frame cannot be decoded.
    """
    sampled = [sampled_frames(window, mode) for window in windows]
    needed = sorted({frame for frames in sampled for frame in frames if frame >= 0})
    position = {frame: i for i, frame in enumerate(needed)}
    position[-1] = -1
    index = np.array([[position[frame] for frame in frames] for frames in sampled], np.int32)
    return FrameBlock(np.stack([_prepared(episode, view, needed, settings) for view in views]), index)


def sampled_frames(window: Window, mode: EncoderMode) -> list[int]:
    """Raw frame indices in the order the encoder sees them, two a step, -1 where the episode has ended.

    "clip" reproduces the reference (for comparison only): the first tubelet starts at `now`, so a step ends one
    interval later than in "prefix", and the last step of an episode's last window is masked.
    """
    if mode != EncoderMode.CLIP:
        return [frame for support in window.supports() for frame in (support or (-1, -1))]
    frames = [window.now + i * window.interval for i in range(2 * (window.steps + 1))]
    return [frame if frame < window.num_frames else -1 for frame in frames]


def recorded_supports(window: Window, mode: EncoderMode) -> tuple[tuple[int, ...], ...]:
    """The raw frames each latent of steps 0..K is computed from; in mode "clip" that is every frame of the pass."""
    if mode != EncoderMode.CLIP:
        return window.supports()
    frames = sampled_frames(window, mode)
    pairs = zip(frames[::2], frames[1::2], strict=True)
    everything = tuple(frame for pair in pairs if pair[1] >= 0 for frame in pair)
    return tuple(everything if last >= 0 else () for last in frames[1::2])


def _prepared(episode: Episode, view: str, indices: Sequence[int], settings: FrameSettings) -> NDArray[np.uint8]:
    out = np.empty((len(indices), settings.crop_size, settings.crop_size, 3), np.uint8)
    for start in range(0, len(indices), 32):  # bounds the memory held in full resolution
        part = indices[start : start + 32]
        for i, frame in enumerate(episode.frames(view, part)):
            out[start + i] = prepare_frame(frame, settings)
    return out


def prepare_frame(frame: NDArray[np.uint8], settings: FrameSettings) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] -> uint8 [C, C, 3], bilinear with antialiasing."""
    image, size = Image.fromarray(frame), settings.crop_size
    if settings.resize == Resize.SQUASH:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    short = size * 8 // 7
    scale = short / min(image.size)
    width, height = (max(short, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def merge_blocks(blocks: Sequence[FrameBlock]) -> FrameBlock:
    """Join the blocks of several episodes, so that batches of the encoder may span episodes."""
    starts = np.cumsum([0, *(block.frames.shape[1] for block in blocks)])
    index = [np.where(b.index < 0, -1, b.index + start) for b, start in zip(blocks, starts[:-1], strict=True)]
    return FrameBlock(
        np.concatenate([block.frames for block in blocks], axis=1), np.concatenate(index).astype(np.int32)
    )
