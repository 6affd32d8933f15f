"""Which clips the encoder takes together, and which steps of them it keeps. Needs no torch.

Letters: W windows, K steps, B clips of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.format.enums import EncoderMode


@dataclass(frozen=True)
class Batch:
    """Clips of equally many tubelets.

    rows, views  int64 [B]: window and view of each clip
    first, end   its tubelets: those of steps first .. end - 1
    kept         latents of the last so many steps are kept
    count        clips whose latents are kept; those that follow repeat the last of them
    """

    rows: NDArray[np.intp]
    views: NDArray[np.intp]
    first: int
    end: int
    kept: int
    count: int


def cut_batches(
    valid: NDArray[np.bool_], views: int, mode: EncoderMode, size: int, fixed_shapes: bool
) -> Iterator[Batch]:
    """Every step of every window in a fixed order, in batches of at most `size` clips.

    Args:
        valid: [W, K+1], where the episode has not ended.
        fixed_shapes: batches have two sizes alone: `size`, and a quarter of it for the clips that remain.
    """
    for first, end, kept, rows in _passes(valid, mode):
        pairs = np.stack([np.repeat(rows, views), np.tile(np.arange(views), len(rows))])
        for start, width in _cuts(pairs.shape[1], size, fixed_shapes):
            chosen = pairs[:, np.minimum(np.arange(start, start + width), pairs.shape[1] - 1)]
            yield Batch(chosen[0], chosen[1], first, end, kept, min(width, pairs.shape[1] - start))


def _passes(valid: NDArray[np.bool_], mode: EncoderMode) -> Iterator[tuple[int, int, int, NDArray[np.intp]]]:
    """(first, end, kept) of `Batch`, and the windows."""
    if mode == EncoderMode.CLIP:
        lengths = valid.sum(axis=1)
        for steps in map(int, np.unique(lengths)):
            yield 0, steps, steps, np.flatnonzero(lengths == steps)
        return
    for step in range(valid.shape[1]):
        yield step if mode == EncoderMode.TUBELET else 0, step + 1, 1, np.flatnonzero(valid[:, step])


def _cuts(count: int, size: int, fixed_shapes: bool) -> Iterator[tuple[int, int]]:
    """Start and width of each batch; with fixed shapes the last may reach past the end."""
    if not fixed_shapes:
        yield from ((start, min(size, count - start)) for start in range(0, count, size))
        return
    whole, quarter = count - count % size, max(1, size // 4)
    yield from ((start, size) for start in range(0, whole, size))
    yield from ((start, quarter) for start in range(whole, count, quarter))
