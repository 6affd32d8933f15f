"""An episode truncated at `now` -> one sample of the inputs tar. The job is handed nothing later (rule L1)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import EpisodeError
from pipeline.format.build_settings import InputSettings
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import INPUT_JSON_KEYS
from pipeline.sources.episode.truncated import TruncatedEpisode


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
