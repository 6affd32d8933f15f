"""Actions and state to [-1, 1] and back, by the minimum and maximum of the train split.

Statistics come from a build's `stats.json`, which holds the train split alone (rule L6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.errors import BuildError


@dataclass(frozen=True)
class ChannelRange:
    """Smallest and largest value of each channel, in the source's units."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high):
            raise ValueError(f"min and max must have the same channels, got {len(self.low)} and {len(self.high)}")
        for channel, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low <= high:
                raise ValueError(f"channel {channel}: min {low} must not be above max {high}, nor either be NaN")


@dataclass(frozen=True)
class BuildStats:
    """Ranges of a build; None for what human video does not have."""

    state: ChannelRange | None
    action: ChannelRange | None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From the object in `stats.json`.

        Raises:
            BuildError: a key is missing, or the statistics are not of the train split.
        """
        if content.get("split") != "train":
            raise BuildError(f"stats.json must be of the train split, got split={content.get('split')!r}; rebuild it")
        try:
            return cls(_channel_range(content["state"]), _channel_range(content["action"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BuildError(f"stats.json is damaged ({error!r}); rebuild it") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a `stats.json` file.

        Raises:
            BuildError: the file is missing, no JSON, or not as `from_json` wants it.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError) as error:
            raise BuildError(f"{path}: cannot be read ({error})") from error


def merge_stats(parts: Sequence[BuildStats]) -> BuildStats:
    """Ranges that cover every build of a run; a kind that one build lacks is None."""
    return BuildStats(_cover([part.state for part in parts]), _cover([part.action for part in parts]))


def _cover(ranges: Sequence[ChannelRange | None]) -> ChannelRange | None:
    found = [one for one in ranges if one is not None]
    if len(found) < len(ranges):
        return None
    low = tuple(min(values) for values in zip(*(one.low for one in found), strict=True))
    high = tuple(max(values) for values in zip(*(one.high for one in found), strict=True))
    return ChannelRange(low, high)


def _channel_range(statistics: Mapping[str, Any] | None) -> ChannelRange | None:
    return None if statistics is None else ChannelRange(tuple(statistics["min"]), tuple(statistics["max"]))


class MinMaxScaler(nn.Module):
    """Maps [min, max] of each channel to [-1, 1]. A constant channel maps to 0 and comes back as it was.

    The ranges are buffers: a checkpoint carries the scaling it was trained with. Values outside the range are not cut.

    Args:
        channels: the ranges.
        floor: the smallest range divided by, in the source's units.
    """

    center: Tensor
    half_range: Tensor

    def __init__(self, channels: ChannelRange, floor: float) -> None:
        super().__init__()
        low = torch.tensor(channels.low, dtype=torch.float64)
        high = torch.tensor(channels.high, dtype=torch.float64)
        self.register_buffer("center", ((low + high) / 2).float())
        self.register_buffer("half_range", ((high - low).clamp(min=floor) / 2).float())

    def forward(self, values: Tensor) -> Tensor:
        """Source units [..., C] -> float32, about [-1, 1]."""
        return (values.float() - self.center) / self.half_range

    def inverse(self, values: Tensor) -> Tensor:
        """About [-1, 1], [..., C] -> float32 in source units."""
        return values.float() * self.half_range + self.center
