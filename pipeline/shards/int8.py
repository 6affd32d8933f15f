"""Latents as int8: symmetric quantisation, with one scale per token, view, step and sample.

    scale = max|z| / 127      q = round(z / scale)      z' = q * scale

over the D channels of a token, in float32, rounded half to even. A token of zeros has scale 0 and values 0. The scale
depends only on its own token: a scale shared by several steps would leak the future into the context.

Letters: W windows, K steps, V views, N tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.format.schema import Targets

LEVELS = 127
"""Largest value in use. -128 is not used, so that both signs have the same precision."""

ErrorSums = tuple[tuple[float, float], ...]
"""For each step 0..K the sum of squared errors and the sum of squares, float64."""


def quantise(latents: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """float16 or float32 [..., D] -> int8 [..., D] in -127..127, and scales float32 [...].

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = latents.astype(np.float32)
    largest = np.abs(values).max(axis=-1)
    if not np.isfinite(largest).all():
        raise ValueError("latents hold NaN or infinity, which int8 cannot express; check the encoder's weights")
    scale = largest / np.float32(LEVELS)
    values /= np.where(scale > 0, scale, np.float32(1))[..., None]
    return np.rint(values, out=values).astype(np.int8), scale


def dequantise(values: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """int8 [..., D] and float32 [...] -> float16 [..., D], bit for bit as `model.batch` on the device."""
    return (values * scale[..., None]).astype(np.float16)


def quantise_windows(latents: NDArray[np.float16]) -> tuple[NDArray[np.int8], NDArray[np.float32], ErrorSums]:
    """float16 [W, K+1, V, N, D] -> int8 of that shape, scales float32 [W, K+1, V, N], and the errors of each step.

    Works on one window at a time, because the temporary float64 copies are several times as large as the latents.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values = np.empty(latents.shape, np.int8)
    scale = np.empty(latents.shape[:-1], np.float32)
    sums = np.zeros((latents.shape[1], 2))
    for i, window in enumerate(latents):
        values[i], scale[i] = quantise(window)
        exact = window.astype(np.float64)
        gap = exact - dequantise(values[i], scale[i])
        sums += [[np.square(array[k]).sum() for array in (gap, exact)] for k in range(len(window))]
    return values, scale, tuple((float(error), float(square)) for error, square in sums)


def add_errors(sums: Sequence[ErrorSums]) -> ErrorSums:
    """Total of several sums, exact but for the 9 digits that are kept: further ones depend on the processor."""
    if not sums:
        return ()
    columns = [zip(*steps, strict=True) for steps in zip(*sums, strict=True)]
    return tuple(tuple(_rounded(math.fsum(part), 9) for part in column) for column in columns)  # type: ignore[misc]


def relative_errors(sums: ErrorSums) -> list[float]:
    """sqrt(sum of squared errors / sum of squares) of each step, to 6 digits; 0 for a step of zeros."""
    return [_rounded(math.sqrt(error / square), 6) if square else 0.0 for error, square in sums]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def float_targets(targets: Targets[NDArray[Any]]) -> Targets[NDArray[Any]]:
    """Targets with float16 latents, from float16 or int8."""
    if targets.context_scale is None or targets.latents_scale is None:
        return targets
    return replace(
        targets,
        context=dequantise(targets.context, targets.context_scale),
        latents=dequantise(targets.latents, targets.latents_scale),
        context_scale=None,
        latents_scale=None,
    )
