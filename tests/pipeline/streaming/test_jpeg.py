"""The reader's JPEG decoder against Pillow: the same bytes, and an error where it finds one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.build_settings import InputSettings
from pipeline.samples.inputs import encode_jpeg
from pipeline.sources.video.decode import Video
from pipeline.streaming.jpeg import decode_jpeg


def pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def decoded(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    out = np.empty((height, width, 3), np.uint8)
    decode_jpeg(data, out)
    return out


@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 64, 97, 224]), st.integers(1, 100), st.sampled_from([0, 1, 2]))
def test_pixels_are_those_of_pillow(seed: int, size: int, quality: int, subsampling: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 5, 3), np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    coarse.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    assert np.array_equal(decoded(buffer.getvalue(), size, size), pillow(buffer.getvalue()))


def test_real_frames_are_those_of_pillow(shared_data: Path) -> None:
    files = sorted((shared_data / "ssv2").rglob("*.webm"))[:8]
    assert files
    for file in files:
        with Video(file) as video:
            frame = Image.fromarray(video.frames([0])[0]).resize((224, 224))
        data = encode_jpeg(np.asarray(frame), InputSettings(image_size=224))
        assert np.array_equal(decoded(data, 224, 224), pillow(data))


def test_what_is_no_whole_jpeg_of_that_size_is_refused() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode_jpeg(picture, InputSettings(image_size=64))
    with pytest.raises(ValueError, match="the image is 64 x 64 pixels, the build's are 32 x 32"):
        decoded(data, 32, 32)
    for broken in (data[: len(data) // 2], b"", b"\xff\xd8\xff" + bytes(100)):
        with pytest.raises(ValueError):  # noqa: PT011  the library's own words
            decoded(broken, 64, 64)
