"""Pipelines whose times say more than when a frame was shown: in last digits, or by a slower clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.lerobot.info import Info
from pipeline.sources.video.clock import clock_times
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

VIDEO = "pipeline.sources.video.packets.clock_times"


def last_digit_of_the_times(world: World) -> None:
    """A microsecond more where the frame's number is odd; nobody's clock is that good."""

    def leaky(ticks: Iterable[int], unit: Fraction) -> NDArray[np.float64]:
        numbers = list(ticks)
        times = clock_times(numbers, unit)
        return np.array([round(time + 1e-6 * (number % 2), 6) for time, number in zip(times, numbers, strict=True)])

    world.patch.setattr(VIDEO, leaky)


def times_by_a_clock_that_is_slow(world: World) -> None:
    """A tenth of a per mille: less than the millisecond that containers round to."""
    world.patch.setattr(VIDEO, lambda ticks, unit: clock_times(ticks, unit * Fraction(9999, 10000)))


def times_rounded_to_milliseconds(world: World) -> None:
    world.patch.setattr(VIDEO, lambda ticks, unit: np.round(clock_times(ticks, unit), 3))


def digits_of_the_nominal_rate(world: World) -> None:
    honest = Info.read

    def leaky(root: str) -> Info:
        return replace(honest(root), fps=12.000371)

    world.patch.setattr(Info, "read", leaky)


PIPELINES = (
    LeakyPipeline(digits_of_the_nominal_rate, "robot", "L8", "source", "fps is 12.000371, the raw data has 12.0"),
    LeakyPipeline(last_digit_of_the_times, "video", "L8", "source", "in the raw video"),
    LeakyPipeline(times_by_a_clock_that_is_slow, "robot", "L8", "source", "in the raw video"),
    LeakyPipeline(times_rounded_to_milliseconds, "robot", "L8", "source", "in the raw video"),
)
