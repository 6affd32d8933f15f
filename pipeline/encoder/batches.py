"""Which clips of one length the encoder takes together on the CPU, and which steps it keeps. Needs no torch.

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
    """

    rows: NDArray[np.intp]
    views: NDArray[np.intp]
    first: int
    end: int
    kept: int


def cut_batches(valid: NDArray[np.bool_], views: int, mode: EncoderMode, size: int) -> Iterator[Batch]:
    """Every step of every window in a fixed order, in batches of at most `size` clips.

    Args:
        valid: [W, K+1], where the episode has not ended.
    """
    for first, end, kept, rows in _passes(valid, mode):
        pairs = np.stack([np.repeat(rows, views), np.tile(np.arange(views), len(rows))])
        for start in range(0, pairs.shape[1], size):
            chosen = pairs[:, start : start + size]
            yield Batch(chosen[0], chosen[1], first, end, kept)


def _passes(valid: NDArray[np.bool_], mode: EncoderMode) -> Iterator[tuple[int, int, int, NDArray[np.intp]]]:
    """(first, end, kept) of `Batch`, and the windows."""
    if mode == EncoderMode.CLIP:
        lengths = valid.sum(axis=1)
        for steps in map(int, np.unique(lengths)):
            yield 0, steps, steps, np.flatnonzero(lengths == steps)
        return
    for step in range(valid.shape[1]):
        yield step if mode == EncoderMode.TUBELET else 0, step + 1, 1, np.flatnonzero(valid[:, step])
