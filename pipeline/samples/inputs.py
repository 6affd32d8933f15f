"""An episode truncated at `now` -> one sample of the inputs tar. The job is handed nothing later (rule L1)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import EpisodeError
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import INPUT_JSON_KEYS
from pipeline.sources.truncated import TruncatedEpisode


@dataclass(frozen=True)
class InputSettings:
    """How the current frame is stored.

    image_size    side of the square JPEG in pixels (reference: 224); the frame is resized, not cropped
    jpeg_quality  1..100; chroma is never subsampled
    """

    image_size: int = 224
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        if not 16 <= self.image_size <= 4096:
            raise ValueError(f"image_size must be 16..4096 pixels, got {self.image_size}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1..100, got {self.jpeg_quality}")


def build_input(
    past: TruncatedEpisode, key: str, episode: str, source: str, views: Sequence[str], settings: InputSettings
) -> InputSample:
    """Make the members of one sample.

    Raises:
        EpisodeError: a frame cannot be decoded, or the episode has no instruction.
    """
    images = tuple(encode_jpeg(past.frames(view, [past.now])[0], settings) for view in views)
    instruction = past.instruction()
    if not instruction.strip():
        raise EpisodeError("no-instruction", f"episode {episode} has no text at frame {past.now}")
    state = past.state()
    content = {
        "episode": episode,
        "instruction": instruction,
        "key": key,
        "now": past.now,
        "source": source,
        "state": None if state is None else state_to_json(state),
        "views": list(views),
    }
    assert tuple(content) == INPUT_JSON_KEYS
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
    return InputSample(key, images, text.encode())


def encode_jpeg(frame: NDArray[np.uint8], settings: InputSettings) -> bytes:
    """RGB uint8 [H, W, 3] -> a baseline JPEG of the stored size without metadata."""
    image = resize(Image.fromarray(frame), settings.image_size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=settings.jpeg_quality, subsampling=0)
    return buffer.getvalue()


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize to a square of `size` pixels, bicubic with antialiasing (the filter of Qwen3-VL's image processor)."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC)


def state_to_json(state: NDArray[np.float32]) -> list[float]:
    """float32 [S] -> numbers whose decimal text reads back to the same float32."""
    return [float(str(value)) for value in state.astype(np.float32)]
