"""Made-up cameras and joints, in order until a test puts a fault in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.cameras.look import CELLS, CameraLook, Values
from pipeline.inspection.channels.summary import ChannelSummary

FRAMES, RATE = 120, 30.0

Cells = NDArray[np.uint8]


def film(frames: int = FRAMES, seed: int = 0, speed: float = 0.4) -> Cells:
    """A bright square that wanders before a fixed background with sensor noise; uint8 [F, CELLS, CELLS]."""
    random = np.random.default_rng(seed)
    still = random.integers(60, 160, (CELLS, CELLS)).astype(np.float64)
    made = np.repeat(still[None], frames, axis=0) + random.normal(0, 1.5, (frames, CELLS, CELLS))
    for number in range(frames):
        x, y = (int(20 + 15 * wave(number * speed / 10 + seed)) for wave in (np.sin, np.cos))
        made[number, y : y + 10, x : x + 10] = 220
    return np.clip(made, 0, 255).astype(np.uint8)


def look(cells: Cells) -> CameraLook:
    """All frames of it looked at."""
    return CameraLook.of_cells(np.arange(len(cells)), cells)


def joints(frames: int = FRAMES, seed: int = 0, channels: int = 3) -> Values:
    """Smooth joints with the noise of encoders; float64 [N, channels]."""
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 15
    phase, rate = random.uniform(0, 6, channels), random.uniform(0.5, 1, channels)
    return np.sin(time * rate + phase) + random.normal(0, 1e-4, (frames, channels))


def summaries(count: int = 12, fault: Callable[[int, Values], Values] | None = None) -> dict[str, ChannelSummary]:
    """Of `count` episodes; fault: number and joints -> the joints it really has."""
    found = {}
    for number in range(count):
        values = joints(seed=number)
        found[f"e-{number}"] = ChannelSummary.of(values if fault is None else fault(number, values))
    return found
