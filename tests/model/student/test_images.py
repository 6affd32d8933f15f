from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from model.student.images import image_patches, image_token_count


def _processor() -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        min_pixels=32 * 32,
    )


def _images(side: int) -> np.ndarray:
    """Noise beside a smooth ramp: what resizing gets wrong first, and what it gets wrong last."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, side * side * 3).reshape(side, side, 3).astype(np.uint8)
    return np.stack([noise, ramp])


@pytest.mark.parametrize("side", [64, 224])
def test_patches_are_those_of_the_real_processor(side: int) -> None:
    images = _images(side)
    expected = _processor()(list(images), return_tensors="pt")
    patches = image_patches(torch.from_numpy(images), side)
    torch.testing.assert_close(patches.flatten(1), expected["pixel_values"].float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("side", "resized"), [(60, 64), (70, 64), (100, 96), (256, 224), (31, 64), (200, 32)])
def test_resized_images_are_those_of_the_real_processor(side: int, resized: int) -> None:
    images = _images(side)
    processor = _processor()
    processor.size = {"shortest_edge": resized * resized, "longest_edge": resized * resized}
    expected = processor(list(images), return_tensors="pt")["pixel_values"].float()
    patches = image_patches(torch.from_numpy(images), resized)
    torch.testing.assert_close(patches.flatten(1), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(48, 100), (240, 320)])
def test_an_image_that_is_no_square_is_resized_as_pillow_does(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    by_pillow = np.array(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
    ours = image_patches(torch.from_numpy(image[None]), 64)
    expected = image_patches(torch.from_numpy(by_pillow[None]), 64)
    assert torch.equal(ours, expected)


def test_a_patch_spells_its_place() -> None:
    """Pixel value = patch row * 16 + patch column; 2 x 2 neighbours stand together."""
    rows, columns = np.divmod(np.arange(64 * 64).reshape(64, 64), 64)
    value = (rows // 16) * 16 + columns // 16
    patches = image_patches(torch.from_numpy(np.repeat(value[None, ..., None], 3, -1).astype(np.uint8)), 64)
    found = ((patches.flatten(1) * 0.5 + 0.5) * 255).round().int()
    assert (found == found[:, :1]).all()
    assert found[:, 0].tolist() == [0, 1, 16, 17, 2, 3, 18, 19, 32, 33, 48, 49, 34, 35, 50, 51]


def test_token_count() -> None:
    assert image_token_count(224) == 49


def test_floats_are_refused() -> None:
    with pytest.raises(TypeError, match=r"uint8 RGB in 0\.\.255, got torch\.float32"):
        image_patches(torch.zeros(1, 32, 32, 3), 32)
