"""Coefficients from the scan, against what Pillow makes of the same file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.audit.rederive.jpeg_coefficients import decode_coefficients


def _jpeg(size: int, quality: int = 95, seed: int = 0, **options: object) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((size, size)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **{"subsampling": 0, **options})
    return buffer.getvalue()


@pytest.mark.parametrize("size", [16, 64, 60])
@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("optimize", [False, True])
def test_coefficients_give_the_pixels_that_pillow_decodes(size: int, quality: int, optimize: bool) -> None:
    jpeg = _jpeg(size, quality, optimize=optimize)
    header, found = decode_coefficients(jpeg)
    assert jpeg.startswith(header)
    image = Image.open(io.BytesIO(jpeg))
    image.draft("YCbCr", image.size)
    pixels = np.asarray(image, np.float64)
    tables = [np.array(image.quantization[min(i, 1)])[_ZIGZAG] for i in range(3)]
    side = -(-size // 8)
    for component in range(3):
        blocks = np.zeros((side * side, 64))
        blocks[:, _ZIGZAG] = found[component] * tables[component]
        plane = (_DCT.T @ blocks.reshape(-1, 8, 8) @ _DCT).reshape(side, side, 8, 8).transpose(0, 2, 1, 3)
        shown = plane.reshape(8 * side, 8 * side)[:size, :size] + 128
        assert np.abs(shown.clip(0, 255) - pixels[..., component]).max() <= 1


@pytest.mark.parametrize("problem", ["fill", "short", "long", "code"])
def test_a_scan_with_room_for_more_is_refused(problem: str) -> None:
    made = (_jpeg(64, seed=seed) for seed in range(50))
    jpeg = next(jpeg for jpeg in made if jpeg[-3] & 1 and 0xFF not in jpeg[-4:-2])
    at = len(decode_coefficients(jpeg)[0])
    changed = {
        "fill": jpeg[:-3] + bytes([jpeg[-3] & 0xFE]) + jpeg[-2:],
        "short": jpeg[:-40] + jpeg[-2:],
        "long": jpeg[:-2] + b"\x7f" + jpeg[-2:],
        "code": jpeg[:at] + b"\xff\x00" * 20 + jpeg[at + 40 :],
    }[problem]
    with pytest.raises(ValueError, match="its scan"):
        decode_coefficients(changed)


def test_other_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="subsampled"):
        decode_coefficients(_jpeg(64, subsampling=2))


_DCT = np.array([[np.cos((2 * x + 1) * u * np.pi / 16) * (0.5 if u else 8**-0.5) for x in range(8)] for u in range(8)])
_ZIGZAG = np.array(sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8))))
"""Place in the block of each coefficient in zigzag order."""
