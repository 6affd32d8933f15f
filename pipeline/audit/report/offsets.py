"""Distance of each step's frames from `now`, counted over all samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.samples import batches, integers

MAX_BARS = 48
"""Distinct offsets kept of one step; a broken manifest may hold millions."""


@dataclass(frozen=True)
class StepOffsets:
    """Frames of one step relative to `now`: offset -> samples, sorted. `other` counts frames of rarer offsets."""

    step: int
    counts: tuple[tuple[int, int], ...]
    other: int
    masked: int


def support_offsets(build: ClaimedBuild) -> list[StepOffsets]:
    """Offsets of steps 0..K. Raises BuildError when the manifest cannot be read."""
    steps = build.sizes.steps + 1
    counts: list[Counter[int]] = [Counter() for _ in range(steps)]
    masked = np.zeros(steps, np.int64)
    for batch in batches(build, ("now", "supports")):
        now = integers(batch, "now")
        inner = batch.column("supports").flatten()
        lengths = np.diff(inner.offsets.to_numpy()).astype(np.int64)
        values = inner.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        owner = np.repeat(np.arange(len(lengths)), lengths)  # which (row, step) a frame belongs to
        offsets = values - now[owner // steps]
        masked += (lengths.reshape(-1, steps) == 0).sum(axis=0)
        for step in range(steps):
            found, times = np.unique(offsets[owner % steps == step], return_counts=True)
            counts[step].update(dict(zip(found.tolist(), times.tolist(), strict=True)))
    return [_step(step, counts[step], int(masked[step])) for step in range(steps)]


def _step(step: int, counts: Counter[int], masked: int) -> StepOffsets:
    common = sorted(counts.most_common(MAX_BARS))
    return StepOffsets(step, tuple(common), counts.total() - sum(n for _, n in common), masked)
