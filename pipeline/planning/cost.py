"""What a build is expected to hold and to cost, from metadata alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.columns import latent_columns, tubelet_columns
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.schema import Sizes


@dataclass(frozen=True)
class Estimate:
    """What the build is expected to hold. `exact` is False when lengths were estimated from a sample of files.

    flops counts the encoder's multiply-adds twice; bytes are those of shards on disk; tubelets are the distinct ones of
    each episode together.
    """

    episodes: int
    windows: int
    shards: int
    input_bytes: int
    target_bytes: int
    flops: float
    exact: bool
    tubelets: int


@dataclass(frozen=True)
class Counts:
    """What bytes and operations are estimated from; see `Estimate`."""

    episodes: int
    windows: int
    tubelets: int
    shards: int
    exact: bool


def estimate_of(counts: Counts, sizes: Sizes, encoder: EncoderIdentity, dtype: LatentDtype) -> Estimate:
    """The estimate of a build of so many episodes, windows and tubelets. docs/formats.md gives the formulas."""
    shared = encoder.mode == EncoderMode.TUBELET
    encoded = counts.tubelets if shared else counts.windows
    return Estimate(
        **vars(counts),
        input_bytes=counts.windows * (sizes.views * typical_jpeg_bytes(sizes.image_size) + 2048),
        target_bytes=targets_bytes(sizes, dtype, counts.windows, counts.tubelets if shared else None),
        flops=encoded * sizes.views * encoder.flops(sizes.steps),
    )


def targets_bytes(sizes: Sizes, dtype: LatentDtype, windows: int, tubelets: int | None = None) -> int:
    """Bytes of the targets of `windows` samples on disk: latents (with their scales if int8) and float32 actions.

    Args:
        tubelets: distinct ones whose latents the samples share; None: each holds its own (all modes but "tubelet").
    """
    shared = tubelets is not None
    columns = tubelet_columns(sizes, dtype) if shared else latent_columns(sizes, dtype)
    latents = sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in columns.values())
    rows = 4 * (sizes.steps + 1) if shared else 0
    return (tubelets if tubelets is not None else windows) * latents + windows * (rows + sizes.chunk * sizes.action * 4)


def typical_jpeg_bytes(size: int) -> int:
    """About 0.6 bytes a pixel at quality 95 without chroma subsampling, measured on the real clips of the tests."""
    return round(0.6 * size * size)
