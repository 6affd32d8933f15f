"""Images of a batch to Qwen3-VL's patches: ours in one tensor operation against the PIL processor of transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from model.student.images import MEAN, MERGE, PATCH, STD, TEMPORAL, image_patches
from tests.benchmarks.report import Target, interleaved, print_table, seconds_of

SIZE = 224


@dataclass(frozen=True)
class Scale:
    """Images (32 or 8 samples of two views), their side and the ratio to reach; rounds of one measurement."""

    cases: tuple[tuple[int, int, float | None], ...] = ((64, SIZE, 5.0), (16, SIZE, 5.0), (64, 256, None))
    rounds: int = 5


TINY = Scale(cases=((2, SIZE, 5.0), (2, 256, None)), rounds=1)


def run(_: Path, repeats: int, scale: Scale) -> None:
    """Time both on images of the size in the shards, and on larger ones that have to be resized."""
    for count, side, bound in scale.cases:
        images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        batch, pictures = torch.from_numpy(images), [Image.fromarray(image) for image in images]
        runs: dict[str, Callable[[], torch.Tensor]] = {
            "transformers, from PIL images (as the reference calls it)": functools.partial(_transformers, pictures),
            "transformers, from arrays": functools.partial(_transformers, list(images)),
            "ours, from a uint8 batch (as the loader gives it)": lambda batch=batch: image_patches(batch, SIZE),
        }
        pictured, arrays, ours = runs
        torch.testing.assert_close(runs[ours]().flatten(1), runs[pictured](), rtol=0, atol=1e-6)
        timed = {name: lambda work=work: 1e3 * seconds_of(work, scale.rounds) for name, work in runs.items()}
        series = interleaved(timed, repeats)
        ratio = series[pictured].over(series[ours], "transformers from PIL images / ours")
        print_table(
            f"{count} images of {side} px to patches of {SIZE} px",
            "ms",
            list(series.values()),
            [
                ratio if bound is None else Target(ratio, bound),
                series[arrays].over(series[ours], "transformers from arrays / ours"),
            ],
        )


def _transformers(images: list[Image.Image] | list[NDArray[np.uint8]]) -> torch.Tensor:
    pixels: torch.Tensor = _PROCESSOR(images, return_tensors="pt")["pixel_values"]
    return pixels.float()


_PROCESSOR = Qwen2VLImageProcessorPil(
    patch_size=PATCH,
    merge_size=MERGE,
    temporal_patch_size=TEMPORAL,
    image_mean=[MEAN] * 3,
    image_std=[STD] * 3,
    min_pixels=SIZE * SIZE,
    max_pixels=SIZE * SIZE,
)
